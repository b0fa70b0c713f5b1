/* attention.c - the energy of each position of a map, and unit vectors of it. */
#include "distill/attention.h"

#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "distill/rows.h"

enum { CHUNK = 256 };                            /* positions of a work item */
static int64_t chunks(Shape s) { return (grid_count(s) + CHUNK - 1) / CHUNK; }

static Err infer(const OpSite *s, Shape *dst) {
    const Shape x = s->src[0];
    if (x.rank != 4 || shape_count(x) < 1)
        return err_set(E(2, 37), "layer of shape %s; it must be N x C x h x w", shape_text(x).s);
    *dst = SHAPE(x.d[0], 1, x.d[2], x.d[3]);
    return OK;
}
/* Item i: a stretch of positions of one image; returns its length, *at: its offset in a map of one channel. */
static int64_t item_of(Shape s, int64_t i, int64_t *image, int64_t *at) {
    const int64_t first = i % chunks(s) * CHUNK, left = grid_count(s) - first;
    *image = i / chunks(s), *at = first;
    return left < CHUNK ? left : CHUNK;
}
static void forward_item(void *arg, int64_t i) {
    const OpCall *c = arg;
    const Shape s = c->src_shape[0];
    int64_t image, at;
    const int64_t n = item_of(s, i, &image, &at), P = grid_count(s);
    const float *x = (const float *)c->src[0] + image * s.d[1] * P + at;
    float *dst = c->dst + image * P + at;
    memset(dst, 0, sizeof(float) * (size_t)n);
    for (int64_t k = 0; k < s.d[1]; k++)
        rows()->mul_add(dst, 1.0f / (float)s.d[1], x + k * P, x + k * P, n);
}
static void forward(const OpCall *c) {
    parallel_for(c->shape.d[0] * chunks(c->shape), forward_item, (void *)(uintptr_t)c);
}
static void backward_item(void *arg, int64_t i) {
    const OpCall *c = arg;
    const Shape s = c->src_shape[0];
    int64_t image, at;
    const int64_t n = item_of(s, i, &image, &at), P = grid_count(s), from = image * s.d[1] * P + at;
    for (int64_t k = 0; k < s.d[1]; k++)
        rows()->mul_add(c->dsrc[0] + from + k * P, 2.0f / (float)s.d[1],
                        (const float *)c->src[0] + from + k * P, c->ddst + image * P + at, n);
}
static void backward(const OpCall *c) {
    if (c->dsrc[0])
        parallel_for(c->shape.d[0] * chunks(c->shape), backward_item, (void *)(uintptr_t)c);
}
static const OpDef op_attention = {.name = "attention",
                                   .keep = KEEP_SRC0,
                                   .infer = infer,
                                   .forward = forward,
                                   .backward = backward};

Node attention_map(Net *n, Node x) {
    return n->err ? NO_NODE : net_add(n, &op_attention, "attention", NULL, 0, &x, 1, NULL, 0);
}

double attention_unit(const double *a, const float *mask, int64_t n, double *unit) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) unit[i] = mask[i] != 0 ? a[i] : 0, sum += unit[i] * unit[i];
    const double size = fmax(sqrt(sum), 1e-12);
    for (int64_t i = 0; i < n; i++) unit[i] /= size;
    return isnan(sum) ? NAN : size;
}
void attention_unit_back(const double *unit, double size, int64_t n, double *d) {
    double along = 0;
    for (int64_t i = 0; i < n; i++) along += unit[i] * d[i];
    for (int64_t i = 0; i < n; i++) d[i] = (d[i] - unit[i] * along) / size;
}
