/* conv_transpose.c - the transposed convolution: what conv2d's data gradient computes, as a layer.
 *
 * weight I x O/groups x kh x kw. Input (y, x) of channel i adds weight[i][o][ky][kx] times its value to output
 * (y stride + ky dilation - pad, ...); dst has (in - 1) stride + dilation (k - 1) + 1 - 2 pad + extra per side.
 * Sums in double, one plane at a time, each result's terms in one fixed order. */
#include "graph/ops/op_util.h"

typedef struct {
    const OpCall *c;
    const ConvTransposeAttr *a;
    int64_t I, O, H, W, OH, OW, Ig, Og;
} Job;

static Err conv_transpose_infer(const OpSite *s, Shape *dst) {
    const ConvTransposeAttr *a = s->attr;
    const Shape x = s->src[0], w = s->param[0];
    TRY(want_rank4(s, "conv_transpose"));
    CHECK(s->n_param == 1 + a->bias && a->groups > 0 && a->stride > 0 && a->dilation > 0);
    if (x.d[1] % a->groups || a->out % a->groups ||
        !shape_equal(w, SHAPE(x.d[1], a->out / a->groups, a->kh, a->kw)) ||
        (a->bias && !shape_equal(s->param[1], SHAPE(a->out))))
        return err_set(E(EXIT_MODEL, 0), "conv_transpose: weight of shape %s on input %s",
                       shape_text(w).s, shape_text(x).s);
    *dst = SHAPE(x.d[0], a->out, 0, 0);
    for (int i = 0; i < 2; i++) {
        const int64_t reach = a->dilation * ((i ? a->kw : a->kh) - 1) + 1;
        dst->d[2 + i] = (x.d[2 + i] - 1) * a->stride + reach - 2 * a->pad + a->extra[i];
        if (dst->d[2 + i] < 1)
            return err_set(E(EXIT_MODEL, 0), "conv_transpose: nothing is left of %s",
                           shape_text(x).s);
    }
    return OK;
}
static Job job_of(const OpCall *c) {
    const ConvTransposeAttr *a = c->attr;
    const Shape x = c->src_shape[0];
    return (Job){c,
                 a,
                 x.d[1],
                 a->out,
                 x.d[2],
                 x.d[3],
                 c->shape.d[2],
                 c->shape.d[3],
                 x.d[1] / a->groups,
                 a->out / a->groups};
}
static const float *weights_of(const Job *j, int64_t i, int64_t o) {
    return j->c->param[0] + (i * j->Og + o % j->Og) * j->a->kh * j->a->kw;
}
/* The input row (or column) that tap k of output `to` reads; -1: none. */
static int64_t source(const Job *j, int64_t to, int64_t k, int64_t side) {
    const int64_t at = to + j->a->pad - k * j->a->dilation;
    return at < 0 || at % j->a->stride || at / j->a->stride >= side ? -1 : at / j->a->stride;
}
/* And the output that tap k of input `from` adds to. */
static int64_t target(const Job *j, int64_t from, int64_t k, int64_t side) {
    const int64_t at = from * j->a->stride - j->a->pad + k * j->a->dilation;
    return at < 0 || at >= side ? -1 : at;
}
static double output_at(const Job *j, int64_t n, int64_t o, int64_t y, int64_t x) {
    const int64_t first = o / j->Og * j->Ig;
    double sum = j->a->bias ? j->c->param[1][o] : 0;
    for (int64_t i = first; i < first + j->Ig; i++) {
        const float *w = weights_of(j, i, o),
                    *src = (const float *)j->c->src[0] + (n * j->I + i) * j->H * j->W;
        for (int64_t ky = 0; ky < j->a->kh; ky++) {
            const int64_t sy = source(j, y, ky, j->H);
            for (int64_t kx = 0; sy >= 0 && kx < j->a->kw; kx++) {
                const int64_t sx = source(j, x, kx, j->W);
                if (sx >= 0) sum += (double)w[ky * j->a->kw + kx] * src[sy * j->W + sx];
            }
        }
    }
    return sum;
}
static void forward_plane(void *arg, int64_t no) {
    const Job *j = arg;
    float *dst = j->c->dst + no * j->OH * j->OW;
    for (int64_t p = 0; p < j->OH * j->OW; p++)
        dst[p] = (float)output_at(j, no / j->O, no % j->O, p / j->OW, p % j->OW);
}
/* Gradient of input plane i: the convolution of ddst. */
static void dsrc_plane(void *arg, int64_t ni) {
    const Job *j = arg;
    const int64_t n = ni / j->I, i = ni % j->I, first = i / j->Ig * j->Og;
    for (int64_t p = 0; p < j->H * j->W; p++) {
        double sum = 0;
        for (int64_t o = first; o < first + j->Og; o++) {
            const float *w = weights_of(j, i, o), *d = j->c->ddst + (n * j->O + o) * j->OH * j->OW;
            for (int64_t k = 0; k < (int64_t)j->a->kh * j->a->kw; k++) {
                const int64_t y = target(j, p / j->W, k / j->a->kw, j->OH),
                              x = target(j, p % j->W, k % j->a->kw, j->OW);
                if (y >= 0 && x >= 0) sum += (double)w[k] * d[y * j->OW + x];
            }
        }
        j->c->dsrc[0][ni * j->H * j->W + p] += (float)sum;
    }
}
/* All weight gradients of input channel i. */
static void dweight(void *arg, int64_t i) {
    const Job *j = arg;
    const int64_t first = i / j->Ig * j->Og, kk = (int64_t)j->a->kh * j->a->kw;
    for (int64_t t = 0; t < j->Og * kk; t++) {
        const int64_t o = first + t / kk, ky = t % kk / j->a->kw, kx = t % j->a->kw;
        double sum = 0;
        for (int64_t n = 0; n < j->c->shape.d[0]; n++) {
            const float *src = (const float *)j->c->src[0] + (n * j->I + i) * j->H * j->W;
            const float *d = j->c->ddst + (n * j->O + o) * j->OH * j->OW;
            for (int64_t p = 0; p < j->H * j->W; p++) {
                const int64_t y = target(j, p / j->W, ky, j->OH),
                              x = target(j, p % j->W, kx, j->OW);
                if (y >= 0 && x >= 0) sum += (double)src[p] * d[y * j->OW + x];
            }
        }
        j->c->dparam[0][i * j->Og * kk + t] += (float)sum;
    }
}
static void dbias(void *arg, int64_t o) {
    const Job *j = arg;
    const int64_t P = j->OH * j->OW;
    double sum = 0;
    for (int64_t n = 0; n < j->c->shape.d[0]; n++)
        for (int64_t p = 0; p < P; p++) sum += j->c->ddst[(n * j->O + o) * P + p];
    j->c->dparam[1][o] += (float)sum;
}
static void conv_transpose_forward(const OpCall *c) {
    Job j = job_of(c);
    parallel_for(c->shape.d[0] * j.O, forward_plane, &j);
}
static void conv_transpose_backward(const OpCall *c) {
    Job j = job_of(c);
    if (c->dsrc[0]) parallel_for(c->shape.d[0] * j.I, dsrc_plane, &j);
    if (c->dparam[0]) parallel_for(j.I, dweight, &j);
    if (j.a->bias && c->dparam[1]) parallel_for(j.O, dbias, &j);
}

const OpDef op_conv_transpose = {.name = "conv_transpose",
                                 .keep = KEEP_SRC0,
                                 .infer = conv_transpose_infer,
                                 .forward = conv_transpose_forward,
                                 .backward = conv_transpose_backward};
