/* eltwise.c - sums, activations and dropout on any layout: the bytes are walked as one line.
 * Padding channels are zero and stay zero under all of them. */
#include <string.h>

#include "backend/cpu/lanes.h"
#include "backend/plan_priv.h"
#include "base/parallel.h"
#include "base/rng.h"

enum { PIECE = 1 << 14 };                    /* elements per unit of work */
typedef enum { ELT_ADD, ELT_ACT, ELT_ACT_BACK, ELT_DROP } EltKind;
typedef struct { EltKind kind; ValueId a, b, dst; Act act; float scale; Dtype t; int64_t n; } Elt;   /* all of type t but the mask b of ELT_DROP */
typedef struct { const Elt *e; const char *a, *b; char *dst; } EltRun;

static void run_piece(void *arg, int64_t i) {
    const EltRun *r = arg;
    const Elt *e = r->e;
    const LaneKernels *k = lanes(e->t);
    int64_t first = i * PIECE, n = e->n - first < PIECE ? e->n - first : PIECE,
            at = first * (int64_t)dtype_bytes(e->t);
    switch (e->kind) {
    case ELT_ADD: k->add(r->dst + at, r->a + at, r->b + at, n); break;
    case ELT_ACT: k->act(r->dst + at, r->a + at, n, e->act); break;
    case ELT_ACT_BACK: k->act_backward(r->dst + at, r->a + at, r->b + at, n, e->act); break;
    case ELT_DROP:
        k->drop(r->dst + at, r->a + at, (const uint8_t *)r->b + first, e->scale, n);
        break;
    }
}
static void run_elt(const Step *s) {
    const Elt *e = s->state;
    EltRun r = {e, step_ptr(s, e->a), step_ptr(s, e->b), step_ptr(s, e->dst)};
    parallel_for((e->n + PIECE - 1) / PIECE, run_piece, &r);
}

/* dst takes the place of a when a dies here. */
static void emit_elt(Plan *p, int node, const char *what, Elt e) {
    Elt *state = arena_alloc(p->arena, sizeof *state);
    *state = e;
    state->t = p->values[e.dst].dtype;
    state->n = (int64_t)(p->values[e.dst].bytes / dtype_bytes(state->t));
    Step *s = plan_step(p, node, what, run_elt, state);
    step_reads(s, e.a), step_reads(s, e.b), step_writes(s, e.dst);
    s->in_place_src = e.a, s->in_place_dst = e.dst;
}

void cpu_sum_step(Plan *p, int node, ValueId a, ValueId b, ValueId dst) {
    emit_elt(p, node, "sum of gradients", (Elt){.kind = ELT_ADD, .a = a, .b = b, .dst = dst});
}

static Err add_forward(Plan *p, PlanNode *n, int id) {
    Layout l = plan_layout(p, n->src[0]);
    Dtype t = plan_type(p);
    ValueId a = plan_src_as(p, n->src[0], l, t), b = plan_src_as(p, n->src[1], l, t);
    emit_elt(p, id, "forward",
             (Elt){.kind = ELT_ADD, .a = a, .b = b, .dst = plan_dst_as(p, id, l, t)});
    return OK;
}
static Err add_backward(Plan *p, PlanNode *n, int id) {
    ValueId g = plan_grad_as(p, id, p->values[n->value].layout, plan_type(p));
    plan_add_grad(p, n->src[0], g);          /* values are written once, so both may be the same */
    plan_add_grad(p, n->src[1], g);
    return OK;
}
const Kernel cpu_add = {&op_add, true, NULL, add_forward, add_backward};

static Err relu_forward(Plan *p, PlanNode *n, int id) {
    Layout l = plan_layout(p, n->src[0]);
    ValueId x = plan_src_as(p, n->src[0], l, plan_type(p));
    emit_elt(p, id, "forward",
             (Elt){.kind = ELT_ACT,
                   .a = x,
                   .dst = plan_dst_as(p, id, l, plan_type(p)),
                   .act = ((const ActAttr *)n->attr)->act});
    return OK;
}
static Err relu_backward(Plan *p, PlanNode *n, int id) {
    Value y = p->values[n->value];
    ValueId dx = plan_new_value(p, y.name, y.shape, y.dtype, y.layout),
            g = plan_grad_as(p, id, y.layout, y.dtype);
    emit_elt(p, id, "backward",
             (Elt){.kind = ELT_ACT_BACK,
                   .a = g,
                   .b = n->value,
                   .dst = dx,
                   .act = ((const ActAttr *)n->attr)->act});
    plan_add_grad(p, n->src[0], dx);
    return OK;
}
const Kernel cpu_relu = {&op_relu, true, NULL, relu_forward, relu_backward};

/* ---- dropout: a mask of 0 and 1, drawn by logical NCHW position ------------------------------------------ */

typedef struct { LayoutDims d; Shape shape; float p; ValueId mask; int node; } Drop;
typedef struct { const Drop *d; uint8_t *mask; const OpRun *run; } DropRun;

/* Channel c of image i: element index within the image is c * S + s. */
static void draw_channel(void *arg, int64_t i) {
    const DropRun *r = arg;
    const LayoutDims d = r->d->d;
    int64_t channels = r->d->shape.d[1], image = i / channels, c = i % channels;
    Rng stream = rng_stream(r->run->seed, RNG_DROPOUT, (uint64_t)r->d->node,
                            r->run->first_sample + (uint64_t)image);
    uint8_t *mask = r->mask + ((image * d.outer + c / d.inner) * d.spatial) * d.inner + c % d.inner;
    uint32_t block[4] = {0};
    for (int64_t s = 0; s < d.spatial; s++) {
        uint64_t index = (uint64_t)(c * d.spatial + s);
        if (s == 0 || index % 4 == 0) rng_block(&stream, index / 4, block);
        float u = (float)(block[index % 4] >> 8) * 0x1p-24f;
        mask[s * d.inner] = u >= r->d->p;
    }
}
static void run_draw(const Step *s) {
    const Drop *d = s->state;
    DropRun r = {d, step_ptr(s, d->mask), &s->plan->run};
    parallel_for(d->d.n * d->shape.d[1], draw_channel, &r);
}

static Elt drop(const PlanNode *n, ValueId from, ValueId to) {
    return (Elt){.kind = ELT_DROP,
                 .a = from,
                 .b = n->saved,
                 .dst = to,
                 .scale = 1.0f / (1.0f - ((const DropoutAttr *)n->attr)->p)};
}
static Err dropout_forward(Plan *p, PlanNode *n, int id) {
    Layout l = plan_layout(p, n->src[0]);
    Drop *d = arena_alloc(p->arena, sizeof *d);
    *d = (Drop){layout_dims(l, n->shape), n->shape, ((const DropoutAttr *)n->attr)->p, plan_new_value(p, "dropout mask", n->shape, DT_U8, l), id};
    n->saved = d->mask;
    Step *s = plan_step(p, id, "draw mask", run_draw, d);
    step_writes(s, d->mask);
    ValueId x = plan_src_as(p, n->src[0], l, plan_type(p));
    emit_elt(p, id, "forward", drop(n, x, plan_dst_as(p, id, l, plan_type(p))));
    return OK;
}
static Err dropout_backward(Plan *p, PlanNode *n, int id) {
    Value y = p->values[n->value];
    ValueId dx = plan_new_value(p, y.name, y.shape, y.dtype, y.layout);
    emit_elt(p, id, "backward", drop(n, plan_grad_as(p, id, y.layout, y.dtype), dx));
    plan_add_grad(p, n->src[0], dx);
    return OK;
}
static bool dropout_accepts(const Plan *p, const PlanNode *n) {
    return n->shape.rank == 4 && n->shape.d[1] > 0;
}
const Kernel cpu_dropout = {&op_dropout, true, dropout_accepts, dropout_forward, dropout_backward};
