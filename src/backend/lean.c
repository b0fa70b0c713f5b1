/* lean.c - which values a training plan makes again in its backward pass instead of keeping them until then.
 *
 * Always: a batch norm behind a kept convolution, since one pass over memory makes it. In a lean plan also what
 * convolutions give, so that of a residual block only the end is kept: its convolutions are run again when the
 * backward pass comes to it, each once, one block at a time. Blocks end where a value has several readers, and
 * where too many convolutions would have to be run in a row (all their results live at once). Where a number takes
 * more products than DEAR it is kept: the late layers of a network hold few bytes and most of its arithmetic. With
 * 4 x 360 x 360 (MB of a step's values, more arithmetic in convolutions):
 *                     kept       none dear        DEAR = 2400      1200             700
 *     ResNet-18       608        297, 33.3 %      335, 14.7 %      376,  8.1 %      405,  5.6 %
 *     ResNet-101      3782       1845, 33.3 %     1837, 20.8 %     2069, 11.8 %     2351,  7.0 %
 *     MobileNetV2     810        258, 33.4 %      258, 22.1 %      258, 22.1 %      208, 14.1 %
 * (all DeepLabV3 with auxiliary head). */
#include "backend/plan_priv.h"

enum { CHAIN = 3, DEAR = 2400 };             /* convolutions in a row: a bottleneck; products of one number */

static int source_again(const Plan *p, const PlanNode *n) {
    const PlanNode *src = &p->nodes[plan_resolve(p, n->src[0])];
    return src->remake ? src->again : 0;
}

bool plan_remakes_conv(const Plan *p, PlanNode *n) {
    const int64_t products = shape_count(p->net->params[n->param[0]].shape) / n->shape.d[1];
    n->again = source_again(p, n) + 1;
    return p->spec.lean && p->spec.loss.id && !n->is_output && n->uses == 1 && n->again <= CHAIN &&
           products <= DEAR;
}

bool plan_remakes_norm(const Plan *p, PlanNode *n) {
    n->again = source_again(p, n);
    if (!p->spec.loss.id || n->is_output) return false;
    return n->again == 0 || (n->uses == 1 && n->again < CHAIN);
}
