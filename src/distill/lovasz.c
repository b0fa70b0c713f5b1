/* lovasz.c - the Lovasz-softmax loss (Berman et al., CVPR 2018, arXiv 1705.08790, eq. 7-9), over the micro-batch.
 *
 * Per class k that occurs, errors m_i = 1 - p_k where y = k, p_k elsewhere, over the labelled pixels, sorted downwards;
 * L_k = sum over ranks of m * (J_rank - J_(rank - 1)), J the Jaccard loss when the pixels up to there are wrong;
 * L = mean of L_k, weighted by c, + 0.4 the same of an auxiliary head. Shapes as in planes.h. Nothing labelled: 0.
 * One class at a time: its probabilities, the sort (radix, ties in the pixels' order), its part of the gradient. */
#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "distill/planes.h"

typedef struct LovaszOptions { const char *class_weights; } LovaszOptions;
typedef struct LovaszAttr { const float *class_weight; } LovaszAttr;
static const Option options[] = {{"class_weights", OPT_STR, offsetof(LovaszOptions, class_weights),
                                  "none", "", CLASS_WEIGHTS_HELP, .flags = 0},
                                 {0}};

enum { BINS = 1 << 16 };
typedef struct Item { uint32_t key, pixel; } Item;           /* key: the error's bits, turned round: small is large */
typedef struct Memory { float *q, *g; Item *item, *spare; int64_t *present; } Memory;
static size_t lay_out(Shape y, int64_t k, char *base, Memory *m) {
    const size_t P = ((size_t)shape_count(y) + 15) / 16 * 16;
    m->item = (Item *)base, m->spare = m->item + P;
    m->q = (float *)(m->spare + P), m->g = m->q + P;
    m->present = (int64_t *)(m->g + P);
    return (size_t)((char *)(m->present + k) - base);
}
static size_t scratch_bytes(const OpSite *s, Shape dst) {
    Memory unused;
    static char anchor;
    return planes_bytes(s->src[0], s->src[1]) +
           lay_out(s->src[1], s->src[0].d[1], &anchor, &unused);
}
typedef struct Fill { const Planes *p; float *q; int k; } Fill;
static void fill_row(void *arg, int64_t row) {
    const Fill *f = arg;
    planes_row(f->p, f->k, row, f->q + row * f->p->W);
}
static void sort_items(Item *a, Item *spare, int64_t n) {    /* twice 16 bits: the result is in a again */
    for (int shift = 0; shift < 32; shift += 16) {
        int64_t start[BINS] = {0}, at = 0;
        for (int64_t i = 0; i < n; i++) start[a[i].key >> shift & (BINS - 1)]++;
        for (int b = 0; b < BINS; b++) {
            const int64_t here = start[b];
            start[b] = at, at += here;
        }
        for (int64_t i = 0; i < n; i++) spare[start[a[i].key >> shift & (BINS - 1)]++] = a[i];
        Item *t = a;
        a = spare, spare = t;
    }
}
/* Value of one class; g: share * gradient by its probabilities, 0 where void. */
static double class_value(const Planes *p, int k, double share, int64_t present, const Memory *m) {
    const int64_t pixels = (int64_t)p->n * p->H * p->W;
    int64_t n = 0, hit = 0;
    double value = 0, before = 0;
    for (int64_t i = 0; i < pixels; i++) {
        m->g[i] = 0;
        if (p->labels[i] < 0) continue;
        const float error = p->labels[i] == k ? 1 - m->q[i] : m->q[i];
        uint32_t bits;
        memcpy(&bits, &(float){error < 0 ? 0 : error}, sizeof bits);
        m->item[n++] = (Item){~bits, (uint32_t)i};
    }
    sort_items(m->item, m->spare, n);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t at = m->item[i].pixel;
        const bool own = p->labels[at] == k;
        hit += own;
        const double jaccard = 1 - (double)(present - hit) / (double)(present + i + 1 - hit),
                     step = jaccard - before;
        before = jaccard;
        value += (own ? 1 - (double)m->q[at] : (double)m->q[at]) * step;
        m->g[at] = (float)(own ? -share * step : share * step);
    }
    return share * value;
}
static void slope(const Planes *p, int k, int64_t row, const float *q, float *g) {
    memcpy(g, (const float *)p->loss + row * p->W, sizeof(float) * (size_t)p->W);
}
static void no_slope(const Planes *p, int k, int64_t row, const float *q, float *g) {
    memset(g, 0, sizeof(float) * (size_t)p->W);
}
static double head(const OpCall *c, Planes *p, void *memory, double a, float *dlogits) {
    const float *weight = ((const LovaszAttr *)c->attr)->class_weight;
    const int64_t pixels = (int64_t)p->n * p->H * p->W;
    float *inner = p->inner;
    p->base = NULL;
    Memory m;
    double weights = 0, loss = 0;
    lay_out(c->src_shape[1], p->k, memory, &m);
    memset(m.present, 0, sizeof *m.present * (size_t)p->k);
    memset(inner, 0, sizeof *inner * (size_t)pixels);
    memset(dlogits, 0, sizeof *dlogits * (size_t)((int64_t)p->n * p->k * p->h * p->w));
    for (int64_t i = 0; i < pixels; i++)
        if (p->labels[i] >= 0 && p->labels[i] < p->k) m.present[p->labels[i]]++;
    for (int k = 0; k < p->k; k++) weights += m.present[k] ? weight ? (double)weight[k] : 1 : 0;
    for (int k = 0; k < p->k && weights > 0; k++) {
        if (!m.present[k]) continue;
        parallel_for((int64_t)p->n * p->H, fill_row, &(Fill){p, m.q, k});
        loss += class_value(p, k, (weight ? (double)weight[k] : 1) / weights, m.present[k], &m);
        p->inner = NULL, p->slope = slope, p->loss = m.g;
        planes_back(p, k, 1, a, true, dlogits);
        for (int64_t i = 0; i < pixels; i++) inner[i] += m.q[i] * m.g[i];
    }
    p->inner = inner, p->slope = no_slope;
    planes_back(p, 0, p->k, a, true, dlogits);
    return loss;
}
static void forward(const OpCall *c) { planes_forward(c, head); }
static const OpDef op_lovasz = {.name = "lovasz",
                                .infer = planes_infer,
                                .saved_bytes = planes_saved_bytes,
                                .scratch_bytes = scratch_bytes,
                                .forward = forward,
                                .backward = planes_backward};

static Node build(Net *n, const KdSite *s, const void *opt) {
    const LovaszOptions *o = opt;
    const LovaszAttr a = {
        class_weights(n, s, "lovasz", o->class_weights, net_shape(n, s->logits).d[1])};
    return planes_add(n, &op_lovasz, s, &a, sizeof a);
}
const KdMethod kd_lovasz = {.name = "lovasz",
                            .cite = "Lovasz-softmax, arXiv 1705.08790, eq. 7-9",
                            .weight = 1,
                            .task = true,
                            .also_term = true,
                            .taps = KD_LOGITS | KD_AUX | KD_LABELS,
                            .options = options,
                            .option_bytes = sizeof(LovaszOptions),
                            .build = build};
