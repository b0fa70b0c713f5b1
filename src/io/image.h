/* image.h - PNG and JPEG to and from bytes. The kind is told by the content, never by the name.
 * Decoders are pure functions over bytes; a file that draws a single warning of its decoder is bad.
 * EXIF orientation is ignored, so that an image always fits its label map; `turned` says that a
 * JPEG asks for it. */
#ifndef RETORT_IO_IMAGE_H
#define RETORT_IO_IMAGE_H
#include "base/mem.h"
typedef struct {
    int h, w, channels;
    uint8_t *px; /* H x W x channels; caller frees */
    bool turned;
} Image;
Err image_read_rgb(const char *path, Image *out); /* PNG or JPEG -> 3 channels */
/* PNG -> 1 channel of indices, never colour-converted. */
Err image_read_labels(const char *path, Image *out);
/* PNG of numbers: 1 channel, or of 16 bits 2, the high byte first. */
Err image_read_numbers(const char *path, Image *out);
/* PNG of labels by colour -> 3 channels, exact; a grey one -> 1 channel of indices. */
Err image_read_colours(const char *path, Image *out);
Err image_write_png_rgb(const char *path, const uint8_t *rgb, int h, int w);
Err image_write_png_palette(const char *path, const uint8_t *index, int h, int w,
                            const uint8_t (*palette)[3], int n);
Err image_write_png_grey(const char *path, const uint8_t *grey, int h, int w);
/* The caller frees *out. */
Err image_encode_png_rgb(const uint8_t *rgb, int h, int w, uint8_t **out, size_t *bytes);
/* The same from bytes; name is only for error texts. */
Err image_decode_rgb(const uint8_t *data, size_t bytes, const char *name, Image *out);
Err image_decode_labels(const uint8_t *data, size_t bytes, const char *name, Image *out);
Err image_decode_colours(const uint8_t *data, size_t bytes, const char *name, Image *out);
#endif
