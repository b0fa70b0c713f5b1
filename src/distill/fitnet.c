/* fitnet.c - hint training (FitNets, Romero et al., ICLR 2015, arXiv 1412.6550, eq. 3).
 *
 * loss = mean over N C h w of (A F_s - F_t)^2, A a 1x1 convolution trained with the student; there is none where the
 * channels agree. F_s, F_t: N x C x h x w. mask=valid leaves positions out of sum and count. */
#include "base/parallel.h"
#include "distill/pair.h"
#include "distill/rows.h"

typedef struct FitnetOptions { PairOptions pair; } FitnetOptions;
static const Option options[] = {PAIR_OPTIONS(FitnetOptions, "features"), {0}};

typedef struct Planes {
    const OpCall *c;
    const float *mask;
    float *diff;
    double *sum;
    float scale;
} Planes;

static size_t scratch_bytes(const OpSite *s, Shape dst) {    /* sums of planes, the mask */
    const Shape x = s->src[0];
    return sizeof(double) * (size_t)(x.d[0] * x.d[1]) +
           sizeof(float) * (size_t)(x.d[0] * grid_count(x));
}
static size_t saved_bytes(const OpSite *s, Shape dst) {      /* the count, then the differences */
    return 64 + pair_saved_bytes(s, dst);
}
static void plane_item(void *arg, int64_t i) {
    const Planes *p = arg;
    const Shape x = p->c->src_shape[0];
    const int64_t P = grid_count(x);
    const float *s = (const float *)p->c->src[0] + i * P, *t = (const float *)p->c->src[1] + i * P,
                *mask = p->mask + i / x.d[1] * P;
    float *d = p->diff + i * P;
    rows()->sub(d, s, t, P);
    if (p->c->n_src > 2)
        for (int64_t k = 0; k < P; k++)
            if (mask[k] == 0) d[k] = 0;
    p->sum[i] = rows()->dot(d, d, P);
}
static void forward(const OpCall *c) {
    const Shape x = c->src_shape[0];
    const int64_t planes = x.d[0] * x.d[1];
    Planes p = {.c = c, .diff = (float *)((char *)c->saved + 64), .sum = c->scratch};
    float *mask = (float *)(p.sum + planes);
    const double count =
        pair_divisor(c, x.d[2], x.d[3], COUNT_POSITIONS) * (double)x.d[1];
    pair_mask(c, x.d[2], x.d[3], mask);
    p.mask = mask;
    parallel_for(planes, plane_item, &p);
    double sum = 0;
    for (int64_t i = 0; i < planes; i++) sum += p.sum[i];
    *(double *)c->saved = count > 0 ? 1 / count : 0;
    c->dst[0] = count > 0 ? (float)(sum / count) : 0;
}
static void back_item(void *arg, int64_t i) {
    const Planes *p = arg;
    const int64_t P = grid_count(p->c->src_shape[0]);
    rows()->scale_add(p->c->dsrc[0] + i * P, p->scale, p->diff + i * P, P);
}
static void backward(const OpCall *c) {
    const Shape x = c->src_shape[0];
    Planes p = {.c = c,
                .diff = (float *)((char *)c->saved + 64),
                .scale = (float)(2 * *(double *)c->saved * (double)c->ddst[0])};
    if (c->dsrc[0]) parallel_for(x.d[0] * x.d[1], back_item, &p);
}
static const OpDef op_fitnet = {.name = "fitnet",
                                .infer = pair_infer_same,
                                .saved_bytes = saved_bytes,
                                .scratch_bytes = scratch_bytes,
                                .forward = forward,
                                .backward = backward};

static Node build(Net *n, const KdSite *s, const void *opt) {
    const FitnetOptions *o = opt;
    Pair p = pair_open(n, s, "fitnet", &o->pair);
    pair_line_up(n, s, &p, true);
    return pair_add(n, &op_fitnet, NULL, 0, &p);
}
const KdMethod kd_fitnet = {.name = "fitnet",
                            .cite = "FitNets, arXiv 1412.6550, eq. 3",
                            .weight = 0.5,
                            .taps = KD_FEATURES,
                            .options = options,
                            .option_bytes = sizeof(FitnetOptions),
                            .build = build};
