/* small_camvid.h - a folder in CamVid's layout for one test: two images of 12 x 10 with labels. */
#ifndef RETORT_TESTS_SMALL_CAMVID_H
#define RETORT_TESTS_SMALL_CAMVID_H
#include <string.h>

#include "base/sys.h"
#include "io/image.h"
#include "tempdir.h"

static inline Err put_text(const char *name, const char *text) {
    return durable_write_all(temp_path(name), text, strlen(text));
}
/* Pixel (x, y) is id, all others 0. */
static inline Err put_label(const char *name, int h, int w, int x, int y, uint8_t id) {
    uint8_t *px = calloc((size_t)h * (size_t)w, 1), grey[256][3];
    px[y * w + x] = id;
    for (int i = 0; i < 256; i++) memset(grey[i], i, 3);
    Err rc = image_write_png_palette(temp_path(name), px, h, w, grey, 256);
    free(px);
    return rc;
}
static inline Err put_image(const char *name, int h, int w) {
    uint8_t *px = calloc((size_t)h * (size_t)w, 3);
    for (int i = 0; i < h * w * 3; i++) px[i] = (uint8_t)((unsigned)i * 2654435761u >> 24);
    Err rc = image_write_png_rgb(temp_path(name), px, h, w);
    free(px);
    return rc;
}
static const char *const two_lines =
    "/elsewhere/SegNet/train/a.png /elsewhere/SegNet/trainannot/a.png\r\n"
    "/elsewhere/SegNet/train/b.png /elsewhere/SegNet/trainannot/b.png\n\n";
/* The root is temp_path(""). Pixel (0,0) of a's label is void, pixel (3,2) of b's is id. */
static inline Err make_camvid(uint8_t id) {
    TRY(sys_mkdirs(temp_path("train")));
    TRY(sys_mkdirs(temp_path("trainannot")));
    TRY(put_text("train.txt", two_lines));
    TRY(put_image("train/a.png", 10, 12));
    TRY(put_image("train/b.png", 10, 12));
    TRY(put_label("trainannot/a.png", 10, 12, 0, 0, 11));
    return put_label("trainannot/b.png", 10, 12, 3, 2, id);
}
#endif
