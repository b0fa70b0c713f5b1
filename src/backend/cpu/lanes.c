#include "backend/cpu/lanes.h"

const LaneKernels *lanes(void) {
    static const LaneKernels *const level[] = {&lanes_plain, &lanes_avx2, &lanes_avx512};
    _Static_assert(sizeof level / sizeof *level == CPU_LEVELS, "one table per level");
    return level[cpu_level()];
}
