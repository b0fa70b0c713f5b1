/* fuzz_png.c - PNG, as an image and as a label map. */
#include "fuzz.h"
#include "io/image_priv.h"

FUZZ(png) {
    Image im;
    Err rc[2];
    for (int labels = 0; labels < 2; labels++)
        if (!(rc[labels] = io_png_decode(data, n, "fuzz.png", labels, &im))) free(im.px);
    return rc[0];
}
