/* concat.c - several inputs, one behind the other along the channels (dimension 1). */
#include "graph/ops/op_util.h"

static Err concat_infer(const OpSite *s, Shape *dst) {
    Shape out = s->src[0];
    for (int k = 1; k < s->n_src; k++) {
        Shape same = s->src[k];
        if (same.rank >= 2 && out.rank >= 2) same.d[1] = out.d[1];
        if (out.rank < 2 || !shape_equal(same, out))
            return err_set(E(EXIT_MODEL, 0), "concat: shapes %s and %s differ outside the channels",
                           shape_text(s->src[0]).s, shape_text(s->src[k]).s);
        out.d[1] += s->src[k].d[1];
    }
    *dst = out;
    return OK;
}
static void concat_forward(const OpCall *c) {
    const int64_t P = plane_count(c->shape), N = c->shape.d[0];
    float *out = c->dst;
    for (int64_t n = 0; n < N; n++)
        for (int k = 0; k < c->n_src; k++) {
            const int64_t count = c->src_shape[k].d[1] * P;
            memcpy(out, (const float *)c->src[k] + n * count, (size_t)count * sizeof *out);
            out += count;
        }
}
static void concat_backward(const OpCall *c) {
    const int64_t P = plane_count(c->shape), N = c->shape.d[0];
    const float *d = c->ddst;
    for (int64_t n = 0; n < N; n++)
        for (int k = 0; k < c->n_src; k++) {
            const int64_t count = c->src_shape[k].d[1] * P;
            for (int64_t i = 0; c->dsrc[k] && i < count; i++) c->dsrc[k][n * count + i] += d[i];
            d += count;
        }
}

const OpDef op_concat = {.name = "concat", .infer = concat_infer,
                         .forward = concat_forward, .backward = concat_backward};
