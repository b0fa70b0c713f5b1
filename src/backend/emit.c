/* emit.c - what kernels call while a plan is made: values, layouts, gradients, steps. */
#include "backend/plan_priv.h"

#include <string.h>

static ValueId new_value(Plan *p, Value v) {
    if (p->n_values == 0) p->n_values = 1;                /* id 0 is no value */
    while (p->n_values >= p->cap_values) {
        p->cap_values = p->cap_values ? 2 * p->cap_values : 256;
        p->values = xrealloc(p->values, (size_t)p->cap_values * sizeof *p->values);
    }
    v.first = v.last = -1;
    v.root = p->n_values;
    p->values[p->n_values] = v;
    return p->n_values++;
}

ValueId plan_new_value(Plan *p, const char *name, Shape s, Dtype t, Layout l) {
    if (s.rank != 4) l = LAYOUT_PLAIN;
    return new_value(
        p,
        (Value){.name = name, .shape = s, .dtype = t, .layout = l, .bytes = layout_bytes(l, s, t)});
}

ValueId plan_new_bytes(Plan *p, const char *name, size_t bytes) {
    if (bytes == 0) return 0;
    return new_value(
        p, (Value){.name = name, .shape = SHAPE((int64_t)bytes), .dtype = DT_U8, .bytes = bytes});
}

ValueId plan_bound_value(Plan *p, const char *name, Shape s, Dtype t, void *ptr) {
    return new_value(p, (Value){.name = name,
                                .shape = s,
                                .dtype = t,
                                .place = VALUE_BOUND,
                                .ptr = ptr,
                                .bytes = layout_bytes(LAYOUT_PLAIN, s, t)});
}

ValueId plan_own_value(Plan *p, const char *name, size_t bytes) {
    ValueId v = plan_new_bytes(p, name, bytes ? bytes : 1);
    p->values[v].place = VALUE_OWN;
    return v;
}

ValueId plan_param_scratch(Plan *p, size_t bytes) {
    if (!p->param_scratch) p->param_scratch = plan_own_value(p, "parameter scratch", bytes);
    Value *v = &p->values[p->param_scratch];
    if (v->bytes < bytes) v->bytes = bytes;
    return p->param_scratch;
}

int plan_resolve(const Plan *p, int node) {
    while (p->nodes[node].same_as) node = p->nodes[node].same_as;
    return node;
}

Layout plan_layout(const Plan *p, int node) {
    return p->values[p->nodes[plan_resolve(p, node)].value].layout;
}

bool plan_wants_grad(const Plan *p, int node) { return p->nodes[plan_resolve(p, node)].wants_grad; }

static int type_slot(Dtype t) { return t == DT_BF16 ? 1 : t == DT_U8 ? 2 : t == DT_I8 ? 3 : 0; }
static ValueId *as(const Plan *p, PlanNode *n, ValueId v) {
    return &n->as[p->values[v].layout][type_slot(p->values[v].dtype)];
}
static bool is_byte(Dtype t) { return t == DT_U8 || t == DT_I8; }

ValueId plan_dst_as(Plan *p, int id, Layout l, Dtype t) {
    PlanNode *n = &p->nodes[id];
    n->value = plan_new_value(p, p->net->nodes[id].name, n->shape, t, l);
    if (is_byte(t)) p->values[n->value].scale = n->scale;
    return *as(p, n, n->value) = n->value;
}
ValueId plan_dst(Plan *p, int id, Layout l) { return plan_dst_as(p, id, l, DT_F32); }

/* Only values of rank 4 have other layouts or types; integers without a scale stay what they are. */
static ValueId reordered(Plan *p, int node, ValueId v, Layout want, Dtype t) {
    const Value from = p->values[v];
    bool real = from.dtype == DT_F32 || from.dtype == DT_BF16 || from.scale > 0;
    if (from.shape.rank != 4 || !real) return v;
    if (from.layout == want && from.dtype == t) return v;
    ValueId to = plan_new_value(p, from.name, from.shape, t, want);
    if (is_byte(t)) p->values[to].scale = p->nodes[node].scale;
    CHECK(cpu_reorder_step(p, v, to, node) == OK);
    p->n_reorders++;
    return to;
}

/* Cheap values (batch norm's) end with their last forward reader and are made again for backward. */
static void remake(Plan *p, PlanNode *n, int id) {
    n->value = n->remake(p, n, id);
    n->remake = NULL;
    memset(n->as, 0, sizeof n->as);
    *as(p, n, n->value) = n->value;
}

ValueId plan_src_as(Plan *p, int node, Layout want, Dtype t) {
    int id = plan_resolve(p, node);
    PlanNode *n = &p->nodes[id];
    CHECK(n->value);
    if (p->emitting_backward && n->remake) remake(p, n, id);
    if (n->shape.rank != 4) want = LAYOUT_PLAIN, t = DT_F32;
    ValueId *v = &n->as[want][type_slot(t)];
    if (!*v) *v = reordered(p, id, n->value, want, t);
    return *v;
}
ValueId plan_src(Plan *p, int node, Layout want) { return plan_src_as(p, node, want, DT_F32); }

void plan_add_grad(Plan *p, int node, ValueId g) {
    PlanNode *n = &p->nodes[plan_resolve(p, node)];
    if (!n->wants_grad || !g) return;
    if (n->n_grad == GRAD_MAX) plan_grad_as(p, node, p->values[n->grad[0]].layout, p->values[n->grad[0]].dtype);      /* of a weight used everywhere */
    n->grad[n->n_grad++] = g;
}

/* Contributions are summed in the order they came: later consumers first, a fixed order. */
ValueId plan_grad_as(Plan *p, int node, Layout want, Dtype t) {
    int id = plan_resolve(p, node);
    PlanNode *n = &p->nodes[id];
    if (n->n_grad == 0) return 0;
    ValueId sum = reordered(p, id, n->grad[0], want, t);
    for (int i = 1; i < n->n_grad; i++) {
        ValueId b = reordered(p, id, n->grad[i], want, t);
        Value *v = &p->values[sum];
        ValueId dst = plan_new_value(p, v->name, v->shape, v->dtype, v->layout);
        cpu_sum_step(p, id, sum, b, dst);
        sum = dst;
    }
    n->grad[0] = sum, n->n_grad = 1;
    return sum;
}
ValueId plan_grad(Plan *p, int node, Layout want) { return plan_grad_as(p, node, want, DT_F32); }

Step *plan_step(Plan *p, int node, const char *what, void (*fn)(const Step *), void *state) {
    Step s = {.fn = fn,
              .plan = p,
              .state = state,
              .node = node,
              .what = what,
              .impl = "retort",
              .kind = STEP_OTHER,
              .backward = p->emitting_backward};
    if (p->emitting_params) {
        GROW(p->param_steps, p->n_param_steps, p->cap_param_steps);
        p->param_steps[p->n_param_steps] = s;
        return &p->param_steps[p->n_param_steps++];
    }
    GROW(p->steps, p->n_steps, p->cap_steps);
    p->steps[p->n_steps] = s;
    return &p->steps[p->n_steps++];
}

void step_reads(Step *s, ValueId v) {
    if (!v) return;
    CHECK(s->n_read < STEP_IO_MAX);
    s->read[s->n_read++] = v;
    if (!s->plan->emitting_params) s->plan->values[v].last = s->plan->n_steps - 1;
}

void step_writes(Step *s, ValueId v) {
    if (!v) return;
    CHECK(s->n_write < STEP_IO_MAX);
    s->write[s->n_write++] = v;
    Value *value = &s->plan->values[v];
    if (s->plan->emitting_params) return;
    if (value->first < 0) value->first = s->plan->n_steps - 1;
    if (value->last < s->plan->n_steps - 1) value->last = s->plan->n_steps - 1;
}

bool plan_param_first(Plan *p, int param) {
    bool first = !p->param_written[param];
    p->param_written[param] = true;
    return first;
}
