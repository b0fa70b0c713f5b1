/* ifvd.c - intra-class feature variation distillation (Wang et al., ECCV 2020, eq. 3-5).
 *
 * Per image, mu_k = sum of F_i over the positions i of class k / (n_k + 1e-6); cos_i = F_i . mu / (max(|F_i|, 1e-8)
 * max(|mu|, 1e-8)), mu that of i's class;  loss = mean over positions of (cos_i(F_s) - cos_i(F_t))^2.
 * The gradient goes through the means too. Labels on the low grid: nearest, row floor(i H / h). Only labelled
 * positions count (compat=rdd2023: void ones too, as cosine 1 on both sides, so only in the mean).
 * F_s: N x C x h x w, F_t: N x Ct x h x w. */
#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "distill/pair.h"

typedef struct IfvdOptions { PairOptions pair; int compat; } IfvdOptions;
typedef struct IfvdAttr { int classes; bool compat; } IfvdAttr;
static const Option options[] = {
    {"tap", OPT_STR, offsetof(IfvdOptions, pair.tap), "features", "",
     "layer to compare: features, mid, or a name of retort info", .flags = 0},
    {"teacher_tap", OPT_STR, offsetof(IfvdOptions, pair.teacher_tap), "", "",
     "the teacher's, where its name is another", .flags = 0},
    {"compat", OPT_ENUM, offsetof(IfvdOptions, compat), "none", "",
     "rdd2023: void positions count, with no difference", .choices = "none|rdd2023"},
    {0}};

enum { CHUNK = 256 };
static const double EPS = 1e-8;

/* One side: its features, class means N x K x C, and per position |F| and cosine. */
typedef struct Side { const float *f; int64_t C; double *mean, *mean_size, *size, *cos; } Side;
typedef struct Run {
    Side side[2];
    int64_t N, P, chunks;
    int K, which;
    int32_t *y;                                  /* N x P */
    double *count;                               /* N x K */
    double *alpha, *beta, *share;                /* N x P, N x P, N x K: gradient, see below */
    float  *g;
    double  coef;
} Run;

static void *take(char **at, size_t bytes) {
    void *p = *at;
    *at += (bytes + 63) & ~(size_t)63;
    return p;
}
static size_t lay_out(const OpCall *c, const Shape *src, int K, void *base, Run *r) {
    char *at = base;
    const size_t N = (size_t)src[0].d[0], P = (size_t)grid_count(src[0]), D = sizeof(double);
    *r = (Run){.N = (int64_t)N, .P = (int64_t)P, .K = K, .chunks = ((int64_t)P + CHUNK - 1) / CHUNK};
    for (int i = 0; i < 2; i++) {
        Side *s = &r->side[i];
        s->C = src[i].d[1], s->f = c ? c->src[i] : NULL;
        s->mean = take(&at, D * N * (size_t)(K * s->C)),
        s->mean_size = take(&at, D * N * (size_t)K);
        s->size = take(&at, D * N * P), s->cos = take(&at, D * N * P);
    }
    r->y = take(&at, sizeof(int32_t) * N * P), r->count = take(&at, D * N * (size_t)K);
    r->alpha = take(&at, D * N * P), r->beta = take(&at, D * N * P),
    r->share = take(&at, D * N * (size_t)K);
    return (size_t)(at - (char *)base);
}
static size_t scratch_bytes(const OpSite *s, Shape dst) {
    Run unused;
    static char anchor;
    return lay_out(NULL, s->src, ((const IfvdAttr *)s->attr)->classes, &anchor, &unused);
}

/* Item (image, channel): the class means of that channel. */
static void mean_item(void *arg, int64_t i) {
    const Run *r = arg;
    const Side *s = &r->side[r->which];
    const int64_t n = i / s->C, c = i % s->C;
    const int32_t *y = r->y + n * r->P;
    double *mean = s->mean + n * r->K * s->C + c;
    for (int k = 0; k < r->K; k++) mean[k * s->C] = 0;
    for (int64_t p = 0; p < r->P; p++)
        if (y[p] >= 0) mean[y[p] * s->C] += (double)s->f[i * r->P + p];
    for (int k = 0; k < r->K; k++) mean[k * s->C] /= r->count[n * r->K + k] + 1e-6;
}
static void size_item(void *arg, int64_t i) {    /* (image, class) */
    const Run *r = arg;
    const Side *s = &r->side[r->which];
    double sum = 0;
    for (int64_t c = 0; c < s->C; c++) sum += s->mean[i * s->C + c] * s->mean[i * s->C + c];
    s->mean_size[i] = fmax(sqrt(sum), EPS);
}
static void cosine_item(void *arg, int64_t i) {  /* (image, stretch of positions) */
    const Run *r = arg;
    const Side *s = &r->side[r->which];
    const int64_t n = i / r->chunks, first = i % r->chunks * CHUNK,
                  m = r->P - first < CHUNK ? r->P - first : CHUNK;
    const int32_t *y = r->y + n * r->P + first;
    double dot[CHUNK] = {0}, own[CHUNK] = {0};
    for (int64_t c = 0; c < s->C; c++) {
        const float *f = s->f + (n * s->C + c) * r->P + first;
        const double *mean = s->mean + n * r->K * s->C + c;
        for (int64_t p = 0; p < m; p++) {
            if (y[p] < 0) continue;
            dot[p] += (double)f[p] * mean[y[p] * s->C], own[p] += (double)f[p] * (double)f[p];
        }
    }
    for (int64_t p = 0; p < m; p++) {
        const int64_t at = n * r->P + first + p;
        s->size[at] = fmax(sqrt(own[p]), EPS);
        s->cos[at] = y[p] < 0 ? 0 : dot[p] / (s->size[at] * s->mean_size[n * r->K + y[p]]);
    }
}
/* dF_i = alpha_i mu - beta_i F_i + (what each member of the class gets through the mean), where with e_i the gradient
 * by cos_i: alpha = e / (|F| |mu|), beta = e cos / |F|^2; share_k = sum over the class of e cos / |mu|^2. */
static double differences(Run *r, double z) {
    double sum = 0;
    const Side *s = &r->side[0];
    memset(r->share, 0, sizeof(double) * (size_t)(r->N * r->K));
    for (int64_t i = 0; i < r->N * r->P; i++) {
        if (r->y[i] < 0) continue;
        const int64_t k = i / r->P * r->K + r->y[i];
        const double d = s->cos[i] - r->side[1].cos[i], e = 2 * d / z;
        sum += d * d;
        r->alpha[i] = e / (s->size[i] * s->mean_size[k]),
        r->beta[i] = e * s->cos[i] / (s->size[i] * s->size[i]);
        r->share[k] += e * s->cos[i] / (s->mean_size[k] * s->mean_size[k]);
    }
    return z > 0 ? sum / z : 0;
}
static void gradient_item(void *arg, int64_t i) {    /* (image, channel) */
    const Run *r = arg;
    const Side *s = &r->side[0];
    const int64_t n = i / s->C, c = i % s->C;
    const int32_t *y = r->y + n * r->P;
    const double *mean = s->mean + n * r->K * s->C + c, *alpha = r->alpha + n * r->P,
                 *beta = r->beta + n * r->P;
    const float *f = s->f + i * r->P;
    double through[r->K];
    for (int k = 0; k < r->K; k++) through[k] = -mean[k * s->C] * r->share[n * r->K + k];
    for (int64_t p = 0; p < r->P; p++)
        if (y[p] >= 0) through[y[p]] += alpha[p] * (double)f[p];
    for (int k = 0; k < r->K; k++) through[k] /= r->count[n * r->K + k] + 1e-6;
    for (int64_t p = 0; p < r->P; p++)
        r->g[i * r->P + p] =
            y[p] < 0
                ? 0
                : (float)(alpha[p] * mean[y[p] * s->C] - beta[p] * (double)f[p] + through[y[p]]);
}
static void forward(const OpCall *c) {
    const IfvdAttr *a = c->attr;
    Run r;
    lay_out(c, c->src_shape, a->classes, c->scratch, &r);
    pair_labels_nearest(c->src[2], c->src_shape[2], c->src_shape[0].d[2], c->src_shape[0].d[3],
                        r.y);
    memset(r.count, 0, sizeof(double) * (size_t)(r.N * r.K));
    for (int64_t i = 0; i < r.N * r.P; i++)
        if (r.y[i] >= r.K) r.y[i] = -1;
        else if (r.y[i] >= 0) r.count[i / r.P * r.K + r.y[i]]++;
    for (r.which = 0; r.which < 2; r.which++) {
        parallel_for(r.N * r.side[r.which].C, mean_item, &r);
        parallel_for(r.N * r.K, size_item, &r);
        parallel_for(r.N * r.chunks, cosine_item, &r);
    }
    const Shape x = c->src_shape[0];
    c->dst[0] = (float)differences(
        &r, a->compat ? (double)(r.N * r.P) : pair_divisor(c, x.d[2], x.d[3], COUNT_NEAREST));
    r.g = c->saved;
    parallel_for(r.N * r.side[0].C, gradient_item, &r);
}
static const OpDef op_ifvd = {.name = "ifvd",
                              .infer = pair_infer,
                              .saved_bytes = pair_saved_bytes,
                              .scratch_bytes = scratch_bytes,
                              .forward = forward,
                              .backward = pair_backward};

static Node build(Net *n, const KdSite *s, const void *opt) {
    const IfvdOptions *o = opt;
    Pair p = pair_open(n, s, "ifvd", &o->pair);
    if (!s->labels.id) net_fail(n, E(2, 0), "ifvd: needs labels");
    pair_line_up(n, s, &p, false);
    p.labels = s->labels;
    return pair_add(n, &op_ifvd, &(IfvdAttr){s->classes, o->compat != 0}, sizeof(IfvdAttr), &p);
}
const KdMethod kd_ifvd = {.name = "ifvd",
                          .cite = "Intra-class Feature Variation Distillation, ECCV 2020, eq. 3-5",
                          .weight = 10,
                          .taps = KD_FEATURES | KD_LABELS,
                          .options = options,
                          .option_bytes = sizeof(IfvdOptions),
                          .build = build};
