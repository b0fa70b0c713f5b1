/* cirkd.c - cross-image relational distillation (Yang et al., CVPR 2022, arXiv 2204.06986).
 *
 * Mini-batch (eq. 3-5): F_n the unit vectors of the P = h w positions of image n. For every ordered pair of images
 * (a, b), a = b included, S = F_a^T F_b / tau (P x P), rows made distributions by softmax;
 *   term = mean over the N^2 pairs of 1 / P sum over rows of KL(teacher's row || student's row).
 * F_s: N x C x h x w, F_t: N x Ct x h x w, every position, labelled or not. Similarities lie within 1 / tau of their
 * largest possible value, so that is taken off instead of each row's own (tau >= 0.03).
 *
 * Two sweeps over tiles (relation.h), each tile serving both (a, b) and (b, a): one for the rows' sums, one for the
 * gradient, which is by a position i of a: sum over b, j of [(p_s - p_t)_ij of (a, b) + (p_s - p_t)_ji of (b, a)] x_j
 * / (N^2 P tau). Memory: N^2 P sums and panels of the features.
 *
 * Memory (eq. 6-11): cirkd_memory.c. */
#include "distill/cirkd.h"

#include <math.h>
#include <string.h>

#include "distill/relation.h"

static const Option options[] = {
    {"tap", OPT_STR, offsetof(CirkdOptions, pair.tap), "features", "",
     "layer to compare: features, mid, or a name of retort info", .flags = 0},
    {"teacher_tap", OPT_STR, offsetof(CirkdOptions, pair.teacher_tap), "", "",
     "the teacher's, where its name is another", .flags = 0},
    {"minibatch", OPT_F64, offsetof(CirkdOptions, minibatch), "1", "",
     "weight of the term within the batch", .flags = OPT_TERM_WEIGHT, .lo = 0, .hi = 1e9},
    {"pixel", OPT_F64, offsetof(CirkdOptions, pixel), "0.1", "",
     "weight of the term with the queue of pixels", .flags = OPT_TERM_WEIGHT, .lo = 0, .hi = 1e9},
    {"region", OPT_F64, offsetof(CirkdOptions, region), "0.1", "",
     "weight of the term with the queue of regions", .flags = OPT_TERM_WEIGHT, .lo = 0, .hi = 1e9},
    {"tau", OPT_F64, offsetof(CirkdOptions, tau), "0.1", "", "temperature of the similarities",
     .lo = 0.03, .hi = 1e3},
    {"memory", OPT_BOOL, offsetof(CirkdOptions, memory), "on", "",
     "off: the term within the batch alone", .flags = 0},
    {"pixel_queue", OPT_INT, offsetof(CirkdOptions, pixel_queue), "20000", "",
     "pixels kept of each class", .lo = 1, .hi = 1e7},
    {"region_queue", OPT_INT, offsetof(CirkdOptions, region_queue), "2000", "",
     "regions kept of each class", .lo = 1, .hi = 1e7},
    {"pixel_samples", OPT_INT, offsetof(CirkdOptions, pixel_samples), "4096", "",
     "pixels drawn per step: floor(this / classes) + 1 of each class", .lo = 1, .hi = 1e6},
    {"region_samples", OPT_INT, offsetof(CirkdOptions, region_samples), "1024", "",
     "regions drawn per step, likewise", .lo = 1, .hi = 1e6},
    {"pixels", OPT_INT, offsetof(CirkdOptions, pixels), "16", "",
     "new pixels kept of a class and image", .lo = 1, .hi = 1e4},
    {0}};

/* ---- within the batch ------------------------------------------------------------------------------ */
typedef struct CirkdAttr { double tau; } CirkdAttr;
enum { E_S, E_T, DOT, SUMS };
typedef struct Run {
    const OpCall *c;
    Panels p[2];
    float *dx, *part;
    double *sums;                                /* [images * P][images][SUMS]: of the row of a position, per image across */
    float (*row)[SUMS][PANEL];                   /* [chunks]: shares of the row panel at hand */
    float  scale;
} Run;

static size_t lay_out(const Shape *src, char *base, Run *r) {
    char *at = base;
    const int N = (int)src[0].d[0];
    const int64_t P = grid_count(src[0]);
    *r = (Run){.c = NULL};
    for (int i = 0; i < 2; i++) panels_open(&r->p[i], N, (int)src[i].d[1], P, &at);
    r->sums = (double *)at, at += (size_t)(N * N * P) * SUMS * sizeof(double);
    r->row = (float (*)[SUMS][PANEL])at, at += (size_t)sweep_chunks(&r->p[0]) * sizeof *r->row;
    r->part = (float *)at, at += sweep_part_floats(&r->p[0]) * sizeof(float);
    r->dx = (float *)at,
    at += (size_t)(N * r->p[0].per_image) * panel_floats(&r->p[0]) * sizeof(float);
    return (size_t)(at - base);
}
static size_t scratch_bytes(const OpSite *s, Shape dst) {
    Run unused;
    static char anchor;
    return lay_out(s->src, &anchor, &unused);
}

/* Sums of position j of panel I with the positions of `image`. */
static double *sums_of(const Run *r, int I, int j, int image) {
    const Panels *p = &r->p[0];
    const int64_t at = (int64_t)(I / p->per_image) * p->P + (int64_t)(I % p->per_image) * PANEL + j;
    return r->sums + (at * p->images + image) * SUMS;
}
static void count_tile(void *arg, int I, int J, int chunk, float *s, const float *t) {
    const Run *r = arg;
    const Panels *p = &r->p[0];
    float row[SUMS][PANEL], col[SUMS][PANEL];
    const int n_row = panel_count(p, I), n_col = panel_count(p, J);
    gemm()->sums(s, t, r->scale, n_row, n_col, row, col);
    for (int k = 0; k < SUMS; k++)
        for (int i = 0; i < n_row; i++) r->row[chunk][k][i] += row[k][i];
    for (int j = 0; J != I && j < n_col; j++)
        for (int k = 0; k < SUMS; k++) sums_of(r, J, j, I / p->per_image)[k] += (double)col[k][j];
}
static void row_counted(void *arg, int I) {
    const Run *r = arg;
    const Panels *p = &r->p[0];
    const int chunks = sweep_chunks(p), per_image = chunks / p->images;
    for (int chunk = sweep_chunk_of(p, I); chunk < chunks; chunk++)
        for (int i = 0; i < panel_count(p, I); i++)
            for (int k = 0; k < SUMS; k++)
                sums_of(r, I, i, chunk / per_image)[k] += (double)r->row[chunk][k][i];
    memset(r->row, 0, (size_t)chunks * sizeof *r->row);
}
static void pull_tile(void *arg, int I, int J, int chunk, float *s, const float *t) {
    const Run *r = arg;
    const Panels *p = &r->p[0];
    float row[2][PANEL], col[2][PANEL] = {{0}};
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < panel_count(p, I); i++)
            row[k][i] = (float)(1 / sums_of(r, I, i, J / p->per_image)[k]);
        for (int j = 0; j < panel_count(p, J); j++)
            col[k][j] = (float)(1 / sums_of(r, J, j, I / p->per_image)[k]);
    }
    gemm()->pull(s, t, r->scale, panel_count(p, I), panel_count(p, J), (const float(*)[PANEL])row,
                 (const float(*)[PANEL])col);
}
static void forward(const OpCall *c) {
    Run r;
    const Shape x = c->src_shape[0];
    const int64_t rows = x.d[0] * x.d[0] * grid_count(x);
    lay_out(c->src_shape, c->scratch, &r);
    r.c = c, r.scale = (float)(1 / ((const CirkdAttr *)c->attr)->tau);
    for (int i = 0; i < 2; i++) panels_fill(&r.p[i], c->src[i], NULL);
    memset(r.sums, 0, (size_t)rows * SUMS * sizeof *r.sums);
    memset(r.row, 0, (size_t)sweep_chunks(&r.p[0]) * sizeof *r.row);
    memset(r.dx, 0,
           (size_t)(r.p[0].images * r.p[0].per_image) * panel_floats(&r.p[0]) * sizeof *r.dx);
    Sweep w = {.s = &r.p[0],
               .t = &r.p[1],
               .from = 0,
               .to = r.p[0].images * r.p[0].per_image,
               .tile = count_tile,
               .row_done = row_counted,
               .arg = &r};
    sweep_run(&w);
    double sum = 0;
    for (int64_t i = 0; i < rows; i++) {
        const double *v = r.sums + i * SUMS;
        sum += v[DOT] / v[E_T] - log(v[E_T]) + log(v[E_S]);
    }
    c->dst[0] = (float)(sum / (double)rows);
    w.part = r.part, w.dx = r.dx, w.tile = pull_tile, w.row_done = NULL;
    sweep_run(&w);
    panels_gradient(&r.p[0], r.dx, NULL, (double)r.scale / (double)rows, c->saved);
}
static const OpDef op_cirkd = {.name = "cirkd",
                               .infer = pair_infer,
                               .saved_bytes = pair_saved_bytes,
                               .scratch_bytes = scratch_bytes,
                               .forward = forward,
                               .backward = pair_backward};

/* ---- building ---------------------------------------------------------------------------------------- */
static Node build(Net *n, const KdSite *s, const void *opt) {
    const CirkdOptions *o = opt;
    Node term[2];
    float weight[2];
    int count = 0;
    Pair p = pair_open(n, s, "cirkd", &o->pair);
    pair_line_up(n, s, &p, false);
    if (o->minibatch > 0)
        weight[count] = (float)o->minibatch,
        term[count++] = pair_add(n, &op_cirkd, &(CirkdAttr){o->tau}, sizeof(CirkdAttr), &p);
    const Node memory = o->memory ? cirkd_memory(n, s, o, p) : NO_NODE;
    if (memory.id) weight[count] = 1, term[count++] = memory;
    if (!count)
        net_fail(n, E(2, 0), "cirkd: all its weights are 0; take cirkd out of distill.losses");
    return nn_weighted_sum(n, term, weight, count);
}
const KdMethod kd_cirkd = {.name = "cirkd",
                           .cite = "Cross-Image Relational KD, arXiv 2204.06986, eq. 3-11",
                           .weight = 1,
                           .taps = KD_FEATURES,
                           .options = options,
                           .option_bytes = sizeof(CirkdOptions),
                           .build = build};
