/* lanes_bf16_simd.c - the loops of lanes.h over bfloat16 elements: the upper half of a float32, rounded to
 * the nearest, ties to even. No NaN becomes infinity as long as its payload lies in the upper half, which
 * that of every NaN a processor makes does. */
#include <string.h>

#include "backend/cpu/lanes.h"

#define INLINE static inline __attribute__((always_inline))
#define LANES lanes_bf16
typedef uint16_t Elem;
INLINE float load(const Elem *p) {
    uint32_t bits = (uint32_t)*p << 16;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}
INLINE void store(Elem *p, float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    *p = (Elem)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

#include "backend/cpu/lanes_body.h"
