/* pair.c - see pair.h. */
#include "distill/pair.h"

#include <math.h>
#include <string.h>

#include "distill/parts.h"
#include "distill/rows.h"

Pair pair_open(Net *n, const KdSite *s, const char *method, const PairOptions *o) {
    if (o->mask && !s->labels.id) net_fail(n, E(2, 0), "%s: mask=valid needs labels", method);
    if (n->err) return (Pair){NO_NODE, NO_NODE, NO_NODE};
    return (Pair){s->tap(s, n, false, o->tap),
                  s->tap(s, n, true, *o->teacher_tap ? o->teacher_tap : o->tap),
                  o->mask ? s->labels : NO_NODE};
}
void pair_line_up(Net *n, const KdSite *s, Pair *p, bool adapt) {
    if (n->err) return;
    const Shape t = net_shape(n, p->teacher), x = net_shape(n, p->student);
    if (x.rank != 4 || t.rank != 4) return;              /* the op's shape rule refuses them */
    if (adapt && (s->adapters || x.d[1] != t.d[1]))
        p->student = nn_conv(n, p->student, "adapter", (Conv){.out = (int)t.d[1], .k = 1});
    if (x.d[2] != t.d[2] || x.d[3] != t.d[3])
        p->student = nn_resize_like(n, p->student, p->teacher, true);
}
Node pair_add(Net *n, const OpDef *op, const void *attr, size_t attr_bytes, const Pair *p) {
    if (n->err) return NO_NODE;
    const Node src[] = {p->student, p->teacher, p->labels};
    return net_add(n, op, op->name, attr, attr_bytes, src, p->labels.id ? 3 : 2, NULL, 0);
}

static Err infer(const OpSite *s, Shape *dst, int n_equal) {
    const Shape x = s->src[0], t = s->src[1];
    bool good = x.rank == 4 && t.rank == 4 && shape_count(x) > 0 && shape_count(t) > 0;
    for (int i = 0; i < 4 && good; i++) good = x.d[i] == t.d[i] || (i == 1 && n_equal == 3);
    if (!good)
        return err_set(E(2, 37), "student's %s and teacher's %s do not go together",
                       shape_text(x).s, shape_text(t).s);
    if (s->n_src == 3 &&
        (s->src[2].rank != 3 || s->src[2].d[0] != x.d[0] || shape_count(s->src[2]) < 1))
        return err_set(E(2, 0), "labels: shape %s; expected %lld x H x W", shape_text(s->src[2]).s,
                       (long long)x.d[0]);
    *dst = (Shape){0};
    return OK;
}
Err pair_infer(const OpSite *s, Shape *dst) { return infer(s, dst, 3); }
Err pair_infer_same(const OpSite *s, Shape *dst) { return infer(s, dst, 4); }
size_t pair_saved_bytes(const OpSite *s, Shape dst) {
    return sizeof(float) * (size_t)shape_count(s->src[0]);
}
void pair_backward(const OpCall *c) {
    if (c->dsrc[0])
        rows()->scale_add(c->dsrc[0], c->ddst[0], c->saved, shape_count(c->src_shape[0]));
}

static int64_t corner_pos(int64_t i, int64_t n_low, int64_t n_full) {
    return n_low > 1 ? (int64_t)rint((double)(i * (n_full - 1)) / (double)(n_low - 1)) : 0;
}
/* Which source holds the labels; 0: none. */
static int labels_at(const OpCall *c) {
    const int last = c->n_src - 1;
    return c->src_shape[last].rank == 3 ? last : 0;
}
int64_t pair_mask(const OpCall *c, int64_t h, int64_t w, float *mask) {
    const int64_t images = c->src_shape[0].d[0];
    const int at = labels_at(c);
    const int32_t *labels = at ? c->src[at] : NULL;
    const Shape y = c->src_shape[at];
    int64_t count = 0;
    for (int64_t i = 0; i < images * h * w; i++) {
        const int64_t n = i / (h * w), row = i / w % h, col = i % w;
        const bool in = !labels || labels[(n * y.d[1] + corner_pos(row, h, y.d[1])) * y.d[2] +
                                          corner_pos(col, w, y.d[2])] >= 0;
        mask[i] = in, count += in;
    }
    return count;
}
/* labels NULL: all valid. COUNT_IMAGES: those with any; COUNT_PAIRS: of positions of one image. */
static double count_part(const int32_t *labels, Shape y, int64_t h, int64_t w, PairCount what) {
    double sum = 0;
    for (int64_t n = 0; n < y.d[0]; n++) {
        int64_t own = labels ? 0 : h * w;
        for (int64_t i = 0; labels && i < h * w; i++) {
            const int64_t row = i / w, col = i % w;
            const int64_t at_row =
                what == COUNT_NEAREST ? row * y.d[1] / h : corner_pos(row, h, y.d[1]);
            const int64_t at_col =
                what == COUNT_NEAREST ? col * y.d[2] / w : corner_pos(col, w, y.d[2]);
            own += labels[(n * y.d[1] + at_row) * y.d[2] + at_col] >= 0;
        }
        sum += what == COUNT_IMAGES  ? own > 0
               : what == COUNT_PAIRS ? (double)own * (double)own
                                     : (double)own;
    }
    return sum;
}
double pair_divisor(const OpCall *c, int64_t h, int64_t w, PairCount what) {
    const int labels = labels_at(c);
    const Parts *p = labels ? parts_of(c) : NULL;
    double sum = 0;
    if (!p) return count_part(labels ? c->src[labels] : NULL, c->src_shape[labels], h, w, what);
    for (int i = 0; i < p->parts; i++)
        sum += count_part(p->labels[i], c->src_shape[labels], h, w, what);
    return sum / p->parts;
}
void pair_labels_nearest(const int32_t *labels, Shape y, int64_t h, int64_t w, int32_t *out) {
    for (int64_t i = 0; i < y.d[0] * h * w; i++) {
        const int64_t n = i / (h * w), row = i / w % h, col = i % w;
        out[i] = labels[(n * y.d[1] + row * y.d[1] / h) * y.d[2] + col * y.d[2] / w];
    }
}
