/* conv2d.c - dst = act(bn(conv(x, weight) + bias) + residual), cross-correlation as in PyTorch.
 *
 * weight O x I/groups x kh x kw. bn (running statistics), residual and act appear only in plans for
 * inference, so backward knows the bare convolution alone. Sums run in double over blocks of one
 * output row, parallel over planes: each result has one fixed order of its terms. */
#include "graph/ops/op_util.h"

enum { COLUMNS = 64 };                                   /* width of a block of double sums */

typedef struct {                                         /* everything a plane needs, defaults resolved */
    const OpCall *call;
    const ConvAttr *a;
    int64_t I, H, W, O, OH, OW, Ig, Og, stride, dil, up, left;   /* up, left: padding */
} ConvJob;

static int64_t or_one(int v) { return v ? v : 1; }

static Err conv_check(const OpSite *s, const ConvAttr *a) {
    const Shape x = s->src[0], w = s->param[0];
    const int64_t groups = or_one(a->groups);
    if (x.d[1] % groups || a->out % groups)
        return err_set(E(EXIT_MODEL, 0),
                       "conv2d: %" PRId64 " groups do not divide %" PRId64 " inputs and %d outputs",
                       groups, x.d[1], a->out);
    if (!shape_equal(w, SHAPE(a->out, x.d[1] / groups, a->kh, a->kw)))
        return err_set(E(EXIT_MODEL, 0), "conv2d: weight of shape %s on input %s", shape_text(w).s,
                       shape_text(x).s);
    for (int i = 1; i < s->n_param; i++)
        if (!shape_equal(s->param[i], SHAPE(a->out)))
            return err_set(E(EXIT_MODEL, 0), "conv2d: parameter of shape %s for %d outputs",
                           shape_text(s->param[i]).s, a->out);
    return OK;
}
void conv_padding(const ConvAttr *a, Shape src, int64_t begin[2], int64_t end[2]) {
    const int64_t stride = or_one(a->stride), k[2] = {a->kh, a->kw};
    for (int i = 0; i < 2; i++) {
        const int64_t side = src.d[2 + i], reach = or_one(a->dilation) * (k[i] - 1) + 1;
        const int64_t all = a->same ? (side - 1) / stride * stride + reach - side : 2 * a->pad;
        begin[i] = (all > 0 ? all / 2 : 0) + a->extra[i],
        end[i] = (all > 0 ? all - all / 2 : 0) + a->extra[2 + i];
    }
}
static Err conv_infer(const OpSite *s, Shape *dst) {
    const ConvAttr *a = s->attr;
    TRY(want_rank4(s, "conv2d"));
    CHECK(s->n_src == 1 + a->residual && s->n_param == 1 + a->bias + 4 * a->bn);
    TRY(conv_check(s, a));
    const int64_t k[2] = {a->kh, a->kw};
    int64_t begin[2], end[2];
    conv_padding(a, s->src[0], begin, end);
    *dst = SHAPE(s->src[0].d[0], a->out, 0, 0);
    for (int i = 0; i < 2; i++) {
        int64_t room =
            s->src[0].d[2 + i] + begin[i] + end[i] - or_one(a->dilation) * (k[i] - 1) - 1;
        if (room < 0)
            return err_set(E(EXIT_MODEL, 0), "conv2d: kernel larger than its input %s",
                           shape_text(s->src[0]).s);
        dst->d[2 + i] = room / or_one(a->stride) + 1;
    }
    if (a->residual && !shape_equal(*dst, s->src[1]))
        return err_set(E(EXIT_MODEL, 0), "conv2d: residual of shape %s on %s",
                       shape_text(s->src[1]).s, shape_text(*dst).s);
    return OK;
}
static ConvJob conv_job(const OpCall *c) {
    const ConvAttr *a = c->attr;
    const Shape x = c->src_shape[0];
    int64_t begin[2], end[2];
    conv_padding(a, x, begin, end);
    return (ConvJob){c, a, x.d[1], x.d[2], x.d[3], c->shape.d[1], c->shape.d[2], c->shape.d[3],
                     x.d[1] / or_one(a->groups), a->out / or_one(a->groups),
                     or_one(a->stride), or_one(a->dilation), begin[0], begin[1]};
}
/* Smallest and one past the largest output x with 0 <= x stride + shift < side, within [lo, hi). */
static void clip_range(int64_t shift, int64_t stride, int64_t side, int64_t *lo, int64_t *hi) {
    int64_t first = shift >= 0 ? 0 : (-shift + stride - 1) / stride;
    int64_t end = side - shift <= 0 ? 0 : (side - shift + stride - 1) / stride;
    if (*lo < first) *lo = first;
    if (*hi > end) *hi = end;
}

/* acc[x - x0] += the bare convolution's value at row y, columns x0 .. x1 - 1. */
static void conv_row(const ConvJob *j, int64_t n, int64_t o, int64_t y, int64_t x0, int64_t x1,
                     double *acc) {
    const float *src = j->call->src[0], *w = j->call->param[0] + o * j->Ig * j->a->kh * j->a->kw;
    const int64_t i0 = o / j->Og * j->Ig;
    for (int64_t i = 0; i < j->Ig; i++)
        for (int64_t ky = 0; ky < j->a->kh; ky++) {
            const int64_t yi = y * j->stride + ky * j->dil - j->up;
            if (yi < 0 || yi >= j->H) continue;
            const float *row = src + ((n * j->I + i0 + i) * j->H + yi) * j->W;
            for (int64_t kx = 0; kx < j->a->kw; kx++) {
                const int64_t shift = kx * j->dil - j->left;
                const double weight = w[(i * j->a->kh + ky) * j->a->kw + kx];
                int64_t lo = x0, hi = x1;
                clip_range(shift, j->stride, j->W, &lo, &hi);
                for (int64_t x = lo; x < hi; x++)
                    acc[x - x0] += weight * row[x * j->stride + shift];
            }
        }
}
/* What follows the sum: bias, then batch norm as scale and shift. v scale + shift. */
static void conv_affine(const ConvJob *j, int64_t o, double *scale, double *shift) {
    float *const *p = j->call->param;
    *scale = 1, *shift = j->a->bias ? p[1][o] : 0;
    if (!j->a->bn) return;
    float *const *bn = p + 1 + j->a->bias;               /* weight, bias, mean, var */
    *scale = bn[0][o] / sqrt(bn[3][o] + (j->a->eps > 0 ? (double)j->a->eps : 1e-5));
    *shift = (*shift - bn[2][o]) * *scale + bn[1][o];
}
static void conv_plane(void *arg, int64_t no) {
    const ConvJob *j = arg;
    const float *residual = j->a->residual ? j->call->src[1] : NULL;
    double scale, shift;
    conv_affine(j, no % j->O, &scale, &shift);
    for (int64_t y = 0; y < j->OH; y++)
        for (int64_t x0 = 0; x0 < j->OW; x0 += COLUMNS) {
            const int64_t x1 = x0 + COLUMNS < j->OW ? x0 + COLUMNS : j->OW;
            double acc[COLUMNS] = {0};
            conv_row(j, no / j->O, no % j->O, y, x0, x1, acc);
            for (int64_t x = x0; x < x1; x++) {
                const int64_t at = (no * j->OH + y) * j->OW + x;
                const double v = acc[x - x0] * scale + shift;
                j->call->dst[at] = (float)act_apply(j->a->act, residual ? v + residual[at] : v);
            }
        }
}
static void conv_forward(const OpCall *c) {
    ConvJob j = conv_job(c);
    parallel_for(c->shape.d[0] * j.O, conv_plane, &j);
}

/* acc[x - x0] += gradient of input row yi, columns x0 .. x1 - 1: each output that read it. */
static void conv_drow(const ConvJob *j, int64_t n, int64_t i, int64_t yi, int64_t x0, int64_t x1,
                      double *acc) {
    const int64_t g = i / j->Ig, kk = (int64_t)j->a->kh * j->a->kw;
    for (int64_t o = g * j->Og; o < (g + 1) * j->Og; o++)
        for (int64_t ky = 0; ky < j->a->kh; ky++) {
            const int64_t up = yi + j->up - ky * j->dil;
            if (up < 0 || up % j->stride || up / j->stride >= j->OH) continue;
            const float *row = j->call->ddst + ((n * j->O + o) * j->OH + up / j->stride) * j->OW;
            for (int64_t kx = 0; kx < j->a->kw; kx++) {
                const double w =
                    j->call->param[0][(o * j->Ig + i % j->Ig) * kk + ky * j->a->kw + kx];
                const int64_t shift = kx * j->dil - j->left - x0;          /* of the block, not of the row */
                int64_t lo = 0, hi = j->OW;
                clip_range(shift, j->stride, x1 - x0, &lo, &hi);
                for (int64_t x = lo; x < hi; x++) acc[x * j->stride + shift] += w * row[x];
            }
        }
}
static void conv_dsrc_plane(void *arg, int64_t ni) {
    const ConvJob *j = arg;
    for (int64_t y = 0; y < j->H; y++)
        for (int64_t x0 = 0; x0 < j->W; x0 += COLUMNS) {
            const int64_t x1 = x0 + COLUMNS < j->W ? x0 + COLUMNS : j->W;
            double acc[COLUMNS] = {0};
            conv_drow(j, ni / j->I, ni % j->I, y, x0, x1, acc);
            for (int64_t x = x0; x < x1; x++)
                j->call->dsrc[0][(ni * j->H + y) * j->W + x] += (float)acc[x - x0];
        }
}
/* Sum over samples and outputs of ddst times the input that tap (i, ky, kx) of output o reads. */
static double conv_dtap(const ConvJob *j, int64_t o, int64_t i, int64_t ky, int64_t kx) {
    const float *src = j->call->src[0];
    const int64_t N = j->call->shape.d[0], ic = o / j->Og * j->Ig + i,
                  shift = kx * j->dil - j->left;
    int64_t lo = 0, hi = j->OW;
    double sum = 0;
    clip_range(shift, j->stride, j->W, &lo, &hi);
    for (int64_t n = 0; n < N; n++)
        for (int64_t y = 0; y < j->OH; y++) {
            const int64_t yi = y * j->stride + ky * j->dil - j->up;
            if (yi < 0 || yi >= j->H) continue;
            const float *row = src + ((n * j->I + ic) * j->H + yi) * j->W;
            const float *d = j->call->ddst + ((n * j->O + o) * j->OH + y) * j->OW;
            for (int64_t x = lo; x < hi; x++) sum += (double)d[x] * row[x * j->stride + shift];
        }
    return sum;
}
/* All weight gradients of output o. */
static void conv_dweight(void *arg, int64_t o) {
    const ConvJob *j = arg;
    const int64_t kw = j->a->kw, kk = j->a->kh * kw, first = o * j->Ig * kk;
    for (int64_t t = 0; t < j->Ig * kk; t++)
        j->call->dparam[0][first + t] += (float)conv_dtap(j, o, t / kk, t % kk / kw, t % kw);
}
static void conv_dbias(void *arg, int64_t o) {
    const ConvJob *j = arg;
    const int64_t N = j->call->shape.d[0], P = j->OH * j->OW;
    double sum = 0;
    for (int64_t n = 0; n < N; n++)
        for (int64_t i = 0; i < P; i++) sum += j->call->ddst[(n * j->O + o) * P + i];
    j->call->dparam[1][o] += (float)sum;
}
static void conv_backward(const OpCall *c) {
    ConvJob j = conv_job(c);
    CHECK(!j.a->bn && !j.a->residual && j.a->act == ACT_NONE);
    if (c->dsrc[0]) parallel_for(c->shape.d[0] * j.I, conv_dsrc_plane, &j);
    if (c->dparam[0]) parallel_for(j.O, conv_dweight, &j);
    if (j.a->bias && c->dparam[1]) parallel_for(j.O, conv_dbias, &j);
}

const OpDef op_conv2d = {.name = "conv2d", .keep = KEEP_SRC0, .infer = conv_infer,
                         .forward = conv_forward, .backward = conv_backward};
