/* gate.c - dst = x sigmoid(s), one gate per sample and channel: x N x C x any, s N x C x 1 x 1.
 * The attention of LR-ASPP (Howard et al., ICCV 2019) and of squeeze-and-excitation. */
#include "graph/ops/op_util.h"

static Err gate_infer(const OpSite *s, Shape *dst) {
    const Shape x = s->src[0], g = s->src[1];
    if (x.rank < 2 || g.rank < 2 || g.d[0] != x.d[0] || g.d[1] != x.d[1] || plane_count(g) != 1)
        return err_set(E(EXIT_MODEL, 0),
                       "gate: %s on %s; it must be one value per sample and channel",
                       shape_text(g).s, shape_text(x).s);
    return infer_same(s, dst);
}
static double sigmoid(double v) { return 1 / (1 + exp(-v)); }

static void gate_plane(void *arg, int64_t nc) {
    const OpCall *c = arg;
    const int64_t P = plane_count(c->shape);
    const float *src = (const float *)c->src[0] + nc * P;
    const float g = (float)sigmoid(((const float *)c->src[1])[nc]);
    for (int64_t i = 0; i < P; i++) c->dst[nc * P + i] = src[i] * g;
}
static void gate_forward(const OpCall *c) {
    parallel_for(c->shape.d[0] * c->shape.d[1], gate_plane, (void *)c);
}

static void gate_dplane(void *arg, int64_t nc) {
    const OpCall *c = arg;
    const int64_t P = plane_count(c->shape);
    const float *src = (const float *)c->src[0] + nc * P, *d = c->ddst + nc * P;
    const double g = sigmoid(((const float *)c->src[1])[nc]);
    double dot = 0;
    for (int64_t i = 0; i < P; i++) dot += (double)d[i] * src[i];
    for (int64_t i = 0; c->dsrc[0] && i < P; i++) c->dsrc[0][nc * P + i] += (float)(d[i] * g);
    if (c->dsrc[1]) c->dsrc[1][nc] += (float)(dot * g * (1 - g));
}
static void gate_backward(const OpCall *c) {
    parallel_for(c->shape.d[0] * c->shape.d[1], gate_dplane, (void *)c);
}

const OpDef op_gate = {.name = "gate", .keep = KEEP_SRC0 | KEEP_SRC1, .infer = gate_infer,
                       .forward = gate_forward, .backward = gate_backward};
