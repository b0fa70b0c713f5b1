/* prelu.c - dst = v >= 0 ? v : slope v, v = x; one slope per channel, or one for all. Shapes: N x C x any.
 * Fused for inference v = bn(x) + residual, as in batch_norm.c with running statistics. */
#include "graph/ops/op_util.h"

static Err prelu_infer(const OpSite *s, Shape *dst) {
    const Shape x = s->src[0];
    const int n = ((const PreluAttr *)s->attr)->slopes;
    const PreluAttr *a = s->attr;
    CHECK(s->n_param == 1 + 4 * a->bn && s->n_src == 1 + a->residual);
    if (a->residual && !shape_equal(x, s->src[1]))
        return err_set(E(EXIT_MODEL, 0), "prelu: residual of shape %s on %s",
                       shape_text(s->src[1]).s, shape_text(x).s);
    if (x.rank < 2 || (n != 1 && n != x.d[1]) || shape_count(s->param[0]) != n)
        return err_set(E(EXIT_MODEL, 0), "prelu: slopes of shape %s on input %s",
                       shape_text(s->param[0]).s, shape_text(x).s);
    return infer_same(s, dst);
}
static int slope_index(const OpCall *c, int64_t nc) {
    return ((const PreluAttr *)c->attr)->slopes == 1 ? 0 : (int)(nc % c->shape.d[1]);
}
static void prelu_plane(void *arg, int64_t nc) {
    const OpCall *c = arg;
    const int64_t P = plane_count(c->shape);
    const float *x = (const float *)c->src[0] + nc * P, slope = c->param[0][slope_index(c, nc)];
    const PreluAttr *a = c->attr;
    float *const *bn = c->param + 1;                     /* weight, bias, mean, var */
    const int64_t k = nc % c->shape.d[1];
    const double scale =
        a->bn ? bn[0][k] / sqrt(bn[3][k] + (a->eps > 0 ? (double)a->eps : 1e-5)) : 1;
    const double shift = a->bn ? bn[1][k] - bn[2][k] * scale : 0;
    const float *residual = a->residual ? (const float *)c->src[1] + nc * P : NULL;
    float *dst = c->dst + nc * P;
    for (int64_t i = 0; i < P; i++) {
        const double v = x[i] * scale + shift + (residual ? residual[i] : 0);
        dst[i] = (float)(v < 0 ? slope * v : v);
    }
}
static void prelu_forward(const OpCall *c) {
    parallel_for(c->shape.d[0] * c->shape.d[1], prelu_plane, (void *)c);
}

static void prelu_dplane(void *arg, int64_t nc) {
    const OpCall *c = arg;
    const int64_t P = plane_count(c->shape);
    const float *x = (const float *)c->src[0] + nc * P, *d = c->ddst + nc * P,
                slope = c->param[0][slope_index(c, nc)];
    float *dx = c->dsrc[0] + nc * P;
    for (int64_t i = 0; i < P; i++) dx[i] += x[i] < 0 ? slope * d[i] : d[i];
}
/* One slope's gradient: planes in the order of the batch. */
static void prelu_dslope(void *arg, int64_t s) {
    const OpCall *c = arg;
    const int64_t P = plane_count(c->shape), planes = c->shape.d[0] * c->shape.d[1];
    double sum = 0;
    for (int64_t nc = 0; nc < planes; nc++) {
        if (slope_index(c, nc) != s) continue;
        const float *x = (const float *)c->src[0] + nc * P, *d = c->ddst + nc * P;
        for (int64_t i = 0; i < P; i++) sum += x[i] < 0 ? (double)d[i] * x[i] : 0;
    }
    c->dparam[0][s] += (float)sum;
}
static void prelu_backward(const OpCall *c) {
    if (c->dsrc[0]) parallel_for(c->shape.d[0] * c->shape.d[1], prelu_dplane, (void *)c);
    if (c->dparam[0]) parallel_for(((const PreluAttr *)c->attr)->slopes, prelu_dslope, (void *)c);
}

const OpDef op_prelu = {.name = "prelu",
                        .keep = KEEP_SRC0,
                        .infer = prelu_infer,
                        .forward = prelu_forward,
                        .backward = prelu_backward};
