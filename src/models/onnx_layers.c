/* onnx_layers.c - the operators with weights, and pooling and resizing. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "models/onnx_ops.h"

/* Padding before and after each side, whatever the file says it by. */
typedef struct { int64_t k[2], stride[2], dilation[2], before[2], after[2]; } Window;

/* SAME: as much padding as keeps ceil(in / stride); the odd one below and right, or above and left. */
static void same_padding(Window *w, Shape in, bool upper) {
    for (int i = 0; i < 2; i++) {
        const int64_t out = (in.d[2 + i] + w->stride[i] - 1) / w->stride[i];
        int64_t all = (out - 1) * w->stride[i] + (w->k[i] - 1) * w->dilation[i] + 1 - in.d[2 + i];
        if (all < 0) all = 0;
        w->before[i] = upper ? all / 2 : all - all / 2, w->after[i] = all - w->before[i];
    }
}
static Err window(OnnxBuild *b, Window *w, int64_t kh, int64_t kw) {
    const Shape in = ob_shape(b, 0);
    int64_t pads[4];
    if (in.rank != 4) return ob_refuse(b, "input of shape %s; only N x C x H x W is read", shape_text(in).s);
    TRY(ob_list(b, "kernel_shape", w->k, 2, 0));
    if (kh) w->k[0] = kh, w->k[1] = kw;
    TRY(ob_list(b, "strides", w->stride, 2, 1));
    TRY(ob_list(b, "dilations", w->dilation, 2, 1));
    TRY(ob_list(b, "pads", pads, 4, 0));
    for (int i = 0; i < 2; i++) {
        w->before[i] = pads[i], w->after[i] = pads[2 + i];
        if (w->k[i] < 1 || w->stride[i] < 1 || w->dilation[i] < 1) return ob_refuse(b, "kernel, stride or dilation below 1");
    }
    const char *pad = ob_string(b->node, "auto_pad", "NOTSET");
    if (!strcmp(pad, "SAME_UPPER") || !strcmp(pad, "SAME_LOWER")) same_padding(w, in, pad[5] == 'U');
    else if (!strcmp(pad, "VALID")) memset(w->before, 0, sizeof w->before), memset(w->after, 0, sizeof w->after);
    else if (strcmp(pad, "NOTSET")) return ob_refuse(b, "auto_pad=%s", pad);
    return OK;
}

/* ---- convolution ------------------------------------------------------------------------------------- */

Err onnx_conv(OnnxBuild *b, const OnnxNode *n) {
    const Tensor *w = ob_constant(b, 1), *bias = ob_constant(b, 2);
    if (!w || w->shape.rank != 4 || (ob_given(b, 2) && !bias)) return ob_refuse(b, "its weights are not constants of O x I x h x w; export a network in eval mode");
    const Shape s = w->shape;
    Window p;
    TRY(window(b, &p, s.d[2], s.d[3]));
    if (p.stride[0] != p.stride[1] || p.dilation[0] != p.dilation[1] || p.before[0] != p.before[1] || memcmp(p.before, p.after, sizeof p.before))
        return ob_refuse(b, "its stride, padding or dilation differs between the sides");
    const int64_t groups = ob_int(n, "group", 1), area = s.d[2] * s.d[3];
    if (groups < 1 || s.d[0] > INT16_MAX || groups > INT16_MAX) return ob_refuse(b, "%" PRId64 " groups, %" PRId64 " outputs", groups, s.d[0]);
    const ConvAttr a = {.out = (int)s.d[0], .kh = (int)s.d[2], .kw = (int)s.d[3], .stride = (int)p.stride[0], .pad = (int)p.before[0],
                        .dilation = (int)p.dilation[0], .groups = (int)groups, .bias = bias != NULL};
    const int fan_in = (int)(s.d[1] * area);
    int param[2] = {ob_param(b, 1, PARAM_WEIGHT, s, fan_in, (int)(s.d[0] * area)), 0};
    if (bias) param[1] = ob_param(b, 2, PARAM_BIAS, SHAPE(s.d[0]), fan_in, 0);
    if (bias && shape_count(bias->shape) != s.d[0]) return ob_refuse(b, "bias of shape %s", shape_text(bias->shape).s);
    const Node x = ob_src(b, 0);
    return ob_out(b, 0, ob_add(b, &op_conv2d, &a, sizeof a, &x, 1, param, 1 + a.bias)), OK;
}

/* ---- normalisation and slopes --------------------------------------------------------------------------- */

/* "layer1.bn.weight" -> "layer1.bn.num_batches_tracked"; ONNX files do not keep it. */
static int count_param(OnnxBuild *b) {
    const char *name = b->m->value[b->node->in[1]].name, *dot = strrchr(name, '.');
    const int stem = dot ? (int)(dot - name) : (int)strlen(name);
    return net_param(b->net, arena_printf(b->arena, "%.*s.num_batches_tracked", stem, name), PARAM_COUNT, (Shape){0}, 0, 0);
}
Err onnx_batch_norm(OnnxBuild *b, const OnnxNode *n) {
    static const ParamKind KIND[] = {PARAM_BN_WEIGHT, PARAM_BN_BIAS, PARAM_MEAN, PARAM_VAR};
    const Shape x = ob_shape(b, 0), channels = SHAPE(x.rank > 1 ? x.d[1] : 0);
    int param[5];
    for (int i = 0; i < 4; i++) {
        const Tensor *t = ob_constant(b, 1 + i);
        if (!t || !shape_equal(t->shape, channels)) return ob_refuse(b, "input %d is no constant of %" PRId64 " channels; export a network in eval mode", 1 + i, channels.d[0]);
    }
    for (int i = 0; i < 4; i++) param[i] = ob_param(b, 1 + i, KIND[i], channels, 0, 0);
    param[4] = count_param(b);
    const BnAttr a = {.eps = ob_float(n, "epsilon", 1e-5f), .momentum = 1 - ob_float(n, "momentum", 0.9f), .frozen = b->net->bn_frozen};
    const Node src = ob_src(b, 0);
    return ob_out(b, 0, ob_add(b, &op_batch_norm, &a, sizeof a, &src, 1, param, 5)), OK;
}
Err onnx_prelu(OnnxBuild *b, const OnnxNode *n) {
    const Tensor *t = ob_constant(b, 1);
    const Shape x = ob_shape(b, 0);
    if (!t || x.rank < 2) return ob_refuse(b, "its slopes are not constant");
    const int64_t slopes = shape_count(t->shape);
    const bool per_channel = slopes == x.d[1] && t->shape.rank == x.rank - 1 && t->shape.d[0] == slopes;
    if (slopes != 1 && !per_channel && !(slopes == x.d[1] && x.rank == 2)) return ob_refuse(b, "slopes of shape %s; one per channel or one for all is read", shape_text(t->shape).s);
    const PreluAttr a = {.slopes = (int)slopes};
    const int param = ob_param(b, 1, PARAM_BIAS, t->shape, 0, 0);
    const Node src = ob_src(b, 0);
    return ob_out(b, 0, ob_add(b, &op_prelu, &a, sizeof a, &src, 1, &param, 1)), OK;
}

/* ---- pooling -------------------------------------------------------------------------------------------- */

Err onnx_average_pool(OnnxBuild *b, const OnnxNode *n) {
    Window w;
    TRY(window(b, &w, 0, 0));
    if (w.dilation[0] != 1 || w.dilation[1] != 1) return ob_refuse(b, "a dilated average is not read");
    const AvgPoolAttr a = {.kh = (int)w.k[0], .kw = (int)w.k[1], .stride_h = (int)w.stride[0], .stride_w = (int)w.stride[1],
                           .pad_h = (int)w.before[0], .pad_w = (int)w.before[1], .extra_h = (int)(w.after[0] - w.before[0]), .extra_w = (int)(w.after[1] - w.before[1]),
                           .ceil = ob_int(n, "ceil_mode", 0) != 0, .count_padding = ob_int(n, "count_include_pad", 0) != 0};
    return ob_out(b, 0, ob_add1(b, &op_avg_pool, &a, sizeof a, ob_src(b, 0))), OK;
}
Err onnx_global_average_pool(OnnxBuild *b, const OnnxNode *n) {
    const AdaptiveAttr a = {1, 1};
    return ob_out(b, 0, ob_add1(b, &op_adaptive_avg_pool, &a, sizeof a, ob_src(b, 0))), OK;
}

/* ---- resize ---------------------------------------------------------------------------------------------- */

static Err resize_sides(OnnxBuild *b, Shape in, int64_t side[2], double scale[2]) {
    int64_t sizes[RANK_MAX];
    int n;
    TRY(ob_ints(b, 3, sizes, RANK_MAX, &n));
    const Tensor *scales = ob_constant(b, 2);
    const bool by_size = n == 4, by_scale = !by_size && scales && scales->dtype == DT_F32 && shape_count(scales->shape) == 4;
    if (!by_size && !by_scale) return ob_refuse(b, "wants 4 sizes or scales that are constants");
    for (int i = 0; i < 4; i++) {
        const double s = by_scale ? (double)((const float *)scales->data)[i] : 1;
        const int64_t to = by_size ? sizes[i] : (int64_t)floor((double)in.d[i] * s);
        if (i < 2 && to != in.d[i]) return ob_refuse(b, "resizes the batch or the channels");
        if (i >= 2) side[i - 2] = to, scale[i - 2] = by_size ? (double)to / (double)in.d[i] : s;
        if (to < 1 || to > INT16_MAX) return ob_refuse(b, "a side of %" PRId64, to);
    }
    return OK;
}
Err onnx_resize(OnnxBuild *b, const OnnxNode *n) {
    const Shape in = ob_shape(b, 0);
    int64_t side[2];
    double scale[2];
    if (in.rank != 4) return ob_refuse(b, "input of shape %s; only N x C x H x W is read", shape_text(in).s);
    TRY(resize_sides(b, in, side, scale));
    const char *mode = ob_string(n, "mode", "nearest"), *at = ob_string(n, "coordinate_transformation_mode", "half_pixel");
    const bool corners = !strcmp(at, "align_corners");
    if (strcmp(mode, "linear") || (!corners && strcmp(at, "half_pixel") && strcmp(at, "pytorch_half_pixel"))) return ob_refuse(b, "mode %s, %s", mode, at);
    const ResizeAttr a = {.align_corners = corners, .out_h = (int)side[0], .out_w = (int)side[1]};
    return ob_out(b, 0, ob_add1(b, &op_resize, &a, sizeof a, ob_src(b, 0))), OK;
}
