/* interval.c - how sure a mIoU is: the bootstrap over images (Efron 1979, percentiles).
 *
 * mIoU needs of each image only three counts per class, so drawing n images anew costs n x 3 K
 * additions. Pixels of one image depend on each other; images are what is drawn. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "eval/eval.h"

enum { DRAWS = 1000 };

void confusion_counts(const Confusion *m, int64_t *counts) {
    const int n = m->n;
    memset(counts, 0, (size_t)n * 3 * sizeof *counts);
    for (int k = 0; k < n; k++)
        for (int j = 0; j < n; j++) {
            const int64_t v = m->count[(int64_t)k * n + j];
            if (k == j) counts[3 * k] += v;
            counts[3 * k + 1] += v, counts[3 * j + 2] += v;
        }
}

double counts_miou(const int64_t *sum, int n_classes) {
    double total = 0;
    int seen = 0;
    for (int k = 0; k < n_classes; k++) {
        const int64_t *c = sum + 3 * k, either = c[1] + c[2] - c[0];
        if (either) total += (double)c[0] / (double)either, seen++;
    }
    return seen ? total / seen : NAN;
}

void scores_interval(const int64_t *counts, int n, int n_classes, uint64_t seed, double out[2]) {
    const int width = 3 * n_classes;
    double miou[DRAWS];
    int64_t *sum = xcalloc((size_t)width, sizeof *sum);
    out[0] = out[1] = NAN;
    for (int t = 0; t < DRAWS && n > 0; t++) {
        Rng r = rng_stream(seed, RNG_SHUFFLE, (uint64_t)t, 2); /* a stream that no epoch uses */
        memset(sum, 0, (size_t)width * sizeof *sum);
        for (int i = 0; i < n; i++) {
            const int64_t *one =
                counts + (size_t)rng_below(&r, (uint64_t)i, (uint32_t)n) * (size_t)width;
            for (int k = 0; k < width; k++) sum[k] += one[k];
        }
        miou[t] = counts_miou(sum, n_classes);
    }
    free(sum);
    if (n <= 0) return;
    qsort(miou, DRAWS, sizeof *miou, stats_ascending);
    out[0] = miou[DRAWS * 25 / 1000], out[1] = miou[DRAWS * 975 / 1000 - 1];
}
