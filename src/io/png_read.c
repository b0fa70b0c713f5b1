/* png_read.c - PNG to bytes by libpng's row interface, inflated before where that is quicker (png_loosen.c).
 *
 * Limits come before allocation: sides and pixels from the header, and the decompressed size
 * against what deflate can possibly make of the file (1032 : 1), so a tiny file never reserves
 * gigabytes. Text, colour-profile and unknown chunks are skipped unread; every checksum must hold.
 * Not done: gamma and colour profiles (labels must not change, and training data are taken as they
 * are). */
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/image_priv.h"

enum { CHUNK_BYTES_MAX = 8 * 1000 * 1000, CHUNKS_CACHED_MAX = 64, DEFLATE_RATIO = 1032 };

typedef struct {
    png_structp png;
    png_infop info;
    const uint8_t *data; /* the file, borrowed */
    size_t bytes, at;
    const char *name;
    bool cut;          /* a read went past the end */
    char message[128]; /* libpng's own words */
    uint8_t *loose;    /* what data points to, if not the file */
    uint8_t *px;       /* decoded rows; owned until moved to the Image */
    size_t stride;
    uint32_t h, w;
    int depth, colour;
} Reader;

static void on_error(png_structp png, png_const_charp message) {
    Reader *r = png_get_error_ptr(png);
    snprintf(r->message, sizeof r->message, "%s", message);
    png_longjmp(png, 1);
}
static void on_warning(png_structp png, png_const_charp message) {}

static void on_read(png_structp png, png_bytep dst, size_t n) {
    Reader *r = png_get_io_ptr(png);
    if (n > r->bytes - r->at) {
        r->cut = true;
        png_error(png, "file ends early");
    }
    memcpy(dst, r->data + r->at, n);
    r->at += n;
}

/* After a longjmp: cut short is row 38, everything else is damage. */
static Err decode_error(const Reader *r) {
    if (r->cut)
        return err_set(E(EXIT_DATA, 38), "%s: the PNG is cut short after %zu bytes; replace it",
                       r->name, r->bytes);
    return err_set(E(EXIT_DATA, 39), "%s: the PNG is damaged (%s); replace it", r->name,
                   r->message);
}

/* Header: up to the first IDAT. False after a libpng error. */
static bool read_header(Reader *r) {
    if (setjmp(png_jmpbuf(r->png))) return false;
    png_set_read_fn(r->png, r, on_read);
    png_set_user_limits(r->png, IMAGE_SIDE_MAX, IMAGE_SIDE_MAX);
    png_set_chunk_cache_max(r->png, CHUNKS_CACHED_MAX);
    png_set_chunk_malloc_max(r->png, CHUNK_BYTES_MAX);
    png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER, NULL,
                                -1); /* -1: known ancillary ones too */
    png_set_crc_action(r->png, r->loose ? PNG_CRC_QUIET_USE : PNG_CRC_ERROR_QUIT,
                       PNG_CRC_ERROR_QUIT);
    png_set_benign_errors(r->png, 0);
    if (r->loose) {
        png_set_compression_buffer_size(r->png, 1 << 16);
#ifdef PNG_IGNORE_ADLER32
        png_set_option(r->png, PNG_IGNORE_ADLER32, PNG_OPTION_ON);
#endif
    }
    png_read_info(r->png, r->info);
    png_get_IHDR(r->png, r->info, &r->w, &r->h, &r->depth, &r->colour, NULL, NULL, NULL);
    return true;
}

/* Rows and the end of the file, with the transformations already asked for. */
static bool read_rows(Reader *r) {
    if (setjmp(png_jmpbuf(r->png))) return false;
    for (int pass = 0, n = png_set_interlace_handling(r->png); pass < n; pass++)
        for (uint32_t y = 0; y < r->h; y++) png_read_row(r->png, r->px + y * r->stride, NULL);
    png_read_end(r->png, NULL);
    return true;
}

static bool set_transforms(Reader *r, bool labels) {
    if (setjmp(png_jmpbuf(r->png))) return false;
    if (labels) {
        png_set_packing(r->png); /* 1, 2, 4 bits to a byte each, values as they are */
    } else {
        png_set_expand(r->png);
        if (r->depth == 16) png_set_scale_16(r->png);
        if (!(r->colour & PNG_COLOR_MASK_COLOR)) png_set_gray_to_rgb(r->png);
        png_set_strip_alpha(r->png);
    }
    png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    r->stride = png_get_rowbytes(r->png, r->info);
    return true;
}

/* Labels: palette and grey keep their indices, everything else has none. */
static Err check_label_type(const Reader *r) {
    if (r->colour == PNG_COLOR_TYPE_PALETTE || r->colour == PNG_COLOR_TYPE_GRAY) return OK;
    const char *what = r->colour == PNG_COLOR_TYPE_GRAY_ALPHA ? "grey with alpha"
                       : r->colour == PNG_COLOR_TYPE_RGB      ? "RGB colour"
                                                              : "RGB colour with alpha";
    return err_set(E(EXIT_DATA, 36),
                   "%s: the label map is %s, which says no class index; give a palette or grey PNG "
                   "with one index per pixel, or name its colours in data.classes",
                   r->name, what);
}

/* 16-bit indices (high byte first) to bytes, in place; those above 255 are refused. */
static Err narrow_labels(Reader *r) {
    for (uint32_t y = 0; y < r->h; y++) {
        const uint8_t *src = r->px + y * r->stride;
        uint8_t *dst = r->px + (size_t)y * r->w;
        for (uint32_t x = 0; x < r->w; x++) {
            if (src[2 * x])
                return err_set(E(EXIT_DATA, 36),
                               "%s: 16-bit label %d at (%u,%u) is above 255; give class indices, "
                               "not instances",
                               r->name, src[2 * x] * 256 + src[2 * x + 1], x, y);
            dst[x] = src[2 * x + 1];
        }
    }
    return OK;
}

/* The header's sides are within the limits; libpng's own refusal would not say which. */
static Err check_size(const uint8_t *data, size_t bytes, const char *name) {
    enum { IHDR_AT = 12, WIDTH_AT = 16, HEIGHT_AT = 20, NEEDED = 24 };
    if (bytes < NEEDED)
        return err_set(E(EXIT_DATA, 38), "%s: the PNG is cut short after %zu bytes; replace it",
                       name, bytes);
    if (memcmp(data + IHDR_AT, "IHDR", 4))
        return err_set(E(EXIT_DATA, 39), "%s: the PNG is damaged (no IHDR); replace it", name);
    uint32_t width = io_big_endian(data + WIDTH_AT), height = io_big_endian(data + HEIGHT_AT);
    return io_image_check_size(name, height, width, 40);
}

static Err decode(Reader *r, PngAs as, Image *out) {
    const bool labels = as != PNG_AS_RGB;
    int channels = labels ? 1 : 3;
    TRY(check_size(r->data, r->bytes, r->name));
    size_t n;
    if ((r->loose = io_png_loosen(r->data, r->bytes, &n))) r->data = r->loose, r->bytes = n;
    if (!read_header(r)) return decode_error(r);
    if (labels) TRY(check_label_type(r));
    size_t raw =
        ((size_t)r->w * png_get_channels(r->png, r->info) * (size_t)r->depth + 7) / 8 * r->h;
    if (raw / DEFLATE_RATIO > r->bytes)
        return err_set(
            E(EXIT_DATA, 40),
            "%s: %zu bytes cannot hold the %u x %u pixels of the header; replace the image",
            r->name, r->bytes, r->w, r->h);
    if (!set_transforms(r, labels)) return decode_error(r);
    if (!(r->px = malloc(r->stride * r->h)))
        return err_set(E(EXIT_LIMIT, 23), "%s: out of memory, %zu bytes wanted for its pixels",
                       r->name, r->stride * r->h);
    if (!read_rows(r)) return decode_error(r);
    if (as == PNG_AS_NUMBERS && r->depth == 16) channels = 2;
    else if (labels && r->depth == 16) TRY(narrow_labels(r));
    *out = (Image){(int)r->h, (int)r->w, channels, r->px, false};
    r->px = NULL;
    return OK;
}

Err io_png_decode(const uint8_t *data, size_t bytes, const char *name, PngAs as, Image *out) {
    Reader r = {.data = data, .bytes = bytes, .name = name};
    r.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r, on_error, on_warning);
    r.info = r.png ? png_create_info_struct(r.png) : NULL;
    Err rc = r.info ? decode(&r, as, out)
                    : err_set(E(EXIT_LIMIT, 23), "%s: out of memory for the PNG decoder", name);
    png_destroy_read_struct(&r.png, &r.info, NULL);
    free(r.px), free(r.loose);
    return rc;
}
