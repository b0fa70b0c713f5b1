/* quantize.c - which convolutions of an inference plan take 8-bit integers, and how values are kept.
 *
 *   value = scale * q     q unsigned, scale = range / 255, where no value is negative (behind a ReLU)
 *                         q signed,   scale = range / 127, elsewhere
 * with the ranges that plan_watch saw. A convolution whose source is never negative multiplies bytes (u8 by
 * s8, weights with a scale per output channel, 32-bit sums). Its result is kept in bytes where another
 * such convolution reads it: unsigned behind its ReLU, signed where it is nothing but the summand of one.
 * All other values stay in the plan's type: the image's side of the stem, classifiers, pooling, resizing. */
#include "backend/plan_priv.h"

static const PlanNode *source(const Plan *p, const PlanNode *n, int i) {
    return &p->nodes[plan_resolve(p, n->src[i])];
}

static bool not_negative(const Plan *p, const PlanNode *n) {
    if (n->op == &op_relu) return true;
    if (n->op == &op_conv2d) return ((const ConvAttr *)n->attr)->act != ACT_NONE;
    return n->op == &op_max_pool && source(p, n, 0)->not_negative;
}

/* A convolution without ReLU that feeds float32 is a classifier: its logits are worth the bits. */
static bool takes_bytes(const Plan *p, const PlanNode *n) {
    if (n->op != &op_conv2d || n->kernel == &kernel_generic || !source(p, n, 0)->not_negative)
        return false;
    return n->not_negative || !(n->is_output || n->read_as_float);
}

/* Reads node id in bytes: as the source of a convolution, or as its summand. */
static bool reads_bytes(const Plan *p, const PlanNode *reader, int id, int i) {
    return reader->int8 && reader->n_src > i && plan_resolve(p, reader->src[i]) == id;
}

static Dtype kept_as(const Plan *p, int id) {
    const PlanNode *n = &p->nodes[id];
    if (!n->int8) return DT_F32;
    for (int k = id + 1; k < p->net->n_nodes; k++) {
        const PlanNode *r = &p->nodes[k];
        if (n->not_negative && reads_bytes(p, r, id, 0)) return DT_U8;
        if (!n->not_negative && n->uses == 1 && r->stored == DT_U8 && reads_bytes(p, r, id, 1))
            return DT_I8;
    }
    return DT_F32;
}

void plan_quantize(Plan *p) {
    for (int id = 1; id < p->net->n_nodes; id++) {
        PlanNode *n = &p->nodes[id];
        if (!n->op || n->shape.rank != 4) continue;
        const float range = p->spec.ranges[id];
        n->not_negative = not_negative(p, n);
        n->scale = (range > 0 ? range : 1) / (n->not_negative ? 255 : 127);      /* nothing seen: any */
        n->int8 = takes_bytes(p, n);
    }
    for (int id = p->net->n_nodes - 1; id > 0; id--) p->nodes[id].stored = kept_as(p, id);
}
