/* inflate_libdeflate.c - see inflate.h. */
#include <libdeflate.h>

#include "io/inflate.h"

bool inflate_whole(const uint8_t *src, size_t n, uint8_t *dst, size_t bytes) {
    struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
    size_t used = 0;
    const bool good = d && !libdeflate_zlib_decompress_ex(d, src, n, dst, bytes, &used, NULL);
    if (d) libdeflate_free_decompressor(d);
    return good && used == n;
}

uint32_t inflate_crc32(const uint8_t *data, size_t n) { return libdeflate_crc32(0, data, n); }
