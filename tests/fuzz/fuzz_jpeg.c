/* fuzz_jpeg.c - JPEG. */
#include "fuzz.h"
#include "io/image_priv.h"

FUZZ(jpeg) {
    Image im;
    Err rc = io_jpeg_decode(data, n, "fuzz.jpg", &im);
    if (!rc) free(im.px);
    return rc;
}
