/* resize.h - images of one size, by a named kernel (data.resize): area, linear, cubic, lanczos.
 *
 * Kernels widen with the factor where an image shrinks, so nothing aliases; they are those of Pillow
 * (BOX, BILINEAR, BICUBIC, LANCZOS), to the byte. */
#ifndef RETORT_DATA_RESIZE_H
#define RETORT_DATA_RESIZE_H
#include <stdint.h>
typedef enum { KERNEL_AREA, KERNEL_LINEAR, KERNEL_CUBIC, KERNEL_LANCZOS, KERNELS } ResizeKernel;
typedef struct Resize {
    int h, w;                        /* 0: images stay as they are */
    ResizeKernel kernel;
} Resize;
/* dst[to.h x to.w x 3] = src[h x w x 3]; overwrites. */
void resize_rgb(Resize to, const uint8_t *src, int h, int w, uint8_t *dst);
/* dst[to.h x to.w] = of each output the pixel that holds its centre (classes are never mixed); overwrites. */
void resize_labels(Resize to, const uint8_t *src, int h, int w, uint8_t *dst);
#endif
