/* stretch_simd.c - weighted sums of rows and resizing along a row, in float32. */
#include "backend/cpu/lanes.h"

#define INLINE static inline __attribute__((always_inline))
/* Call BODY with a constant inner where there is one. */
#define BY_INNER(inner, body) \
    do { if ((inner) == 16) { body(16); } else if ((inner) == 8) { body(8); } else { body(inner); } } while (0)

static void SIMD(mix)(float *dst, const float *a, const float *b, float wa, float wb, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dst[i] = wa * a[i] + wb * b[i];
}
static void SIMD(axpy)(float *dst, const float *x, float w, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dst[i] += w * x[i];
}

INLINE void stretch_lanes(float *dst, const float *row, const FloatTap *t, int64_t out, int inner) {
    for (int64_t x = 0; x < out; x++, t++, dst += inner) {
        const float *a = row + (int64_t)t->at[0] * inner, *b = row + (int64_t)t->at[1] * inner;
        const float wa = t->w[0], wb = t->w[1];          /* of one tap: w[1] is 0 and at[1] 0 */
#pragma omp simd
        for (int c = 0; c < inner; c++) dst[c] = wa * a[c] + wb * b[c];
        for (int k = 2; k < t->n; k++)
            for (int c = 0; c < inner; c++) dst[c] += t->w[k] * row[(int64_t)t->at[k] * inner + c];
    }
}
static void SIMD(stretch)(float *dst, const float *row, const FloatTap *t, int64_t out, int inner) {
#define BODY(n) stretch_lanes(dst, row, t, out, n)
    if (inner == 1) { BODY(1); return; }
    BY_INNER(inner, BODY);
#undef BODY
}
INLINE void stretch_lanes_back(float *drow, const float *dy, const FloatTap *t, int64_t out, int inner) {
    for (int64_t x = 0; x < out; x++, t++, dy += inner)
        for (int k = 0; k < t->n; k++)
            for (int c = 0; c < inner; c++) drow[(int64_t)t->at[k] * inner + c] += t->w[k] * dy[c];
}
static void SIMD(stretch_backward)(float *drow, const float *dy, const FloatTap *t, int64_t out, int inner) {
#define BODY(n) stretch_lanes_back(drow, dy, t, out, n)
    if (inner == 1) { BODY(1); return; }
    BY_INNER(inner, BODY);
#undef BODY
}

const FloatKernels SIMD(float_lanes) = {SIMD(mix), SIMD(axpy), SIMD(stretch), SIMD(stretch_backward)};
