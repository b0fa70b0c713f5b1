/* rows_simd.c - see rows.h. Loops that the compiler turns into vectors, but for exp. */
#include "distill/rows.h"

#include "base/cpu.h"
#include "distill/vec.h"

enum { STRETCH = 512 };                          /* floats summed in float before double takes over */
static inline int64_t stretch(int64_t i, int64_t n) { return n - i < STRETCH ? n - i : STRETCH; }

static double row_sum(const float *a, int64_t n) {
    double total = 0;
    for (int64_t i = 0; i < n; i += STRETCH) {
        const int64_t m = stretch(i, n);
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t k = 0; k < m; k++) s += a[i + k];
        total += (double)s;
    }
    return total;
}
static double row_dot(const float *a, const float *b, int64_t n) {
    double total = 0;
    for (int64_t i = 0; i < n; i += STRETCH) {
        const int64_t m = stretch(i, n);
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t k = 0; k < m; k++) s += a[i + k] * b[i + k];
        total += (double)s;
    }
    return total;
}
static void row_scale_add(float *restrict y, float s, const float *restrict x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] += s * x[i];
}
static void row_mul_add(float *restrict y, float s, const float *a, const float *b, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] += s * a[i] * b[i];
}
static void row_sub(float *restrict y, const float *restrict a, const float *restrict b,
                    int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = a[i] - b[i];
}

static float row_max(const float *x, const float *mask, int64_t n) {
    vf max = v_set(-INFINITY);
    for (int64_t i = 0; i < n; i += VL) {
        const int part = n - i < VL ? (int)(n - i) : VL;
        float lane[VL];
        vf v = v_load_part(x + i, part);
        if (mask) v = v_sel(v_nonzero(v_load_part(mask + i, part)), v, v_set(-INFINITY));
        if (part < VL) {                                 /* the lanes beyond the end hold 0 */
            v_store(lane, v);
            for (int k = part; k < VL; k++) lane[k] = -INFINITY;
            v = v_load(lane);
        }
        max = v_max(v, max);                             /* NaN is passed over here and kept by exp */
    }
    float lane[VL], best = -INFINITY;
    v_store(lane, max);
    for (int k = 0; k < VL; k++) best = lane[k] > best ? lane[k] : best;
    return best;
}
static RowSum row_softmax(float *p, const float *x, float scale, const float *mask, int64_t n) {
    const float max = row_max(x, mask, n);
    double total = 0;
    if (max == -INFINITY) {
        for (int64_t i = 0; i < n; i++) p[i] = 0;
        return (RowSum){-INFINITY, max};
    }
    for (int64_t i = 0; i < n; i += STRETCH) {
        const int64_t m = stretch(i, n);
        vf s = v_set(0);
        for (int64_t k = 0; k < m; k += VL) {
            const int part = m - k < VL ? (int)(m - k) : VL;
            vf e = v_exp((v_load_part(x + i + k, part) - v_set(max)) * v_set(scale));
            if (mask) e = v_sel(v_nonzero(v_load_part(mask + i + k, part)), e, v_set(0));
            if (part < VL) {
                v_store_part(p + i + k, e, part);
                e = v_load_part(p + i + k, part);
            } else v_store(p + i + k, e);
            s = s + e;
        }
        total += (double)v_sum(s);
    }
    const float inverse = (float)(1 / total);
    for (int64_t i = 0; i < n; i++) p[i] *= inverse;
    return (RowSum){log(total), max};
}
/* With r = log q - log p, p (e^r - 1 - r) summed is the divergence, each summand its own small number. */
static double row_kl(const float *p, float *q, const float *x, const float *y, float scale,
                     const RowSum of[2], int64_t n) {
    const vf near = v_set(0.34f), top_x = v_set(of[0].top), top_y = v_set(of[1].top),
             shift = v_set((float)(of[0].log - of[1].log));
    double total = 0;
    for (int64_t i = 0; i < n; i += STRETCH) {
        const int64_t m = stretch(i, n);
        vf s = v_set(0);
        for (int64_t k = 0; k < m; k += VL) {
            const int64_t at = i + k;
            const int part = m - k < VL ? (int)(m - k) : VL;
            const vf pp = v_load_part(p + at, part), pq = v_load_part(q + at, part);
            const vf down_x = v_load_part(x + at, part) - top_x,
                     down_y = v_load_part(y + at, part) - top_y;
            const vf r = (down_y - down_x) * v_set(scale) + shift;
            const vm close = vm_and(v_not_above(r, near), v_not_above(v_set(0) - near, r));
            const vf rest = pp * v_exp_rest(v_sel(close, r, v_set(0)));
            const vf value = v_sel(close, rest, pq - pp - pp * r),
                     d = v_sel(close, rest + pp * r, pq - pp);
            const vm in = v_nonzero(pp + pq);            /* masked, or beyond the end: both 0 */
            s = s + v_sel(in, value, v_set(0));
            v_store_part(q + at, v_sel(in, d, v_set(0)), part);
        }
        total += (double)v_sum(s);
    }
    return total;
}

/* e = exp(x - max) and e - 1, each with its digits; d follows from the latter. */
static void channel_softmax(float *p, float *d, const float *x, float scale, int channels,
                            int64_t stride, int64_t n) {
    for (int64_t i = 0; i < n; i += VL) {
        const int part = n - i < VL ? (int)(n - i) : VL;
        vf max = v_set(-INFINITY), sum = v_set(0), less = v_set(0);
        for (int c = 0; c < channels; c++) max = v_max(v_load_part(x + c * stride + i, part), max);
        for (int c = 0; c < channels; c++) {
            const int64_t at = c * stride + i;
            vf q, two_n = v_exp_split((v_load_part(x + at, part) - max) * v_set(scale), &q);
            const vf e = (q + v_set(1)) * two_n, e1 = q * two_n + (two_n - v_set(1));
            sum = sum + e, less = less + e1;
            v_store_part(p + at, e, part);
            v_store_part(d + at, e1, part);
        }
        const vf inverse = v_set(1) / sum, mean = less * v_set(1 / (float)channels);
        for (int c = 0; c < channels; c++) {
            const int64_t at = c * stride + i;
            v_store_part(p + at, v_load_part(p + at, part) * inverse, part);
            v_store_part(d + at, (v_load_part(d + at, part) - mean) * inverse, part);
        }
    }
}

extern const Rows SIMD(rows);
const Rows SIMD(rows) = {row_sum, row_dot,     row_scale_add, row_mul_add,
                         row_sub, row_softmax, row_kl,        channel_softmax};
