#include "backend/cpu/lanes.h"

const LaneKernels *lanes(Dtype t) {
    static const LaneKernels *const level[][2] = {{&lanes_f32_plain, &lanes_bf16_plain},
                                                  {&lanes_f32_avx2, &lanes_bf16_avx2},
                                                  {&lanes_f32_avx512, &lanes_bf16_avx512}};
    _Static_assert(sizeof level / sizeof *level == CPU_LEVELS, "one row per level");
    return level[cpu_level()][t == DT_BF16];
}

const FloatKernels *float_lanes(void) {
    static const FloatKernels *const level[CPU_LEVELS] = {&float_lanes_plain, &float_lanes_avx2,
                                                          &float_lanes_avx512};
    return level[cpu_level()];
}
