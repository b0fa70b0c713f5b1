/* fuse.c - rewrites a plan's nodes: patterns of ops become one op that its own file can run.
 *
 *   inference: dropout -> nothing; conv2d + batch_norm [+ add] [+ relu] -> conv2d with bn, residual, act
 *              batch_norm [+ add] + prelu, add + prelu -> prelu with bn, residual
 *   training:  batch_norm [+ add] [+ relu] -> batch_norm with residual, act
 * NaN passes a ReLU everywhere but in the first of these: oneDNN's, behind a convolution, makes it 0.
 * A node is absorbed only when its value has exactly one consumer and is no output. The fused node
 * stands at the place of the last absorbed one, so sources still come before their consumers. */
#include "backend/plan_priv.h"

static bool is(const Plan *p, int id, const OpDef *op) { return p->nodes[id].op == op; }
static bool absorbable(const Plan *p, int id) {
    return p->nodes[id].uses == 1 && !p->nodes[id].is_output;
}

static void *copy_attr(Plan *p, const void *attr, size_t bytes) {
    char *out = arena_alloc(p->arena, bytes);
    for (size_t i = 0; i < bytes; i++) out[i] = ((const char *)attr)[i];
    return out;
}

/* Node `id` becomes node `from`, plus an optional second source; `from` is absorbed. */
static void absorb(Plan *p, int id, int from, void *attr, int residual) {
    PlanNode *n = &p->nodes[id], *f = &p->nodes[from];
    n->op = f->op, n->attr = attr;
    n->n_src = f->n_src, n->n_param = f->n_param;
    for (int i = 0; i < f->n_src; i++) n->src[i] = f->src[i];
    for (int i = 0; i < f->n_param; i++) n->param[i] = f->param[i];
    if (residual) n->src[n->n_src++] = residual;
    f->op = NULL;
}

static void fold_batch_norm(Plan *p, int id) {
    int conv = plan_resolve(p, p->nodes[id].src[0]);
    const BnAttr *bn = p->nodes[id].attr;
    if (!is(p, conv, &op_conv2d) || !absorbable(p, conv) || bn->residual || bn->act) return;
    ConvAttr *a = copy_attr(p, p->nodes[conv].attr, sizeof *a);
    if (a->bn || a->act || a->residual) return;
    a->bn = true, a->eps = bn->eps;
    int stats[4];
    for (int i = 0; i < 4; i++) stats[i] = p->nodes[id].param[i];
    absorb(p, id, conv, a, 0);
    for (int i = 0; i < 4; i++) p->nodes[id].param[p->nodes[id].n_param++] = stats[i];
}

static bool takes_residual(const Plan *p, int id) {
    if (!absorbable(p, id)) return false;
    if (is(p, id, &op_batch_norm))
        return !((const BnAttr *)p->nodes[id].attr)->residual &&
               !((const BnAttr *)p->nodes[id].attr)->act;
    if (!is(p, id, &op_conv2d) || p->spec.training || p->spec.loss.id) return false;
    const ConvAttr *a = p->nodes[id].attr;
    return !a->residual && !a->act && a->groups <= 1;
}

static void fuse_add(Plan *p, int id) {
    int a = plan_resolve(p, p->nodes[id].src[0]), b = plan_resolve(p, p->nodes[id].src[1]);
    if (a == b) return;
    bool first = takes_residual(p, a), second = takes_residual(p, b);
    int from = first && (!second || a > b) ? a : b, other = from == a ? b : a;   /* the later one: its sources are ready */
    if (!first && !second) return;
    if (is(p, from, &op_batch_norm)) {
        BnAttr *attr = copy_attr(p, p->nodes[from].attr, sizeof *attr);
        attr->residual = true;
        absorb(p, id, from, attr, other);
    } else {
        ConvAttr *attr = copy_attr(p, p->nodes[from].attr, sizeof *attr);
        attr->residual = true;
        absorb(p, id, from, attr, other);
    }
}

static void fuse_act(Plan *p, int id) {
    int from = plan_resolve(p, p->nodes[id].src[0]);
    Act act = ((const ActAttr *)p->nodes[id].attr)->act;
    if (!absorbable(p, from)) return;
    if (is(p, from, &op_batch_norm) && !((const BnAttr *)p->nodes[from].attr)->act) {
        BnAttr *attr = copy_attr(p, p->nodes[from].attr, sizeof *attr);
        attr->act = act;
        absorb(p, id, from, attr, 0);
    } else if (is(p, from, &op_conv2d) && !p->spec.training && !p->spec.loss.id &&
               !((const ConvAttr *)p->nodes[from].attr)->act) {
        ConvAttr *attr = copy_attr(p, p->nodes[from].attr, sizeof *attr);
        attr->act = act;
        absorb(p, id, from, attr, 0);
    }
}

/* prelu(bn(x) + residual): what stands before a prelu and belongs to no convolution. */
static void fuse_prelu(Plan *p, int id) {
    PlanNode *n = &p->nodes[id];
    const int from = plan_resolve(p, n->src[0]);
    PlanNode *f = &p->nodes[from];
    const BnAttr *bn = is(p, from, &op_batch_norm) ? f->attr : NULL;
    if (!absorbable(p, from) || n->shape.rank != 4 || (!bn && f->op != &op_add) || (bn && bn->act))
        return;
    PreluAttr *a = copy_attr(p, n->attr, sizeof *a);
    if (a->bn || a->residual) return;
    a->bn = bn != NULL, a->residual = bn ? bn->residual : true, a->eps = bn ? bn->eps : 0;
    for (int i = 0; bn && i < 4; i++) n->param[n->n_param++] = f->param[i];
    n->n_src = f->n_src, n->attr = a;
    for (int i = 0; i < f->n_src; i++) n->src[i] = f->src[i];
    f->op = NULL;
}

static void drop_dropout(Plan *p, int id) {
    PlanNode *n = &p->nodes[id];
    int src = plan_resolve(p, n->src[0]);
    n->op = NULL, n->same_as = n->src[0];
    p->nodes[src].uses += n->uses - 1;
    p->nodes[src].is_output |= n->is_output;
}

void plan_fuse(Plan *p) {
    bool inference = !p->spec.training && !p->spec.loss.id;
    for (int id = 1; id < p->net->n_nodes; id++) {
        const OpDef *op = p->nodes[id].op;
        if (op == &op_dropout &&
            (!p->spec.training || ((const DropoutAttr *)p->nodes[id].attr)->p == 0))
            drop_dropout(p, id);
        if (p->spec.no_fuse) continue;
        if (op == &op_batch_norm && inference) fold_batch_norm(p, id);
        if (op == &op_add) fuse_add(p, id);
        if (op == &op_relu) fuse_act(p, id);
        if (op == &op_prelu && inference) fuse_prelu(p, id);
    }
}
