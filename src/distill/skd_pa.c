/* skd_pa.c - structured knowledge distillation, pair-wise (Liu et al., CVPR 2019, arXiv 1903.04197, eq. 2).
 *
 * 2x2 max pooling of stride 2 (ceil) of both maps, each position's vector of channels made unit, G = X^T X over the
 * P = h' w' positions of an image;  loss = mean over images and the P x P pairs of (G_s - G_t)^2.
 * F_s: N x C x h x w, F_t: N x Ct x h x w. mask=valid leaves positions of the pooled grid out of rows and columns.
 * The P x P matrices exist in tiles only (relation.h): memory grows with P. The gradient by a position is
 * 4 / count sum over j of (G_s - G_t)_ij x_j, through the length and the pooling. */
#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "distill/pair.h"
#include "distill/relation.h"

typedef struct SkdPaOptions { PairOptions pair; } SkdPaOptions;
static const Option options[] = {PAIR_OPTIONS(SkdPaOptions, "features"), {0}};

typedef struct Run {
    const OpCall *c;
    int h, w;                                    /* of the pooled grid */
    Panels  p[2];                                /* student's, teacher's */
    float  *pooled, *dx, *part, *mask;
    double *value;                               /* [chunks] */
    int     which;
} Run;

static size_t biggest(int64_t a, int64_t b) { return (size_t)(a > b ? a : b); }
static size_t lay_out(const Shape *src, char *base, Run *r) {
    const Shape x = src[0];
    char *at = base;
    *r = (Run){.h = (int)(x.d[2] + 1) / 2, .w = (int)(x.d[3] + 1) / 2};
    const int64_t P = (int64_t)r->h * r->w;
    for (int i = 0; i < 2; i++) panels_open(&r->p[i], (int)x.d[0], (int)src[i].d[1], P, &at);
    r->value = (double *)at, at += (size_t)sweep_chunks(&r->p[0]) * sizeof(double);
    r->part = (float *)at, at += sweep_part_floats(&r->p[0]) * sizeof(float);
    r->dx = (float *)at,
    at += (size_t)(r->p[0].images * r->p[0].per_image) * panel_floats(&r->p[0]) * sizeof(float);
    r->pooled = (float *)at,
    at += (size_t)(x.d[0] * P) * biggest(x.d[1], src[1].d[1]) * sizeof(float);
    r->mask = (float *)at, at += (size_t)(x.d[0] * P) * sizeof(float);
    return (size_t)(at - base);
}
static size_t scratch_bytes(const OpSite *s, Shape dst) {
    Run unused;
    static char anchor;
    return lay_out(s->src, &anchor, &unused);
}

/* The element of its window that position i of the pooled grid shows; the first of equals, NaN before all. */
static int64_t shown(const float *map, Shape s, const Run *r, int64_t i) {
    const int64_t y = i / r->w * 2, x = i % r->w * 2, W = s.d[3];
    int64_t best = y * W + x;
    for (int64_t k = 1; k < 4; k++) {
        const int64_t row = y + k / 2, col = x + k % 2;
        const float v = row < s.d[2] && col < W ? map[row * W + col] : -INFINITY;
        if (v > map[best] || isnan(v)) best = row * W + col;
    }
    return best;
}
static void pool_item(void *arg, int64_t i) {                /* a channel of an image */
    const Run *r = arg;
    const Shape s = r->c->src_shape[r->which];
    const float *map = (const float *)r->c->src[r->which] + i * grid_count(s);
    const int64_t P = (int64_t)r->h * r->w;
    for (int64_t k = 0; k < P; k++) r->pooled[i * P + k] = map[shown(map, s, r, k)];
}
static void unpool_item(void *arg, int64_t i) {
    const Run *r = arg;
    const Shape s = r->c->src_shape[0];
    const float *map = (const float *)r->c->src[0] + i * grid_count(s);
    float *out = (float *)r->c->saved + i * grid_count(s);
    const int64_t P = (int64_t)r->h * r->w;
    memset(out, 0, sizeof(float) * (size_t)grid_count(s));
    for (int64_t k = 0; k < P; k++) out[shown(map, s, r, k)] = r->pooled[i * P + k];
}
static void tile(void *arg, int I, int J, int chunk, float *s, const float *t) {
    const Run *r = arg;
    r->value[chunk] += (I == J ? 1 : 2) * gemm()->differ(s, t);
}
static void forward(const OpCall *c) {
    Run r;
    const Shape *src = c->src_shape;
    lay_out(src, c->scratch, &r);
    r.c = c;
    pair_mask(c, r.h, r.w, r.mask);
    for (r.which = 0; r.which < 2; r.which++) {
        parallel_for(src[0].d[0] * src[r.which].d[1], pool_item, &r);
        panels_fill(&r.p[r.which], r.pooled, r.mask);
    }
    const int chunks = sweep_chunks(&r.p[0]), per_image = r.p[0].per_image;
    memset(r.value, 0, (size_t)chunks * sizeof *r.value);
    memset(r.dx, 0, (size_t)(r.p[0].images * per_image) * panel_floats(&r.p[0]) * sizeof *r.dx);
    for (int n = 0; n < r.p[0].images; n++)
        sweep_run(&(Sweep){.s = &r.p[0],
                           .t = &r.p[1],
                           .from = n * per_image,
                           .to = (n + 1) * per_image,
                           .part = r.part,
                           .dx = r.dx,
                           .tile = tile,
                           .arg = &r});
    double sum = 0;
    const double pairs = pair_divisor(c, r.h, r.w, COUNT_PAIRS);
    for (int i = 0; i < chunks; i++) sum += r.value[i];
    c->dst[0] = pairs > 0 ? (float)(sum / pairs) : 0;
    panels_gradient(&r.p[0], r.dx, r.mask, pairs > 0 ? 4 / pairs : 0, r.pooled);
    parallel_for(src[0].d[0] * src[0].d[1], unpool_item, &r);
}
static const OpDef op_skd_pa = {.name = "skd.pa",
                                .infer = pair_infer,
                                .saved_bytes = pair_saved_bytes,
                                .scratch_bytes = scratch_bytes,
                                .forward = forward,
                                .backward = pair_backward};

static Node build(Net *n, const KdSite *s, const void *opt) {
    const SkdPaOptions *o = opt;
    Pair p = pair_open(n, s, "skd.pa", &o->pair);
    pair_line_up(n, s, &p, false);
    return pair_add(n, &op_skd_pa, NULL, 0, &p);
}
const KdMethod kd_skd_pa = {.name = "skd.pa",
                            .cite = "Structured Knowledge Distillation, arXiv 1903.04197, eq. 2",
                            .weight = 1,
                            .taps = KD_FEATURES,
                            .options = options,
                            .option_bytes = sizeof(SkdPaOptions),
                            .build = build};
