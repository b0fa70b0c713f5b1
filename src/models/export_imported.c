/* export_imported.c - emitters of the ops that only imported networks have; their sizes are fixed. Begins with what
 * all emitters share. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/export_priv.h"

/* ---- shared --------------------------------------------------------------------------------------- */

const char *export_floats(Export *e, const char *name, Shape s, const float *v) {
    return onnx_write_tensor(e->w, name, DT_F32, s, v);
}
const char *export_ints(Export *e, const char *name, const int64_t *v, int n) {
    return onnx_write_tensor(e->w, name, DT_I64, SHAPE(n), v);
}
const char *export_number(Export *e, const char *name, double v) {
    return export_floats(e, name, (Shape){0}, &(float){(float)v});
}

const NetNode *export_node(const Export *e, int id) { return &e->sized->nodes[id]; }
const char *export_name(const Export *e, int id) {
    return *export_node(e, id)->name ? export_node(e, id)->name : export_node(e, id)->op->name;
}
const char *export_src(const Export *e, int id, int i) {
    return e->value[export_node(e, id)->src[i]];
}
const NetParam *export_param(const Export *e, int id, int i) {
    return &e->net->params[export_node(e, id)->param[i]];
}
void export_put1(Export *e, int id, const char *op, const OnnxAttr *attr, int n_attr) {
    e->value[id] =
        onnx_write_node(e->w, op, export_name(e, id), INPUTS(export_src(e, id, 0)), attr, n_attr);
}
const char *export_put2(Export *e, int id, const char *op, const char *a, const char *b) {
    return e->value[id] = onnx_write_node(e->w, op, export_name(e, id), INPUTS(a, b), NO_ATTRS);
}
Err export_refuse(const Export *e, int id, const char *why) {
    return err_set(E(EXIT_MODEL, 60), "%s: layer %s (%s): %s", e->net->name, export_name(e, id),
                   export_node(e, id)->op->name, why);
}

/* ---- by element ------------------------------------------------------------------------------------ */

static Err emit_constant(Export *e, int id) {
    const ConstantAttr *a = export_node(e, id)->attr;
    e->value[id] = export_floats(e, export_name(e, id), a->shape,
                                 a->data ? a->data : export_param(e, id, 0)->data);
    return OK;
}

static Err emit_binary(Export *e, int id) {
    static const char *const OPS[] = {"Add", "Sub", "Mul", "Div", "Min", "Max", "Pow"};
    _Static_assert(sizeof OPS / sizeof *OPS == BINARY_KINDS, "one operator per kind");
    return export_put2(e, id, OPS[((const BinaryAttr *)export_node(e, id)->attr)->kind],
                       export_src(e, id, 0), export_src(e, id, 1)),
           OK;
}
/* Functions that are an operator, with the names of the attributes that a and b are. */
static const struct { const char *op, *a, *b;
} FUNCTIONS[UNARY_KINDS] = {
    [UNARY_LEAKY_RELU] = {"LeakyRelu", "alpha", NULL},
    [UNARY_ELU] = {"Elu", "alpha", NULL},
    [UNARY_SELU] = {"Selu", "alpha", "gamma"},
    [UNARY_SIGMOID] = {"Sigmoid", NULL, NULL},
    [UNARY_HARD_SIGMOID] = {"HardSigmoid", "alpha", "beta"},
    [UNARY_TANH] = {"Tanh", NULL, NULL},
    [UNARY_ERF] = {"Erf", NULL, NULL},
    [UNARY_SOFTPLUS] = {"Softplus", NULL, NULL},
    [UNARY_EXP] = {"Exp", NULL, NULL},
    [UNARY_LOG] = {"Log", NULL, NULL},
    [UNARY_SQRT] = {"Sqrt", NULL, NULL},
    [UNARY_RECIPROCAL] = {"Reciprocal", NULL, NULL},
    [UNARY_ABS] = {"Abs", NULL, NULL},
};
static const char *then(Export *e, int id, const char *op, const char *x, double v) {
    return onnx_write_node(e->w, op, export_name(e, id), INPUTS(x, export_number(e, "number", v)),
                           NO_ATTRS);
}
static const char *apply(Export *e, int id, const char *op, const char *x) {
    return onnx_write_node(e->w, op, export_name(e, id), INPUTS(x), NO_ATTRS);
}
/* x Phi(x) = x / 2 (1 + erf(x / sqrt 2)), or with its approximation by tanh. */
static const char *write_gelu(Export *e, int id, bool by_tanh) {
    const char *x = export_src(e, id, 0), *y;
    if (!by_tanh) y = apply(e, id, "Erf", then(e, id, "Mul", x, M_SQRT1_2));
    else {
        const char *cube = onnx_write_node(
            e->w, "Mul", export_name(e, id),
            INPUTS(then(e, id, "Mul", then(e, id, "Pow", x, 2), 0.044715), x), NO_ATTRS);
        y = apply(e, id, "Tanh",
                  then(e, id, "Mul",
                       onnx_write_node(e->w, "Add", export_name(e, id), INPUTS(x, cube), NO_ATTRS),
                       0.7978845608028654));
    }
    return onnx_write_node(e->w, "Mul", export_name(e, id),
                           INPUTS(then(e, id, "Mul", x, 0.5), then(e, id, "Add", y, 1)), NO_ATTRS);
}
static Err emit_unary(Export *e, int id) {
    const UnaryAttr *a = export_node(e, id)->attr;
    const char *x = export_src(e, id, 0), *y = NULL;
    switch (a->kind) {
    case UNARY_AFFINE:
        y = a->a == 1 ? x : then(e, id, "Mul", x, a->a);
        if (a->b != 0) y = then(e, id, "Add", y, a->b);
        break;
    case UNARY_CLIP:
        y = onnx_write_node(
            e->w, "Clip", export_name(e, id),
            INPUTS(x, export_number(e, "low", a->a), export_number(e, "high", a->b)), NO_ATTRS);
        break;
    case UNARY_POW: y = then(e, id, "Pow", x, a->a); break;
    case UNARY_HARD_SWISH:
        y = onnx_write_node(e->w, "HardSigmoid", export_name(e, id), INPUTS(x),
                            ATTRS(ATTR_REAL("alpha", 1 / 6.f), ATTR_REAL("beta", 0.5f)));
        break;
    case UNARY_SILU:
        y = apply(e, id, "Sigmoid", a->a == 1 ? x : then(e, id, "Mul", x, a->a));
        break;
    case UNARY_MISH: y = apply(e, id, "Tanh", apply(e, id, "Softplus", x)); break;
    case UNARY_GELU: case UNARY_GELU_TANH: y = write_gelu(e, id, a->kind == UNARY_GELU_TANH); break;
    default:
        if (!FUNCTIONS[a->kind].op)
            return export_refuse(e, id, "has no operator in ONNX that is known here");
        const OnnxAttr attr[] = {ATTR_REAL(FUNCTIONS[a->kind].a, a->a),
                                 ATTR_REAL(FUNCTIONS[a->kind].b, a->b)};
        y = onnx_write_node(e->w, FUNCTIONS[a->kind].op, export_name(e, id), INPUTS(x), attr,
                            (FUNCTIONS[a->kind].a != NULL) + (FUNCTIONS[a->kind].b != NULL));
    }
    const bool times_x =
        a->kind == UNARY_HARD_SWISH || a->kind == UNARY_SILU || a->kind == UNARY_MISH;
    return e->value[id] =
               times_x ? onnx_write_node(e->w, "Mul", export_name(e, id), INPUTS(x, y), NO_ATTRS)
                       : y,
           OK;
}
static Err emit_prelu(Export *e, int id) {
    const NetParam *slope = export_param(e, id, 0);
    const int64_t n = shape_count(slope->shape);
    const bool planes = export_node(e, id)->shape.rank == 4 && n > 1;
    return export_put2(
               e, id, "PRelu", export_src(e, id, 0),
               export_floats(e, slope->name, planes ? SHAPE(n, 1, 1) : SHAPE(n), slope->data)),
           OK;
}

static Err emit_quantize(Export *e, int id) {
    const QuantizeAttr *a = export_node(e, id)->attr;
    const char *name = export_name(e, id), *scale = export_number(e, name, a->scale);
    const char *zero = onnx_write_tensor(e->w, name, a->lo < 0 ? DT_I8 : DT_U8, (Shape){0},
                                         &(uint8_t){(uint8_t)a->zero});
    const char *q = onnx_write_node(e->w, "QuantizeLinear", name,
                                    INPUTS(export_src(e, id, 0), scale, zero), NO_ATTRS);
    e->value[id] =
        onnx_write_node(e->w, "DequantizeLinear", name, INPUTS(q, scale, zero), NO_ATTRS);
    return OK;
}

/* ---- pooling and deconvolution ------------------------------------------------------------------------- */

static Err emit_avg_pool(Export *e, int id) {
    const AvgPoolAttr *a = export_node(e, id)->attr;
    const int64_t k[] = {a->kh, a->kw}, stride[] = {a->stride_h, a->stride_w},
                  pads[] = {a->pad_h, a->pad_w, a->pad_h + a->extra_h, a->pad_w + a->extra_w};
    return export_put1(e, id, "AveragePool",
                       ATTRS(ATTR_INTS("kernel_shape", k), ATTR_INTS("strides", stride),
                             ATTR_INTS("pads", pads), ATTR_INT("ceil_mode", a->ceil),
                             ATTR_INT("count_include_pad", a->count_padding))),
           OK;
}
static Err emit_conv_transpose(Export *e, int id) {
    const ConvTransposeAttr *a = export_node(e, id)->attr;
    const NetParam *w = export_param(e, id, 0), *b = a->bias ? export_param(e, id, 1) : NULL;
    const int64_t k[] = {a->kh, a->kw}, stride[] = {a->stride, a->stride},
                  dilation[] = {a->dilation, a->dilation};
    int64_t pads[] = {a->pad, a->pad, a->pad, a->pad}, extra[] = {a->extra[0], a->extra[1]};
    for (int i = 0; i < 2; i++)                          /* less than nothing is more padding behind */
        if (extra[i] < 0) pads[2 + i] -= extra[i], extra[i] = 0;
    const char *of[3] = {export_src(e, id, 0), export_floats(e, w->name, w->shape, w->data),
                         b ? export_floats(e, b->name, b->shape, b->data) : NULL};
    e->value[id] =
        onnx_write_node(e->w, "ConvTranspose", export_name(e, id), of, 2 + a->bias,
                        ATTRS(ATTR_INTS("kernel_shape", k), ATTR_INTS("strides", stride),
                              ATTR_INTS("pads", pads), ATTR_INTS("dilations", dilation),
                              ATTR_INTS("output_padding", extra), ATTR_INT("group", a->groups)));
    return OK;
}

/* ---- over dimensions ------------------------------------------------------------------------------------ */

static Err emit_softmax(Export *e, int id) {
    const SoftmaxAttr *a = export_node(e, id)->attr;
    if (onnx_write_opset(e->w) < 13 && a->axis != export_node(e, id)->shape.rank - 1)
        return export_refuse(e, id, "needs opset=13 or newer");
    return export_put1(e, id, a->log ? "LogSoftmax" : "Softmax", ATTRS(ATTR_INT("axis", a->axis))),
           OK;
}
/* The dimensions are an attribute in old opsets, an input in new ones; from which on depends on the operator. */
static Err emit_reduce(Export *e, int id) {
    static const struct {
        const char *op;
        int input_since;
    } OPS[] = {{"ReduceSum", 13},
               {"ReduceMean", 18},
               {"ReduceMax", 18},
               {"ReduceMin", 18},
               {"ReduceL2", 18}};
    const ReduceAttr *a = export_node(e, id)->attr;
    int64_t axes[RANK_MAX];
    int n = 0;
    for (int i = 0; i < export_node(e, id)->shape.rank; i++)
        if (a->axes >> i & 1) axes[n++] = i;
    if (onnx_write_opset(e->w) >= OPS[a->kind].input_since)
        export_put2(e, id, OPS[a->kind].op, export_src(e, id, 0),
                    export_ints(e, export_name(e, id), axes, n));
    else
        export_put1(e, id, OPS[a->kind].op,
                    ATTRS({.name = "axes", .kind = ONNX_INTS, .ints = axes, .n = n}));
    return OK;
}
static Err emit_layer_norm(Export *e, int id) {
    const LayerNormAttr *a = export_node(e, id)->attr;
    const Shape x = export_node(e, id)->shape;
    Shape s = {.rank = a->dims};
    if (onnx_write_opset(e->w) < 17) return export_refuse(e, id, "needs opset=17 or newer");
    for (int i = 0; i < a->dims; i++) s.d[i] = x.d[x.rank - a->dims + i];
    float *one = xcalloc((size_t)shape_count(s), sizeof *one);
    for (int64_t i = 0; i < shape_count(s); i++) one[i] = 1;
    e->value[id] =
        onnx_write_node(e->w, "LayerNormalization", export_name(e, id),
                        INPUTS(export_src(e, id, 0), export_floats(e, export_name(e, id), s, one)),
                        ATTRS(ATTR_INT("axis", -a->dims), ATTR_REAL("epsilon", a->eps)));
    free(one);
    return OK;
}

/* ---- moving elements ------------------------------------------------------------------------------------- */

static Err emit_reshape(Export *e, int id) {
    const Shape s = ((const ReshapeAttr *)export_node(e, id)->attr)->shape;
    return export_put2(e, id, "Reshape", export_src(e, id, 0),
                       export_ints(e, export_name(e, id), s.d, s.rank)),
           OK;
}
static Err emit_transpose(Export *e, int id) {
    int64_t perm[RANK_MAX];
    const int rank = export_node(e, id)->shape.rank;
    for (int i = 0; i < rank; i++)
        perm[i] = ((const TransposeAttr *)export_node(e, id)->attr)->perm[i];
    return export_put1(e, id, "Transpose",
                       ATTRS({.name = "perm", .kind = ONNX_INTS, .ints = perm, .n = rank})),
           OK;
}
/* The last two dimensions the other way round. */
static const char *turned(Export *e, int id, int i, bool turn) {
    int64_t perm[RANK_MAX];
    const int rank = export_node(e, export_node(e, id)->src[i])->shape.rank;
    if (!turn) return export_src(e, id, i);
    for (int k = 0; k < rank; k++) perm[k] = k < rank - 2 ? k : 2 * rank - 3 - k;
    return onnx_write_node(e->w, "Transpose", export_name(e, id), INPUTS(export_src(e, id, i)),
                           ATTRS({.name = "perm", .kind = ONNX_INTS, .ints = perm, .n = rank}));
}
static Err emit_matmul(Export *e, int id) {
    const MatmulAttr *a = export_node(e, id)->attr;
    return export_put2(e, id, "MatMul", turned(e, id, 0, a->trans_a), turned(e, id, 1, a->trans_b)),
           OK;
}

static Err emit_slice(Export *e, int id) {
    const SliceAttr *a = export_node(e, id)->attr;
    const char *name = export_name(e, id);
    int64_t end[RANK_MAX], axes[RANK_MAX];
    const int rank = a->shape.rank;
    for (int i = 0; i < rank; i++) {
        axes[i] = i, end[i] = a->start[i] + a->step[i] * a->shape.d[i];
        if (end[i] < 0) end[i] = INT32_MIN;              /* a step back to the first element: behind it is -1, which means the last */
    }
    e->value[id] =
        onnx_write_node(e->w, "Slice", name,
                        INPUTS(export_src(e, id, 0), export_ints(e, name, a->start, rank),
                               export_ints(e, name, end, rank), export_ints(e, name, axes, rank),
                               export_ints(e, name, a->step, rank)),
                        NO_ATTRS);
    return OK;
}
static Err emit_pad(Export *e, int id) {
    static const char *const MODE[] = {"constant", "reflect", "edge"};
    const PadAttr *a = export_node(e, id)->attr;
    const int rank = export_node(e, id)->shape.rank;
    int64_t pads[2 * RANK_MAX];
    for (int i = 0; i < rank; i++) pads[i] = a->before[i], pads[rank + i] = a->after[i];
    e->value[id] = onnx_write_node(e->w, "Pad", export_name(e, id),
                                   INPUTS(export_src(e, id, 0),
                                          export_ints(e, export_name(e, id), pads, 2 * rank),
                                          export_number(e, "value", a->value)),
                                   ATTRS(ATTR_TEXT("mode", MODE[a->mode])));
    return OK;
}
static Err emit_expand(Export *e, int id) {
    const Shape s = ((const ExpandAttr *)export_node(e, id)->attr)->shape;
    return export_put2(e, id, "Expand", export_src(e, id, 0),
                       export_ints(e, export_name(e, id), s.d, s.rank)),
           OK;
}

/* ---- the table ------------------------------------------------------------------------------------------ */

#define ROW(name) {&op_##name, emit_##name}
const ExportRow export_imported_rows[] = {
    ROW(unary),          ROW(binary),  ROW(constant), ROW(prelu),      ROW(avg_pool),
    ROW(conv_transpose), ROW(softmax), ROW(reduce),   ROW(layer_norm), ROW(reshape),
    ROW(transpose),      ROW(matmul),  ROW(slice),    ROW(pad),        ROW(expand),
    ROW(quantize),       {0},
};
