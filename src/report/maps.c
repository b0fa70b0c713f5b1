/* maps.c - what RDD sees on one image: the weight of TFE and the mask of TSE.
 *
 * The same formulas as the loss (docs: TFE w = exp(-KL(softmax(Ta) || softmax(T))), or turned round, upsampled with
 * align_corners; TSE hard_X = { q_X <= max(theta, k-th smallest q_X) }), in plain C for pictures.
 * The k-th smallest is taken over the pixels of the one image, in training over those of the batch.
 */
#include "report/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where output i of n lies on a grid of m, corners aligned. */
static double grid_at(int i, int n, int m) {
    return n > 1 ? (double)i * (m - 1) / (n - 1) : 0;
}

/* Bilinear value of one plane h x w at (y, x). */
static double plane_at(const float *p, int h, int w, double y, double x) {
    int y0 = (int)y, x0 = (int)x, y1 = y0 + 1 < h ? y0 + 1 : y0, x1 = x0 + 1 < w ? x0 + 1 : x0;
    double fy = y - y0, fx = x - x0;
    double top = p[y0 * w + x0] * (1 - fx) + p[y0 * w + x1] * fx;
    double low = p[y1 * w + x0] * (1 - fx) + p[y1 * w + x1] * fx;
    return top * (1 - fy) + low * fy;
}

/* Log-softmax of n values in place. */
static void log_softmax(double *v, int n) {
    double top = v[0], sum = 0;
    for (int i = 1; i < n; i++) top = fmax(top, v[i]);
    for (int i = 0; i < n; i++) sum += exp(v[i] - top);
    for (int i = 0; i < n; i++) v[i] -= top + log(sum);
}

/* Log-softmax of a grid's classes where position i of `like` lies. */
static void classes_at(double *v, Grid g, Grid like, int i) {
    for (int c = 0; c < g.k; c++)
        v[c] = plane_at(g.logits + (int64_t)c * g.h * g.w, g.h, g.w,
                        grid_at(i / like.w, like.h, g.h), grid_at(i % like.w, like.w, g.w));
    log_softmax(v, g.k);
}

void map_tfe(float *weight, Grid t_main, Grid t_other, bool turned, int H, int W) {
    const int k = t_main.k, pixels = t_main.h * t_main.w;
    float *low = xcalloc((size_t)pixels, sizeof *low);
    double *a = xcalloc((size_t)k, sizeof *a), *b = xcalloc((size_t)k, sizeof *b);
    for (int i = 0; i < pixels; i++) {
        double kl = 0;
        classes_at(turned ? b : a, t_other.logits ? t_other : t_main, t_main, i);
        classes_at(turned ? a : b, t_main, t_main, i);
        for (int c = 0; c < k; c++) kl += exp(a[c]) * (a[c] - (t_other.logits ? b[c] : 0));
        low[i] = (float)(t_other.logits ? exp(-kl) : k > 1 ? 1 + kl / log(k) : 1); /* kl: - entropy */
    }
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            weight[y * W + x] = (float)plane_at(low, t_main.h, t_main.w, grid_at(y, H, t_main.h),
                                                grid_at(x, W, t_main.w));
    free(low);
    free(a);
    free(b);
}

/* q[i] = probability of the true class at full resolution; 1 where the label is void. */
static void true_probability(float *q, Grid g, const uint8_t *label, int H, int W) {
    double *v = xcalloc((size_t)g.k, sizeof *v);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            int64_t i = (int64_t)y * W + x;
            q[i] = 1;
            if (label[i] >= g.k) continue;
            for (int c = 0; c < g.k; c++)
                v[c] = plane_at(g.logits + (int64_t)c * g.h * g.w, g.h, g.w, grid_at(y, H, g.h),
                                grid_at(x, W, g.w));
            log_softmax(v, g.k);
            q[i] = (float)exp(v[label[i]]);
        }
    free(v);
}

static int compare_floats(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* max(theta, k-th smallest q over the valid pixels); -1 when there is none. */
static double hard_threshold(const float *q, const uint8_t *label, int classes, int64_t pixels,
                             double fraction, double theta) {
    float *sorted = xcalloc((size_t)pixels, sizeof *sorted);
    int64_t n = 0;
    for (int64_t i = 0; i < pixels; i++)
        if (label[i] < classes) sorted[n++] = q[i];
    qsort(sorted, (size_t)n, sizeof *sorted, compare_floats);
    int64_t k = (int64_t)floor(fraction * (double)n);
    double cut = n ? fmax(theta, sorted[k > 1 ? k - 1 : 0]) : -1;
    free(sorted);
    return cut;
}

void map_tse(uint8_t *part, Grid student, Grid teacher, const uint8_t *label, int H, int W,
             double fraction, double theta) {
    int64_t pixels = (int64_t)H * W;
    float *qs = xcalloc((size_t)pixels, sizeof *qs), *qt = xcalloc((size_t)pixels, sizeof *qt);
    true_probability(qs, student, label, H, W);
    true_probability(qt, teacher, label, H, W);
    double cut_s = hard_threshold(qs, label, student.k, pixels, fraction, theta);
    double cut_t = hard_threshold(qt, label, student.k, pixels, fraction, theta);
    for (int64_t i = 0; i < pixels; i++) {
        bool s = qs[i] <= cut_s, t = qt[i] <= cut_t;
        part[i] = label[i] >= student.k ? PART_NONE
                  : s && t              ? PART_BOTH
                  : s                   ? PART_STUDENT
                  : t                   ? PART_TEACHER
                                        : PART_EASY;
    }
    free(qs);
    free(qt);
}

void map_classes(uint8_t *label, Grid g, int H, int W) {
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            double best = -INFINITY;
            for (int c = 0; c < g.k; c++) {
                double v = plane_at(g.logits + (int64_t)c * g.h * g.w, g.h, g.w, grid_at(y, H, g.h),
                                    grid_at(x, W, g.w));
                if (v > best) best = v, label[y * W + x] = (uint8_t)c;
            }
        }
}
