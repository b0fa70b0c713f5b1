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

static double drawn_mean(const Bootstrap *b, int arm, const int *weight, int64_t *sum) {
    double total = 0;
    for (int s = 0; s < b->n_seeds; s++)
        total += drawn_miou(b, b->counts[arm * b->n_seeds + s], weight, sum);
    return total / b->n_seeds;
}

static Interval percentiles(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, stats_ascending);
    return (Interval){stats_quantile(x, n, 0.025), stats_quantile(x, n, 0.975)};
}

void bootstrap_arms(const Bootstrap *b, uint64_t seed, Interval *mean, Interval *gain) {
    const size_t draws = BOOTSTRAP_DRAWS;
    double *value = xcalloc((size_t)b->n_arms * draws, sizeof *value),
           *apart = xcalloc(draws, sizeof *apart);
    int *weight = xcalloc((size_t)b->n_units, sizeof *weight);
    int64_t *sum = xcalloc(3 * (size_t)b->n_classes, sizeof *sum);
    for (size_t t = 0; t < draws; t++) {
        Rng r = rng_stream(seed, RNG_SHUFFLE, (uint64_t)t, 3);       /* a stream that no epoch uses */
        memset(weight, 0, (size_t)b->n_units * sizeof *weight);
        for (int i = 0; i < b->n_units; i++)
            weight[rng_below(&r, (uint64_t)i, (uint32_t)b->n_units)]++;
        for (int a = 0; a < b->n_arms; a++)
            value[(size_t)a * draws + t] = drawn_mean(b, a, weight, sum);
    }
    for (int a = 0; a < b->n_arms; a++) {
        for (size_t t = 0; t < draws; t++)
            apart[t] = value[(size_t)a * draws + t] - value[(size_t)b->base * draws + t];
        gain[a] = percentiles(apart, BOOTSTRAP_DRAWS);
    }
    for (int a = 0; a < b->n_arms; a++)
        mean[a] = percentiles(value + (size_t)a * draws, BOOTSTRAP_DRAWS);
    free(value), free(apart), free(weight), free(sum);
}
