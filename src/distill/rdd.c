/* rdd.c - Relative Difficulty Distillation (arXiv 2407.03719): how much each pixel's ordinary loss counts.
 *
 * Stage 1, TFE, easy first as the teacher sees it: d = KL(softmax(Ta) || softmax(T)) per low-resolution
 * pixel (tfe=aux; flip: Ta is the teacher on the mirrored image; entropy: w = 1 - H(T) / log K instead),
 *   w = exp(-d), W = U(w), L = 1/Z sum over V of W [CE(U(S)) + 0.4 CE(U(Sa))], Z = |V|.
 * Stage 2, TSE, where student and teacher differ about what is hard, per pair (S, T), (Sa, Ta):
 *   q = softmax(U(X))[y], hard_X = {i in V: q_X <= max(theta, k-th smallest q_X)},
 *   M = hard_S xor hard_T, L(S, T) = sum over M of c_y CE(U(S)) / sum over M of c_y,
 *   L = L(S, T) + 0.4 L(Sa, Ta); Sa is paired with T where the teacher has no auxiliary head.
 * "The k-th smallest" is over the whole batch, of an update in parts over all of them; min_kept_scope=image takes k and the threshold of each image; aux_mask=main gives Sa the main head's M.
 * rule=random is a control: as many labelled pixels as xor keeps, but drawn, keyed by the run's seed, sample and pixel.
 * No gradient goes through W and M. Empty M: loss 0, gradient 0.
 *
 * One op does both: loss = stage[0] TFE + stage[1] TSE with weights read at run time; a stage of weight
 * 0 is not computed, and a cross-fade still takes one gradient pass (the pixel weights are added).
 * compat=rdd2023: Z = all pixels; k absolute (100 000 unless set), an error when fewer pixels are
 * labelled (void pixels in the sort at probability 1 change the k-th smallest in no other case); with 19
 * classes the class weights below in TSE. Shapes as in ce.c; the teacher's grid may differ from the student's. */
#include <string.h>
#include "distill/class_weights.h"
#include "distill/fullres.h"

typedef struct RddOptions {
    int tfe, rule, compat, tfe_kl, normaliser, scope, aux_mask;
    double theta, fraction; int64_t count;
    const char *class_weights;
} RddOptions;
static const Option options[] = {
    {"tfe", OPT_ENUM, offsetof(RddOptions, tfe), "aux", "",
     "what makes a pixel easy: teacher's aux head, its mirrored image, its entropy",
     .choices = "aux|flip|entropy"},
    {"tfe_kl", OPT_ENUM, offsetof(RddOptions, tfe_kl), "other-main", "",
     "direction of the first stage's divergence: KL(other || main) or KL(main || other)",
     .choices = "other-main|main-other"},
    {"normaliser", OPT_ENUM, offsetof(RddOptions, normaliser), "valid", "",
     "first stage: divide by the labelled pixels, or by all", .choices = "valid|all"},
    {"rule", OPT_ENUM, offsetof(RddOptions, rule), "xor", "",
     "which pixels the second stage keeps; random: as many as xor, drawn anew each time (a control)",
     .choices = "xor|or|and|student|student-not-teacher|random"},
    {"theta", OPT_F64, offsetof(RddOptions, theta), "0.7", "",
     "hard: probability of the label's class at most this", .lo = 0, .hi = 1},
    {"min_kept_fraction", OPT_F64, offsetof(RddOptions, fraction), "0.0477", "",
     "at least this share of the labelled pixels is hard", .lo = 0, .hi = 1},
    {"min_kept_count", OPT_INT, offsetof(RddOptions, count), "0", "px",
     "at least so many instead; 0: the fraction", .lo = 0, .hi = 1e15},
    {"min_kept_scope", OPT_ENUM, offsetof(RddOptions, scope), "batch", "",
     "the pixels that min_kept is of: the whole update's, the micro-batch's (one forward pass less with train.accumulate), or each image's own",
     .choices = "batch|micro-batch|image"},
    {"aux_mask", OPT_ENUM, offsetof(RddOptions, aux_mask), "own", "",
     "second stage: what the auxiliary head keeps, its own choice or the main head's",
     .choices = "own|main"},
    {"class_weights", OPT_STR, offsetof(RddOptions, class_weights), "none", "",
     CLASS_WEIGHTS_HELP " (second stage; none with compat and 19 classes: the authors')",
     .flags = 0},
    {"compat", OPT_ENUM, offsetof(RddOptions, compat), "none", "",
     "rdd2023: the authors' arithmetic where it differs", .choices = "none|rdd2023"},
    {0}};
static const unsigned rules[] = {
    RULE_XOR, RULE_OR, RULE_AND, RULE_STUDENT, RULE_STUDENT_NOT_TEACHER, RULE_XOR};
enum { RANDOM = 5 };                     /* among the choices of rule */
static const char cityscapes_weights[] =
    "0.8373 0.918 0.866 1.0345 1.0166 0.9969 0.9754 1.0489 0.8786 1.0023 0.9539 0.9843 "
    "1.1116 0.9037 1.0865 1.0955 1.0865 1.1529 1.0507";
enum { COMPAT_KEPT = 100000, COMPAT_CLASSES = 19 };

static const OpDef op_rdd = FULLRES_OP("rdd");

static void check_site(Net *n, const KdSite *s, const RddOptions *o) {
    if (!s->t_logits.id)
        net_fail(n, E(2, 0), "rdd: there is no teacher; set teacher.model, or distill.task=ce");
    else if (s->only == KD_TSE) return;
    else if (o->tfe == TFE_AUX && !s->t_aux.id)
        net_fail(
            n, E(2, 0),
            "rdd: tfe=aux needs a teacher with an auxiliary head, and this one has none; use tfe=flip or tfe=entropy");
    else if (o->tfe == TFE_FLIP && !s->t_flip.id)
        net_fail(n, E(2, 0),
                 "rdd: tfe=flip needs the teacher's logits of the mirrored image; use tfe=entropy");
}
/* compat: the authors' k is of a worker's batch. */
static bool gathers(const void *opt, const float stage[2]) {
    const RddOptions *o = opt;
    return stage[1] != 0 && !o->compat && o->scope != SCOPE_MICRO_BATCH;
}
static Node build(Net *n, const KdSite *s, const void *opt) {
    static const float tse_alone[] = {0, 1};
    const RddOptions *o = opt;
    int64_t K = net_shape(n, s->logits).d[1];
    bool compat = o->compat != 0,
         listed = o->class_weights && strcmp(o->class_weights, "none") != 0;
    check_site(n, s, o);
    FullresAttr a = {.tfe = s->only != KD_TSE,
                     .tse = s->only != KD_TFE,
                     .tfe_kind = o->tfe,
                     .rule = rules[o->rule],
                     .random = o->rule == RANDOM,
                     .theta = o->theta,
                     .fraction = o->fraction,
                     .count = o->count ? o->count
                              : compat ? COMPAT_KEPT
                                       : 0,
                     .compat = compat,
                     .kl_reversed = o->tfe_kl == 1,
                     .all_pixels = o->normaliser == 1,
                     .per_image = o->scope == SCOPE_IMAGE,
                     .store = gathers(o, tse_alone) ? part_store(n) : NULL,
                     .main_mask = o->aux_mask == 1};
    if (compat && a.per_image)
        net_fail(
            n, E(2, 0),
            "rdd: compat=rdd2023 keeps pixels of the whole batch; take out min_kept_scope=image or compat");
    const char *weights =
        compat && !listed && K == COMPAT_CLASSES ? cityscapes_weights : o->class_weights;
    a.class_weight = class_weights(n, s, "rdd", weights, K);
    KdSite site = *s;
    /* What nobody reads costs no second run of the teacher, nor its auxiliary head. */
    if (o->tfe != TFE_FLIP) site.t_flip = NO_NODE;
    if (!s->aux.id || a.main_mask)       /* no auxiliary mask: the second stage does not look at it */
        site.t_aux = o->tfe != TFE_AUX || s->only == KD_TSE ? NO_NODE
                     : s->t_aux_tfe.id                      ? s->t_aux_tfe
                                                            : s->t_aux;
    /* TFE compares the teacher's two heads position by position */
    if (site.t_aux.id && !n->err) {
        const Shape main = net_shape(n, s->t_logits), aux = net_shape(n, s->t_aux);
        if (main.d[2] != aux.d[2] || main.d[3] != aux.d[3])
            site.t_aux = nn_resize_like(n, site.t_aux, s->t_logits, true);
    }
    return fullres_add(n, &op_rdd, &site, &a, true);
}
const KdMethod kd_rdd = {.name = "rdd",
                         .cite = "Relative Difficulty Distillation, arXiv 2407.03719",
                         .weight = 1,
                         .task = true,
                         .taps = KD_LOGITS | KD_AUX | KD_LABELS,
                         .options = options,
                         .option_bytes = sizeof(RddOptions),
                         .build = build,
                         .stats = fullres_stats,
                         .kept = fullres_kept,
                         .gathers = gathers,
                         .check = fullres_check};
