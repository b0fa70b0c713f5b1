/* png_write.c - bytes to PNG in memory, then to disk by the durable writer. The same pixels give
 * the same file everywhere with one libpng and zlib: no time, no text chunks. */
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/sys.h"
#include "io/image.h"

enum { ZLIB_LEVEL = 4 }; /* half the time of level 6 for a few percent more bytes */

typedef struct {
    const uint8_t *px; /* H x W x channels */
    int h, w, channels;
    const uint8_t (*palette)[3]; /* NULL: RGB, or grey of one channel */
    int n_palette;
    Str out;
} Writer;

static void on_error(png_structp png, png_const_charp message) {
    png_longjmp(png, 1);
}
static void on_warning(png_structp png, png_const_charp message) {}
static void on_write(png_structp png, png_bytep src, size_t n) {
    str_addn(&((Writer *)png_get_io_ptr(png))->out, (const char *)src, n);
}
static void on_flush(png_structp png) {}

/* Palette entries for every index that occurs; those beyond the caller's are black. */
static void set_palette(png_structp png, png_infop info, const Writer *w) {
    png_color colours[256] = {{0, 0, 0}};
    int n = w->n_palette;
    for (int i = 0; i < n; i++)
        colours[i] = (png_color){w->palette[i][0], w->palette[i][1], w->palette[i][2]};
    for (size_t i = 0; i < (size_t)w->h * (size_t)w->w; i++)
        if (w->px[i] >= n) n = w->px[i] + 1;
    png_set_PLTE(png, info, colours, n);
}

static bool encode(Writer *w, png_structp png, png_infop info) {
    if (setjmp(png_jmpbuf(png))) return false;
    png_set_write_fn(png, w, on_write, on_flush);
    png_set_compression_level(png, ZLIB_LEVEL);
    png_set_IHDR(png, info, (png_uint_32)w->w, (png_uint_32)w->h, 8,
                 w->palette         ? PNG_COLOR_TYPE_PALETTE
                 : w->channels == 1 ? PNG_COLOR_TYPE_GRAY
                                    : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (w->palette) set_palette(png, info, w);
    png_write_info(png, info);
    for (int y = 0; y < w->h; y++)
        png_write_row(png, w->px + (size_t)y * (size_t)w->w * (size_t)w->channels);
    png_write_end(png, NULL);
    return true;
}

static Err encode_all(Writer *w) {
    CHECK(w->h > 0 && w->w > 0 && w->px &&
          (!w->palette || (w->n_palette > 0 && w->n_palette <= 256)));
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    bool good = info && encode(w, png, info);
    png_destroy_write_struct(&png, &info);
    if (good) return OK;
    str_free(&w->out);
    return err_set(E(EXIT_LIMIT, 23), "PNG encoder: out of memory for %d x %d pixels", w->w, w->h);
}

Err image_encode_png_rgb(const uint8_t *rgb, int h, int w, uint8_t **out, size_t *bytes) {
    Writer writer = {.px = rgb, .h = h, .w = w, .channels = 3};
    TRY(encode_all(&writer));
    *out = (uint8_t *)writer.out.s, *bytes = writer.out.n;
    return OK;
}

static Err write_file(const char *path, Writer *w) {
    TRY(encode_all(w));
    Err rc = durable_write_all(path, w->out.s, w->out.n);
    str_free(&w->out);
    return rc;
}

Err image_write_png_rgb(const char *path, const uint8_t *rgb, int h, int w) {
    return write_file(path, &(Writer){.px = rgb, .h = h, .w = w, .channels = 3});
}

Err image_write_png_grey(const char *path, const uint8_t *grey, int h, int w) {
    return write_file(path, &(Writer){.px = grey, .h = h, .w = w, .channels = 1});
}

Err image_write_png_palette(const char *path, const uint8_t *index, int h, int w,
                            const uint8_t (*palette)[3], int n) {
    return write_file(
        path,
        &(Writer){.px = index, .h = h, .w = w, .channels = 1, .palette = palette, .n_palette = n});
}
