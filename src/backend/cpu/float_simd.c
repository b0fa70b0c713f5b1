/* float_simd.c - loops of kernels that work in float32 alone: weighted sums of rows, resizing along a row, PReLU,
 * means over windows. Compiled once per instruction set (base/cpu.h). */
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

/* ---- prelu ----------------------------------------------------------------------------------------------- */

INLINE void prelu_lanes(const BnRows *b, int inner, bool residual) {
    const float *restrict x = b->x, *restrict scale = b->scale, *restrict shift = b->shift, *restrict slope = b->slope, *res = b->residual;
    float *out = b->out;
    for (int64_t r = 0; r < b->rows; r++) {
        const int64_t at = r * inner;
#pragma omp simd
        for (int c = 0; c < inner; c++) {
            float v = x[at + c] * scale[c] + shift[c];
            if (residual) v += res[at + c];
            out[at + c] = v < 0.0f ? v * slope[c] : v;
        }
    }
}
INLINE void prelu_one(const BnRows *b, bool residual) {
    const float *x = b->x, *res = b->residual;
    const float scale = b->scale[0], shift = b->shift[0], slope = b->slope[0];
    float *out = b->out;
#pragma omp simd
    for (int64_t r = 0; r < b->rows; r++) {
        float v = x[r] * scale + shift;
        if (residual) v += res[r];
        out[r] = v < 0.0f ? v * slope : v;
    }
}
INLINE void prelu_by_inner(const BnRows *b, bool residual) {
    if (b->inner == 1) { prelu_one(b, residual); return; }
#define BODY(n) prelu_lanes(b, n, residual)
    BY_INNER(b->inner, BODY);
#undef BODY
}
static void SIMD(prelu)(const BnRows *b) {
    if (b->residual) prelu_by_inner(b, true);
    else prelu_by_inner(b, false);
}

/* ---- means over windows ------------------------------------------------------------------------------- */

INLINE void window_lanes(const WindowRow *w, int inner) {
    for (int64_t x = 0; x < w->out_w; x++) {
        const int64_t a = x * w->stride - w->pad, x0 = a < 0 ? 0 : a, x1 = a + w->kw < w->in_w ? a + w->kw : w->in_w;
        float *dst = w->dst + x * inner;
        for (int c = 0; c < inner; c++) dst[c] = 0;
        for (int64_t y = w->y0; y < w->y1; y++)
            for (int64_t i = x0; i < x1; i++) {
                const float *src = w->src + (y * w->in_w + i) * inner;
#pragma omp simd
                for (int c = 0; c < inner; c++) dst[c] += src[c];
            }
#pragma omp simd
        for (int c = 0; c < inner; c++) dst[c] *= w->scale[x];
    }
}
static void SIMD(window_sums)(const WindowRow *w) {
    if (w->inner == 1) { window_lanes(w, 1); return; }
#define BODY(n) window_lanes(w, n)
    BY_INNER(w->inner, BODY);
#undef BODY
}

const FloatKernels SIMD(float_lanes) = {SIMD(mix), SIMD(axpy), SIMD(prelu), SIMD(window_sums), SIMD(stretch), SIMD(stretch_backward)};
