/* export_ops.c - one emitter per op: a node of a Net as ONNX nodes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/export_priv.h"

/* ---- helpers --------------------------------------------------------------------------------- */

const char *export_floats(Export *e, const char *name, Shape s, const float *v) { return onnx_write_tensor(e->w, name, DT_F32, s, v); }
const char *export_ints(Export *e, const char *name, const int64_t *v, int n) { return onnx_write_tensor(e->w, name, DT_I64, SHAPE(n), v); }
static const char *number(Export *e, const char *name, double v) { return export_floats(e, name, (Shape){0}, &(float){(float)v}); }
static const char *whole(Export *e, const char *name, int64_t v) { return onnx_write_tensor(e->w, name, DT_I64, (Shape){0}, &v); }

static const NetNode *node_of(const Export *e, int id) { return &e->sized->nodes[id]; }
static const char *name_of(const Export *e, int id) { return *node_of(e, id)->name ? node_of(e, id)->name : node_of(e, id)->op->name; }
static const char *src_of(const Export *e, int id, int i) { return e->value[node_of(e, id)->src[i]]; }
static const NetParam *param_of(const Export *e, int id, int i) { return &e->net->params[node_of(e, id)->param[i]]; }
static void node1(Export *e, int id, const char *op, const OnnxAttr *attr, int n_attr) {
    e->value[id] = onnx_write_node(e->w, op, name_of(e, id), INPUTS(src_of(e, id, 0)), attr, n_attr);
}
static const char *node2(Export *e, int id, const char *op, const char *a, const char *b) {
    return e->value[id] = onnx_write_node(e->w, op, name_of(e, id), INPUTS(a, b), NO_ATTRS);
}
static Err refuse(const Export *e, int id, const char *why) {
    return err_set(E(EXIT_MODEL, 60), "%s: layer %s (%s): %s", e->net->name, name_of(e, id), node_of(e, id)->op->name, why);
}

/* ---- convolution and batch norm --------------------------------------------------------------- */

static bool is(const Export *e, int id, const OpDef *op) { return node_of(e, id)->op == op; }
int export_absorbed_by(const Export *e, int conv) {
    if (!is(e, conv, &op_conv2d) || e->uses[conv] != 1 || conv == e->logits.id) return 0;
    for (int id = conv + 1; id <= e->logits.id; id++)
        if (e->uses[id] && is(e, id, &op_batch_norm) && node_of(e, id)->src[0] == conv) return id;
    return 0;
}
/* Weights and bias of conv with the batch norm bn (0: none) folded in; both malloced. */
static void fold(const Export *e, int conv, int bn, float **weight, float **bias) {
    const ConvAttr *a = node_of(e, conv)->attr;
    const NetParam *w = param_of(e, conv, 0);
    const int64_t per = shape_count(w->shape) / a->out;
    *weight = xcalloc((size_t)shape_count(w->shape), sizeof **weight), *bias = xcalloc((size_t)a->out, sizeof **bias);
    const float *stats[4] = {0};
    for (int i = 0; i < 4 && bn; i++) stats[i] = param_of(e, bn, i)->data;
    for (int k = 0; k < a->out; k++) {
        double scale = 1, shift = a->bias ? param_of(e, conv, 1)->data[k] : 0;
        if (bn) {
            scale = stats[0][k] / sqrt((double)stats[3][k] + (double)((const BnAttr *)node_of(e, bn)->attr)->eps);
            shift = (shift - stats[2][k]) * scale + stats[1][k];
        }
        (*bias)[k] = (float)shift;
        for (int64_t i = 0; i < per; i++) (*weight)[k * per + i] = (float)(w->data[k * per + i] * scale);
    }
}
/* TensorFlow's padding follows the input's size: SAME_UPPER, where that is free and the stride not 1. */
static const char *write_conv(Export *e, int id, int conv, int bn) {
    const ConvAttr *a = node_of(e, conv)->attr;
    const int src = node_of(e, conv)->src[0];
    const Shape w = param_of(e, conv, 0)->shape;
    const bool with_bias = bn || a->bias, sized = !a->same || a->stride <= 1 || e->fixed;
    int64_t begin[2], end[2];
    float *weight, *bias;
    conv_padding(a, node_of(e, src)->shape, begin, end);
    fold(e, conv, bn, &weight, &bias);
    const char *of[3] = {e->value[src]}, *name = name_of(e, conv);
    if (export_is_int8(e, src) && !export_is_classifier(e, conv)) export_int8_weights(e, name, e->o->range[src], w, weight, with_bias ? bias : NULL, of + 1);
    else {
        of[1] = export_floats(e, param_of(e, conv, 0)->name, w, weight);
        if (with_bias) of[2] = export_floats(e, a->bias ? param_of(e, conv, 1)->name : param_of(e, bn, 1)->name, SHAPE(w.d[0]), bias);
    }
    free(weight), free(bias);
    const int64_t kernel[] = {a->kh, a->kw}, pads[] = {begin[0], begin[1], end[0], end[1]};
    const int64_t stride[] = {a->stride > 1 ? a->stride : 1, a->stride > 1 ? a->stride : 1}, dilation[] = {a->dilation > 1 ? a->dilation : 1, a->dilation > 1 ? a->dilation : 1};
    const OnnxAttr attr[] = {ATTR_INTS("kernel_shape", kernel), ATTR_INTS("strides", stride), ATTR_INTS("dilations", dilation),
                             ATTR_INT("group", a->groups > 1 ? a->groups : 1), ATTR_INTS("pads", pads)};
    const OnnxAttr same[] = {attr[0], attr[1], attr[2], attr[3], ATTR_TEXT("auto_pad", "SAME_UPPER")};
    return onnx_write_node(e->w, "Conv", name_of(e, id), of, 2 + with_bias, sized ? attr : same, 5);
}
static Err emit_conv2d(Export *e, int id) { return e->value[id] = write_conv(e, id, id, 0), OK; }
static Err emit_batch_norm(Export *e, int id) {
    const int src = node_of(e, id)->src[0];
    const BnAttr *a = node_of(e, id)->attr;
    if (export_absorbed_by(e, src) == id) return e->value[id] = write_conv(e, id, src, id), OK;
    const char *of[5] = {e->value[src]};
    for (int i = 0; i < 4; i++) of[1 + i] = export_floats(e, param_of(e, id, i)->name, param_of(e, id, i)->shape, param_of(e, id, i)->data);
    e->value[id] = onnx_write_node(e->w, "BatchNormalization", name_of(e, id), of, 5, ATTRS(ATTR_REAL("epsilon", a->eps)));
    return OK;
}

/* ---- inputs and constants ---------------------------------------------------------------------- */

static Err emit_input(Export *e, int id) { return (void)e, (void)id, OK; }       /* rects: the whole image is valid */
static Err emit_normalize(Export *e, int id) {
    const NormalizeAttr *a = node_of(e, id)->attr;
    static const int64_t reverse[] = {2, 1, 0};
    const char *x = src_of(e, id, 0);
    if (a->bgr) x = onnx_write_node(e->w, "Gather", "normalize.bgr", INPUTS(x, export_ints(e, "normalize.order", reverse, 3)), ATTRS(ATTR_INT("axis", 1)));
    x = onnx_write_node(e->w, "Sub", "normalize.centred", INPUTS(x, export_floats(e, "normalize.mean", SHAPE(1, 3, 1, 1), a->mean)), NO_ATTRS);
    node2(e, id, "Mul", x, export_floats(e, "normalize.scale", SHAPE(1, 3, 1, 1), a->inv_std));
    return OK;
}
static Err emit_constant(Export *e, int id) {
    const ConstantAttr *a = node_of(e, id)->attr;
    e->value[id] = export_floats(e, name_of(e, id), a->shape, a->data ? a->data : param_of(e, id, 0)->data);
    return OK;
}

/* ---- by element -------------------------------------------------------------------------------- */

/* In 8 bits from 0 on, what is below 0 (or above 6) is cut off by the rounding that follows. */
static Err emit_relu(Export *e, int id) {
    const bool six = ((const ActAttr *)node_of(e, id)->attr)->act == ACT_RELU6;
    if (export_is_int8(e, id)) e->value[id] = src_of(e, id, 0);
    else if (!six) node1(e, id, "Relu", NO_ATTRS);
    else e->value[id] = onnx_write_node(e->w, "Clip", name_of(e, id), INPUTS(src_of(e, id, 0), number(e, "zero", 0), number(e, "six", 6)), NO_ATTRS);
    return OK;
}
static Err emit_add(Export *e, int id) { return node2(e, id, "Add", src_of(e, id, 0), src_of(e, id, 1)), OK; }
static Err emit_gate(Export *e, int id) {
    return node2(e, id, "Mul", src_of(e, id, 0), onnx_write_node(e->w, "Sigmoid", "gate", INPUTS(src_of(e, id, 1)), NO_ATTRS)), OK;
}
static Err emit_dropout(Export *e, int id) { return e->value[id] = src_of(e, id, 0), OK; }
static Err emit_binary(Export *e, int id) {
    static const char *const OPS[] = {"Add", "Sub", "Mul", "Div", "Min", "Max", "Pow"};
    _Static_assert(sizeof OPS / sizeof *OPS == BINARY_KINDS, "one operator per kind");
    return node2(e, id, OPS[((const BinaryAttr *)node_of(e, id)->attr)->kind], src_of(e, id, 0), src_of(e, id, 1)), OK;
}
/* Functions that are an operator, with the names of the attributes that a and b are. */
static const struct { const char *op, *a, *b; } FUNCTIONS[UNARY_KINDS] = {
    [UNARY_LEAKY_RELU] = {"LeakyRelu", "alpha", NULL}, [UNARY_ELU] = {"Elu", "alpha", NULL}, [UNARY_SELU] = {"Selu", "alpha", "gamma"},
    [UNARY_SIGMOID] = {"Sigmoid", NULL, NULL}, [UNARY_HARD_SIGMOID] = {"HardSigmoid", "alpha", "beta"}, [UNARY_TANH] = {"Tanh", NULL, NULL},
    [UNARY_ERF] = {"Erf", NULL, NULL}, [UNARY_SOFTPLUS] = {"Softplus", NULL, NULL}, [UNARY_EXP] = {"Exp", NULL, NULL}, [UNARY_LOG] = {"Log", NULL, NULL},
    [UNARY_SQRT] = {"Sqrt", NULL, NULL}, [UNARY_RECIPROCAL] = {"Reciprocal", NULL, NULL}, [UNARY_ABS] = {"Abs", NULL, NULL},
};
static const char *then(Export *e, int id, const char *op, const char *x, double v) {
    return onnx_write_node(e->w, op, name_of(e, id), INPUTS(x, number(e, "number", v)), NO_ATTRS);
}
static const char *apply(Export *e, int id, const char *op, const char *x) { return onnx_write_node(e->w, op, name_of(e, id), INPUTS(x), NO_ATTRS); }
/* x Phi(x) = x / 2 (1 + erf(x / sqrt 2)), or with its approximation by tanh. */
static const char *write_gelu(Export *e, int id, bool by_tanh) {
    const char *x = src_of(e, id, 0), *y;
    if (!by_tanh) y = apply(e, id, "Erf", then(e, id, "Mul", x, M_SQRT1_2));
    else {
        const char *cube = onnx_write_node(e->w, "Mul", name_of(e, id), INPUTS(then(e, id, "Mul", then(e, id, "Pow", x, 2), 0.044715), x), NO_ATTRS);
        y = apply(e, id, "Tanh", then(e, id, "Mul", onnx_write_node(e->w, "Add", name_of(e, id), INPUTS(x, cube), NO_ATTRS), 0.7978845608028654));
    }
    return onnx_write_node(e->w, "Mul", name_of(e, id), INPUTS(then(e, id, "Mul", x, 0.5), then(e, id, "Add", y, 1)), NO_ATTRS);
}
static Err emit_unary(Export *e, int id) {
    const UnaryAttr *a = node_of(e, id)->attr;
    const char *x = src_of(e, id, 0), *y = NULL;
    switch (a->kind) {
    case UNARY_AFFINE:
        y = a->a == 1 ? x : then(e, id, "Mul", x, a->a);
        if (a->b != 0) y = then(e, id, "Add", y, a->b);
        break;
    case UNARY_CLIP: y = onnx_write_node(e->w, "Clip", name_of(e, id), INPUTS(x, number(e, "low", a->a), number(e, "high", a->b)), NO_ATTRS); break;
    case UNARY_POW: y = then(e, id, "Pow", x, a->a); break;
    case UNARY_HARD_SWISH: y = onnx_write_node(e->w, "HardSigmoid", name_of(e, id), INPUTS(x), ATTRS(ATTR_REAL("alpha", 1 / 6.f), ATTR_REAL("beta", 0.5f))); break;
    case UNARY_SILU: y = apply(e, id, "Sigmoid", a->a == 1 ? x : then(e, id, "Mul", x, a->a)); break;
    case UNARY_MISH: y = apply(e, id, "Tanh", apply(e, id, "Softplus", x)); break;
    case UNARY_GELU: case UNARY_GELU_TANH: y = write_gelu(e, id, a->kind == UNARY_GELU_TANH); break;
    default:
        if (!FUNCTIONS[a->kind].op) return refuse(e, id, "has no operator in ONNX that is known here");
        const OnnxAttr attr[] = {ATTR_REAL(FUNCTIONS[a->kind].a, a->a), ATTR_REAL(FUNCTIONS[a->kind].b, a->b)};
        y = onnx_write_node(e->w, FUNCTIONS[a->kind].op, name_of(e, id), INPUTS(x), attr, (FUNCTIONS[a->kind].a != NULL) + (FUNCTIONS[a->kind].b != NULL));
    }
    const bool times_x = a->kind == UNARY_HARD_SWISH || a->kind == UNARY_SILU || a->kind == UNARY_MISH;
    return e->value[id] = times_x ? onnx_write_node(e->w, "Mul", name_of(e, id), INPUTS(x, y), NO_ATTRS) : y, OK;
}
static Err emit_prelu(Export *e, int id) {
    const NetParam *slope = param_of(e, id, 0);
    const int64_t n = shape_count(slope->shape);
    const bool planes = node_of(e, id)->shape.rank == 4 && n > 1;
    return node2(e, id, "PRelu", src_of(e, id, 0), export_floats(e, slope->name, planes ? SHAPE(n, 1, 1) : SHAPE(n), slope->data)), OK;
}

/* ---- pooling ------------------------------------------------------------------------------------- */

static Err emit_max_pool(Export *e, int id) {
    const PoolAttr *a = node_of(e, id)->attr;
    const int64_t k[] = {a->k, a->k}, stride[] = {a->stride, a->stride}, pads[] = {a->pad, a->pad, a->pad, a->pad};
    return node1(e, id, "MaxPool", ATTRS(ATTR_INTS("kernel_shape", k), ATTR_INTS("strides", stride), ATTR_INTS("pads", pads))), OK;
}
static Err emit_avg_pool(Export *e, int id) {
    const AvgPoolAttr *a = node_of(e, id)->attr;
    const int64_t k[] = {a->kh, a->kw}, stride[] = {a->stride_h, a->stride_w}, pads[] = {a->pad_h, a->pad_w, a->pad_h + a->extra_h, a->pad_w + a->extra_w};
    return node1(e, id, "AveragePool", ATTRS(ATTR_INTS("kernel_shape", k), ATTR_INTS("strides", stride), ATTR_INTS("pads", pads),
                                             ATTR_INT("ceil_mode", a->ceil), ATTR_INT("count_include_pad", a->count_padding))), OK;
}
/* The sides [from, to) of x's shape, as a list. */
static const char *sides_of(Export *e, const char *name, const char *x, int64_t from, int64_t to) {
    const char *shape = onnx_write_node(e->w, "Shape", name, INPUTS(x), NO_ATTRS);
    return onnx_write_node(e->w, "Slice", name, INPUTS(shape, export_ints(e, name, &from, 1), export_ints(e, name, &to, 1)), NO_ATTRS);
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
    const char *n = onnx_write_node(e->w, "Gather", name, INPUTS(onnx_write_node(e->w, "Shape", name, INPUTS(x), NO_ATTRS), whole(e, name, axis)), NO_ATTRS);
    const char *parts = whole(e, name, k), *at = onnx_write_node(e->w, "Range", name, INPUTS(whole(e, name, 0), n, whole(e, name, 1)), NO_ATTRS);
    const char *rows[2] = {onnx_write_tensor(e->w, name, DT_I64, SHAPE(k, 1), low), onnx_write_tensor(e->w, name, DT_I64, SHAPE(k, 1), high)};
    for (int i = 0; i < 2; i++) rows[i] = onnx_write_node(e->w, "Mul", name, INPUTS(rows[i], n), NO_ATTRS);
    rows[1] = onnx_write_node(e->w, "Add", name, INPUTS(rows[1], whole(e, name, k - 1)), NO_ATTRS);
    for (int i = 0; i < 2; i++) rows[i] = onnx_write_node(e->w, "Div", name, INPUTS(rows[i], parts), NO_ATTRS);
    const char *before = onnx_write_node(e->w, "Less", name, INPUTS(at, rows[0]), NO_ATTRS), *inside = onnx_write_node(e->w, "Less", name, INPUTS(at, rows[1]), NO_ATTRS);
    inside = onnx_write_node(e->w, "And", name, INPUTS(onnx_write_node(e->w, "Not", name, INPUTS(before), NO_ATTRS), inside), NO_ATTRS);
    const char *count = onnx_write_node(e->w, "Sub", name, INPUTS(rows[1], rows[0]), NO_ATTRS);
    count = onnx_write_node(e->w, "Cast", name, INPUTS(count), ATTRS(ATTR_INT("to", 1)));
    return onnx_write_node(e->w, "Div", name, INPUTS(onnx_write_node(e->w, "Cast", name, INPUTS(inside), ATTRS(ATTR_INT("to", 1))), count), NO_ATTRS);
}
/* Windows of one size are an average pool; others, and free ones, a matrix from either side. */
static Err emit_adaptive_avg_pool(Export *e, int id) {
    const AdaptiveAttr *a = node_of(e, id)->attr;
    const Shape s = node_of(e, node_of(e, id)->src[0])->shape;
    const char *x = src_of(e, id, 0), *name = name_of(e, id);
    if (a->out_h == 1 && a->out_w == 1) return node1(e, id, "GlobalAveragePool", NO_ATTRS), OK;
    const int64_t k[] = {s.d[2] / a->out_h, s.d[3] / a->out_w};
    if (e->fixed && k[0] * a->out_h == s.d[2] && k[1] * a->out_w == s.d[3])
        return node1(e, id, "AveragePool", ATTRS(ATTR_INTS("kernel_shape", k), ATTR_INTS("strides", k))), OK;
    static const int64_t turn[] = {1, 0};
    const char *rows = e->fixed ? fixed_means(e, name, a->out_h, s.d[2]) : free_means(e, name, x, 2, a->out_h);
    const char *columns = e->fixed ? fixed_means(e, name, a->out_w, s.d[3]) : free_means(e, name, x, 3, a->out_w);
    columns = onnx_write_node(e->w, "Transpose", name, INPUTS(columns), ATTRS(ATTR_INTS("perm", turn)));
    return node2(e, id, "MatMul", onnx_write_node(e->w, "MatMul", name, INPUTS(rows, x), NO_ATTRS), columns), OK;
}

/* ---- size and place ---------------------------------------------------------------------------------- */

/* The least float32 by which a runtime that rounds down makes `to` of `from`. */
static float scale_to(int64_t from, int64_t to) {
    float s = (float)((double)to / (double)from);
    while ((int64_t)((float)from * s) < to || floor((double)from * (double)s) < (double)to) s = nextafterf(s, INFINITY);
    return s;
}
const char *export_resize(Export *e, const char *name, int src, const char *like, int64_t h, int64_t w, bool align_corners) {
    const Shape s = node_of(e, src)->shape;
    const char *x = e->value[src], *scales = "", *sizes = "", *none = onnx_write_opset(e->w) < 13 ? export_floats(e, name, SHAPE(0), NULL) : "";
    const OnnxAttr attr[] = {ATTR_TEXT("mode", "linear"), ATTR_TEXT("coordinate_transformation_mode", align_corners ? "align_corners" : "half_pixel")};
    if (e->fixed || !like) scales = export_floats(e, name, SHAPE(4), (const float[]){1, 1, scale_to(s.d[2], h), scale_to(s.d[3], w)});
    else {
        sizes = onnx_write_node(e->w, "Concat", name, INPUTS(sides_of(e, name, x, 0, 2), sides_of(e, name, like, 2, 4)), ATTRS(ATTR_INT("axis", 0)));
        scales = none;
    }
    return onnx_write_node(e->w, "Resize", name, (const char *const[]){x, none, scales, sizes}, *sizes ? 4 : 3, attr, 2);
}
static Err emit_resize(Export *e, int id) {
    const NetNode *x = node_of(e, id);
    e->value[id] = export_resize(e, name_of(e, id), x->src[0], x->n_src > 1 ? src_of(e, id, 1) : NULL, x->shape.d[2], x->shape.d[3],
                                 ((const ResizeAttr *)x->attr)->align_corners);
    return OK;
}
static Err emit_concat(Export *e, int id) {
    const char *of[NODE_SRC_MAX];
    for (int i = 0; i < node_of(e, id)->n_src; i++) of[i] = src_of(e, id, i);
    e->value[id] = onnx_write_node(e->w, "Concat", name_of(e, id), of, node_of(e, id)->n_src, ATTRS(ATTR_INT("axis", 1)));
    return OK;
}
static Err emit_gather_channels(Export *e, int id) {
    const GatherAttr *a = node_of(e, id)->attr;
    int64_t *index = xcalloc((size_t)a->n, sizeof *index);
    for (int i = 0; i < a->n; i++) index[i] = a->index[i];
    e->value[id] = onnx_write_node(e->w, "Gather", name_of(e, id), INPUTS(src_of(e, id, 0), export_ints(e, name_of(e, id), index, a->n)), ATTRS(ATTR_INT("axis", 1)));
    free(index);
    return OK;
}
static Err emit_reshape(Export *e, int id) {
    const Shape s = ((const ReshapeAttr *)node_of(e, id)->attr)->shape;
    return node2(e, id, "Reshape", src_of(e, id, 0), export_ints(e, name_of(e, id), s.d, s.rank)), OK;
}
static Err emit_transpose(Export *e, int id) {
    int64_t perm[RANK_MAX];
    const int rank = node_of(e, id)->shape.rank;
    for (int i = 0; i < rank; i++) perm[i] = ((const TransposeAttr *)node_of(e, id)->attr)->perm[i];
    return node1(e, id, "Transpose", ATTRS({.name = "perm", .kind = ONNX_INTS, .ints = perm, .n = rank})), OK;
}
/* The last two dimensions the other way round. */
static const char *turned(Export *e, int id, int i, bool turn) {
    int64_t perm[RANK_MAX];
    const int rank = node_of(e, node_of(e, id)->src[i])->shape.rank;
    if (!turn) return src_of(e, id, i);
    for (int k = 0; k < rank; k++) perm[k] = k < rank - 2 ? k : 2 * rank - 3 - k;
    return onnx_write_node(e->w, "Transpose", name_of(e, id), INPUTS(src_of(e, id, i)), ATTRS({.name = "perm", .kind = ONNX_INTS, .ints = perm, .n = rank}));
}
static Err emit_matmul(Export *e, int id) {
    const MatmulAttr *a = node_of(e, id)->attr;
    return node2(e, id, "MatMul", turned(e, id, 0, a->trans_a), turned(e, id, 1, a->trans_b)), OK;
}

/* ---- the table --------------------------------------------------------------------------------------- */

#define ROW(name) {&op_##name, emit_##name}
static const struct { const OpDef *op; Err (*emit)(Export *e, int id); } EMITTERS[] = {
    ROW(input), ROW(normalize), ROW(conv2d), ROW(batch_norm), ROW(relu), ROW(add), ROW(gate), ROW(max_pool), ROW(adaptive_avg_pool),
    ROW(resize), ROW(concat), ROW(gather_channels), ROW(dropout), ROW(unary), ROW(binary), ROW(constant), ROW(prelu), ROW(avg_pool),
    ROW(reshape), ROW(transpose), ROW(matmul),
};
Err export_op(Export *e, int id) {
    for (size_t i = 0; i < sizeof EMITTERS / sizeof *EMITTERS; i++) {
        if (EMITTERS[i].op != node_of(e, id)->op) continue;
        TRY(EMITTERS[i].emit(e, id));
        if (export_is_int8(e, id)) e->value[id] = export_int8_value(e, id, e->value[id]);
        return OK;
    }
    return refuse(e, id, "is not exported; export the network as it is from the program that made it");
}
