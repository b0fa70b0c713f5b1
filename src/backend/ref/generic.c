/* generic.c - runs any op by its OpDef on plain float32: the reference, or the op's own fast kernel.
 * The contract is OpCall's (graph/op.h): backward adds, so gradients are zeroed here first. */
#include <string.h>

#include "backend/plan_priv.h"

typedef struct Call {
    OpCall  call;
    void  (*fn)(const OpCall *);
    ValueId src[NODE_SRC_MAX], dsrc[NODE_SRC_MAX], dst, ddst, saved, scratch;
    bool    zero_param[NODE_PARAM_MAX];      /* first writer of that gradient in this plan */
    size_t  param_floats[NODE_PARAM_MAX];
    const void *src_ptr[NODE_SRC_MAX];       /* what call.src and its like point to */
    float  *dsrc_ptr[NODE_SRC_MAX], *param_ptr[NODE_PARAM_MAX], *dparam_ptr[NODE_PARAM_MAX];
    int64_t *count_ptr[NODE_PARAM_MAX];
} Call;

static void run_call(const Step *s) {
    Call *c = s->state;
    Plan *p = s->plan;
    for (int i = 0; i < c->call.n_src; i++) {
        c->src_ptr[i] = step_ptr(s, c->src[i]);
        c->dsrc_ptr[i] = step_ptr(s, c->dsrc[i]);
        if (c->dsrc_ptr[i]) memset(c->dsrc_ptr[i], 0, p->values[c->dsrc[i]].bytes);
    }
    for (int i = 0; i < NODE_PARAM_MAX; i++)
        if (c->dparam_ptr[i] && c->zero_param[i] && !p->accumulate)
            memset(c->dparam_ptr[i], 0, c->param_floats[i] * sizeof(float));
    c->call.dst = step_ptr(s, c->dst);
    c->call.ddst = step_ptr(s, c->ddst);
    c->call.saved = step_ptr(s, c->saved);
    c->call.scratch = step_ptr(s, c->scratch);
    c->call.run = &p->run;
    c->fn(&c->call);
}

static Call *new_call(Plan *p, PlanNode *n, int id, OpSite *site) {
    Call *c = arena_alloc(p->arena, sizeof *c);
    Shape *shapes = arena_alloc(p->arena, (size_t)(n->n_src + n->n_param + 1) * sizeof *shapes);
    Dtype *dtypes = arena_alloc(p->arena, (size_t)(n->n_src + 1) * sizeof *dtypes);
    for (int i = 0; i < n->n_src; i++)
        shapes[i] = p->nodes[n->src[i]].shape, dtypes[i] = p->nodes[n->src[i]].dtype;
    for (int i = 0; i < n->n_param; i++) {
        NetParam *param = &p->net->params[n->param[i]];
        shapes[n->n_src + i] = param->shape;
        c->param_ptr[i] = param->data;
        c->count_ptr[i] = param->kind == PARAM_COUNT ? &param->count : NULL;
    }
    *site = (OpSite){n->attr, n->n_src, shapes, dtypes, n->n_param, shapes + n->n_src};
    c->call = (OpCall){.attr = n->attr, .n_src = n->n_src, .src_shape = shapes, .shape = n->shape,
                       .src = c->src_ptr, .param = c->param_ptr, .param_count = c->count_ptr,
                       .dsrc = c->dsrc_ptr, .dparam = c->dparam_ptr, .node = id};
    return c;
}

static bool by_reference(const Plan *p) { return p->spec.backend == BACKEND_REF; }
static bool reads_source(const PlanNode *n, int i) { return !(n->op->shape_only & (1u << i)); }

static Err generic_forward(Plan *p, PlanNode *n, int id) {
    OpSite site;
    Call *c = new_call(p, n, id, &site);
    for (int i = 0; i < n->n_src; i++)
        if (reads_source(n, i)) c->src[i] = plan_src(p, n->src[i], LAYOUT_PLAIN);
    if (n->op->saved_bytes)
        n->saved = c->saved = plan_new_bytes(p, "saved", n->op->saved_bytes(&site, n->shape));
    if (n->op->scratch_bytes)
        c->scratch = plan_new_bytes(p, "scratch", n->op->scratch_bytes(&site, n->shape));
    bool loss = n->shape.rank == 0;
    if (n->saved && loss) p->values[n->saved].place = VALUE_KEPT;    /* its statistics are read afterwards */
    c->dst = plan_dst(p, id, LAYOUT_PLAIN);
    c->fn = !by_reference(p) && n->op->fast_forward ? n->op->fast_forward : n->op->forward;
    Step *s = plan_step(p, id, n->op->name, run_call, c);
    if (loss) s->kind = STEP_LOSS;
    for (int i = 0; i < n->n_src; i++) step_reads(s, c->src[i]);
    step_writes(s, c->saved), step_writes(s, c->scratch), step_writes(s, c->dst);
    return OK;
}

static void want_param_gradients(Plan *p, const PlanNode *n, Call *c) {
    for (int i = 0; i < n->n_param; i++) {
        const NetParam *param = &p->net->params[n->param[i]];
        if (!param->trainable) continue;
        c->dparam_ptr[i] = param->grad;
        c->param_floats[i] = (size_t)shape_count(param->shape);
        c->zero_param[i] = plan_param_first(p, n->param[i]);
    }
}

static Err generic_backward(Plan *p, PlanNode *n, int id) {
    OpSite site;
    Call *c = new_call(p, n, id, &site);
    c->ddst = plan_grad(p, id, LAYOUT_PLAIN);
    for (int i = 0; i < n->n_src; i++) {
        if (n->op->keep & (KEEP_SRC0 << i)) c->src[i] = plan_src(p, n->src[i], LAYOUT_PLAIN);
        if (reads_source(n, i) && plan_wants_grad(p, n->src[i]))
            c->dsrc[i] =
                plan_new_value(p, "gradient", p->nodes[n->src[i]].shape, DT_F32, LAYOUT_PLAIN);
    }
    if (n->op->keep & KEEP_DST) c->dst = plan_src(p, id, LAYOUT_PLAIN);
    if (n->op->scratch_bytes)
        c->scratch = plan_new_bytes(p, "scratch", n->op->scratch_bytes(&site, n->shape));
    want_param_gradients(p, n, c);
    c->saved = n->saved;
    c->fn = !by_reference(p) && n->op->fast_backward ? n->op->fast_backward : n->op->backward;
    Step *s = plan_step(p, id, n->op->name, run_call, c);
    if (n->shape.rank == 0) s->kind = STEP_LOSS;
    step_reads(s, c->ddst), step_reads(s, c->saved), step_reads(s, c->dst);
    for (int i = 0; i < n->n_src; i++) step_reads(s, c->src[i]);
    for (int i = 0; i < n->n_src; i++) step_writes(s, c->dsrc[i]);
    step_writes(s, c->scratch);
    for (int i = 0; i < n->n_src; i++) plan_add_grad(p, n->src[i], c->dsrc[i]);
    return OK;
}

const Kernel kernel_generic = {NULL, false, NULL, generic_forward, generic_backward};
