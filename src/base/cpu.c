/* cpu.c - what this processor can do. The level is process-wide because the processor is. */
#include "base/cpu.h"

#include <stdbool.h>

#include <stdatomic.h>

static atomic_int forced = -1;          /* a CpuLevel, or -1: the best */

#if defined(__x86_64__) || defined(__i386__)
CpuLevel cpu_best(void) {
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    return avx512 ? CPU_AVX512 : avx2 ? CPU_AVX2 : CPU_PLAIN;
}
#else
CpuLevel cpu_best(void) { return CPU_PLAIN; }
#endif

CpuLevel cpu_level(void) {
    int f = atomic_load(&forced);
    return f < 0 ? cpu_best() : (CpuLevel)f;
}

void cpu_force(CpuLevel level) {
    atomic_store(&forced, level <= cpu_best() ? (int)level : (int)cpu_best());
}

const char *cpu_level_name(CpuLevel level) {
    static const char *const names[] = {"plain", "avx2", "avx512"};
    _Static_assert(sizeof names / sizeof *names == CPU_LEVELS, "one name per level");
    return names[level];
}
