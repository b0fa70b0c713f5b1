/* pad.c - more elements before and behind each dimension: a number, the mirrored inside without its edge
 * (reflect), or the edge again. Negative padding cuts. One row of dst at a time. */
#include "graph/ops/op_util.h"
#include "graph/ops/strides.h"

static Err pad_infer(const OpSite *s, Shape *dst) {
    const PadAttr *a = s->attr;
    *dst = s->src[0];
    for (int i = 0; i < dst->rank; i++) {
        const int64_t n = dst->d[i], most = a->before[i] > a->after[i] ? a->before[i] : a->after[i];
        dst->d[i] = n + a->before[i] + a->after[i];
        if (dst->d[i] < 1 || n < 1 || (a->mode == PAD_REFLECT && most >= n))
            return err_set(E(EXIT_MODEL, 0),
                           "pad: %" PRId64 " and %" PRId64 " on dimension %d of %s", a->before[i],
                           a->after[i], i, shape_text(s->src[0]).s);
    }
    return OK;
}
/* Where element i of a padded side comes from; -1: from nowhere. */
static int64_t origin(PadMode mode, int64_t i, int64_t n) {
    if (i >= 0 && i < n) return i;
    if (mode == PAD_CONSTANT) return -1;
    if (mode == PAD_EDGE) return i < 0 ? 0 : n - 1;
    return i < 0 ? -i : 2 * (n - 1) - i;
}
/* Offset in src of row number `row` of dst, its first column left out; -1: the row is padding. */
static int64_t origin_row(const OpCall *c, int64_t row) {
    const PadAttr *a = c->attr;
    const Shape s = c->shape, x = c->src_shape[0];
    const Strides own = strides_of(x);
    int64_t at = 0;
    for (int k = s.rank - 2; k >= 0; k--) {
        const int64_t from = origin(a->mode, row % s.d[k] - a->before[k], x.d[k]);
        if (from < 0) return -1;
        at += from * own.v[k];
        row /= s.d[k];
    }
    return at;
}
static int64_t origin_column(const OpCall *c, int64_t k) {
    const PadAttr *a = c->attr;
    const int last = c->shape.rank - 1;
    return origin(a->mode, k - a->before[last], c->src_shape[0].d[last]);
}
static void forward_row(void *arg, int64_t i) {
    const OpCall *c = arg;
    const int64_t n = row_length(c->shape), at = origin_row(c, i);
    float *dst = c->dst + i * n;
    for (int64_t k = 0; k < n; k++) {
        const int64_t from = at < 0 ? -1 : origin_column(c, k);
        dst[k] =
            from < 0 ? ((const PadAttr *)c->attr)->value : ((const float *)c->src[0])[at + from];
    }
}
static void pad_forward(const OpCall *c) {
    parallel_for(row_count(c->shape), forward_row, (void *)c);
}

/* Several rows may come from one: all in one thread, in the order of dst. */
static void pad_backward(const OpCall *c) {
    const int64_t n = row_length(c->shape);
    for (int64_t i = 0; c->dsrc[0] && i < row_count(c->shape); i++) {
        const int64_t at = origin_row(c, i);
        for (int64_t k = 0; at >= 0 && k < n; k++) {
            const int64_t from = origin_column(c, k);
            if (from >= 0) c->dsrc[0][at + from] += c->ddst[i * n + k];
        }
    }
}

const OpDef op_pad = {
    .name = "pad", .infer = pad_infer, .forward = pad_forward, .backward = pad_backward};
