/* probe.h - an op that makes a scalar to differentiate: the sum of src * r, r fixed and pseudo-random. */
#ifndef RETORT_TEST_PROBE_H
#define RETORT_TEST_PROBE_H
#include "base/rng.h"
#include "graph/op.h"

static Err probe_infer(const OpSite *s, Shape *dst) { (void)s; return *dst = (Shape){0}, OK; }
static float probe_weight(int64_t i) {
    Rng r = rng_stream(3, RNG_METHOD, 0, 0);
    return rng_uniform(&r, (uint64_t)i) - 0.5f;
}
static void probe_forward(const OpCall *c) {
    double sum = 0;
    for (int64_t i = 0; i < shape_count(c->src_shape[0]); i++) sum += ((const float *)c->src[0])[i] * probe_weight(i);
    *c->dst = (float)sum;
}
static void probe_backward(const OpCall *c) {
    for (int64_t i = 0; i < shape_count(c->src_shape[0]); i++) c->dsrc[0][i] += c->ddst[0] * probe_weight(i);
}
static const OpDef op_probe = {.name = "probe", .infer = probe_infer, .forward = probe_forward, .backward = probe_backward};
#endif
