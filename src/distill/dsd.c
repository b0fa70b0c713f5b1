/* dsd.c - double similarity distillation (Feng et al., IEEE TIP 2021): two terms,
 *   psd, pixel-wise: m(.) the attention vectors (as in at) of a list of layers; for each pair n < m of them
 *     v = normalise(m_n - m_m), term = mean over N h w of (v_s - v_t)^2, averaged over the pairs; maps of a pair are
 *     resized (bilinear, align_corners) to the smaller of the teacher's two grids before they are normalised;
 *   csd, category-wise: 2x2 average pooling (ceil; a window over the edge divides by what lies inside) of the logits
 *     N x K x h x w, softmax over positions at temperature 4 per class, G = P P^T (K x K),
 *     term = mean over N K K of (G_s - G_t)^2.
 * loss = psd * pixel-wise + csd * category-wise. The student's logits are resized to the teacher's grid first.
 * mask=valid leaves positions out of vectors, softmaxes and counts. */
#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "distill/attention.h"
#include "distill/rows.h"

enum { TAPS_MAX = 5 };
typedef struct DsdOptions {
    double psd, csd;
    const char *taps, *teacher_taps;
    double tau;
    int mask;
} DsdOptions;
static const Option options[] = {
    {"psd", OPT_F64, offsetof(DsdOptions, psd), "1e3", "", "weight of the pixel-wise term",
     .flags = OPT_TERM_WEIGHT, .lo = 0, .hi = 1e9},
    {"csd", OPT_F64, offsetof(DsdOptions, csd), "10", "", "weight of the category-wise term",
     .flags = OPT_TERM_WEIGHT, .lo = 0, .hi = 1e9},
    {"taps", OPT_STR, offsetof(DsdOptions, taps), "[mid, features, logits]", "",
     "layers of the pixel-wise term, two to five", .flags = 0},
    {"teacher_taps", OPT_STR, offsetof(DsdOptions, teacher_taps), "", "",
     "the teacher's, in the same order, where their names are others", .flags = 0},
    {"tau", OPT_F64, offsetof(DsdOptions, tau), "4", "",
     "temperature of the category-wise softmaxes", .lo = 1e-3, .hi = 1e3},
    {"mask", OPT_ENUM, offsetof(DsdOptions, mask), "none", "",
     "valid: leave out positions without a label", .choices = "none|valid"},
    {0}};

/* ---- one pair of layers --------------------------------------------------------------------------- */
/* Sources: the student's maps n and m, the teacher's, each N x 1 x h x w [, labels]. */
static Err pair_of_infer(const OpSite *s, Shape *dst) {
    for (int i = 1; i < 4; i++)
        if (!shape_equal(s->src[i], s->src[0]))
            return err_set(E(2, 37), "attention maps of %s and %s", shape_text(s->src[0]).s,
                           shape_text(s->src[i]).s);
    *dst = (Shape){0};
    return OK;
}
static size_t pair_of_saved(const OpSite *s, Shape dst) {
    return 2 * sizeof(float) * (size_t)shape_count(s->src[0]);
}
static size_t pair_of_scratch(const OpSite *s, Shape dst) {
    const int64_t P = grid_count(s->src[0]);
    return sizeof(double) * 6 * (size_t)P + sizeof(float) * (size_t)(s->src[0].d[0] * P);
}
/* normalise(unit(a) - unit(b)) of image n -> v; keeps the divisors. u: units of a and b. */
static void difference(const OpCall *c, int a, int64_t n, int64_t P, const float *mask, double *u,
                       double *v, double *raw, double size[3]) {
    for (int i = 0; i < 2; i++) {
        const float *x = (const float *)c->src[a + i] + n * P;
        for (int64_t k = 0; k < P; k++) raw[k] = (double)x[k];
        size[i] = attention_unit(raw, mask, P, u + i * P);
    }
    for (int64_t k = 0; k < P; k++) raw[k] = u[k] - u[P + k];
    size[2] = attention_unit(raw, mask, P, v);
}
static void pair_of_forward(const OpCall *c) {
    const Shape x = c->src_shape[0];
    const int64_t P = grid_count(x);
    double *u = c->scratch, *vs = u + 2 * P, *vt = u + 3 * P, *raw = u + 4 * P, *d = u + 5 * P,
           size[3], sum = 0;
    float *mask = (float *)(u + 6 * P), *g[2] = {c->saved, (float *)c->saved + shape_count(x)};
    pair_mask(c, x.d[2], x.d[3], mask);
    const double count = pair_divisor(c, x.d[2], x.d[3], COUNT_POSITIONS),
                 share = count > 0 ? 1 / count : 0;
    for (int64_t n = 0; n < x.d[0]; n++) {
        difference(c, 2, n, P, mask + n * P, u, vt, raw, size);
        difference(c, 0, n, P, mask + n * P, u, vs, raw, size);
        for (int64_t k = 0; k < P; k++) d[k] = vs[k] - vt[k], sum += d[k] * d[k], d[k] *= 2 * share;
        attention_unit_back(vs, size[2], P, d);
        for (int i = 0; i < 2; i++) {
            for (int64_t k = 0; k < P; k++) raw[k] = i ? -d[k] : d[k];
            attention_unit_back(u + i * P, size[i], P, raw);
            for (int64_t k = 0; k < P; k++)
                g[i][n * P + k] = mask[n * P + k] != 0 ? (float)raw[k] : 0;
        }
    }
    c->dst[0] = (float)(share * sum);
}
static void pair_of_backward(const OpCall *c) {
    const int64_t n = shape_count(c->src_shape[0]);
    for (int i = 0; i < 2; i++)
        if (c->dsrc[i])
            rows()->scale_add(c->dsrc[i], c->ddst[0], (const float *)c->saved + i * n, n);
}
static const OpDef op_psd = {.name = "psd",
                             .infer = pair_of_infer,
                             .saved_bytes = pair_of_saved,
                             .scratch_bytes = pair_of_scratch,
                             .forward = pair_of_forward,
                             .backward = pair_of_backward};

/* ---- categories ------------------------------------------------------------------------------------ */
typedef struct CsdAttr { double tau; } CsdAttr;
typedef struct Run {
    const OpCall *c;
    float *p[2], *mask;
    double *sum, scale, share;
    int which;
} Run;
static size_t csd_scratch(const OpSite *s, Shape dst) {      /* sums, two softmaxes, mask */
    const Shape x = s->src[0];
    return sizeof(double) * (size_t)(x.d[0] * x.d[1]) +
           sizeof(float) * (size_t)(2 * shape_count(x) + x.d[0] * grid_count(x));
}
static void softmax_item(void *arg, int64_t i) {             /* a class of an image */
    const Run *r = arg;
    const Shape x = r->c->src_shape[0];
    const int64_t P = grid_count(x);
    for (int side = 0; side < 2; side++)
        rows()->softmax(r->p[side] + i * P, (const float *)r->c->src[side] + i * P, (float)r->scale,
                        r->mask ? r->mask + i / x.d[1] * P : NULL, P);
}
/* Row k of G_s - G_t, then the gradient by row k of P, and by the logits. */
static void gram_item(void *arg, int64_t i) {
    const Run *r = arg;
    const Shape x = r->c->src_shape[0];
    const int64_t P = grid_count(x), first = i / x.d[1] * x.d[1];
    const float *s = r->p[0], *t = r->p[1];
    float *g = (float *)r->c->saved + i * P;
    double sum = 0;
    memset(g, 0, sizeof(float) * (size_t)P);
    for (int64_t l = first; l < first + x.d[1]; l++) {
        const double d =
            rows()->dot(s + i * P, s + l * P, P) - rows()->dot(t + i * P, t + l * P, P);
        sum += d * d;
        rows()->scale_add(g, (float)(4 * r->share * d), s + l * P, P);
    }
    r->sum[i] = sum;
    const double inner = rows()->dot(g, s + i * P, P);
    for (int64_t k = 0; k < P; k++)
        g[k] = (float)(r->scale * (double)s[i * P + k] * ((double)g[k] - inner));
}
static void csd_forward(const OpCall *c) {
    const Shape x = c->src_shape[0];
    const int64_t n = x.d[0] * x.d[1];
    Run r = {.c = c,
             .sum = c->scratch,
             .scale = 1 / ((const CsdAttr *)c->attr)->tau,
             .share = 1 / (double)(n * x.d[1])};
    r.p[0] = (float *)(r.sum + n), r.p[1] = r.p[0] + shape_count(x);
    if (c->n_src > 2) pair_mask(c, x.d[2], x.d[3], r.mask = r.p[1] + shape_count(x));
    parallel_for(n, softmax_item, &r);
    parallel_for(n, gram_item, &r);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += r.sum[i];
    c->dst[0] = (float)(r.share * sum);
}
static const OpDef op_csd = {.name = "csd",
                             .infer = pair_infer_same,
                             .saved_bytes = pair_saved_bytes,
                             .scratch_bytes = csd_scratch,
                             .forward = csd_forward,
                             .backward = pair_backward};

/* ---- building -------------------------------------------------------------------------------------- */
static int split_names(Net *n, const char *text, const char *names[TAPS_MAX]) {
    char *rest = arena_strdup(n->arena, text);
    int count = 0;
    for (char *item; (item = strtok_r(rest, " ,[]", &rest)); count++) {
        if (count == TAPS_MAX)
            return net_fail(n, E(2, 0), "dsd: more than %d layers in taps", TAPS_MAX), 0;
        names[count] = item;
    }
    return count;
}
/* The attention maps of the layers, student's and teacher's; returns how many. */
static int open_taps(Net *n, const KdSite *s, const DsdOptions *o, Node student[TAPS_MAX],
                     Node teacher[TAPS_MAX]) {
    const char *names[TAPS_MAX], *theirs[TAPS_MAX];
    const int count = split_names(n, o->taps, names),
              other = split_names(n, *o->teacher_taps ? o->teacher_taps : o->taps, theirs);
    if (n->err) return 0;
    if (count < 2 || other != count)
        return net_fail(
                   n, E(2, 0),
                   "dsd: %d layers in taps, %d in teacher_taps; give two or more, as many of each",
                   count, other),
               0;
    for (int i = 0; i < count; i++) {
        const Node a = s->tap(s, n, false, names[i]), b = s->tap(s, n, true, theirs[i]);
        for (int k = 0; k < i && !n->err; k++)
            if (!strcmp(names[i], names[k]) || !strcmp(theirs[i], theirs[k]))
                net_fail(n, E(2, 0),
                         "dsd: layer %s is in taps twice; its difference from itself says nothing",
                         names[i]);
        student[i] = attention_map(n, a), teacher[i] = attention_map(n, b);
    }
    return n->err ? 0 : count;
}
static Node on_grid(Net *n, Node x, Node like) {
    const Shape a = net_shape(n, x), b = net_shape(n, like);
    return a.d[2] == b.d[2] && a.d[3] == b.d[3] ? x : nn_resize_like(n, x, like, true);
}
static Node pixel_wise(Net *n, const KdSite *s, const DsdOptions *o) {
    Node student[TAPS_MAX], teacher[TAPS_MAX], term = NO_NODE;
    const int count = open_taps(n, s, o, student, teacher);
    for (int i = 0; i < count; i++)
        for (int k = i + 1; k < count; k++) {
            const Node grid =
                grid_count(net_shape(n, teacher[k])) < grid_count(net_shape(n, teacher[i]))
                    ? teacher[k]
                    : teacher[i];
            const Node src[] = {on_grid(n, student[i], grid), on_grid(n, student[k], grid),
                                on_grid(n, teacher[i], grid), on_grid(n, teacher[k], grid),
                                s->labels};
            const Node one = net_add(n, &op_psd, "psd", NULL, 0, src, o->mask ? 5 : 4, NULL, 0);
            const float share = 2.0f / (float)(count * (count - 1));
            if (n->err) return NO_NODE;
            term = term.id ? nn_weighted_sum(n, (Node[]){term, one}, (float[]){1, share}, 2)
                           : nn_weighted_sum(n, &one, &share, 1);
        }
    return term;
}
static Node pooled(Net *n, Node x) {
    const AvgPoolAttr a = {.kh = 2, .kw = 2, .stride_h = 2, .stride_w = 2, .ceil = true};
    return n->err ? NO_NODE : net_add(n, &op_avg_pool, "pool", &a, sizeof a, &x, 1, NULL, 0);
}
static Node category_wise(Net *n, const KdSite *s, const DsdOptions *o) {
    Pair p = pair_open(n, s, "dsd", &(PairOptions){"logits", "", o->mask});
    pair_line_up(n, s, &p, false);
    p.student = pooled(n, p.student), p.teacher = pooled(n, p.teacher);
    return pair_add(n, &op_csd, &(CsdAttr){o->tau}, sizeof(CsdAttr), &p);
}
static Node build(Net *n, const KdSite *s, const void *opt) {
    const DsdOptions *o = opt;
    Node term[2];
    float weight[2];
    int count = 0;
    if (o->mask && !s->labels.id) net_fail(n, E(2, 0), "dsd: mask=valid needs labels");
    if (o->psd > 0) weight[count] = (float)o->psd, term[count++] = pixel_wise(n, s, o);
    if (o->csd > 0) weight[count] = (float)o->csd, term[count++] = category_wise(n, s, o);
    if (!count) net_fail(n, E(2, 0), "dsd: psd and csd are both 0; take dsd out of distill.losses");
    return nn_weighted_sum(n, term, weight, count);
}
const KdMethod kd_dsd = {.name = "dsd",
                         .cite = "Double Similarity Distillation, IEEE TIP 2021",
                         .weight = 1,
                         .taps = KD_FEATURES | KD_LOGITS,
                         .options = options,
                         .option_bytes = sizeof(DsdOptions),
                         .build = build};
