/* measure.h - how far values are apart, and what a program that was run took. */
#ifndef RETORT_TESTS_MEASURE_H
#define RETORT_TESTS_MEASURE_H
#include <math.h>
#include <stdint.h>
#include <sys/resource.h>

/* |a - b| / |b| in L2; of |a - b| alone where b is 0. */
static inline double l2_ratio(const float *a, const float *b, int64_t n) {
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++)
        d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]), s += (double)b[i] * b[i];
    return sqrt(d / (s > 0 ? s : 1));
}
static inline double max_abs(const float *v, int64_t n) {    /* NaN when one is */
    double m = 0;
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)v[i]) <= m)) m = fabs((double)v[i]);
    return m;
}
/* Processor time of all programs that have ended: the machine may be busy with other things. */
static inline double children_cpu_s(void) {
    struct rusage u;
    if (getrusage(RUSAGE_CHILDREN, &u)) return NAN;
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}
#endif
