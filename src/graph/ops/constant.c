/* constant.c - a value that no input changes: fixed numbers, or one parameter used as a value
 * (a position embedding, the weights of a matrix product). */
#include "graph/ops/op_util.h"

static Err constant_infer(const OpSite *s, Shape *dst) {
    const ConstantAttr *a = s->attr;
    CHECK(s->n_src == 0 && s->n_param == !a->data &&
          (a->data || shape_equal(a->shape, s->param[0])));
    *dst = a->shape;
    return OK;
}
static void constant_forward(const OpCall *c) {
    const ConstantAttr *a = c->attr;
    memcpy(c->dst, a->data ? a->data : c->param[0], (size_t)shape_count(c->shape) * sizeof(float));
}
static void constant_backward(const OpCall *c) {
    if (((const ConstantAttr *)c->attr)->data || !c->dparam[0]) return;
    for (int64_t i = 0, n = shape_count(c->shape); i < n; i++) c->dparam[0][i] += c->ddst[i];
}

const OpDef op_constant = {.name = "constant",
                           .infer = constant_infer,
                           .forward = constant_forward,
                           .backward = constant_backward};
