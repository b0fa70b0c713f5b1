/* pixels_simd.c - see pixels.h. */
#include "data/pixels.h"

#include "base/cpu.h"

enum { WEIGHT_BITS = 11, WEIGHT_ONE = 1 << WEIGHT_BITS };    /* of bilinear sampling, as in resample.h */

static inline int clamp(int v, int top) { return v < 0 ? 0 : v > top ? top : v; }

void SIMD(pixels_places)(uint8_t *restrict dst, int32_t *restrict label, const uint8_t *restrict rgb,
                         const uint8_t *restrict id, const PlaceRow *r, int n) {
    const int h = r->h, w = r->w;
    for (int i = 0; i < n; i++) {
        const int64_t x = r->x + i * r->dx, y = r->y + i * r->dy, half = 1 << (PLACE_BITS - 1);
        const int x0 = (int)(x >> PLACE_BITS), y0 = (int)(y >> PLACE_BITS);
        const int nx = (int)((x + half) >> PLACE_BITS), ny = (int)((y + half) >> PLACE_BITS);
        const int wx = (int)(x & 0xffff) >> (PLACE_BITS - WEIGHT_BITS), wy = (int)(y & 0xffff) >> (PLACE_BITS - WEIGHT_BITS);
        const uint8_t *upper = rgb + (int64_t)clamp(y0, h - 1) * w * 3, *lower = rgb + (int64_t)clamp(y0 + 1, h - 1) * w * 3;
        const int left = clamp(x0, w - 1) * 3, right = clamp(x0 + 1, w - 1) * 3;
        for (int c = 0; c < 3; c++) {
            const int a = upper[left + c] * WEIGHT_ONE + (upper[right + c] - upper[left + c]) * wx,
                      b = lower[left + c] * WEIGHT_ONE + (lower[right + c] - lower[left + c]) * wx;
            dst[i * 3 + c] = (uint8_t)((a * (WEIGHT_ONE - wy) + b * wy + (1 << (2 * WEIGHT_BITS - 1))) >> (2 * WEIGHT_BITS));
        }
        const int inside = nx >= 0 && nx < w && ny >= 0 && ny < h, k = inside ? id[(int64_t)ny * w + nx] : 255;
        label[i] = k == 255 ? -1 : k;
    }
}

void SIMD(pixels_colours)(uint8_t *px, const ColourMap *m, int n_px) {
    for (int i = 0; i < n_px; i++, px += 3) {
        const int r = px[0], g = px[1], b = px[2];
        for (int c = 0; c < 3; c++)
            px[c] = (uint8_t)clamp((m->m[c][0] * r + m->m[c][1] * g + m->m[c][2] * b + m->t[c]) >> COLOUR_BITS, 255);
    }
}

/* Sums are made in pieces that stay in the first cache, one weight after the other. */
enum { PIECE = 256 };
static inline int piece(int left) { return left < PIECE ? left : PIECE; }

void SIMD(pixels_blur_row)(uint16_t *restrict dst, const uint8_t *restrict padded, const int32_t *weight, int reach, int n_px) {
    int32_t sum[PIECE];
    for (int at = 0, m; at < 3 * n_px; at += m) {
        m = piece(3 * n_px - at);
        for (int i = 0; i < m; i++) sum[i] = 1 << (BLUR_BITS - 9);
        for (int k = 0; k <= 2 * reach; k++)
            for (int i = 0; i < m; i++) sum[i] += weight[k] * padded[at + i + 3 * k];
        for (int i = 0; i < m; i++) dst[at + i] = (uint16_t)(sum[i] >> (BLUR_BITS - 8));
    }
}

void SIMD(pixels_blur_rows)(uint8_t *restrict dst, const uint16_t *const *rows, const int32_t *weight, int reach, int n) {
    int32_t sum[PIECE];
    for (int at = 0, m; at < n; at += m) {
        m = piece(n - at);
        for (int i = 0; i < m; i++) sum[i] = 1 << (BLUR_BITS + 7);
        for (int k = 0; k <= 2 * reach; k++)
            for (int i = 0; i < m; i++) sum[i] += weight[k] * rows[k][at + i];
        for (int i = 0; i < m; i++) dst[at + i] = (uint8_t)(sum[i] >> (BLUR_BITS + 8));
    }
}
