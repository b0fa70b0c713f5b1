/* parallel.h - loops over all threads with a fixed division of work.
 *
 * Work is cut into chunks by the problem, never by timing; each chunk writes its own results and sums
 * over chunks run in chunk order, so results never depend on scheduling. */
#ifndef RETORT_BASE_PARALLEL_H
#define RETORT_BASE_PARALLEL_H
#include <stdint.h>
void parallel_set_threads(int n);       /* 0: all processors */
int  parallel_threads(void);
/* Calls fn(arg, i) for i in 0..n-1 over the threads, contiguous static ranges. */
void parallel_for(int64_t n, void (*fn)(void *arg, int64_t i), void *arg);
#endif
