/* unfilter.h - the filters of PNG rows undone (PNG specification, 9.2). */
#ifndef RETORT_IO_UNFILTER_H
#define RETORT_IO_UNFILTER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
/* dst[n]: a row of pixels of `step` bytes, 1 or 3; overwritten. src: its filter and n bytes, and one to spare; up: the row above
 * and one to spare, zeros for the first. False: there is no such filter. */
typedef bool (*UnfilterRow)(uint8_t *dst, const uint8_t *src, const uint8_t *up, size_t n, size_t step);
bool unfilter_row_plain(uint8_t *dst, const uint8_t *src, const uint8_t *up, size_t n, size_t step);
bool unfilter_row_avx2(uint8_t *dst, const uint8_t *src, const uint8_t *up, size_t n, size_t step);
bool unfilter_row_avx512(uint8_t *dst, const uint8_t *src, const uint8_t *up, size_t n, size_t step);
#endif
