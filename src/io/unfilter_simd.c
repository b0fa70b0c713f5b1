/* unfilter_simd.c - see unfilter.h. What a byte adds depends on the pixel before it: five pixels are summed at a
 * time (Sub), or the three channels of one (Paeth). */
#include "io/unfilter.h"

#include <stdlib.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "base/cpu.h"

enum { STEP_MAX = 3 };

/* ---- Sub: plus the pixel to the left -------------------------------------------------------------- */
static inline void sub_from(uint8_t *dst, const uint8_t *src, size_t at, size_t n, size_t step) {
    uint8_t left[STEP_MAX] = {0};
    if (at) memcpy(left, dst + at - step, step);
    for (size_t i = at; i < n; i += step)
        for (size_t k = 0; k < step; k++) dst[i + k] = left[k] = (uint8_t)(src[i + k] + left[k]);
}
#ifdef __AVX2__
/* Reads and writes a byte more than it fills. Returns where it stopped. */
static size_t sub_fives(uint8_t *dst, const uint8_t *src, size_t n) {
    const __m128i last = _mm_setr_epi8(12, 13, 14, 12, 13, 14, 12, 13, 14, 12, 13, 14, 12, 13, 14, -1);
    __m128i before = _mm_setzero_si128();
    size_t at = 0;
    for (; at + 16 <= n; at += 15) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(src + at));
        x = _mm_add_epi8(x, _mm_slli_si128(x, 3));
        x = _mm_add_epi8(x, _mm_slli_si128(x, 6));
        x = _mm_add_epi8(_mm_add_epi8(x, _mm_slli_si128(x, 12)), before);
        _mm_storeu_si128((__m128i *)(void *)(dst + at), x);
        before = _mm_shuffle_epi8(x, last);
    }
    return at;
}
#endif
static void undo_sub(uint8_t *dst, const uint8_t *src, size_t n, size_t step) {
    size_t at = 0;
#ifdef __AVX2__
    if (step == 3) at = sub_fives(dst, src, n);
#endif
    if (step == 3) sub_from(dst, src, at, n, 3);
    else sub_from(dst, src, at, n, 1);
}

/* ---- Up, Average ---------------------------------------------------------------------------------- */
static void undo_up(uint8_t *restrict dst, const uint8_t *restrict src,
                    const uint8_t *restrict up, size_t n) {
    for (size_t i = 0; i < n; i++) dst[i] = (uint8_t)(src[i] + up[i]);
}
static inline void undo_average(uint8_t *dst, const uint8_t *src, const uint8_t *up, size_t n,
                                size_t step) {
    uint8_t left[STEP_MAX] = {0};
    for (size_t i = 0; i < n; i += step)
        for (size_t k = 0; k < step; k++)
            dst[i + k] = left[k] = (uint8_t)(src[i + k] + (left[k] + up[i + k]) / 2);
}

/* ---- Paeth: of left, upper and their corner the one nearest to left + upper - corner --------------- */
static inline int paeth(int left, int up, int corner) {
    const int by_left = abs(up - corner), by_up = abs(left - corner),
              by_corner = abs(left + up - 2 * corner);
    const int other = by_up <= by_corner ? up : corner;
    return by_left <= by_up && by_left <= by_corner ? left : other;
}
static inline void undo_paeth(uint8_t *dst, const uint8_t *src, const uint8_t *up, size_t n,
                              size_t step) {
    int left[STEP_MAX] = {0}, corner[STEP_MAX] = {0};
    for (size_t i = 0; i < n; i += step)
        for (size_t k = 0; k < step; k++) {
            const int b = up[i + k];
            left[k] = (uint8_t)(src[i + k] + paeth(left[k], b, corner[k]));
            dst[i + k] = (uint8_t)left[k], corner[k] = b;
        }
}
#ifdef __AVX2__
static inline __m128i wide_pixel(const uint8_t *p) {     /* reads four bytes; channels in 16 bits */
    int v;
    memcpy(&v, p, sizeof v);
    return _mm_unpacklo_epi8(_mm_cvtsi32_si128(v), _mm_setzero_si128());
}
static void undo_paeth3(uint8_t *dst, const uint8_t *src, const uint8_t *up, size_t n) {
    const __m128i byte = _mm_set1_epi16(255);
    __m128i left = _mm_setzero_si128(), corner = left;
    for (size_t i = 0; i < n; i += 3) {
        const __m128i above = wide_pixel(up + i), p = _mm_sub_epi16(above, corner),
                      q = _mm_sub_epi16(left, corner), by_left = _mm_abs_epi16(p),
                      by_up = _mm_abs_epi16(q), by_corner = _mm_abs_epi16(_mm_add_epi16(p, q)),
                      least = _mm_min_epi16(by_corner, _mm_min_epi16(by_left, by_up)),
                      other = _mm_blendv_epi8(corner, above, _mm_cmpeq_epi16(least, by_up)),
                      nearest = _mm_blendv_epi8(other, left, _mm_cmpeq_epi16(least, by_left));
        left = _mm_and_si128(_mm_add_epi16(wide_pixel(src + i), nearest), byte);
        corner = above;
        const int v = _mm_cvtsi128_si32(_mm_packus_epi16(left, left));
        memcpy(dst + i, &v, 3);
    }
}
#endif

static void paeth_row(uint8_t *dst, const uint8_t *src, const uint8_t *up, size_t n, size_t step) {
#ifdef __AVX2__
    if (step == 3) { undo_paeth3(dst, src, up, n); return; }
#endif
    if (step == 3) undo_paeth(dst, src, up, n, 3);
    else undo_paeth(dst, src, up, n, 1);
}

bool SIMD(unfilter_row)(uint8_t *dst, const uint8_t *src, const uint8_t *up, size_t n, size_t step) {
    switch (*src++) {
    case 0: memcpy(dst, src, n); return true;
    case 1: undo_sub(dst, src, n, step); return true;
    case 2: undo_up(dst, src, up, n); return true;
    case 3:
        if (step == 3) undo_average(dst, src, up, n, 3);
        else undo_average(dst, src, up, n, 1);
        return true;
    case 4: paeth_row(dst, src, up, n, step); return true;
    }
    return false;
}
