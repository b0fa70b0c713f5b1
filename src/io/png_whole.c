/* png_whole.c - the short way for the PNGs that most data sets are made of: 8 bits, not interlaced, one IDAT
 * after the other and then the end, wanted as they are stored. All of it is inflated at once (inflate.h),
 * which a reader of rows cannot do.
 *
 * Nothing is judged: whatever is not just so, a checksum, a length, a filter, is left to libpng, which
 * reads the file again and says what is wrong. */
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "io/image_priv.h"
#include "io/inflate.h"
#include "io/unfilter.h"

enum { SIGNATURE_BYTES = 8, CHUNK_BYTES = 12, TYPE_BYTES = 4 };      /* CHUNK_BYTES: length, type and checksum */

/* ---- chunks ---------------------------------------------------------------------------------- */
typedef struct Chunk {
    const uint8_t *type, *data;      /* data: behind the type */
    uint32_t bytes;
} Chunk;

static uint32_t big_endian(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The chunk at *at, which moves behind it; false: it is cut short. */
static bool next_chunk(const uint8_t *data, size_t bytes, size_t *at, Chunk *out) {
    if (bytes < *at + CHUNK_BYTES) return false;
    const uint8_t *p = data + *at;
    *out = (Chunk){p + 4, p + 8, big_endian(p)};
    if (out->bytes > bytes - *at - CHUNK_BYTES) return false;
    *at += CHUNK_BYTES + out->bytes;
    return true;
}
static bool is_type(const Chunk *c, const char *type) { return !memcmp(c->type, type, TYPE_BYTES); }
static bool is_sound(const Chunk *c) {
    return inflate_crc32(c->type, TYPE_BYTES + (size_t)c->bytes) == big_endian(c->data + c->bytes);
}

/* The contents of all IDAT to dst, when nothing but the end follows; returns how many bytes, 0: not so. */
static size_t gather(const uint8_t *data, size_t bytes, uint8_t *dst) {
    size_t at = SIGNATURE_BYTES, n = 0;
    Chunk c;
    do {
        if (!next_chunk(data, bytes, &at, &c)) return 0;
    } while (!is_type(&c, "IDAT"));
    do {
        if (!is_sound(&c)) return 0;
        memcpy(dst + n, c.data, c.bytes);
        n += c.bytes;
        if (!next_chunk(data, bytes, &at, &c)) return 0;
    } while (is_type(&c, "IDAT"));
    return is_type(&c, "IEND") && !c.bytes && is_sound(&c) ? n : 0;
}

/* ---- rows ------------------------------------------------------------------------------------ */
static const UnfilterRow unfilters[CPU_LEVELS] = {[CPU_PLAIN] = unfilter_row_plain,
                                                  [CPU_AVX2] = unfilter_row_avx2,
                                                  [CPU_AVX512] = unfilter_row_avx512};

/* raw: h rows of 1 + n bytes, and n + 1 zeros behind them. */
static bool undo_rows(uint8_t *px, const uint8_t *raw, size_t h, size_t n, size_t step) {
    const UnfilterRow undo = unfilters[cpu_level()];
    const uint8_t *up = raw + h * (1 + n);
    for (size_t y = 0; y < h; y++, up = px, px += n)
        if (!undo(px, raw + y * (1 + n), up, n, step)) return false;
    return true;
}

bool io_png_whole(const uint8_t *data, size_t bytes, PngRows rows, uint8_t *px) {
    const size_t row = rows.w * rows.step, all = rows.h * (1 + row);
    uint8_t *packed = malloc(bytes), *raw = malloc(all + row + 1);
    size_t n = packed && raw ? gather(data, bytes, packed) : 0;
    bool good = n && inflate_whole(packed, n, raw, all);
    if (good) memset(raw + all, 0, row + 1);
    good = good && undo_rows(px, raw, rows.h, row, rows.step);
    free(packed), free(raw);
    return good;
}
