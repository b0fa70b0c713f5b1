/* pixels_simd.c - see pixels.h. */
#include "data/pixels.h"

#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "base/cpu.h"

enum { WEIGHT_BITS = 11, WEIGHT_ONE = 1 << WEIGHT_BITS };    /* of bilinear sampling, as in resample.h */

static inline int clamp(int v, int top) { return v < 0 ? 0 : v > top ? top : v; }

/* ---- rotation ----------------------------------------------------------------------------------- */
/* A few pixels of a row: what each reads, by pixel number. */
enum { FEW = 64 };
typedef struct Places {
    int32_t at[4][FEW], wx[FEW], wy[FEW], nearest[FEW];      /* nearest -1: outside */
} Places;

/* Within so few pixels 32 bits hold a place's distance from the first one. */
static inline void find_places(Places *restrict p, const PlaceRow *r, int first, int n) {
    const int h = r->h, w = r->w, mask = (1 << PLACE_BITS) - 1, half = 1 << (PLACE_BITS - 1),
              dx = (int)r->dx, dy = (int)r->dy;
    const int64_t x = r->x + first * r->dx, y = r->y + first * r->dy;
    const int bx = (int)(x >> PLACE_BITS), by = (int)(y >> PLACE_BITS), fx = (int)(x & mask),
              fy = (int)(y & mask);
    for (int i = 0; i < n; i++) {
        const int tx = fx + i * dx, ty = fy + i * dy, x0 = bx + (tx >> PLACE_BITS),
                  y0 = by + (ty >> PLACE_BITS);
        const int nx = bx + ((tx + half) >> PLACE_BITS), ny = by + ((ty + half) >> PLACE_BITS);
        const int left = clamp(x0, w - 1), right = clamp(x0 + 1, w - 1),
                  upper = clamp(y0, h - 1) * w, lower = clamp(y0 + 1, h - 1) * w;
        p->at[0][i] = upper + left, p->at[1][i] = upper + right, p->at[2][i] = lower + left,
        p->at[3][i] = lower + right;
        p->wx[i] = (tx & mask) >> (PLACE_BITS - WEIGHT_BITS),
        p->wy[i] = (ty & mask) >> (PLACE_BITS - WEIGHT_BITS);
        p->nearest[i] = nx >= 0 && nx < w && ny >= 0 && ny < h ? ny * w + nx : -1;
    }
}

/* Red and green side by side, with 32 bits each: one product serves both. Blue goes alone. */
typedef struct Spread { uint64_t rg, b; } Spread;
static inline Spread spread(const uint8_t *px) {
    return (Spread){px[0] | (uint64_t)px[1] << 32, px[2]};
}
static inline Spread mix(Spread x, Spread y, uint32_t weight) {
    const uint32_t rest = WEIGHT_ONE - weight;
    return (Spread){x.rg * rest + y.rg * weight, x.b * rest + y.b * weight};
}

static inline void sample_place(uint8_t *restrict dst, const uint8_t *restrict rgb, const Places *p,
                                int i) {
    const uint64_t half = 1 << (2 * WEIGHT_BITS - 1);
    const Spread a = mix(spread(rgb + (int64_t)p->at[0][i] * 3),
                         spread(rgb + (int64_t)p->at[1][i] * 3), (uint32_t)p->wx[i]),
                 b = mix(spread(rgb + (int64_t)p->at[2][i] * 3),
                         spread(rgb + (int64_t)p->at[3][i] * 3), (uint32_t)p->wx[i]),
                 v = mix(a, b, (uint32_t)p->wy[i]);
    const uint64_t rg = v.rg + half + (half << 32);
    dst[0] = (uint8_t)(rg >> (2 * WEIGHT_BITS));
    dst[1] = (uint8_t)(rg >> (32 + 2 * WEIGHT_BITS));
    dst[2] = (uint8_t)((v.b + half) >> (2 * WEIGHT_BITS));
}

#ifdef __AVX2__
/* left[0..5] r g b of two neighbours -> (r r) (g g) (b b) in 16 bits, times (1 - wx, wx), summed in pairs. */
static inline __m128i mix_neighbours(const uint8_t *left, __m128i wx) {
    const __m128i pairs = _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);
    const __m128i px = _mm_loadl_epi64((const __m128i *)(const void *)left);
    return _mm_madd_epi16(_mm_shuffle_epi8(px, pairs), wx);
}
/* As sample_place, three channels at once, where right is left + 1. Reads eight bytes at `upper` and `lower`. */
static inline void sample_inside(uint8_t *restrict dst, const uint8_t *upper, const uint8_t *lower,
                                 int wx, int wy) {
    const __m128i x = _mm_set1_epi32((WEIGHT_ONE - wx) | wx << 16), a = mix_neighbours(upper, x),
                  b = mix_neighbours(lower, x),
                  half = _mm_set1_epi32(1 << (2 * WEIGHT_BITS - 1)),
                  down = _mm_mullo_epi32(_mm_sub_epi32(b, a), _mm_set1_epi32(wy)),
                  sum = _mm_add_epi32(_mm_add_epi32(_mm_slli_epi32(a, WEIGHT_BITS), down), half),
                  v = _mm_srli_epi32(sum, 2 * WEIGHT_BITS);
    const int packed = _mm_cvtsi128_si32(_mm_shuffle_epi8(v, _mm_set1_epi32(0x0c080400)));
    memcpy(dst, &packed, 3);
}
#endif

/* pixels: of the image that rgb is. */
static inline void sample_places(uint8_t *restrict dst, const uint8_t *restrict rgb,
                                 const Places *p, int n, int pixels) {
    for (int i = 0; i < n; i++) {
#ifdef __AVX2__
        if (p->at[1][i] == p->at[0][i] + 1 && p->at[2][i] < pixels - 2) {
            sample_inside(dst + 3 * i, rgb + (int64_t)p->at[0][i] * 3,
                          rgb + (int64_t)p->at[2][i] * 3, p->wx[i], p->wy[i]);
            continue;
        }
#endif
        sample_place(dst + 3 * i, rgb, p, i);
    }
}

void SIMD(pixels_places)(uint8_t *restrict dst, int32_t *restrict label,
                         const uint8_t *restrict rgb, const uint8_t *restrict id, const PlaceRow *r,
                         int n) {
    Places p;
    for (int at = 0; at < n; at += FEW) {
        const int few = n - at < FEW ? n - at : FEW;
        find_places(&p, r, at, few);
        sample_places(dst + 3 * at, rgb, &p, few, r->h * r->w);
        for (int i = 0; i < few; i++) {
            const int k = p.nearest[i] < 0 ? 255 : id[p.nearest[i]];
            label[at + i] = k == 255 ? -1 : k;
        }
    }
}

/* ---- colours and blur ----------------------------------------------------------------------------- */
/* Loops over bytes whatever their channel, so that they are vectors: a block is a whole number of pixels and of
 * the widest vectors. */
enum { BLOCK = 3 * 64 };

void SIMD(pixels_sums)(int64_t sum[3], const uint8_t *px, int n_px) {
    int32_t lane[BLOCK] = {0};       /* a row is short enough for their sums: n_px < 2^31 / 3 */
    int at = 0;
    for (; at + BLOCK <= 3 * n_px; at += BLOCK)
        for (int i = 0; i < BLOCK; i++) lane[i] += px[at + i];
    for (int i = 0; i < BLOCK; i++) sum[i % 3] += lane[i];
    for (; at < 3 * n_px; at++) sum[at % 3] += px[at];
}

/* A byte of channel c reads the bytes c before it to 2 - c behind it: five weights, of which two are 0. */
typedef struct Bands {
    int32_t weight[5][BLOCK], add[BLOCK];
} Bands;
static void make_bands(Bands *b, const ColourMap *m) {
    for (int i = 0; i < BLOCK; i++) {
        const int c = i % 3;
        for (int k = 0; k < 5; k++)
            b->weight[k][i] = k - 2 + c >= 0 && k - 2 + c < 3 ? m->m[c][k - 2 + c] : 0;
        b->add[i] = m->t[c];
    }
}

void SIMD(pixels_colours)(uint8_t *restrict dst, const uint8_t *restrict src, const ColourMap *m,
                          int n_px) {
    Bands b;
    make_bands(&b, m);
    for (int at = 0; at < 3 * n_px; at += BLOCK) {
        const int left = 3 * n_px - at, n = left < BLOCK ? left : BLOCK;
        const uint8_t *p = src + at;
        for (int i = 0; i < n; i++) {
            const int v =
                (b.weight[0][i] * p[i - 2] + b.weight[1][i] * p[i - 1] + b.weight[2][i] * p[i] +
                 b.weight[3][i] * p[i + 1] + b.weight[4][i] * p[i + 2] + b.add[i]) >>
                COLOUR_BITS;
            dst[at + i] = (uint8_t)clamp(v, 255);
        }
    }
}

/* A function of its own: inlined into the loop over weights, gcc takes two of them at a time and no vectors. */
static __attribute__((noinline)) void add_part(uint16_t *restrict dst, const uint16_t *restrict src,
                                               uint32_t w, int n) {
    for (int i = 0; i < n; i++) dst[i] = (uint16_t)(dst[i] + (uint16_t)((w * src[i]) >> BLUR_BITS));
}

/* The upper half of products of 16 bits; each loses half of 1/256 level on the average, which the start gives back. */
void SIMD(pixels_blur)(uint16_t *restrict dst, const uint16_t *const *src, const uint16_t *weight,
                       int reach, int n) {
    for (int i = 0; i < n; i++) dst[i] = (uint16_t)reach;
    for (int k = 0; k <= 2 * reach; k++) add_part(dst, src[k], weight[k], n);
}
