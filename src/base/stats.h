/* stats.h - means of a few numbers, how sure they are, and what so few can show. */
#ifndef RETORT_BASE_STATS_H
#define RETORT_BASE_STATS_H

typedef struct Interval { double lo, hi; } Interval;         /* NaN: not known */
typedef struct Moments { int n; double mean, sd; Interval ci; } Moments;     /* sd: of n - 1; NaN below two */

/* P(T <= t) of Student's t with nu >= 1 degrees of freedom, noncentral by shift. */
double stats_t_cdf(double t, double nu, double shift);
double stats_t_quantile(double p, double nu);                /* 0 < p < 1 */
/* Of the finite ones among n numbers; ci covers the mean with probability level (0.95), by Student's t. */
Moments stats_moments(const double *x, int n, double level);
/* The smallest mean of n differences, in units of their standard deviation, that a two-sided t test at
 * 1 - level finds with probability power. NaN for n < 2. */
double stats_detectable(int n, double level, double power);
/* Quantile of n ascending numbers, linear between neighbours (numpy's default). NaN for n = 0. */
double stats_quantile(const double *ascending, int n, double p);
int    stats_ascending(const void *a, const void *b);        /* for qsort of doubles */
double stats_median(double *x, int n);                       /* of the finite ones; sorts x; NaN: none */
#endif
