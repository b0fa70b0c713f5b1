/* dist.c - distillation from a stronger teacher by correlation (Huang et al., NeurIPS 2022, arXiv 2205.10536, eq. 8-11).
 *
 * Probabilities softmax(F / tau) as a matrix of R = N h w rows and K columns;
 *   inter = 1 - mean over rows of r(student's row, teacher's row), intra the same over columns,
 *   loss = tau^2 (beta inter + gamma intra), r = sum a b / (|a| |b| + 1e-8), a and b less their means.
 * F_s, F_t: logits N x K x h x w. mask=valid leaves rows out. The columns run over the whole batch: of an update in
 * parts each part's moments are gathered and joined (Chan et al., 1979), so that none is the difference of large sums;
 * scope=micro-batch takes those of the micro-batch and spares that pass. */
#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "distill/pair.h"
#include "distill/parts.h"
#include "distill/rows.h"

typedef struct DistOptions { PairOptions pair; double tau, beta, gamma; int scope; } DistOptions;
typedef struct DistAttr { double tau, beta, gamma; PartStore *store; } DistAttr;         /* store NULL: micro-batches alone */
static const Option options[] = {
    PAIR_OPTIONS(DistOptions, "logits"),
    {"tau", OPT_F64, offsetof(DistOptions, tau), "1", "", "temperature of both softmaxes",
     .lo = 1e-3, .hi = 1e3},
    {"beta", OPT_F64, offsetof(DistOptions, beta), "1", "",
     "weight of the relation between classes, per position", .lo = 0, .hi = 1e6},
    {"gamma", OPT_F64, offsetof(DistOptions, gamma), "1", "",
     "weight of the relation within a class, over positions", .lo = 0, .hi = 1e6},
    {"scope", OPT_ENUM, offsetof(DistOptions, scope), "batch", "",
     "the positions of a class: the whole update's, or the micro-batch's (one forward pass less with train.accumulate)",
     .choices = "batch|micro-batch"},
    {0}};

enum { CHUNK = 128 };                            /* positions of a work item */
static const double EPS = 1e-8;

/* r and what its gradient by a is made of: dr/da = along_b b + along_a a. */
typedef struct Correlation { double r, along_b, along_a; } Correlation;
static Correlation correlate(double ab, double aa, double bb) {
    const double size_a = sqrt(aa), size_b = sqrt(bb), whole = size_a * size_b + EPS;
    return (Correlation){ab / whole, 1 / whole,
                         size_a > 0 ? -ab * size_b / (size_a * whole * whole) : 0};
}

/* Of one column: how many rows, means, and sums of products less the means. */
typedef struct Moments { double n, mean_s, mean_t, ab, aa, bb; } Moments;
static void join(Moments *m, const Moments *x) {
    const double n = m->n + x->n, ds = x->mean_s - m->mean_s, dt = x->mean_t - m->mean_t,
                 between = n > 0 ? m->n * x->n / n : 0;
    if (x->n == 0) return;
    m->ab += x->ab + between * ds * dt, m->aa += x->aa + between * ds * ds,
        m->bb += x->bb + between * dt * dt;
    m->mean_s += ds * x->n / n, m->mean_t += dt * x->n / n, m->n = n;
}

typedef struct Run {
    const OpCall *c;
    const DistAttr *a;
    double count;                                /* rows; of an update in parts, of each on average */
    int64_t P, chunks, own;                      /* own: rows of this micro-batch */
    int K;
    float  *s, *t;                               /* N x K x P: probabilities; the gradient takes s's place */
    float  *row_s, *row_t, *mask;                /* the same less 1 / K; N x P */
    double *row_sum;                             /* [N * chunks] */
    Moments *moments;                            /* [K] */
    Correlation *column;                         /* [K] */
} Run;

static size_t lay_out(Shape x, void *base, Run *r) {
    const size_t n = (size_t)shape_count(x), P = (size_t)grid_count(x), K = (size_t)x.d[1],
                 chunks = (P + CHUNK - 1) / CHUNK;
    char *at = base;
    *r = (Run){.P = (int64_t)P, .chunks = (int64_t)chunks, .K = (int)K};
    r->column = (Correlation *)at, at += K * sizeof *r->column;
    r->moments = (Moments *)at, at += K * sizeof *r->moments;
    r->row_sum = (double *)at, at += (size_t)x.d[0] * chunks * sizeof(double);
    r->t = (float *)at, at += n * sizeof(float);
    r->row_s = (float *)at, at += n * sizeof(float);
    r->row_t = (float *)at, at += n * sizeof(float);
    r->mask = (float *)at, at += (size_t)x.d[0] * P * sizeof(float);
    return (size_t)(at - (char *)base);
}
static size_t scratch_bytes(const OpSite *s, Shape dst) {
    Run unused;
    static char anchor;
    return lay_out(s->src[0], &anchor, &unused);
}

/* Item i: a stretch of positions of image *n from *at. */
static int64_t stretch(const Run *r, int64_t i, int64_t *n, int64_t *at) {
    *n = i / r->chunks, *at = i % r->chunks * CHUNK;
    return r->P - *at < CHUNK ? r->P - *at : CHUNK;
}
static void softmax_item(void *arg, int64_t i) {
    const Run *r = arg;
    int64_t n, at;
    const int64_t m = stretch(r, i, &n, &at), from = n * r->K * r->P + at;
    const float *student = r->c->src[0], *teacher = r->c->src[1], scale = (float)(1 / r->a->tau);
    rows()->channel_softmax(r->s + from, r->row_s + from, student + from, scale, r->K, r->P, m);
    rows()->channel_softmax(r->t + from, r->row_t + from, teacher + from, scale, r->K, r->P, m);
}
static void column_item(void *arg, int64_t k) {
    const Run *r = arg;
    Moments *m = &r->moments[k];
    const int64_t images = r->c->src_shape[0].d[0];
    *m = (Moments){.n = (double)r->own};
    for (int pass = 0; pass < 2 && r->own; pass++) {
        const double mean_s = m->mean_s, mean_t = m->mean_t;         /* 0 in the first */
        for (int64_t n = 0; n < images; n++) {
            const float *s = r->s + (n * r->K + k) * r->P, *t = r->t + (n * r->K + k) * r->P,
                        *mask = r->mask + n * r->P;
            double x = 0, y = 0, z = 0;
#pragma omp simd reduction(+ : x, y, z)
            for (int64_t i = 0; i < r->P; i++) {
                const double a = mask[i] != 0 ? (double)s[i] - mean_s : 0,
                             b = mask[i] != 0 ? (double)t[i] - mean_t : 0;
                x += pass ? a * b : a, y += pass ? a * a : b, z += b * b;
            }
            m->ab += x, m->aa += y, m->bb += pass * z;       /* first the sums, for the means */
        }
        if (!pass) *m = (Moments){.n = m->n, .mean_s = m->ab / m->n, .mean_t = m->aa / m->n};
    }
}
/* Of an update in parts: leave this part's moments when gathering, otherwise take those of all. */
static void share_moments(Run *r) {
    const Parts *p = r->a->store ? parts_of(r->c) : NULL;
    if (!p) return;
    Moments *all = part_store_data(r->a->store, sizeof(Moments) * (size_t)(p->parts * r->K));
    if (p->gather) memcpy(all + p->part * r->K, r->moments, sizeof(Moments) * (size_t)r->K);
    if (p->gather) return;
    memset(r->moments, 0, sizeof(Moments) * (size_t)r->K);
    for (int i = 0; i < p->parts * r->K; i++) join(&r->moments[i % r->K], &all[i]);
}
/* Rows of one stretch: their correlations, and the gradient of the whole by the logits. */
static void row_item(void *arg, int64_t i) {
    const Run *r = arg;
    int64_t n, first;
    const int64_t m = stretch(r, i, &n, &first), from = n * r->K * r->P + first;
    const double tau2 = r->a->tau * r->a->tau, parts = r->a->store ? parts_n(r->c) : 1;
    const double by_row = -tau2 * r->a->beta / r->count,
                 by_column = -parts * tau2 * r->a->gamma / r->K;
    double ab[CHUNK] = {0}, aa[CHUNK] = {0}, bb[CHUNK] = {0}, inner[CHUNK] = {0},
           mean_s[CHUNK] = {0}, mean_t[CHUNK] = {0}, sum = 0;
    const float *mask = r->mask + n * r->P + first;
    for (int k = 0; k < r->K; k++)       /* 0 but for rounding, which would show with two classes */
        for (int64_t j = 0; j < m; j++)
            mean_s[j] += (double)r->row_s[from + k * r->P + j] / r->K,
                mean_t[j] += (double)r->row_t[from + k * r->P + j] / r->K;
    for (int k = 0; k < r->K; k++)
        for (int64_t j = 0; j < m; j++) {
            const double a = (double)r->row_s[from + k * r->P + j] - mean_s[j],
                         b = (double)r->row_t[from + k * r->P + j] - mean_t[j];
            ab[j] += a * b, aa[j] += a * a, bb[j] += b * b;
        }
    Correlation row[CHUNK];
    for (int64_t j = 0; j < m; j++)
        row[j] = correlate(ab[j], aa[j], bb[j]), sum += mask[j] != 0 ? row[j].r : 0;
    r->row_sum[i] = sum;
    for (int last = 0; last < 2; last++)
        for (int k = 0; k < r->K; k++) {
            const Correlation *column = &r->column[k];
            const Moments *all = &r->moments[k];
            for (int64_t j = 0; j < m; j++) {
                const int64_t at = from + k * r->P + j;
                const double s = (double)r->s[at], t = (double)r->t[at];
                const double g = by_row * (row[j].along_b * ((double)r->row_t[at] - mean_t[j]) +
                                           row[j].along_a * ((double)r->row_s[at] - mean_s[j])) +
                                 by_column * (column->along_b * (t - all->mean_t) +
                                              column->along_a * (s - all->mean_s));
                if (!last) inner[j] += g * s;
                else r->s[at] = mask[j] != 0 ? (float)(s / r->a->tau * (g - inner[j])) : 0;
            }
        }
}
static void forward(const OpCall *c) {
    Run r;
    const Shape x = c->src_shape[0];
    lay_out(x, c->scratch, &r);
    r.c = c, r.a = c->attr, r.s = c->saved;
    r.own = pair_mask(c, x.d[2], x.d[3], r.mask);
    r.count = pair_divisor(c, x.d[2], x.d[3], COUNT_POSITIONS);
    const int64_t items = x.d[0] * r.chunks;
    parallel_for(items, softmax_item, &r);
    parallel_for(r.K, column_item, &r);
    share_moments(&r);
    if (r.a->store && parts_gathering(c)) {
        c->dst[0] = 0;
        return;
    }
    for (int k = 0; k < r.K; k++)
        r.column[k] = correlate(r.moments[k].ab, r.moments[k].aa, r.moments[k].bb);
    double inter = 0, intra = 0;
    if (r.count > 0) parallel_for(items, row_item, &r);
    else for (int64_t i = 0; i < shape_count(x); i++) r.s[i] = 0;
    for (int64_t i = 0; i < items && r.count > 0; i++) inter += r.row_sum[i];
    for (int k = 0; k < r.K; k++) intra += r.column[k].r;
    const double within = r.moments[0].n > 0 ? 1 - intra / r.K : 0;      /* no position: no loss */
    const double loss = r.a->beta * ((double)r.own - inter) / r.count + r.a->gamma * within;
    c->dst[0] = r.count > 0 ? (float)(r.a->tau * r.a->tau * loss) : 0;
}
static const OpDef op_dist = {.name = "dist",
                              .infer = pair_infer_same,
                              .saved_bytes = pair_saved_bytes,
                              .scratch_bytes = scratch_bytes,
                              .forward = forward,
                              .backward = pair_backward};

static bool gathers(const void *opt, const float stage[2]) {
    const DistOptions *o = opt;
    return o->gamma > 0 && o->scope == 0;
}
static Node build(Net *n, const KdSite *s, const void *opt) {
    const DistOptions *o = opt;
    Pair p = pair_open(n, s, "dist", &o->pair);
    pair_line_up(n, s, &p, false);
    return pair_add(n, &op_dist,
                    &(DistAttr){o->tau, o->beta, o->gamma, gathers(o, NULL) ? part_store(n) : NULL},
                    sizeof(DistAttr), &p);
}
const KdMethod kd_dist = {.name = "dist",
                          .cite = "DIST, arXiv 2205.10536, eq. 8-11",
                          .weight = 1,
                          .taps = KD_LOGITS,
                          .options = options,
                          .option_bytes = sizeof(DistOptions),
                          .build = build,
                          .gathers = gathers};
