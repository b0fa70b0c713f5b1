/* image_priv.h - shared by the files behind image.h: limits, and the two decoders. */
#ifndef RETORT_IO_IMAGE_PRIV_H
#define RETORT_IO_IMAGE_PRIV_H
#include "io/image.h"
enum { IMAGE_SIDE_MAX = 65535, IMAGE_PIXELS_MAX = 200 * 1000 * 1000 };
/* Refuse sizes of zero or beyond the limits, before anything is allocated; row 40 or 41. */
Err io_image_check_size(const char *name, uint64_t h, uint64_t w, int row);
/* Exact indices of 1 channel; of 1, or of 16 bits in 2, the high byte first; or anything as RGB. On failure
 * *out is untouched. */
typedef enum { PNG_AS_RGB, PNG_AS_LABELS, PNG_AS_NUMBERS } PngAs;
Err io_png_decode(const uint8_t *data, size_t bytes, const char *name, PngAs as, Image *out);
static inline uint32_t io_big_endian(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
/* png_loosen.c: the same picture for a quicker reading, *n bytes that the caller frees, of which critical chunks have been checked and
 * carry no checksum of theirs; NULL: read it as it is. The sides of the picture have been found to be within the limits. */
uint8_t *io_png_loosen(const uint8_t *data, size_t bytes, size_t *n);
Err io_jpeg_decode(const uint8_t *data, size_t bytes, const char *name, Image *out);
#endif
