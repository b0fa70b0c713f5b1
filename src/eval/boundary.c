/* boundary.c - how well outlines are met: boundary IoU and boundary F1.
 *
 * Void pixels of the label are void in the prediction too. For each class k, with G and P the pixels
 * that label and prediction call k:
 *
 * Boundary IoU (Cheng et al., CVPR 2021, eq. 3): B(M) = pixels of M within d of what is not M, by
 * Chebyshev distance: what d erosions by 3 x 3 take away, outside the image being not M either.
 *     d = max(1, round(0.02 * diagonal))        IoU_k = sum |B(G) & B(P)| / sum |B(G) | B(P)|
 * with the sums over all images, as for IoU. A border to void is a border of both.
 *
 * Boundary F1 (Csurka et al., BMVC 2013): the outline of M is its pixels with one of their four
 * neighbours in another class; void and the image's edge make no outline. Precision is the share of P's
 * outline that lies within theta (Euclidean) of G's, recall that of G's near P's,
 *     theta = max(1, 0.0075 * diagonal)         F = 2 p r / (p + r)
 * and 0 where only one of them has an outline. The score of a class is the mean of F over the images
 * where it has one, as in Csurka's and in DAVIS' evaluation. F is summed in units of 2^-30.
 *
 * All classes are done at once: a pixel is within d of another class where the window around it holds a
 * smaller or a larger number, which are two passes of a running minimum and maximum. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/eval.h"

enum { PER_CLASS = 5, BOTH = 0, LABEL, PREDICTION, F_SUM, F_IMAGES, NO_OUTLINE = 255 };
static const double BAND = 0.02, TOLERANCE = 0.0075, F_UNIT = 1 << 30;

static int boundary_sums(int classes) { return PER_CLASS * classes; }

/* ---- bands ----------------------------------------------------------------------------------- */
/* low[i], high[i] = extrema of src[i - d .. i + d] on a line of n values `step` apart; the line ends
 * where the image does. Both may be src. tmp: 2 n bytes. */
static void line_extrema(const uint8_t *low_src, const uint8_t *high_src, uint8_t *low,
                         uint8_t *high, int n, int64_t step, int d, uint8_t *tmp) {
    /* Run lengths suffice where values are few: an extremum is renewed when its place leaves the window. */
    int at_low = 0, at_high = 0, filled = 0;
    for (int i = 0; i < n; i++) {
        const int from = i - d > 0 ? i - d : 0, to = i + d < n - 1 ? i + d : n - 1;
        if (at_low < from) {
            at_low = from;
            for (int j = from; j < filled; j++)
                if (low_src[j * step] <= low_src[at_low * step]) at_low = j;
        }
        if (at_high < from) {
            at_high = from;
            for (int j = from; j < filled; j++)
                if (high_src[j * step] >= high_src[at_high * step]) at_high = j;
        }
        for (; filled <= to; filled++) {
            if (low_src[filled * step] <= low_src[at_low * step]) at_low = filled;
            if (high_src[filled * step] >= high_src[at_high * step]) at_high = filled;
        }
        tmp[2 * i] = low_src[at_low * step], tmp[2 * i + 1] = high_src[at_high * step];
    }
    for (int i = 0; i < n; i++) low[i * step] = tmp[2 * i], high[i * step] = tmp[2 * i + 1];
}

/* band[i] = 1 where pixel i of map lies within d of another number or of the image's edge. */
static void band_of(const uint8_t *map, int h, int w, int d, uint8_t *band) {
    const int64_t pixels = (int64_t)h * w;
    uint8_t *low = xcalloc((size_t)pixels, 1), *high = xcalloc((size_t)pixels, 1);
    uint8_t *tmp = xcalloc((size_t)(h > w ? h : w), 2);
    for (int y = 0; y < h; y++)
        line_extrema(map + (int64_t)y * w, map + (int64_t)y * w, low + (int64_t)y * w,
                     high + (int64_t)y * w, w, 1, d, tmp);
    for (int x = 0; x < w; x++) line_extrema(low + x, high + x, low + x, high + x, h, w, d, tmp);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            const int64_t i = (int64_t)y * w + x;
            band[i] = low[i] != high[i] || y < d || x < d || y >= h - d || x >= w - d;
        }
    free(low), free(high), free(tmp);
}

static void add_bands(int64_t *sum, int classes, const uint8_t *label, const uint8_t *pred, int h,
                      int w) {
    const int64_t pixels = (int64_t)h * w;
    const int d = (int)fmax(1, lround(BAND * sqrt((double)h * h + (double)w * w)));
    uint8_t *g = xcalloc((size_t)pixels, 1), *p = xcalloc((size_t)pixels, 1);
    band_of(label, h, w, d, g), band_of(pred, h, w, d, p);
    for (int64_t i = 0; i < pixels; i++) {
        if (g[i] && label[i] < classes) sum[PER_CLASS * label[i] + LABEL]++;
        if (p[i] && pred[i] < classes) sum[PER_CLASS * pred[i] + PREDICTION]++;
        if (g[i] && p[i] && label[i] == pred[i] && label[i] < classes)
            sum[PER_CLASS * label[i] + BOTH]++;
    }
    free(g), free(p);
}

/* ---- outlines -------------------------------------------------------------------------------- */
static void outline_of(const uint8_t *map, int h, int w, int classes, uint8_t *out) {
    static const int dy[4] = {-1, 1, 0, 0}, dx[4] = {0, 0, -1, 1};
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            const uint8_t k = map[(int64_t)y * w + x];
            bool edge = false;
            for (int i = 0; i < 4 && k < classes; i++) {
                const int v = y + dy[i], u = x + dx[i];
                if (v < 0 || u < 0 || v >= h || u >= w) continue;
                const uint8_t other = map[(int64_t)v * w + u];
                edge |= other != k && other < classes;
            }
            out[(int64_t)y * w + x] = edge ? k : NO_OUTLINE;
        }
}

typedef struct Step { int dy, dx; } Step;
typedef struct Disk { Step *v; int n; } Disk;        /* the nearest first */

static int by_distance(const void *a, const void *b) {
    const Step *p = a, *q = b;
    const int near = p->dy * p->dy + p->dx * p->dx - q->dy * q->dy - q->dx * q->dx;
    return near ? near : p->dy != q->dy ? p->dy - q->dy : p->dx - q->dx;
}

static Disk disk_of(double radius) {
    const int r = (int)radius;
    Disk d = {.v = xcalloc((size_t)(2 * r + 1) * (size_t)(2 * r + 1), sizeof *d.v)};
    for (int dy = -r; dy <= r; dy++)
        for (int dx = -r; dx <= r; dx++)
            if (dy * dy + dx * dx <= radius * radius) d.v[d.n++] = (Step){dy, dx};
    qsort(d.v, (size_t)d.n, sizeof *d.v, by_distance);
    return d;
}

/* all[k], near[k] += pixels of outline a of class k, and those of them near an outline pixel of k in b. */
static void count_near(const uint8_t *a, const uint8_t *b, int h, int w, const Disk *disk,
                       int64_t *all, int64_t *near) {
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            const uint8_t k = a[(int64_t)y * w + x];
            if (k == NO_OUTLINE) continue;
            all[k]++;
            for (int i = 0; i < disk->n; i++) {
                const int v = y + disk->v[i].dy, u = x + disk->v[i].dx;
                if (v < 0 || u < 0 || v >= h || u >= w || b[(int64_t)v * w + u] != k) continue;
                near[k]++;
                break;
            }
        }
}

static void add_outlines(int64_t *sum, int classes, const uint8_t *label, const uint8_t *pred,
                         int h, int w) {
    const size_t pixels = (size_t)h * (size_t)w;
    const double theta = fmax(1, TOLERANCE * sqrt((double)h * h + (double)w * w));
    Disk disk = disk_of(theta);
    uint8_t *g = xcalloc(pixels, 1), *p = xcalloc(pixels, 1);
    int64_t *count = xcalloc(4 * (size_t)classes, sizeof *count);
    int64_t *all_g = count, *near_g = count + classes, *all_p = count + 2 * classes,
            *near_p = count + 3 * classes;
    outline_of(label, h, w, classes, g), outline_of(pred, h, w, classes, p);
    count_near(g, p, h, w, &disk, all_g, near_g);
    count_near(p, g, h, w, &disk, all_p, near_p);
    for (int k = 0; k < classes; k++) {
        if (!all_g[k] && !all_p[k]) continue;
        const double precision = all_p[k] ? (double)near_p[k] / (double)all_p[k] : 0;
        const double recall = all_g[k] ? (double)near_g[k] / (double)all_g[k] : 0;
        const double f = precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0;
        sum[PER_CLASS * k + F_SUM] += llround(f * F_UNIT), sum[PER_CLASS * k + F_IMAGES]++;
    }
    free(g), free(p), free(count), free(disk.v);
}

/* ---- the metric ------------------------------------------------------------------------------ */
static void boundary_add(int64_t *sum, int classes, const EvalImage *im) {
    const int64_t pixels = (int64_t)im->h * im->w;
    uint8_t *pred = xcalloc((size_t)pixels, 1);
    for (int64_t i = 0; i < pixels; i++)
        pred[i] = im->label[i] < classes ? im->pred[i] : im->label[i];
    add_bands(sum, classes, im->label, pred, im->h, im->w);
    add_outlines(sum, classes, im->label, pred, im->h, im->w);
    free(pred);
}

static int boundary_scores(const int64_t *sum, int classes, ClassScore *out) {
    double *iou = xcalloc((size_t)classes, sizeof *iou), *f1 = xcalloc((size_t)classes, sizeof *f1);
    for (int k = 0; k < classes; k++) {
        const int64_t *s = sum + PER_CLASS * k, either = s[LABEL] + s[PREDICTION] - s[BOTH];
        iou[k] = either ? (double)s[BOTH] / (double)either : NAN;
        f1[k] = s[F_IMAGES] ? (double)s[F_SUM] / F_UNIT / (double)s[F_IMAGES] : NAN;
    }
    out[0] = (ClassScore){"boundary_iou", "boundary IoU", score_mean(iou, classes), iou};
    out[1] = (ClassScore){"boundary_f1", "boundary F1", score_mean(f1, classes), f1};
    return 2;
}

const MetricDef metric_boundary = {
    .name = "boundary",
    .help = "boundary IoU (2 % of the diagonal) and boundary F1 (0.75 %)",
    .sums = boundary_sums,
    .add = boundary_add,
    .scores = boundary_scores,
};
