/* cpu.h - which instruction set our own kernels use.
 * Files named *_simd.c are compiled once per level (plain, AVX2, AVX-512) with SIMD(name) naming the
 * variant; their dispatch tables pick one by cpu_level(). */
#ifndef RETORT_BASE_CPU_H
#define RETORT_BASE_CPU_H
typedef enum { CPU_PLAIN, CPU_AVX2, CPU_AVX512, CPU_LEVELS } CpuLevel;
CpuLevel    cpu_level(void);            /* of this processor, or as forced */
void        cpu_force(CpuLevel level);  /* tests: compare the variants; never above the processor's */
CpuLevel    cpu_best(void);
const char *cpu_level_name(CpuLevel level);
#define SIMD_PASTE_(a, b) a##b
#define SIMD_PASTE(a, b) SIMD_PASTE_(a, b)
#define SIMD(name) SIMD_PASTE(name, SIMD_SUFFIX)      /* SIMD_SUFFIX: _plain, _avx2, _avx512 by the build */
#endif
