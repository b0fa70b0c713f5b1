/* resize.c - see resize.h. Two passes with a byte between them:
 *   out[i] = sum over j of k((j + 0.5 - (i + 0.5) s) / max(s, 1)) in[j] / sum of k,   s = n_in / n_out.
 * Weights are whole numbers of 2^-22, so the bytes are the same on every processor. */
#include "data/resize.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

enum { WEIGHT_BITS = 22, ROUND = 1 << (WEIGHT_BITS - 1), CHANNELS = 3 };

/* ---- kernels, at x in pixels of the coarser grid ------------------------------------------------ */
static double area(double x) { return x > -0.5 && x <= 0.5; }
static double linear(double x) { return fmax(0, 1 - fabs(x)); }
static double cubic(double x) { /* Keys, a = -1/2 */
    x = fabs(x);
    return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}
static double sinc(double x) { return x == 0 ? 1 : sin(M_PI * x) / (M_PI * x); }
static double lanczos(double x) { return fabs(x) < 3 ? sinc(x) * sinc(x / 3) : 0; }

static const struct {
    double (*at)(double x);
    double reach;                    /* 0 beyond */
} kernels[] = {[KERNEL_AREA] = {area, 0.5},
               [KERNEL_LINEAR] = {linear, 1},
               [KERNEL_CUBIC] = {cubic, 2},
               [KERNEL_LANCZOS] = {lanczos, 3}};
_Static_assert(sizeof kernels / sizeof *kernels == KERNELS, "one row per kernel");

/* ---- one direction ----------------------------------------------------------------------------- */
typedef struct Span {                /* output i reads count inputs from first on */
    int first, count;
} Span;
typedef struct Filter {
    Span *span;                      /* [n_out] */
    int32_t *weight;                 /* [n_out x most] */
    int most;
} Filter;

static Filter filter_open(ResizeKernel kernel, int n_in, int n_out) {
    const double step = (double)n_in / n_out, wide = fmax(step, 1),
                 reach = kernels[kernel].reach * wide;
    Filter f = {.most = 2 * (int)ceil(reach) + 1};
    f.span = xcalloc((size_t)n_out, sizeof *f.span);
    f.weight = xcalloc((size_t)n_out * (size_t)f.most, sizeof *f.weight);
    double *k = xcalloc((size_t)f.most, sizeof *k);
    for (int i = 0; i < n_out; i++) {
        const double centre = (i + 0.5) * step;
        const int lo = (int)fmax(0, centre - reach + 0.5),
                  hi = (int)fmin(n_in, centre + reach + 0.5);
        double sum = 0;
        for (int j = lo; j < hi; j++)
            sum += k[j - lo] = kernels[kernel].at((j - centre + 0.5) / wide);
        for (int j = lo; j < hi; j++)
            f.weight[i * f.most + j - lo] = (int32_t)lround(k[j - lo] / sum * (1 << WEIGHT_BITS));
        f.span[i] = (Span){lo, hi - lo};
    }
    free(k);
    return f;
}

static void filter_close(Filter *f) { free(f->span), free(f->weight); }

static uint8_t to_byte(int32_t v) {
    v >>= WEIGHT_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void along_row(const Filter *f, int n_out, const uint8_t *src, uint8_t *dst) {
    for (int i = 0; i < n_out; i++) {
        const int32_t *w = f->weight + i * f->most;
        const uint8_t *at = src + f->span[i].first * CHANNELS;
        int32_t sum[CHANNELS] = {ROUND, ROUND, ROUND};
        for (int j = 0; j < f->span[i].count; j++)
            for (int c = 0; c < CHANNELS; c++) sum[c] += w[j] * at[j * CHANNELS + c];
        for (int c = 0; c < CHANNELS; c++) dst[i * CHANNELS + c] = to_byte(sum[c]);
    }
}

/* sum: scratch of n values. */
static void across_rows(const Filter *f, int i, const uint8_t *src, size_t n, int32_t *sum,
                        uint8_t *dst) {
    for (size_t x = 0; x < n; x++) sum[x] = ROUND;
    for (int j = 0; j < f->span[i].count; j++) {
        const int32_t w = f->weight[i * f->most + j];
        const uint8_t *row = src + (size_t)(f->span[i].first + j) * n;
        for (size_t x = 0; x < n; x++) sum[x] += w * row[x];
    }
    for (size_t x = 0; x < n; x++) dst[x] = to_byte(sum[x]);
}

/* dst: h x n_out */
static void all_rows(const Filter *f, int n_in, int n_out, int h, const uint8_t *src,
                     uint8_t *dst) {
    for (size_t y = 0; y < (size_t)h; y++)
        along_row(f, n_out, src + y * (size_t)n_in * CHANNELS, dst + y * (size_t)n_out * CHANNELS);
}

/* dst: n_out x w */
static void all_columns(const Filter *f, int n_out, int w, const uint8_t *src, uint8_t *dst) {
    const size_t n = (size_t)w * CHANNELS;
    int32_t *sum = xcalloc(n, sizeof *sum);
    for (int y = 0; y < n_out; y++) across_rows(f, y, src, n, sum, dst + (size_t)y * n);
    free(sum);
}

/* Rows first; but columns where they alone shrink, which is less to do. */
void resize_rgb(Resize to, const uint8_t *src, int h, int w, uint8_t *dst) {
    const bool columns_first = to.h < h && to.w > w;
    Filter rows = filter_open(to.kernel, w, to.w), columns = filter_open(to.kernel, h, to.h);
    uint8_t *between = columns_first ? xcalloc((size_t)to.h, (size_t)w * CHANNELS)
                                     : xcalloc((size_t)h, (size_t)to.w * CHANNELS);
    if (columns_first) {
        all_columns(&columns, to.h, w, src, between);
        all_rows(&rows, w, to.w, to.h, between, dst);
    } else {
        all_rows(&rows, w, to.w, h, src, between);
        all_columns(&columns, to.h, to.w, between, dst);
    }
    free(between);
    filter_close(&rows), filter_close(&columns);
}

void resize_labels(Resize to, const uint8_t *src, int h, int w, uint8_t *dst) {
    for (int y = 0; y < to.h; y++) {
        const uint8_t *row = src + (size_t)((int64_t)(2 * y + 1) * h / (2 * to.h)) * (size_t)w;
        for (int x = 0; x < to.w; x++)
            dst[(size_t)y * (size_t)to.w + (size_t)x] = row[(int64_t)(2 * x + 1) * w / (2 * to.w)];
    }
}
