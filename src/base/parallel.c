/* parallel.c - OpenMP with a static schedule: which thread runs which index depends on n and the
 * number of threads only. */
#include "base/parallel.h"

#include <omp.h>

#include "base/sys.h"

void parallel_set_threads(int n) { omp_set_num_threads(n > 0 ? n : sys_cpus()); }

int parallel_threads(void) { return omp_get_max_threads(); }

static void serial_for(int64_t n, void (*fn)(void *arg, int64_t i), void *arg) {
    for (int64_t i = 0; i < n; i++) fn(arg, i);
}

/* libgomp is not instrumented: the thread sanitizer is told what its barriers order. */
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
static char begun, ended;
#define ORDER_BEFORE(what) __tsan_release(&what)
#define ORDER_AFTER(what) __tsan_acquire(&what)
#else
#define ORDER_BEFORE(what) (void)0
#define ORDER_AFTER(what) (void)0
#endif

/* With one thread libgomp would make and free a team for every region. */
void parallel_for(int64_t n, void (*fn)(void *arg, int64_t i), void *arg) {
    if (n <= 1 || parallel_threads() == 1) { serial_for(n, fn, arg); return; }
    ORDER_BEFORE(begun);
#pragma omp parallel
    {
        ORDER_AFTER(begun);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n; i++) fn(arg, i);
        ORDER_BEFORE(ended);
    }
    ORDER_AFTER(ended);
}
