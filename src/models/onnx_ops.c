/* onnx_ops.c - the table of operators; those that compute by element, along dimensions or by matrix. */
#include "models/onnx_ops.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const OnnxOp OPS[] = {
#define ONNX_OP(name, since, until, builder) {#name, since, until, onnx_##builder},
#include "models/onnx_ops.def"
#undef ONNX_OP
};
const OnnxOp *onnx_op_find(const char *name) {
    for (size_t i = 0; i < sizeof OPS / sizeof *OPS; i++)
        if (!strcmp(OPS[i].name, name)) return &OPS[i];
    return NULL;
}

/* ---- by element ------------------------------------------------------------------------------------------ */

static Node act(OnnxBuild *b, Act kind) {
    const ActAttr a = {kind};
    return ob_add1(b, &op_relu, &a, sizeof a, ob_src(b, 0));
}
static Node unary(OnnxBuild *b, Node x, UnaryKind kind, float p, float q) {
    const UnaryAttr a = {kind, p, q};
    return ob_add1(b, &op_unary, &a, sizeof a, x);
}
Err onnx_relu(OnnxBuild *b, const OnnxNode *n) { return ob_out(b, 0, act(b, ACT_RELU)), OK; }

/* Operators that are one kind of unary; a and b are attributes or fixed. */
static const struct {
    const char *op;
    UnaryKind kind;
    const char *a;
    float a_default;
    const char *b;
    float b_default;
} FUNCTIONS[] = {
    {"Sigmoid", UNARY_SIGMOID, NULL, 0, NULL, 0},
    {"LeakyRelu", UNARY_LEAKY_RELU, "alpha", 0.01f, NULL, 0},
    {"Elu", UNARY_ELU, "alpha", 1, NULL, 0},
    {"Selu", UNARY_SELU, "alpha", 1.67326319217681884765625f, "gamma", 1.05070102214813232421875f},
    {"HardSigmoid", UNARY_HARD_SIGMOID, "alpha", 0.2f, "beta", 0.5f},
    {"HardSwish", UNARY_HARD_SWISH, NULL, 0, NULL, 0},
    {"Swish", UNARY_SILU, "alpha", 1, NULL, 0},
    {"Tanh", UNARY_TANH, NULL, 0, NULL, 0},
    {"Erf", UNARY_ERF, NULL, 0, NULL, 0},
    {"Softplus", UNARY_SOFTPLUS, NULL, 0, NULL, 0},
    {"Mish", UNARY_MISH, NULL, 0, NULL, 0},
    {"Exp", UNARY_EXP, NULL, 0, NULL, 0},
    {"Log", UNARY_LOG, NULL, 0, NULL, 0},
    {"Sqrt", UNARY_SQRT, NULL, 0, NULL, 0},
    {"Reciprocal", UNARY_RECIPROCAL, NULL, 0, NULL, 0},
    {"Abs", UNARY_ABS, NULL, 0, NULL, 0},
    {"Neg", UNARY_AFFINE, NULL, -1, NULL, 0},
};
Err onnx_function(OnnxBuild *b, const OnnxNode *n) {
    for (size_t i = 0; i < sizeof FUNCTIONS / sizeof *FUNCTIONS; i++) {
        if (strcmp(FUNCTIONS[i].op, n->op)) continue;
        const float p = FUNCTIONS[i].a ? ob_float(n, FUNCTIONS[i].a, FUNCTIONS[i].a_default)
                                       : FUNCTIONS[i].a_default;
        const float q = FUNCTIONS[i].b ? ob_float(n, FUNCTIONS[i].b, FUNCTIONS[i].b_default)
                                       : FUNCTIONS[i].b_default;
        return ob_out(b, 0, unary(b, ob_src(b, 0), FUNCTIONS[i].kind, p, q)), OK;
    }
    return ob_refuse(b, "is not read");
}
Err onnx_gelu(OnnxBuild *b, const OnnxNode *n) {
    const bool by_tanh = !strcmp(ob_string(n, "approximate", "none"), "tanh");
    return ob_out(b, 0, unary(b, ob_src(b, 0), by_tanh ? UNARY_GELU_TANH : UNARY_GELU, 0, 0)), OK;
}
Err onnx_clip(OnnxBuild *b, const OnnxNode *n) {
    float lo = -INFINITY, hi = INFINITY;
    if ((ob_given(b, 1) && !ob_single(b, 1, &lo)) || (ob_given(b, 2) && !ob_single(b, 2, &hi)))
        return ob_refuse(b, "its limits are computed; export with fixed ones");
    if (lo == 0 && hi == 6) return ob_out(b, 0, act(b, ACT_RELU6)), OK;
    if (lo == 0 && hi == INFINITY) return onnx_relu(b, n);
    return ob_out(b, 0, unary(b, ob_src(b, 0), UNARY_CLIP, lo, hi)), OK;
}

/* x op number (which = 1), or number op x, as a x + b where that is what it is. */
static bool as_affine(BinaryKind k, int which, float v, UnaryAttr *out) {
    *out = (UnaryAttr){UNARY_AFFINE, 1, 0};
    switch (k) {
    case BINARY_ADD: out->b = v; return true;
    case BINARY_SUB: out->a = which ? 1 : -1, out->b = which ? -v : v; return true;
    case BINARY_MUL: out->a = v; return true;
    case BINARY_DIV: out->a = 1 / v; return which && v != 0 && 1 / v * v == 1;       /* exact reciprocals only */
    case BINARY_POW: *out = (UnaryAttr){UNARY_POW, v, 0}; return which;
    default: return false;
    }
}
static Node binary(OnnxBuild *b, BinaryKind kind, Node x, Node y) {
    const BinaryAttr a = {kind};
    const Node src[2] = {x, y};
    const bool same = x.id && y.id && shape_equal(net_shape(b->net, x), net_shape(b->net, y));
    if (kind == BINARY_ADD && same) return ob_add(b, &op_add, NULL, 0, src, 2, NULL, 0);
    return ob_add(b, &op_binary, &a, sizeof a, src, 2, NULL, 0);
}
Err onnx_arithmetic(OnnxBuild *b, const OnnxNode *n) {
    static const struct { const char *op; BinaryKind kind;
    } KINDS[] = {
        {"Add", BINARY_ADD}, {"Sub", BINARY_SUB}, {"Mul", BINARY_MUL},
        {"Div", BINARY_DIV}, {"Pow", BINARY_POW}, {"Min", BINARY_MIN},
        {"Max", BINARY_MAX}, {"Sum", BINARY_ADD}, {"Mean", BINARY_ADD},
    };
    BinaryKind kind = BINARY_ADD;
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        if (!strcmp(KINDS[i].op, n->op)) kind = KINDS[i].kind;
    for (int which = 0; n->n_in == 2 && which < 2; which++) {
        float v;
        UnaryAttr u;
        if (!ob_single(b, which, &v) || ob_shape(b, which).rank > ob_shape(b, 1 - which).rank ||
            !as_affine(kind, which, v, &u))
            continue;
        if (!strcmp(n->op, "Mean")) break;
        return ob_out(b, 0, ob_add1(b, &op_unary, &u, sizeof u, ob_src(b, 1 - which))), OK;
    }
    if (n->n_in < 1) return ob_refuse(b, "has no inputs");
    Node x = ob_src(b, 0);
    for (int i = 1; i < n->n_in; i++) x = binary(b, kind, x, ob_src(b, i));
    if (!strcmp(n->op, "Mean")) x = unary(b, x, UNARY_AFFINE, 1 / (float)n->n_in, 0);
    return ob_out(b, 0, x), OK;
}

/* ---- along dimensions ------------------------------------------------------------------------------------- */

/* Before opset 13 the dimensions from `axis` on were one. */
Err onnx_softmax(OnnxBuild *b, const OnnxNode *n) {
    const Shape s = ob_shape(b, 0);
    const bool one = b->m->opset < 13;
    int axis;
    TRY(ob_axis(b, ob_int(n, "axis", one ? 1 : -1), s.rank, &axis));
    TRY(ob_apart(b, axis == 0));
    Shape flat = SHAPE(1, 1);
    for (int i = 0; i < s.rank; i++) flat.d[i >= axis] *= s.d[i];
    const SoftmaxAttr a = {one ? 1 : axis, n->op[0] == 'L'};
    const Node src = ob_src(b, 0),
               y = ob_add1(b, &op_softmax, &a, sizeof a, one ? ob_reshape(b, src, flat) : src);
    return ob_out(b, 0, one ? ob_reshape(b, y, s) : y), OK;
}
Err onnx_reduce(OnnxBuild *b, const OnnxNode *n) {
    static const struct { const char *op; ReduceKind kind;
    } KINDS[] = {{"ReduceSum", REDUCE_SUM},
                 {"ReduceMean", REDUCE_MEAN},
                 {"ReduceMax", REDUCE_MAX},
                 {"ReduceMin", REDUCE_MIN},
                 {"ReduceL2", REDUCE_L2}};
    const Shape s = ob_shape(b, 0);
    ReduceAttr a = {0};
    int64_t axis[RANK_MAX];
    int count, d;
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        if (!strcmp(KINDS[i].op, n->op)) a.kind = KINDS[i].kind;
    TRY(ob_axes(b, 1, axis, &count));
    if (count <= 0 && ob_int(n, "noop_with_empty_axes", 0))          /* nothing is summed, the root of squares stays */
        return a.kind == REDUCE_L2 ? ob_out(b, 0, unary(b, ob_src(b, 0), UNARY_ABS, 0, 0)), OK
                                   : onnx_same(b, n);
    for (int i = 0; i < count; i++) {
        TRY(ob_axis(b, axis[i], s.rank, &d));
        a.axes |= 1u << d;
    }
    if (count <= 0) a.axes = (1u << s.rank) - 1;
    TRY(ob_apart(b, a.axes & 1));
    Shape to = {0};
    for (int i = 0; i < s.rank; i++)
        if (!(a.axes >> i & 1) || ob_int(n, "keepdims", 1))
            to.d[to.rank++] = a.axes >> i & 1 ? 1 : s.d[i];
    const AdaptiveAttr one = {1, 1};
    const bool pool = a.kind == REDUCE_MEAN && s.rank == 4 && a.axes == (4 | 8);
    const Node x = pool ? ob_add1(b, &op_adaptive_avg_pool, &one, sizeof one, ob_src(b, 0))
                        : ob_add1(b, &op_reduce, &a, sizeof a, ob_src(b, 0));
    return ob_out(b, 0, ob_int(n, "keepdims", 1) ? x : ob_reshape(b, x, to)), OK;
}
/* x * input 1 + input 2, both of one dimension, spread over dimension `axis` of x. */
static Node scaled(OnnxBuild *b, Node x, int axis) {
    Shape s = {.rank = net_shape(b->net, x).rank - axis};
    for (int i = 0; i < s.rank; i++) s.d[i] = i ? 1 : net_shape(b->net, x).d[axis];
    x = binary(b, BINARY_MUL, x, ob_reshape(b, ob_src(b, 1), s));
    return ob_given(b, 2) ? binary(b, BINARY_ADD, x, ob_reshape(b, ob_src(b, 2), s)) : x;
}
Err onnx_layer_norm(OnnxBuild *b, const OnnxNode *n) {
    const Shape s = ob_shape(b, 0);
    int axis;
    TRY(ob_axis(b, ob_int(n, "axis", -1), s.rank, &axis));
    TRY(ob_apart(b, axis == 0));
    const LayerNormAttr a = {s.rank - axis, ob_float(n, "epsilon", 1e-5f)};
    Node x = ob_add1(b, &op_layer_norm, &a, sizeof a, ob_src(b, 0));
    if (ob_given(b, 1)) x = binary(b, BINARY_MUL, x, ob_src(b, 1));
    return ob_out(b, 0, ob_given(b, 2) ? binary(b, BINARY_ADD, x, ob_src(b, 2)) : x), OK;
}
/* InstanceNormalization: groups of one channel. GroupNormalization had weights per group before opset 21. */
Err onnx_group_norm(OnnxBuild *b, const OnnxNode *n) {
    const Shape s = ob_shape(b, 0);
    const bool instance = n->op[0] == 'I';
    const int64_t groups = instance && s.rank > 1 ? s.d[1] : ob_int(n, "num_groups", 0);
    if (s.rank < 3 || groups < 1 || s.d[1] % groups)
        return ob_refuse(b, "%" PRId64 " groups of %s", groups, shape_text(s).s);
    if (shape_count(ob_shape(b, 1)) != s.d[1])
        return ob_refuse(b, "its weights are not one per channel; export with opset 21 or newer");
    Shape grouped = SHAPE(s.d[0], groups, s.d[1] / groups);
    for (int i = 2; i < s.rank; i++) grouped.d[2] *= s.d[i];
    const LayerNormAttr a = {1, ob_float(n, "epsilon", 1e-5f)};
    Node x = ob_add1(b, &op_layer_norm, &a, sizeof a, ob_reshape(b, ob_src(b, 0), grouped));
    x = ob_reshape(b, x, s);
    if (b->net->err) return OK;
    return ob_out(b, 0, scaled(b, x, 1)), OK;
}

/* ---- matrices ------------------------------------------------------------------------------------------- */

static Node matmul(OnnxBuild *b, Node x, Node y, bool turn_x, bool turn_y) {
    const MatmulAttr a = {turn_x, turn_y};
    return ob_add(b, &op_matmul, &a, sizeof a, (Node[]){x, y}, 2, NULL, 0);
}
Err onnx_matmul(OnnxBuild *b, const OnnxNode *n) {
    const Shape x = ob_shape(b, 0), y = ob_shape(b, 1);
    if (x.rank < 2 || y.rank < 2)
        return ob_refuse(b, "of vectors, %s by %s", shape_text(x).s, shape_text(y).s);
    return ob_out(b, 0, matmul(b, ob_src(b, 0), ob_src(b, 1), false, false)), OK;
}
Err onnx_gemm(OnnxBuild *b, const OnnxNode *n) {
    const float alpha = ob_float(n, "alpha", 1), beta = ob_float(n, "beta", 1);
    Node x = matmul(b, ob_src(b, 0), ob_src(b, 1), ob_int(n, "transA", 0), ob_int(n, "transB", 0));
    if (alpha != 1) x = unary(b, x, UNARY_AFFINE, alpha, 0);
    if (!ob_given(b, 2) || beta == 0) return ob_out(b, 0, x), OK;
    const Node c = beta == 1 ? ob_src(b, 2) : unary(b, ob_src(b, 2), UNARY_AFFINE, beta, 0);
    return ob_out(b, 0, binary(b, BINARY_ADD, x, c)), OK;
}
