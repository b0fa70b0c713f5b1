/* resize.c - bilinear resize, both of PyTorch's conventions:
 *   align_corners: source = i (in - 1) / (out - 1), 0 where out is 1;
 *   otherwise:     source = max(0, (i + 1/2) in / out - 1/2).
 * Positions are in double; PyTorch's are in float32, which differs by about 1e-7 of the side. */
#include "graph/ops/op_util.h"

static Err resize_infer(const OpSite *s, Shape *dst) {
    const ResizeAttr *a = s->attr;
    TRY(want_rank4(s, "resize"));
    const bool like = s->n_src > 1;
    if (like && s->src[1].rank < 2) return err_set(E(EXIT_MODEL, 0), "resize: target of shape %s has no sides", shape_text(s->src[1]).s);
    const int64_t *side = like ? &s->src[1].d[s->src[1].rank - 2] : (int64_t[]){a->out_h, a->out_w};
    if (side[0] < 1 || side[1] < 1)
        return err_set(E(EXIT_MODEL, 0), "resize: output %" PRId64 "x%" PRId64, side[0], side[1]);
    *dst = SHAPE(s->src[0].d[0], s->src[0].d[1], side[0], side[1]);
    return OK;
}

/* Two neighbours along one side and the weight of the second. */
typedef struct { int64_t lo, hi; double t; } Tap;
static Tap tap_of(int64_t i, int64_t in, int64_t out, bool align) {
    double at;
    if (align) at = out > 1 ? (double)i * (double)(in - 1) / (double)(out - 1) : 0;
    else at = fmax(0, ((double)i + 0.5) * (double)in / (double)out - 0.5);
    int64_t lo = (int64_t)at;
    if (lo > in - 1) lo = in - 1;
    return (Tap){lo, lo + 1 < in ? lo + 1 : lo, at - (double)lo};
}

/* One plane; forward reads src, backward spreads ddst onto dsrc with the same weights. */
static void resize_plane(void *arg, int64_t nc) {
    const OpCall *c = arg;
    const bool align = ((const ResizeAttr *)c->attr)->align_corners;
    const int64_t H = c->src_shape[0].d[2], W = c->src_shape[0].d[3], OH = c->shape.d[2], OW = c->shape.d[3];
    const float *src = (const float *)c->src[0] + nc * H * W;
    for (int64_t y = 0; y < OH; y++) {
        const Tap v = tap_of(y, H, OH, align);
        const float *r0 = src + v.lo * W, *r1 = src + v.hi * W;
        float *out = c->dst + (nc * OH + y) * OW;
        for (int64_t x = 0; x < OW; x++) {
            const Tap h = tap_of(x, W, OW, align);
            const double top = r0[h.lo] * (1 - h.t) + r0[h.hi] * h.t, low = r1[h.lo] * (1 - h.t) + r1[h.hi] * h.t;
            out[x] = (float)(top * (1 - v.t) + low * v.t);
        }
    }
}
static void resize_forward(const OpCall *c) {
    parallel_for(c->shape.d[0] * c->shape.d[1], resize_plane, (void *)c);
}
static void resize_dplane(void *arg, int64_t nc) {
    const OpCall *c = arg;
    const bool align = ((const ResizeAttr *)c->attr)->align_corners;
    const int64_t H = c->src_shape[0].d[2], W = c->src_shape[0].d[3], OH = c->shape.d[2], OW = c->shape.d[3];
    float *dsrc = c->dsrc[0] + nc * H * W;
    for (int64_t y = 0; y < OH; y++) {
        const Tap v = tap_of(y, H, OH, align);
        float *r0 = dsrc + v.lo * W, *r1 = dsrc + v.hi * W;
        const float *d = c->ddst + (nc * OH + y) * OW;
        for (int64_t x = 0; x < OW; x++) {
            const Tap h = tap_of(x, W, OW, align);
            r0[h.lo] += (float)(d[x] * (1 - v.t) * (1 - h.t));
            r0[h.hi] += (float)(d[x] * (1 - v.t) * h.t);
            r1[h.lo] += (float)(d[x] * v.t * (1 - h.t));
            r1[h.hi] += (float)(d[x] * v.t * h.t);
        }
    }
}
static void resize_backward(const OpCall *c) {
    if (c->dsrc[0]) parallel_for(c->shape.d[0] * c->shape.d[1], resize_dplane, (void *)c);
}

const OpDef op_resize = {.name = "resize", .shape_only = 1u << 1, .infer = resize_infer,
                         .forward = resize_forward, .backward = resize_backward};
