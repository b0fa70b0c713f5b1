/* avg_pool.c - mean over kh x kw windows. Padding counts as zeros when count_padding is set, else not at
 * all. ceil: a window may hang over the end, as long as it starts inside the input or its upper padding;
 * what hangs over beyond the padding never counts. */
#include "graph/ops/op_util.h"

static int64_t pool_size(int64_t in, int64_t k, int64_t stride, int64_t pad, int64_t extra,
                         bool ceil) {
    const int64_t room = in + 2 * pad + extra - k + (ceil ? stride - 1 : 0);
    if (room < 0) return 0;
    int64_t n = room / stride + 1;
    if (ceil && (n - 1) * stride >= in + pad) n--;
    return n;
}
static Err avg_pool_infer(const OpSite *s, Shape *dst) {
    const AvgPoolAttr *a = s->attr;
    TRY(want_rank4(s, "avg_pool"));
    if (a->kh < 1 || a->kw < 1 || a->stride_h < 1 || a->stride_w < 1 || a->pad_h < 0 ||
        a->pad_w < 0)
        return err_set(E(EXIT_MODEL, 0), "avg_pool: kernel %dx%d, stride %dx%d", a->kh, a->kw,
                       a->stride_h, a->stride_w);
    *dst = s->src[0];
    dst->d[2] = pool_size(dst->d[2], a->kh, a->stride_h, a->pad_h, a->extra_h, a->ceil);
    dst->d[3] = pool_size(dst->d[3], a->kw, a->stride_w, a->pad_w, a->extra_w, a->ceil);
    if (dst->d[2] < 1 || dst->d[3] < 1)
        return err_set(E(EXIT_MODEL, 0), "avg_pool: kernel larger than its input %s",
                       shape_text(s->src[0]).s);
    return OK;
}

/* The part of the window of output (y, x) that lies inside, and what its sum is divided by. */
typedef struct { int64_t y0, y1, x0, x1; double count; } Window;
static void clip_window(int64_t at, int64_t k, int64_t pad, int64_t end_pad, int64_t in,
                        int64_t *lo, int64_t *hi, int64_t *padded) {
    const int64_t a = at - pad, b = a + k < in + end_pad ? a + k : in + end_pad;
    *lo = a < 0 ? 0 : a, *hi = b > in ? in : b;
    *padded = b - a;
}
static Window window_of(const OpCall *c, int64_t y, int64_t x) {
    const AvgPoolAttr *a = c->attr;
    Window w;
    int64_t h, wide;
    clip_window(y * a->stride_h, a->kh, a->pad_h, a->pad_h + a->extra_h, c->src_shape[0].d[2],
                &w.y0, &w.y1, &h);
    clip_window(x * a->stride_w, a->kw, a->pad_w, a->pad_w + a->extra_w, c->src_shape[0].d[3],
                &w.x0, &w.x1, &wide);
    w.count = a->count_padding ? (double)(h * wide) : (double)((w.y1 - w.y0) * (w.x1 - w.x0));
    return w;
}
static void forward_plane(void *arg, int64_t nc) {
    const OpCall *c = arg;
    const int64_t W = c->src_shape[0].d[3], OW = c->shape.d[3], P = plane_count(c->shape);
    const float *src = (const float *)c->src[0] + nc * plane_count(c->src_shape[0]);
    for (int64_t i = 0; i < P; i++) {
        const Window w = window_of(c, i / OW, i % OW);
        double sum = 0;
        for (int64_t y = w.y0; y < w.y1; y++)
            for (int64_t x = w.x0; x < w.x1; x++) sum += src[y * W + x];
        c->dst[nc * P + i] = (float)(sum / w.count);
    }
}
static void backward_plane(void *arg, int64_t nc) {
    const OpCall *c = arg;
    const int64_t W = c->src_shape[0].d[3], OW = c->shape.d[3], P = plane_count(c->shape);
    float *dsrc = c->dsrc[0] + nc * plane_count(c->src_shape[0]);
    for (int64_t i = 0; i < P; i++) {
        const Window w = window_of(c, i / OW, i % OW);
        const float d = (float)(c->ddst[nc * P + i] / w.count);
        for (int64_t y = w.y0; y < w.y1; y++)
            for (int64_t x = w.x0; x < w.x1; x++) dsrc[y * W + x] += d;
    }
}
static void avg_pool_forward(const OpCall *c) {
    parallel_for(c->shape.d[0] * c->shape.d[1], forward_plane, (void *)c);
}
static void avg_pool_backward(const OpCall *c) {
    if (c->dsrc[0]) parallel_for(c->shape.d[0] * c->shape.d[1], backward_plane, (void *)c);
}

const OpDef op_avg_pool = {.name = "avg_pool",
                           .infer = avg_pool_infer,
                           .forward = avg_pool_forward,
                           .backward = avg_pool_backward};
