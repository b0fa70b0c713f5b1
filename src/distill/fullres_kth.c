/* fullres_kth.c - the k-th smallest of a map: radix selection over the bits of non-negative floats, which sort like the
 * numbers. Parts of the map are counted apart and added in order. */
#include <string.h>

#include "base/parallel.h"
#include "distill/fullres_priv.h"

/* Histogram of one part of the map over the digit at `shift`, of values whose higher bits equal prefix. */
typedef struct { const float *q; int64_t n; uint32_t *bins, prefix; int shift, high; } RadixArg;
static void radix_part(void *arg, int64_t part) {
    const RadixArg *a = arg;
    uint32_t *bins = a->bins + part * RADIX_BINS;
    memset(bins, 0, sizeof(uint32_t) * RADIX_BINS);
    for (int64_t i = a->n * part / RADIX_PARTS; i < a->n * (part + 1) / RADIX_PARTS; i++) {
        uint32_t v;
        memcpy(&v, a->q + i, sizeof v);
        if (a->high < 32 && v >> a->high != a->prefix) continue;
        bins[v >> a->shift & (RADIX_BINS - 1)]++;
    }
}
float fr_kth(const float *q, int64_t n, int64_t k, uint32_t *bins) {
    static const int shifts[] = {21, 10, 0}, highs[] = {32, 21, 10};
    RadixArg a = {.q = q, .n = n, .bins = bins};
    uint32_t value = 0;
    for (int d = 0; d < 3; d++) {
        a.shift = shifts[d], a.high = highs[d], a.prefix = d ? value >> a.high : 0;
        parallel_for(RADIX_PARTS, radix_part, &a);
        uint32_t digit = 0;
        int width = a.high - a.shift, last = (1 << width) - 1;
        for (;; digit++) {
            int64_t here = 0;
            for (int part = 0; part < RADIX_PARTS; part++) {
                const uint32_t *row = bins + (int64_t)part * RADIX_BINS;
                for (uint32_t b = digit; b < RADIX_BINS; b += (uint32_t)last + 1) here += row[b];
            }
            if (k <= here || (int)digit == last) break;
            k -= here;
        }
        value |= digit << a.shift;
    }
    float out;
    memcpy(&out, &value, sizeof out);
    return out;
}
