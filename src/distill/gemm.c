/* gemm.c - picks the instruction set of gemm_simd.c. */
#include "distill/gemm.h"

#include "base/cpu.h"

extern const Gemm gemm_plain, gemm_avx2, gemm_avx512;

const Gemm *gemm(void) {
    static const Gemm *const table[] = {&gemm_plain, &gemm_avx2, &gemm_avx512};
    _Static_assert(sizeof table / sizeof *table == CPU_LEVELS, "one row per level");
    return table[cpu_level()];
}
