/* side.h - networks that a loss term trains beside the student (KdSide): a discriminator. */
#ifndef RETORT_TRAIN_SIDE_H
#define RETORT_TRAIN_SIDE_H
#include "train/trainer_priv.h"

typedef struct Side {
    KdSide side;
    Plan  *plan;                     /* NULL: the term has none */
    bool   loaded;                   /* its parameters are those of the student's net */
} Side;
/* Finishes the net and makes its plan for the sizes that the student's plan has. */
Err  side_open(Side *s, const Plan *student);
void side_close(Side *s);
/* One forward and backward on the values of the student's last run, and, at the end of an update, a step. */
void side_run(Side *s, Net *student, const Plan *values, const OpRun *run, bool accumulate);
void side_step(Side *s, Net *student, int64_t micro_batches);
#endif
