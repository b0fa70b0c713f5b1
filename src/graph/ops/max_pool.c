/* max_pool.c - maximum over k x k windows, PyTorch's floor rule. The place of each maximum (the first
 * one of equals, a NaN before any number) is saved as int32 index into its H x W plane. */
#include "graph/ops/op_util.h"

static int pool_stride(const PoolAttr *a) { return a->stride ? a->stride : a->k; }

static Err max_pool_infer(const OpSite *s, Shape *dst) {
    const PoolAttr *a = s->attr;
    TRY(want_rank4(s, "max_pool"));
    if (a->k < 1 || a->pad < 0 || 2 * a->pad > a->k)
        return err_set(E(EXIT_MODEL, 0), "max_pool: padding %d with kernel %d; at most half of it", a->pad, a->k);
    *dst = s->src[0];
    for (int i = 2; i < 4; i++) {
        int64_t room = s->src[0].d[i] + 2 * a->pad - a->k;
        if (room < 0) return err_set(E(EXIT_MODEL, 0), "max_pool: kernel larger than its input %s", shape_text(s->src[0]).s);
        dst->d[i] = room / pool_stride(a) + 1;
    }
    return OK;
}
static size_t max_pool_saved(const OpSite *s, Shape dst) { return (size_t)shape_count(dst) * sizeof(int32_t); }

static int64_t window_argmax(const float *src, Shape in, const PoolAttr *a, int64_t y, int64_t x) {
    const int64_t H = in.d[2], W = in.d[3], y0 = y * pool_stride(a) - a->pad, x0 = x * pool_stride(a) - a->pad;
    int64_t best = -1;
    for (int64_t i = y0 < 0 ? 0 : y0; i < y0 + a->k && i < H; i++)
        for (int64_t j = x0 < 0 ? 0 : x0; j < x0 + a->k && j < W; j++) {
            float v = src[i * W + j];
            if (best < 0 || v > src[best] || isnan(v)) best = i * W + j;
        }
    return best;
}
static void max_pool_plane(void *arg, int64_t nc) {
    const OpCall *c = arg;
    const Shape in = c->src_shape[0];
    const int64_t OH = c->shape.d[2], OW = c->shape.d[3];
    const float *src = (const float *)c->src[0] + nc * in.d[2] * in.d[3];
    float *dst = c->dst + nc * OH * OW;
    int32_t *where = (int32_t *)c->saved + nc * OH * OW;
    for (int64_t i = 0; i < OH * OW; i++) {
        where[i] = (int32_t)window_argmax(src, in, c->attr, i / OW, i % OW);
        dst[i] = src[where[i]];
    }
}
static void max_pool_forward(const OpCall *c) {
    parallel_for(c->shape.d[0] * c->shape.d[1], max_pool_plane, (void *)c);
}
static void max_pool_dplane(void *arg, int64_t nc) {
    const OpCall *c = arg;
    const int64_t P = plane_count(c->shape);
    float *dsrc = c->dsrc[0] + nc * plane_count(c->src_shape[0]);
    const int32_t *where = (const int32_t *)c->saved + nc * P;
    for (int64_t i = 0; i < P; i++) dsrc[where[i]] += c->ddst[nc * P + i];
}
static void max_pool_backward(const OpCall *c) {
    if (c->dsrc[0]) parallel_for(c->shape.d[0] * c->shape.d[1], max_pool_dplane, (void *)c);
}

const OpDef op_max_pool = {.name = "max_pool", .infer = max_pool_infer, .saved_bytes = max_pool_saved,
                           .forward = max_pool_forward, .backward = max_pool_backward};
