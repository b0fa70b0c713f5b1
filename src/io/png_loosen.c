/* png_loosen.c - a PNG with the same rows, deflated into stored blocks: libpng then copies where it would inflate.
 *
 * Three quarters of decoding are inflating, which a library that sees the whole stream does much faster (inflate.h);
 * libpng offers zlib's alone. Rows are not touched, filters and all are libpng's. Nothing is judged either: whatever is
 * not sound or not usual is left as it is, and libpng says what is wrong with it. */
#include <stdlib.h>
#include <string.h>

#include "io/image_priv.h"
#include "io/inflate.h"

enum { SIGNATURE_BYTES = 8, CHUNK_BYTES = 12, TYPE_BYTES = 4, IHDR_BYTES = 13 };   /* CHUNK_BYTES: length, type, checksum */
enum { ZLIB_HEAD = 2, BLOCK_HEAD = 5, BLOCK_MAX = 65535, ADLER_BYTES = 4 };        /* RFC 1950, RFC 1951 3.2.4 */
enum { LOOSE_MAX = 1 << 26 };        /* larger pictures are read by rows, without another copy */

typedef struct Chunk {
    const uint8_t *type, *data;
    uint32_t bytes;
} Chunk;

/* The sound chunk at *at, which moves behind it; false: there is none. */
static bool next_chunk(const uint8_t *data, size_t bytes, size_t *at, Chunk *out) {
    if (bytes < *at + CHUNK_BYTES) return false;
    const uint8_t *p = data + *at;
    *out = (Chunk){p + 4, p + 8, io_big_endian(p)};
    if (out->bytes > bytes - *at - CHUNK_BYTES) return false;
    *at += CHUNK_BYTES + out->bytes;
    return inflate_crc32(out->type, TYPE_BYTES + (size_t)out->bytes) ==
           io_big_endian(out->data + out->bytes);
}
static bool is_type(const Chunk *c, const char *type) { return !memcmp(c->type, type, TYPE_BYTES); }

/* Bytes of all rows, each with its filter; 0: interlaced, too many, or no such picture. */
static size_t row_bytes(const Chunk *ihdr) {
    static const uint8_t channels[7] = {1, 0, 3, 1, 2, 0, 4};            /* of a colour type */
    if (!is_type(ihdr, "IHDR") || ihdr->bytes != IHDR_BYTES) return 0;
    const uint64_t w = io_big_endian(ihdr->data), h = io_big_endian(ihdr->data + 4);
    const unsigned depth = ihdr->data[8], colour = ihdr->data[9], interlaced = ihdr->data[12];
    if (colour > 6 || interlaced || depth > 16) return 0;
    const uint64_t row = 1 + (w * channels[colour] * depth + 7) / 8;
    return h && row <= LOOSE_MAX / h ? (size_t)(row * h) : 0;
}

/* What lies before the first IDAT, behind the last up to the end, and the contents of all, one behind the other. */
typedef struct Parts { size_t rows, head, tail, end, n; uint8_t *packed; } Parts;
static bool take_apart(const uint8_t *data, size_t bytes, Parts *p) {
    size_t at = SIGNATURE_BYTES;
    Chunk c;
    if (!next_chunk(data, bytes, &at, &c) || !(p->rows = row_bytes(&c))) return false;
    do {
        p->head = at;
        if (!next_chunk(data, bytes, &at, &c)) return false;
    } while (!is_type(&c, "IDAT"));
    do {
        memcpy(p->packed + p->n, c.data, c.bytes);
        p->n += c.bytes, p->tail = at;
        if (!next_chunk(data, bytes, &at, &c)) return false;
    } while (is_type(&c, "IDAT"));
    while (!is_type(&c, "IEND"))
        if (is_type(&c, "IDAT") || !next_chunk(data, bytes, &at, &c)) return false;
    p->end = at;
    return p->n > ADLER_BYTES;
}

static uint8_t *put_big_endian(uint8_t *to, uint32_t v) {
    const uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    return (uint8_t *)memcpy(to, b, 4) + 4;
}
static size_t block_count(const Parts *p) { return (p->rows + BLOCK_MAX - 1) / BLOCK_MAX; }
/* The rows are inflated to where the last block will end; the others then move up between their heads. */
static uint8_t *put_blocks(uint8_t *to, const Parts *p) {
    uint8_t *from = to + block_count(p) * BLOCK_HEAD;
    if (!inflate_whole(p->packed, p->n, from, p->rows)) return NULL;
    for (size_t left = p->rows; left;) {
        const size_t n = left < BLOCK_MAX ? left : BLOCK_MAX;
        const uint8_t head[BLOCK_HEAD] = {n == left, (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)~n,
                                          (uint8_t)(~n >> 8)};
        memcpy(to, head, BLOCK_HEAD);
        memmove(to + BLOCK_HEAD, from, n);
        to += BLOCK_HEAD + n, from += n, left -= n;
    }
    return to;
}

uint8_t *io_png_loosen(const uint8_t *data, size_t bytes, size_t *n) {
    Parts p = {.packed = malloc(bytes)};
    uint8_t *out = NULL, *to = NULL;
    if (p.packed && take_apart(data, bytes, &p)) {
        const size_t stream = ZLIB_HEAD + block_count(&p) * BLOCK_HEAD + p.rows + ADLER_BYTES;
        *n = p.head + CHUNK_BYTES + stream + p.end - p.tail;
        if ((to = out = malloc(*n))) {
            memcpy(to, data, p.head);
            to = put_big_endian(to + p.head, (uint32_t)stream);
            memcpy(to, "IDAT\x78\x01", TYPE_BYTES + ZLIB_HEAD);
            to = put_blocks(to + TYPE_BYTES + ZLIB_HEAD, &p);
        }
        if (to) {
            memcpy(to, p.packed + p.n - ADLER_BYTES, ADLER_BYTES);       /* of the rows, as before */
            to = put_big_endian(to + ADLER_BYTES, 0);                    /* no checksum: nobody reads it */
            memcpy(to, data + p.tail, p.end - p.tail);
        }
    }
    if (!to) free(out), out = NULL;
    free(p.packed);
    return out;
}
