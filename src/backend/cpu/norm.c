/* norm.c - batch norm with the residual sum and the activation that follow it, in any layout.
 *
 * Forward: one pass over x for the statistics (shifted sums, float in blocks of 64 rows, double above),
 * one that writes y = act((x - mean) * invstd * w + b + residual). Backward: one pass for the sums of
 * g and g * (x - mean), one that writes dx. The mask of the activation is recomputed from x unless a
 * residual was added; then y is read (the next layer keeps it anyway). Work is cut into runs by shape
 * alone and sums are added in run order, so results depend on no schedule and no thread count. */
#include <math.h>

#include "backend/cpu/lanes.h"
#include "backend/plan_priv.h"
#include "base/parallel.h"

enum { RUN_ELEMENTS = 1 << 15 };             /* a run is about this long: it stays in the caches */

typedef struct Norm {
    const BnAttr *attr;
    LayoutDims d;
    Shape shape;
    Dtype t;                                 /* of x, residual, y and their gradients */
    int64_t lanes, chunks, runs;             /* lanes = outer * inner, padded channels */
    NetParam *weight, *bias, *mean, *var, *count;
    bool first_weight, first_bias;
    ValueId x, residual, y, dy, dx, dresidual, saved, scratch;
} Norm;

/* saved, floats of `lanes` each */
enum { SAVED_MEAN, SAVED_SCALE, SAVED_SHIFT, SAVED_INVSTD, SAVED_C1, SAVED_C2, SAVED_COUNT };

typedef struct Pass {
    const Norm *n;
    BnRows base;
    float *saved;
    double *sums;
    void (*fn)(const BnRows *);
    bool sums_only;
} Pass;

static void *offset(const void *p, int64_t bytes) {
    return p ? (char *)(uintptr_t)p + bytes : NULL;
}

/* Run i covers chunk k of plane (image, outer block). */
static void run_rows(void *arg, int64_t i) {
    const Pass *pass = arg;
    const Norm *n = pass->n;
    int64_t chunk = i % n->chunks, plane = i / n->chunks, o = plane % n->d.outer;
    int64_t r0 = n->d.spatial * chunk / n->chunks, r1 = n->d.spatial * (chunk + 1) / n->chunks;
    int64_t at = (plane * n->d.spatial + r0) * n->d.inner, lane = o * n->d.inner;
    BnRows b = pass->base;
    b.rows = r1 - r0, b.inner = (int)n->d.inner, b.act = n->attr->act;
    at *= (int64_t)dtype_bytes(n->t);
    b.x = offset(b.x, at), b.residual = offset(b.residual, at), b.y = offset(b.y, at),
    b.dy = offset(b.dy, at);
    b.out = offset(b.out, at), b.dresidual = offset(b.dresidual, at);
    b.mean = pass->saved + SAVED_MEAN * n->lanes + lane;
    b.scale = pass->saved + SAVED_SCALE * n->lanes + lane,
    b.shift = pass->saved + SAVED_SHIFT * n->lanes + lane;
    b.c1 = pass->saved + SAVED_C1 * n->lanes + lane,
    b.c2 = pass->saved + SAVED_C2 * n->lanes + lane;
    if (pass->sums) b.sum = pass->sums + i * 2 * n->d.inner, b.sum2 = b.sum + n->d.inner;
    pass->fn(&b);
}

/* Sums of channel c over all runs, in run order. */
static void total(const Norm *n, const double *sums, int64_t c, double *sum, double *sum2) {
    int64_t o = c / n->d.inner, lane = c % n->d.inner;
    *sum = *sum2 = 0;
    for (int64_t image = 0; image < n->d.n; image++)
        for (int64_t k = 0; k < n->chunks; k++) {
            const double *s =
                sums + ((image * n->d.outer + o) * n->chunks + k) * 2 * n->d.inner + lane;
            *sum += s[0], *sum2 += s[n->d.inner];
        }
}

static bool uses_batch(const Norm *n, const OpRun *run) {
    return run->training && !n->attr->frozen;
}

static void update_running(const Norm *n, int64_t c, double mean, double var, double m) {
    double k = n->attr->momentum > 0 ? (double)n->attr->momentum : 0.1;
    n->mean->data[c] = (float)((1 - k) * n->mean->data[c] + k * mean);
    if (m > 1) n->var->data[c] = (float)((1 - k) * n->var->data[c] + k * var * m / (m - 1));
}

/* The shift of the sums is the first value of each channel: close to the mean, and no cancellation. */
static void first_values(const Norm *n, const void *x, float *mean) {
    for (int64_t c = 0; c < n->lanes; c++) {
        int64_t at = (c / n->d.inner) * n->d.spatial * n->d.inner + c % n->d.inner;
        mean[c] = n->t == DT_BF16 ? bf16_to_f32(((const uint16_t *)x)[at]) : ((const float *)x)[at];
    }
}

static void batch_statistics(const Step *s, const Norm *n, float *saved, const void *x) {
    Pass pass = {.n = n,
                 .saved = saved,
                 .sums = step_ptr(s, n->scratch),
                 .fn = lanes(n->t)->bn_sums,
                 .base.x = x};
    float *mean = saved + SAVED_MEAN * n->lanes, *invstd = saved + SAVED_INVSTD * n->lanes;
    first_values(n, x, mean);
    parallel_for(n->runs, run_rows, &pass);
    double m = (double)(n->d.n * n->d.spatial),
           eps = n->attr->eps > 0 ? (double)n->attr->eps : 1e-5;
    for (int64_t c = 0; c < n->lanes; c++) {
        double sum, sum2;
        total(n, pass.sums, c, &sum, &sum2);
        double delta = sum / m, var = sum2 / m - delta * delta;
        if (var < 0) var = 0;
        if (c < n->shape.d[1]) update_running(n, c, mean[c] + delta, var, m);
        mean[c] = (float)(mean[c] + delta), invstd[c] = (float)(1 / sqrt(var + eps));
    }
    n->count->count++;
}

static void running_statistics(const Norm *n, float *saved) {
    double eps = n->attr->eps > 0 ? (double)n->attr->eps : 1e-5;
    for (int64_t c = 0; c < n->lanes; c++) {
        bool real = c < n->shape.d[1];
        saved[SAVED_MEAN * n->lanes + c] = real ? n->mean->data[c] : 0;
        saved[SAVED_INVSTD * n->lanes + c] =
            real ? (float)(1 / sqrt((double)n->var->data[c] + eps)) : 0;
    }
}

static void apply(const Step *s, const Norm *n) {
    Pass pass = {.n = n,
                 .saved = step_ptr(s, n->saved),
                 .fn = lanes(n->t)->bn_apply,
                 .base = {.x = step_ptr(s, n->x),
                          .residual = step_ptr(s, n->residual),
                          .out = step_ptr(s, n->y)}};
    parallel_for(n->runs, run_rows, &pass);
}

static void run_forward(const Step *s) {
    const Norm *n = s->state;
    float *saved = step_ptr(s, n->saved);
    const void *x = step_ptr(s, n->x);
    if (uses_batch(n, &s->plan->run)) batch_statistics(s, n, saved, x);
    else running_statistics(n, saved);
    for (int64_t c = 0; c < n->lanes; c++) {
        bool real = c < n->shape.d[1];
        float scale = real ? n->weight->data[c] * saved[SAVED_INVSTD * n->lanes + c] : 0;
        saved[SAVED_SCALE * n->lanes + c] = scale;
        saved[SAVED_SHIFT * n->lanes + c] =
            real ? n->bias->data[c] - saved[SAVED_MEAN * n->lanes + c] * scale : 0;
    }
    apply(s, n);
}

/* y once more from x and the saved scale and shift: the same kernel, so the same bits. */
static void run_again(const Step *s) { apply(s, s->state); }

static void store(NetParam *p, int64_t c, double v, bool overwrite) {
    if (p->grad) p->grad[c] = overwrite ? (float)v : p->grad[c] + (float)v;
}

static void run_backward(const Step *s) {
    const Norm *n = s->state;
    float *saved = step_ptr(s, n->saved);
    Pass pass = {.n = n,
                 .saved = saved,
                 .sums = step_ptr(s, n->scratch),
                 .fn = lanes(n->t)->bn_backward_sums,
                 .base = {.x = step_ptr(s, n->x),
                          .y = step_ptr(s, n->y),
                          .dy = step_ptr(s, n->dy),
                          .dresidual = step_ptr(s, n->dresidual)}};
    parallel_for(n->runs, run_rows, &pass);
    bool batch = uses_batch(n, &s->plan->run), keep = s->plan->accumulate;
    double m = (double)(n->d.n * n->d.spatial);
    for (int64_t c = 0; c < n->lanes; c++) {
        double sum, sum2, invstd = saved[SAVED_INVSTD * n->lanes + c];
        total(n, pass.sums, c, &sum, &sum2);
        saved[SAVED_C1 * n->lanes + c] = batch ? (float)(sum / m) : 0;
        saved[SAVED_C2 * n->lanes + c] = batch ? (float)(sum2 * invstd * invstd / m) : 0;
        if (c >= n->shape.d[1]) continue;
        store(n->weight, c, sum2 * invstd, n->first_weight && !keep);
        store(n->bias, c, sum, n->first_bias && !keep);
    }
    if (!n->dx) return;
    pass.fn = lanes(n->t)->bn_backward, pass.sums = NULL, pass.base.out = step_ptr(s, n->dx);
    parallel_for(n->runs, run_rows, &pass);
}

static Norm *describe(Plan *p, const PlanNode *node, Layout l) {
    Norm *n = arena_alloc(p->arena, sizeof *n);
    n->attr = node->attr, n->shape = node->shape, n->t = plan_type(p);
    n->d = layout_dims(l, node->shape);
    n->lanes = n->d.outer * n->d.inner;
    n->chunks = n->d.spatial * n->d.inner / RUN_ELEMENTS;
    if (n->chunks < 1) n->chunks = 1;
    n->runs = n->d.n * n->d.outer * n->chunks;
    NetParam **to[] = {&n->weight, &n->bias, &n->mean, &n->var, &n->count};
    for (int i = 0; i < 5; i++) *to[i] = &p->net->params[node->param[i]];
    return n;
}

static size_t sums_bytes(const Norm *n) {
    return (size_t)(n->runs * 2 * n->d.inner) * sizeof(double);
}

static ValueId norm_remake(Plan *p, PlanNode *node, int id) {
    Layout l = p->values[node->value].layout;
    Norm *n = describe(p, node, l);
    n->x = plan_src_as(p, node->src[0], l, n->t), n->saved = node->saved;
    n->y = plan_new_value(p, p->net->nodes[id].name, node->shape, n->t, l);
    Step *s = plan_step(p, id, "forward again", run_again, n);
    s->kind = STEP_NORM, s->again = true;
    step_reads(s, n->x), step_reads(s, n->saved), step_writes(s, n->y);
    return n->y;
}

static Err norm_forward(Plan *p, PlanNode *node, int id) {
    Layout l = plan_layout(p, node->src[0]);
    Norm *n = describe(p, node, l);
    n->x = plan_src_as(p, node->src[0], l, n->t);
    if (n->attr->residual) n->residual = plan_src_as(p, node->src[1], l, n->t);
    node->saved = n->saved =
        plan_new_bytes(p, "statistics", (size_t)(SAVED_COUNT * n->lanes) * sizeof(float));
    n->scratch = plan_new_bytes(p, "partial sums", sums_bytes(n));
    n->y = plan_dst_as(p, id, l, n->t);
    Step *s = plan_step(p, id, "forward", run_forward, n);
    s->kind = STEP_NORM;
    step_reads(s, n->x), step_reads(s, n->residual);
    step_writes(s, n->saved), step_writes(s, n->scratch), step_writes(s, n->y);
    s->in_place_src = n->attr->residual ? n->residual : n->x, s->in_place_dst = n->y;
    node->remake = !n->attr->residual && plan_remakes_norm(p, node) ? norm_remake : NULL;
    return OK;
}

static Err norm_backward(Plan *p, PlanNode *node, int id) {
    Layout l = p->values[node->value].layout;
    Norm *n = describe(p, node, l);
    const char *name = p->net->nodes[id].name;
    n->x = plan_src_as(p, node->src[0], l, n->t), n->dy = plan_grad_as(p, id, l, n->t),
    n->saved = node->saved;
    if (n->attr->residual && n->attr->act) n->y = plan_src_as(p, id, l, n->t);
    if (n->attr->residual && plan_wants_grad(p, node->src[1]))
        n->dresidual = plan_new_value(p, name, node->shape, n->t, l);
    if (plan_wants_grad(p, node->src[0])) n->dx = plan_new_value(p, name, node->shape, n->t, l);
    n->scratch = plan_new_bytes(p, "partial sums", sums_bytes(n));
    if (n->weight->trainable) n->first_weight = plan_param_first(p, node->param[0]);
    if (n->bias->trainable) n->first_bias = plan_param_first(p, node->param[1]);
    Step *s = plan_step(p, id, "backward", run_backward, n);
    s->kind = STEP_NORM;
    step_reads(s, n->x), step_reads(s, n->dy), step_reads(s, n->y), step_reads(s, n->saved);
    step_writes(s, n->dresidual), step_writes(s, n->dx), step_writes(s, n->scratch);
    s->in_place_src = n->dy, s->in_place_dst = n->dresidual ? n->dresidual : n->dx;
    plan_add_grad(p, node->src[0], n->dx);
    if (n->attr->residual) plan_add_grad(p, node->src[1], n->dresidual);
    return OK;
}

static bool norm_accepts(const Plan *p, const PlanNode *n) { return n->shape.rank == 4; }
const Kernel cpu_batch_norm = {&op_batch_norm, true, norm_accepts, norm_forward, norm_backward};
