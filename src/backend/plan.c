/* plan.c - makes, runs and describes a plan. The passes: shapes, fusing, forward, backward, memory. */
#include "backend/plan_priv.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"

static const float one = 1.0f;               /* the gradient of the loss with respect to itself */

/* ---- shapes ------------------------------------------------------------------------------------ */

static void nominal_shape(const Plan *p, int id, Shape *out) {
    *out = p->net->nodes[id].shape;
    for (int i = 0; i < p->spec.n_inputs; i++)
        if (p->spec.inputs[i].id == id) *out = p->spec.input_shapes[i];
}

/* Attributes of an imported net hold sizes: other shapes of the image want others. */
static Err rebuild_for_size(Plan *p) {
    const Net *n = p->net;
    Shape image;
    if (!n->rebuild) return OK;
    nominal_shape(p, n->image.id, &image);
    return shape_equal(image, net_shape(n, n->image)) ? OK : n->rebuild(n, image, &p->sized);
}

/* Nodes at or above an output or the loss, by shape or by value. The others may not fit these sizes at
 * all: a training net is evaluated on whole images, and its losses know the teacher's crop only. */
static const bool *mark_reached(Plan *p) {
    const PlanSpec *s = &p->spec;
    bool *reached = arena_alloc(p->arena, (size_t)p->net->n_nodes);
    for (int i = 0; i < s->n_outputs; i++) reached[s->outputs[i].id] = true;
    reached[s->loss.id] = true;
    for (int id = p->net->n_nodes - 1; id > 0; id--)
        for (int i = 0; reached[id] && i < p->nodes[id].n_src; i++)
            reached[p->nodes[id].src[i]] = true;
    return reached;
}

Err plan_infer_shapes(Plan *p) {
    const Net *n = p->net;
    const bool *reached = mark_reached(p);
    for (int id = 1; id < n->n_nodes; id++) {
        PlanNode *node = &p->nodes[id];
        if (node->op == &op_input) { nominal_shape(p, id, &node->shape); continue; }
        if (!reached[id]) continue;
        Shape src[NODE_SRC_MAX], param[NODE_PARAM_MAX];
        Dtype dtype[NODE_SRC_MAX];
        for (int i = 0; i < node->n_src; i++)
            src[i] = p->nodes[node->src[i]].shape, dtype[i] = p->nodes[node->src[i]].dtype;
        for (int i = 0; i < node->n_param; i++) param[i] = n->params[node->param[i]].shape;
        OpSite site = {node->attr, node->n_src, src, dtype, node->n_param, param};
        Err rc = node->op->infer(&site, &node->shape);
        if (rc) return err_wrap(rc, "%s", n->nodes[id].name);
    }
    return OK;
}

/* ---- which nodes take part ---------------------------------------------------------------------- */

static bool source_matters(const PlanNode *n, int i) { return !(n->op->shape_only & (1u << i)); }

static void copy_nodes(Plan *p) {
    const Net *n = p->net;
    p->nodes = arena_alloc(p->arena, (size_t)n->n_nodes * sizeof *p->nodes);
    for (int id = 1; id < n->n_nodes; id++) {
        const NetNode *from = &n->nodes[id];
        PlanNode *to = &p->nodes[id];
        const NetNode *sized = p->sized && id < p->sized->n_nodes ? &p->sized->nodes[id] : from;
        to->op = sized->op, to->attr = sized->attr;      /* a sum may broadcast at one size only */
        to->dtype = from->dtype;
        to->n_src = from->n_src, to->n_param = from->n_param;
        memcpy(to->src, from->src, sizeof to->src);
        memcpy(to->param, from->param, sizeof to->param);
    }
}

/* Drops nodes that no output or loss needs; counts uses; finds where gradients flow. */
static void mark_needed(Plan *p) {
    const PlanSpec *s = &p->spec;
    int n = p->net->n_nodes;
    bool *needed = arena_alloc(p->arena, (size_t)n), *below_loss = arena_alloc(p->arena, (size_t)n);
    for (int i = 0; i < s->n_outputs; i++)
        if (s->outputs[i].id)
            needed[s->outputs[i].id] = true, p->nodes[s->outputs[i].id].is_output = true;
    if (s->loss.id)
        needed[s->loss.id] = below_loss[s->loss.id] = p->nodes[s->loss.id].is_output = true;
    for (int id = n - 1; id > 0; id--) {
        PlanNode *node = &p->nodes[id];
        if (!needed[id]) { if (node->op != &op_input) node->op = NULL; continue; }
        for (int i = 0; i < node->n_src; i++) {
            if (!source_matters(node, i)) continue;
            needed[node->src[i]] = true, p->nodes[node->src[i]].uses++;
            if (below_loss[id]) below_loss[node->src[i]] = true;
        }
        node->uses += node->is_output;
    }
    for (int id = 1; id < n; id++) {
        PlanNode *node = &p->nodes[id];
        bool wants = false;
        for (int i = 0; i < s->n_wanted; i++) wants |= s->wanted[i].id == id;
        for (int i = 0; i < node->n_src; i++)
            wants |= node->op && source_matters(node, i) && p->nodes[node->src[i]].wants_grad;
        for (int i = 0; i < node->n_param; i++) wants |= p->net->params[node->param[i]].trainable;
        node->wants_grad =
            wants && below_loss[id] && node->op && (node->op->backward || node->op == &op_input);
    }
}

/* Kernels, and which values some consumer reads in float32. */
static void choose_kernels(Plan *p) {
    for (int id = 1; id < p->net->n_nodes; id++) {
        PlanNode *n = &p->nodes[id];
        if (!n->op || n->op == &op_input) continue;
        const Kernel *k = p->spec.backend == BACKEND_REF ? NULL : cpu_kernel(p, n);
        n->kernel = k ? k : &kernel_generic;
        for (int i = 0; i < n->n_src; i++)
            if (source_matters(n, i) && !n->kernel->bf16)
                p->nodes[plan_resolve(p, n->src[i])].read_as_float = true;
    }
}

/* ---- emission ------------------------------------------------------------------------------------ */

static Err emit_forward(Plan *p) {
    for (int id = 1; id < p->net->n_nodes; id++) {
        PlanNode *n = &p->nodes[id];
        if (!n->op) continue;
        if (n->op == &op_input) {
            n->value = plan_bound_value(p, p->net->nodes[id].name, n->shape, n->dtype, NULL);
            n->as[LAYOUT_PLAIN][0] = n->value;
            continue;
        }
        TRY(sys_late() ? sys_poll() : OK);
        Err rc = n->kernel->forward(p, n, id);
        if (rc) return err_wrap(rc, "%s", p->net->nodes[id].name);
    }
    return OK;
}

static Err emit_backward(Plan *p) {
    p->emitting_backward = true;
    plan_add_grad(p, p->spec.loss.id,
                  plan_bound_value(p, "d loss", SHAPE(1), DT_F32, (void *)(uintptr_t)&one));
    for (int id = p->spec.loss.id; id > 0; id--) {
        PlanNode *n = &p->nodes[id];
        if (!n->op || n->op == &op_input || !n->wants_grad || n->n_grad == 0) continue;
        TRY(sys_late() ? sys_poll() : OK);
        Err rc = n->kernel->backward(p, n, id);
        if (rc) return err_wrap(rc, "%s, backward", p->net->nodes[id].name);
    }
    return OK;
}

/* Outputs are read as plain float32 after the run. */
static void keep_outputs(Plan *p) {
    for (int i = 0; i < p->spec.n_outputs + 1; i++) {
        Node x = i < p->spec.n_outputs ? p->spec.outputs[i] : p->spec.loss;
        if (!x.id) continue;
        ValueId id = plan_src(p, x.id, LAYOUT_PLAIN);        /* may grow the array of values */
        Value *v = &p->values[id];
        if (v->place == VALUE_ARENA) v->place = VALUE_KEPT;
    }
}

static void keep_wanted(Plan *p) {
    for (int i = 0; i < p->spec.n_wanted; i++) {
        ValueId g = plan_grad(p, p->spec.wanted[i].id, LAYOUT_PLAIN);
        if (g && p->values[g].place == VALUE_ARENA) p->values[g].place = VALUE_KEPT;
    }
}

/* Gradients of parameters that no step writes must still read as zero. */
static void clear_gradients(Net *n) {
    if (n->grads) memset(n->grads, 0, (size_t)n->n_trainable * sizeof *n->grads);
}

static Err compile(Plan *p) {
    TRY(rebuild_for_size(p));
    copy_nodes(p);
    TRY(plan_infer_shapes(p));
    mark_needed(p);
    plan_fuse(p);
    choose_kernels(p);
    if (p->spec.ranges) plan_quantize(p);
    TRY(emit_forward(p));
    keep_outputs(p);
    if (p->spec.loss.id) TRY(emit_backward(p));
    keep_wanted(p);
    return plan_place_memory(p);
}

Err plan_make_once(Net *net, const PlanSpec *spec, Plan **out) {
    if (net->err) return err_set(net->err, "%s", net->err_msg);
    Plan *p = xcalloc(1, sizeof *p);
    p->arena = arena_open(), p->net = net, p->spec = *spec;
    if (spec->backend == BACKEND_REF) p->spec.precision = DT_F32, p->spec.ranges = NULL;
    CHECK(!spec->ranges || !(spec->training || spec->loss.id));
    CHECK(backend_has(spec->precision));
    p->param_written = arena_alloc(p->arena, (size_t)net->n_params + 1);
    Node *outputs =
        arena_alloc(p->arena, (size_t)(spec->n_outputs + spec->n_wanted + 1) * sizeof *outputs);
    for (int i = 0; i < spec->n_outputs; i++) outputs[i] = spec->outputs[i];
    for (int i = 0; i < spec->n_wanted; i++) outputs[spec->n_outputs + i] = spec->wanted[i];
    p->spec.outputs = outputs, p->spec.wanted = outputs + spec->n_outputs;
    Err rc = compile(p);
    if (rc) { plan_close(p); return rc; }
    clear_gradients(net);
    *out = p;
    return OK;
}

Err plan_make(Net *net, const PlanSpec *spec, Plan **out) {
    return spec->choices ? plan_make_tuned(net, spec, out) : plan_make_once(net, spec, out);
}

void plan_close(Plan *p) {
    if (!p) return;
    cpu_close(p);
    block_free(p->arena_block);
    block_free(p->own_block);
    free(p->values), free(p->steps), free(p->param_steps), free(p->needed);
    net_close(p->sized);
    arena_close(p->arena);
    free(p);
}

/* ---- ranges -------------------------------------------------------------------------------------- */

static void widen_range(float *range, const Value *v) {
    const float *f = v->ptr;
    const uint16_t *h = v->ptr;
    const int64_t n = (int64_t)(v->bytes / dtype_bytes(v->dtype));
    float top = *range;
    for (int64_t i = 0; v->dtype == DT_F32 && i < n; i++) top = fmaxf(top, fabsf(f[i]));
    for (int64_t i = 0; v->dtype == DT_BF16 && i < n; i++)
        top = fmaxf(top, fabsf(bf16_to_f32(h[i])));
    *range = top;
}

/* ---- running ------------------------------------------------------------------------------------- */

void plan_bind(Plan *p, Node input, const void *data) {
    PlanNode *n = &p->nodes[input.id];
    CHECK(n->op == &op_input);
    if (n->value) p->values[n->value].ptr = (void *)(uintptr_t)data;
}

static void run_step(Plan *p, Step *s) {
    if (!p->profiling) { s->fn(s); return; }
    uint64_t t = sys_now_ns();
    s->fn(s);
    s->ms = (double)(sys_now_ns() - t) * 1e-6;
}

void plan_watch(Plan *p, float *ranges) { p->watched = ranges; }

/* A node's value may share its memory with the next one's, so it is looked at right after its step. */
static void watch_step(const Plan *p, const Step *s) {
    const Value *v = &p->values[p->nodes[s->node].value];
    for (int i = 0; i < s->n_write; i++)
        if (s->write[i] == p->nodes[s->node].value && s->write[i])
            widen_range(&p->watched[s->node], v);
}

/* Which values are read on the way to those of the nodes. */
static const bool *values_needed(Plan *p, const Node *of, int n_of) {
    if (!p->needed) p->needed = xcalloc((size_t)p->n_values, sizeof *p->needed);
    bool *needed = p->needed;
    memset(needed, 0, (size_t)p->n_values * sizeof *needed);
    for (int i = 0; i < n_of; i++) {
        const PlanNode *n = &p->nodes[plan_resolve(p, of[i].id)];
        needed[n->value] = needed[n->as[LAYOUT_PLAIN][0]] = true;        /* what plan_value shows */
    }
    needed[0] = false;                           /* no value */
    for (int i = p->n_steps - 1; i >= 0; i--) {
        const Step *s = &p->steps[i];
        bool wanted = false;
        for (int k = 0; k < s->n_write; k++) wanted |= needed[s->write[k]];
        for (int k = 0; k < s->n_read && wanted && !s->backward; k++) needed[s->read[k]] = true;
    }
    return needed;
}
static bool writes_any(const Step *s, const bool *needed) {
    for (int i = 0; i < s->n_write; i++)
        if (needed[s->write[i]]) return true;
    return false;
}

void plan_refresh_copies(Plan *p) {
    if (p->version == p->net->version && p->version) {
        for (int i = 0; i < p->n_param_steps; i++) p->param_steps[i].ms = 0;
        return;
    }
    CHECK(!p->spec.ranges || p->version == 0);      /* scales of weights are part of the primitives */
    CHECK(!p->borrows_copies);
    for (int i = 0; i < p->n_param_steps; i++) run_step(p, &p->param_steps[i]);
    p->version = p->net->version;
}

/* needed: of the forward pass, steps that write one of these values alone; NULL: all steps, forward and backward. */
static void run_steps(Plan *p, const OpRun *run, const bool *needed) {
    p->run = *run, p->run.training = p->spec.training;
    plan_refresh_copies(p);
    p->done_flops = 0;
    for (int i = 0; i < p->n_steps && !sys_late(); i++) {
        if (needed && (p->steps[i].backward || !writes_any(&p->steps[i], needed))) {
            p->steps[i].ms = 0;
            continue;
        }
        run_step(p, &p->steps[i]);
        if (p->watched) watch_step(p, &p->steps[i]);
        if (p->steps[i].kind == STEP_CONV) p->done_flops += p->steps[i].flops;
    }
}

void plan_run(Plan *p, const OpRun *run, bool accumulate) {
    p->accumulate = accumulate;
    run_steps(p, run, NULL);
}

void plan_run_forward(Plan *p, const OpRun *run, const Node *of, int n_of) {
    run_steps(p, run, values_needed(p, of, n_of));
}

void plan_run_convs(Plan *p) {
    for (int i = 0; i < p->n_steps; i++)
        if (p->steps[i].kind == STEP_CONV) p->steps[i].fn(&p->steps[i]);
}

const float *plan_value(const Plan *p, Node x) {
    const PlanNode *n = &p->nodes[plan_resolve(p, x.id)];
    CHECK(n->as[LAYOUT_PLAIN][0]);
    return p->values[n->as[LAYOUT_PLAIN][0]].ptr;
}

Err plan_check_finite(const Plan *p, Node x) {
    const float *v = plan_value(p, x);
    const int64_t n = shape_count(plan_shape(p, x));
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return err_set(
                E(EXIT_NUMERIC, 62),
                "%s: its output %s is %g at element %" PRId64
                "; a layer's numbers leave float32: look at the file of weights and the normalisation",
                p->net->name, p->net->nodes[x.id].name, (double)v[i], i);
    return OK;
}

const float *plan_gradient(const Plan *p, Node x) {
    const PlanNode *n = &p->nodes[x.id];
    return n->n_grad ? p->values[n->grad[0]].ptr : NULL;
}

Shape plan_shape(const Plan *p, Node x) { return p->nodes[x.id].shape; }

const void *plan_saved(const Plan *p, Node x) {
    const PlanNode *n = &p->nodes[plan_resolve(p, x.id)];
    return n->saved ? p->values[n->saved].ptr : NULL;
}

/* ---- describing ----------------------------------------------------------------------------------- */

PlanStats plan_stats(const Plan *p) {
    PlanStats s = {.arena_bytes = p->arena_bytes,
                   .param_bytes = p->own_bytes,
                   .peak_bytes = p->peak_bytes,
                   .n_steps = p->n_steps,
                   .n_reorders = p->n_reorders,
                   .done_flops = p->done_flops};
    for (int i = 0; i < p->n_steps; i++) {
        if (p->steps[i].kind == STEP_CONV) s.conv_flops += p->steps[i].flops;
        if (p->steps[i].again) s.again_flops += p->steps[i].flops;
    }
    return s;
}

void plan_profile(Plan *p, bool on) { p->profiling = on; }

static double step_bytes(const Step *s) {
    double sum = 0;
    for (int i = 0; i < s->n_read; i++) sum += (double)s->plan->values[s->read[i]].bytes;
    for (int i = 0; i < s->n_write; i++) sum += (double)s->plan->values[s->write[i]].bytes;
    return sum;
}

int plan_step_times(const Plan *p, StepTime *out, int max) {
    int n = 0;
    for (int k = 0; k < p->n_param_steps + p->n_steps && n < max; k++) {
        const Step *s = k < p->n_param_steps ? &p->param_steps[k] : &p->steps[k - p->n_param_steps];
        out[n++] = (StepTime){p->net->nodes[s->node].name,
                              s->what,
                              s->impl,
                              s->kind,
                              s->backward,
                              s->weights,
                              s->ms,
                              s->flops,
                              step_bytes(s)};
    }
    return n;
}

double plan_macs(const Plan *p) {
    double sum = 0;
    for (int i = 0; i < p->n_steps; i++)
        if (p->steps[i].kind == STEP_CONV && !p->steps[i].backward) sum += p->steps[i].flops / 2;
    return sum;
}
