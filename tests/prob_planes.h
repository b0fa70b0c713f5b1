/* prob_planes.h - the probabilities of a predictor as one K x H x W block. */
#ifndef RETORT_TESTS_PROB_PLANES_H
#define RETORT_TESTS_PROB_PLANES_H
#include <string.h>

#include "eval/eval.h"

typedef struct Planes { float *v; int h, w, k; } Planes;
static inline Err planes_put(void *self, int y, int n, const float *probs) {
    const Planes *p = self;
    const size_t block = (size_t)n * (size_t)p->w;
    for (int k = 0; k < p->k; k++)
        memcpy(p->v + ((int64_t)k * p->h + y) * p->w, probs + (size_t)k * block, block * sizeof *probs);
    return OK;
}
static inline ProbSink prob_planes(Planes *p) { return (ProbSink){planes_put, p}; }
#endif
