/* tune.c - how long one pass of one layer takes in one way.
 *
 * The layer is made alone, in a plan that shares the net and the nodes but holds no value besides those the pass
 * reads, in the layouts where the plan in the making has them. So what is timed is what would be emitted, reorders
 * of sources and gradients included: also of a data gradient back to where its node's backward pass wants it, and
 * of the summand that a sum behind the layer brings into the layer's layout. Times are the best of a few. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/conv_priv.h"
#include "base/str.h"
#include "base/sys.h"

enum { RUNS = 3 };                           /* after the first */
static const double ENOUGH_S = 0.03;         /* of runs of one way */
static const double HOPELESS = 1.5;          /* times the best: no second run */

static void given(const Step *s) { (void)s; }

/* A value of p in q, written before the first step that counts. */
static ValueId bring(Plan *q, const Plan *p, ValueId v, Step *from) {
    const Value *x = &p->values[v];
    ValueId id = plan_new_value(q, x->name, x->shape, x->dtype, x->layout);
    q->values[id].place = VALUE_KEPT, q->values[id].scale = x->scale;
    step_writes(from, id);
    return id;
}

/* The node's value in all the layouts there are; in backward, where it may have been made again, in its own. */
static void bring_node(Plan *q, const Plan *p, int node) {
    const int id = plan_resolve(p, node);
    const PlanNode *from = &p->nodes[id];
    PlanNode *to = &q->nodes[id];
    if (!from->value || to->value) return;
    Step *s = plan_step(q, id, "given", given, NULL);
    to->value = bring(q, p, from->value, s);
    for (int l = LAYOUT_PLAIN; l <= LAYOUT_C16; l++)
        for (int t = 0; t < 4; t++) {
            const ValueId v = from->as[l][t];
            if (v)
                to->as[l][t] = v == from->value       ? to->value
                               : p->emitting_backward ? 0
                                                      : bring(q, p, v, s);
        }
}

static Plan *alone(const Plan *p) {
    Plan *q = xcalloc(1, sizeof *q);
    const size_t bytes = (size_t)p->net->n_nodes * sizeof *q->nodes;
    q->arena = arena_open(), q->net = p->net, q->spec = p->spec,
    q->emitting_backward = p->emitting_backward;
    q->spec.choices = NULL, q->spec.dry = false;
    q->param_written = arena_alloc(q->arena, (size_t)p->net->n_params + 1);
    q->nodes = memcpy(arena_alloc(q->arena, bytes), p->nodes, bytes);
    for (int i = 0; i < p->net->n_nodes; i++) {
        PlanNode *n = &q->nodes[i];
        n->value = n->saved = 0, n->n_grad = 0, n->remake = NULL;
        memset(n->as, 0, sizeof n->as);
    }
    return q;
}

/* The other summand of a sum that reads nothing else of this layer, in the layer's layout. */
static void bring_summand(Plan *q, const Plan *p, int id) {
    for (int k = id + 1; k < p->net->n_nodes; k++) {
        const PlanNode *n = &p->nodes[k];
        if (n->op != &op_batch_norm || n->n_src < 2 || plan_resolve(p, n->src[0]) != id) continue;
        const int other = plan_resolve(p, n->src[1]);
        if (!p->nodes[other].value || other == id) return;
        bring_node(q, p, other);
        plan_src_as(q, other, plan_layout(q, id), plan_type(q));
        return;
    }
}

static Err emit_alone(Plan *q, const Plan *p, int id, const ConvPass *pass, Way way) {
    PlanNode *n = &q->nodes[id];
    for (int i = 0; i < n->n_src; i++) bring_node(q, p, n->src[i]);
    if (pass->pass == DNN_FORWARD) {
        TRY(pass->emit(q, n, id, way));
        bring_summand(q, p, id);
        return OK;
    }
    bring_node(q, p, id);
    Step *s = plan_step(q, id, "given", given, NULL);
    n->grad[n->n_grad++] = bring(q, p, p->nodes[id].grad[0], s);
    const int src = plan_resolve(q, n->src[0]);
    TRY(pass->emit(q, n, id, way));
    if (pass->pass == DNN_BACKWARD_DATA && q->nodes[src].value)
        plan_grad_as(q, src, plan_layout(q, src), q->values[q->nodes[src].value].dtype);
    return OK;
}

/* A reference implementation may take minutes. */
static bool hopeless(const Plan *q) {
    for (int i = 0; i < q->n_steps; i++)
        if (q->steps[i].kind == STEP_CONV && str_starts(q->steps[i].impl, "ref")) return true;
    return false;
}

static double run_once(const Plan *q) {
    const double start = sys_now();
    for (int i = 0; q->spec.training && i < q->n_param_steps; i++)
        q->param_steps[i].fn(&q->param_steps[i]);
    for (int i = 0; i < q->n_steps; i++) q->steps[i].fn(&q->steps[i]);
    return sys_now() - start;
}

static double best_time(Plan *q, double best) {
    memset(q->arena_block, 0x3c, q->arena_bytes);        /* 0.01 in every type; untouched pages would all be the one of zeros */
    for (int i = 0; i < q->n_param_steps; i++) q->param_steps[i].fn(&q->param_steps[i]);
    double least = run_once(q), spent = least;
    for (int i = 1; i <= RUNS && spent < 2 * ENOUGH_S + 2 * least && least < HOPELESS * best; i++) {
        const double s = run_once(q);
        spent += s;
        if (s < least) least = s;
    }
    return least;
}

double tune_time(const Plan *p, int id, const ConvPass *pass, Way way, double best) {
    Plan *q = alone(p);
    double s = INFINITY;
    if (!emit_alone(q, p, id, pass, way) && !hopeless(q) && !plan_place_memory(q))
        s = best_time(q, best);
    plan_close(q);
    return s;
}
