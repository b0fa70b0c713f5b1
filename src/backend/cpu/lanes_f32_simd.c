/* lanes_f32_simd.c - the loops of lanes.h over float32 elements. */
#include "backend/cpu/lanes.h"

#define INLINE static inline __attribute__((always_inline))
#define LANES lanes_f32
typedef float Elem;
INLINE float load(const Elem *p) { return *p; }
INLINE void store(Elem *p, float v) { *p = v; }

#include "backend/cpu/lanes_body.h"
