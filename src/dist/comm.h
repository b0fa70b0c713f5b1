/* comm.h - what the ranks of a job say to each other. One rank unless built with MPI.
 * Sums run in an explicit tree order, so they never depend on timing. */
#ifndef RETORT_DIST_COMM_H
#define RETORT_DIST_COMM_H
#include "base/err.h"
typedef struct Comm { int rank, ranks; } Comm;
Comm comm_self(void);                                       /* the one-rank job */
Err  comm_sum_f64(Comm *c, double *v, int n);               /* in place; one rank: nothing to do */
Err  comm_sum_i64(Comm *c, int64_t *v, int n);
#endif
