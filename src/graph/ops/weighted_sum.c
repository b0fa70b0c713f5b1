/* weighted_sum.c - scalars to one scalar: the total of the loss terms. A term of weight 0 adds nothing,
 * not even its NaN. */
#include "graph/ops/op_util.h"

static Err weighted_sum_infer(const OpSite *s, Shape *dst) {
    CHECK(((const WeightedSumAttr *)s->attr)->n == s->n_src);
    for (int k = 0; k < s->n_src; k++)
        if (shape_count(s->src[k]) != 1)
            return err_set(E(EXIT_MODEL, 0),
                           "weighted_sum: term %d has shape %s; it must be a scalar", k,
                           shape_text(s->src[k]).s);
    *dst = (Shape){0};
    return OK;
}
static void weighted_sum_forward(const OpCall *c) {
    const WeightedSumAttr *a = c->attr;
    double sum = 0;
    for (int k = 0; k < a->n; k++)
        if (a->weight[k] != 0) sum += (double)a->weight[k] * *(const float *)c->src[k];
    *c->dst = (float)sum;
}
static void weighted_sum_backward(const OpCall *c) {
    const WeightedSumAttr *a = c->attr;
    for (int k = 0; k < a->n; k++)
        if (c->dsrc[k]) *c->dsrc[k] += a->weight[k] * *c->ddst;
}

const OpDef op_weighted_sum = {.name = "weighted_sum", .infer = weighted_sum_infer,
                               .forward = weighted_sum_forward, .backward = weighted_sum_backward};
