/* depthwise.c - backward passes of 3x3 depthwise convolutions. oneDNN's are five to fifty times slower for dilated
 * ones than for undilated ones; the forward pass is fast there and stays there (conv.c).
 *
 * Work is one block of up to 16 channels of one image. The weights' gradient is summed per block in double
 * and over the images in their order, so it depends on no schedule. */
#include <string.h>

#include "backend/cpu/conv_priv.h"
#include "backend/cpu/lanes.h"
#include "base/parallel.h"

enum { TAPS = DW_TAPS, LANES = DW_LANES };

typedef struct Depthwise {
    LayoutDims d;
    Shape in, out;
    Dtype t;
    int dilation, pad;
    int64_t blocks;                          /* of LANES channels or fewer, in one image */
    NetParam *weight;
    bool first;                              /* overwrite the gradient unless accumulating */
    ValueId x, dy, dx, sums;                 /* sums: [n][blocks][TAPS][LANES] double */
} Depthwise;
typedef struct { const Depthwise *d; const char *x, *dy; char *dx; double *sums; } DepthwiseRun;

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
                     .sums = r->sums ? r->sums + i * TAPS * LANES : NULL,
                     .first_channel = outer * d->d.inner + c0,
                     .lanes = (int)lanes,
                     .pixel = d->d.inner,
                     .in_h = d->in.d[2],
                     .in_w = d->in.d[3],
                     .out_h = d->out.d[2],
                     .out_w = d->out.d[3],
                     .dilation = d->dilation,
                     .pad = d->pad};
}

static void data_block(void *arg, int64_t i) {
    const DepthwiseRun *r = arg;
    DwBlock b = block_of(r, i);
    float w[TAPS][LANES] = {{0}};
    for (int c = 0; c < b.lanes && b.first_channel + c < r->d->in.d[1]; c++)
        for (int k = 0; k < TAPS; k++)
            w[k][c] = r->d->weight->data[(b.first_channel + c) * TAPS + k];
    b.w = w;
    lanes(r->d->t)->dw_data(&b);
}
static void weights_block(void *arg, int64_t i) {
    const DepthwiseRun *r = arg;
    DwBlock b = block_of(r, i);
    lanes(r->d->t)->dw_weights(&b);
}

static DepthwiseRun run_of(const Step *s) {
    const Depthwise *d = s->state;
    return (DepthwiseRun){d, step_ptr(s, d->x), step_ptr(s, d->dy), step_ptr(s, d->dx),
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
            for (int k = 0; k < TAPS; k++) {
                double sum = 0;
                for (int64_t image = 0; image < d->d.n; image++)
                    sum += r.sums[((image * d->blocks + i) * TAPS + k) * LANES + c];
                float *g = &d->weight->grad[(b.first_channel + c) * TAPS + k];
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
    d->d = layout_dims(l, d->in), d->dilation = a->dilation, d->pad = (int)pad[0];
    d->weight = &p->net->params[n->param[0]];
    int64_t size = in_block(d);
    d->blocks = d->d.outer * ((d->d.inner + size - 1) / size);
    return d;
}
static Step *emit(Plan *p, int id, const char *what, void (*fn)(const Step *), Depthwise *d) {
    Step *s = plan_step(p, id, what, fn, d);
    s->kind = STEP_CONV, s->flops = 2.0 * TAPS * (double)shape_count(d->out);
    step_reads(s, d->x), step_reads(s, d->dy), step_writes(s, d->sums), step_writes(s, d->dx);
    return s;
}

/* Both want the layout that the forward pass left, if it groups channels. */
static Layout own_layout(const Plan *p, int id) {
    Layout l = p->values[p->nodes[id].value].layout;
    return l == LAYOUT_PLAIN ? LAYOUT_LAST : l;
}

Err depthwise_weights(Plan *p, const PlanNode *n, int id) {
    Layout l = own_layout(p, id);
    Depthwise *d = describe(p, n, l);
    d->x = plan_src_as(p, n->src[0], l, d->t), d->dy = plan_grad_as(p, id, l, d->t),
    d->first = plan_param_first(p, n->param[0]);
    d->sums = plan_new_bytes(p, "weight gradient",
                             (size_t)(d->d.n * d->blocks * TAPS * LANES) * sizeof(double));
    emit(p, id, "backward weights", run_weights, d);
    return OK;
}

Err depthwise_data(Plan *p, const PlanNode *n, int id) {
    Layout l = own_layout(p, id);
    Depthwise *d = describe(p, n, l);
    d->dy = plan_grad_as(p, id, l, d->t),
    d->dx = plan_new_value(p, p->net->nodes[id].name, d->in, d->t, l);
    emit(p, id, "backward data", run_data, d);
    plan_add_grad(p, n->src[0], d->dx);
    return OK;
}

bool depthwise_fits(const Plan *p, const PlanNode *n) {
    const ConvAttr *a = n->attr;
    if (n->shape.rank != 4 || a->kh != 3 || a->kw != 3 || a->stride != 1 || a->bias) return false;
    int64_t pad[2], pad_end[2];
    conv_padding(a, p->nodes[n->src[0]].shape, pad, pad_end);
    return a->groups == n->shape.d[1] && a->groups == p->nodes[n->src[0]].shape.d[1] &&
           pad[0] == pad[1] && pad[0] == pad_end[0] && pad[1] == pad_end[1];
}
