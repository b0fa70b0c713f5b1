/* bootstrap.c - matched arms on other images: how much of a difference is the choice of test images.
 *
 * Units (images, or groups of images that belong together) are drawn with replacement, the same for
 * all arms and seeds, so what an image does to all of them cancels. Each draw gives every run a mIoU
 * of the summed counts, every arm the mean over its seeds, every difference one value; intervals are
 * percentiles (Efron 1979). The runs themselves stay: what other seeds would give, it does not tell. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "eval/eval.h"

/* mIoU of the units drawn: how often each is in weight[n_units]. sum: 3 K numbers of scratch. */
static double drawn_miou(const Bootstrap *b, const int64_t *counts, const int *weight,
                         int64_t *sum) {
    const int width = 3 * b->n_classes;
    memset(sum, 0, (size_t)width * sizeof *sum);
    for (int u = 0; u < b->n_units; u++)
        for (int k = 0; weight[u] && k < width; k++) sum[k] += weight[u] * counts[u * width + k];
    return counts_miou(sum, b->n_classes);
}

/* Every run's, arms x seeds; NaN: there is no such run. */
static void drawn_mious(const Bootstrap *b, const int *weight, int64_t *sum, double *out) {
    for (int i = 0; i < b->n_arms * b->n_seeds; i++)
        out[i] = b->counts[i] ? drawn_miou(b, b->counts[i], weight, sum) : NAN;
}

/* Mean over seeds of x, or of x - base where both are. */
static double mean_over_seeds(const double *x, const double *base, int n) {
    double total = 0;
    int found = 0;
    for (int s = 0; s < n; s++) {
        const double v = base ? x[s] - base[s] : x[s];
        if (!isnan(v)) total += v, found++;
    }
    return found ? total / found : NAN;
}

static Interval percentiles(double *x, int n) {
    if (isnan(x[0])) return (Interval){NAN, NAN};        /* a missing run is missing in every draw */
    qsort(x, (size_t)n, sizeof *x, stats_ascending);
    return (Interval){stats_quantile(x, n, 0.025), stats_quantile(x, n, 0.975)};
}

void bootstrap_arms(const Bootstrap *b, uint64_t seed, Interval *mean, Interval *gain) {
    const size_t draws = BOOTSTRAP_DRAWS, arms = (size_t)b->n_arms;
    double *value = xcalloc(2 * arms * draws, sizeof *value), *apart = value + arms * draws,
           *miou = xcalloc(arms * (size_t)b->n_seeds, sizeof *miou);
    int *weight = xcalloc((size_t)b->n_units, sizeof *weight);
    int64_t *sum = xcalloc(3 * (size_t)b->n_classes, sizeof *sum);
    for (size_t t = 0; t < draws; t++) {
        Rng r = rng_stream(seed, RNG_SHUFFLE, (uint64_t)t, 3);       /* a stream that no epoch uses */
        memset(weight, 0, (size_t)b->n_units * sizeof *weight);
        for (int i = 0; i < b->n_units; i++)
            weight[rng_below(&r, (uint64_t)i, (uint32_t)b->n_units)]++;
        drawn_mious(b, weight, sum, miou);
        for (size_t a = 0; a < arms; a++) {
            const double *own = miou + a * (size_t)b->n_seeds, *base = miou + b->base * b->n_seeds;
            value[a * draws + t] = mean_over_seeds(own, NULL, b->n_seeds);
            apart[a * draws + t] = mean_over_seeds(own, base, b->n_seeds);
        }
    }
    for (size_t a = 0; a < arms; a++) {
        mean[a] = percentiles(value + a * draws, BOOTSTRAP_DRAWS);
        gain[a] = percentiles(apart + a * draws, BOOTSTRAP_DRAWS);
    }
    free(value), free(miou), free(weight), free(sum);
}
