/* ce.c - cross-entropy at the labels' resolution.
 *
 * L(X) = sum over i in V of c_y CE(U(X))_i / sum over i in V of c_y, V the labelled pixels;
 * loss = L(S) + 0.4 L(Sa) with an auxiliary head Sa. S, Sa: N x K x h x w, U: bilinear to the labels'
 * N x H x W, align_corners = true. Nothing labelled: loss 0, gradient 0. */
#include "distill/class_weights.h"
#include "distill/fullres.h"

typedef struct CeOptions { const char *class_weights; } CeOptions;
static const Option options[] = {{"class_weights", OPT_STR, offsetof(CeOptions, class_weights),
                                  "none", "", CLASS_WEIGHTS_HELP, .flags = 0},
                                 {0}};

static const OpDef op_ce = FULLRES_OP("ce");

static Node build(Net *n, const KdSite *s, const void *opt) {
    const CeOptions *o = opt;
    FullresAttr a = {.class_weight =
                         class_weights(n, s, "ce", o->class_weights, net_shape(n, s->logits).d[1])};
    return fullres_add(n, &op_ce, s, &a, false);
}
const KdMethod kd_ce = {.name = "ce",
                        .cite = "cross-entropy over the labelled pixels",
                        .weight = 1,
                        .task = true,
                        .taps = KD_LOGITS | KD_AUX | KD_LABELS,
                        .options = options,
                        .option_bytes = sizeof(CeOptions),
                        .build = build,
                        .stats = fullres_stats};
