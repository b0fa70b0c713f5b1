/* gemm_simd.c - see gemm.h. Results of MR rows and two vectors of columns stay in registers while K runs. */
#include "distill/gemm.h"

#include <string.h>

#include "base/cpu.h"
#include "distill/vec.h"

enum { MR = VL == 16 ? 8 : 4, NR = 2 * VL };     /* 16 accumulators of 32 registers, or 8 of 16 */
_Static_assert(PANEL_ROWS % MR == 0 && PANEL % NR == 0, "panels are whole blocks");

static inline void block(int K, const float *a, int step_m, int step_k, const float *b, float *out,
                         bool add) {
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
static void panel(int M, int K, const float *a, int step_m, int step_k, const float *b, float *out,
                  bool add) {
    for (int n = 0; n < PANEL; n += NR)
        for (int m = 0; m < M; m += MR)
            block(K, a + (int64_t)m * step_m, step_m, step_k, b + n, out + m * PANEL + n, add);
}

static double differ(float *s, const float *t) {
    double total = 0;
    for (int i = 0; i < PANEL * PANEL; i += PANEL) {
        vf sum = v_set(0);
        for (int j = i; j < i + PANEL; j += VL) {
            const vf d = v_load(s + j) - v_load(t + j);
            v_store(s + j, d);
            sum = sum + d * d;
        }
        total += (double)v_sum(sum);
    }
    return total;
}
/* 1 in the columns that count; so many vectors hold any. */
static int column_mask(int cols, float mask[PANEL]) {
    for (int j = 0; j < PANEL; j++) mask[j] = j < cols;
    return (cols + VL - 1) / VL;
}
static void sums(const float *s, const float *t, float scale, int n_rows, int cols,
                 float row[3][PANEL], float col[3][PANEL]) {
    float mask[PANEL];
    const int vectors = column_mask(cols, mask);
    memset(col, 0, 3 * sizeof *col);
    for (int i = 0; i < n_rows; i++) {
        vf sum[3] = {v_set(0), v_set(0), v_set(0)};
        for (int v = 0; v < vectors; v++) {
            const int at = i * PANEL + v * VL;
            const vf x = v_load(s + at), y = v_load(t + at), in = v_load(mask + v * VL);
            const vf e[2] = {in * v_exp((x - v_set(1)) * v_set(scale)),
                             in * v_exp((y - v_set(1)) * v_set(scale))};
            const vf add[3] = {e[0], e[1], e[1] * (y - x) * v_set(scale)};
            for (int k = 0; k < 3; k++) {
                sum[k] = sum[k] + add[k];
                v_store(col[k] + v * VL, v_load(col[k] + v * VL) + add[k]);
            }
        }
        for (int k = 0; k < 3; k++) row[k][i] = v_sum(sum[k]);
    }
}
static void pull(float *s, const float *t, float scale, int n_rows, int cols,
                 const float row[2][PANEL], const float col[2][PANEL]) {
    float mask[PANEL];
    const int vectors = column_mask(cols, mask);
    memset(s + n_rows * PANEL, 0, sizeof(float) * (size_t)(PANEL - n_rows) * PANEL);
    for (int i = 0; i < n_rows; i++) {
        for (int v = 0; v < vectors; v++) {
            const int at = i * PANEL + v * VL;
            const vf in = v_load(mask + v * VL);
            const vf es = v_exp((v_load(s + at) - v_set(1)) * v_set(scale)),
                     et = v_exp((v_load(t + at) - v_set(1)) * v_set(scale));
            const vf d = es * (v_set(row[0][i]) + v_load(col[0] + v * VL)) -
                         et * (v_set(row[1][i]) + v_load(col[1] + v * VL));
            v_store(s + at, in * d);
        }
        for (int j = vectors * VL; j < PANEL; j++) s[i * PANEL + j] = 0;
    }
}
static void transpose(float *restrict out, const float *restrict tile) {
    for (int i = 0; i < PANEL; i += 8)
        for (int j = 0; j < PANEL; j++)
            for (int k = 0; k < 8; k++) out[j * PANEL + i + k] = tile[(i + k) * PANEL + j];
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
const Gemm SIMD(gemm) = {panel, differ, sums, pull, transpose, to_half, from_half};
