/* jpeg.c - JPEG to RGB bytes by libjpeg(-turbo).
 *
 * Any warning of the decoder is an error: libjpeg fills what it cannot read with grey, and a
 * network would learn from that. Progressive files are limited to SCANS_MAX scans (each costs a
 * pass over the image) and the decoder to MEMORY_MAX. CMYK is refused: its conversion needs a
 * colour profile. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h> /* wants stdio.h before it, and jerror.h behind it */

#include <jerror.h>

#include "io/image_priv.h"

enum { SCANS_MAX = 100, EXIF_BYTES_MAX = 65533 };
static const long MEMORY_MAX = 1000L * 1000 * 1000;

typedef struct {
    struct jpeg_error_mgr errors; /* first: libjpeg hands back a pointer to it */
    struct jpeg_progress_mgr progress;
    struct jpeg_decompress_struct j;
    jmp_buf jump;
    const char *name;
    bool too_many_scans;
    uint8_t *px; /* decoded rows; owned until moved to the Image */
} Reader;

static _Noreturn void on_error(j_common_ptr j) {
    longjmp(((Reader *)j->err)->jump, 1);
}
static void on_message(j_common_ptr j, int level) {
    if (level < 0) on_error(j); /* -1 is a warning; 0 and above are traces */
}
static void on_progress(j_common_ptr j) {
    Reader *r = (Reader *)j->err;
    if (r->j.input_scan_number <= SCANS_MAX) return;
    r->too_many_scans = true;
    on_error(j);
}

static Err decode_error(Reader *r) {
    char text[JMSG_LENGTH_MAX];
    int code = r->errors.msg_code;
    if (r->too_many_scans)
        return err_set(E(EXIT_DATA, 41), "%s: the JPEG has more than %d scans; save it anew",
                       r->name, SCANS_MAX);
    if (code == JWRN_JPEG_EOF || code == JERR_INPUT_EOF || code == JERR_INPUT_EMPTY)
        return err_set(E(EXIT_DATA, 38), "%s: the JPEG is cut short; replace it", r->name);
    r->errors.format_message((j_common_ptr)&r->j, text);
    if (code == JERR_OUT_OF_MEMORY || code == JERR_NO_BACKING_STORE)
        return err_set(E(EXIT_DATA, 41),
                       "%s: decoding the JPEG needs more than %ld bytes; save it smaller", r->name,
                       MEMORY_MAX);
    if (code == JERR_BAD_PRECISION || code == JERR_EMPTY_IMAGE || code == JERR_SOF_UNSUPPORTED ||
        code == JERR_IMAGE_TOO_BIG)
        return err_set(E(EXIT_DATA, 41),
                       "%s: this kind of JPEG is not supported (%s); save it anew", r->name, text);
    return err_set(E(EXIT_DATA, 39), "%s: the JPEG is damaged (%s); replace it", r->name, text);
}

/* Frame header; checks what can be told from it. */
static Err read_header(Reader *r, const uint8_t *data, size_t bytes) {
    if (setjmp(r->jump)) return decode_error(r);
    jpeg_create_decompress(&r->j);
    r->j.mem->max_memory_to_use = MEMORY_MAX;
    r->j.progress = &r->progress;
    jpeg_save_markers(&r->j, JPEG_APP0 + 1, EXIF_BYTES_MAX);
    jpeg_mem_src(&r->j, data, (unsigned long)bytes);
    jpeg_read_header(&r->j, TRUE);
    TRY(io_image_check_size(r->name, r->j.image_height, r->j.image_width, 41));
    if (r->j.num_components != 1 && r->j.num_components != 3)
        return err_set(E(EXIT_DATA, 41),
                       "%s: the JPEG has %d colour components (CMYK?); save it as RGB", r->name,
                       r->j.num_components);
    return OK;
}

/* ---- EXIF: "Exif\0\0", then a TIFF header of either byte order, whose first directory may hold */
static uint32_t number(const uint8_t *p, int bytes, bool little) {
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++) v = v << 8 | p[little ? bytes - 1 - i : i];
    return v;
}

/* Does the directory of the TIFF data at t name an orientation other than "as stored"? */
static bool tiff_turns(const uint8_t *t, size_t n) {
    enum { HEAD = 8, ENTRY = 12, ORIENTATION = 0x112, VALUE_AT = 8 };
    if (n < HEAD || memcmp(t, t[0] == 'I' ? "II*" : "MM\0*", 3)) return false;
    const bool little = t[0] == 'I';
    uint64_t at = number(t + 4, 4, little);
    if (at + 2 > n) return false;
    for (uint32_t i = 0, entries = number(t + at, 2, little); i < entries; i++) {
        uint64_t e = at + 2 + (uint64_t)i * ENTRY;
        if (e + ENTRY > n) return false;
        if (number(t + e, 2, little) == ORIENTATION) return number(t + e + VALUE_AT, 2, little) > 1;
    }
    return false;
}

static bool is_turned(const Reader *r) {
    enum { PREFIX = 6 };
    for (jpeg_saved_marker_ptr m = r->j.marker_list; m; m = m->next)
        if (m->data_length > PREFIX && !memcmp(m->data, "Exif\0\0", PREFIX))
            return tiff_turns(m->data + PREFIX, m->data_length - PREFIX);
    return false;
}

static Err read_rows(Reader *r) {
    if (setjmp(r->jump)) return decode_error(r);
    r->j.out_color_space = JCS_RGB;
    jpeg_start_decompress(&r->j);
    size_t stride = (size_t)r->j.output_width * 3;
    while (r->j.output_scanline < r->j.output_height) {
        JSAMPROW row = r->px + stride * r->j.output_scanline;
        jpeg_read_scanlines(&r->j, &row, 1);
    }
    jpeg_finish_decompress(&r->j);
    return OK;
}

static void open_reader(Reader *r, const char *name) {
    *r = (Reader){.name = name};
    r->j.err = jpeg_std_error(&r->errors);
    r->errors.error_exit = on_error;
    r->errors.emit_message = on_message;
    r->progress.progress_monitor = on_progress;
}

Err io_jpeg_decode(const uint8_t *data, size_t bytes, const char *name, Image *out) {
    Reader r;
    open_reader(&r, name);
    Err rc = read_header(&r, data, bytes);
    size_t h = r.j.image_height, w = r.j.image_width;
    if (!rc && !(r.px = malloc(h * w * 3)))
        rc = err_set(E(EXIT_LIMIT, 23), "%s: out of memory, %zu bytes wanted for its pixels", name,
                     h * w * 3);
    const bool turned =
        !rc && is_turned(&r); /* before libjpeg frees the markers with the last row */
    if (!rc) rc = read_rows(&r);
    if (!rc) *out = (Image){(int)h, (int)w, 3, r.px, turned}, r.px = NULL;
    jpeg_destroy_decompress(&r.j);
    free(r.px);
    return rc;
}
