/* make_images.h - PNG and JPEG files of every kind, written to memory. */
#ifndef RETORT_TESTS_MAKE_IMAGES_H
#define RETORT_TESTS_MAKE_IMAGES_H
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>
#include <png.h>

#include "base/mem.h"
#include "base/str.h"

static inline void on_png(png_structp png, png_bytep src, size_t n) {
    str_addn(png_get_io_ptr(png), (const char *)src, n);
}
static inline void on_flush(png_structp png) {
    (void)png;
}

typedef struct {
    int colour, depth, interlace, h, w;
} PngKind;
static inline int samples_of(int colour) {
    return colour == PNG_COLOR_TYPE_RGB          ? 3
           : colour == PNG_COLOR_TYPE_RGBA       ? 4
           : colour == PNG_COLOR_TYPE_GRAY_ALPHA ? 2
                                                 : 1;
}

/* Encode samples (H x W x samples_of, values below 2^depth) exactly as told. */
static inline Str make_png(PngKind k, const uint16_t *v) {
    Str out = {0};
    png_color palette[256];
    for (int i = 0; i < 256; i++)
        palette[i] = (png_color){(png_byte)i, (png_byte)(255 - i), (png_byte)(i * 7)};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(png, &out, on_png, on_flush);
    png_set_IHDR(png, info, (png_uint_32)k.w, (png_uint_32)k.h, k.depth, k.colour, k.interlace, 0,
                 0);
    if (k.colour == PNG_COLOR_TYPE_PALETTE) png_set_PLTE(png, info, palette, 1 << k.depth);
    png_set_text(png, info,
                 &(png_text){.compression = PNG_TEXT_COMPRESSION_NONE,
                             .key = (char *)"Comment",
                             .text = (char *)"<script>"},
                 1);
    png_write_info(png, info);
    int s = samples_of(k.colour), stride = k.w * s * (k.depth == 16 ? 2 : 1);
    uint8_t *px = xcalloc((size_t)stride, (size_t)k.h);
    uint8_t **rows = xcalloc((size_t)k.h, sizeof *rows);
    for (int i = 0; i < k.h * k.w * s; i++) {
        if (k.depth == 16) px[2 * i] = (uint8_t)(v[i] >> 8), px[2 * i + 1] = (uint8_t)v[i];
        else px[i] = (uint8_t)v[i];
    }
    for (int y = 0; y < k.h; y++) rows[y] = px + y * stride;
    png_set_packing(png);
    png_write_image(png, rows);
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    free(rows), free(px);
    return out;
}
typedef struct {
    int h, w, components;
    J_COLOR_SPACE space;
    int progressive, h_samp, v_samp; /* samples of luma to one of colour; 0: the usual 2 x 2 */
} JpegKind;
static inline double jpeg_value(int y, int i, int components) {
    return 128 + 50 * sin(0.1 * i / components + 0.2 * y) + 10 * (i % components);
}
/* progressive: 0 no, 1 the usual ten scans, above: DC, then each coefficient up to that one by
 * itself. */
static inline Str make_jpeg_of(JpegKind k) {
    const int h = k.h, w = k.w, components = k.components, progressive = k.progressive;
    jpeg_scan_info scans[1 + 3 * 63] = {{3, {0, 1, 2}, 0, 0, 0, 0}};
    int n_scans = 1;
    for (int c = 0; c < 3; c++)
        for (int i = 1; i <= progressive; i++)
            scans[n_scans++] = (jpeg_scan_info){1, {c}, i, i, 0, 0};
    struct jpeg_compress_struct j;
    struct jpeg_error_mgr errors;
    unsigned char *data = NULL;
    unsigned long n = 0;
    j.err = jpeg_std_error(&errors);
    jpeg_create_compress(&j);
    jpeg_mem_dest(&j, &data, &n);
    j.image_height = (JDIMENSION)h, j.image_width = (JDIMENSION)w, j.input_components = components,
    j.in_color_space = k.space;
    jpeg_set_defaults(&j);
    jpeg_set_quality(&j, 95, TRUE);
    if (k.h_samp) j.comp_info[0].h_samp_factor = k.h_samp, j.comp_info[0].v_samp_factor = k.v_samp;
    if (progressive > 1) j.scan_info = scans, j.num_scans = n_scans;
    else if (progressive) jpeg_simple_progression(&j);
    jpeg_start_compress(&j, TRUE);
    uint8_t *row = xcalloc((size_t)w, (size_t)components);
    for (int y = 0; y < h; y++) {
        for (int i = 0; i < w * components; i++)
            row[i] = (uint8_t)jpeg_value(y, i, components);
        jpeg_write_scanlines(&j, &row, 1);
    }
    jpeg_finish_compress(&j);
    jpeg_destroy_compress(&j);
    Str s = {0};
    str_addn(&s, (char *)data, n);
    free(data), free(row);
    return s;
}
static inline Str make_jpeg(int h, int w, int components, J_COLOR_SPACE space, int progressive) {
    return make_jpeg_of((JpegKind){h, w, components, space, progressive, 0, 0});
}
/* SOI, then an APP1 segment that holds the first n bytes of an EXIF block with orientation 6. */
static inline Str with_exif(const Str *jpeg, bool little, size_t n) {
    static const uint8_t big[] =
        "Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    static const uint8_t small[] =
        "Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    const uint8_t head[] = {0xff, 0xe1, 0, (uint8_t)(n + 2)};
    Str s = {0};
    str_addn(&s, jpeg->s, 2);
    str_addn(&s, (const char *)head, sizeof head);
    str_addn(&s, (const char *)(little ? small : big), n);
    str_addn(&s, jpeg->s + 2, jpeg->n - 2);
    return s;
}
#endif
