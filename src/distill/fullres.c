/* fullres.c - orders the passes of a full-resolution loss: count, probabilities, thresholds, masks,
 * weights, value and gradient. Both forward functions walk through here; `Way` says with which kernels.
 *
 * Scratch at N x K x h x w, N x H x W: up to two maps of N x H x W floats (student and teacher, of the main head and then of the
 * auxiliary; the student's turns into weights in place), the row shares of one head's gradient
 * (2 x its logits), and tables. Thresholds: the probabilities not above `theta` are counted while they
 * are computed; only when fewer than k are, the k-th smallest is looked for (fullres_kth.c). */
#include "distill/fullres_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/parallel.h"
#include "base/rng.h"

enum { HEADS = 2, MAPS = 4 };
static const double AUX_WEIGHT = 0.4;

#define KERNELS(level)                                                                                 \
    void fr_prob_item_##level(const FrPass *, int64_t);                                                \
    void fr_grad_item_##level(const FrPass *, int64_t);                                                \
    void fr_mask_row_##level(const FrWeights *, int64_t);                                              \
    void fr_weight_row_##level(const FrWeights *, int64_t);                                            \
    void fr_kl_item_##level(const FrKl *, int64_t);                                                    \
    static const FrKernels kernels_##level = {fr_prob_item_##level, fr_grad_item_##level,              \
                                              fr_mask_row_##level, fr_weight_row_##level, fr_kl_item_##level};
KERNELS(plain)
KERNELS(avx2)
KERNELS(avx512)

const FrKernels *fr_kernels(void) {
    static const FrKernels *const table[] = {&kernels_plain, &kernels_avx2, &kernels_avx512};
    _Static_assert(sizeof table / sizeof *table == CPU_LEVELS, "one row per level");
    return table[cpu_level()];
}

/* ---- shapes and memory -------------------------------------------------------------------------- */
typedef struct Scratch {                 /* lives in call->scratch; see the file's head */
    FrMap    map[MAPS];                  /* S, Sa, T, Ta (or whatever stands in for it) */
    float   *q[MAPS];                    /* N x H x Wp; NULL where not needed */
    float   *easy;                       /* N x h x w of the teacher */
    float   *partial;
    double  *row_sum[HEADS];             /* [N * H] */
    int32_t *row_count[HEADS];           /* [N * H] */
    int32_t *below[MAPS];                /* [N * H] probabilities not above theta; one for all while no store keeps them */
    int64_t *valid;                      /* [N] labelled pixels */
    float   *theta[MAPS];                /* [N] */
    uint32_t *bins;                      /* RADIX_PARTS x RADIX_BINS */
} Scratch;

static void *take(char *base, size_t *used, size_t bytes) {
    void *p = base ? base + *used : NULL;
    *used += (bytes + 63) & ~(size_t)63;
    return p;
}
static int padded(int64_t w) { return (int)((w + FR_LANES - 1) / FR_LANES * FR_LANES); }
static size_t biggest(size_t a, size_t b) { return a > b ? a : b; }

/* Source numbers of the four heads; 0 for absent but of the first. */
static void head_sources(const FullresAttr *a, int src[MAPS]) {
    bool pairs = a->tse && a->rule != RULE_STUDENT;
    src[0] = 0, src[1] = a->aux, src[2] = pairs ? a->t : 0;
    src[3] = pairs && a->aux ? a->t_aux : 0;         /* a teacher without: paired with its main head, map 2 */
}
static size_t lay_out(const FullresAttr *a, const Shape *src, char *base, Scratch *s) {
    size_t used = 0, partial = 0;
    int head[MAPS], Wp = padded(src[1].d[2]);
    size_t rows = (size_t)(src[1].d[0] * src[1].d[1]);
    head_sources(a, head);
    memset(s, 0, sizeof *s);
    for (int i = 0; i < MAPS; i++) {
        bool used_map = i == 0 || head[i] != 0;
        bool q = used_map && (a->tse || i == 0);
        const Shape *z = &src[head[i]];
        if (i == 2 && a->t) z = &src[a->t], used_map = true;         /* TFE needs the teacher's grid */
        if (!used_map) continue;
        s->map[i] = (FrMap){.h = (int)z->d[2], .w = (int)z->d[3], .H = (int)src[1].d[1], .W = (int)src[1].d[2], .Wp = Wp};
        s->map[i].intervals = z->d[2] > 1 ? (int)z->d[2] - 1 : 1;
        s->map[i].col = take(base, &used, sizeof(int32_t) * (size_t)Wp);
        s->map[i].fx = take(base, &used, sizeof(float) * (size_t)Wp);
        s->map[i].start = take(base, &used, sizeof(int32_t) * (size_t)(z->d[3] + 1));
        if (q && i % 2 == 0) s->q[i] = take(base, &used, sizeof(float) * rows * (size_t)Wp);
        else if (q) s->q[i] = s->q[i - 1];           /* the main head is done when the auxiliary's turn comes */
        if (i < HEADS) partial = biggest(partial, sizeof(float) * 2 * (size_t)shape_count(*z));
    }
    if (a->t) s->easy = take(base, &used, sizeof(float) * (size_t)(src[a->t].d[0] * src[a->t].d[2] * src[a->t].d[3]));
    s->partial = take(base, &used, partial);
    for (int j = 0; j < HEADS; j++) {
        s->row_sum[j] = take(base, &used, sizeof(double) * rows);
        s->row_count[j] = take(base, &used, sizeof(int32_t) * rows);
    }
    for (int i = 0; i < MAPS; i++) s->below[i] = s->row_count[0];
    s->valid = take(base, &used, sizeof(int64_t) * (size_t)src[1].d[0]);
    for (int i = 0; i < MAPS; i++) s->theta[i] = take(base, &used, sizeof(float) * (size_t)src[1].d[0]);
    s->bins = take(base, &used, biggest(sizeof(uint32_t) * RADIX_BINS, 2 * sizeof(int64_t) * (size_t)src[0].d[1]) * RADIX_PARTS);
    return used;
}
static void map_fill(FrMap *m) {
    if (!m->col) return;
    for (int x = 0; x < m->Wp; x++) {
        int64_t at = x < m->W ? x : m->W - 1, num = at * (m->w - 1), den = m->W - 1;
        int64_t col = den > 0 ? num / den : 0;
        if (m->w > 1 && col > m->w - 2) col = m->w - 2;
        m->col[x] = (int32_t)col;
        m->fx[x] = den > 0 ? (float)((double)(num - col * den) / (double)den) : 0.0f;
    }
    for (int x = 0, c = 0; c <= m->w; c++) {
        while (x < m->W && m->col[x] < c) x++;
        m->start[c] = x;
    }
}

/* saved: FrStats; i64 [2][K], kept and labelled pixels of each class; the gradients of the heads. */
static size_t stats_bytes(const Shape *src) { return (sizeof(FrStats) + 2 * sizeof(int64_t) * (size_t)src[0].d[1] + 63) / 64 * 64; }
static int64_t *saved_classes(void *saved) { return (int64_t *)((char *)saved + sizeof(FrStats)); }
static float *saved_grad(void *saved, const Shape *src, int head) {
    return (float *)((char *)saved + stats_bytes(src)) + (head ? (shape_count(src[0]) + 15) / 16 * 16 : 0);
}
size_t fullres_saved_bytes(const OpSite *s, Shape dst) {
    const FullresAttr *a = s->attr;
    int64_t n = (shape_count(s->src[0]) + 15) / 16 * 16 + (a->aux ? shape_count(s->src[a->aux]) : 0);
    return stats_bytes(s->src) + sizeof(float) * (size_t)n;
}
size_t fullres_scratch_bytes(const OpSite *s, Shape dst) {
    Scratch unused;
    return lay_out(s->attr, s->src, NULL, &unused);
}

static Err check_logits(const OpSite *s, int i, const char *what) {
    Shape z = s->src[i], first = s->src[0];
    if (i && (z.rank != 4 || z.d[0] != first.d[0] || z.d[1] != first.d[1]))
        return err_set(E(2, 37), "%s: shape %s does not go with the student's logits %s; batch and classes must be equal",
                       what, shape_text(z).s, shape_text(first).s);
    return OK;
}
Err fullres_infer(const OpSite *s, Shape *dst) {
    const FullresAttr *a = s->attr;
    Shape z = s->src[0], y = s->src[1];
    if (z.rank != 4 || shape_count(z) < 1 || z.d[1] > FR_CLASSES_MAX)
        return err_set(E(2, 0), "logits: shape %s; expected N x K x h x w with 1 to %d classes", shape_text(z).s, FR_CLASSES_MAX);
    if (y.rank != 3 || y.d[0] != z.d[0] || shape_count(y) < 1 || s->src_dtype[1] != DT_I32)
        return err_set(E(2, 0), "labels: shape %s; expected int32 of %lld x H x W", shape_text(y).s, (long long)z.d[0]);
    TRY(check_logits(s, a->aux, "auxiliary logits"));
    TRY(check_logits(s, a->t, "teacher's logits"));
    TRY(check_logits(s, a->t_aux, "teacher's auxiliary logits"));
    TRY(check_logits(s, a->t_flip, "teacher's mirrored logits"));
    int other = a->tfe_kind == TFE_AUX ? a->t_aux : a->t_flip;
    if (a->tfe && a->tfe_kind != TFE_ENTROPY && other && !shape_equal(s->src[other], s->src[a->t]))
        return err_set(E(2, 0), "teacher: its two logits differ in size, %s and %s; use tfe=entropy",
                       shape_text(s->src[a->t]).s, shape_text(s->src[other]).s);
    *dst = (Shape){0};
    return OK;
}

/* ---- one run ------------------------------------------------------------------------------------ */
typedef struct Run {
    const OpCall      *call;
    const FullresAttr *a;
    const FrKernels   *kern;             /* NULL: the reference */
    Scratch  s;
    FrStats *stats;
    int      n, k, H, W, Wp;
    int64_t  rows;                       /* N * H */
    const int32_t *labels;
    double   parts;                      /* micro-batches of the update; values are multiplied by this */
    bool     gathered;                   /* the probabilities are there */
} Run;

/* What the parts of an update leave in a store, and what the first to emit makes of it. Maps and rows of all parts in turn. */
typedef struct Update {
    FrStats  stats;                      /* of the whole */
    int64_t *classes;                    /* [2][K] as saved_classes */
    int32_t *labels;
    float   *q[MAPS], *theta[MAPS];      /* parts x N x H x Wp, [parts * N] */
    int32_t *below[MAPS], *kept[HEADS];  /* [parts * N * H] */
    double  *sum[HEADS];                 /* [parts * N * H] */
    int64_t *valid;                      /* [parts * N] */
    double   z[HEADS];                   /* sums of the masks' class weights */
} Update;
static size_t lay_out_update(const Run *r, int parts, char *base, Update *u) {
    size_t used = (sizeof(Update) + 63) & ~(size_t)63;
    const size_t rows = (size_t)(r->rows * parts), images = (size_t)(r->n * parts);
    u->classes = take(base, &used, 2 * sizeof(int64_t) * (size_t)r->k);
    u->labels = take(base, &used, sizeof(int32_t) * rows * (size_t)r->W);
    u->valid = take(base, &used, sizeof(int64_t) * images);
    for (int i = 0; i < MAPS; i++) {
        if (r->s.q[i] && !(i % 2 && r->a->main_mask))        /* the main head's mask serves both */
            u->q[i] = take(base, &used, sizeof(float) * rows * (size_t)r->Wp);
        u->theta[i] = take(base, &used, sizeof(float) * images);
        u->below[i] = take(base, &used, sizeof(int32_t) * rows);
    }
    for (int j = 0; j < HEADS; j++) {
        u->kept[j] = take(base, &used, sizeof(int32_t) * rows);
        u->sum[j] = take(base, &used, sizeof(double) * rows);
    }
    return used;
}
/* The store's update, its pointers made anew: they depend on nothing but sizes. */
static Update *update_of(const Run *r, int parts) {
    Update sizes;
    char *data = part_store_data(r->a->store, lay_out_update(r, parts, NULL, &sizes) + 64);
    data += (64 - (uintptr_t)data % 64) % 64;
    lay_out_update(r, parts, data, (Update *)data);
    return (Update *)data;
}

static void prob_item(void *arg, int64_t i) { fr_kernels()->prob_item(arg, i); }
static void grad_item(void *arg, int64_t i) { fr_kernels()->grad_item(arg, i); }
static void mask_row(void *arg, int64_t i) { fr_kernels()->mask_row(arg, i); }
static void weight_row(void *arg, int64_t i) { fr_kernels()->weight_row(arg, i); }
static void kl_item(void *arg, int64_t i) { fr_kernels()->kl_item(arg, i); }

static FrPass pass_of(const Run *r, int map, int src) {
    return (FrPass){.map = &r->s.map[map], .logits = r->call->src[src], .labels = r->labels, .n = r->n, .k = r->k,
                    .q = r->s.q[map], .row_count = r->s.below[map]};
}

typedef struct LabelCount { double weights, valid; } LabelCount;
typedef struct { const Run *r; const int32_t *labels; const float *class_weight; } CountArg;
static void count_row(void *arg, int64_t row) {      /* valid pixels and their class weights */
    const Run *r = ((CountArg *)arg)->r;
    const float *c = ((CountArg *)arg)->class_weight;
    const int32_t *y = ((CountArg *)arg)->labels + row * r->W;
    int n = 0;
    double sum = 0;
    for (int x = 0; x < r->W; x++) n += (uint32_t)y[x] < (uint32_t)r->k;
    for (int x = 0; c && x < r->W; x++)
        if ((uint32_t)y[x] < (uint32_t)r->k) sum += (double)c[y[x]];
    r->s.row_count[0][row] = n, r->s.row_sum[0][row] = c ? sum : n;
}
static int64_t sum_i32(const int32_t *v, int64_t n) {
    int64_t s = 0;
    for (int64_t i = 0; i < n; i++) s += v[i];
    return s;
}
static double sum_f64(const double *v, int64_t n) {
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += v[i];
    return s;
}

static int64_t min_kept(const Run *r, int64_t valid) {
    int64_t k = r->a->count;
    if (r->a->count > 0) return k < valid ? k : valid;
    k = (int64_t)floor(r->a->fraction * (double)valid);
    return k > 1 ? k : 1;
}
/* Threshold of the images from `first` on. */
static double threshold_of(const Run *r, int map, int64_t first, int64_t images, int64_t valid) {
    const int64_t row = first * r->H, n_rows = images * r->H, k = min_kept(r, valid);
    if (!valid || sum_i32(r->s.below[map] + row, n_rows) >= k) return r->a->theta;
    const float *q = r->s.q[map] + row * r->Wp;
    if (r->kern) return fmax(r->a->theta, (double)fr_kth(q, n_rows * r->Wp, k, r->s.bins));
    float *sorted = xcalloc((size_t)(n_rows * r->Wp), sizeof *sorted);
    const float kth = fr_ref_kth(q, sorted, n_rows * r->Wp, k);
    free(sorted);
    return fmax(r->a->theta, (double)kth);
}
static void probabilities(const Run *r, int map, int src) {
    FrPass p = pass_of(r, map, src);
    p.theta = (float)r->a->theta;
    if (r->kern) parallel_for((int64_t)r->n * p.map->intervals, prob_item, &p);
    else fr_ref_prob(&p);
}
/* The thresholds of a head's images, whose map of probabilities is made first; returns their mean. */
static double threshold(const Run *r, int map, int src) {
    double sum = 0;
    if (!r->gathered) probabilities(r, map, src);
    for (int n = 0; n < r->n; n++) {
        double theta = n && !r->a->per_image ? (double)r->s.theta[map][0]
                       : r->a->per_image     ? threshold_of(r, map, n, 1, r->s.valid[n])
                                             : threshold_of(r, map, 0, r->n, r->stats->valid);
        r->s.theta[map][n] = (float)theta, sum += theta;
    }
    return sum / r->n;
}

/* Of the main head's mask, before its map turns into weights: counts of classes, parts of rows added in order. */
static void class_part(void *arg, int64_t part) {
    const FrWeights *w = ((void **)arg)[0];
    int64_t *count = (int64_t *)((void **)arg)[1] + 2 * part * w->k;
    memset(count, 0, 2 * sizeof *count * (size_t)w->k);
    const int64_t n_rows = (int64_t)w->n * w->H;
    for (int64_t row = n_rows * part / RADIX_PARTS; row < n_rows * (part + 1) / RADIX_PARTS; row++) {
        const float *q = w->q + row * w->Wp, *qt = w->qt + row * w->Wp, theta = w->theta[row / w->H], theta_t = w->theta_t[row / w->H];
        const int32_t *y = w->labels + row * w->W;
        for (int x = 0; x < w->W; x++) {
            if ((uint32_t)y[x] >= (uint32_t)w->k) continue;
            const unsigned hard = !(q[x] > theta), hard_t = !(qt[x] > theta_t);
            count[y[x]] += w->rule >> (2 * hard + hard_t) & 1;
            count[w->k + y[x]]++;
        }
    }
}
static void count_classes(const Run *r, FrWeights *w, int64_t *out) {
    int64_t *part = (int64_t *)r->s.bins;
    parallel_for(RADIX_PARTS, class_part, (void *[]){w, part});
    for (int64_t i = 0; i < RADIX_PARTS * 2 * (int64_t)w->k; i++) out[i % (2 * w->k)] += part[i];
}

/* Keeps by w's thresholds and rule: fills the head's count; returns the sum of the class weights kept. */
static double keep_mask(const Run *r, FrWeights *w, int j) {
    if (r->kern) parallel_for(r->rows, mask_row, w);
    else for (int64_t i = 0; i < r->rows; i++) kernels_plain.mask_row(w, i);
    r->stats->kept[j] = sum_i32(w->kept, r->rows);
    return sum_f64(w->sum, r->rows);
}
/* A number in [0, 1) for each labelled pixel of a row, in the place of its probability. */
typedef struct { const Run *r; FrWeights *w; int head; } DrawArg;
static void draw_row(void *arg, int64_t row) {
    const DrawArg *d = arg;
    const FrWeights *w = d->w;
    const OpCall *c = d->r->call;
    float *q = w->q + row * w->Wp;
    const int32_t *y = w->labels + row * w->W;
    const uint64_t sample = c->run ? c->run->first_sample : 0, seed = c->run ? c->run->seed : 0;
    const Rng g = rng_stream(seed, RNG_METHOD, (uint64_t)(2 * c->node + d->head), sample + (uint64_t)(row / w->H));
    for (int x = 0; x < w->Wp; x++) {
        const bool in = x < w->W && (uint32_t)y[x] < (uint32_t)w->k;
        q[x] = in ? rng_uniform(&g, (uint64_t)(row % w->H * w->W + x)) : INFINITY;
    }
}
/* As many pixels as the rule kept, those of the smallest numbers drawn; more only where two are equal. */
static double draw_mask(const Run *r, FrWeights *w, int j) {
    const int64_t k = r->stats->kept[j];
    parallel_for(r->rows, draw_row, &(DrawArg){r, w, j});
    const float most = k ? fr_kth(w->q, r->rows * r->Wp, k, r->s.bins) : -1;
    for (int n = 0; n < r->n; n++) r->s.theta[j][n] = most;
    w->qt = w->q, w->theta_t = w->theta, w->rule = RULE_STUDENT;
    return keep_mask(r, w, j);
}
/* Maps of the teacher's probabilities that head j is held against. */
static int other_map(const FullresAttr *a, int j) {
    int head[MAPS];
    head_sources(a, head);
    return a->rule == RULE_STUDENT ? j : j && head[3] ? 3 : 2;
}
/* The mask of one head, the main one first: fills its thresholds and counts; returns what it divides by. */
static double choose_mask(const Run *r, FrWeights *w, int j, int64_t *classes) {
    FrStats *st = r->stats;
    const int t = other_map(r->a, j);
    int head[MAPS];
    head_sources(r->a, head);
    st->masked = 1;
    st->theta[j] = threshold(r, j, head[j]);
    if (t >= 2) st->theta_t[j] = t == 2 && j ? st->theta_t[0] : threshold(r, t, head[t]);
    w->q = r->s.q[j], w->qt = r->s.q[t], w->theta = r->s.theta[j], w->theta_t = r->s.theta[t];
    w->kept = r->s.row_count[j], w->sum = r->s.row_sum[j], w->rule = r->a->rule;
    double z = keep_mask(r, w, j);
    if (r->a->random) z = draw_mask(r, w, j);
    if (j == 0) {
        st->empty = st->kept[0] == 0;
        if (r->a->main_mask && r->a->aux) st->kept[1] = st->kept[0];
        count_classes(r, w, classes);
    }
    return z;
}

/* ---- masks of an update in parts ---------------------------------------------------------------- */
/* Leave this part's probabilities and labels. */
static void gather(Run *r, const Parts *p) {
    Update *u = update_of(r, p->parts);
    int head[MAPS];
    head_sources(r->a, head);
    memcpy(u->labels + p->part * r->rows * r->W, r->labels, sizeof(int32_t) * (size_t)(r->rows * r->W));
    memcpy(u->valid + (int64_t)p->part * r->n, r->s.valid, sizeof(int64_t) * (size_t)r->n);
    for (int i = 0; i < MAPS; i++) {
        if (!u->q[i]) continue;
        r->s.q[i] = u->q[i] + p->part * r->rows * r->Wp, r->s.below[i] = u->below[i] + p->part * r->rows;
        if (i == 0 || head[i]) probabilities(r, i, head[i]);
    }
}
/* The masks of all parts, as of one batch, by the first to emit. */
static void choose_all(const Run *r, const FrWeights *w, const Parts *p, Update *u, int heads) {
    Run whole = *r;
    FrWeights all = *w;
    whole.n = all.n = r->n * p->parts, whole.rows = r->rows * p->parts, whole.labels = all.labels = u->labels;
    whole.stats = &u->stats, whole.gathered = true, whole.s.valid = u->valid;
    for (int i = 0; i < MAPS; i++) whole.s.q[i] = u->q[i], whole.s.theta[i] = u->theta[i], whole.s.below[i] = u->below[i];
    for (int j = 0; j < HEADS; j++) whole.s.row_count[j] = u->kept[j], whole.s.row_sum[j] = u->sum[j];
    u->stats = (FrStats){.classes = r->k};
    for (int n = 0; n < whole.n; n++) u->stats.valid += u->valid[n];
    memset(u->classes, 0, 2 * sizeof(int64_t) * (size_t)r->k);
    for (int j = 0; j < heads; j++) u->z[j] = choose_mask(&whole, &all, j, u->classes);
}
/* choose_mask for this part of the whole. */
static double choose_part(Run *r, FrWeights *w, int j, int heads) {
    const Parts *p = parts_of(r->call);
    Update *u = update_of(r, p->parts);
    if (p->part == 0 && j == 0) choose_all(r, w, p, u, heads);
    const int64_t first = (int64_t)p->part * r->n, row = p->part * r->rows;
    const int t = r->a->random ? j : other_map(r->a, j);
    w->q = u->q[j] + row * r->Wp, w->qt = u->q[t] + row * r->Wp;
    w->theta = u->theta[j] + first, w->theta_t = u->theta[t] + first;
    w->rule = r->a->random ? RULE_STUDENT : r->a->rule;
    const double loss = r->stats->main;
    *r->stats = u->stats, r->stats->main = loss;
    memcpy(saved_classes(r->call->saved), u->classes, 2 * sizeof(int64_t) * (size_t)r->k);
    return u->z[j] / p->parts;
}

/* Easiness of each low-resolution pixel for the teacher alone, 0..1. */
static void entropy_ease(const float *t, Shape s, float *easy) {
    int64_t hw = s.d[2] * s.d[3], K = s.d[1];
    for (int64_t i = 0; i < s.d[0] * hw; i++) {
        const float *z = t + i / hw * K * hw + i % hw;
        double max = (double)z[0], sum = 0, dot = 0;
        for (int64_t k = 1; k < K; k++) max = fmax(max, (double)z[k * hw]);
        for (int64_t k = 0; k < K; k++) {
            double d = (double)z[k * hw] - max, e = exp(d);
            sum += e, dot += e * d;
        }
        easy[i] = K > 1 ? (float)(1.0 - (log(sum) - dot / sum) / log((double)K)) : 1.0f;
    }
}
static void teacher_ease(Run *r) {
    const FullresAttr *a = r->a;
    Shape t = r->call->src_shape[a->t];
    if (a->tfe_kind == TFE_ENTROPY) { entropy_ease(r->call->src[a->t], t, r->s.easy); return; }
    int other = a->tfe_kind == TFE_AUX ? a->t_aux : a->t_flip;
    const int pair[2] = {a->kl_reversed ? a->t : other, a->kl_reversed ? other : a->t};
    FrKl kl = {.p = r->call->src[pair[0]], .q = r->call->src[pair[1]], .n = r->n, .k = r->k,
               .pixels = t.d[2] * t.d[3], .scale = 1.0f, .value = r->s.easy};
    if (r->kern) parallel_for(r->n * kl_chunks(kl.pixels), kl_item, &kl);
    else fr_ref_kl(&kl);
    for (int64_t i = 0; i < r->n * kl.pixels; i++) r->s.easy[i] = expf(-r->s.easy[i]);
}

/* Sum the shares of neighbouring intervals: dlogits = a * (lower share of r + upper share of r - 1). */
typedef struct { const FrPass *p; float *dlogits; float a; } GatherArg;
static void gather_plane(void *arg, int64_t plane) {
    const GatherArg *g = arg;
    const FrMap *m = g->p->map;
    int64_t image = plane / g->p->k, k = plane % g->p->k, low = (int64_t)g->p->k * m->w;
    for (int r = 0; r < m->h; r++) {
        float *out = g->dlogits + (plane * m->h + r) * m->w;
        const float *lo = g->p->partial + (image * m->intervals + r) * 2 * low + k * m->w, *hi = lo - low;
        bool has_lo = r < m->intervals, has_hi = r > 0;
        for (int c = 0; c < m->w; c++) out[c] = g->a * ((has_lo ? lo[c] : 0) + (has_hi ? hi[c] : 0));
    }
}
/* Value (returned, without a) and gradient (times a) of one head under a weight map. */
static double emit_head(Run *r, int head, const float *weight, double a) {
    int src = head ? r->a->aux : 0;
    FrPass p = pass_of(r, head, src);
    float *dlogits = saved_grad(r->call->saved, r->call->src_shape, head);
    p.weight = weight, p.partial = r->s.partial, p.row_loss = r->s.row_sum[0];
    if (r->kern) {
        parallel_for((int64_t)r->n * p.map->intervals, grad_item, &p);
        parallel_for((int64_t)r->n * r->k, gather_plane, &(GatherArg){&p, dlogits, (float)a});
    } else {
        double *acc = xcalloc((size_t)shape_count(r->call->src_shape[src]), sizeof *acc);
        fr_ref_grad(&p, dlogits, a, acc);
        free(acc);
    }
    return sum_f64(p.row_loss, r->rows);
}

/* What the labels of one part tell: *all of them, and the sum of their class weights. own: those of this run. */
static void count_part(Run *r, const int32_t *labels, const float *class_weight, LabelCount *sum,
                       bool own) {
    parallel_for(r->rows, count_row, &(CountArg){r, labels, class_weight});
    sum->weights += sum_f64(r->s.row_sum[0], r->rows);
    sum->valid += (double)sum_i32(r->s.row_count[0], r->rows);
    for (int n = 0; n < r->n && own; n++) {
        r->s.valid[n] = sum_i32(r->s.row_count[0] + (int64_t)n * r->H, r->H);
        r->stats->valid += r->s.valid[n];
    }
}
/* Labelled pixels of each image. Returns the numbers of an update's parts on average, which the first of them counts for
 * all. */
static LabelCount count_labels(Run *r, const float *class_weight) {
    const Parts *p = parts_of(r->call);
    LabelCount own = {0}, *sum = p ? part_store_data(r->a->counts, sizeof *sum) : &own;
    if (p && p->part == 0) *sum = own;
    for (int i = 1; p && p->part == 0 && i < p->parts; i++)
        count_part(r, p->labels[i], class_weight, sum, false);
    count_part(r, r->labels, class_weight, p && p->part ? &own : sum, true);
    return (LabelCount){sum->weights / r->parts, sum->valid / r->parts};
}
/* What the weights are made of, stage by stage. */
typedef struct Stages { double tfe, tse; bool mask, whole; } Stages;     /* mask: TSE or OHEM has pixels; whole: of the update */

static Stages begin(Run *r, FrWeights *w) {
    const FullresAttr *a = r->a;
    const float *stage = a->stage ? r->call->src[a->stage] : NULL;
    Stages g = {stage ? (double)stage[0] : a->tfe, stage ? (double)stage[1] : a->tse, false, a->store && parts_of(r->call)};
    const bool plain = !a->tfe && !a->tse;
    const LabelCount count = count_labels(r, plain ? a->class_weight : NULL);
    double z = count.weights;
    if (!a->tfe) g.tfe = 0;
    if (!a->tse) g.tse = 0;
    g.mask = g.tse != 0 && (g.whole ? count.valid > 0 : r->stats->valid > 0);
    w->class_weight = a->class_weight;
    if (count.valid == 0 || ((a->compat || a->all_pixels) && !plain)) z = (double)r->rows * r->W;
    if (plain) w->plain = z > 0 ? (float)(1.0 / z) : 0.0f;
    if (g.tfe != 0) w->easy = r->s.easy, w->map = &r->s.map[2], w->tfe = (float)(g.tfe / z);
    if (g.tse != 0 && a->compat && r->stats->valid < a->count) r->stats->short_of = a->count;
    if (g.tse != 0 && !g.mask) r->stats->masked = r->stats->empty = 1;
    return g;
}
/* The weights of one head's pixels, in w->q. heads: how many have masks of their own. */
static void make_weights(Run *r, FrWeights *w, const Stages *g, int j, int heads) {
    w->q = r->s.q[j], w->qt = NULL;
    if (g->mask) {
        const double z = g->whole ? choose_part(r, w, j, heads) : choose_mask(r, w, j, saved_classes(r->call->saved));
        w->tse = z > 0 ? (float)(g->tse / z) : 0.0f;
    }
    if (r->kern) parallel_for(r->rows, weight_row, w);
    else fr_ref_weights(w);
}
static void emit(Run *r, FrWeights *w, const Stages *g) {
    const int heads = g->mask && r->a->aux && !r->a->main_mask ? 2 : 1;
    if (g->tfe != 0) teacher_ease(r);
    make_weights(r, w, g, 0, heads);
    r->stats->main = emit_head(r, 0, w->q, 1.0);
    if (heads > 1) make_weights(r, w, g, 1, heads);
    if (r->a->aux) r->stats->aux = emit_head(r, 1, w->q, AUX_WEIGHT);
    r->stats->loss = r->stats->main + AUX_WEIGHT * r->stats->aux;
}
static void run_loss(const OpCall *c, const FrKernels *kern) {
    const Shape *s = c->src_shape;
    Run r = {.call = c, .a = c->attr, .kern = kern, .stats = c->saved, .labels = c->src[1],
             .n = (int)s[0].d[0], .k = (int)s[0].d[1], .H = (int)s[1].d[1], .W = (int)s[1].d[2],
             .Wp = padded(s[1].d[2]), .rows = s[1].d[0] * s[1].d[1], .parts = parts_n(c)};
    lay_out(r.a, s, c->scratch, &r.s);
    for (int i = 0; i < MAPS; i++) map_fill(&r.s.map[i]);
    *r.stats = (FrStats){.classes = r.k};
    memset(saved_classes(c->saved), 0, 2 * sizeof(int64_t) * (size_t)r.k);
    FrWeights w = {.n = r.n, .k = r.k, .H = r.H, .W = r.W, .Wp = r.Wp, .labels = r.labels};
    const Stages g = begin(&r, &w);
    if (!parts_gathering(c)) emit(&r, &w, &g);
    else if (g.whole && g.tse != 0) gather(&r, parts_of(c));
    c->dst[0] = (float)r.stats->loss;
}
void fullres_forward(const OpCall *c) { run_loss(c, NULL); }
void fullres_fast_forward(const OpCall *c) { run_loss(c, fr_kernels()); }

void fullres_backward(const OpCall *c) {
    const FullresAttr *a = c->attr;
    for (int j = 0; j < 1 + (a->aux != 0); j++) {
        int src = j ? a->aux : 0;
        const float *g = saved_grad(c->saved, c->src_shape, j);
        float *d = c->dsrc[src], scale = c->ddst[0];
        int64_t n = shape_count(c->src_shape[src]);
        for (int64_t i = 0; d && i < n; i++) d[i] += scale * g[i];
    }
}

/* ---- building and reading ----------------------------------------------------------------------- */
int fullres_stats(const void *saved, const char **names, double *values, int max) {
    const FrStats *s = saved;
    double valid = s->valid > 0 ? (double)s->valid : 1.0;
    const char *name[] = {"task", "aux", "valid", "kept.main", "kept.aux", "theta.main", "empty"};
    double value[] = {s->main, AUX_WEIGHT * s->aux, (double)s->valid, (double)s->kept[0] / valid,
                      (double)s->kept[1] / valid, s->theta[0], s->empty};
    int n = s->masked ? 7 : 3;
    for (int i = 0; i < n && i < max; i++) names[i] = name[i], values[i] = value[i];
    return n < max ? n : max;
}
int fullres_kept(const void *saved, double *share, int max) {
    const FrStats *s = saved;
    const int64_t *kept = saved_classes((void *)(uintptr_t)saved);
    for (int k = 0; s->masked && k < s->classes && k < max; k++)
        share[k] = kept[s->classes + k] ? (double)kept[k] / (double)kept[s->classes + k] : NAN;
    return s->masked ? s->classes < max ? s->classes : max : 0;
}
Err fullres_check(const void *saved) {
    const FrStats *s = saved;
    if (!s->short_of) return OK;
    return err_set(E(3, 0), "rdd: the batch has %lld labelled pixels, compat=rdd2023 keeps at least %lld; "
                   "set min_kept_count lower, or compat=none", (long long)s->valid, (long long)s->short_of);
}

Node fullres_add(Net *n, const OpDef *op, const KdSite *s, FullresAttr *a, bool teacher) {
    Node src[NODE_SRC_MAX] = {s->logits, s->labels};
    int count = 2;
    a->counts = part_store(n);
    if (s->aux.id) a->aux = count, src[count++] = s->aux;
    if (teacher && s->t_logits.id) a->t = count, src[count++] = s->t_logits;
    if (teacher && s->t_aux.id) a->t_aux = count, src[count++] = s->t_aux;
    if (teacher && s->t_flip.id) a->t_flip = count, src[count++] = s->t_flip;
    if (teacher && s->stage.id) a->stage = count, src[count++] = s->stage;
    return net_add(n, op, op->name, a, sizeof *a, src, count, NULL, 0);
}
