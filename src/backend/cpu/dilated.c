/* dilated.c - backward passes of widely dilated convolutions (those of ASPP), where oneDNN falls back to
 * multiplying unfolded images: mostly zeros, since most taps lie outside the image.
 *
 *   data:    the gradient is itself a convolution, of dy with the flipped and transposed weights, and forward
 *            passes have a fast kernel in channels last
 *   weights: one tap at a time, dW[ky][kx] = sum over the pixels that the tap reaches of dy x^T; those pixels of
 *            both are copied together, and the product is the weight gradient of a 1x1 convolution on them */
#include <string.h>

#include "backend/cpu/conv_priv.h"
#include "base/parallel.h"

enum { TAPS_MAX = 49 };

bool dilated_fits(const DnnConv *c) {
    int64_t taps = c->weights.d[2] * c->weights.d[3];
    return c->pass != DNN_FORWARD && c->stride == 1 && c->groups <= 1 && c->dilation > 1 &&
           taps > 1 && taps <= TAPS_MAX && !c->bias;
}

/* ---- data ------------------------------------------------------------------------------------------ */

typedef struct { const float *w; int64_t out, in, taps; ValueId flipped; } Flip;
typedef struct { const Flip *f; float *to; } FlipRun;

static void flip_channel(void *arg, int64_t i) {
    const FlipRun *r = arg;
    const Flip *f = r->f;
    float *to = r->to + i * f->out * f->taps;
    for (int64_t o = 0; o < f->out; o++)
        for (int64_t k = 0; k < f->taps; k++)
            to[o * f->taps + k] = f->w[(o * f->in + i) * f->taps + f->taps - 1 - k];
}
/* O x I x kh x kw -> I x O x kh x kw, both kernel axes reversed */
static void run_flip(const Step *s) {
    const Flip *f = s->state;
    parallel_for(f->in, flip_channel, &(FlipRun){f, step_ptr(s, f->flipped)});
}
static ValueId flipped_weights(Plan *p, int id, const NetParam *w, const DnnConv *c, Shape shape,
                               const DnnMd *md) {
    Flip *f = arena_alloc(p->arena, sizeof *f);
    *f = (Flip){w->data, c->weights.d[0], c->weights.d[1], c->weights.d[2] * c->weights.d[3], 0};
    f->flipped = weights_room(p, w, shape, 1, md);
    p->emitting_params = true;
    Step *s = plan_step(p, id, "flip weights", run_flip, f);
    s->weights = true;
    step_writes(s, f->flipped);
    p->emitting_params = false;
    return f->flipped;
}

/* The same gradient as a forward pass. */
static DnnConv turned(const DnnConv *c) {
    DnnConv t = *c;
    t.src = c->dst, t.dst = c->src,
    t.weights = SHAPE(c->weights.d[1], c->weights.d[0], c->weights.d[2], c->weights.d[3]);
    t.pass = DNN_FORWARD, t.inference = true, t.dst_t = c->t;
    for (int i = 0; i < 2; i++) {
        int64_t reach = (c->weights.d[2 + i] - 1) * c->dilation;
        t.pad[i] = reach - c->pad[i], t.pad_end[i] = reach - c->pad_end[i];
    }
    return t;
}
Err dilated_data_unfolds(Plan *p, const DnnConv *c, bool *out) {
    const DnnConv t = turned(c);
    Way way;
    return conv_folded_way(p, &t, &way, out);
}
Err dilated_data(Plan *p, const PlanNode *n, int id, const DnnConv *c) {
    const DnnConv t = turned(c);
    DnnPrim *prim;
    Layout src, dst;
    Way way;
    bool unfolds;
    TRY(conv_folded_way(p, &t, &way, &unfolds));
    TRY(conv_create(p, t, way, &prim, &src, &dst));
    PrimStep *ps = new_prim_step(p, prim);
    ValueId plain = flipped_weights(p, id, &p->net->params[n->param[0]], c, t.weights,
                                    dnn_prim_md(prim, DNN_WEIGHTS));
    ps->value[DNN_WEIGHTS] =
        weights_copy(p, id, plain, t.weights, 1, DT_F32, dnn_prim_md(prim, DNN_WEIGHTS));
    ps->value[DNN_SRC] = plan_grad_as(p, id, src, c->t);
    ps->value[DNN_DST] = plan_new_value(p, p->net->nodes[id].name, c->src, c->t, dst);
    Step *s = emit_prim(p, id, "backward data", ps, DNN_DST, DNN_DST, STEP_CONV);
    s->flops = conv_flops(c);
    plan_add_grad(p, n->src[0], ps->value[DNN_DST]);
    return OK;
}

/* ---- weights --------------------------------------------------------------------------------------- */

typedef struct Tap {
    int64_t y, x, h, w, down, right;         /* pixels of dy it reaches: from (y, x), h x w; of x: (down, right) further on */
    DnnPrim *product, *plain;                /* plain: the product's layout -> Cout x Cin */
} Tap;
typedef struct Dilated {
    Shape in, out;                           /* of x and dy */
    size_t x_bytes, dy_bytes;                /* of a pixel */
    int n_taps;
    Tap tap[TAPS_MAX];
    NetParam *weight;
    bool first;
    ValueId x, dy, packed_x, packed_dy, product, plain, scratch;
} Dilated;
typedef struct {
    const Tap *t;
    const char *from;
    char *to;
    Shape shape;
    size_t bytes;
    int64_t y, x;
} Pack;
typedef struct { const Dilated *d; const float *from; int tap; bool overwrite; } Spread;

static void pack_row(void *arg, int64_t i) {
    const Pack *k = arg;
    int64_t image = i / k->t->h, row = i % k->t->h;
    const char *from =
        k->from + ((image * k->shape.d[2] + k->y + row) * k->shape.d[3] + k->x) * (int64_t)k->bytes;
    memcpy(k->to + i * k->t->w * (int64_t)k->bytes, from, (size_t)k->t->w * k->bytes);
}
/* The pixels of one tap side by side; all pixels are that already. */
static const void *packed(const Tap *t, const void *from, void *to, Shape shape, size_t bytes,
                          int64_t y, int64_t x) {
    if (t->h == shape.d[2] && t->w == shape.d[3]) return from;
    Pack k = {t, from, to, shape, bytes, y, x};
    parallel_for(shape.d[0] * t->h, pack_row, &k);
    return to;
}
static void spread_channel(void *arg, int64_t o) {
    const Spread *s = arg;
    const int64_t in = s->d->in.d[1], taps = s->d->n_taps;
    float *g = s->d->weight->grad + o * in * taps + s->tap;
    for (int64_t i = 0; i < in; i++)
        g[i * taps] = (s->overwrite ? 0 : g[i * taps]) + (s->from ? s->from[o * in + i] : 0);
}
static void run_weights(const Step *s) {
    const Dilated *d = s->state;
    for (int k = 0; k < d->n_taps; k++) {
        const Tap *t = &d->tap[k];
        Spread spread = {d, NULL, k, d->first && !s->plan->accumulate};
        if (t->product) {
            const void *x = packed(t, step_ptr(s, d->x), step_ptr(s, d->packed_x), d->in,
                                   d->x_bytes, t->y + t->down, t->x + t->right);
            const void *dy = packed(t, step_ptr(s, d->dy), step_ptr(s, d->packed_dy), d->out,
                                    d->dy_bytes, t->y, t->x);
            void *scratch = step_ptr(s, d->scratch), *product = step_ptr(s, d->product);
            dnn_run(t->product, (void *[DNN_ARG_COUNT]){[DNN_SRC] = (void *)(uintptr_t)x,
                                                        [DNN_DST] = (void *)(uintptr_t)dy,
                                                        [DNN_WEIGHTS] = product,
                                                        [DNN_SCRATCH] = scratch});
            if (t->plain)
                dnn_run(t->plain, (void *[DNN_ARG_COUNT]){[DNN_SRC] = product,
                                                          [DNN_DST] = step_ptr(s, d->plain),
                                                          [DNN_SCRATCH] = scratch});
            spread.from = t->plain ? step_ptr(s, d->plain) : product;
        }
        parallel_for(d->out.d[1], spread_channel, &spread);
    }
}

static void reach(const DnnConv *c, int axis, int64_t k, int64_t *from, int64_t *n,
                  int64_t *shift) {
    int64_t in = c->src.d[2 + axis], out = c->dst.d[2 + axis];
    *shift = k * c->dilation - c->pad[axis];
    *from = *shift < 0 ? -*shift : 0;
    int64_t end = in - *shift < out ? in - *shift : out;
    *n = end > *from ? end - *from : 0;
}
static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* A 1x1 convolution on h * w pixels of every image, as one long row. */
static Err make_product(Plan *p, const DnnConv *c, int64_t pixels, DnnPrim **out) {
    int64_t ci = c->weights.d[1], co = c->weights.d[0];
    DnnConv one = {.src = SHAPE(1, ci, 1, pixels),
                   .weights = SHAPE(co, ci, 1, 1),
                   .dst = SHAPE(1, co, 1, pixels),
                   .stride = 1,
                   .dilation = 1,
                   .groups = 1,
                   .src_layout = LAYOUT_LAST,
                   .dst_layout = LAYOUT_LAST,
                   .t = c->t,
                   .dst_t = c->t,
                   .pass = DNN_BACKWARD_WEIGHTS};
    return dnn_conv(p, &one, out);
}

typedef struct { size_t x, dy, product, scratch; bool plain; } Room;

/* Taps that reach as many pixels share a primitive. */
static Err make_tap(Plan *p, const DnnConv *c, Dilated *d, int k, Room *room) {
    Tap *t = &d->tap[k];
    reach(c, 0, k / c->weights.d[3], &t->y, &t->h, &t->down);
    reach(c, 1, k % c->weights.d[3], &t->x, &t->w, &t->right);
    int64_t pixels = c->src.d[0] * t->h * t->w;
    if (!pixels) return OK;
    for (int i = 0; i < k && !t->product; i++)
        if (d->tap[i].product && d->tap[i].h * d->tap[i].w == t->h * t->w)
            t->product = d->tap[i].product, t->plain = d->tap[i].plain;
    if (!t->product) {
        TRY(make_product(p, c, pixels, &t->product));
        const DnnMd *md = dnn_prim_md(t->product, DNN_WEIGHTS);
        DnnMd *plain =
            dnn_md_weights(p, SHAPE(c->weights.d[0], c->weights.d[1], 1, 1), 1, DT_F32, false);
        if (!dnn_md_equal(md, plain)) t->plain = dnn_reorder(p, md, plain, false);
        room->product = larger(room->product, dnn_md_bytes(md)),
        room->scratch = larger(room->scratch, dnn_prim_scratch(t->product));
        if (t->plain)
            room->plain = true, room->scratch = larger(room->scratch, dnn_prim_scratch(t->plain));
    }
    if (t->h < c->src.d[2] || t->w < c->src.d[3])
        room->x = larger(room->x, (size_t)pixels * d->x_bytes);
    if (t->h < c->dst.d[2] || t->w < c->dst.d[3])
        room->dy = larger(room->dy, (size_t)pixels * d->dy_bytes);
    return OK;
}

Err dilated_weights(Plan *p, const PlanNode *n, int id, const DnnConv *c) {
    Dilated *d = arena_alloc(p->arena, sizeof *d);
    Room room = {0};
    d->in = c->src, d->out = c->dst, d->weight = &p->net->params[n->param[0]];
    d->x_bytes = (size_t)c->src.d[1] * dtype_bytes(c->t),
    d->dy_bytes = (size_t)c->dst.d[1] * dtype_bytes(c->t);
    d->n_taps = (int)(c->weights.d[2] * c->weights.d[3]);
    for (int k = 0; k < d->n_taps; k++) TRY(make_tap(p, c, d, k, &room));
    d->x = plan_src_as(p, n->src[0], LAYOUT_LAST, c->t),
    d->dy = plan_grad_as(p, id, LAYOUT_LAST, c->t);
    d->packed_x = plan_new_bytes(p, "packed pixels", room.x),
    d->packed_dy = plan_new_bytes(p, "packed pixels", room.dy);
    d->product = plan_new_bytes(p, "weight gradient", room.product),
    d->scratch = plan_new_bytes(p, "scratch", room.scratch);
    if (room.plain)
        d->plain = plan_new_bytes(p, "weight gradient",
                                  (size_t)(c->weights.d[0] * c->weights.d[1]) * sizeof(float));
    d->first = plan_param_first(p, n->param[0]);
    Step *s = plan_step(p, id, "backward weights", run_weights, d);
    s->kind = STEP_CONV, s->flops = conv_flops(c), s->impl = "retort: tap by tap";
    step_reads(s, d->x), step_reads(s, d->dy);
    step_writes(s, d->packed_x), step_writes(s, d->packed_dy), step_writes(s, d->product),
        step_writes(s, d->plain), step_writes(s, d->scratch);
    return OK;
}
