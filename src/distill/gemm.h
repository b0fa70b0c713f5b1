/* gemm.h - products of small panels for the relational terms, compiled once per instruction set (gemm_simd.c).
 *
 * A panel is a matrix with rows of PANEL floats that follow each other: 64 positions of a map with C channels is
 * C x PANEL, so both what is compared and what is accumulated lie in one stretch of memory. */
#ifndef RETORT_DISTILL_GEMM_H
#define RETORT_DISTILL_GEMM_H
#include <stdbool.h>
#include <stdint.h>

enum { PANEL = 64, PANEL_ROWS = 8 };             /* rows of results come in multiples of PANEL_ROWS */

typedef struct Gemm {
    /* out[m][n] (+)= sum over k < K of A(m, k) b[k][n], n < PANEL, m < M. A(m, k) = a[m * step_m + k * step_k];
     * b: K x PANEL, out: M x PANEL; M a multiple of PANEL_ROWS. */
    void (*panel)(int M, int K, const float *a, int step_m, int step_k, const float *b, float *out, bool add);
    /* Tiles of PANEL x PANEL similarities of a student and a teacher, of which rows x cols count. */
    double (*differ)(float *s, const float *t);  /* s -= t; returns the sum of its squares */
    /* With e = exp(scale (x - 1)): sums of e_s, e_t and e_t scale (t - s) of each row and each column. */
    void (*sums)(const float *s, const float *t, float scale, int rows, int cols, float row[3][PANEL], float col[3][PANEL]);
    /* s = e_s (row_s + col_s) - e_t (row_t + col_t); 0 where nothing counts. */
    void (*pull)(float *s, const float *t, float scale, int rows, int cols, const float row[2][PANEL], const float col[2][PANEL]);
    void (*transpose)(float *out, const float *tile);
    /* Half precision, round to nearest even, |x| < 65504. */
    void (*to_half)(uint16_t *h, const float *x, int64_t n);
    void (*from_half)(float *x, const uint16_t *h, int64_t n);
} Gemm;
const Gemm *gemm(void);                          /* of cpu_level() */
#endif
