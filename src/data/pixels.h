/* pixels.h - the inner loops of rotation, colours and blur; integers only, so all variants give the
 * same bytes. */
#ifndef RETORT_DATA_PIXELS_H
#define RETORT_DATA_PIXELS_H
#include <stdint.h>
enum { PLACE_BITS = 16, COLOUR_BITS = 12, BLUR_BITS = 14, BLUR_REACH_MAX = 12 };
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
    void (*colours)(uint8_t *px, const ColourMap *m, int n_px);      /* in place */
    /* dst = sum of the 2 reach + 1 values around each, weights of sum 2^14; rows of 256ths between. */
    void (*blur_row)(uint16_t *restrict dst, const uint8_t *restrict padded, const int32_t *weight, int reach, int n_px);
    void (*blur_rows)(uint8_t *restrict dst, const uint16_t *const *rows, const int32_t *weight, int reach, int n);
} PixelLoops;
#define PIXELS(level)                                                                                     \
    void pixels_places##level(uint8_t *restrict, int32_t *restrict, const uint8_t *restrict,             \
                              const uint8_t *restrict, const PlaceRow *, int);                           \
    void pixels_colours##level(uint8_t *, const ColourMap *, int);                                       \
    void pixels_blur_row##level(uint16_t *restrict, const uint8_t *restrict, const int32_t *, int, int); \
    void pixels_blur_rows##level(uint8_t *restrict, const uint16_t *const *, const int32_t *, int, int);
PIXELS(_plain) PIXELS(_avx2) PIXELS(_avx512)
#undef PIXELS
#endif
