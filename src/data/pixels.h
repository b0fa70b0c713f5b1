/* pixels.h - the inner loops of rotation, colours and blur; integers only, so all variants give the
 * same bytes. */
#ifndef RETORT_DATA_PIXELS_H
#define RETORT_DATA_PIXELS_H
#include <stdint.h>
enum { PLACE_BITS = 16, COLOUR_BITS = 12, BLUR_BITS = 16, BLUR_REACH_MAX = 12 };
/* A row of places in an image of h x w: (x, y) and the step to the next, in 2^-16 pixels. */
typedef struct PlaceRow {
    int64_t x, y, dx, dy;
    int h, w;
} PlaceRow;
/* out = (m rgb + t) / 2^12, clamped */
typedef struct ColourMap {
    int32_t m[3][3], t[3];
} ColourMap;
typedef struct PixelLoops {
    /* Pixels and labels at places of an image (RGB bytes) and its labels. Outside of it the nearest
     * pixel, with label -1; overwrites. */
    void (*places)(uint8_t *restrict dst, int32_t *restrict label, const uint8_t *restrict rgb,
                   const uint8_t *restrict id, const PlaceRow *row, int n);
    void (*sums)(int64_t sum[3], const uint8_t *px, int n_px);       /* of each channel; adds */
    /* src: the row with two bytes before and behind it, which mean nothing. */
    void (*colours)(uint8_t *restrict dst, const uint8_t *restrict src, const ColourMap *m, int n_px);
    /* dst = sum of the 2 reach + 1 values around each, weights of sum 2^16; all in 256ths of a level. */
    void (*blur)(uint16_t *restrict dst, const uint16_t *const *src, const uint16_t *weight, int reach, int n);
} PixelLoops;
#define PIXELS(level)                                                                                     \
    void pixels_places##level(uint8_t *restrict, int32_t *restrict, const uint8_t *restrict,             \
                              const uint8_t *restrict, const PlaceRow *, int);                           \
    void pixels_sums##level(int64_t[3], const uint8_t *, int);                                            \
    void pixels_colours##level(uint8_t *restrict, const uint8_t *restrict, const ColourMap *, int);       \
    void pixels_blur##level(uint16_t *restrict, const uint16_t *const *, const uint16_t *, int, int);
PIXELS(_plain) PIXELS(_avx2) PIXELS(_avx512)
#undef PIXELS
#endif
