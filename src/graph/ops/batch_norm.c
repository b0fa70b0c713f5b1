/* batch_norm.c - dst = act((x - mean) / sqrt(var + eps) * weight + bias [+ residual]) per channel.
 *
 * Training: mean and biased variance of the batch; the running statistics move by `momentum` towards
 * the batch's, the variance unbiased, and count by one, as in PyTorch. One value per channel has
 * variance 0 and gives the bias; its unbiased variance does not exist, so the running variance stays.
 * Frozen or evaluating: the running statistics, untouched.
 * saved: mean[C], inv_std[C] as double. Shapes: N x C x any. */
#include "graph/ops/op_util.h"

enum { BN_WEIGHT, BN_BIAS, BN_MEAN, BN_VAR, BN_COUNT, BN_PARAMS };

static Err bn_infer(const OpSite *s, Shape *dst) {
    const BnAttr *a = s->attr;
    const Shape x = s->src[0];
    CHECK(s->n_param == BN_PARAMS && s->n_src == 1 + a->residual);
    if (x.rank < 2)
        return err_set(E(EXIT_MODEL, 0), "batch_norm: input of shape %s has no channels",
                       shape_text(x).s);
    if (a->residual && !shape_equal(x, s->src[1]))
        return err_set(E(EXIT_MODEL, 0), "batch_norm: residual of shape %s on %s",
                       shape_text(s->src[1]).s, shape_text(x).s);
    for (int i = 0; i < BN_COUNT; i++)
        if (!shape_equal(s->param[i], SHAPE(x.d[1])))
            return err_set(E(EXIT_MODEL, 0), "batch_norm: parameter of shape %s on input %s",
                           shape_text(s->param[i]).s, shape_text(x).s);
    return infer_same(s, dst);
}
static size_t bn_saved(const OpSite *s, Shape dst) { return 2 * (size_t)dst.d[1] * sizeof(double); }

static double bn_eps(const BnAttr *a) { return a->eps > 0 ? a->eps : 1e-5; }
static double bn_momentum(const BnAttr *a) { return a->momentum > 0 ? (double)a->momentum : 0.1; }
static bool bn_uses_batch(const OpCall *c) {
    return c->run->training && !((const BnAttr *)c->attr)->frozen;
}

/* Two passes: the mean first, so that the variance of a large offset keeps its digits. */
static void batch_stats(const OpCall *c, int64_t ch, double *mean, double *var) {
    const float *src = c->src[0];
    const int64_t N = c->shape.d[0], C = c->shape.d[1], P = plane_count(c->shape);
    double sum = 0, square = 0;
    for (int64_t n = 0; n < N; n++)
        for (int64_t i = 0; i < P; i++) sum += src[(n * C + ch) * P + i];
    *mean = sum / (double)(N * P);
    for (int64_t n = 0; n < N; n++)
        for (int64_t i = 0; i < P; i++) {
            const double d = src[(n * C + ch) * P + i] - *mean;
            square += d * d;
        }
    *var = square / (double)(N * P);
}
static void move_running(const OpCall *c, int64_t ch, double mean, double var) {
    const double m = bn_momentum(c->attr), n = (double)(c->shape.d[0] * plane_count(c->shape));
    float *rmean = &c->param[BN_MEAN][ch], *rvar = &c->param[BN_VAR][ch];
    *rmean = (float)((1 - m) * *rmean + m * mean);
    if (n > 1) *rvar = (float)((1 - m) * *rvar + m * var * n / (n - 1));
}
static void bn_channel(void *arg, int64_t ch) {
    const OpCall *c = arg;
    const BnAttr *a = c->attr;
    const int64_t N = c->shape.d[0], C = c->shape.d[1], P = plane_count(c->shape);
    double mean = c->param[BN_MEAN][ch], var = c->param[BN_VAR][ch], *saved = c->saved;
    if (bn_uses_batch(c)) {
        batch_stats(c, ch, &mean, &var);
        move_running(c, ch, mean, var);
    }
    const double inv_std = 1 / sqrt(var + bn_eps(a)), w = c->param[BN_WEIGHT][ch],
                 b = c->param[BN_BIAS][ch];
    if (saved) saved[ch] = mean, saved[C + ch] = inv_std;
    for (int64_t n = 0; n < N; n++) {
        const int64_t at = (n * C + ch) * P;
        const float *src = (const float *)c->src[0] + at,
                    *res = a->residual ? (const float *)c->src[1] + at : NULL;
        for (int64_t i = 0; i < P; i++) {
            double v = (src[i] - mean) * inv_std * w + b;
            c->dst[at + i] = (float)act_apply(a->act, res ? v + res[i] : v);
        }
    }
}
static void bn_forward(const OpCall *c) {
    parallel_for(c->shape.d[1], bn_channel, (void *)c);
    if (bn_uses_batch(c)) ++*c->param_count[BN_COUNT];
}

/* ddst masked by the activation; also the residual's whole gradient. */
static double masked(const OpCall *c, int64_t i) {
    return act_passes(((const BnAttr *)c->attr)->act, c->dst[i]) ? c->ddst[i] : 0;
}
static void bn_dchannel(void *arg, int64_t ch) {
    const OpCall *c = arg;
    const int64_t N = c->shape.d[0], C = c->shape.d[1], P = plane_count(c->shape);
    const double *saved = c->saved, mean = saved[ch], inv_std = saved[C + ch],
                 w = c->param[BN_WEIGHT][ch];
    const float *src = c->src[0];
    double sum = 0, dot = 0;                             /* of d, and of d with the normalised input */
    for (int64_t n = 0; n < N; n++)
        for (int64_t i = (n * C + ch) * P, end = i + P; i < end; i++) {
            const double d = masked(c, i);
            sum += d, dot += d * (src[i] - mean) * inv_std;
        }
    if (c->dparam[BN_WEIGHT]) c->dparam[BN_WEIGHT][ch] += (float)dot;
    if (c->dparam[BN_BIAS]) c->dparam[BN_BIAS][ch] += (float)sum;
    const double k = bn_uses_batch(c) ? 1 / (double)(N * P) : 0;      /* constants: statistics pass no gradient */
    for (int64_t n = 0; n < N; n++)
        for (int64_t i = (n * C + ch) * P, end = i + P; i < end; i++) {
            const double d = masked(c, i), xhat = (src[i] - mean) * inv_std;
            if (c->dsrc[0]) c->dsrc[0][i] += (float)(w * inv_std * (d - k * sum - k * dot * xhat));
            if (c->n_src > 1 && c->dsrc[1]) c->dsrc[1][i] += (float)d;
        }
}
static void bn_backward(const OpCall *c) { parallel_for(c->shape.d[1], bn_dchannel, (void *)c); }

const OpDef op_batch_norm = {.name = "batch_norm",
                             .keep = KEEP_SRC0 | KEEP_DST,
                             .infer = bn_infer,
                             .saved_bytes = bn_saved,
                             .forward = bn_forward,
                             .backward = bn_backward};
