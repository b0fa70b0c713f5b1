/* ohem.c - cross-entropy on the student's own hard pixels (online hard example mining;
 * Shrivastava et al., CVPR 2016, arXiv 1604.03540, per pixel as in segmentation practice).
 *
 * q_i = softmax(U(X)_i)[y_i] over V; hard: q_i <= max(theta, k-th smallest q);
 * L(X) = sum over hard of c_y CE / sum over hard of c_y; loss = L(S) + 0.4 L(Sa), each head with its
 * own hard pixels. This is rdd's second stage with rule=student. Shapes as in ce.c. */
#include "distill/class_weights.h"
#include "distill/fullres.h"

typedef struct OhemOptions {
    double theta, fraction;
    int64_t count;
    int scope;
    const char *class_weights;
} OhemOptions;
static const Option options[] = {
    {"theta", OPT_F64, offsetof(OhemOptions, theta), "0.7", "",
     "hard: probability of the label's class at most this", .lo = 0, .hi = 1},
    {"min_kept_fraction", OPT_F64, offsetof(OhemOptions, fraction), "0.0477", "",
     "keep at least this share of the labelled pixels", .lo = 0, .hi = 1},
    {"min_kept_count", OPT_INT, offsetof(OhemOptions, count), "0", "px",
     "keep at least so many instead; 0: the fraction", .lo = 0, .hi = 1e15},
    {"min_kept_scope", OPT_ENUM, offsetof(OhemOptions, scope), "batch", "",
     "the pixels that min_kept is of: the whole update's, the micro-batch's (one forward pass less with train.accumulate), or each image's own",
     .choices = "batch|micro-batch|image"},
    {"class_weights", OPT_STR, offsetof(OhemOptions, class_weights), "none", "", CLASS_WEIGHTS_HELP,
     .flags = 0},
    {0}};

static const OpDef op_ohem = FULLRES_OP("ohem");

static bool gathers(const void *opt, const float stage[2]) {
    return ((const OhemOptions *)opt)->scope != SCOPE_MICRO_BATCH;
}
static Node build(Net *n, const KdSite *s, const void *opt) {
    const OhemOptions *o = opt;
    FullresAttr a = {.tse = true,
                     .rule = RULE_STUDENT,
                     .theta = o->theta,
                     .fraction = o->fraction,
                     .count = o->count,
                     .per_image = o->scope == SCOPE_IMAGE,
                     .store = gathers(o, NULL) ? part_store(n) : NULL};
    a.class_weight = class_weights(n, s, "ohem", o->class_weights, net_shape(n, s->logits).d[1]);
    return fullres_add(n, &op_ohem, s, &a, false);
}
const KdMethod kd_ohem = {.name = "ohem",
                          .cite = "OHEM, arXiv 1604.03540, per pixel",
                          .weight = 1,
                          .task = true,
                          .taps = KD_LOGITS | KD_AUX | KD_LABELS,
                          .options = options,
                          .option_bytes = sizeof(OhemOptions),
                          .build = build,
                          .stats = fullres_stats,
                          .kept = fullres_kept,
                          .gathers = gathers};
