/* resample_simd.c - the inner loops of augment.c; integers only, so all variants give the same
 * bytes. */
#include "base/cpu.h"
#include "data/resample.h"

/* dst[n_px * 3] = one source row (RGB bytes) interpolated at the taps, 11 fractional bits;
 * overwrites. */
void SIMD(resample_row)(int32_t *restrict dst, const uint8_t *restrict src, const Tap *restrict tap,
                        int n_px) {
    for (int x = 0; x < n_px; x++) {
        const uint8_t *p = src + tap[x].lo * 3, *q = src + tap[x].hi * 3;
        int32_t w = tap[x].weight;
        for (int c = 0; c < 3; c++) dst[x * 3 + c] = p[c] * TAP_ONE + (q[c] - p[c]) * w;
    }
}

/* dst[n] = rows a and b (11 fractional bits) blended with weight/2048 of b, rounded to bytes;
 * overwrites. */
void SIMD(resample_blend)(uint8_t *restrict dst, const int32_t *restrict a,
                          const int32_t *restrict b, int weight, int n) {
    for (int i = 0; i < n; i++)
        dst[i] = (uint8_t)((a[i] * (TAP_ONE - weight) + b[i] * weight + (TAP_ONE * TAP_ONE / 2)) >>
                           (2 * TAP_BITS));
}

/* dst[n] = labels of one source row at the nearest taps, -1 for IGNORE_U8; overwrites. */
void SIMD(resample_labels)(int32_t *restrict dst, const uint8_t *restrict src,
                           const Tap *restrict tap, int n) {
    for (int x = 0; x < n; x++) {
        int32_t id = src[tap[x].nearest];
        dst[x] = id == 255 ? -1 : id;
    }
}
