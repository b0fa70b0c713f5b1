/* slice.c - a part of a tensor: dst[i] = src[start + i step], per dimension; steps may be negative. */
#include "graph/ops/op_util.h"
#include "graph/ops/strides.h"

static Err slice_infer(const OpSite *s, Shape *dst) {
    const SliceAttr *a = s->attr;
    const Shape x = s->src[0];
    for (int i = 0; i < x.rank; i++) {
        const int64_t last = a->start[i] + (a->shape.d[i] - 1) * a->step[i];
        const bool inside = a->start[i] >= 0 && a->start[i] < x.d[i] && last >= 0 && last < x.d[i];
        if (a->shape.rank != x.rank || a->shape.d[i] < 1 || !inside)
            return err_set(E(EXIT_MODEL, 0), "slice: %s out of %s, dimension %d",
                           shape_text(a->shape).s, shape_text(x).s, i);
    }
    *dst = a->shape;
    return OK;
}

typedef struct { const OpCall *c; Strides s; int64_t base; } Job;
static Job job_of(const OpCall *c) {
    const SliceAttr *a = c->attr;
    Job j = {c, strides_of(c->src_shape[0]), 0};
    for (int i = 0; i < c->shape.rank; i++)
        j.base += a->start[i] * j.s.v[i], j.s.v[i] *= a->step[i];
    return j;
}
static void forward_row(void *arg, int64_t i) {
    const Job *j = arg;
    const int64_t n = row_length(j->c->shape), step = row_step(j->c->shape, &j->s);
    const float *src = (const float *)j->c->src[0] + j->base + strides_row(j->c->shape, &j->s, i);
    float *dst = j->c->dst + i * n;
    if (step == 1) memcpy(dst, src, (size_t)n * sizeof *dst);
    else for (int64_t k = 0; k < n; k++) dst[k] = src[k * step];
}
static void backward_row(void *arg, int64_t i) {
    const Job *j = arg;
    const int64_t n = row_length(j->c->shape), step = row_step(j->c->shape, &j->s);
    float *dsrc = j->c->dsrc[0] + j->base + strides_row(j->c->shape, &j->s, i);
    for (int64_t k = 0; k < n; k++) dsrc[k * step] += j->c->ddst[i * n + k];
}
static void slice_forward(const OpCall *c) {
    Job j = job_of(c);
    parallel_for(row_count(c->shape), forward_row, &j);
}
static void slice_backward(const OpCall *c) {
    Job j = job_of(c);
    if (c->dsrc[0]) parallel_for(row_count(c->shape), backward_row, &j);
}

const OpDef op_slice = {.name = "slice", .infer = slice_infer,
                        .forward = slice_forward, .backward = slice_backward};
