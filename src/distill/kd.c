/* kd.c - pixel-wise knowledge distillation on low-resolution logits (Hinton et al., arXiv 1503.02531).
 *
 * loss = tau^2 / |G| sum over i in G of KL(softmax(T_i / tau) || softmax(S_i / tau)), S, T: N x K x h x w,
 * G all N h w grid positions, or with mask=valid those whose label is not void: the label at row
 * round(i (H - 1) / (h - 1)), halves to even (h = 1: row 0), columns likewise.
 * dS = tau / |G| (softmax(S / tau) - softmax(T / tau)). Value and gradient in one pass, float32; sums
 * of chunks of pixels in double, in order. G empty: loss 0, gradient 0. A student's grid that differs
 * from the teacher's is resized bilinearly (align_corners = true) first. */
#include <math.h>
#include <string.h>
#include "base/parallel.h"
#include "distill/fullres_priv.h"
#include "distill/pair.h"

typedef struct KdOptions { double tau; int mask; } KdOptions;
typedef struct KdAttr { double tau; bool valid; } KdAttr;
static const Option options[] = {{"tau", OPT_F64, offsetof(KdOptions, tau), "1", "",
                                  "temperature of both softmaxes", .lo = 1e-3, .hi = 1e3},
                                 {"mask", OPT_ENUM, offsetof(KdOptions, mask), "none", "",
                                  "valid: leave out positions without a label",
                                  .choices = "none|valid"},
                                 {0}};

static Err infer(const OpSite *s, Shape *dst) {              /* student, teacher [, labels] */
    const KdAttr *a = s->attr;
    Shape x = s->src[0], t = s->src[1];
    if (x.rank != 4 || shape_count(x) < 1 || x.d[1] > FR_CLASSES_MAX || !shape_equal(x, t))
        return err_set(
            E(2, 37),
            "student's logits %s and teacher's logits %s must agree and have at most %d classes",
            shape_text(x).s, shape_text(t).s, FR_CLASSES_MAX);
    if (a->valid && (s->src[2].rank != 3 || s->src[2].d[0] != x.d[0]))
        return err_set(E(2, 0), "labels: shape %s; expected %lld x H x W", shape_text(s->src[2]).s,
                       (long long)x.d[0]);
    *dst = (Shape){0};
    return OK;
}
static size_t scratch_bytes(const OpSite *s, Shape dst) {    /* sums of chunks, then the mask */
    Shape x = s->src[0];
    return sizeof(double) * (size_t)(x.d[0] * kl_chunks(grid_count(x))) +
           sizeof(float) * (size_t)(x.d[0] * grid_count(x));
}
static void kl_item(void *arg, int64_t i) { fr_kernels()->kl_item(arg, i); }

static void run(const OpCall *c, bool fast) {
    const KdAttr *a = c->attr;
    Shape x = c->src_shape[0];
    const int64_t items = x.d[0] * kl_chunks(grid_count(x));
    const double count = pair_divisor(c, x.d[2], x.d[3], COUNT_POSITIONS);
    FrKl kl = {.p = c->src[1],
               .q = c->src[0],
               .n = (int)x.d[0],
               .k = (int)x.d[1],
               .pixels = grid_count(x),
               .scale = (float)(1.0 / a->tau),
               .dq = c->saved,
               .sum = c->scratch};
    float *mask = (float *)(kl.sum + items);
    if (a->valid) pair_mask(c, x.d[2], x.d[3], mask), kl.weight = mask;
    kl.coef = count > 0 ? (float)(a->tau / count) : 0.0f;
    if (fast) parallel_for(items, kl_item, &kl);
    else fr_ref_kl(&kl);
    double sum = 0;
    for (int64_t i = 0; i < items; i++) sum += kl.sum[i];
    c->dst[0] = count > 0 ? (float)(a->tau * a->tau * sum / count) : 0.0f;
}
static void forward(const OpCall *c) { run(c, false); }
static void fast_forward(const OpCall *c) { run(c, true); }
static const OpDef op_kd = {.name = "kd",
                            .infer = infer,
                            .saved_bytes = pair_saved_bytes,
                            .scratch_bytes = scratch_bytes,
                            .forward = forward,
                            .backward = pair_backward,
                            .fast_forward = fast_forward,
                            .fast_backward = pair_backward};

static Node build(Net *n, const KdSite *s, const void *opt) {
    const KdOptions *o = opt;
    if (!s->t_logits.id)
        return net_fail(
                   n, E(2, 0),
                   "kd: there is no teacher; set teacher.model, or take kd out of distill.losses"),
               NO_NODE;
    KdAttr a = {.tau = o->tau, .valid = o->mask == 1};
    Shape x = net_shape(n, s->logits), t = net_shape(n, s->t_logits);
    Node student = s->logits;
    if (x.d[2] != t.d[2] || x.d[3] != t.d[3])
        student = nn_resize_like(n, student, s->t_logits, true);
    Node src[] = {student, s->t_logits, s->labels};
    if (a.valid && !s->labels.id)
        return net_fail(n, E(2, 0), "kd: mask=valid needs labels"), NO_NODE;
    return net_add(n, &op_kd, "kd", &a, sizeof a, src, a.valid ? 3 : 2, NULL, 0);
}
const KdMethod kd_kd = {.name = "kd",
                        .cite = "Hinton et al., arXiv 1503.02531, per pixel",
                        .weight = 1,
                        .taps = KD_LOGITS,
                        .options = options,
                        .option_bytes = sizeof(KdOptions),
                        .build = build};
