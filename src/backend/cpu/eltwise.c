/* eltwise.c - sums, activations and dropout on any layout: the bytes are walked as one line.
 * Padding channels are zero and stay zero under all of them. */
#include <string.h>

#include "backend/cpu/lanes.h"
#include "backend/plan_priv.h"
#include "base/parallel.h"
#include "base/rng.h"

enum { PIECE = 1 << 14 };                    /* floats per unit of work */
typedef enum { ELT_ADD, ELT_ACT, ELT_ACT_BACK, ELT_MUL } EltKind;
typedef struct { EltKind kind; ValueId a, b, dst; Act act; int64_t n; } Elt;
typedef struct { const Elt *e; const float *a, *b; float *dst; } EltRun;

static void run_piece(void *arg, int64_t i) {
    const EltRun *r = arg;
    int64_t at = i * PIECE, n = r->e->n - at < PIECE ? r->e->n - at : PIECE;
    switch (r->e->kind) {
    case ELT_ADD: lanes()->add(r->dst + at, r->a + at, r->b + at, n); break;
    case ELT_ACT: lanes()->act(r->dst + at, r->a + at, n, r->e->act); break;
    case ELT_ACT_BACK: lanes()->act_backward(r->dst + at, r->a + at, r->b + at, n, r->e->act); break;
    case ELT_MUL: lanes()->mul(r->dst + at, r->a + at, r->b + at, n); break;
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
    state->n = (int64_t)(p->values[e.dst].bytes / sizeof(float));
    Step *s = plan_step(p, node, what, run_elt, state);
    step_reads(s, e.a), step_reads(s, e.b), step_writes(s, e.dst);
    s->in_place_src = e.a, s->in_place_dst = e.dst;
}

void cpu_sum_step(Plan *p, int node, ValueId a, ValueId b, ValueId dst) {
    emit_elt(p, node, "sum of gradients", (Elt){ELT_ADD, a, b, dst, ACT_NONE, 0});
}

static Err add_forward(Plan *p, PlanNode *n, int id) {
    Layout l = plan_layout(p, n->src[0]);
    ValueId a = plan_src(p, n->src[0], l), b = plan_src(p, n->src[1], l);
    emit_elt(p, id, "forward", (Elt){ELT_ADD, a, b, plan_dst(p, id, l), ACT_NONE, 0});
    return OK;
}
static Err add_backward(Plan *p, PlanNode *n, int id) {
    ValueId g = plan_grad(p, id, p->values[n->value].layout);
    plan_add_grad(p, n->src[0], g);          /* values are written once, so both may be the same */
    plan_add_grad(p, n->src[1], g);
    return OK;
}
const Kernel cpu_add = {&op_add, NULL, add_forward, add_backward};

static Err relu_forward(Plan *p, PlanNode *n, int id) {
    Layout l = plan_layout(p, n->src[0]);
    ValueId x = plan_src(p, n->src[0], l);
    emit_elt(p, id, "forward", (Elt){ELT_ACT, x, 0, plan_dst(p, id, l), ((const ActAttr *)n->attr)->act, 0});
    return OK;
}
static Err relu_backward(Plan *p, PlanNode *n, int id) {
    Value y = p->values[n->value];
    ValueId dx = plan_new_value(p, y.name, y.shape, DT_F32, y.layout);
    emit_elt(p, id, "backward", (Elt){ELT_ACT_BACK, plan_grad(p, id, y.layout), n->value, dx, ((const ActAttr *)n->attr)->act, 0});
    plan_add_grad(p, n->src[0], dx);
    return OK;
}
const Kernel cpu_relu = {&op_relu, NULL, relu_forward, relu_backward};

/* ---- dropout: a float mask of 0 and 1 / (1 - p), drawn by logical NCHW position ------------------------ */

typedef struct { LayoutDims d; Shape shape; float p; ValueId mask; int node; } Drop;
typedef struct { const Drop *d; float *mask; const OpRun *run; } DropRun;

/* Channel c of image i: element index within the image is c * S + s. */
static void draw_channel(void *arg, int64_t i) {
    const DropRun *r = arg;
    const LayoutDims d = r->d->d;
    int64_t channels = r->d->shape.d[1], image = i / channels, c = i % channels;
    Rng stream = rng_stream(r->run->seed, RNG_DROPOUT, (uint64_t)r->d->node, r->run->first_sample + (uint64_t)image);
    float *mask = r->mask + ((image * d.outer + c / d.inner) * d.spatial) * d.inner + c % d.inner;
    float scale = 1.0f / (1.0f - r->d->p);
    uint32_t block[4] = {0};
    for (int64_t s = 0; s < d.spatial; s++) {
        uint64_t index = (uint64_t)(c * d.spatial + s);
        if (s == 0 || index % 4 == 0) rng_block(&stream, index / 4, block);
        float u = (float)(block[index % 4] >> 8) * 0x1p-24f;
        mask[s * d.inner] = u >= r->d->p ? scale : 0.0f;
    }
}
static void run_draw(const Step *s) {
    const Drop *d = s->state;
    DropRun r = {d, step_ptr(s, d->mask), &s->plan->run};
    parallel_for(d->d.n * d->shape.d[1], draw_channel, &r);
}

static Err dropout_forward(Plan *p, PlanNode *n, int id) {
    Layout l = plan_layout(p, n->src[0]);
    Drop *d = arena_alloc(p->arena, sizeof *d);
    *d = (Drop){layout_dims(l, n->shape), n->shape, ((const DropoutAttr *)n->attr)->p, plan_new_value(p, "dropout mask", n->shape, DT_F32, l), id};
    n->saved = d->mask;
    Step *s = plan_step(p, id, "draw mask", run_draw, d);
    step_writes(s, d->mask);
    ValueId x = plan_src(p, n->src[0], l);
    emit_elt(p, id, "forward", (Elt){ELT_MUL, x, d->mask, plan_dst(p, id, l), ACT_NONE, 0});
    return OK;
}
static Err dropout_backward(Plan *p, PlanNode *n, int id) {
    Value y = p->values[n->value];
    ValueId dx = plan_new_value(p, y.name, y.shape, DT_F32, y.layout);
    emit_elt(p, id, "backward", (Elt){ELT_MUL, plan_grad(p, id, y.layout), n->saved, dx, ACT_NONE, 0});
    plan_add_grad(p, n->src[0], dx);
    return OK;
}
static bool dropout_accepts(const Plan *p, const PlanNode *n) {
    return n->shape.rank == 4 && n->shape.d[1] > 0;
}
const Kernel cpu_dropout = {&op_dropout, dropout_accepts, dropout_forward, dropout_backward};
