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
    /* e = exp(scale (x - top)) of n floats; returns nothing. n a multiple of 16. */
    void (*exp_of)(float *e, const float *x, float scale, float top, int n);
    /* Half precision, round to nearest even, |x| < 65504. */
    void (*to_half)(uint16_t *h, const float *x, int64_t n);
    void (*from_half)(float *x, const uint16_t *h, int64_t n);
} Gemm;
const Gemm *gemm(void);                          /* of cpu_level() */
#endif
