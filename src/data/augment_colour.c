/* augment_colour.c - what happens to a crop's pixels where they lie: colours, blur, cut-out.
 *
 * Colours: hue, saturation, brightness and contrast are all linear in RGB, so they are one matrix and one
 * sum per pixel, rounded and clamped once:
 *   hue         a turn by h about the grey axis (greys stay)
 *   saturation  s x + (1 - s) luma(x),   luma = 0.299 R + 0.587 G + 0.114 B
 *   brightness  b x
 *   contrast    c x + (1 - c) m,   m: the crop's mean luma after the three before
 * with b, c, s uniform in 1 +- data.jitter's value and h in +- turns. torchvision's ColorJitter is the same in a random
 * order, with hue in HSV and a clamp after each step.
 * Blur: a Gaussian of sigma pixels, cut at three sigma, over the image's own part, its borders repeated.
 * Cut-out: a rectangle in ImageNet's mean colour with label -1: nothing is asked about what cannot be seen. */
#include "data/augment_priv.h"

#include <math.h>
#include <string.h>

#include "base/cpu.h"

static const PixelLoops loops[CPU_LEVELS] = {
    [CPU_PLAIN] = {pixels_places_plain, pixels_sums_plain, pixels_colours_plain, pixels_blur_plain},
    [CPU_AVX2] = {pixels_places_avx2, pixels_sums_avx2, pixels_colours_avx2, pixels_blur_avx2},
    [CPU_AVX512] = {pixels_places_avx512, pixels_sums_avx512, pixels_colours_avx512,
                    pixels_blur_avx512},
};
const PixelLoops *pixel_loops(void) { return &loops[cpu_level()]; }

/* The part of a slot that is image. */
typedef struct Part {
    uint8_t *px;                     /* its first pixel */
    size_t stride;                   /* bytes */
    int h, w;
} Part;

static double uniform(const Rng *r, uint64_t draw, double lo, double hi) {
    return lo + (hi - lo) * (double)rng_uniform(r, draw);
}

/* ---- colours ------------------------------------------------------------------------------------ */
static const double luma[3] = {0.299, 0.587, 0.114};
static double luma_of(const double rgb[3]) {
    return luma[0] * rgb[0] + luma[1] * rgb[1] + luma[2] * rgb[2];
}

/* m = saturation * hue */
static void hue_and_saturation(double turns, double s, double m[3][3]) {
    const double c = cos(2 * M_PI * turns), k = (1 - c) / 3, q = sin(2 * M_PI * turns) / sqrt(3);
    const double hue[3][3] = {{c + k, k - q, k + q}, {k + q, c + k, k - q}, {k - q, k + q, c + k}};
    for (int j = 0; j < 3; j++) {
        const double column[3] = {hue[0][j], hue[1][j], hue[2][j]};
        for (int i = 0; i < 3; i++) m[i][j] = s * hue[i][j] + (1 - s) * luma_of(column);
    }
}

static void mean_of(const Part *p, double mean[3]) {
    int64_t sum[3] = {0};
    for (int y = 0; y < p->h; y++) pixel_loops()->sums(sum, p->px + (size_t)y * p->stride, p->w);
    for (int c = 0; c < 3; c++) mean[c] = (double)sum[c] / ((double)p->h * p->w);
}

static void jitter(Augment *a, const Rng *r, const Part *p) {
    const DataOptions *o = a->o;
    const double b = 1 + uniform(r, DRAW_BRIGHTNESS, -o->brightness, o->brightness),
                 c = 1 + uniform(r, DRAW_CONTRAST, -o->contrast, o->contrast),
                 s = 1 + uniform(r, DRAW_SATURATION, -o->saturation, o->saturation),
                 one = 1 << COLOUR_BITS;
    double m[3][3], mean[3] = {0}, turned[3];
    hue_and_saturation(uniform(r, DRAW_HUE, -o->hue, o->hue), s, m);
    if (o->contrast > 0) mean_of(p, mean);
    for (int i = 0; i < 3; i++)
        turned[i] = m[i][0] * mean[0] + m[i][1] * mean[1] + m[i][2] * mean[2];
    const double add = (1 - c) * b * luma_of(turned);
    ColourMap map;
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++) map.m[i][j] = (int32_t)lrint(c * b * m[i][j] * one);
        map.t[i] = (int32_t)lrint((add + 0.5) * one);
    }
    for (int y = 0; y < p->h; y++) {
        uint8_t *row = p->px + (size_t)y * p->stride;
        memcpy(a->copy + 2, row, (size_t)p->w * 3);
        pixel_loops()->colours(row, a->copy + 2, &map, p->w);
    }
}

/* ---- blur --------------------------------------------------------------------------------------- */
/* Weights of sum 2^BLUR_BITS, but one for a single weight, which would not fit; the middle one takes what rounding
 * leaves. Returns the reach. */
static int gaussian(double sigma, uint16_t *weight) {
    const int reach = (int)fmin(BLUR_REACH_MAX, ceil(3 * sigma));
    double sum = 0;
    long given = 0;
    for (int k = -reach; k <= reach; k++) sum += exp(-k * k / (2 * sigma * sigma));
    for (int k = -reach; k <= reach; k++) {
        const long w = lrint(exp(-k * k / (2 * sigma * sigma)) / sum * (1 << BLUR_BITS));
        if (k) given += w, weight[k + reach] = (uint16_t)w;
    }
    weight[reach] = (uint16_t)fmin(UINT16_MAX, (1 << BLUR_BITS) - given);
    return reach;
}

static void pad_row(uint16_t *dst, const uint8_t *src, int w, int reach) {
    for (int i = 0; i < 3 * w; i++) dst[3 * reach + i] = (uint16_t)(src[i] << 8);
    for (int i = 0; i < 3 * reach; i++) {
        dst[i] = (uint16_t)(src[i % 3] << 8);
        dst[3 * (reach + w) + i] = (uint16_t)(src[3 * (w - 1) + i % 3] << 8);
    }
}

static void blur(Augment *a, double sigma, const Part *p) {
    const PixelLoops *f = pixel_loops();
    const int n = p->w * 3;
    uint16_t weight[2 * BLUR_REACH_MAX + 1];
    const uint16_t *src[2 * BLUR_REACH_MAX + 1];
    const int reach = gaussian(sigma, weight);
    for (int k = 0; k <= 2 * reach; k++) src[k] = a->padded + 3 * k;
    for (int y = 0; y < p->h; y++) {
        pad_row(a->padded, p->px + (size_t)y * p->stride, p->w, reach);
        f->blur(a->blurred + (size_t)y * (size_t)n, src, weight, reach, n);
    }
    for (int y = 0; y < p->h; y++) {
        uint8_t *row = p->px + (size_t)y * p->stride;
        for (int k = 0; k <= 2 * reach; k++) {
            const int at = y + k - reach, in = at < 0 ? 0 : at >= p->h ? p->h - 1 : at;
            src[k] = a->blurred + (size_t)in * (size_t)n;
        }
        f->blur(a->across, src, weight, reach, n);
        for (int i = 0; i < n; i++) row[i] = (uint8_t)((a->across[i] + 128) >> 8);
    }
}

/* ---- cut-out ------------------------------------------------------------------------------------ */
static int side(const Rng *r, uint64_t draw, int n, double share) {
    return (int)fmax(1, uniform(r, draw, 0, share) * n);
}

static void cut_out(const Augment *a, const Rng *r, const int32_t rect[4], uint8_t *image,
                    int32_t *label) {
    static const uint8_t mean[3] = {124, 116, 104};
    const int h = side(r, DRAW_CUTOUT_H, rect[3], a->o->cutout_size),
              w = side(r, DRAW_CUTOUT_W, rect[2], a->o->cutout_size),
              y0 = rect[1] + (int)rng_below(r, DRAW_CUTOUT_Y, (uint32_t)(rect[3] - h + 1)),
              x0 = rect[0] + (int)rng_below(r, DRAW_CUTOUT_X, (uint32_t)(rect[2] - w + 1));
    for (int y = y0; y < y0 + h; y++)
        for (int x = x0; x < x0 + w; x++) {
            const size_t at = (size_t)y * (size_t)a->w + (size_t)x;
            memcpy(image + 3 * at, mean, 3);
            label[at] = -1;
        }
}

void augment_colours(Augment *a, const Rng *r, const int32_t rect[4], uint8_t *image,
                     int32_t *label) {
    const DataOptions *o = a->o;
    const size_t stride = (size_t)a->w * 3;
    const Part p = {image + (size_t)rect[1] * stride + (size_t)rect[0] * 3, stride, rect[3],
                    rect[2]};
    if (o->brightness > 0 || o->contrast > 0 || o->saturation > 0 || o->hue > 0) jitter(a, r, &p);
    if ((double)rng_uniform(r, DRAW_BLUR) < o->blur)
        blur(a, fmax(0.05, uniform(r, DRAW_SIGMA, o->blur_sigma[0], o->blur_sigma[1])), &p);
    if ((double)rng_uniform(r, DRAW_CUTOUT) < o->cutout) cut_out(a, r, rect, image, label);
}
