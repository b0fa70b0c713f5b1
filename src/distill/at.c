/* at.c - attention transfer (Zagoruyko and Komodakis, ICLR 2017, arXiv 1612.03928, eq. 2 with p = 2).
 *
 * Per image m(F) = a / |a|, a the vector over the h w positions of the mean over channels of F^2;
 *   loss = mean over N h w of (m(F_s) - m(F_t))^2,
 * or with norm=image the sum over the positions, mean over images, which is free of the grid. The published weight
 * 1e4 belongs to the mean. F_s, F_t: N x C x h x w, channels may differ. mask=valid leaves positions out of the
 * vectors and of the count, and images without any out of the mean. */
#include <math.h>

#include "distill/attention.h"

typedef struct AtOptions { PairOptions pair; int norm; } AtOptions;
typedef struct AtAttr { bool per_image; } AtAttr;
static const Option options[] = {PAIR_OPTIONS(AtOptions, "features"),
                                 {"norm", OPT_ENUM, offsetof(AtOptions, norm), "mean", "",
                                  "image: sum over positions, mean over images",
                                  .choices = "mean|image"},
                                 {0}};

static size_t scratch_bytes(const OpSite *s, Shape dst) {    /* four vectors of an image, then the mask */
    const int64_t P = grid_count(s->src[0]);
    return sizeof(double) * 4 * (size_t)P + sizeof(float) * (size_t)(s->src[0].d[0] * P);
}
/* One image: the sum of squared differences; gradient times `coef` by the student's map to g. */
static double image_value(const float *s, const float *t, const float *mask, int64_t P, double coef,
                          double *v, float *g) {
    double *unit_s = v, *unit_t = v + P, *d = v + 2 * P, *raw = v + 3 * P, sum = 0;
    for (int64_t i = 0; i < P; i++) raw[i] = (double)t[i];
    attention_unit(raw, mask, P, unit_t);
    for (int64_t i = 0; i < P; i++) raw[i] = (double)s[i];
    const double size = attention_unit(raw, mask, P, unit_s);
    for (int64_t i = 0; i < P; i++) d[i] = unit_s[i] - unit_t[i], sum += d[i] * d[i];
    attention_unit_back(unit_s, size, P, d);
    for (int64_t i = 0; i < P; i++) g[i] = mask[i] != 0 ? (float)(2 * coef * d[i]) : 0;
    return sum;
}
static void forward(const OpCall *c) {                       /* maps N x 1 x h x w; saved: N x h x w */
    const Shape x = c->src_shape[0];
    const int64_t P = grid_count(x);
    double *v = c->scratch, sum = 0;
    float *mask = (float *)(v + 4 * P);
    const PairCount what = ((const AtAttr *)c->attr)->per_image ? COUNT_IMAGES : COUNT_POSITIONS;
    const double count = pair_divisor(c, x.d[2], x.d[3], what),
                 share = count > 0 ? 1 / count : 0;
    pair_mask(c, x.d[2], x.d[3], mask);
    for (int64_t n = 0; n < x.d[0]; n++)
        sum += image_value((const float *)c->src[0] + n * P, (const float *)c->src[1] + n * P,
                           mask + n * P, P, share, v, (float *)c->saved + n * P);
    c->dst[0] = (float)(share * sum);
}
static const OpDef op_at = {.name = "at",
                            .infer = pair_infer_same,
                            .saved_bytes = pair_saved_bytes,
                            .scratch_bytes = scratch_bytes,
                            .forward = forward,
                            .backward = pair_backward};

static Node build(Net *n, const KdSite *s, const void *opt) {
    const AtOptions *o = opt;
    Pair p = pair_open(n, s, "at", &o->pair);
    pair_line_up(n, s, &p, false);
    p.student = attention_map(n, p.student), p.teacher = attention_map(n, p.teacher);
    return pair_add(n, &op_at, &(AtAttr){o->norm == 1}, sizeof(AtAttr), &p);
}
const KdMethod kd_at = {.name = "at",
                        .cite = "Attention Transfer, arXiv 1612.03928, eq. 2",
                        .weight = 1e4,
                        .taps = KD_FEATURES,
                        .options = options,
                        .option_bytes = sizeof(AtOptions),
                        .build = build};
