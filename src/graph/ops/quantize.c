/* quantize.c - what 8-bit arithmetic makes of a value: dst = (q - zero) scale, q = round(x / scale) + zero held
 * inside lo .. hi, halves to even. For inference: a step function has no gradient to train with. */
#include "graph/ops/op_util.h"

enum { PIECE = 1 << 14 };

static Err quantize_infer(const OpSite *s, Shape *dst) {
    const QuantizeAttr *a = s->attr;
    if (!(a->scale > 0) || a->lo > a->zero || a->zero > a->hi)
        return err_set(E(EXIT_MODEL, 0), "quantize: scale %g, zero point %d of %d..%d",
                       (double)a->scale, a->zero, a->lo, a->hi);
    return infer_same(s, dst);
}
static void quantize_piece(void *arg, int64_t i) {
    const OpCall *c = arg;
    const QuantizeAttr a = *(const QuantizeAttr *)c->attr;
    const int64_t n = shape_count(c->shape), begin = i * PIECE,
                  end = n - begin < PIECE ? n : begin + PIECE;
    const float lo = (float)(a.lo - a.zero), hi = (float)(a.hi - a.zero), *x = c->src[0];
    for (int64_t k = begin; k < end; k++) {
        const float q = rintf(x[k] / a.scale);
        c->dst[k] = (q < lo ? lo : q > hi ? hi : q) * a.scale;
    }
}
static void quantize_forward(const OpCall *c) {
    parallel_for((shape_count(c->shape) + PIECE - 1) / PIECE, quantize_piece, (void *)c);
}

const OpDef op_quantize = {
    .name = "quantize", .infer = quantize_infer, .forward = quantize_forward};
