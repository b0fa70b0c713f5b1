/* augment_priv.h - what the two files of augmentation share. */
#ifndef RETORT_DATA_AUGMENT_PRIV_H
#define RETORT_DATA_AUGMENT_PRIV_H
#include "base/rng.h"
#include "data/data.h"
#include "data/pixels.h"

/* Elements of a sample's stream; numbers stay, or old runs would go on otherwise than they began. */
enum {
    DRAW_SCALE, DRAW_Y, DRAW_X, DRAW_MIRROR, DRAW_ANGLE, DRAW_BRIGHTNESS, DRAW_CONTRAST, DRAW_SATURATION, DRAW_HUE,
    DRAW_BLUR, DRAW_SIGMA, DRAW_CUTOUT, DRAW_CUTOUT_H, DRAW_CUTOUT_W, DRAW_CUTOUT_Y, DRAW_CUTOUT_X,
    DRAW_AGAIN = 64                  /* two for each further crop that is tried */
};
enum { CROPS_TRIED = 10 };

struct Augment {
    const DataOptions *o;
    int h, w;                        /* of the crop */
    struct Tap *taps;                /* [w + h] */
    int32_t  *rows;                  /* two rows, 11 fractional bits */
    uint8_t  *copy;                  /* one row with two bytes on either side */
    uint16_t *padded;                /* of the blur, as all below in 256ths: one row with its borders */
    uint16_t *blurred;               /* h x w x 3, along rows */
    uint16_t *across;                /* one row, finished */
};
const PixelLoops *pixel_loops(void); /* of this processor */
/* Colours, blur and cut-out of the part inside rect; image and label point to the whole slot. */
void augment_colours(Augment *a, const Rng *r, const int32_t rect[4], uint8_t *image, int32_t *label);
#endif
