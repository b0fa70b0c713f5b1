/* cwd.c - channel-wise distillation (Shu et al., ICCV 2021, arXiv 2011.13256, eq. 4).
 *
 * Each channel's map is a distribution over the h w positions, p_c = softmax(F_c / tau);
 *   loss = tau^2 / (N C) sum over images and channels of KL(p_c(F_t) || p_c(F_s)).
 * F_s, F_t: N x C x h x w, logits or features, made alike by an adapter where the channels differ; C counts the
 * channels compared (compat=rdd2023: the student's, before the adapter). mask=valid leaves positions out of the
 * softmax; an image without any adds 0. */
#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "distill/pair.h"
#include "distill/rows.h"

typedef struct CwdOptions { PairOptions pair; double tau; int compat; } CwdOptions;
typedef struct CwdAttr { double tau; int64_t channels; } CwdAttr;
static const Option options[] = {PAIR_OPTIONS(CwdOptions, "logits"),
                                 {"tau", OPT_F64, offsetof(CwdOptions, tau), "4", "",
                                  "temperature of both softmaxes", .lo = 1e-3, .hi = 1e3},
                                 {"compat", OPT_ENUM, offsetof(CwdOptions, compat), "none", "",
                                  "rdd2023: divide by the student's channels before the adapter",
                                  .choices = "none|rdd2023"},
                                 {0}};

typedef struct Planes {
    const OpCall *c;
    const float *mask;
    float *p;
    double *sum;
    double scale, coef;
} Planes;

static size_t scratch_bytes(const OpSite *s, Shape dst) {    /* sums of planes, the teacher's softmaxes, the mask */
    const Shape x = s->src[0];
    return sizeof(double) * (size_t)(x.d[0] * x.d[1]) +
           sizeof(float) * (size_t)(shape_count(x) + x.d[0] * grid_count(x));
}
static void plane_item(void *arg, int64_t i) {
    const Planes *a = arg;
    const Shape x = a->c->src_shape[0];
    const int64_t P = grid_count(x);
    const float *s = (const float *)a->c->src[0] + i * P, *t = (const float *)a->c->src[1] + i * P;
    const float *mask = a->c->n_src > 2 ? a->mask + i / x.d[1] * P : NULL;
    float *p = a->p + i * P, *q = (float *)a->c->saved + i * P, scale = (float)a->scale;
    const RowSum of[] = {rows()->softmax(p, t, scale, mask, P), rows()->softmax(q, s, scale, mask, P)};
    a->sum[i] = isinf(of[0].log) ? 0 : rows()->kl(p, q, t, s, scale, of, P);
    for (int64_t k = 0; k < P; k++) q[k] *= (float)a->coef;
}
static void forward(const OpCall *c) {
    const CwdAttr *a = c->attr;
    const Shape x = c->src_shape[0];
    const int64_t planes = x.d[0] * x.d[1];
    const double share = 1 / (double)(x.d[0] * a->channels);
    Planes p = {.c = c, .sum = c->scratch, .scale = 1 / a->tau, .coef = a->tau * share};
    p.p = (float *)(p.sum + planes);
    float *mask = p.p + shape_count(x);
    if (c->n_src > 2) pair_mask(c, x.d[2], x.d[3], mask);
    p.mask = mask;
    parallel_for(planes, plane_item, &p);
    double sum = 0;
    for (int64_t i = 0; i < planes; i++) sum += p.sum[i];
    c->dst[0] = (float)(a->tau * a->tau * share * sum);
}
static const OpDef op_cwd = {.name = "cwd",
                             .infer = pair_infer_same,
                             .saved_bytes = pair_saved_bytes,
                             .scratch_bytes = scratch_bytes,
                             .forward = forward,
                             .backward = pair_backward};

static Node build(Net *n, const KdSite *s, const void *opt) {
    const CwdOptions *o = opt;
    Pair p = pair_open(n, s, "cwd", &o->pair);
    if (n->err) return NO_NODE;
    const Shape student = net_shape(n, p.student), teacher = net_shape(n, p.teacher);
    const int64_t channels = o->compat ? student.d[1] : teacher.d[1];
    pair_line_up(n, s, &p, true);
    return pair_add(n, &op_cwd, &(CwdAttr){o->tau, channels}, sizeof(CwdAttr), &p);
}
static double weight_of(const void *opt) {
    return strcmp(((const CwdOptions *)opt)->pair.tap, "logits") ? 50 : 3;
}
const KdMethod kd_cwd = {.name = "cwd",
                         .cite = "Channel-wise Distillation, arXiv 2011.13256, eq. 4",
                         .weight = 3,
                         .weight_of = weight_of,
                         .taps = KD_LOGITS | KD_FEATURES,
                         .options = options,
                         .option_bytes = sizeof(CwdOptions),
                         .build = build};
