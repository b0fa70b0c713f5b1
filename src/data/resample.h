/* resample.h - taps of a one-dimensional linear interpolation, and the loops over them. */
#ifndef RETORT_DATA_RESAMPLE_H
#define RETORT_DATA_RESAMPLE_H
#include <stdint.h>
enum { TAP_BITS = 11, TAP_ONE = 1 << TAP_BITS };      /* OpenCV's precision for bytes */
/* value = (lo * (2048 - weight) + hi * weight) / 2048; lo, hi, nearest: pixel numbers */
typedef struct Tap { int32_t lo, hi, weight, nearest; } Tap;
typedef struct Resampler {
    void (*row)(int32_t *restrict dst, const uint8_t *restrict src, const Tap *restrict tap,
                int n_px);
    void (*blend)(uint8_t *restrict dst, const int32_t *restrict a, const int32_t *restrict b,
                  int weight, int n);
    void (*labels)(int32_t *restrict dst, const uint8_t *restrict src, const Tap *restrict tap,
                   int n);
} Resampler;
#define RESAMPLER(level) \
    void resample_row##level(int32_t *restrict, const uint8_t *restrict, const Tap *restrict, int);\
    void resample_blend##level(uint8_t *restrict, const int32_t *restrict, const int32_t *restrict,\
                               int, int);                                                         \
    void resample_labels##level(int32_t *restrict, const uint8_t *restrict, const Tap *restrict,   \
                                int);
RESAMPLER(_plain) RESAMPLER(_avx2) RESAMPLER(_avx512)
#undef RESAMPLER
#endif
