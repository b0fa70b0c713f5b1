/* reshape.c - the same elements under another shape. */
#include "graph/ops/op_util.h"

static Err reshape_infer(const OpSite *s, Shape *dst) {
    const Shape to = ((const ReshapeAttr *)s->attr)->shape;
    if (shape_count(to) != shape_count(s->src[0]))
        return err_set(E(EXIT_MODEL, 0), "reshape: %s does not fit into %s",
                       shape_text(s->src[0]).s, shape_text(to).s);
    *dst = to;
    return OK;
}
static void reshape_forward(const OpCall *c) {
    memcpy(c->dst, c->src[0], (size_t)shape_count(c->shape) * sizeof(float));
}
static void reshape_backward(const OpCall *c) {
    for (int64_t i = 0, n = c->dsrc[0] ? shape_count(c->shape) : 0; i < n; i++)
        c->dsrc[0][i] += c->ddst[i];
}

const OpDef op_reshape = {.name = "reshape",
                          .infer = reshape_infer,
                          .forward = reshape_forward,
                          .backward = reshape_backward};
