/* spark.c - see spark.h. */
#include "base/spark.h"

#include <math.h>

void spark_text(Str *out, const double *v, int n) {
    enum { HEIGHTS = 8 };
    double lo = INFINITY, hi = -INFINITY;
    for (int i = 0; i < n; i++)
        if (isfinite(v[i])) lo = fmin(lo, v[i]), hi = fmax(hi, v[i]);
    for (int i = 0; i < n; i++) {
        if (!isfinite(v[i])) {
            str_add(out, " ");
            continue;
        }
        const double at = hi > lo ? (v[i] / 2 - lo / 2) / (hi / 2 - lo / 2)
                                  : 0; /* halves: the range may overflow */
        const int height = at < 1 ? (int)(at * HEIGHTS) : HEIGHTS - 1;
        const char block[4] = {'\xe2', '\x96', (char)(0x81 + height), 0}; /* U+2581 to U+2588 */
        str_add(out, block);
    }
}

void spark_add(Spark *s, double value) {
    if (!isfinite(value)) return;
    if (!s->per) s->per = 1;
    s->sum += value;
    if (++s->held < s->per) return;
    if (s->n == SPARK_WIDTH) {
        for (int i = 0; i < SPARK_WIDTH / 2; i++)
            s->mean[i] = (s->mean[2 * i] + s->mean[2 * i + 1]) / 2;
        s->n = SPARK_WIDTH / 2;
        s->per *= 2;
        if (s->held < s->per) return; /* the present one is half a mean now */
    }
    s->mean[s->n++] = s->sum / (double)s->held;
    s->sum = 0, s->held = 0;
}
