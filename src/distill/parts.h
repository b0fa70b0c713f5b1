/* parts.h - a batch in parts: losses whose definition is over all micro-batches of an update.
 *
 * The loss of an update is the mean of its micro-batches' values, so each must emit `parts` times its share of the
 * whole. What a loss divides by and can tell from labels alone it counts over all parts' labels, which are known
 * beforehand. What needs the networks' outputs (thresholds, sums over regions) is gathered first: every part is run
 * forward once with `gather`, and leaves its statistics in a PartStore; then every part is run again to emit. */
#ifndef RETORT_DISTILL_PARTS_H
#define RETORT_DISTILL_PARTS_H
#include "graph/op.h"

typedef struct Parts {                   /* what OpRun.parts points to */
    int  part, parts;                    /* this micro-batch's number, and how many there are */
    bool gather;                         /* leave statistics; value and gradient are not looked at */
    const int32_t *const *labels;        /* [parts] N x H x W */
} Parts;
static inline const Parts *parts_of(const OpCall *c) { return c->run ? c->run->parts : NULL; }
/* This pass leaves statistics alone. */
static inline bool parts_gathering(const OpCall *c) { return parts_of(c) && parts_of(c)->gather; }
static inline double parts_n(const OpCall *c) { return parts_of(c) ? parts_of(c)->parts : 1; }

typedef struct PartStore {               /* lives in the net's arena, as does what it holds */
    Arena *arena;
    void  *data;
    size_t bytes;
} PartStore;
PartStore *part_store(Net *n);
/* Memory that stays from run to run, taken when first asked for; sizes never change. */
void *part_store_data(PartStore *s, size_t bytes);
#endif
