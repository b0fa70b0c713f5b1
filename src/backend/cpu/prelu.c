/* prelu.c - dst = prelu(bn(x) + residual) in any layout, one pass; bn and residual only where fuse.c put them.
 * Per channel: y = x scale + shift [+ residual], then y < 0 ? slope y : y; without bn scale 1 and shift 0.
 * Backward is the op's own: training fuses nothing. */
#include <math.h>

#include "backend/cpu/lanes.h"
#include "backend/plan_priv.h"
#include "base/parallel.h"

enum { RUN_FLOATS = 1 << 15 };
enum { SCALE, SHIFT, SLOPE, ARRAYS };        /* of the scratch, `lanes` floats each */

typedef struct Chain {
    const PreluAttr *attr;
    LayoutDims d;
    int64_t  channels, lanes, chunks;        /* lanes: channels, padded up */
    const float *slope, *bn[4];
    ValueId  x, residual, y, scratch;
} Chain;
typedef struct { const Chain *c; const float *x, *residual, *arrays; float *y; } ChainRun;

static void chunk(void *arg, int64_t i) {
    const ChainRun *r = arg;
    const Chain *c = r->c;
    const int64_t k = i % c->chunks, plane = i / c->chunks, lane = plane % c->d.outer * c->d.inner;
    const int64_t r0 = c->d.spatial * k / c->chunks, r1 = c->d.spatial * (k + 1) / c->chunks;
    const int64_t at = (plane * c->d.spatial + r0) * c->d.inner;
    const BnRows b = {.x = r->x + at,
                      .residual = r->residual ? r->residual + at : NULL,
                      .out = r->y + at,
                      .rows = r1 - r0,
                      .inner = (int)c->d.inner,
                      .scale = r->arrays + SCALE * c->lanes + lane,
                      .shift = r->arrays + SHIFT * c->lanes + lane,
                      .slope = r->arrays + SLOPE * c->lanes + lane};
    float_lanes()->prelu(&b);
}
static void run(const Step *s) {
    const Chain *c = s->state;
    float *a = step_ptr(s, c->scratch);
    for (int64_t i = 0; i < c->lanes; i++) {
        const bool real = i < c->channels;
        const double scale =
            c->bn[0] && real ? c->bn[0][i] / sqrt((double)c->bn[3][i] +
                                                  (c->attr->eps > 0 ? (double)c->attr->eps : 1e-5))
                             : 1;
        a[SCALE * c->lanes + i] = (float)scale;
        a[SHIFT * c->lanes + i] = c->bn[0] && real ? (float)(c->bn[1][i] - c->bn[2][i] * scale) : 0;
        a[SLOPE * c->lanes + i] = !real ? 0 : c->slope[c->attr->slopes == 1 ? 0 : i];
    }
    ChainRun r = {c, step_ptr(s, c->x), step_ptr(s, c->residual), a, step_ptr(s, c->y)};
    parallel_for(c->d.n * c->d.outer * c->chunks, chunk, &r);
}
static Err forward(Plan *p, PlanNode *n, int id) {
    const PreluAttr *a = n->attr;
    const Layout l = plan_layout(p, n->src[0]);
    Chain *c = arena_alloc(p->arena, sizeof *c);
    *c = (Chain){.attr = a, .d = layout_dims(l, n->shape), .channels = n->shape.d[1], .slope = p->net->params[n->param[0]].data};
    c->lanes = c->d.outer * c->d.inner;
    c->chunks = (c->d.spatial * c->d.inner + RUN_FLOATS - 1) / RUN_FLOATS;
    for (int i = 0; a->bn && i < 4; i++) c->bn[i] = p->net->params[n->param[1 + i]].data;
    c->x = plan_src(p, n->src[0], l), c->residual = a->residual ? plan_src(p, n->src[1], l) : 0;
    c->scratch = plan_new_bytes(p, "scratch", (size_t)(ARRAYS * c->lanes) * sizeof(float));
    c->y = plan_dst(p, id, l);
    Step *s = plan_step(p, id, "forward", run, c);
    step_reads(s, c->x), step_reads(s, c->residual), step_writes(s, c->scratch),
        step_writes(s, c->y);
    s->in_place_src = c->x, s->in_place_dst = c->y;
    return OK;
}
static Err backward(Plan *p, PlanNode *n, int id) { return kernel_generic.backward(p, n, id); }
static bool accepts(const Plan *p, const PlanNode *n) { return n->shape.rank == 4; }
const Kernel cpu_prelu = {&op_prelu, false, accepts, forward, backward};
