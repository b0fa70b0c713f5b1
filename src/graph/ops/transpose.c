/* transpose.c - dimensions in another order: dst.d[i] = src.d[perm[i]]. */
#include "graph/ops/op_util.h"
#include "graph/ops/strides.h"

static Err transpose_infer(const OpSite *s, Shape *dst) {
    const TransposeAttr *a = s->attr;
    const Shape x = s->src[0];
    unsigned seen = 0;
    dst->rank = x.rank;
    for (int i = 0; i < x.rank; i++) {
        if (a->perm[i] < 0 || a->perm[i] >= x.rank || seen >> a->perm[i] & 1)
            return err_set(E(EXIT_MODEL, 0), "transpose: no permutation of the dimensions of %s",
                           shape_text(x).s);
        seen |= 1u << a->perm[i];
        dst->d[i] = x.d[a->perm[i]];
    }
    return OK;
}
static Strides permuted(const OpCall *c) {
    const Strides own = strides_of(c->src_shape[0]);
    Strides s = {{0}};
    for (int i = 0; i < c->shape.rank; i++)
        s.v[i] = own.v[((const TransposeAttr *)c->attr)->perm[i]];
    return s;
}
static void forward_row(void *arg, int64_t i) {
    const OpCall *c = arg;
    const Strides s = permuted(c);
    const int64_t n = row_length(c->shape), step = row_step(c->shape, &s);
    const float *src = (const float *)c->src[0] + strides_row(c->shape, &s, i);
    float *dst = c->dst + i * n;
    if (step == 1) memcpy(dst, src, (size_t)n * sizeof(float));
    else for (int64_t k = 0; k < n; k++) dst[k] = src[k * step];
}
static void backward_row(void *arg, int64_t i) {
    const OpCall *c = arg;
    const Strides s = permuted(c);
    const int64_t n = row_length(c->shape), step = row_step(c->shape, &s);
    float *dsrc = c->dsrc[0] + strides_row(c->shape, &s, i);
    for (int64_t k = 0; k < n; k++) dsrc[k * step] += c->ddst[i * n + k];
}
static void transpose_forward(const OpCall *c) {
    parallel_for(row_count(c->shape), forward_row, (void *)c);
}
static void transpose_backward(const OpCall *c) {
    if (c->dsrc[0]) parallel_for(row_count(c->shape), backward_row, (void *)c);
}

const OpDef op_transpose = {.name = "transpose",
                            .infer = transpose_infer,
                            .forward = transpose_forward,
                            .backward = transpose_backward};
