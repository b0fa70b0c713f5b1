/* comm.h - what the ranks of a job say to each other. One rank: MPI is not built in yet.
 * Sums run in an explicit tree order, so they never depend on timing. */
#ifndef RETORT_DIST_COMM_H
#define RETORT_DIST_COMM_H
#include "base/err.h"
typedef struct Comm {
    int rank, ranks;
} Comm;
Comm comm_self(void);                         /* the one-rank job */
Err comm_sum_i64(Comm *c, int64_t *v, int n); /* in place */
#endif
