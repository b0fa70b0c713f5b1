/* add.c - a + b of equal shapes. */
#include "graph/ops/op_util.h"

static Err add_infer(const OpSite *s, Shape *dst) {
    if (s->n_src != 2 || !shape_equal(s->src[0], s->src[1]))
        return err_set(E(EXIT_MODEL, 0), "add: shapes %s and %s differ", shape_text(s->src[0]).s,
                       shape_text(s->src[1]).s);
    return infer_same(s, dst);
}
static void add_forward(const OpCall *c) {
    const float *a = c->src[0], *b = c->src[1];
    const int64_t n = shape_count(c->shape);
    for (int64_t i = 0; i < n; i++) c->dst[i] = a[i] + b[i];
}
static void add_backward(const OpCall *c) {
    const int64_t n = shape_count(c->shape);
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; c->dsrc[k] && i < n; i++) c->dsrc[k][i] += c->ddst[i];
}

const OpDef op_add = {
    .name = "add", .infer = add_infer, .forward = add_forward, .backward = add_backward};
