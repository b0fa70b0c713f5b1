/* kernels.c - the CPU backend's kernels, found by op. */
#include "backend/plan_priv.h"

#define KERNEL(name) extern const Kernel cpu_##name;
#include "backend/kernels.def"
#undef KERNEL

static const Kernel *const kernels[] = {
#define KERNEL(name) &cpu_##name,
#include "backend/kernels.def"
#undef KERNEL
};

const Kernel *cpu_kernel(const Plan *p, const PlanNode *n) {
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
        if (kernels[i]->op == n->op && (!kernels[i]->accepts || kernels[i]->accepts(p, n)))
            return kernels[i];
    return NULL;
}
