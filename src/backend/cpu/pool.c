/* pool.c - max pooling, adaptive average pooling, resize and concatenation in any layout.
 * Work is one plane (image, outer block of channels) at a time. */
#include <string.h>

#include "backend/cpu/lanes.h"
#include "backend/plan_priv.h"
#include "base/parallel.h"
#include "graph/ops/taps.h"

typedef struct Planes {                      /* what one step of this file works on */
    const void *attr;
    LayoutDims from, to;                     /* forward: source and destination; backward likewise */
    Shape in, out;
    Dtype t;
    ValueId src, dst, arg;                   /* backward: src = dy, dst = dx */
} Planes;
typedef struct { const Planes *p; const void *src; void *dst; uint8_t *arg; } PlaneRun;

static Planes *new_planes(Plan *p, const PlanNode *n, Layout l, Dtype t) {
    Planes *s = arena_alloc(p->arena, sizeof *s);
    s->attr = n->attr, s->t = t, s->in = p->nodes[n->src[0]].shape, s->out = n->shape;
    s->from = layout_dims(l, s->in), s->to = layout_dims(l, s->out);
    return s;
}
static void each_plane(const Step *s, void (*fn)(void *, int64_t)) {
    const Planes *p = s->state;
    PlaneRun r = {p, step_ptr(s, p->src), step_ptr(s, p->dst), step_ptr(s, p->arg)};
    parallel_for(p->from.n * p->from.outer, fn, &r);
}
static void emit_forward_planes(Plan *p, PlanNode *n, int id, void (*fn)(const Step *), Dtype t,
                                bool with_arg) {
    Layout l = plan_layout(p, n->src[0]);
    Planes *st = new_planes(p, n, l, t);
    st->src = plan_src_as(p, n->src[0], l, t), st->dst = plan_dst_as(p, id, l, t);
    if (with_arg)
        n->saved = st->arg = plan_new_bytes(p, "argmax", layout_bytes(l, n->shape, DT_U8));
    Step *s = plan_step(p, id, "forward", fn, st);
    step_reads(s, st->src), step_writes(s, st->arg), step_writes(s, st->dst);
}
static void emit_backward_planes(Plan *p, PlanNode *n, int id, void (*fn)(const Step *)) {
    Layout l = p->values[n->value].layout;
    Dtype t = p->values[n->value].dtype;
    Planes *st = new_planes(p, n, l, t);
    st->src = plan_grad_as(p, id, l, t), st->arg = n->saved;
    st->dst = plan_new_value(p, p->net->nodes[id].name, st->in, t, l);
    Step *s = plan_step(p, id, "backward", fn, st);
    step_reads(s, st->src), step_reads(s, st->arg), step_writes(s, st->dst);
    plan_add_grad(p, n->src[0], st->dst);
}
static bool four_dims(const Plan *p, const PlanNode *n) { return n->shape.rank == 4; }

/* ---- max pooling ------------------------------------------------------------------------------------- */

static PoolRow pool_row(const PlaneRun *r, int64_t plane, bool backward) {
    const Planes *p = r->p;
    const PoolAttr *a = p->attr;
    int64_t in = plane * p->from.spatial * p->from.inner, out = plane * p->to.spatial * p->to.inner,
            bytes = (int64_t)dtype_bytes(p->t);
    return (PoolRow){.src = (const char *)r->src + (backward ? out : in) * bytes,
                     .dst = (char *)r->dst + (backward ? in : out) * bytes,
                     .arg = r->arg + out,
                     .in_h = p->in.d[2],
                     .in_w = p->in.d[3],
                     .out_h = p->out.d[2],
                     .out_w = p->out.d[3],
                     .k = a->k,
                     .stride = a->stride ? a->stride : a->k,
                     .pad = a->pad,
                     .inner = (int)p->from.inner};
}
static void pool_plane(void *arg, int64_t i) {
    const PlaneRun *r = arg;
    PoolRow row = pool_row(r, i, false);
    lanes(r->p->t)->max_pool(&row);
}
static void unpool_plane(void *arg, int64_t i) {
    const PlaneRun *r = arg;
    PoolRow row = pool_row(r, i, true);
    lanes(r->p->t)->max_pool_backward(&row);
}
static void run_pool(const Step *s) { each_plane(s, pool_plane); }
static void run_unpool(const Step *s) { each_plane(s, unpool_plane); }
static Err max_pool_forward(Plan *p, PlanNode *n, int id) {
    return emit_forward_planes(p, n, id, run_pool, plan_type(p), true), OK;
}
static Err max_pool_backward(Plan *p, PlanNode *n, int id) {
    return emit_backward_planes(p, n, id, run_unpool), OK;
}
static bool pool_accepts(const Plan *p, const PlanNode *n) {
    const PoolAttr *a = n->attr;
    const bool square = (!a->kw || a->kw == a->k) && (!a->stride_w || a->stride_w == a->stride);
    const bool even = !(a->extra[0] || a->extra[1] || a->extra[2] || a->extra[3]);
    return n->shape.rank == 4 && a->k <= 15 && square && even && !a->ceil;
}
const Kernel cpu_max_pool = {&op_max_pool, true, pool_accepts, max_pool_forward, max_pool_backward};

/* ---- adaptive average pooling: window of output i is [floor(i n / m), ceil((i + 1) n / m)) -------------- */

static void window(int64_t i, int64_t out, int64_t in, int64_t *a, int64_t *b) {
    *a = i * in / out, *b = ((i + 1) * in + out - 1) / out;
}

/* Everything to one value: the vectorised sums of batch norm, about zero. */
static void whole_plane(void *arg, int64_t plane) {
    const PlaneRun *r = arg;
    const int64_t inner = r->p->from.inner, rows = r->p->from.spatial;
    double *sums = (double *)r->arg + 3 * plane * inner;
    float *zero = memset(sums + 2 * inner, 0, (size_t)inner * sizeof *zero);
    const BnRows b = {.x = (const float *)r->src + plane * rows * inner,
                      .mean = zero,
                      .sum = sums,
                      .sum2 = sums + inner,
                      .rows = rows,
                      .inner = (int)inner};
    lanes(DT_F32)->bn_sums(&b);
    for (int64_t c = 0; c < inner; c++)
        ((float *)r->dst)[plane * inner + c] = (float)(sums[c] / (double)rows);
}
enum { LINE = 16 };                          /* channels side by side: one line of memory */
static void average_plane(void *arg, int64_t plane) {
    const PlaneRun *r = arg;
    const Planes *p = r->p;
    int64_t inner = p->from.inner, w = p->in.d[3];
    const float *src = (const float *)r->src + plane * p->from.spatial * inner;
    float *dst = (float *)r->dst + plane * p->to.spatial * inner;
    for (int64_t o = 0; o < p->to.spatial; o++) {
        int64_t y0, y1, x0, x1;
        window(o / p->out.d[3], p->out.d[2], p->in.d[2], &y0, &y1),
            window(o % p->out.d[3], p->out.d[3], w, &x0, &x1);
        for (int64_t c = 0; c < inner; c += LINE) {
            const int64_t n = inner - c < LINE ? inner - c : LINE;
            double sum[LINE] = {0};
            for (int64_t y = y0; y < y1; y++)
                for (int64_t x = x0; x < x1; x++)
                    for (int64_t k = 0; k < n; k++) sum[k] += src[(y * w + x) * inner + c + k];
            for (int64_t k = 0; k < n; k++)
                dst[o * inner + c + k] = (float)(sum[k] / (double)((y1 - y0) * (x1 - x0)));
        }
    }
}
static void spread_plane(void *arg, int64_t plane) {
    const PlaneRun *r = arg;
    const Planes *p = r->p;
    int64_t inner = p->from.inner, w = p->in.d[3];
    const float *dy = (const float *)r->src + plane * p->to.spatial * inner;
    float *dx = (float *)r->dst + plane * p->from.spatial * inner;
    memset(dx, 0, (size_t)(p->from.spatial * inner) * sizeof(float));
    for (int64_t o = 0; o < p->to.spatial; o++) {
        int64_t y0, y1, x0, x1;
        window(o / p->out.d[3], p->out.d[2], p->in.d[2], &y0, &y1),
            window(o % p->out.d[3], p->out.d[3], w, &x0, &x1);
        float share = 1.0f / (float)((y1 - y0) * (x1 - x0));
        for (int64_t y = y0; y < y1; y++)
            for (int64_t x = x0; x < x1; x++)
                for (int64_t c = 0; c < inner; c++)
                    dx[(y * w + x) * inner + c] += dy[o * inner + c] * share;
    }
}
static void run_average(const Step *s) { each_plane(s, average_plane); }
static void run_whole(const Step *s) { each_plane(s, whole_plane); }
static void run_spread(const Step *s) { each_plane(s, spread_plane); }
static Err avg_forward(Plan *p, PlanNode *n, int id) {
    if (n->shape.d[2] * n->shape.d[3] > 1)
        return emit_forward_planes(p, n, id, run_average, DT_F32, false), OK;
    const Layout l = plan_layout(p, n->src[0]);
    Planes *st = new_planes(p, n, l, DT_F32);
    st->src = plan_src(p, n->src[0], l), st->dst = plan_dst(p, id, l);
    st->arg = plan_new_bytes(
        p, "scratch", (size_t)(3 * st->from.n * st->from.outer * st->from.inner) * sizeof(double));
    Step *s = plan_step(p, id, "forward", run_whole, st);
    step_reads(s, st->src), step_writes(s, st->arg), step_writes(s, st->dst);
    return OK;
}
static Err avg_backward(Plan *p, PlanNode *n, int id) {
    return emit_backward_planes(p, n, id, run_spread), OK;
}
const Kernel cpu_avg_pool = {&op_adaptive_avg_pool, false, four_dims, avg_forward, avg_backward};

/* ---- means over windows: one output row at a time ------------------------------------------------------------ */

typedef struct { Planes p; float *scale; } WindowMean;    /* scale: [out_h][out_w] */
typedef struct { const WindowMean *w; const float *src; float *dst; } WindowRun;

/* Rows or columns lo .. hi - 1 of the window of output i inside the input; returns how many count. */
static int64_t window_part(int64_t i, int64_t k, int64_t stride, int64_t pad, int64_t extra,
                           int64_t in, bool padded, int64_t *lo, int64_t *hi) {
    const int64_t a = i * stride - pad, end = a + k < in + pad + extra ? a + k : in + pad + extra;
    *lo = a < 0 ? 0 : a, *hi = end < in ? end : in;
    return padded ? end - a : *hi - *lo;
}
static void window_row(void *arg, int64_t i) {
    const WindowRun *r = arg;
    const Planes *p = &r->w->p;
    const AvgPoolAttr *a = p->attr;
    const int64_t oh = p->out.d[2], ow = p->out.d[3], plane = i / oh, y = i % oh,
                  inner = p->from.inner;
    WindowRow w = {.src = r->src + plane * p->from.spatial * inner,
                   .dst = r->dst + (plane * oh + y) * ow * inner,
                   .scale = r->w->scale + y * ow,
                   .in_w = p->in.d[3],
                   .out_w = ow,
                   .kw = a->kw,
                   .stride = a->stride_w,
                   .pad = a->pad_w,
                   .inner = (int)inner};
    window_part(y, a->kh, a->stride_h, a->pad_h, a->extra_h, p->in.d[2], false, &w.y0, &w.y1);
    float_lanes()->window_sums(&w);
}
static void run_window_mean(const Step *s) {
    const WindowMean *w = s->state;
    WindowRun r = {w, step_ptr(s, w->p.src), step_ptr(s, w->p.dst)};
    parallel_for(w->p.from.n * w->p.from.outer * w->p.out.d[2], window_row, &r);
}
static Err window_mean_forward(Plan *p, PlanNode *n, int id) {
    const AvgPoolAttr *a = n->attr;
    const Layout l = plan_layout(p, n->src[0]);
    WindowMean *w = arena_alloc(p->arena, sizeof *w);
    w->p = *new_planes(p, n, l, DT_F32);
    const int64_t oh = n->shape.d[2], ow = n->shape.d[3];
    w->scale = arena_alloc(p->arena, (size_t)(oh * ow) * sizeof *w->scale);
    for (int64_t i = 0; i < oh * ow; i++) {
        int64_t lo, hi;
        const int64_t rows = window_part(i / ow, a->kh, a->stride_h, a->pad_h, a->extra_h,
                                         w->p.in.d[2], a->count_padding, &lo, &hi);
        const int64_t columns = window_part(i % ow, a->kw, a->stride_w, a->pad_w, a->extra_w,
                                            w->p.in.d[3], a->count_padding, &lo, &hi);
        w->scale[i] = 1.0f / (float)(rows * columns);
    }
    w->p.src = plan_src(p, n->src[0], l), w->p.dst = plan_dst(p, id, l);
    Step *s = plan_step(p, id, "forward", run_window_mean, w);
    step_reads(s, w->p.src), step_writes(s, w->p.dst);
    return OK;
}
static Err window_mean_backward(Plan *p, PlanNode *n, int id) {
    return kernel_generic.backward(p, n, id);
}
const Kernel cpu_window_mean = {&op_avg_pool, false, four_dims, window_mean_forward,
                                window_mean_backward};

/* ---- resize: all modes; rows first, then columns, over a row of scratch per plane -------------------------- */

enum { PARTS = 16 };                         /* planes are cut by rows until there is that much to share out */
typedef struct { Planes p; FloatTap *row, *column; ValueId line; int64_t parts; } Resize;
typedef struct { const Resize *r; const float *src; float *dst, *line; } ResizeRun;

static FloatTap *tap_table(Plan *p, const ResizeAttr *a, int which, int64_t in, int64_t out) {
    FloatTap *t = arena_alloc(p->arena, (size_t)out * sizeof *t);
    for (int64_t i = 0; i < out; i++) {
        const Tap tap = resize_tap(a, which, i, in, out);
        t[i].n = tap.n;
        for (int k = 0; k < tap.n; k++)
            t[i].at[k] = (int32_t)tap.at[k], t[i].w[k] = (float)tap.w[k];
    }
    return t;
}
/* line = the weighted rows of src; a row that is one of src is not copied. */
static const float *mixed_rows(const FloatTap *t, const float *src, int64_t n, float *line) {
    if (t->n == 1) return src + t->at[0] * n;
    float_lanes()->mix(line, src + t->at[0] * n, src + t->at[1] * n, t->w[0], t->w[1], n);
    for (int k = 2; k < t->n; k++) float_lanes()->axpy(line, src + t->at[k] * n, t->w[k], n);
    return line;
}
static void resize_part(void *arg, int64_t i) {
    const ResizeRun *r = arg;
    const Planes *p = &r->r->p;
    const int64_t plane = i / r->r->parts, part = i % r->r->parts, rows = p->out.d[2];
    const int64_t inner = p->from.inner, n = p->in.d[3] * inner, ow = p->out.d[3];
    const float *src = r->src + plane * p->from.spatial * inner;
    float *dst = r->dst + plane * p->to.spatial * inner;
    for (int64_t y = rows * part / r->r->parts; y < rows * (part + 1) / r->r->parts; y++) {
        const float *row = mixed_rows(&r->r->row[y], src, n, r->line + i * n);
        float_lanes()->stretch(dst + y * ow * inner, row, r->r->column, ow, (int)inner);
    }
}
static void resize_plane_back(void *arg, int64_t plane) {
    const ResizeRun *r = arg;
    const Planes *p = &r->r->p;
    const int64_t inner = p->from.inner, n = p->in.d[3] * inner, ow = p->out.d[3];
    const float *dy = r->src + plane * p->to.spatial * inner;
    float *dx = r->dst + plane * p->from.spatial * inner, *line = r->line + plane * n;
    memset(dx, 0, (size_t)(p->from.spatial * inner) * sizeof(float));
    for (int64_t y = 0; y < p->out.d[2]; y++, dy += ow * inner) {
        const FloatTap *v = &r->r->row[y];
        memset(line, 0, (size_t)n * sizeof *line);
        float_lanes()->stretch_backward(line, dy, r->r->column, ow, (int)inner);
        for (int k = 0; k < v->n; k++) float_lanes()->axpy(dx + v->at[k] * n, line, v->w[k], n);
    }
}
static void run_resize_planes(const Step *s, void (*fn)(void *, int64_t)) {
    const Resize *r = s->state;
    ResizeRun run = {r, step_ptr(s, r->p.src), step_ptr(s, r->p.dst), step_ptr(s, r->line)};
    parallel_for(r->p.from.n * r->p.from.outer * r->parts, fn, &run);
}
static void run_resize(const Step *s) { run_resize_planes(s, resize_part); }
static void run_resize_back(const Step *s) { run_resize_planes(s, resize_plane_back); }

/* The step of one direction; p.src and p.dst are set by the caller. */
static Err emit_resize(Plan *p, const PlanNode *n, int id, Planes planes, bool backward) {
    Resize *r = arena_alloc(p->arena, sizeof *r);
    const int64_t count = planes.from.n * planes.from.outer,
                  parts = backward || count >= PARTS ? 1 : PARTS;
    const int64_t line = count * parts * planes.in.d[3] * planes.from.inner;
    *r = (Resize){planes, tap_table(p, n->attr, 0, planes.in.d[2], planes.out.d[2]),
                  tap_table(p, n->attr, 1, planes.in.d[3], planes.out.d[3]), 0, parts};
    r->line = plan_new_bytes(p, "scratch", (size_t)line * sizeof(float));
    Step *s = plan_step(p, id, backward ? "backward" : "forward",
                        backward ? run_resize_back : run_resize, r);
    step_reads(s, planes.src), step_writes(s, r->line), step_writes(s, planes.dst);
    return OK;
}
static Err resize_forward(Plan *p, PlanNode *n, int id) {
    const Layout l = plan_layout(p, n->src[0]);
    Planes *st = new_planes(p, n, l, DT_F32);
    st->src = plan_src(p, n->src[0], l), st->dst = plan_dst(p, id, l);
    return emit_resize(p, n, id, *st, false);
}
static Err resize_backward(Plan *p, PlanNode *n, int id) {
    const Layout l = p->values[n->value].layout;
    Planes *st = new_planes(p, n, l, DT_F32);
    st->src = plan_grad(p, id, l);
    st->dst = plan_new_value(p, p->net->nodes[id].name, st->in, DT_F32, l);
    TRY(emit_resize(p, n, id, *st, true));
    plan_add_grad(p, n->src[0], st->dst);
    return OK;
}
const Kernel cpu_resize = {&op_resize, false, four_dims, resize_forward, resize_backward};

/* ---- concatenation along channels ---------------------------------------------------------------------- */

enum { CAT_BYTES = 1 << 18 };                /* of a unit of work */
typedef struct { int n; int64_t images, chunks, size[NODE_SRC_MAX], total; ValueId part[NODE_SRC_MAX], whole; bool split; } Cat;   /* sizes: bytes an image */

static void cat_chunk(void *arg, int64_t chunk) {
    const Step *s = arg;
    const Cat *c = s->state;
    char *whole = step_ptr(s, c->whole), *part[NODE_SRC_MAX];
    for (int k = 0; k < c->n; k++) part[k] = step_ptr(s, c->part[k]);
    for (int64_t i = c->images * chunk / c->chunks; i < c->images * (chunk + 1) / c->chunks; i++) {
        int64_t at = i * c->total;
        for (int k = 0; k < c->n; at += c->size[k], k++) {
            char *p = part[k] ? part[k] + i * c->size[k] : NULL;
            if (p) memcpy(c->split ? p : whole + at, c->split ? whole + at : p, (size_t)c->size[k]);
        }
    }
}
static void run_cat(const Step *s) {
    parallel_for(((const Cat *)s->state)->chunks, cat_chunk, (void *)(uintptr_t)s);
}
/* A blocked layout serves when every part fills whole blocks, channels last when most of the parts lie so. */
static Layout cat_layout(const Plan *p, const PlanNode *n) {
    Layout l = plan_layout(p, n->src[0]);
    const int64_t block = l == LAYOUT_C16 ? 16 : l == LAYOUT_C8 ? 8 : 0;
    bool whole = block > 0;
    int last = 0;
    for (int i = 0; i < n->n_src; i++) {
        whole = whole && p->nodes[n->src[i]].shape.d[1] % block == 0;
        last += plan_layout(p, n->src[i]) == LAYOUT_LAST;
    }
    return whole ? l : 2 * last >= n->n_src ? LAYOUT_LAST : LAYOUT_PLAIN;
}
/* Channels last: a pixel is to its channels what an image is to its planes. */
static Cat *new_cat(Plan *p, const PlanNode *n, Layout l) {
    Cat *c = arena_alloc(p->arena, sizeof *c);
    c->n = n->n_src, c->images = n->shape.d[0];
    if (l == LAYOUT_LAST) c->images *= n->shape.d[2] * n->shape.d[3];
    for (int i = 0; i < n->n_src; i++) {
        c->size[i] = (int64_t)layout_bytes(l, p->nodes[n->src[i]].shape, plan_type(p)) / c->images;
        c->total += c->size[i];
    }
    c->chunks = c->images * c->total / CAT_BYTES + 1;
    if (c->chunks > c->images) c->chunks = c->images;
    return c;
}
static Err concat_forward(Plan *p, PlanNode *n, int id) {
    Layout l = cat_layout(p, n);
    Cat *c = new_cat(p, n, l);
    for (int i = 0; i < n->n_src; i++) c->part[i] = plan_src_as(p, n->src[i], l, plan_type(p));
    c->whole = plan_dst_as(p, id, l, plan_type(p));
    Step *s = plan_step(p, id, "forward", run_cat, c);
    for (int i = 0; i < n->n_src; i++) step_reads(s, c->part[i]);
    step_writes(s, c->whole);
    return OK;
}
static Err concat_backward(Plan *p, PlanNode *n, int id) {
    Layout l = p->values[n->value].layout;
    Cat *c = new_cat(p, n, l);
    c->split = true, c->whole = plan_grad_as(p, id, l, plan_type(p));
    for (int i = 0; i < n->n_src; i++)
        if (plan_wants_grad(p, n->src[i]))
            c->part[i] = plan_new_value(p, "gradient", p->nodes[n->src[i]].shape, plan_type(p), l);
    Step *s = plan_step(p, id, "backward", run_cat, c);
    step_reads(s, c->whole);
    for (int i = 0; i < n->n_src; i++) step_writes(s, c->part[i]);
    for (int i = 0; i < n->n_src; i++) plan_add_grad(p, n->src[i], c->part[i]);
    return OK;
}
const Kernel cpu_concat = {&op_concat, true, four_dims, concat_forward, concat_backward};
