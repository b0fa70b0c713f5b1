/* strides.h - walking one tensor in the order of another: the ops that broadcast, permute, cut and gather.
 *
 * A Walk visits the elements of `shape` in row-major order; at each, `at` is the offset that per-dimension
 * strides give in another tensor (stride 0: the dimension is broadcast). The innermost dimension is left to
 * the caller as a run of `run` elements `step` apart, so that its loop vectorises. */
#ifndef RETORT_GRAPH_STRIDES_H
#define RETORT_GRAPH_STRIDES_H
#include "graph/op.h"

typedef struct { int64_t v[RANK_MAX]; } Strides;

static inline Strides strides_of(Shape s) {              /* of a plain tensor */
    Strides out = {{0}};
    int64_t step = 1;
    for (int i = s.rank - 1; i >= 0; i--) out.v[i] = step, step *= s.d[i];
    return out;
}
/* Strides by which `src` is read for an index of `dst`, dimensions aligned at the right. */
static inline Strides strides_broadcast(Shape src, Shape dst) {
    const Strides own = strides_of(src);
    Strides out = {{0}};
    const int shift = dst.rank - src.rank;
    for (int i = 0; i < src.rank; i++) out.v[i + shift] = src.d[i] == 1 ? 0 : own.v[i];
    return out;
}
/* Offset of run number i, where runs are the rows (last dimension) of `shape`. */
static inline int64_t strides_row(Shape shape, const Strides *s, int64_t i) {
    int64_t at = 0;
    for (int k = shape.rank - 2; k >= 0; k--) {
        at += i % shape.d[k] * s->v[k];
        i /= shape.d[k];
    }
    return at;
}
static inline int64_t row_length(Shape s) { return s.rank ? s.d[s.rank - 1] : 1; }
static inline int64_t row_step(Shape s, const Strides *t) { return s.rank ? t->v[s.rank - 1] : 0; }
static inline int64_t row_count(Shape s) {
    const int64_t n = row_length(s);
    return n ? shape_count(s) / n : 0;
}
/* The shape two tensors broadcast to; false when they do not. */
static inline bool shape_broadcast(Shape a, Shape b, Shape *out) {
    const int rank = a.rank > b.rank ? a.rank : b.rank;
    *out = (Shape){.rank = rank};
    for (int i = 0; i < rank; i++) {
        const int64_t x = i < rank - a.rank ? 1 : a.d[i - rank + a.rank], y = i < rank - b.rank ? 1 : b.d[i - rank + b.rank];
        if (x != y && x != 1 && y != 1) return false;
        out->d[i] = x == 1 ? y : x;
    }
    return true;
}
#endif
