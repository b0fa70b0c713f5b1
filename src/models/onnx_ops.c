/* onnx_ops.c - the table of operators; those that compute by element, by matrix, or move elements about. */
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

Err onnx_relu(OnnxBuild *b, const OnnxNode *n) {
    const ActAttr a = {ACT_RELU};
    return ob_out(b, 0, ob_add1(b, &op_relu, &a, sizeof a, ob_src(b, 0))), OK;
}
/* Operators that are one kind of unary; a and b from attributes. */
static const struct { const char *op; UnaryKind kind; const char *a; float a_default; const char *b; float b_default; } FUNCTIONS[] = {
    {"Sigmoid", UNARY_SIGMOID, NULL, 0, NULL, 0},
};
Err onnx_function(OnnxBuild *b, const OnnxNode *n) {
    for (size_t i = 0; i < sizeof FUNCTIONS / sizeof *FUNCTIONS; i++) {
        if (strcmp(FUNCTIONS[i].op, n->op)) continue;
        const UnaryAttr a = {FUNCTIONS[i].kind, FUNCTIONS[i].a ? ob_float(n, FUNCTIONS[i].a, FUNCTIONS[i].a_default) : FUNCTIONS[i].a_default,
                             FUNCTIONS[i].b ? ob_float(n, FUNCTIONS[i].b, FUNCTIONS[i].b_default) : FUNCTIONS[i].b_default};
        return ob_out(b, 0, ob_add1(b, &op_unary, &a, sizeof a, ob_src(b, 0))), OK;
    }
    return ob_refuse(b, "is not read");
}

/* One number of a constant that is no weight. */
static bool single(OnnxBuild *b, int i, float *out) {
    const Tensor *t = ob_constant(b, i);
    if (!t || shape_count(t->shape) != 1) return false;
    *out = t->dtype == DT_F32 ? *(const float *)t->data : (float)*(const int64_t *)t->data;
    return true;
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
Err onnx_arithmetic(OnnxBuild *b, const OnnxNode *n) {
    static const struct { const char *op; BinaryKind kind; } KINDS[] = {
        {"Add", BINARY_ADD}, {"Sub", BINARY_SUB}, {"Mul", BINARY_MUL}, {"Div", BINARY_DIV}, {"Pow", BINARY_POW}, {"Min", BINARY_MIN}, {"Max", BINARY_MAX},
    };
    BinaryAttr a = {0};
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        if (!strcmp(KINDS[i].op, n->op)) a.kind = KINDS[i].kind;
    if (n->n_in != 2) return ob_refuse(b, "%d inputs; only two are read", n->n_in);
    for (int which = 0; which < 2; which++) {
        float v;
        UnaryAttr u;
        const Tensor *t = ob_constant(b, which);
        if (!single(b, which, &v) || t->shape.rank > ob_shape(b, 1 - which).rank || !as_affine(a.kind, which, v, &u)) continue;
        return ob_out(b, 0, ob_add1(b, &op_unary, &u, sizeof u, ob_src(b, 1 - which))), OK;
    }
    const Node src[2] = {ob_src(b, 0), ob_src(b, 1)};
    if (b->net->err) return OK;
    if (a.kind == BINARY_ADD && shape_equal(net_shape(b->net, src[0]), net_shape(b->net, src[1])))
        return ob_out(b, 0, ob_add(b, &op_add, NULL, 0, src, 2, NULL, 0)), OK;
    return ob_out(b, 0, ob_add(b, &op_binary, &a, sizeof a, src, 2, NULL, 0)), OK;
}

/* ---- matrices ------------------------------------------------------------------------------------------- */

Err onnx_matmul(OnnxBuild *b, const OnnxNode *n) {
    const MatmulAttr a = {0};
    const Node src[2] = {ob_src(b, 0), ob_src(b, 1)};
    return ob_out(b, 0, ob_add(b, &op_matmul, &a, sizeof a, src, 2, NULL, 0)), OK;
}

/* ---- shapes --------------------------------------------------------------------------------------------- */

Err onnx_reshape(OnnxBuild *b, const OnnxNode *n) {
    ReshapeAttr a;
    TRY(onnx_reshaped(b, ob_shape(b, 0), &a.shape));
    return ob_out(b, 0, ob_add1(b, &op_reshape, &a, sizeof a, ob_src(b, 0))), OK;
}
Err onnx_transpose(OnnxBuild *b, const OnnxNode *n) {
    const int rank = ob_shape(b, 0).rank;
    const OnnxAttr *perm = onnx_attr(n, "perm");
    TransposeAttr a = {{0}};
    if (perm && (perm->kind != ONNX_INTS || perm->n != rank)) return ob_refuse(b, "perm does not fit its input");
    for (int i = 0; i < rank; i++) TRY(ob_axis(b, perm ? perm->ints[i] : rank - 1 - i, rank, &a.perm[i]));
    return ob_out(b, 0, ob_add1(b, &op_transpose, &a, sizeof a, ob_src(b, 0))), OK;
}
Err onnx_concat(OnnxBuild *b, const OnnxNode *n) {
    Node src[NODE_SRC_MAX];
    int axis;
    TRY(ob_axis(b, ob_int(n, "axis", 0), ob_shape(b, 0).rank, &axis));
    if (axis != 1 || n->n_in > NODE_SRC_MAX) return ob_refuse(b, "along axis %d", axis);
    for (int i = 0; i < n->n_in; i++) src[i] = ob_src(b, i);
    return ob_out(b, 0, ob_add(b, &op_concat, NULL, 0, src, n->n_in, NULL, 0)), OK;
}
/* Shape and Size of a node: constants. Shape may cut out a part (opset 15). */
Err onnx_shape(OnnxBuild *b, const OnnxNode *n) {
    const Shape s = ob_shape(b, 0);
    const bool size = n->op[1] == 'i';
    int64_t start = ob_int(n, "start", 0), end = ob_int(n, "end", s.rank);
    if (start < 0) start += s.rank;
    if (end < 0) end += s.rank;
    if (start < 0) start = 0;
    if (end > s.rank) end = s.rank;
    Tensor *t;
    TRY(ob_tensor(b, DT_I64, size ? (Shape){0} : SHAPE(end > start ? end - start : 0), &t));
    int64_t *v = t->data;
    if (size) *v = shape_count(s);
    else for (int64_t i = start; i < end; i++) v[i - start] = s.d[i];
    return ob_out_constant(b, 0, t), OK;
}
Err onnx_same(OnnxBuild *b, const OnnxNode *n) { return ob_out(b, 0, ob_src(b, 0)), OK; }
Err onnx_cast(OnnxBuild *b, const OnnxNode *n) {
    const int64_t to = ob_int(n, "to", 1);
    if (to != 1 && to != 10 && to != 11 && to != 16) return ob_refuse(b, "of a computed value to type %" PRId64, to);
    return onnx_same(b, n);
}
/* Dropout acts in training again, whatever mode the file was exported in. */
Err onnx_dropout(OnnxBuild *b, const OnnxNode *n) {
    float p = ob_float(n, "ratio", 0.5f);
    if (ob_given(b, 1) && !single(b, 1, &p)) return ob_refuse(b, "its ratio is computed");
    const DropoutAttr a = {p};
    return ob_out(b, 0, b->net->dropout_off ? ob_src(b, 0) : ob_add1(b, &op_dropout, &a, sizeof a, ob_src(b, 0))), OK;
}
