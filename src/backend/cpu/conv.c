/* conv.c - convolutions by oneDNN: forward, data gradient, weight gradient.
 *
 * oneDNN chooses the layouts; plan_src and plan_grad insert a reorder where a producer chose another.
 * Weights are copied into the primitive's layout by the parameter steps, so a frozen network pays once.
 * For inference batch norm is folded into that copy:
 *     w' = w * g / sqrt(var + eps)     b' = (b - mean) * g / sqrt(var + eps) + beta
 * Weight gradients come out in oneDNN's layout and are reordered into (or added to) the net's block. */
#include <math.h>
#include <string.h>

#include "backend/cpu/conv_priv.h"

static void run_prim_with(const Step *s, const PrimStep *ps, DnnPrim *prim) {
    void *ptr[DNN_ARG_COUNT];
    for (int i = 0; i < DNN_ARG_COUNT; i++) ptr[i] = step_ptr(s, ps->value[i]);
    dnn_run(prim, ptr);
}
static void run_prim(const Step *s) {
    const PrimStep *ps = s->state;
    if (ps->residual && step_ptr(s, ps->residual) != step_ptr(s, ps->value[DNN_DST]))
        memcpy(step_ptr(s, ps->value[DNN_DST]), step_ptr(s, ps->residual),
               s->plan->values[ps->residual].bytes);
    run_prim_with(s, ps, ps->prim);
}
/* Into a gradient that lives in the net: overwrite first, add afterwards or when accumulating. */
static void run_gradient_reorder(const Step *s) {
    const PrimStep *ps = s->state;
    run_prim_with(s, ps, ps->overwrite && !s->plan->accumulate ? ps->prim : ps->alternative);
}

PrimStep *new_prim_step(Plan *p, DnnPrim *prim) {
    PrimStep *ps = arena_alloc(p->arena, sizeof *ps);
    ps->prim = prim;
    ps->value[DNN_SCRATCH] = plan_new_bytes(p, "scratch", dnn_prim_scratch(prim));
    return ps;
}

Step *emit_prim(Plan *p, int node, const char *what, PrimStep *ps, DnnArg writes, DnnArg writes_too,
                StepKind kind) {
    Step *s = plan_step(p, node, what, run_prim, ps);
    s->kind = kind, s->impl = dnn_prim_impl(ps->prim);
    for (int i = 0; i < DNN_ARG_COUNT; i++) {
        if (!ps->value[i]) continue;
        if (i == (int)writes || i == (int)writes_too || i == DNN_SCRATCH)
            step_writes(s, ps->value[i]);
        else step_reads(s, ps->value[i]);
    }
    return s;
}

Err cpu_reorder_step(Plan *p, ValueId from, ValueId to, int node) {
    const Value a = p->values[from], b = p->values[to];
    DnnPrim *prim = dnn_rescale(p, dnn_md_activation(p, a.shape, a.dtype, (int)a.layout),
                                dnn_md_activation(p, b.shape, b.dtype, (int)b.layout),
                                (a.scale > 0 ? a.scale : 1) / (b.scale > 0 ? b.scale : 1));
    PrimStep *ps = new_prim_step(p, prim);
    ps->value[DNN_SRC] = from, ps->value[DNN_DST] = to;
    emit_prim(p, node, "reorder", ps, DNN_DST, DNN_DST, STEP_REORDER);
    return OK;
}

/* ---- weights --------------------------------------------------------------------------------------- */

typedef struct Fold {
    const float *w, *bias, *bn[4];
    int64_t out, per_out;
    float   eps;
    float  *unit, *scales;                   /* [out], of 8-bit weights: what 1 stands for, and DnnConv.scales; or NULL */
    double  dst_unit;                        /* what 1 of the result stands for */
    ValueId fw, fb;
} Fold;
static double fold_scale(const Fold *f, int64_t o) {
    return f->bn[0] ? f->bn[0][o] / sqrt((double)f->bn[3][o] + f->eps) : 1.0;
}

static void run_fold(const Step *s) {
    const Fold *f = s->state;
    float *w = step_ptr(s, f->fw), *b = step_ptr(s, f->fb);
    int8_t *q = step_ptr(s, f->fw);
    for (int64_t o = 0; o < f->out; o++) {
        const double scale = fold_scale(f, o),
                     shift = f->bn[0] ? f->bn[1][o] - f->bn[2][o] * scale : 0.0;
        const double bias = (f->bias ? f->bias[o] : 0.0) * scale + shift;
        for (int64_t i = o * f->per_out; i < (o + 1) * f->per_out; i++)
            if (f->unit) q[i] = (int8_t)lrint(f->w[i] * scale / f->unit[o]);
            else w[i] = (float)(f->w[i] * scale);
        b[o] = f->unit ? dnn_scaled_bias((float)(bias / f->dst_unit), f->scales[o]) : (float)bias;
    }
}

ValueId weights_copy(Plan *p, int node, ValueId plain, Shape shape, int groups, Dtype t,
                     const DnnMd *md) {
    DnnMd *from = dnn_md_weights(p, shape, groups, t, false);
    if (dnn_md_equal(from, md)) return plain;
    PrimStep *ps = new_prim_step(p, dnn_reorder(p, from, md, false));
    ps->value[DNN_SRC] = plain, ps->value[DNN_DST] = plan_own_value(p, "weights", dnn_md_bytes(md));
    if (ps->value[DNN_SCRATCH]) p->values[ps->value[DNN_SCRATCH]].place = VALUE_OWN;
    p->emitting_params = true;
    Step *s = emit_prim(p, node, "weights reorder", ps, DNN_DST, DNN_DST, STEP_REORDER);
    s->weights = true;
    p->emitting_params = false;
    return ps->value[DNN_DST];
}

ValueId weights_room(Plan *p, const NetParam *w, Shape shape, int groups, const DnnMd *md) {
    size_t bytes = (size_t)shape_count(shape) * sizeof(float);
    bool is_plain = dnn_md_equal(dnn_md_weights(p, shape, groups, DT_F32, false), md);
    return is_plain ? plan_own_value(p, w->name, bytes) : plan_param_scratch(p, bytes);
}

typedef struct { ValueId weights, bias; } PlainWeights;

static Fold *new_fold(Plan *p, const PlanNode *n) {
    const ConvAttr *a = n->attr;
    const NetParam *w = &p->net->params[n->param[0]],
                   *b = a->bias ? &p->net->params[n->param[1]] : NULL;
    Fold *f = arena_alloc(p->arena, sizeof *f);
    *f = (Fold){.w = w->data, .bias = b ? b->data : NULL, .out = w->shape.d[0], .per_out = shape_count(w->shape) / w->shape.d[0], .eps = a->eps};
    for (int i = 0; i < 4 && a->bn; i++) f->bn[i] = p->net->params[n->param[1 + a->bias + i]].data;
    return f;
}

/* The largest weight of each output channel is 127; what there is besides folds into scales:
 *     dst / dst_unit = sum of q_w q_src * (unit src_unit / dst_unit) + bias / dst_unit + ... */
static void scale_weights(Plan *p, Fold *f, double src_unit, double dst_unit) {
    static const double NOTHING = 1e-20;     /* a channel of such weights is one of zeros */
    f->dst_unit = dst_unit;
    f->unit = arena_alloc(p->arena, 2 * (size_t)f->out * sizeof *f->unit),
    f->scales = f->unit + f->out;
    for (int64_t o = 0; o < f->out; o++) {
        double top = 0;
        for (int64_t i = o * f->per_out; i < (o + 1) * f->per_out; i++)
            top = fmax(top, fabs(f->w[i] * fold_scale(f, o)));
        f->unit[o] = top > NOTHING ? (float)(top / 127) : 1.0f;
        f->scales[o] = (float)(f->unit[o] * src_unit / dst_unit);
    }
}

static PlainWeights plain_weights(Plan *p, const PlanNode *n, int id, Fold *f, const DnnMd *md) {
    const ConvAttr *a = n->attr;
    NetParam *w = &p->net->params[n->param[0]];
    NetParam *b = a->bias ? &p->net->params[n->param[1]] : NULL;
    PlainWeights out = {plan_bound_value(p, w->name, w->shape, DT_F32, w->data),
                        b ? plan_bound_value(p, b->name, b->shape, DT_F32, b->data) : 0};
    if (!a->bn && !f->unit) return out;
    out.weights = f->fw = f->unit ? plan_own_value(p, w->name, (size_t)shape_count(w->shape))
                                  : weights_room(p, w, w->shape, a->groups, md);
    out.bias = f->fb = plan_own_value(p, w->name, (size_t)f->out * sizeof(float));
    p->emitting_params = true;
    Step *s = plan_step(p, id, "fold batch norm", run_fold, f);
    s->weights = true;
    step_writes(s, f->fw), step_writes(s, f->fb);
    p->emitting_params = false;
    return out;
}

/* ---- passes ---------------------------------------------------------------------------------------- */

/* The last convolution of a head: what reads it computes in float32, and its logits are worth the bits. */
static bool feeds_float(const Plan *p, const PlanNode *n) {
    return n->is_output || n->read_as_float;
}

DnnConv conv_describe(const Plan *p, const PlanNode *n, DnnPass pass) {
    const ConvAttr *a = n->attr;
    DnnConv c = {.src = p->nodes[n->src[0]].shape,
                 .weights = p->net->params[n->param[0]].shape,
                 .dst = n->shape,
                 .stride = a->stride,
                 .dilation = a->dilation,
                 .groups = a->groups,
                 .src_layout = -1,
                 .dst_layout = -1,
                 .bias = a->bias || a->bn,
                 .inference = !p->spec.training && !p->spec.loss.id,
                 .residual = a->residual,
                 .act = a->act,
                 .t = plan_type(p),
                 .dst_t = plan_type(p),
                 .pass = pass};
    if (pass == DNN_FORWARD && feeds_float(p, n)) c.dst_t = DT_F32;
    if (pass == DNN_BACKWARD_DATA) c.bias = false;
    conv_padding(a, c.src, c.pad, c.pad_end);
    return c;
}

/* The same on 8-bit integers: what quantize.c decided. */
static void describe_int8(Plan *p, const PlanNode *n, Fold *f, DnnConv *c) {
    const bool kept = n->stored != DT_F32;
    const double unit = kept ? n->scale : 1;
    const PlanNode *r = c->residual ? &p->nodes[plan_resolve(p, n->src[1])] : NULL;
    scale_weights(p, f, p->nodes[plan_resolve(p, n->src[0])].scale, unit);
    c->t = DT_U8, c->bias = true, c->scales = f->scales, c->six = (float)(6 / unit);
    if (kept) c->dst_t = n->stored;
    c->residual_t = kept && r ? (r->not_negative ? DT_U8 : DT_I8) : c->dst_t;
    c->residual_scale = kept && r ? (float)(r->scale / unit) : 1;
}

static Err create_in(Plan *p, DnnConv *c, int layout, DnnPrim **prim, Layout *src, Layout *dst,
                     bool *usable) {
    c->src_layout = c->dst_layout = layout;
    TRY(dnn_conv(p, c, prim));
    *usable = dnn_md_layout(dnn_prim_md(*prim, DNN_SRC), src) && dnn_md_layout(dnn_prim_md(*prim, DNN_DST), dst);
    return OK;
}
bool conv_unfolds(const DnnPrim *prim) { return strstr(dnn_prim_impl(prim), "gemm") != NULL; }
bool conv_depthwise(const DnnPrim *prim) { return strstr(dnn_prim_impl(prim), "dw") != NULL; }

Err conv_create(Plan *p, DnnConv c, Way way, DnnPrim **prim, Layout *src, Layout *dst) {
    static const int tries[] = {-1, LAYOUT_LAST, LAYOUT_PLAIN};
    bool usable;
    for (size_t i = way == WAY_ANY ? 0 : 1; i < sizeof tries / sizeof *tries; i++) {
        TRY(create_in(p, &c, tries[i], prim, src, dst, &usable));
        if (usable) return OK;
    }
    return err_set(E(EXIT_BUG, 0), "no usable layout for a convolution of %s", shape_text(c.src).s);
}

Err conv_folded_way(Plan *p, const DnnConv *c, Way *out, bool *unfolds) {
    static const Way tries[] = {WAY_ANY, WAY_LAST};
    for (int i = 0; i < 2; i++) {
        DnnPrim *prim;
        Layout src, dst;
        TRY(conv_create(p, *c, *out = tries[i], &prim, &src, &dst));
        if (!(*unfolds = conv_unfolds(prim))) return OK;
    }
    return *out = WAY_ANY, OK;
}

double conv_flops(const DnnConv *c) {
    return 2.0 * (double)shape_count(c->dst) * (double)(shape_count(c->weights) / c->weights.d[0]);
}

/* The same primitive on the same numbers: the same bits. */
static ValueId conv_remake(Plan *p, PlanNode *n, int id) {
    const PrimStep *was = n->forward;
    const Value src = p->values[was->value[DNN_SRC]], dst = p->values[n->value];
    PrimStep *ps = new_prim_step(p, was->prim);
    ps->value[DNN_WEIGHTS] = was->value[DNN_WEIGHTS], ps->value[DNN_BIAS] = was->value[DNN_BIAS];
    ps->value[DNN_SRC] = plan_src_as(p, n->src[0], src.layout, src.dtype);
    ps->value[DNN_DST] = plan_new_value(p, dst.name, dst.shape, dst.dtype, dst.layout);
    Step *s = emit_prim(p, id, "forward again", ps, DNN_DST, DNN_DST, STEP_CONV);
    const DnnConv c = conv_describe(p, n, DNN_FORWARD);
    s->flops = conv_flops(&c), s->again = true;
    return ps->value[DNN_DST];
}

static Err emit_forward(Plan *p, PlanNode *n, int id, Way way) {
    const ConvAttr *a = n->attr;
    DnnConv c = conv_describe(p, n, DNN_FORWARD);
    Fold *f = new_fold(p, n);
    DnnPrim *prim;
    Layout src, dst;
    if (way == WAY_OWN) {
        DnnMd *md = dnn_md_weights(p, c.weights, c.groups, DT_F32, false);
        PlainWeights w = plain_weights(p, n, id, f, md);
        return depthwise_forward(p, n, id, w.weights, w.bias, c.act);
    }
    c.residual_t = c.dst_t;
    if (n->int8) describe_int8(p, n, f, &c);
    TRY(conv_create(p, c, way, &prim, &src, &dst));
    PlainWeights w = plain_weights(p, n, id, f, dnn_prim_md(prim, DNN_WEIGHTS));
    PrimStep *ps = new_prim_step(p, prim);
    ps->value[DNN_WEIGHTS] = weights_copy(p, id, w.weights, c.weights, c.groups,
                                          n->int8 ? DT_I8 : DT_F32, dnn_prim_md(prim, DNN_WEIGHTS));
    ps->value[DNN_BIAS] = w.bias;
    ps->value[DNN_SRC] = plan_src_as(p, n->src[0], src, c.t);
    if (a->residual) ps->residual = plan_src_as(p, n->src[1], dst, c.residual_t);
    ps->value[DNN_DST] = plan_dst_as(p, id, dst, c.dst_t);
    Step *s = emit_prim(p, id, "forward", ps, DNN_DST, DNN_DST, STEP_CONV);
    s->flops = conv_flops(&c);
    n->forward = ps, n->remake = plan_remakes_conv(p, n) ? conv_remake : NULL;
    if (a->residual)
        step_reads(s, ps->residual), s->in_place_src = ps->residual,
                                     s->in_place_dst = ps->value[DNN_DST];
    return OK;
}

static Err emit_data(Plan *p, PlanNode *n, int id, Way way) {
    DnnConv c = conv_describe(p, n, DNN_BACKWARD_DATA);
    DnnPrim *prim;
    Layout src, dst;
    if (way == WAY_OWN)
        return depthwise_fits(p, n, &c) ? depthwise_data(p, n, id) : dilated_data(p, n, id, &c);
    TRY(conv_create(p, c, way, &prim, &src, &dst));
    NetParam *w = &p->net->params[n->param[0]];
    ValueId plain = plan_bound_value(p, w->name, w->shape, DT_F32, w->data);
    PrimStep *ps = new_prim_step(p, prim);
    ps->value[DNN_WEIGHTS] =
        weights_copy(p, id, plain, c.weights, c.groups, DT_F32, dnn_prim_md(prim, DNN_WEIGHTS));
    ps->value[DNN_DST] = plan_grad_as(p, id, dst, c.t);
    ps->value[DNN_SRC] = plan_new_value(p, p->net->nodes[id].name, c.src, c.t, src);
    Step *s = emit_prim(p, id, "backward data", ps, DNN_SRC, DNN_SRC, STEP_CONV);
    s->flops = conv_flops(&c);
    plan_add_grad(p, n->src[0], ps->value[DNN_SRC]);
    return OK;
}

/* gradient block of a parameter += or = the value a primitive left in layout md */
static void store_gradient(Plan *p, int id, int param, ValueId from, const DnnMd *md,
                           const DnnMd *plain) {
    NetParam *w = &p->net->params[param];
    PrimStep *ps = new_prim_step(p, dnn_reorder(p, md, plain, false));
    ps->alternative = dnn_reorder(p, md, plain, true);
    size_t scratch = dnn_prim_scratch(ps->alternative);
    if (scratch > dnn_prim_scratch(ps->prim))
        ps->value[DNN_SCRATCH] = plan_new_bytes(p, "scratch", scratch);
    ps->value[DNN_SRC] = from;
    ps->value[DNN_DST] = plan_bound_value(p, w->name, w->shape, DT_F32, w->grad);
    ps->overwrite = plan_param_first(p, param);
    Step *s = emit_prim(p, id, "store gradient", ps, DNN_DST, DNN_DST, STEP_REORDER);
    s->fn = run_gradient_reorder;
}

static Err emit_weights(Plan *p, PlanNode *n, int id, Way way) {
    const ConvAttr *a = n->attr;
    DnnConv c = conv_describe(p, n, DNN_BACKWARD_WEIGHTS);
    DnnPrim *prim;
    Layout src, dst;
    if (way == WAY_OWN)
        return depthwise_fits(p, n, &c) ? depthwise_weights(p, n, id) : dilated_weights(p, n, id, &c);
    TRY(conv_create(p, c, way, &prim, &src, &dst));
    PrimStep *ps = new_prim_step(p, prim);
    ps->value[DNN_SRC] = plan_src_as(p, n->src[0], src, c.t);
    ps->value[DNN_DST] = plan_grad_as(p, id, dst, c.t);
    ps->value[DNN_WEIGHTS] =
        plan_new_bytes(p, "weight gradient", dnn_md_bytes(dnn_prim_md(prim, DNN_WEIGHTS)));
    if (a->bias)
        ps->value[DNN_BIAS] =
            plan_new_bytes(p, "bias gradient", (size_t)c.weights.d[0] * sizeof(float));
    Step *s = emit_prim(p, id, "backward weights", ps, DNN_WEIGHTS, DNN_BIAS, STEP_CONV);
    s->flops = conv_flops(&c);
    store_gradient(p, id, n->param[0], ps->value[DNN_WEIGHTS], dnn_prim_md(prim, DNN_WEIGHTS),
                   dnn_md_weights(p, c.weights, c.groups, DT_F32, false));
    if (a->bias)
        store_gradient(p, id, n->param[1], ps->value[DNN_BIAS], dnn_md_vector(p, c.weights.d[0]),
                       dnn_md_vector(p, c.weights.d[0]));
    return OK;
}

static Err conv_forward(Plan *p, PlanNode *n, int id) {
    return ways_emit(p, n, id, &(ConvPass){"forward", DNN_FORWARD, emit_forward});
}

static Err conv_backward(Plan *p, PlanNode *n, int id) {
    static const ConvPass weights = {"weights", DNN_BACKWARD_WEIGHTS, emit_weights},
                          data = {"data", DNN_BACKWARD_DATA, emit_data};
    if (p->net->params[n->param[0]].trainable) TRY(ways_emit(p, n, id, &weights));
    if (plan_wants_grad(p, n->src[0])) TRY(ways_emit(p, n, id, &data));
    return OK;
}

static bool conv_accepts(const Plan *p, const PlanNode *n) { return n->shape.rank == 4; }
const Kernel cpu_conv = {&op_conv2d, true, conv_accepts, conv_forward, conv_backward};
