/* cirkd.h - between cirkd.c and cirkd_memory.c. */
#ifndef RETORT_DISTILL_CIRKD_H
#define RETORT_DISTILL_CIRKD_H
#include "distill/pair.h"

typedef struct CirkdOptions {
    PairOptions pair;                            /* mask is not used */
    double minibatch, pixel, region, tau;
    bool   memory;
    int64_t pixel_queue, region_queue, pixel_samples, region_samples, pixels;
} CirkdOptions;
/* The terms of the pixel and the region queue, weighted; NO_NODE when both weigh 0. */
Node cirkd_memory(Net *n, const KdSite *s, const CirkdOptions *o, Pair p);
#endif
