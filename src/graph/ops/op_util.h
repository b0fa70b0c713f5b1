/* op_util.h - what the op files share: plane arithmetic, activations, shape refusals. */
#ifndef RETORT_GRAPH_OP_UTIL_H
#define RETORT_GRAPH_OP_UTIL_H
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "graph/op.h"

/* Elements of one channel of one sample: the product of all dimensions behind N and C. */
static inline int64_t plane_count(Shape s) {
    int64_t n = 1;
    for (int i = 2; i < s.rank; i++) n *= s.d[i];
    return n;
}
static inline double act_apply(Act act, double v) {
    if (act != ACT_NONE && v < 0) return 0;
    return act == ACT_RELU6 && v > 6 ? 6 : v;
}
/* Does the gradient pass, given the activation's result? PyTorch: zero on both edges. */
static inline bool act_passes(Act act, float dst) {
    return act == ACT_NONE || (dst > 0 && (act == ACT_RELU || dst < 6));
}
static inline Err infer_same(const OpSite *s, Shape *dst) {
    *dst = s->src[0];
    return OK;
}
static inline Err want_rank4(const OpSite *s, const char *op) {
    if (s->src[0].rank == 4) return OK;
    return err_set(E(EXIT_MODEL, 0), "%s: input of shape %s; it must be N x C x H x W", op, shape_text(s->src[0]).s);
}
#endif
