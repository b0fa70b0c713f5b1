/* rows.h - arithmetic on rows of n floats, compiled once per instruction set (rows_simd.c).
 *
 * Sums are of short stretches in float, then in double, in a fixed order. */
#ifndef RETORT_DISTILL_ROWS_H
#define RETORT_DISTILL_ROWS_H
#include <stdint.h>

/* log(sum of exp(scale x)) of a row is log + scale top, kept apart for its digits' sake: top is the largest x. */
typedef struct RowSum { double log; float top; } RowSum;
typedef struct Rows {
    double (*sum)(const float *a, int64_t n);
    double (*dot)(const float *a, const float *b, int64_t n);
    void   (*scale_add)(float *y, float s, const float *x, int64_t n);             /* y += s x */
    void   (*mul_add)(float *y, float s, const float *a, const float *b, int64_t n);   /* y += s a b */
    void   (*sub)(float *y, const float *a, const float *b, int64_t n);            /* y = a - b */
    /* p = softmax(scale x), 0 where mask is (NULL: nowhere); log -inf: all masked. */
    RowSum (*softmax)(float *p, const float *x, float scale, const float *mask, int64_t n);
    /* Two rows of logits x, y at a scale with their sums: p and q hold their softmaxes; returns KL(p || q), and leaves
     * q - p in q. Written so that rows next to each other keep their digits. */
    double (*kl)(const float *p, float *q, const float *x, const float *y, float scale, const RowSum of[2], int64_t n);
    /* p = softmax(scale x) over channels that lie `stride` apart, of n positions side by side, and d = p - 1 / channels,
     * whose digits are its own however flat p is. */
    void   (*channel_softmax)(float *p, float *d, const float *x, float scale, int channels, int64_t stride, int64_t n);
} Rows;
const Rows *rows(void);                          /* of cpu_level() */
#endif
