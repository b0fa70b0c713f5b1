/* gradcheck.h - run one op through its reference with the contract enforced, and hold its backward
 * against central differences.
 *
 * The loss of the check is sum(dst * ddst) in double with fixed random ddst. In backward, sources and
 * result that `keep` does not name are NULL, and all gradients start at GRAD_START, so an op that reads
 * what it may not crashes and one that overwrites instead of adding is found. */
#ifndef RETORT_GRADCHECK_H
#define RETORT_GRADCHECK_H
#include "base/mem.h"
#include "base/rng.h"
#include "graph/op.h"
#include "test.h"

#define GRAD_START 0.25f
typedef struct OpCase {
    const OpDef *op;
    const void *attr;
    int n_src, n_param;
    Shape src_shape[NODE_SRC_MAX], param_shape[NODE_PARAM_MAX], shape;
    Dtype src_type[NODE_SRC_MAX];
    void  *src[NODE_SRC_MAX];                            /* float unless src_type says otherwise */
    float *dsrc[NODE_SRC_MAX], *param[NODE_PARAM_MAX], *dparam[NODE_PARAM_MAX], *dst, *ddst;
    int64_t count, *count_of[NODE_PARAM_MAX];
    void *saved, *scratch;
    OpRun run;
    Arena *arena;
    Err rc;                                              /* of infer */
} OpCase;

static inline OpSite case_site(const OpCase *c) {
    return (OpSite){c->attr, c->n_src, c->src_shape, c->src_type, c->n_param, c->param_shape};
}
static inline float *case_random(Arena *a, int64_t n, uint64_t use, float scale) {
    float *v = arena_alloc(a, (size_t)(n ? n : 1) * sizeof *v);
    const Rng r = rng_stream(42, RNG_METHOD, use, 0);
    for (int64_t i = 0; i < n; i++) v[i] = scale * (2 * rng_uniform(&r, (uint64_t)i) - 1);
    return v;
}
/* Shapes end with rank -1 (NONE). Fills sources and parameters with uniform +-1, infers, allocates. */
#define NONE ((Shape){.rank = -1})
static inline OpCase case_open(const OpDef *op, const void *attr, const Shape *src, const Shape *param) {
    OpCase c = {.op = op, .attr = attr, .arena = arena_open(), .run = {.training = true, .seed = 5}};
    for (; src[c.n_src].rank >= 0; c.n_src++) {
        c.src_shape[c.n_src] = src[c.n_src], c.src_type[c.n_src] = DT_F32;
        c.src[c.n_src] = case_random(c.arena, shape_count(src[c.n_src]), 10 + (uint64_t)c.n_src, 1);
    }
    for (; param && param[c.n_param].rank >= 0; c.n_param++) {
        c.param_shape[c.n_param] = param[c.n_param];
        c.param[c.n_param] = case_random(c.arena, shape_count(param[c.n_param]), 20 + (uint64_t)c.n_param, 1);
    }
    const OpSite site = case_site(&c);
    c.rc = op->infer(&site, &c.shape);
    if (c.rc) return c;
    const int64_t n = shape_count(c.shape);
    c.dst = case_random(c.arena, n, 30, 9), c.ddst = case_random(c.arena, n, 31, 1);   /* dst: rubbish to overwrite */
    if (op->saved_bytes) c.saved = arena_alloc(c.arena, op->saved_bytes(&site, c.shape));
    if (op->scratch_bytes) c.scratch = arena_alloc(c.arena, op->scratch_bytes(&site, c.shape));
    return c;
}
static inline void case_close(OpCase *c) { arena_close(c->arena); }

static inline OpCall case_call(OpCase *c) {
    if (c->op == &op_batch_norm) c->count_of[4] = &c->count;
    return (OpCall){.attr = c->attr, .n_src = c->n_src, .src_shape = c->src_shape, .shape = c->shape,
                    .src = (const void *const *)c->src, .dst = c->dst, .param = c->param, .param_count = c->count_of,
                    .ddst = c->ddst, .dsrc = c->dsrc, .dparam = c->dparam, .saved = c->saved, .scratch = c->scratch,
                    .run = &c->run, .node = 3};
}
static inline void case_forward(OpCase *c) {
    const OpCall call = case_call(c);
    c->op->forward(&call);
}
static inline float *case_gradient(OpCase *c, Shape s) {
    float *g = arena_alloc(c->arena, (size_t)(shape_count(s) + 1) * sizeof *g);
    for (int64_t i = 0; i < shape_count(s); i++) g[i] = GRAD_START;
    return g;
}
/* Gradients of every source with float values and every parameter; subtract GRAD_START to read them. */
static inline void case_backward(OpCase *c) {
    for (int k = 0; k < c->n_src; k++) c->dsrc[k] = c->op->shape_only >> k & 1 ? NULL : case_gradient(c, c->src_shape[k]);
    for (int k = 0; k < c->n_param; k++) c->dparam[k] = case_gradient(c, c->param_shape[k]);
    OpCall call = case_call(c);
    const void *kept[NODE_SRC_MAX] = {0};
    for (int k = 0; k < c->n_src; k++) kept[k] = c->op->keep & ((unsigned)KEEP_SRC0 << k) ? c->src[k] : NULL;
    call.src = kept;
    if (!(c->op->keep & KEEP_DST)) call.dst = NULL;
    c->op->backward(&call);
}
static inline double case_loss(OpCase *c) {
    double sum = 0;
    case_forward(c);
    for (int64_t i = 0; i < shape_count(c->shape); i++) sum += (double)c->dst[i] * c->ddst[i];
    return sum;
}
static inline void check_block(OpCase *c, const char *what, int index, float *v, const float *grad, int64_t n, double step, double tol) {
    for (int64_t i = 0; i < n && test_failures < 5; i++) {
        const float old = v[i], up = old + (float)step, down = old - (float)step;
        v[i] = up;
        const double high = case_loss(c);
        v[i] = down;
        const double low = case_loss(c);
        v[i] = old;
        const double want = (high - low) / ((double)up - (double)down), got = (double)grad[i] - GRAD_START;
        if (!(fabs(got - want) <= tol * fmax(1, fabs(want))))
            FAIL("%s: %s %d element %lld: gradient %.8g, differences give %.8g", c->op->name, what, index, (long long)i, got, want);
    }
}
/* Every element of every differentiable input. n_trainable: parameters behind it have no gradient. */
static inline void gradcheck(OpCase *c, int n_trainable, double step, double tol) {
    if (c->rc) {
        FAIL("%s: %s", c->op->name, err_text());
        return;
    }
    case_forward(c);
    case_backward(c);
    for (int k = 0; k < c->n_src; k++)
        if (c->dsrc[k]) check_block(c, "source", k, c->src[k], c->dsrc[k], shape_count(c->src_shape[k]), step, tol);
    for (int k = 0; k < n_trainable; k++)
        check_block(c, "parameter", k, c->param[k], c->dparam[k], shape_count(c->param_shape[k]), step, tol);
}
#endif
