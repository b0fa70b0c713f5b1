/* export_ops.c - one emitter per op of the networks of our own: a node of a Net as ONNX nodes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/export_priv.h"

/* ---- convolution and batch norm --------------------------------------------------------------- */

static bool is(const Export *e, int id, const OpDef *op) { return export_node(e, id)->op == op; }
int export_absorbed_by(const Export *e, int conv) {
    if (!is(e, conv, &op_conv2d) || e->uses[conv] != 1 || conv == e->logits.id) return 0;
    for (int id = conv + 1; id <= e->logits.id; id++)
        if (e->uses[id] && is(e, id, &op_batch_norm) && export_node(e, id)->src[0] == conv)
            return id;
    return 0;
}
/* Weights and bias of conv with the batch norm bn (0: none) folded in; both malloced. */
static void fold(const Export *e, int conv, int bn, float **weight, float **bias) {
    const ConvAttr *a = export_node(e, conv)->attr;
    const NetParam *w = export_param(e, conv, 0);
    const int64_t per = shape_count(w->shape) / a->out;
    *weight = xcalloc((size_t)shape_count(w->shape), sizeof **weight), *bias = xcalloc((size_t)a->out, sizeof **bias);
    const float *stats[4] = {0};
    for (int i = 0; i < 4 && bn; i++) stats[i] = export_param(e, bn, i)->data;
    for (int k = 0; k < a->out; k++) {
        double scale = 1, shift = a->bias ? export_param(e, conv, 1)->data[k] : 0;
        if (bn) {
            scale = stats[0][k] / sqrt((double)stats[3][k] +
                                       (double)((const BnAttr *)export_node(e, bn)->attr)->eps);
            shift = (shift - stats[2][k]) * scale + stats[1][k];
        }
        (*bias)[k] = (float)shift;
        for (int64_t i = 0; i < per; i++)
            (*weight)[k * per + i] = (float)(w->data[k * per + i] * scale);
    }
}
/* TensorFlow's padding follows the input's size: SAME_UPPER, where that is free and the stride not 1. */
static const char *write_conv(Export *e, int id, int conv, int bn) {
    const ConvAttr *a = export_node(e, conv)->attr;
    const int src = export_node(e, conv)->src[0];
    const Shape w = export_param(e, conv, 0)->shape;
    const bool with_bias = bn || a->bias, sized = !a->same || a->stride <= 1 || e->fixed;
    int64_t begin[2], end[2];
    float *weight, *bias;
    conv_padding(a, export_node(e, src)->shape, begin, end);
    fold(e, conv, bn, &weight, &bias);
    const char *of[3] = {e->value[src]}, *name = export_name(e, conv);
    if (export_is_int8(e, src) && !export_is_classifier(e, conv))
        export_int8_weights(e, name, e->o->range[src], w, weight, with_bias ? bias : NULL, of + 1);
    else {
        of[1] = export_floats(e, export_param(e, conv, 0)->name, w, weight);
        if (with_bias)
            of[2] = export_floats(
                e, a->bias ? export_param(e, conv, 1)->name : export_param(e, bn, 1)->name,
                SHAPE(w.d[0]), bias);
    }
    free(weight), free(bias);
    const int64_t kernel[] = {a->kh, a->kw}, pads[] = {begin[0], begin[1], end[0], end[1]};
    const int64_t stride[] = {a->stride > 1 ? a->stride : 1, a->stride > 1 ? a->stride : 1},
                  dilation[] = {a->dilation > 1 ? a->dilation : 1,
                                a->dilation > 1 ? a->dilation : 1};
    const OnnxAttr attr[] = {ATTR_INTS("kernel_shape", kernel), ATTR_INTS("strides", stride),
                             ATTR_INTS("dilations", dilation),
                             ATTR_INT("group", a->groups > 1 ? a->groups : 1),
                             ATTR_INTS("pads", pads)};
    const OnnxAttr same[] = {attr[0], attr[1], attr[2], attr[3],
                             ATTR_TEXT("auto_pad", "SAME_UPPER")};
    return onnx_write_node(e->w, "Conv", export_name(e, id), of, 2 + with_bias, sized ? attr : same,
                           5);
}
static Err emit_conv2d(Export *e, int id) { return e->value[id] = write_conv(e, id, id, 0), OK; }
static Err emit_batch_norm(Export *e, int id) {
    const int src = export_node(e, id)->src[0];
    const BnAttr *a = export_node(e, id)->attr;
    if (export_absorbed_by(e, src) == id) return e->value[id] = write_conv(e, id, src, id), OK;
    const char *of[5] = {e->value[src]};
    for (int i = 0; i < 4; i++)
        of[1 + i] = export_floats(e, export_param(e, id, i)->name, export_param(e, id, i)->shape,
                                  export_param(e, id, i)->data);
    e->value[id] = onnx_write_node(e->w, "BatchNormalization", export_name(e, id), of, 5,
                                   ATTRS(ATTR_REAL("epsilon", a->eps)));
    return OK;
}

/* ---- the image ---------------------------------------------------------------------- */

static Err emit_input(Export *e, int id) { return (void)e, (void)id, OK; }       /* rects: the whole image is valid */
static Err emit_normalize(Export *e, int id) {
    const NormalizeAttr *a = export_node(e, id)->attr;
    static const int64_t reverse[] = {2, 1, 0};
    const char *x = export_src(e, id, 0);
    if (a->bgr)
        x = onnx_write_node(e->w, "Gather", "normalize.bgr",
                            INPUTS(x, export_ints(e, "normalize.order", reverse, 3)),
                            ATTRS(ATTR_INT("axis", 1)));
    x = onnx_write_node(e->w, "Sub", "normalize.centred",
                        INPUTS(x, export_floats(e, "normalize.mean", SHAPE(1, 3, 1, 1), a->mean)),
                        NO_ATTRS);
    export_put2(e, id, "Mul", x,
                export_floats(e, "normalize.scale", SHAPE(1, 3, 1, 1), a->inv_std));
    return OK;
}
/* ---- by element -------------------------------------------------------------------------------- */

/* In 8 bits from 0 on, what is below 0 (or above 6) is cut off by the rounding that follows. */
static Err emit_relu(Export *e, int id) {
    const bool six = ((const ActAttr *)export_node(e, id)->attr)->act == ACT_RELU6;
    if (export_is_int8(e, id)) e->value[id] = export_src(e, id, 0);
    else if (!six) export_put1(e, id, "Relu", NO_ATTRS);
    else
        e->value[id] = onnx_write_node(
            e->w, "Clip", export_name(e, id),
            INPUTS(export_src(e, id, 0), export_number(e, "zero", 0), export_number(e, "six", 6)),
            NO_ATTRS);
    return OK;
}
static Err emit_add(Export *e, int id) {
    return export_put2(e, id, "Add", export_src(e, id, 0), export_src(e, id, 1)), OK;
}
static Err emit_gate(Export *e, int id) {
    return export_put2(
               e, id, "Mul", export_src(e, id, 0),
               onnx_write_node(e->w, "Sigmoid", "gate", INPUTS(export_src(e, id, 1)), NO_ATTRS)),
           OK;
}
static Err emit_dropout(Export *e, int id) { return e->value[id] = export_src(e, id, 0), OK; }
/* ---- pooling ------------------------------------------------------------------------------------- */

/* With the ceil rule there is more padding behind: it never counts, so the floor rule gives the same. */
static Err emit_max_pool(Export *e, int id) {
    const PoolAttr *a = export_node(e, id)->attr;
    const Shape in = export_node(e, export_node(e, id)->src[0])->shape,
                out = export_node(e, id)->shape;
    const int64_t k[] = {a->k, a->kw ? a->kw : a->k},
                  stride[] = {a->stride ? a->stride : k[0], a->stride_w ? a->stride_w
                                                            : a->stride ? a->stride
                                                                        : k[1]};
    int64_t pads[4];
    for (int i = 0; i < 4; i++) pads[i] = a->pad + a->extra[i];
    for (int i = 0; i < 2 && a->ceil; i++)
        pads[2 + i] = (out.d[2 + i] - 1) * stride[i] + k[i] - in.d[2 + i] - pads[i];
    for (int i = 2; i < 4; i++) pads[i] = pads[i] > 0 ? pads[i] : 0;
    return export_put1(e, id, "MaxPool",
                       ATTRS(ATTR_INTS("kernel_shape", k), ATTR_INTS("strides", stride),
                             ATTR_INTS("pads", pads))),
           OK;
}
static const char *whole(Export *e, const char *name, int64_t v) {
    return onnx_write_tensor(e->w, name, DT_I64, (Shape){0}, &v);
}
/* The sides [from, to) of x's shape, as a list. */
static const char *sides_of(Export *e, const char *name, const char *x, int64_t from, int64_t to) {
    const char *shape = onnx_write_node(e->w, "Shape", name, INPUTS(x), NO_ATTRS);
    return onnx_write_node(
        e->w, "Slice", name,
        INPUTS(shape, export_ints(e, name, &from, 1), export_ints(e, name, &to, 1)), NO_ATTRS);
}
/* The k x n matrix of adaptive average pooling of n values to k: row i averages floor(i n / k) .. ceil((i + 1) n / k). */
static const char *fixed_means(Export *e, const char *name, int64_t k, int64_t n) {
    float *m = xcalloc((size_t)(k * n), sizeof *m);
    for (int64_t i = 0; i < k; i++) {
        const int64_t begin = i * n / k, end = ((i + 1) * n + k - 1) / k;
        for (int64_t j = begin; j < end; j++) m[i * n + j] = 1.0f / (float)(end - begin);
    }
    const char *out = export_floats(e, name, SHAPE(k, n), m);
    free(m);
    return out;
}
static const char *free_means(Export *e, const char *name, const char *x, int axis, int64_t k) {
    int64_t low[16], high[16];
    CHECK(k <= 16);
    for (int64_t i = 0; i < k; i++) low[i] = i, high[i] = i + 1;
    const char *n = onnx_write_node(
        e->w, "Gather", name,
        INPUTS(onnx_write_node(e->w, "Shape", name, INPUTS(x), NO_ATTRS), whole(e, name, axis)),
        NO_ATTRS);
    const char *parts = whole(e, name, k),
               *at = onnx_write_node(e->w, "Range", name,
                                     INPUTS(whole(e, name, 0), n, whole(e, name, 1)), NO_ATTRS);
    const char *rows[2] = {onnx_write_tensor(e->w, name, DT_I64, SHAPE(k, 1), low),
                           onnx_write_tensor(e->w, name, DT_I64, SHAPE(k, 1), high)};
    for (int i = 0; i < 2; i++)
        rows[i] = onnx_write_node(e->w, "Mul", name, INPUTS(rows[i], n), NO_ATTRS);
    rows[1] = onnx_write_node(e->w, "Add", name, INPUTS(rows[1], whole(e, name, k - 1)), NO_ATTRS);
    for (int i = 0; i < 2; i++)
        rows[i] = onnx_write_node(e->w, "Div", name, INPUTS(rows[i], parts), NO_ATTRS);
    const char *before = onnx_write_node(e->w, "Less", name, INPUTS(at, rows[0]), NO_ATTRS),
               *inside = onnx_write_node(e->w, "Less", name, INPUTS(at, rows[1]), NO_ATTRS);
    inside = onnx_write_node(
        e->w, "And", name,
        INPUTS(onnx_write_node(e->w, "Not", name, INPUTS(before), NO_ATTRS), inside), NO_ATTRS);
    const char *count = onnx_write_node(e->w, "Sub", name, INPUTS(rows[1], rows[0]), NO_ATTRS);
    count = onnx_write_node(e->w, "Cast", name, INPUTS(count), ATTRS(ATTR_INT("to", 1)));
    return onnx_write_node(
        e->w, "Div", name,
        INPUTS(onnx_write_node(e->w, "Cast", name, INPUTS(inside), ATTRS(ATTR_INT("to", 1))),
               count),
        NO_ATTRS);
}
/* Windows of one size are an average pool; others, and free ones, a matrix from either side. */
static Err emit_adaptive_avg_pool(Export *e, int id) {
    const AdaptiveAttr *a = export_node(e, id)->attr;
    const Shape s = export_node(e, export_node(e, id)->src[0])->shape;
    const char *x = export_src(e, id, 0), *name = export_name(e, id);
    if (a->out_h == 1 && a->out_w == 1)
        return export_put1(e, id, "GlobalAveragePool", NO_ATTRS), OK;
    const int64_t k[] = {s.d[2] / a->out_h, s.d[3] / a->out_w};
    if (e->fixed && k[0] * a->out_h == s.d[2] && k[1] * a->out_w == s.d[3])
        return export_put1(e, id, "AveragePool",
                           ATTRS(ATTR_INTS("kernel_shape", k), ATTR_INTS("strides", k))),
               OK;
    static const int64_t turn[] = {1, 0};
    const char *rows =
        e->fixed ? fixed_means(e, name, a->out_h, s.d[2]) : free_means(e, name, x, 2, a->out_h);
    const char *columns =
        e->fixed ? fixed_means(e, name, a->out_w, s.d[3]) : free_means(e, name, x, 3, a->out_w);
    columns =
        onnx_write_node(e->w, "Transpose", name, INPUTS(columns), ATTRS(ATTR_INTS("perm", turn)));
    return export_put2(e, id, "MatMul",
                       onnx_write_node(e->w, "MatMul", name, INPUTS(rows, x), NO_ATTRS), columns),
           OK;
}

/* ---- size and place ---------------------------------------------------------------------------------- */

/* The least float32 by which a runtime that rounds down makes `to` of `from`. */
static float scale_to(int64_t from, int64_t to) {
    float s = (float)((double)to / (double)from);
    while ((int64_t)((float)from * s) < to || floor((double)from * (double)s) < (double)to)
        s = nextafterf(s, INFINITY);
    return s;
}
/* How a resize is written: what is 0 in ResizeAttr is what the networks of our own do. */
static int resize_attrs(const ResizeAttr *a, OnnxAttr out[4]) {
    static const char *const MODE[] = {"linear", "nearest", "cubic"},
                             *const AT[] = {"half_pixel", "pytorch_half_pixel", "asymmetric"},
                             *const ROUND[] = {"round_prefer_floor", "round_prefer_ceil", "floor",
                                               "ceil"};
    int n = 0;
    out[n++] = (OnnxAttr)ATTR_TEXT("mode", MODE[a->mode]);
    out[n++] = (OnnxAttr)ATTR_TEXT("coordinate_transformation_mode",
                                   a->align_corners ? "align_corners" : AT[a->at]);
    if (a->mode == RESIZE_NEAREST) out[n++] = (OnnxAttr)ATTR_TEXT("nearest_mode", ROUND[a->round]);
    if (a->mode == RESIZE_CUBIC)
        out[n++] = (OnnxAttr)ATTR_REAL("cubic_coeff_a", a->cubic_a != 0 ? a->cubic_a : -0.75f);
    return n;
}
const char *export_resize(Export *e, const char *name, int src, const char *like, int64_t h,
                          int64_t w, const ResizeAttr *a) {
    const Shape s = export_node(e, src)->shape;
    const char *x = e->value[src], *scales = "", *sizes = "",
               *none = onnx_write_opset(e->w) < 13 ? export_floats(e, name, SHAPE(0), NULL) : "";
    OnnxAttr attr[4];
    const int n_attr = resize_attrs(a, attr);
    if (e->fixed || !like) {
        float by[4] = {1, 1, scale_to(s.d[2], h), scale_to(s.d[3], w)};
        for (int i = 0; i < 2; i++)
            if (a->step[i] > 0) by[2 + i] = (float)(1 / a->step[i]);
        scales = export_floats(e, name, SHAPE(4), by);
    } else {
        sizes = onnx_write_node(e->w, "Concat", name,
                                INPUTS(sides_of(e, name, x, 0, 2), sides_of(e, name, like, 2, 4)),
                                ATTRS(ATTR_INT("axis", 0)));
        scales = none;
    }
    return onnx_write_node(e->w, "Resize", name, (const char *const[]){x, none, scales, sizes},
                           *sizes ? 4 : 3, attr, n_attr);
}
static Err emit_resize(Export *e, int id) {
    const NetNode *x = export_node(e, id);
    e->value[id] =
        export_resize(e, export_name(e, id), x->src[0], x->n_src > 1 ? export_src(e, id, 1) : NULL,
                      x->shape.d[2], x->shape.d[3], x->attr);
    return OK;
}
static Err emit_concat(Export *e, int id) {
    const char *of[NODE_SRC_MAX];
    for (int i = 0; i < export_node(e, id)->n_src; i++) of[i] = export_src(e, id, i);
    e->value[id] = onnx_write_node(e->w, "Concat", export_name(e, id), of,
                                   export_node(e, id)->n_src, ATTRS(ATTR_INT("axis", 1)));
    return OK;
}
static Err emit_gather_channels(Export *e, int id) {
    const GatherAttr *a = export_node(e, id)->attr;
    int64_t *index = xcalloc((size_t)a->n, sizeof *index);
    for (int i = 0; i < a->n; i++) index[i] = a->index[i];
    e->value[id] = onnx_write_node(
        e->w, "Gather", export_name(e, id),
        INPUTS(export_src(e, id, 0), export_ints(e, export_name(e, id), index, a->n)),
        ATTRS(ATTR_INT("axis", 1)));
    free(index);
    return OK;
}
/* ---- the table --------------------------------------------------------------------------------------- */

#define ROW(name) {&op_##name, emit_##name}
static const ExportRow ROWS[] = {ROW(input),      ROW(normalize), ROW(conv2d),
                                 ROW(batch_norm), ROW(relu),      ROW(add),
                                 ROW(gate),       ROW(max_pool),  ROW(adaptive_avg_pool),
                                 ROW(resize),     ROW(concat),    ROW(gather_channels),
                                 ROW(dropout)};
Err export_op(Export *e, int id) {
    const OpDef *op = export_node(e, id)->op;
    const ExportRow *row = NULL;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++)
        if (ROWS[i].op == op) row = &ROWS[i];
    for (const ExportRow *r = export_imported_rows; r->op; r++)
        if (r->op == op) row = r;
    if (!row)
        return export_refuse(
            e, id, "is not exported; export the network as it is from the program that made it");
    TRY(row->emit(e, id));
    if (export_is_int8(e, id)) e->value[id] = export_int8_value(e, id, e->value[id]);
    return OK;
}
