/* cirkd_memory.c - the second half of cirkd: queues of the teacher's features (arXiv 2204.06986, eq. 6-11).
 *
 * Per class a ring of pixels (at most 16 new ones of a class and image) and one of regions (the mean of the features of
 * a class in an image), unit vectors of the teacher's channels Ct in half precision. The student's features pass
 * conv1x1(Ct) - BN - ReLU - conv1x1(Ct), trained with the student. For each labelled position i of the batch,
 * similarities x_i . q_k / tau to floor(samples / classes) + 1 entries of each class, or all it has, drawn without
 * repetition from filled slots alone; rows made distributions by softmax;
 *   term = mean over positions of KL(teacher's row || student's row), pixel term and region term weighted and added.
 * Labels on the low grid: nearest. A queue without entries adds 0. Pixels kept for a class are pixels of that class.
 *
 * The value comes of the queue as it was; then, as batch norm does with its statistics, a run in training adds to it.
 * Draws are keyed by the run's seed and the number of the batch's first sample. Panels and tiles as in relation.h;
 * tiles of a row of panels wait in scratch, for GROUPS rows at a time. */
#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "base/rng.h"
#include "distill/cirkd.h"
#include "distill/parts.h"
#include "distill/relation.h"

enum { GROUPS = 8, PIXELS = 0, REGIONS, QUEUES };
typedef struct Queue {
    Tensor *entry, *count;                       /* f16 K x slots x C; i64 K: how many were ever added */
    int64_t slots, want;                         /* entries drawn of a class */
    double  weight;
} Queue;
typedef struct MemoryAttr {
    Queue queue[QUEUES];
    double tau;
    int classes;
    int64_t pixels;
} MemoryAttr;

typedef struct Run {
    const OpCall *c;
    const MemoryAttr *a;
    Panels p[2];
    int32_t *y;                                  /* N x P */
    float   *mask, *dx;
    float   *drawn;                              /* panels of entries, those of both queues in turn */
    float   *tiles;                              /* [GROUPS][2][panels drawn] tiles */
    double  *value;                              /* [panels] */
    uint32_t *order;                             /* [slots of a queue]: for drawing */
    int64_t  count[QUEUES];                      /* entries drawn */
    int64_t  P;
} Run;

static int64_t whole_panels(int64_t n) { return (n + PANEL - 1) / PANEL; }
static int64_t drawn_panels(const MemoryAttr *a, int q) {
    return whole_panels(a->queue[q].want * a->classes);
}
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static void *take(char **at, size_t bytes) {
    void *p = *at;
    *at += (bytes + 63) / 64 * 64;
    return p;
}
static size_t lay_out(const MemoryAttr *a, const Shape *src, char *base, Run *r) {
    char *at = base;
    const size_t N = (size_t)src[0].d[0];
    *r = (Run){.a = a, .P = grid_count(src[0])};
    for (int i = 0; i < 2; i++) panels_open(&r->p[i], (int)N, (int)src[i].d[1], r->P, &at);
    const size_t floats = panel_floats(&r->p[0]), panels = N * (size_t)r->p[0].per_image;
    const size_t pixels = (size_t)drawn_panels(a, PIXELS),
                 regions = (size_t)drawn_panels(a, REGIONS);
    r->y = take(&at, sizeof(int32_t) * N * (size_t)r->P);
    r->mask = take(&at, sizeof(float) * N * (size_t)r->P);
    r->dx = take(&at, sizeof(float) * panels * floats);
    r->drawn = take(&at, sizeof(float) * (pixels + regions) * floats);
    r->tiles = take(&at, sizeof(float) * GROUPS * 2 *
                             (size_t)most((int64_t)pixels, (int64_t)regions) * PANEL * PANEL);
    r->value = take(&at, sizeof(double) * panels);
    r->order = take(&at, sizeof(uint32_t) *
                             (size_t)most(most(a->queue[0].slots, a->queue[1].slots), r->P));
    return (size_t)(at - base);
}
static size_t scratch_bytes(const OpSite *s, Shape dst) {
    Run unused;
    static char anchor;
    return lay_out(s->attr, s->src, &anchor, &unused);
}

/* ---- drawing ---------------------------------------------------------------------------------------- */
/* The first `want` places of order become a sample of 0 .. n - 1 without repetition; all in order when there are no more. */
static int64_t draw(const Rng *g, uint32_t *order, int64_t n, int64_t want) {
    for (int64_t i = 0; i < n; i++) order[i] = (uint32_t)i;
    if (n <= want) return n;
    for (int64_t i = 0; i < want; i++) {
        const int64_t k = i + rng_below(g, (uint64_t)i, (uint32_t)(n - i));
        const uint32_t t = order[i];
        order[i] = order[k], order[k] = t;
    }
    return want;
}
/* use: a queue, or QUEUES for the choice of new pixels. */
static Rng stream_of(const Run *r, int use, int k, int64_t image) {
    const uint64_t what =
        ((uint64_t)r->c->node * (QUEUES + 1) + (uint64_t)use) * (uint64_t)r->a->classes +
        (uint64_t)k;
    return rng_stream(r->c->run->seed, RNG_METHOD, what, r->c->run->first_sample + (uint64_t)image);
}
/* Entries of one queue, class by class, into panels at `to`. */
static int64_t draw_queue(const Run *r, int q, float *to) {
    const Queue *u = &r->a->queue[q];
    const int C = r->p[0].C;
    const size_t floats = panel_floats(&r->p[0]);
    float x[C];
    int64_t column = 0;
    memset(to, 0, sizeof(float) * (size_t)drawn_panels(r->a, q) * floats);
    for (int k = 0; k < r->a->classes; k++) {
        const int64_t ever = ((const int64_t *)u->count->data)[k],
                      filled = ever < u->slots ? ever : u->slots;
        const Rng g = stream_of(r, q, k, 0);
        const int64_t n = draw(&g, r->order, filled, u->want);
        for (int64_t i = 0; i < n; i++, column++) {
            gemm()->from_half(
                x, (const uint16_t *)u->entry->data + (k * u->slots + r->order[i]) * C, C);
            float *out = to + (size_t)(column / PANEL) * floats + column % PANEL;
            for (int c = 0; c < C; c++) out[c * PANEL] = x[c];
        }
    }
    return column;
}

/* ---- value and gradient ------------------------------------------------------------------------------ */
/* One row of panels against one queue: the sum of its positions' KL, weighted; what pulls is added to dx. */
static double against(const Run *r, int I, int q, const float *drawn, float *tiles) {
    const Queue *u = &r->a->queue[q];
    const int64_t panels = whole_panels(r->count[q]);
    const int rows = panel_count(&r->p[0], I);
    const size_t floats = panel_floats(&r->p[0]), size = PANEL * PANEL;
    const float scale = (float)(1 / r->a->tau), *mask = r->mask +
                                                        (int64_t)(I / r->p[0].per_image) * r->P +
                                                        I % r->p[0].per_image * PANEL;
    double sum[3][PANEL] = {{0}}, value = 0;
    float row[3][PANEL], col[3][PANEL], turned[PANEL * PANEL] __attribute__((aligned(64)));
    for (int64_t J = 0; J < panels; J++) {
        const int cols = r->count[q] - J * PANEL < PANEL ? (int)(r->count[q] - J * PANEL) : PANEL;
        float *s = tiles + 2 * (size_t)J * size, *t = s + size;
        for (int i = 0; i < 2; i++)
            gemm()->panel(PANEL, r->p[0].rows, panel_at(&r->p[i], I), 1, PANEL,
                          drawn + (size_t)J * floats, i ? t : s, false);
        gemm()->sums(s, t, scale, rows, cols, row, col);
        for (int k = 0; k < 3; k++)
            for (int i = 0; i < rows; i++) sum[k][i] += (double)row[k][i];
    }
    memset(col, 0, sizeof col);
    for (int i = 0; i < rows; i++) {
        const bool in = mask[i] != 0;
        if (in) value += sum[2][i] / sum[1][i] - log(sum[1][i]) + log(sum[0][i]);
        for (int k = 0; k < 2; k++) row[k][i] = in ? (float)(u->weight / sum[k][i]) : 0;
    }
    for (int64_t J = 0; J < panels; J++) {
        const int cols = r->count[q] - J * PANEL < PANEL ? (int)(r->count[q] - J * PANEL) : PANEL;
        float *s = tiles + 2 * (size_t)J * size;
        gemm()->pull(s, s + size, scale, rows, cols, (const float(*)[PANEL])row,
                     (const float(*)[PANEL])col);
        gemm()->transpose(turned, s);
        gemm()->panel(r->p[0].rows, PANEL, drawn + (size_t)J * floats, PANEL, 1, turned,
                      r->dx + (size_t)I * floats, true);
    }
    return u->weight * value;
}
static void group_item(void *arg, int64_t group) {
    const Run *r = arg;
    const int panels = r->p[0].images * r->p[0].per_image;
    const size_t floats = panel_floats(&r->p[0]);
    float *tiles =
        r->tiles + (size_t)group * 2 *
                       (size_t)most(drawn_panels(r->a, PIXELS), drawn_panels(r->a, REGIONS)) *
                       PANEL * PANEL;
    for (int I = (int)group; I < panels; I += GROUPS) {
        r->value[I] = 0;
        memset(r->dx + (size_t)I * floats, 0, sizeof(float) * floats);
        for (int q = 0; q < QUEUES; q++)
            if (r->count[q])
                r->value[I] += against(
                    r, I, q, r->drawn + (q ? (size_t)drawn_panels(r->a, PIXELS) * floats : 0),
                    tiles);
    }
}

/* ---- the queues -------------------------------------------------------------------------------------- */
static void push(const Queue *u, int k, int C, const float *x) {
    int64_t *count = (int64_t *)u->count->data + k;
    gemm()->to_half((uint16_t *)u->entry->data + (k * u->slots + *count % u->slots) * C, x, C);
    ++*count;
}
static void make_unit(float *x, int C) {
    double sum = 0;
    for (int c = 0; c < C; c++) sum += (double)x[c] * (double)x[c];
    const double size = fmax(sqrt(sum), 1e-12);
    for (int c = 0; c < C; c++) x[c] = (float)((double)x[c] / size);
}
static void enqueue(const Run *r) {
    const int C = r->p[1].C;
    const float *map = r->c->src[1];
    float x[C];
    for (int n = 0; n < r->p[1].images; n++) {
        const int32_t *y = r->y + n * r->P;
        for (int k = 0; k < r->a->classes; k++) {
            int64_t members = 0;
            double mean[C];
            memset(mean, 0, sizeof mean);
            for (int64_t i = 0; i < r->P; i++) {
                if (y[i] != k) continue;
                members++;
                for (int c = 0; c < C; c++) mean[c] += (double)map[(n * C + c) * r->P + i];
            }
            if (!members) continue;
            for (int c = 0; c < C; c++) x[c] = (float)(mean[c] / (double)members);
            make_unit(x, C);
            push(&r->a->queue[REGIONS], k, C, x);
            const Rng g = stream_of(r, QUEUES, k, n);
            const int64_t kept = draw(&g, r->order, members, r->a->pixels);
            for (int64_t i = 0; i < kept; i++) {             /* the order[i]-th member */
                int64_t at = 0, left = (int64_t)r->order[i];
                while (y[at] != k || left-- > 0) at++;
                for (int c = 0; c < C; c++) x[c] = map[(n * C + c) * r->P + at];
                make_unit(x, C);
                push(&r->a->queue[PIXELS], k, C, x);
            }
        }
    }
}

static void forward(const OpCall *c) {           /* projected student, teacher, labels */
    Run r;
    const Shape x = c->src_shape[0];
    c->dst[0] = 0;
    if (parts_gathering(c)) return;          /* nothing is entered twice */
    lay_out(c->attr, c->src_shape, c->scratch, &r);
    r.c = c;
    pair_labels_nearest(c->src[2], c->src_shape[2], x.d[2], x.d[3], r.y);
    for (int64_t i = 0; i < x.d[0] * r.P; i++) r.mask[i] = r.y[i] >= 0;
    for (int i = 0; i < 2; i++) panels_fill(&r.p[i], c->src[i], NULL);
    r.count[PIXELS] = draw_queue(&r, PIXELS, r.drawn);
    r.count[REGIONS] = draw_queue(
        &r, REGIONS, r.drawn + (size_t)drawn_panels(r.a, PIXELS) * panel_floats(&r.p[0]));
    parallel_for(GROUPS, group_item, &r);
    double sum = 0;
    for (int i = 0; i < r.p[0].images * r.p[0].per_image; i++) sum += r.value[i];
    const double valid = pair_divisor(c, x.d[2], x.d[3], COUNT_NEAREST),
                 share = valid > 0 ? 1 / valid : 0;
    c->dst[0] = (float)(share * sum);
    panels_gradient(&r.p[0], r.dx, NULL, share / r.a->tau, c->saved);
    if (c->run->training) enqueue(&r);
}
static const OpDef op_memory = {.name = "cirkd memory",
                                .infer = pair_infer_same,
                                .saved_bytes = pair_saved_bytes,
                                .scratch_bytes = scratch_bytes,
                                .forward = forward,
                                .backward = pair_backward};

static Queue queue_open(Net *n, const char *name, int classes, int64_t slots, int64_t samples,
                        int64_t C, double weight) {
    Queue q = {.slots = slots, .want = samples / classes + 1, .weight = weight};
    net_enter(n, name);
    q.entry = net_state(n, "entries", DT_F16, SHAPE(classes, slots, C));
    q.count = net_state(n, "count", DT_I64, SHAPE(classes));
    net_leave(n);
    return q;
}
Node cirkd_memory(Net *n, const KdSite *s, const CirkdOptions *o, Pair p) {
    if (n->err || (o->pixel == 0 && o->region == 0)) return NO_NODE;
    if (!s->labels.id)
        return net_fail(n, E(2, 0), "cirkd: memory needs labels; memory=off needs none"), NO_NODE;
    const int64_t C = net_shape(n, p.teacher).d[1];
    MemoryAttr a = {.tau = o->tau, .classes = s->classes, .pixels = o->pixels};
    net_enter(n, "projection");
    Node x = nn_relu(n, nn_bn(n, nn_conv(n, p.student, "0", (Conv){.out = (int)C, .k = 1}), "1"));
    p.student = nn_conv(n, x, "3", (Conv){.out = (int)C, .k = 1});
    net_leave(n);
    a.queue[PIXELS] =
        queue_open(n, "pixels", s->classes, o->pixel_queue, o->pixel_samples, C, o->pixel);
    a.queue[REGIONS] =
        queue_open(n, "regions", s->classes, o->region_queue, o->region_samples, C, o->region);
    p.labels = s->labels;
    return pair_add(n, &op_memory, &a, sizeof a, &p);
}
