/* depthwise.c - 3x3 and 5x5 depthwise convolutions where oneDNN has no kernel for them (widely dilated or strided ones,
 * most backward passes) and takes five to fifty times as long: usual_way in ways.c.
 *
 * A forward pass is the data pass of the turned kernel. Work is one block of up to 16 channels of one image. The
 * weights' gradient is summed per block in double and over the images in their order, so it depends on no schedule. */
#include <string.h>

#include "backend/cpu/conv_priv.h"
#include "backend/cpu/lanes.h"
#include "base/parallel.h"

enum { LANES = DW_LANES };

typedef struct Depthwise {
    LayoutDims d;
    Shape in, out;                           /* of dx and dy; forward: of y and x, turned */
    Dtype t;
    bool turned;
    Act act;
    int side, taps, stride, dilation, pad[2];
    int64_t blocks;                          /* of LANES channels or fewer, in one image */
    NetParam *weight;
    bool first;                              /* overwrite the gradient unless accumulating */
    ValueId weights, bias;                   /* plain; of a forward pass perhaps folded. bias: or 0 */
    ValueId x, dy, dx, sums;                 /* sums: [n][blocks][taps][LANES] double */
} Depthwise;
typedef struct {
    const Depthwise *d;
    const char *x, *dy;
    const float *weights, *bias;
    char *dx;
    double *sums;
} DepthwiseRun;

static int64_t in_block(const Depthwise *d) { return d->d.inner < LANES ? d->d.inner : LANES; }

/* The block's planes; blocks cut `inner`, never `outer`. */
static DwBlock block_of(const DepthwiseRun *r, int64_t i) {
    const Depthwise *d = r->d;
    int64_t size = in_block(d), per_outer = (d->d.inner + size - 1) / size;
    int64_t image = i / d->blocks, k = i % d->blocks, outer = k / per_outer,
            c0 = k % per_outer * size;
    int64_t lanes = d->d.inner - c0 < size ? d->d.inner - c0 : size,
            bytes = (int64_t)dtype_bytes(d->t);
    int64_t plane = image * d->d.outer + outer;
    int64_t at_in = (plane * d->in.d[2] * d->in.d[3] * d->d.inner + c0) * bytes,
            at_out = (plane * d->out.d[2] * d->out.d[3] * d->d.inner + c0) * bytes;
    return (DwBlock){.x = r->x ? r->x + at_in : NULL,
                     .dy = r->dy + at_out,
                     .dx = r->dx ? r->dx + at_in : NULL,
                     .sums = r->sums ? r->sums + i * d->taps * LANES : NULL,
                     .first_channel = outer * d->d.inner + c0,
                     .lanes = (int)lanes,
                     .pixel = d->d.inner,
                     .in_h = d->in.d[2],
                     .in_w = d->in.d[3],
                     .out_h = d->out.d[2],
                     .out_w = d->out.d[3],
                     .act = d->act,
                     .side = d->side,
                     .stride = d->stride,
                     .dilation = d->dilation,
                     .pad_y = d->pad[0],
                     .pad_x = d->pad[1]};
}

static void data_block(void *arg, int64_t i) {
    const DepthwiseRun *r = arg;
    const int taps = r->d->taps;
    DwBlock b = block_of(r, i);
    float w[DW_TAPS_MAX][LANES] = {{0}}, bias[LANES] = {0};
    for (int c = 0; c < b.lanes && b.first_channel + c < r->d->in.d[1]; c++) {
        const float *from = r->weights + (b.first_channel + c) * taps;
        for (int k = 0; k < taps; k++) w[k][c] = from[r->d->turned ? taps - 1 - k : k];
        if (r->bias) bias[c] = r->bias[b.first_channel + c];
    }
    b.w = w, b.bias = bias;
    lanes(r->d->t)->dw_data(&b);
}
static void weights_block(void *arg, int64_t i) {
    const DepthwiseRun *r = arg;
    DwBlock b = block_of(r, i);
    lanes(r->d->t)->dw_weights(&b);
}

static DepthwiseRun run_of(const Step *s) {
    const Depthwise *d = s->state;
    return (DepthwiseRun){d,
                          step_ptr(s, d->x),
                          step_ptr(s, d->dy),
                          step_ptr(s, d->weights),
                          step_ptr(s, d->bias),
                          step_ptr(s, d->dx),
                          step_ptr(s, d->sums)};
}
static void run_data(const Step *s) {
    DepthwiseRun r = run_of(s);
    parallel_for(r.d->d.n * r.d->blocks, data_block, &r);
}
static void run_weights(const Step *s) {
    DepthwiseRun r = run_of(s);
    const Depthwise *d = r.d;
    parallel_for(d->d.n * d->blocks, weights_block, &r);
    bool overwrite = d->first && !s->plan->accumulate;
    for (int64_t i = 0; i < d->blocks; i++) {
        DwBlock b = block_of(&r, i);
        for (int c = 0; c < b.lanes && b.first_channel + c < d->in.d[1]; c++)
            for (int k = 0; k < d->taps; k++) {
                double sum = 0;
                for (int64_t image = 0; image < d->d.n; image++)
                    sum += r.sums[((image * d->blocks + i) * d->taps + k) * LANES + c];
                float *g = &d->weight->grad[(b.first_channel + c) * d->taps + k];
                *g = overwrite ? (float)sum : *g + (float)sum;
            }
    }
}

static Depthwise *describe(Plan *p, const PlanNode *n, Layout l) {
    const ConvAttr *a = n->attr;
    Depthwise *d = arena_alloc(p->arena, sizeof *d);
    int64_t pad[2], pad_end[2];
    d->in = p->nodes[n->src[0]].shape, d->out = n->shape, d->t = plan_type(p);
    conv_padding(a, d->in, pad, pad_end);
    d->side = a->kh, d->taps = a->kh * a->kw, d->stride = a->stride, d->dilation = a->dilation;
    d->d = layout_dims(l, d->in), d->pad[0] = (int)pad[0], d->pad[1] = (int)pad[1];
    d->weight = &p->net->params[n->param[0]];
    int64_t size = in_block(d);
    d->blocks = d->d.outer * ((d->d.inner + size - 1) / size);
    return d;
}
static Step *emit(Plan *p, int id, const char *what, void (*fn)(const Step *), Depthwise *d) {
    Step *s = plan_step(p, id, what, fn, d);
    s->kind = STEP_CONV, s->flops = 2.0 * d->taps * (double)shape_count(p->nodes[id].shape);
    step_reads(s, d->x), step_reads(s, d->dy), step_reads(s, d->weights), step_reads(s, d->bias);
    step_writes(s, d->sums), step_writes(s, d->dx);
    return s;
}

/* ---- passes ------------------------------------------------------------------------------------------ */

/* All want the layout in which the values lie, if it groups channels. */
static Layout own_layout(const Plan *p, int id) {
    Layout l = p->values[p->nodes[id].value].layout;
    return l == LAYOUT_PLAIN ? LAYOUT_LAST : l;
}

static ValueId forward_again(Plan *p, PlanNode *n, int id) {
    Depthwise *d = arena_alloc(p->arena, sizeof *d);
    *d = *(const Depthwise *)n->forward;
    const Value x = p->values[d->dy], y = p->values[n->value];
    d->dy = plan_src_as(p, n->src[0], x.layout, x.dtype);
    d->dx = plan_new_value(p, y.name, y.shape, y.dtype, y.layout);
    emit(p, id, "forward again", run_data, d)->again = true;
    return d->dx;
}

Err depthwise_forward(Plan *p, PlanNode *n, int id, ValueId weights, ValueId bias, Act act) {
    Layout l = own_layout(p, plan_resolve(p, n->src[0]));
    Depthwise *d = describe(p, n, l);
    const Shape x = d->in;
    d->in = d->out, d->out = x, d->turned = true;
    for (int i = 0; i < 2; i++) d->pad[i] = (d->side - 1) * d->dilation - d->pad[i];
    d->weights = weights, d->bias = bias, d->act = act;
    d->dy = plan_src_as(p, n->src[0], l, d->t), d->dx = plan_dst_as(p, id, l, d->t);
    emit(p, id, "forward", run_data, d);
    n->forward = d, n->remake = plan_remakes_conv(p, n) ? forward_again : NULL;
    return OK;
}

Err depthwise_weights(Plan *p, const PlanNode *n, int id) {
    Layout l = own_layout(p, id);
    Depthwise *d = describe(p, n, l);
    d->x = plan_src_as(p, n->src[0], l, d->t), d->dy = plan_grad_as(p, id, l, d->t),
    d->first = plan_param_first(p, n->param[0]);
    d->sums = plan_new_bytes(p, "weight gradient",
                             (size_t)(d->d.n * d->blocks * d->taps * LANES) * sizeof(double));
    emit(p, id, "backward weights", run_weights, d);
    return OK;
}

Err depthwise_data(Plan *p, const PlanNode *n, int id) {
    Layout l = own_layout(p, id);
    Depthwise *d = describe(p, n, l);
    NetParam *w = d->weight;
    d->weights = plan_bound_value(p, w->name, w->shape, DT_F32, w->data);
    d->dy = plan_grad_as(p, id, l, d->t),
    d->dx = plan_new_value(p, p->net->nodes[id].name, d->in, d->t, l);
    emit(p, id, "backward data", run_data, d);
    plan_add_grad(p, n->src[0], d->dx);
    return OK;
}

bool depthwise_fits(const Plan *p, const PlanNode *n, const DnnConv *c) {
    const int64_t side = c->weights.d[2];
    if (n->shape.rank != 4 || c->weights.d[3] != side || (side != 3 && side != 5) || n->int8)
        return false;
    if (c->groups != c->src.d[1] || c->groups != c->dst.d[1]) return false;
    if (c->pass == DNN_BACKWARD_WEIGHTS) return !c->bias;
    return c->stride == 1 && !c->residual && c->t == c->dst_t;
}
