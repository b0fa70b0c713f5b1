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
    if (in.rank != 4)
        return ob_refuse(b, "input of shape %s; only N x C x H x W is read", shape_text(in).s);
    TRY(ob_list(b, "kernel_shape", w->k, 2, 0));
    if (kh) w->k[0] = kh, w->k[1] = kw;
    TRY(ob_list(b, "strides", w->stride, 2, 1));
    TRY(ob_list(b, "dilations", w->dilation, 2, 1));
    TRY(ob_list(b, "pads", pads, 4, 0));
    for (int i = 0; i < 2; i++) {
        w->before[i] = pads[i], w->after[i] = pads[2 + i];
        if (w->k[i] < 1 || w->stride[i] < 1 || w->dilation[i] < 1)
            return ob_refuse(b, "kernel, stride or dilation below 1");
        if (pads[i] < 0 || pads[2 + i] < 0)
            return ob_refuse(b, "pads below 0; export with a Slice instead");
    }
    const char *pad = ob_string(b->node, "auto_pad", "NOTSET");
    if (!strcmp(pad, "SAME_UPPER") || !strcmp(pad, "SAME_LOWER"))
        same_padding(w, in, pad[5] == 'U');
    else if (!strcmp(pad, "VALID"))
        memset(w->before, 0, sizeof w->before), memset(w->after, 0, sizeof w->after);
    else if (strcmp(pad, "NOTSET")) return ob_refuse(b, "auto_pad=%s", pad);
    return OK;
}

/* What all four sides have in common; the rest is extra. */
static int64_t least_padding(const Window *w) {
    int64_t least = w->before[0];
    for (int i = 0; i < 2; i++) {
        if (w->before[i] < least) least = w->before[i];
        if (w->after[i] < least) least = w->after[i];
    }
    return least;
}

/* ---- convolution ------------------------------------------------------------------------------------- */

Err onnx_conv(OnnxBuild *b, const OnnxNode *n) {
    const Tensor *w = ob_constant(b, 1), *bias = ob_constant(b, 2);
    if (!w || w->shape.rank != 4 || (ob_given(b, 2) && !bias))
        return ob_refuse(
            b, "its weights are not constants of O x I x h x w; export a network in eval mode");
    const Shape s = w->shape;
    Window p;
    TRY(window(b, &p, s.d[2], s.d[3]));
    if (p.stride[0] != p.stride[1] || p.dilation[0] != p.dilation[1])
        return ob_refuse(b, "its stride or dilation differs between the sides");
    const int64_t groups = ob_int(n, "group", 1), area = s.d[2] * s.d[3];
    if (groups < 1 || s.d[0] > INT16_MAX || groups > INT16_MAX)
        return ob_refuse(b, "%" PRId64 " groups, %" PRId64 " outputs", groups, s.d[0]);
    const int64_t pad = least_padding(&p);
    const ConvAttr a = {.out = (int)s.d[0],
                        .kh = (int)s.d[2],
                        .kw = (int)s.d[3],
                        .stride = (int)p.stride[0],
                        .pad = (int)pad,
                        .dilation = (int)p.dilation[0],
                        .groups = (int)groups,
                        .bias = bias != NULL,
                        .extra = {(int)(p.before[0] - pad), (int)(p.before[1] - pad),
                                  (int)(p.after[0] - pad), (int)(p.after[1] - pad)}};
    const int fan_in = (int)(s.d[1] * area);
    int param[2] = {ob_param(b, 1, PARAM_WEIGHT, s, fan_in, (int)(s.d[0] * area)), 0};
    if (bias) param[1] = ob_param(b, 2, PARAM_BIAS, SHAPE(s.d[0]), fan_in, 0);
    if (bias && shape_count(bias->shape) != s.d[0])
        return ob_refuse(b, "bias of shape %s", shape_text(bias->shape).s);
    const Node x = ob_src(b, 0);
    return ob_out(b, 0, ob_add(b, &op_conv2d, &a, sizeof a, &x, 1, param, 1 + a.bias)), OK;
}

Err onnx_conv_transpose(OnnxBuild *b, const OnnxNode *n) {
    const Tensor *w = ob_constant(b, 1), *bias = ob_constant(b, 2);
    const Shape x = ob_shape(b, 0), s = w ? w->shape : (Shape){0};
    const int64_t groups = ob_int(n, "group", 1);
    int64_t more[2];
    Window p;
    if (s.rank != 4 || (ob_given(b, 2) && !bias))
        return ob_refuse(
            b, "its weights are not constants of I x O x h x w; export a network in eval mode");
    TRY(window(b, &p, s.d[2], s.d[3]));
    TRY(ob_list(b, "output_padding", more, 2, 0));
    if (strncmp(ob_string(n, "auto_pad", "NOTSET"), "SAME", 4) == 0 || onnx_attr(n, "output_shape"))
        return ob_refuse(b, "its size is given by auto_pad or output_shape; export with padding");
    if (p.stride[0] != p.stride[1] || p.dilation[0] != p.dilation[1] || p.before[0] != p.before[1])
        return ob_refuse(b, "its stride, dilation or padding differs between the sides");
    if (groups < 1 || groups > INT16_MAX || x.d[1] != s.d[0] || s.d[0] % groups ||
        s.d[1] > INT16_MAX / groups)
        return ob_refuse(b, "%" PRId64 " groups, weights of shape %s", groups, shape_text(s).s);
    const ConvTransposeAttr a = {.out = (int)(s.d[1] * groups),
                                 .kh = (int)s.d[2],
                                 .kw = (int)s.d[3],
                                 .stride = (int)p.stride[0],
                                 .pad = (int)p.before[0],
                                 .dilation = (int)p.dilation[0],
                                 .groups = (int)groups,
                                 .bias = bias != NULL,
                                 .extra = {(int)(more[0] + p.before[0] - p.after[0]),
                                           (int)(more[1] + p.before[1] - p.after[1])}};
    const int fan_in = (int)(s.d[1] * s.d[2] * s.d[3]);              /* PyTorch's, of the transposed one */
    if (bias && shape_count(bias->shape) != a.out)
        return ob_refuse(b, "bias of shape %s", shape_text(bias->shape).s);
    int param[2] = {ob_param(b, 1, PARAM_WEIGHT, s, fan_in, fan_in), 0};
    if (bias) param[1] = ob_param(b, 2, PARAM_BIAS, SHAPE(a.out), fan_in, 0);
    const Node src = ob_src(b, 0);
    return ob_out(b, 0, ob_add(b, &op_conv_transpose, &a, sizeof a, &src, 1, param, 1 + a.bias)),
           OK;
}

/* ---- normalisation and slopes --------------------------------------------------------------------------- */

/* "layer1.bn.weight" -> "layer1.bn.num_batches_tracked"; ONNX files do not keep it. */
static int count_param(OnnxBuild *b) {
    const char *name = b->m->value[b->node->in[1]].name, *dot = strrchr(name, '.');
    const int stem = dot ? (int)(dot - name) : (int)strlen(name);
    const char *count = arena_printf(b->arena, "%.*s.num_batches_tracked", stem, name);
    const int known = net_find_param(b->net, count);     /* exporters share weights that are equal */
    return known >= 0 ? known : net_param(b->net, count, PARAM_COUNT, (Shape){0}, 0, 0);
}
Err onnx_batch_norm(OnnxBuild *b, const OnnxNode *n) {
    static const ParamKind KIND[] = {PARAM_BN_WEIGHT, PARAM_BN_BIAS, PARAM_MEAN, PARAM_VAR};
    const Shape x = ob_shape(b, 0), channels = SHAPE(x.rank > 1 ? x.d[1] : 0);
    int param[5];
    for (int i = 0; i < 4; i++) {
        const Tensor *t = ob_constant(b, 1 + i);
        if (!t || !shape_equal(t->shape, channels))
            return ob_refuse(
                b, "input %d is no constant of %" PRId64 " channels; export a network in eval mode",
                1 + i, channels.d[0]);
    }
    if (ob_int(n, "training_mode", 0))
        return ob_refuse(b, "takes its statistics from the batch; export a network in eval mode");
    for (int i = 0; i < 4; i++) param[i] = ob_param(b, 1 + i, KIND[i], channels, 0, 0);
    param[4] = count_param(b);
    const BnAttr a = {.eps = ob_float(n, "epsilon", 1e-5f),
                      .momentum = 1 - ob_float(n, "momentum", 0.9f),
                      .frozen = b->net->bn_frozen};
    const Node src = ob_src(b, 0);
    return ob_out(b, 0, ob_add(b, &op_batch_norm, &a, sizeof a, &src, 1, param, 5)), OK;
}
Err onnx_prelu(OnnxBuild *b, const OnnxNode *n) {
    const Tensor *t = ob_constant(b, 1);
    const Shape x = ob_shape(b, 0);
    if (!t || x.rank < 2) return ob_refuse(b, "its slopes are not constant");
    const int64_t slopes = shape_count(t->shape);
    const int channels = t->shape.rank - x.rank + 1;     /* their dimension, aligned at the right */
    const bool per_channel =
        slopes == x.d[1] && channels >= 0 && t->shape.d[channels] == slopes;
    if (slopes != 1 && !per_channel)
        return ob_refuse(b, "slopes of shape %s; one per channel or one for all is read",
                         shape_text(t->shape).s);
    const PreluAttr a = {.slopes = (int)slopes};
    const int param = ob_param(b, 1, PARAM_BIAS, t->shape, 0, 0);
    const Node src = ob_src(b, 0);
    return ob_out(b, 0, ob_add(b, &op_prelu, &a, sizeof a, &src, 1, &param, 1)), OK;
}

/* ---- pooling -------------------------------------------------------------------------------------------- */

Err onnx_max_pool(OnnxBuild *b, const OnnxNode *n) {
    Window w;
    TRY(window(b, &w, 0, 0));
    if (w.dilation[0] != 1 || w.dilation[1] != 1 || (n->n_out > 1 && n->out[1]))
        return ob_refuse(b, "a dilated maximum, or its places, are not read");
    const int64_t pad = least_padding(&w);
    const PoolAttr a = {.k = (int)w.k[0],
                        .kw = (int)w.k[1],
                        .stride = (int)w.stride[0],
                        .stride_w = (int)w.stride[1],
                        .pad = (int)pad,
                        .extra = {(int)(w.before[0] - pad), (int)(w.before[1] - pad),
                                  (int)(w.after[0] - pad), (int)(w.after[1] - pad)},
                        .ceil = ob_int(n, "ceil_mode", 0) != 0};
    return ob_out(b, 0, ob_add1(b, &op_max_pool, &a, sizeof a, ob_src(b, 0))), OK;
}
Err onnx_average_pool(OnnxBuild *b, const OnnxNode *n) {
    Window w;
    TRY(window(b, &w, 0, 0));
    if (w.dilation[0] != 1 || w.dilation[1] != 1)
        return ob_refuse(b, "a dilated average is not read");
    const AvgPoolAttr a = {.kh = (int)w.k[0],
                           .kw = (int)w.k[1],
                           .stride_h = (int)w.stride[0],
                           .stride_w = (int)w.stride[1],
                           .pad_h = (int)w.before[0],
                           .pad_w = (int)w.before[1],
                           .extra_h = (int)(w.after[0] - w.before[0]),
                           .extra_w = (int)(w.after[1] - w.before[1]),
                           .ceil = ob_int(n, "ceil_mode", 0) != 0,
                           .count_padding = ob_int(n, "count_include_pad", 0) != 0};
    return ob_out(b, 0, ob_add1(b, &op_avg_pool, &a, sizeof a, ob_src(b, 0))), OK;
}
Err onnx_global_average_pool(OnnxBuild *b, const OnnxNode *n) {
    const AdaptiveAttr a = {1, 1};
    return ob_out(b, 0, ob_add1(b, &op_adaptive_avg_pool, &a, sizeof a, ob_src(b, 0))), OK;
}

/* ---- resize ---------------------------------------------------------------------------------------------- */

/* Sizes or scales of all four dimensions, or of those that `axes` names. */
static Err resize_sides(OnnxBuild *b, Shape in, int64_t side[2], double step[2]) {
    int64_t sizes[RANK_MAX], axis[RANK_MAX];
    int n, axes;
    TRY(ob_ints(b, 3, sizes, RANK_MAX, &n));
    TRY(ob_axes(b, 4, axis, &axes));
    const Tensor *scales = n > 0 ? NULL : ob_constant(b, 2);
    const int count = axes < 0 ? in.rank : axes;
    const bool by_scale = scales && scales->dtype == DT_F32 && shape_count(scales->shape) == count;
    if (n != count && !by_scale)
        return ob_refuse(b, "wants %d sizes or scales that are constants", count);
    for (int i = 0; i < count; i++) {
        const double s = by_scale ? (double)((const float *)scales->data)[i] : 1;
        int d = i;
        if (axes >= 0) TRY(ob_axis(b, axis[i], in.rank, &d));
        const float scaled = by_scale ? (float)in.d[d] * ((const float *)scales->data)[i] : 0;
        const int64_t to = by_scale ? (int64_t)floorf(scaled) : sizes[i];       /* in float32, as by ONNX Runtime */
        if (d < 2 && to != in.d[d] && !(d == 0 && b->fixed_batch && to == 1))
            return ob_refuse(b, "resizes the batch or the channels");
        if (to < 1 || to > INT16_MAX) return ob_refuse(b, "a side of %" PRId64, to);
        if (d >= 2) side[d - 2] = to, step[d - 2] = by_scale ? 1 / s : 0;
    }
    if (side[0] == in.d[2] && side[1] == in.d[3]) step[0] = step[1] = 0;         /* ONNX Runtime copies, whatever the scales */
    return OK;
}
/* Index of an attribute's text in a list that ends with NULL; -1: not among them. */
static int one_of(const char *text, const char *const *list) {
    for (int i = 0; list[i]; i++)
        if (!strcmp(text, list[i])) return i;
    return -1;
}
Err onnx_resize(OnnxBuild *b, const OnnxNode *n) {
    static const char *const MODES[] = {
        [RESIZE_LINEAR] = "linear", [RESIZE_NEAREST] = "nearest", [RESIZE_CUBIC] = "cubic", NULL};
    static const char *const PLACES[] = {[RESIZE_HALF] = "half_pixel",
                                         [RESIZE_HALF_OR_ZERO] = "pytorch_half_pixel",
                                         [RESIZE_ASYMMETRIC] = "asymmetric",
                                         "align_corners",
                                         NULL};
    static const char *const ROUNDS[] = {[ROUND_HALF_DOWN] = "round_prefer_floor",
                                         [ROUND_HALF_UP] = "round_prefer_ceil",
                                         [ROUND_FLOOR] = "floor",
                                         [ROUND_CEIL] = "ceil",
                                         NULL};
    const Shape in = ob_shape(b, 0);
    int64_t side[2] = {in.d[2], in.d[3]};
    const char *mode = ob_string(n, "mode", "nearest"),
               *at = ob_string(n, "coordinate_transformation_mode", "half_pixel");
    const int kind = one_of(mode, MODES), place = one_of(at, PLACES),
              round = one_of(ob_string(n, "nearest_mode", ROUNDS[0]), ROUNDS);
    if (in.rank != 4)
        return ob_refuse(b, "input of shape %s; only N x C x H x W is read", shape_text(in).s);
    if (kind < 0 || place < 0 || round < 0) return ob_refuse(b, "mode %s, %s", mode, at);
    if (ob_int(n, "antialias", 0) || ob_int(n, "exclude_outside", 0) ||
        strcmp(ob_string(n, "keep_aspect_ratio_policy", "stretch"), "stretch"))
        return ob_refuse(b, "antialias, exclude_outside or an aspect ratio policy; export without");
    const bool corners = place > RESIZE_ASYMMETRIC;
    ResizeAttr a = {.align_corners = corners,
                    .mode = (ResizeMode)kind,
                    .at = corners ? RESIZE_HALF : (ResizeAt)place,
                    .round = (ResizeRound)round,
                    .cubic_a = ob_float(n, "cubic_coeff_a", -0.75f)};
    TRY(resize_sides(b, in, side, a.step));
    a.out_h = (int)side[0], a.out_w = (int)side[1];
    return ob_out(b, 0, ob_add1(b, &op_resize, &a, sizeof a, ob_src(b, 0))), OK;
}
