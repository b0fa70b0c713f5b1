/* adaptive_avg_pool.c - mean over windows that cover the input for any output size, PyTorch's rule:
 * output i averages floor(i H / OH) .. ceil((i + 1) H / OH) - 1. Windows may overlap. */
#include "graph/ops/op_util.h"

static Err adaptive_infer(const OpSite *s, Shape *dst) {
    const AdaptiveAttr *a = s->attr;
    TRY(want_rank4(s, "adaptive_avg_pool"));
    if (a->out_h < 1 || a->out_w < 1)
        return err_set(E(EXIT_MODEL, 0), "adaptive_avg_pool: output %dx%d", a->out_h, a->out_w);
    *dst = SHAPE(s->src[0].d[0], s->src[0].d[1], a->out_h, a->out_w);
    return OK;
}
static int64_t window_start(int64_t i, int64_t in, int64_t out) { return i * in / out; }
static int64_t window_end(int64_t i, int64_t in, int64_t out) {
    return ((i + 1) * in + out - 1) / out;
}

typedef struct { int64_t y0, y1, x0, x1; } Window;
static Window window_of(const OpCall *c, int64_t i) {
    const int64_t H = c->src_shape[0].d[2], W = c->src_shape[0].d[3], OH = c->shape.d[2],
                  OW = c->shape.d[3];
    return (Window){window_start(i / OW, H, OH), window_end(i / OW, H, OH),
                    window_start(i % OW, W, OW), window_end(i % OW, W, OW)};
}
static void adaptive_plane(void *arg, int64_t nc) {
    const OpCall *c = arg;
    const int64_t W = c->src_shape[0].d[3], P = plane_count(c->shape);
    const float *src = (const float *)c->src[0] + nc * plane_count(c->src_shape[0]);
    for (int64_t i = 0; i < P; i++) {
        const Window w = window_of(c, i);
        double sum = 0;
        for (int64_t y = w.y0; y < w.y1; y++)
            for (int64_t x = w.x0; x < w.x1; x++) sum += src[y * W + x];
        c->dst[nc * P + i] = (float)(sum / (double)((w.y1 - w.y0) * (w.x1 - w.x0)));
    }
}
static void adaptive_forward(const OpCall *c) {
    parallel_for(c->shape.d[0] * c->shape.d[1], adaptive_plane, (void *)c);
}
static void adaptive_dplane(void *arg, int64_t nc) {
    const OpCall *c = arg;
    const int64_t W = c->src_shape[0].d[3], P = plane_count(c->shape);
    float *dsrc = c->dsrc[0] + nc * plane_count(c->src_shape[0]);
    for (int64_t i = 0; i < P; i++) {
        const Window w = window_of(c, i);
        const float d = c->ddst[nc * P + i] / (float)((w.y1 - w.y0) * (w.x1 - w.x0));
        for (int64_t y = w.y0; y < w.y1; y++)
            for (int64_t x = w.x0; x < w.x1; x++) dsrc[y * W + x] += d;
    }
}
static void adaptive_backward(const OpCall *c) {
    if (c->dsrc[0]) parallel_for(c->shape.d[0] * c->shape.d[1], adaptive_dplane, (void *)c);
}

const OpDef op_adaptive_avg_pool = {.name = "adaptive_avg_pool", .infer = adaptive_infer,
                                    .forward = adaptive_forward, .backward = adaptive_backward};
