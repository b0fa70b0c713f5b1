/* planes.c - see planes.h. Work items are rows, or planes of one class, so that nothing is written twice. */
#include "distill/planes.h"

#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "distill/rows.h"

static const double AUX_WEIGHT = 0.4;
static size_t aligned(size_t n) { return (n + 63) / 64 * 64; }

size_t planes_bytes(Shape logits, Shape labels) {
    return 4 * aligned(sizeof(float) * (size_t)shape_count(labels)) +
           2 * aligned(sizeof(float) * (size_t)labels.d[2]);
}
/* Row y of class k, before the softmax. */
static void logit_row(const Planes *p, int64_t n, int k, int y, float *out) {
    const double at = p->H > 1 ? (double)y * (p->h - 1) / (p->H - 1) : 0;
    const int r = at < p->h - 1 ? (int)at
                  : p->h > 1    ? p->h - 2
                                : 0,
              next = r + 1 < p->h ? r + 1 : r;
    const float fy = (float)(at - r), *top = p->logits + ((n * p->k + k) * p->h + r) * p->w,
                *bottom = top + (next - r) * p->w;
    for (int x = 0; x < p->W; x++) {
        const int c = p->col[x], d = c + 1 < p->w ? c + 1 : c;
        const float a = top[c] + p->fx[x] * (top[d] - top[c]),
                    b = bottom[c] + p->fx[x] * (bottom[d] - bottom[c]);
        out[x] = a + fy * (b - a);
    }
}
static void sum_row(void *arg, int64_t row) {
    const Planes *p = arg;
    float z[p->W], sum[p->W], *top = p->top + row * p->W;
    for (int pass = 0; pass < 2; pass++)
        for (int k = 0; k < p->k; k++) {
            logit_row(p, row / p->H, k, (int)(row % p->H), z);
            for (int x = 0; x < p->W; x++) {
                if (!pass) top[x] = k == 0 || !(z[x] <= top[x]) ? z[x] : top[x];
                else sum[x] = (k ? sum[x] : 0) + expf(z[x] - top[x]);
            }
        }
    for (int x = 0; x < p->W; x++) p->log_sum[row * p->W + x] = logf(sum[x]);
}
void planes_open(Planes *p, const OpCall *c, int head, char *memory) {
    const Shape z = c->src_shape[head], y = c->src_shape[1];
    const size_t map = aligned(sizeof(float) * (size_t)shape_count(y)),
                 line = aligned(sizeof(float) * (size_t)y.d[2]);
    *p = (Planes){.logits = c->src[head],
                  .labels = c->src[1],
                  .n = (int)z.d[0],
                  .k = (int)z.d[1],
                  .h = (int)z.d[2],
                  .w = (int)z.d[3],
                  .H = (int)y.d[1],
                  .W = (int)y.d[2],
                  .top = (float *)memory,
                  .log_sum = (float *)(memory + map),
                  .inner = (float *)(memory + 2 * map),
                  .base = (float *)(memory + 3 * map),
                  .col = (int32_t *)(memory + 4 * map),
                  .fx = (float *)(memory + 4 * map + line)};
    for (int x = 0; x < p->W; x++) {
        const double at = p->W > 1 ? (double)x * (p->w - 1) / (p->W - 1) : 0;
        p->col[x] = at < p->w - 1 ? (int32_t)at : p->w > 1 ? p->w - 2 : 0;
        p->fx[x] = (float)(at - p->col[x]);
    }
    parallel_for((int64_t)p->n * p->H, sum_row, p);
}
void planes_row(const Planes *p, int k, int64_t row, float *out) {
    logit_row(p, row / p->H, k, (int)(row % p->H), out);
    const float *top = p->top + row * p->W, *log_sum = p->log_sum + row * p->W;
    for (int x = 0; x < p->W; x++) out[x] = expf(out[x] - top[x] - log_sum[x]);
}

static void inner_row(void *arg, int64_t row) {
    const Planes *p = arg;
    float q[p->W], g[p->W], best[p->W], rest[p->W], *inner = p->inner + row * p->W,
                                                    *base = p->base + row * p->W;
    memset(inner, 0, sizeof q), memset(base, 0, sizeof q), memset(best, 0, sizeof q),
        memset(rest, 0, sizeof q);
    for (int k = 0; k < p->k; k++) {
        planes_row(p, k, row, q);
        p->slope(p, k, row, q, g);
        for (int x = 0; x < p->W; x++) {         /* whichever is the less likely goes into the sums */
            const bool likelier = q[x] > best[x];
            const float less = likelier ? best[x] : q[x], its = likelier ? base[x] : g[x];
            rest[x] += less, inner[x] += less * its;
            best[x] = likelier ? q[x] : best[x], base[x] = likelier ? g[x] : base[x];
        }
    }
    for (int x = 0; x < p->W; x++) inner[x] -= base[x] * rest[x];
}
typedef struct Back { const Planes *p; int first, count; double a; bool add; float *d; } Back;
static void back_plane(void *arg, int64_t item) {
    const Back *b = arg;
    const Planes *p = b->p;
    const int k = b->first + (int)(item % b->count);
    const int64_t plane = item / b->count * p->k + k;
    float q[p->W], g[p->W], *out = b->d + plane * p->h * p->w;
    double line[p->w];
    if (!b->add) memset(out, 0, sizeof(float) * (size_t)(p->h * p->w));
    for (int y = 0; y < p->H; y++) {
        const int64_t row = plane / p->k * p->H + y;
        const double at = p->H > 1 ? (double)y * (p->h - 1) / (p->H - 1) : 0;
        const int r = at < p->h - 1 ? (int)at
                      : p->h > 1    ? p->h - 2
                                    : 0,
                  next = r + 1 < p->h ? r + 1 : r;
        planes_row(p, k, row, q);
        p->slope(p, k, row, q, g);
        memset(line, 0, sizeof line);
        for (int x = 0; x < p->W; x++) {
            const double base = p->inner && p->base ? (double)p->base[row * p->W + x] : 0;
            const double d = (double)q[x] * ((double)g[x] - base -
                                             (p->inner ? (double)p->inner[row * p->W + x] : 0));
            const int c = p->col[x], e = c + 1 < p->w ? c + 1 : c;
            line[c] += d * (1 - (double)p->fx[x]), line[e] += d * (double)p->fx[x];
        }
        for (int x = 0; x < p->w; x++) {
            out[r * p->w + x] += (float)(b->a * (1 - (at - r)) * line[x]);
            out[next * p->w + x] += (float)(b->a * (at - r) * line[x]);
        }
    }
}
void planes_back(const Planes *p, int first, int count, double a, bool add, float *dlogits) {
    parallel_for((int64_t)p->n * count, back_plane, &(Back){p, first, count, a, add, dlogits});
}
void planes_gradient(Planes *p, double a, float *dlogits) {
    parallel_for((int64_t)p->n * p->H, inner_row, p);
    planes_back(p, 0, p->k, a, false, dlogits);
}

/* ---- an op of one or two heads -------------------------------------------------------------------------- */
Err planes_infer(const OpSite *s, Shape *dst) {
    const Shape z = s->src[0], y = s->src[1];
    if (z.rank != 4 || shape_count(z) < 1 || y.rank != 3 || y.d[0] != z.d[0] ||
        shape_count(y) < 1 || s->src_dtype[1] != DT_I32)
        return err_set(E(2, 0),
                       "logits %s and labels %s; expected N x K x h x w and int32 N x H x W",
                       shape_text(z).s, shape_text(y).s);
    if (s->n_src > 2 &&
        (s->src[2].rank != 4 || s->src[2].d[0] != z.d[0] || s->src[2].d[1] != z.d[1]))
        return err_set(E(2, 37), "auxiliary logits %s do not go with the logits %s",
                       shape_text(s->src[2]).s, shape_text(z).s);
    *dst = (Shape){0};
    return OK;
}
static int64_t head_floats(const Shape *src) { return (shape_count(src[0]) + 15) / 16 * 16; }
size_t planes_saved_bytes(const OpSite *s, Shape dst) {
    return sizeof(float) *
           (size_t)(head_floats(s->src) + (s->n_src > 2 ? shape_count(s->src[2]) : 0));
}
void planes_forward(const OpCall *c, PlanesHead head) {
    double sum = 0;
    char *memory = c->scratch;
    for (int i = 0; i < c->n_src - 1; i++) {
        Planes p;
        planes_open(&p, c, i ? 2 : 0, memory);
        sum += (i ? AUX_WEIGHT : 1) *
               head(c, &p, memory + planes_bytes(c->src_shape[0], c->src_shape[1]),
                    i ? AUX_WEIGHT : 1, (float *)c->saved + (i ? head_floats(c->src_shape) : 0));
    }
    c->dst[0] = (float)sum;
}
void planes_backward(const OpCall *c) {
    for (int i = 0; i < c->n_src - 1; i++) {
        const int src = i ? 2 : 0;
        const float *g = (const float *)c->saved + (i ? head_floats(c->src_shape) : 0);
        if (c->dsrc[src])
            rows()->scale_add(c->dsrc[src], c->ddst[0], g, shape_count(c->src_shape[src]));
    }
}
Node planes_add(Net *n, const OpDef *op, const KdSite *s, const void *attr, size_t attr_bytes) {
    if (n->err) return NO_NODE;
    return net_add(n, op, op->name, attr, attr_bytes, (Node[]){s->logits, s->labels, s->aux},
                   s->aux.id ? 3 : 2, NULL, 0);
}
