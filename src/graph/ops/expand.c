/* expand.c - repeats the dimensions of size 1, as numpy broadcasts: dst has attr's shape. */
#include "graph/ops/op_util.h"
#include "graph/ops/strides.h"

static Err expand_infer(const OpSite *s, Shape *dst) {
    const Shape want = ((const ExpandAttr *)s->attr)->shape;
    if (!shape_broadcast(s->src[0], want, dst) || !shape_equal(*dst, want))
        return err_set(E(EXIT_MODEL, 0), "expand: %s does not fill %s", shape_text(s->src[0]).s,
                       shape_text(want).s);
    return OK;
}
static void forward_row(void *arg, int64_t i) {
    const OpCall *c = arg;
    const Strides s = strides_broadcast(c->src_shape[0], c->shape);
    const int64_t n = row_length(c->shape), step = row_step(c->shape, &s);
    const float *src = (const float *)c->src[0] + strides_row(c->shape, &s, i);
    for (int64_t k = 0; k < n; k++) c->dst[i * n + k] = src[k * step];
}
static void expand_forward(const OpCall *c) {
    parallel_for(row_count(c->shape), forward_row, (void *)c);
}
/* Rows that share a source add in order. */
static void expand_backward(const OpCall *c) {
    const Strides s = strides_broadcast(c->src_shape[0], c->shape);
    const int64_t n = row_length(c->shape), step = row_step(c->shape, &s);
    for (int64_t i = 0; c->dsrc[0] && i < row_count(c->shape); i++) {
        float *dsrc = c->dsrc[0] + strides_row(c->shape, &s, i);
        for (int64_t k = 0; k < n; k++) dsrc[k * step] += c->ddst[i * n + k];
    }
}

const OpDef op_expand = {.name = "expand", .infer = expand_infer,
                         .forward = expand_forward, .backward = expand_backward};
