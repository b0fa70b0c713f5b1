/* max_pool.c - maximum over windows, PyTorch's floor (or ceil) rule; padding never counts. The place of
 * each maximum (the first one of equals, a NaN before any number) is saved as int32 index into its
 * H x W plane. */
#include "graph/ops/op_util.h"

/* Kernel, stride and padding of H (0) and W (1). */
typedef struct { int64_t k[2], stride[2], begin[2], end[2]; } Window;
static Window window_of(const PoolAttr *a) {
    Window w = {.k = {a->k, a->kw ? a->kw : a->k}};
    for (int i = 0; i < 2; i++) {
        const int64_t stride = i && a->stride_w ? a->stride_w : a->stride;
        w.stride[i] = stride ? stride : w.k[i];
        w.begin[i] = a->pad + a->extra[i], w.end[i] = a->pad + a->extra[2 + i];
    }
    return w;
}

static Err max_pool_infer(const OpSite *s, Shape *dst) {
    const PoolAttr *a = s->attr;
    const Window w = window_of(a);
    TRY(want_rank4(s, "max_pool"));
    *dst = s->src[0];
    for (int i = 0; i < 2; i++) {
        const int64_t in = dst->d[2 + i], most = w.begin[i] > w.end[i] ? w.begin[i] : w.end[i];
        if (w.k[i] < 1 || w.begin[i] < 0 || w.end[i] < 0 || most >= w.k[i] || 2 * a->pad > a->k)
            return err_set(E(EXIT_MODEL, 0),
                           "max_pool: padding %" PRId64 " with kernel %" PRId64
                           "; at most half of it",
                           most, w.k[i]);
        const int64_t room = in + w.begin[i] + w.end[i] - w.k[i];
        if (room < 0)
            return err_set(E(EXIT_MODEL, 0), "max_pool: kernel larger than its input %s",
                           shape_text(s->src[0]).s);
        dst->d[2 + i] = (room + (a->ceil ? w.stride[i] - 1 : 0)) / w.stride[i] + 1;
        while (dst->d[2 + i] > 1 && (dst->d[2 + i] - 1) * w.stride[i] >= in + w.begin[i])
            dst->d[2 + i]--;
    }
    return OK;
}
static size_t max_pool_saved(const OpSite *s, Shape dst) {
    return (size_t)shape_count(dst) * sizeof(int32_t);
}

static int64_t window_argmax(const float *src, Shape in, const Window *w, int64_t y, int64_t x) {
    const int64_t H = in.d[2], W = in.d[3], y0 = y * w->stride[0] - w->begin[0],
                  x0 = x * w->stride[1] - w->begin[1];
    int64_t best = -1;
    for (int64_t i = y0 < 0 ? 0 : y0; i < y0 + w->k[0] && i < H; i++)
        for (int64_t j = x0 < 0 ? 0 : x0; j < x0 + w->k[1] && j < W; j++) {
            float v = src[i * W + j];
            if (best < 0 || v > src[best] || isnan(v)) best = i * W + j;
        }
    return best;
}
static void max_pool_plane(void *arg, int64_t nc) {
    const OpCall *c = arg;
    const Shape in = c->src_shape[0];
    const int64_t OH = c->shape.d[2], OW = c->shape.d[3];
    const Window w = window_of(c->attr);
    const float *src = (const float *)c->src[0] + nc * in.d[2] * in.d[3];
    float *dst = c->dst + nc * OH * OW;
    int32_t *where = (int32_t *)c->saved + nc * OH * OW;
    for (int64_t i = 0; i < OH * OW; i++) {
        where[i] = (int32_t)window_argmax(src, in, &w, i / OW, i % OW);
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

const OpDef op_max_pool = {.name = "max_pool",
                           .infer = max_pool_infer,
                           .saved_bytes = max_pool_saved,
                           .forward = max_pool_forward,
                           .backward = max_pool_backward};
