/* inflate.h - a zlib stream all at once, by libdeflate (inflate_libdeflate.c) where the build found it,
 * otherwise by zlib (inflate_zlib.c). */
#ifndef RETORT_IO_INFLATE_H
#define RETORT_IO_INFLATE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
/* True when the n bytes at src are one sound stream of exactly `bytes` bytes; dst may be written in any case. */
bool inflate_whole(const uint8_t *src, size_t n, uint8_t *dst, size_t bytes);
uint32_t inflate_crc32(const uint8_t *data, size_t n);
#endif
