/* gather_channels.c - dst[n, k] = src[n, index[k]]: channels in another order, some left out, some
 * twice. src N x C x any. Lines up a teacher's classes with a student's. */
#include "graph/ops/op_util.h"

static Err gather_infer(const OpSite *s, Shape *dst) {
    const GatherAttr *a = s->attr;
    *dst = s->src[0];
    if (dst->rank < 2 || a->n < 1)
        return err_set(E(EXIT_MODEL, 0), "gather_channels: %d channels of %s", a->n,
                       shape_text(*dst).s);
    for (int k = 0; k < a->n; k++)
        if (a->index[k] < 0 || a->index[k] >= dst->d[1])
            return err_set(E(EXIT_MODEL, 0), "gather_channels: channel %d of %s", a->index[k],
                           shape_text(*dst).s);
    dst->d[1] = a->n;
    return OK;
}
/* The source channel's first element for plane nk of dst. */
static int64_t source_of(const OpCall *c, int64_t nk) {
    const GatherAttr *a = c->attr;
    return (nk / a->n * c->src_shape[0].d[1] + a->index[nk % a->n]) * plane_count(c->shape);
}
static void gather_forward(const OpCall *c) {
    const int64_t planes = c->shape.d[0] * c->shape.d[1], P = plane_count(c->shape);
    for (int64_t nk = 0; nk < planes; nk++)
        memcpy(c->dst + nk * P, (const float *)c->src[0] + source_of(c, nk),
               (size_t)P * sizeof(float));
}
static void gather_backward(const OpCall *c) {
    const int64_t planes = c->shape.d[0] * c->shape.d[1], P = plane_count(c->shape);
    for (int64_t nk = 0; c->dsrc[0] && nk < planes; nk++) {
        float *d = c->dsrc[0] + source_of(c, nk);
        for (int64_t i = 0; i < P; i++) d[i] += c->ddst[nk * P + i];
    }
}

const OpDef op_gather_channels = {.name = "gather_channels", .infer = gather_infer,
                                  .forward = gather_forward, .backward = gather_backward};
