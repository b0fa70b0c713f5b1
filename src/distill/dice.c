/* dice.c - the Dice loss over regions (Milletari et al., 3DV 2016, arXiv 1606.04797, eq. 3, without squares).
 *
 * Over the labelled pixels V of the batch (of an update in parts: all of it, its sums gathered first; scope=micro-batch
 * spares that pass), p = softmax(U(S)): I_k = sum of p_k where y = k, S_k = sum of p_k,
 * Y_k = how many y = k;  L = mean, weighted by c, over the classes that occur of 1 - (2 I_k + s) / (S_k + Y_k + s), and
 * + 0.4 the same of an auxiliary head. Shapes as in planes.h. Nothing labelled: 0. */
#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "distill/parts.h"
#include "distill/planes.h"

typedef struct DiceOptions { double smooth; const char *class_weights; int scope; } DiceOptions;
typedef struct DiceAttr { double smooth; const float *class_weight; PartStore *store; } DiceAttr;   /* store NULL: micro-batches alone */
static const Option options[] = {
    {"smooth", OPT_F64, offsetof(DiceOptions, smooth), "1", "px", "added above and below", .lo = 0,
     .hi = 1e9},
    {"class_weights", OPT_STR, offsetof(DiceOptions, class_weights), "none", "", CLASS_WEIGHTS_HELP,
     .flags = 0},
    {"scope", OPT_ENUM, offsetof(DiceOptions, scope), "batch", "",
     "the pixels summed over: the whole update's, or the micro-batch's (one forward pass less with train.accumulate)",
     .choices = "batch|micro-batch"},
    {0}};

typedef struct Class { double hit, all, count, own, other; } Class;   /* I, S, Y; slopes where y = k and elsewhere */
static size_t scratch_bytes(const OpSite *s, Shape dst) {
    return planes_bytes(s->src[0], s->src[1]) +
           sizeof(Class) * (size_t)((s->src[0].d[0] + 1) * s->src[0].d[1]);
}
typedef struct Sums { const Planes *p; Class *of; } Sums;     /* of: [N * K] */
static void sum_plane(void *arg, int64_t plane) {
    const Sums *s = arg;
    const Planes *p = s->p;
    const int k = (int)(plane % p->k);
    float q[p->W];
    Class c = {0};
    for (int64_t row = plane / p->k * p->H; row < (plane / p->k + 1) * p->H; row++) {
        const int32_t *y = p->labels + row * p->W;
        planes_row(p, k, row, q);
        for (int x = 0; x < p->W; x++) {
            if (y[x] < 0) continue;
            c.all += (double)q[x];
            if (y[x] == k) c.hit += (double)q[x], c.count++;
        }
    }
    s->of[plane] = c;
}
/* Of an update in parts: leave this part's sums when gathering, otherwise take those of all. */
static void share_sums(const OpCall *c, const Planes *p, Class *sums) {
    const Parts *u = ((const DiceAttr *)c->attr)->store ? parts_of(c) : NULL;
    if (!u) return;
    const bool aux = p->logits != c->src[0];
    const size_t bytes = sizeof(Class) * (size_t)p->k;
    Class *all = part_store_data(((const DiceAttr *)c->attr)->store, 2 * (size_t)u->parts * bytes);
    all += (aux ? u->parts : 0) * p->k;
    if (u->gather) memcpy(all + u->part * p->k, sums, bytes);
    if (u->gather) return;
    memset(sums, 0, bytes);
    for (int i = 0; i < u->parts * p->k; i++) {
        Class *s = &sums[i % p->k];
        s->hit += all[i].hit, s->all += all[i].all, s->count += all[i].count;
    }
}
static void slope(const Planes *p, int k, int64_t row, const float *q, float *g) {
    const Class *c = (const Class *)p->loss + k;
    const int32_t *y = p->labels + row * p->W;
    for (int x = 0; x < p->W; x++) g[x] = y[x] < 0 ? 0 : (float)(y[x] == k ? c->own : c->other);
}
static double head(const OpCall *c, Planes *p, void *memory, double a, float *dlogits) {
    const DiceAttr *attr = c->attr;
    Class *whole = memory, *part = whole + p->k;
    double weights = 0, loss = 0;
    parallel_for((int64_t)p->n * p->k, sum_plane, &(Sums){p, part});
    memset(whole, 0, sizeof *whole * (size_t)p->k);
    for (int i = 0; i < p->n * p->k; i++) {
        Class *w = &whole[i % p->k];
        w->hit += part[i].hit, w->all += part[i].all, w->count += part[i].count;
    }
    share_sums(c, p, whole);
    if (attr->store && parts_gathering(c)) return 0;
    for (int k = 0; k < p->k; k++)
        weights += whole[k].count > 0 ? attr->class_weight ? (double)attr->class_weight[k] : 1 : 0;
    for (int k = 0; k < p->k && weights > 0; k++) {
        Class *w = &whole[k];
        if (w->count == 0) continue;
        const double share = (attr->class_weight ? (double)attr->class_weight[k] : 1) / weights;
        const double above = 2 * w->hit + attr->smooth, below = w->all + w->count + attr->smooth;
        loss += share * (1 - above / below);
        w->other = share * above / (below * below), w->own = w->other - 2 * share / below;
    }
    p->slope = slope, p->loss = whole;
    planes_gradient(p, a * (attr->store ? parts_n(c) : 1), dlogits);
    return loss;
}
static void forward(const OpCall *c) { planes_forward(c, head); }
static const OpDef op_dice = {.name = "dice",
                              .infer = planes_infer,
                              .saved_bytes = planes_saved_bytes,
                              .scratch_bytes = scratch_bytes,
                              .forward = forward,
                              .backward = planes_backward};

static bool gathers(const void *opt, const float stage[2]) {
    return ((const DiceOptions *)opt)->scope == 0;
}
static Node build(Net *n, const KdSite *s, const void *opt) {
    const DiceOptions *o = opt;
    const DiceAttr a = {o->smooth,
                        class_weights(n, s, "dice", o->class_weights, net_shape(n, s->logits).d[1]),
                        gathers(o, NULL) ? part_store(n) : NULL};
    return planes_add(n, &op_dice, s, &a, sizeof a);
}
const KdMethod kd_dice = {.name = "dice",
                          .cite = "Dice loss, arXiv 1606.04797, eq. 3",
                          .weight = 1,
                          .task = true,
                          .also_term = true,
                          .taps = KD_LOGITS | KD_AUX | KD_LABELS,
                          .options = options,
                          .option_bytes = sizeof(DiceOptions),
                          .build = build,
                          .gathers = gathers};
