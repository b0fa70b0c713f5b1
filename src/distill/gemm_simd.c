/* gemm_simd.c - see gemm.h. Results of MR rows and two vectors of columns stay in registers while K runs. */
#include "distill/gemm.h"

#include <string.h>

#include "base/cpu.h"
#include "distill/vec.h"

enum { MR = VL == 16 ? 8 : 4, NR = 2 * VL };     /* 16 accumulators of 32 registers, or 8 of 16 */
_Static_assert(PANEL_ROWS % MR == 0 && PANEL % NR == 0, "panels are whole blocks");

static inline void block(int K, const float *a, int step_m, int step_k, const float *b, float *out, bool add) {
    vf sum[MR][2];
    for (int m = 0; m < MR; m++)
        for (int j = 0; j < 2; j++) sum[m][j] = add ? v_load(out + m * PANEL + j * VL) : v_set(0);
    for (int k = 0; k < K; k++, b += PANEL, a += step_k) {
        const vf b0 = v_load(b), b1 = v_load(b + VL);
#pragma GCC unroll 8
        for (int m = 0; m < MR; m++) {
            const vf x = v_set(a[m * step_m]);
            sum[m][0] = sum[m][0] + x * b0;
            sum[m][1] = sum[m][1] + x * b1;
        }
    }
    for (int m = 0; m < MR; m++)
        for (int j = 0; j < 2; j++) v_store(out + m * PANEL + j * VL, sum[m][j]);
}
static void panel(int M, int K, const float *a, int step_m, int step_k, const float *b, float *out, bool add) {
    for (int n = 0; n < PANEL; n += NR)
        for (int m = 0; m < M; m += MR) block(K, a + (int64_t)m * step_m, step_m, step_k, b + n, out + m * PANEL + n, add);
}
static void exp_of(float *e, const float *x, float scale, float top, int n) {
    for (int i = 0; i < n; i += VL) v_store(e + i, v_exp((v_load(x + i) - v_set(top)) * v_set(scale)));
}

/* The bits of a half are those of a float 2^112 times smaller, shifted; the product rounds what is below normal. */
static void to_half(uint16_t *h, const float *x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float small = x[i] * 0x1p-112f;
        uint32_t bits;
        memcpy(&bits, &small, sizeof bits);
        const uint32_t magnitude = bits & 0x7fffffffu, even = magnitude >> 13 & 1;
        h[i] = (uint16_t)(bits >> 16 & 0x8000u) | (uint16_t)((magnitude + 0xfffu + even) >> 13);
    }
}
static void from_half(float *x, const uint16_t *h, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = (uint32_t)(h[i] & 0x7fffu) << 13 | (uint32_t)(h[i] & 0x8000u) << 16;
        float small;
        memcpy(&small, &bits, sizeof small);
        x[i] = small * 0x1p112f;
    }
}

extern const Gemm SIMD(gemm);
const Gemm SIMD(gemm) = {panel, exp_of, to_half, from_half};
