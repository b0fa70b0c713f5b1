/* rows.c - picks the instruction set of rows_simd.c. */
#include "distill/rows.h"

#include "base/cpu.h"

extern const Rows rows_plain, rows_avx2, rows_avx512;

const Rows *rows(void) {
    static const Rows *const table[] = {&rows_plain, &rows_avx2, &rows_avx512};
    _Static_assert(sizeof table / sizeof *table == CPU_LEVELS, "one row per level");
    return table[cpu_level()];
}
