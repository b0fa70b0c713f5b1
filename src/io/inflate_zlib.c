/* inflate_zlib.c - see inflate.h. */
#include <zlib.h>

#include "io/inflate.h"

bool inflate_whole(const uint8_t *src, size_t n, uint8_t *dst, size_t bytes) {
    uLong used = n, made = bytes;
    return uncompress2(dst, &made, src, &used) == Z_OK && used == n && made == bytes;
}

uint32_t inflate_crc32(const uint8_t *data, size_t n) { return (uint32_t)crc32_z(0, data, n); }
