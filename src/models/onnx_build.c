/* onnx_build.c - what the operators' builders share: inputs, attributes, parameters, results, refusals. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "models/onnx_priv.h"

static const size_t CONSTANT_MAX = (size_t)1 << 28;      /* bytes of one folded constant */
static const size_t FOLDED_MAX = (size_t)1 << 30;        /* of all of them */
static const size_t NODE_MAX = (size_t)1 << 32;          /* and of one result */

Err ob_refuse(const OnnxBuild *b, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    str_vformat(text, sizeof text, fmt, ap);
    va_end(ap);
    return err_set(E(EXIT_MODEL, 60), "%s: node %s (%s): %s", b->m->name, b->node->name,
                   b->node->op, text);
}
Err ob_tensor(OnnxBuild *b, Dtype t, Shape s, Tensor **out) {
    size_t bytes;
    for (int i = 0; i < s.rank; i++)
        if (s.d[i] < 0)
            return ob_refuse(b, "a dimension of %s is negative; check the image's size",
                             shape_text(s).s);
    if (!shape_bytes(s, t, &bytes) || bytes > CONSTANT_MAX)
        return ob_refuse(b, "a constant of shape %s is too big", shape_text(s).s);
    if ((b->folded += bytes) > FOLDED_MAX)
        return ob_refuse(b, "constants of %zu MB are too many; export for a smaller image",
                         b->folded >> 20);
    *out = arena_alloc(b->arena, sizeof **out);
    **out = (Tensor){.name = "", .dtype = t, .shape = s, .data = arena_alloc(b->arena, bytes + 1)};
    return OK;
}

/* ---- inputs -------------------------------------------------------------------------------------- */

bool ob_given(const OnnxBuild *b, int i) { return i < b->node->n_in && b->node->in[i]; }
const Tensor *ob_constant(OnnxBuild *b, int i) {
    if (!ob_given(b, i)) return NULL;
    OnnxSlot *s = &b->slot[b->node->in[i]];
    const Tensor *t = b->m->value[b->node->in[i]].tensor;
    if (!s->constant && !s->node.id && t) s->constant = onnx_canonical(b, t);
    return s->constant;
}
Shape ob_shape(OnnxBuild *b, int i) {
    const Tensor *t = ob_constant(b, i);
    if (t) return t->shape;
    return ob_given(b, i) ? net_shape(b->net, b->slot[b->node->in[i]].node) : (Shape){0};
}

/* A parameter under the value's name. The same value in another shape is a parameter of its own. */
int ob_param(OnnxBuild *b, int i, ParamKind kind, Shape s, int fan_in, int fan_out) {
    const int v = b->node->in[i];
    const char *name = b->m->value[v].name;
    if (b->param[v] >= 0 && shape_equal(b->net->params[b->param[v]].shape, s)) return b->param[v];
    if (b->param[v] >= 0) name = arena_printf(b->net->arena, "%s#%d", name, b->net->n_params);
    const int p = net_param(b->net, name, kind, s, fan_in, fan_out);
    GROW(b->fill, b->n_fill, b->cap_fill);
    b->fill[b->n_fill++] = (OnnxFill){p, ob_constant(b, i)};
    return b->param[v] = p;
}

/* An initialiser behind the first layer with weights is itself a weight (a bias, a position embedding);
 * before it, it normalises the image. Single numbers and results of folding are fixed. */
static bool is_weight(const OnnxBuild *b, int v, const Tensor *t) {
    return b->m->value[v].tensor && t->dtype == DT_F32 && shape_count(t->shape) > 1 &&
           b->net->n_params > 0;
}
static const float *as_floats(OnnxBuild *b, const Tensor *t) {
    const int64_t n = shape_count(t->shape);
    float *out = arena_alloc(b->net->arena, (size_t)(n + 1) * sizeof *out);
    for (int64_t i = 0; i < n; i++)
        out[i] =
            t->dtype == DT_F32 ? ((const float *)t->data)[i] : (float)((const int64_t *)t->data)[i];
    return out;
}
Node ob_src(OnnxBuild *b, int i) {
    if (!ob_given(b, i)) return NO_NODE;
    const int v = b->node->in[i];
    const Tensor *t = ob_constant(b, i);
    if (b->slot[v].node.id || !t) return b->slot[v].node;
    ConstantAttr a = {.shape = t->shape};
    int param = 0, n_param = 0;
    if (is_weight(b, v, t))
        param = ob_param(b, i, t->shape.rank > 1 ? PARAM_WEIGHT : PARAM_BIAS, t->shape, 0, 0),
        n_param = 1;
    else a.data = as_floats(b, t);
    return b->slot[v].node = net_add(b->net, &op_constant, b->m->value[v].name, &a, sizeof a, NULL,
                                     0, &param, n_param);
}
Err ob_ints(OnnxBuild *b, int i, int64_t *out, int max, int *n) {
    *n = -1;
    if (!ob_given(b, i)) return OK;
    const Tensor *t = ob_constant(b, i);
    if (!t || t->dtype != DT_I64)
        return ob_refuse(b, "its input %s depends on the image's content; export with fixed sizes",
                         b->m->value[b->node->in[i]].name);
    if (t->shape.rank > 1 || shape_count(t->shape) > max)
        return ob_refuse(b, "input %d holds more than %d numbers", i, max);
    *n = (int)shape_count(t->shape);
    if (*n) memcpy(out, t->data, (size_t)*n * sizeof *out);
    return OK;
}

bool ob_single(OnnxBuild *b, int i, float *out) {
    const Tensor *t = ob_constant(b, i);
    if (!t || shape_count(t->shape) != 1) return false;
    *out = t->dtype == DT_F32 ? *(const float *)t->data : (float)*(const int64_t *)t->data;
    return true;
}

/* ---- attributes ------------------------------------------------------------------------------------ */

int64_t ob_int(const OnnxNode *n, const char *name, int64_t def) {
    const OnnxAttr *a = onnx_attr(n, name);
    return a && a->kind == ONNX_INT ? a->i : def;
}
float ob_float(const OnnxNode *n, const char *name, float def) {
    const OnnxAttr *a = onnx_attr(n, name);
    return a && a->kind == ONNX_FLOAT ? a->f : def;
}
const char *ob_string(const OnnxNode *n, const char *name, const char *def) {
    const OnnxAttr *a = onnx_attr(n, name);
    return a && a->kind == ONNX_STRING ? a->s : def;
}
Err ob_list(OnnxBuild *b, const char *name, int64_t *out, int count, int64_t def) {
    const OnnxAttr *a = onnx_attr(b->node, name);
    for (int i = 0; i < count; i++) out[i] = def;
    if (!a) return OK;
    if (a->kind != ONNX_INTS || a->n != count)
        return ob_refuse(b, "%s must hold %d numbers; only images of two sides are read", name,
                         count);
    for (int i = 0; i < count; i++) {
        out[i] = a->ints[i];
        if (out[i] < INT16_MIN || out[i] > INT16_MAX)
            return ob_refuse(b, "%s holds %" PRId64, name, out[i]);
    }
    return OK;
}
Err ob_axis(OnnxBuild *b, int64_t axis, int rank, int *out) {
    if (axis < -rank || axis >= rank)
        return ob_refuse(b, "axis %" PRId64 " of %d dimensions", axis, rank);
    *out = (int)(axis < 0 ? axis + rank : axis);
    return OK;
}

Err ob_apart(OnnxBuild *b, bool along_first) {
    const Shape s = ob_shape(b, 0);
    if (!b->fixed_batch || !along_first || !s.rank || s.d[0] != b->batch || ob_constant(b, 0))
        return OK;
    return ob_refuse(b,
                     "mixes samples when the batch is %" PRId64
                     "; export with a free batch dimension",
                     b->batch);
}
Err ob_axes(OnnxBuild *b, int i, int64_t *axes, int *n) {
    const OnnxAttr *a = onnx_attr(b->node, "axes");
    if (ob_given(b, i)) return ob_ints(b, i, axes, RANK_MAX, n);
    *n = -1;
    if (!a) return OK;
    if (a->kind != ONNX_INTS || a->n > RANK_MAX) return ob_refuse(b, "axes are not read");
    memcpy(axes, a->ints, (size_t)a->n * sizeof *axes);
    *n = a->n;
    return OK;
}

/* ---- results --------------------------------------------------------------------------------------- */

Node ob_add(OnnxBuild *b, const OpDef *op, const void *attr, size_t bytes, const Node *src,
            int n_src, const int *param, int n_param) {
    for (int i = 0; i < n_src; i++)
        if (!src[i].id) {
            net_fail(b->net, E(EXIT_MODEL, 60), "an input is missing");
            return NO_NODE;
        }
    const Node x = net_add(b->net, op, b->m->value[b->node->n_out ? b->node->out[0] : 0].name, attr,
                           bytes, src, n_src, param, n_param);
    size_t size;
    if (x.id && (!shape_bytes(net_shape(b->net, x), DT_F32, &size) || size > NODE_MAX))
        net_fail(b->net, E(EXIT_LIMIT, 60), "a result of shape %s is too big",
                 shape_text(net_shape(b->net, x)).s);
    return b->net->err ? NO_NODE : x;
}
Node ob_add1(OnnxBuild *b, const OpDef *op, const void *attr, size_t bytes, Node src) {
    return ob_add(b, op, attr, bytes, &src, 1, NULL, 0);
}
Node ob_reshape(OnnxBuild *b, Node x, Shape s) {
    const ReshapeAttr a = {s};
    return ob_add1(b, &op_reshape, &a, sizeof a, x);
}
Node ob_transpose(OnnxBuild *b, Node x, const int *perm) {
    TransposeAttr a = {{0}};
    for (int i = 0; x.id && i < net_shape(b->net, x).rank; i++) a.perm[i] = perm[i];
    return ob_add1(b, &op_transpose, &a, sizeof a, x);
}
void ob_out(OnnxBuild *b, int i, Node x) {
    if (i >= b->node->n_out || !b->node->out[i]) return;
    b->slot[b->node->out[i]].node = x;
    if (x.id) net_alias(b->net, x, b->m->value[b->node->out[i]].name);
}
void ob_out_constant(OnnxBuild *b, int i, const Tensor *t) {
    if (i < b->node->n_out && b->node->out[i]) b->slot[b->node->out[i]].constant = t;
}
