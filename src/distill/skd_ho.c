/* skd_ho.c - structured knowledge distillation, holistic (Liu et al., CVPR 2019, arXiv 1903.04197, eq. 4-5), hinge form.
 *
 * A discriminator D scores maps of logits N x K x h x w: batch norm; four spectral-normalised 4x4 convolutions of stride
 * 2, padding 1, to 64, 128, 256, 512 channels, each with leaky ReLU 0.1; self-attention behind the third and fourth; one
 * 4x4 convolution without padding to a map of scores. Logits whose shorter side is below 64 are first resized to it.
 *   student's term = -mean D(S);   D's own loss = mean relu(1 - D(T)) + mean relu(1 + D(S)), times `discriminator`.
 * D is a network beside the student's (KdSide), trained by Adam after each update; the student's net holds a frozen copy,
 * through which its gradient passes, so neither loss reaches the other's parameters.
 *
 * Spectral norm: v = W^T u / |.|, sigma = |W v|, the weight counts as W / sigma with u = W v / sigma and v constant in
 * the gradient; one such iteration per step of D, whose u is kept. As a convolution is linear, its result is divided.
 * Self-attention: q, k: 1x1 to C / 8, v: 1x1 to C; out = gamma * (v softmax over positions of q k) + input, gamma from 0. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/parallel.h"
#include "distill/pair.h"
#include "distill/rows.h"

typedef struct HoOptions { PairOptions pair; double discriminator, lr; } HoOptions;
static const Option options[] = {
    {"tap", OPT_STR, offsetof(HoOptions, pair.tap), "logits", "", "layer to compare", .flags = 0},
    {"teacher_tap", OPT_STR, offsetof(HoOptions, pair.teacher_tap), "", "",
     "the teacher's, where its name is another", .flags = 0},
    {"discriminator", OPT_F64, offsetof(HoOptions, discriminator), "0.1", "",
     "weight of the discriminator's own loss", .flags = OPT_TERM_WEIGHT, .lo = 1e-9, .hi = 1e9},
    {"lr", OPT_F64, offsetof(HoOptions, lr), "4e-4", "", "learning rate of the discriminator",
     .lo = 0, .hi = 1e3},
    {0}};
enum { LAYERS = 4, FIRST_WIDTH = 64, SIDE_MIN = 64 };
static const float SLOPE = 0.1f;

/* ---- 1 / sigma of a convolution's weight ------------------------------------------------------------ */
typedef struct SpectralAttr { int64_t rows, cols; bool keep; } SpectralAttr;     /* keep: a run in training renews u */
static Err spectral_infer(const OpSite *s, Shape *dst) {     /* params: weight rows x cols, u [rows] */
    const SpectralAttr *a = s->attr;
    CHECK(s->n_param == 2 && shape_count(s->param[0]) == a->rows * a->cols &&
          shape_count(s->param[1]) == a->rows);
    *dst = SHAPE(1);
    return OK;
}
static size_t spectral_saved(const OpSite *s, Shape dst) {   /* the new u, then v */
    const SpectralAttr *a = s->attr;
    return sizeof(float) * (size_t)(a->rows + a->cols);
}
static void make_unit(float *x, int64_t n) {
    const double size = sqrt(rows()->dot(x, x, n));
    for (int64_t i = 0; i < n; i++) x[i] = (float)((double)x[i] / fmax(size, 1e-12));
}
static void spectral_forward(const OpCall *c) {
    const SpectralAttr *a = c->attr;
    const float *w = c->param[0];
    float *u = c->saved, *v = u + a->rows;
    memset(v, 0, sizeof(float) * (size_t)a->cols);
    for (int64_t i = 0; i < a->rows; i++)
        rows()->scale_add(v, c->param[1][i], w + i * a->cols, a->cols);
    make_unit(v, a->cols);
    for (int64_t i = 0; i < a->rows; i++) u[i] = (float)rows()->dot(w + i * a->cols, v, a->cols);
    const double sigma = sqrt(rows()->dot(u, u, a->rows));
    make_unit(u, a->rows);
    c->dst[0] = (float)(1 / fmax(sigma, 1e-12));
    if (a->keep && c->run->training) memcpy(c->param[1], u, sizeof(float) * (size_t)a->rows);
}
static void spectral_backward(const OpCall *c) {             /* d(1 / sigma) = -u v^T / sigma^2 */
    const SpectralAttr *a = c->attr;
    const float *u = c->saved, *v = u + a->rows;
    for (int64_t i = 0; i < a->rows && c->dparam[0]; i++)
        rows()->scale_add(c->dparam[0] + i * a->cols, -c->ddst[0] * c->dst[0] * c->dst[0] * u[i], v,
                          a->cols);
}
static const OpDef op_spectral = {.name = "spectral",
                                  .keep = KEEP_DST,
                                  .infer = spectral_infer,
                                  .saved_bytes = spectral_saved,
                                  .forward = spectral_forward,
                                  .backward = spectral_backward};

/* ---- dst = leaky(x s + bias) -------------------------------------------------------------------------- */
static Err finish_infer(const OpSite *s, Shape *dst) {       /* x N x C x h x w, s [1]; param bias [C] */
    CHECK(s->src[0].rank == 4 && shape_count(s->src[1]) == 1 && s->param[0].d[0] == s->src[0].d[1]);
    *dst = s->src[0];
    return OK;
}
static size_t finish_scratch(const OpSite *s, Shape dst) {
    return sizeof(double) * 2 * (size_t)(dst.d[0] * dst.d[1]);
}
static void finish_plane(void *arg, int64_t i) {
    const OpCall *c = arg;
    const int64_t P = grid_count(c->shape);
    const float *x = (const float *)c->src[0] + i * P, s = *(const float *)c->src[1],
                b = c->param[0][i % c->shape.d[1]];
    for (int64_t k = 0; k < P; k++) {
        const float v = x[k] * s + b;
        c->dst[i * P + k] = v < 0 ? SLOPE * v : v;
    }
}
static void finish_forward(const OpCall *c) {
    parallel_for(c->shape.d[0] * c->shape.d[1], finish_plane, (void *)(uintptr_t)c);
}
static void unfinish_plane(void *arg, int64_t i) {           /* sums of planes: by s, by bias */
    const OpCall *c = arg;
    const int64_t P = grid_count(c->shape);
    const float *x = (const float *)c->src[0] + i * P, *y = c->dst + i * P, *d = c->ddst + i * P,
                s = *(const float *)c->src[1];
    double *sum = (double *)c->scratch + 2 * i, by_s = 0, by_b = 0;
    for (int64_t k = 0; k < P; k++) {
        const float g = y[k] < 0 ? SLOPE * d[k] : d[k];
        by_s += (double)g * (double)x[k], by_b += (double)g;
        if (c->dsrc[0]) c->dsrc[0][i * P + k] += g * s;
    }
    sum[0] = by_s, sum[1] = by_b;
}
static void finish_backward(const OpCall *c) {
    const int64_t planes = c->shape.d[0] * c->shape.d[1];
    const double *sum = c->scratch;
    double by_s = 0;
    parallel_for(planes, unfinish_plane, (void *)(uintptr_t)c);
    for (int64_t i = 0; i < planes; i++) {
        by_s += sum[2 * i];
        if (c->dparam[0]) c->dparam[0][i % c->shape.d[1]] += (float)sum[2 * i + 1];
    }
    if (c->dsrc[1]) c->dsrc[1][0] += (float)by_s;
}
static const OpDef op_finish = {.name = "scale, bias, leaky relu",
                                .keep = KEEP_SRC0 | KEEP_SRC1 | KEEP_DST,
                                .infer = finish_infer,
                                .scratch_bytes = finish_scratch,
                                .forward = finish_forward,
                                .backward = finish_backward};

/* ---- dst = gamma * attended + x ----------------------------------------------------------------------- */
/* q, k: N x C' x h x w, v, x: N x C x h x w; param gamma [1]. saved: attention N x P x P, attended N x C x P. */
static Err attend_infer(const OpSite *s, Shape *dst) {
    CHECK(s->n_src == 4 && shape_equal(s->src[0], s->src[1]) && shape_equal(s->src[2], s->src[3]));
    *dst = s->src[3];
    return OK;
}
static size_t attend_saved(const OpSite *s, Shape dst) {
    return sizeof(float) *
           (size_t)(dst.d[0] * grid_count(dst) * grid_count(dst) + shape_count(dst));
}
static size_t attend_scratch(const OpSite *s, Shape dst) {
    return sizeof(float) * (size_t)(dst.d[0] * grid_count(dst) * grid_count(dst)) +
           sizeof(double) * (size_t)dst.d[0];
}
static void attend_image(void *arg, int64_t n) {
    const OpCall *c = arg;
    const int64_t P = grid_count(c->shape), C = c->shape.d[1], Q = c->src_shape[0].d[1];
    const float *q = (const float *)c->src[0] + n * Q * P,
                *k = (const float *)c->src[1] + n * Q * P;
    const float *v = (const float *)c->src[2] + n * C * P,
                *x = (const float *)c->src[3] + n * C * P;
    float *map = (float *)c->saved + n * P * P,
          *out = (float *)c->saved + c->shape.d[0] * P * P + n * C * P;
    for (int64_t i = 0; i < P; i++) {
        float row[P];
        memset(row, 0, sizeof row);
        for (int64_t r = 0; r < Q; r++) rows()->scale_add(row, q[r * P + i], k + r * P, P);
        rows()->softmax(map + i * P, row, 1, NULL, P);
    }
    for (int64_t ch = 0; ch < C; ch++)
        for (int64_t i = 0; i < P; i++) {
            const int64_t at = ch * P + i;
            out[at] = (float)rows()->dot(v + ch * P, map + i * P, P);
            c->dst[n * C * P + at] = c->param[0][0] * out[at] + x[at];
        }
}
static void attend_forward(const OpCall *c) {
    parallel_for(c->shape.d[0], attend_image, (void *)(uintptr_t)c);
}
static void unattend_image(void *arg, int64_t n) {
    const OpCall *c = arg;
    const int64_t P = grid_count(c->shape), C = c->shape.d[1], Q = c->src_shape[0].d[1];
    const float gamma = c->param[0][0], *d = c->ddst + n * C * P,
                *map = (const float *)c->saved + n * P * P;
    const float *q = (const float *)c->src[0] + n * Q * P,
                *k = (const float *)c->src[1] + n * Q * P,
                *v = (const float *)c->src[2] + n * C * P;
    float *energy = (float *)((double *)c->scratch + c->shape.d[0]) + n * P * P;
    ((double *)c->scratch)[n] =
        rows()->dot(d, (const float *)c->saved + c->shape.d[0] * P * P + n * C * P, C * P);
    if (c->dsrc[3]) rows()->scale_add(c->dsrc[3] + n * C * P, 1, d, C * P);
    memset(energy, 0, sizeof(float) * (size_t)(P * P));
    for (int64_t i = 0; i < P; i++) {                        /* by the map, then by the energies */
        float *e = energy + i * P;
        for (int64_t ch = 0; ch < C; ch++) {
            rows()->scale_add(e, gamma * d[ch * P + i], v + ch * P, P);
            if (c->dsrc[2])
                rows()->scale_add(c->dsrc[2] + (n * C + ch) * P, gamma * d[ch * P + i], map + i * P,
                                  P);
        }
        const float inner = (float)rows()->dot(e, map + i * P, P);
        for (int64_t j = 0; j < P; j++) e[j] = map[i * P + j] * (e[j] - inner);
    }
    for (int64_t r = 0; r < Q; r++)
        for (int64_t i = 0; i < P; i++) {
            if (c->dsrc[0])
                c->dsrc[0][(n * Q + r) * P + i] += (float)rows()->dot(energy + i * P, k + r * P, P);
            if (c->dsrc[1])
                rows()->scale_add(c->dsrc[1] + (n * Q + r) * P, q[r * P + i], energy + i * P, P);
        }
}
static void attend_backward(const OpCall *c) {
    parallel_for(c->shape.d[0], unattend_image, (void *)(uintptr_t)c);
    for (int64_t n = 0; c->dparam[0] && n < c->shape.d[0]; n++)
        c->dparam[0][0] += (float)((const double *)c->scratch)[n];
}
static const OpDef op_attend = {.name = "self-attention",
                                .keep = KEEP_SRC0 | KEEP_SRC1 | KEEP_SRC0 << 2,
                                .infer = attend_infer,
                                .saved_bytes = attend_saved,
                                .scratch_bytes = attend_scratch,
                                .forward = attend_forward,
                                .backward = attend_backward};

/* ---- means over the scores ---------------------------------------------------------------------------- */
typedef struct ScoreAttr { int sign; bool hinge; } ScoreAttr;    /* mean relu(1 + sign x), or mean sign x */
static Err score_infer(const OpSite *s, Shape *dst) {
    *dst = (Shape){0};
    return OK;
}
static void score_forward(const OpCall *c) {
    const ScoreAttr *a = c->attr;
    const float *x = c->src[0];
    double sum = 0;
    const int64_t n = shape_count(c->src_shape[0]);
    for (int64_t i = 0; i < n; i++) {
        const double v = a->sign * (double)x[i] + a->hinge;
        sum += a->hinge && v < 0 ? 0 : v;
    }
    c->dst[0] = (float)(sum / (double)n);
}
static void score_backward(const OpCall *c) {
    const ScoreAttr *a = c->attr;
    const float *x = c->src[0];
    const int64_t n = shape_count(c->src_shape[0]);
    for (int64_t i = 0; c->dsrc[0] && i < n; i++)
        if (!a->hinge || a->sign * x[i] + 1 > 0)
            c->dsrc[0][i] += (float)a->sign * c->ddst[0] / (float)n;
}
static const OpDef op_score = {.name = "score",
                               .keep = KEEP_SRC0,
                               .infer = score_infer,
                               .forward = score_forward,
                               .backward = score_backward};

/* ---- the discriminator ---------------------------------------------------------------------------------- */
/* The parameter of that name under the present scope; declared by the first who asks: both maps share D. */
static int param(Net *n, const char *name, ParamKind kind, Shape shape) {
    char full[sizeof n->scope + 64];
    snprintf(full, sizeof full, "%s%s%s", n->scope, *n->scope ? "." : "", name);
    const int at = net_find_param(n, full),
              reads = shape.rank > 1 ? (int)(shape_count(shape) / shape.d[0]) : 0;
    return at >= 0 ? at : net_param(n, name, kind, shape, reads, 0);
}
static Node conv(Net *n, Node x, const char *name, int out, int k, int stride, int pad, bool bias) {
    if (n->err) return NO_NODE;
    char weight[32], b[32];
    snprintf(weight, sizeof weight, "%s.weight", name), snprintf(b, sizeof b, "%s.bias", name);
    const ConvAttr a = {.out = out,
                        .kh = k,
                        .kw = k,
                        .stride = stride,
                        .pad = pad,
                        .dilation = 1,
                        .groups = 1,
                        .bias = bias};
    int p[2] = {param(n, weight, PARAM_WEIGHT, SHAPE(out, net_shape(n, x).d[1], k, k)), 0};
    if (bias) p[1] = param(n, b, PARAM_BIAS, SHAPE(out));
    return net_add(n, &op_conv2d, name, &a, sizeof a, &x, 1, p, bias ? 2 : 1);
}
static Node batch_norm(Net *n, Node x) {
    static const struct { const char *name; ParamKind kind;
    } PARAMS[] = {{"bn.weight", PARAM_BN_WEIGHT},
                  {"bn.bias", PARAM_BN_BIAS},
                  {"bn.running_mean", PARAM_MEAN},
                  {"bn.running_var", PARAM_VAR},
                  {"bn.num_batches_tracked", PARAM_COUNT}};
    if (n->err) return NO_NODE;
    int p[5];
    for (int i = 0; i < 5; i++)
        p[i] = param(n, PARAMS[i].name, PARAMS[i].kind,
                     i < 4 ? SHAPE(net_shape(n, x).d[1]) : (Shape){0});
    return net_add(n, &op_batch_norm, "bn", &(BnAttr){.eps = 1e-5f, .momentum = 0.1f},
                   sizeof(BnAttr), &x, 1, p, 5);
}
/* A spectral-normalised convolution with leaky ReLU; scale: its 1 / sigma, made by the first who asks. */
static Node spectral_conv(Net *n, Node x, int i, Node *scale, bool keep) {
    char name[16], u[16], weight[32], bias[32];
    const int out = FIRST_WIDTH << i;
    snprintf(name, sizeof name, "conv%d", i + 1), snprintf(u, sizeof u, "conv%d.u", i + 1);
    snprintf(weight, sizeof weight, "%s.weight", name),
        snprintf(bias, sizeof bias, "%s.bias", name);
    const Node y = conv(n, x, name, out, 4, 2, 1, false);
    if (n->err) return NO_NODE;
    const int64_t reads = net_shape(n, x).d[1] * 16;
    const int w = param(n, weight, PARAM_WEIGHT, SHAPE(out, net_shape(n, x).d[1], 4, 4));
    if (!scale->id) {
        const int p[2] = {w, param(n, u, PARAM_VAR, SHAPE(out))};        /* u starts from ones */
        *scale = net_add(n, &op_spectral, u, &(SpectralAttr){out, reads, keep}, sizeof(SpectralAttr), NULL, 0, p, 2);
    }
    const int b = param(n, bias, PARAM_BIAS, SHAPE(out));
    return n->err ? NO_NODE : net_add(n, &op_finish, name, NULL, 0, (Node[]){y, *scale}, 2, &b, 1);
}
static Node self_attention(Net *n, Node x, const char *scope) {
    if (n->err) return NO_NODE;
    const int C = (int)net_shape(n, x).d[1];
    net_enter(n, scope);
    const Node q = conv(n, x, "query", C / 8, 1, 1, 0, true),
               k = conv(n, x, "key", C / 8, 1, 1, 0, true),
               v = conv(n, x, "value", C, 1, 1, 0, true);
    const int gamma = param(n, "gamma", PARAM_BN_BIAS, SHAPE(1));        /* starts from 0 */
    const Node y =
        n->err ? NO_NODE : net_add(n, &op_attend, "", NULL, 0, (Node[]){q, k, v, x}, 4, &gamma, 1);
    net_leave(n);
    return y;
}
static Node enlarged(Net *n, Node x) {
    if (n->err) return NO_NODE;
    const Shape s = net_shape(n, x);
    const int64_t side = s.d[2] < s.d[3] ? s.d[2] : s.d[3];
    if (side >= SIDE_MIN) return x;
    const ResizeAttr a = {.align_corners = true,
                          .out_h = (int)lrint((double)(s.d[2] * SIDE_MIN) / (double)side),
                          .out_w = (int)lrint((double)(s.d[3] * SIDE_MIN) / (double)side)};
    return net_add(n, &op_resize, "enlarged", &a, sizeof a, &x, 1, NULL, 0);
}
static Node scores(Net *n, Node x, Node scale[LAYERS], bool keep) {
    x = batch_norm(n, enlarged(n, x));
    for (int i = 0; i < LAYERS; i++) {
        x = spectral_conv(n, x, i, &scale[i], keep);
        if (i >= 2) x = self_attention(n, x, i == 2 ? "attention1" : "attention2");
    }
    return conv(n, x, "last", 1, 4, 1, 0, true);
}
static Node mean_score(Net *n, Node x, int sign, bool hinge) {
    return n->err ? NO_NODE
                  : net_add(n, &op_score, "score", &(ScoreAttr){sign, hinge}, sizeof(ScoreAttr), &x,
                            1, NULL, 0);
}
/* The discriminator's own loss on two maps. */
static Node own_loss(Net *n, Node student, Node teacher, double weight, bool keep) {
    Node scale[LAYERS] = {NO_NODE};
    const Node t = mean_score(n, scores(n, teacher, scale, keep), -1, true),
               s = mean_score(n, scores(n, student, scale, keep), 1, true);
    return nn_weighted_sum(n, (Node[]){t, s}, (float[]){(float)weight, (float)weight}, 2);
}
/* A network of its own that learns to tell the two apart. */
static void open_side(Net *n, const KdSite *s, const HoOptions *o, Pair p) {
    KdSide *k = s->side;
    *k = (KdSide){.net = net_open("discriminator"), .from = {p.student, p.teacher}, .n = 2, .lr = o->lr, .beta1 = 0.9, .beta2 = 0.99};
    k->prefix = arena_printf(n->arena, "%s%sdiscriminator", n->scope, *n->scope ? "." : "");
    k->to[0] = net_input(k->net, "student", DT_F32, net_shape(n, p.student));
    k->to[1] = net_input(k->net, "teacher", DT_F32, net_shape(n, p.teacher));
    k->loss = own_loss(k->net, k->to[0], k->to[1], o->discriminator, true);
    int64_t floats = 0;                                      /* as net_finish will lay them out, and a little more */
    for (int i = 0; i < k->net->n_params; i++)
        if (k->net->params[i].trainable)
            floats += (shape_count(k->net->params[i].shape) + 15) / 16 * 16;
    k->m = net_state(n, "adam.m", DT_F32, SHAPE(floats)),
    k->v = net_state(n, "adam.v", DT_F32, SHAPE(floats));
    k->count = net_state(n, "adam.count", DT_I64, SHAPE(1));
}
static Node build(Net *n, const KdSite *s, const void *opt) {
    const HoOptions *o = opt;
    Node scale[LAYERS] = {NO_NODE}, loss;
    Pair p = pair_open(n, s, "skd.ho", &o->pair);
    pair_line_up(n, s, &p, false);
    if (n->err) return NO_NODE;
    if (net_shape(n, p.student).d[1] != net_shape(n, p.teacher).d[1])
        return net_fail(
                   n, E(2, 37),
                   "skd.ho: the student's layer has %lld channels, the teacher's %lld; they must agree",
                   (long long)net_shape(n, p.student).d[1],
                   (long long)net_shape(n, p.teacher).d[1]),
               NO_NODE;
    const bool frozen = n->frozen;
    n->frozen = s->only != KD_DISCRIMINATOR;
    net_enter(n, "discriminator");
    if (s->only == KD_DISCRIMINATOR)
        loss = own_loss(n, p.student, p.teacher, o->discriminator, false);
    else loss = mean_score(n, scores(n, p.student, scale, false), -1, false);
    net_leave(n);
    n->frozen = frozen;
    if (s->side && s->only != KD_DISCRIMINATOR) open_side(n, s, o, p);
    return loss;
}
const KdMethod kd_skd_ho = {.name = "skd.ho",
                            .cite = "Structured Knowledge Distillation, arXiv 1903.04197, eq. 4-5",
                            .weight = 1e-3,
                            .taps = KD_LOGITS,
                            .options = options,
                            .option_bytes = sizeof(HoOptions),
                            .build = build};
