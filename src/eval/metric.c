/* metric.c - the list of metrics.def. */
#include <math.h>
#include <string.h>

#include "eval/eval.h"

#define METRIC(name) extern const MetricDef metric_##name;
#include "eval/metrics.def"
#undef METRIC
#define METRIC(name) &metric_##name,
static const MetricDef *const metrics[] = {
#include "eval/metrics.def"
};
#undef METRIC
enum { N_METRICS = sizeof metrics / sizeof *metrics };
_Static_assert((int)N_METRICS <= (int)METRICS_MAX, "an Evaluation has room for all");

const MetricDef *metric_at(int i) { return i < N_METRICS ? metrics[i] : NULL; }

double score_mean(const double *v, int n) {
    double sum = 0;
    int seen = 0;
    for (int i = 0; i < n; i++)
        if (!isnan(v[i])) sum += v[i], seen++;
    return seen ? sum / seen : NAN;
}

const MetricDef *metric_find(const char *name) {
    for (int i = 0; i < N_METRICS; i++)
        if (!strcmp(metrics[i]->name, name)) return metrics[i];
    return NULL;
}
