/* dropout.c - in training, zero each element with probability p and scale the rest by 1 / (1 - p).
 *
 * The mask is not stored: it is a function of (seed, node, global sample number, index within the
 * sample in plain C x H x W order), so batches, micro-batches and resumed runs draw the same one. */
#include "base/rng.h"
#include "graph/ops/op_util.h"

static Err dropout_infer(const OpSite *s, Shape *dst) {
    const float p = ((const DropoutAttr *)s->attr)->p;
    if (!(p >= 0 && p < 1))
        return err_set(E(EXIT_MODEL, 0), "dropout: probability %g; it must be in [0, 1)",
                       (double)p);
    if (s->src[0].rank < 1) return err_set(E(EXIT_MODEL, 0), "dropout: a scalar has no batch");
    return infer_same(s, dst);
}

typedef struct { const OpCall *call; const float *from; float *to; bool add; } DropoutJob;
/* One channel of one sample; rank 2 inputs have one-element channels. */
static void dropout_plane(void *arg, int64_t i) {
    const DropoutJob *j = arg;
    const OpCall *c = j->call;
    const float p = ((const DropoutAttr *)c->attr)->p, scale = 1 / (1 - p);
    const int64_t C = c->shape.rank > 1 ? c->shape.d[1] : 1, P = plane_count(c->shape);
    const Rng r = rng_stream(c->run->seed, RNG_DROPOUT, (uint64_t)c->node,
                             c->run->first_sample + (uint64_t)(i / C));
    const int64_t first = i % C * P;
    for (int64_t k = 0; k < P; k++) {
        float v = rng_uniform(&r, (uint64_t)(first + k)) >= p ? j->from[i * P + k] * scale : 0;
        j->to[i * P + k] = j->add ? j->to[i * P + k] + v : v;
    }
}
static void dropout_run(const OpCall *c, const float *from, float *to, bool add) {
    DropoutJob j = {c, from, to, add};
    const int64_t n = shape_count(c->shape);
    if (c->run->training && ((const DropoutAttr *)c->attr)->p > 0)
        parallel_for(n / plane_count(c->shape), dropout_plane, &j);
    else
        for (int64_t i = 0; i < n; i++) to[i] = add ? to[i] + from[i] : from[i];
}
static void dropout_forward(const OpCall *c) { dropout_run(c, c->src[0], c->dst, false); }
static void dropout_backward(const OpCall *c) {
    if (c->dsrc[0]) dropout_run(c, c->ddst, c->dsrc[0], true);
}

const OpDef op_dropout = {.name = "dropout", .infer = dropout_infer,
                          .forward = dropout_forward, .backward = dropout_backward};
