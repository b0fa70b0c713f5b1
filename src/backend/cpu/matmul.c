/* matmul.c - products of matrices: by oneDNN, or, where one of them is constant and mostly zero, by lists.
 *
 * Networks that were made for runtimes without a resize hold it as two products with interpolation matrices,
 * of which 99 % is zero. So a fixed matrix with at most one number in eight is kept as a list per result:
 *     rows      dst[m] = sum of w src[k] over the list of m      (fixed matrix on the left, whole rows of src)
 *     columns   dst[m][n] = sum of w src[m][k] over the list of n      (on the right)
 * What is zero is left out, so an infinity or NaN there does not spread. Backward is the op's own. */
#include <string.h>

#include "backend/cpu/dnn.h"
#include "backend/cpu/lanes.h"
#include "base/parallel.h"

enum { SPARSE_SHARE = 8 };
static Err backward(Plan *p, PlanNode *n, int id) { return kernel_generic.backward(p, n, id); }

/* ---- mostly zero ------------------------------------------------------------------------------------- */

typedef struct Sparse {
    bool     left;                   /* the fixed matrix stands on the left */
    int64_t  lists, inner, batch, m, n;      /* lists: M or N; inner: K; of dst: batch x m x n */
    int32_t *start, *at;             /* list i is at[start[i]] .. at[start[i + 1] - 1] */
    float   *w;
    ValueId  src, dst;
} Sparse;
typedef struct { const Sparse *s; const float *src; float *dst; } SparseRun;

/* The numbers of source i, where it is two-dimensional and nothing can change them. */
static const float *fixed_matrix(const Plan *p, const PlanNode *n, int i) {
    const PlanNode *src = &p->nodes[plan_resolve(p, n->src[i])];
    return src->op == &op_constant && src->shape.rank == 2 ? ((const ConstantAttr *)src->attr)->data
                                                           : NULL;
}
static int sparse_source(const Plan *p, const PlanNode *n) {
    const MatmulAttr *t = n->attr;
    for (int i = 0; i < 2 && !t->trans_a && !t->trans_b; i++) {
        const float *v = fixed_matrix(p, n, i);
        const int64_t count = v ? shape_count(p->nodes[n->src[i]].shape) : 0;
        int64_t full = 0;
        for (int64_t k = 0; k < count; k++) full += v[k] != 0;
        if (v && full * SPARSE_SHARE <= count && full < INT32_MAX) return i;
    }
    return -1;
}
static Sparse *make_lists(Plan *p, const PlanNode *n, int which) {
    const Shape fixed = p->nodes[n->src[which]].shape;
    const float *v = fixed_matrix(p, n, which);
    Sparse *s = arena_alloc(p->arena, sizeof *s);
    const bool left = which == 0;
    *s = (Sparse){.left = left, .lists = fixed.d[!left], .inner = fixed.d[left], .m = n->shape.d[n->shape.rank - 2], .n = n->shape.d[n->shape.rank - 1]};
    s->batch = shape_count(n->shape) / (s->m * s->n);
    int64_t full = 0;
    for (int64_t k = 0; k < s->lists * s->inner; k++) full += v[k] != 0;
    s->start = arena_alloc(p->arena, (size_t)(s->lists + 1) * sizeof *s->start);
    s->at = arena_alloc(p->arena, (size_t)(full + 1) * sizeof *s->at),
    s->w = arena_alloc(p->arena, (size_t)(full + 1) * sizeof *s->w);
    int32_t count = 0;
    for (int64_t i = 0; i < s->lists; i++) {
        for (int64_t k = 0; k < s->inner; k++) {
            const float w = v[left ? i * s->inner + k : k * s->lists + i];
            if (w != 0) s->at[count] = (int32_t)k, s->w[count++] = w;
        }
        s->start[i + 1] = count;
    }
    return s;
}
static void row_of_rows(const Sparse *s, int64_t m, const float *src, float *dst) {
    memset(dst, 0, (size_t)s->n * sizeof *dst);
    for (int32_t k = s->start[m]; k < s->start[m + 1]; k++)
        float_lanes()->axpy(dst, src + s->at[k] * s->n, s->w[k], s->n);
}
static void row_of_columns(const Sparse *s, const float *row, float *dst) {
    for (int64_t n = 0; n < s->n; n++) {
        float sum = 0;
        for (int32_t k = s->start[n]; k < s->start[n + 1]; k++) sum += s->w[k] * row[s->at[k]];
        dst[n] = sum;
    }
}
static void sparse_row(void *arg, int64_t i) {
    const SparseRun *r = arg;
    const Sparse *s = r->s;
    if (s->left) row_of_rows(s, i % s->m, r->src + i / s->m * s->inner * s->n, r->dst + i * s->n);
    else row_of_columns(s, r->src + i * s->inner, r->dst + i * s->n);
}
static void run_sparse(const Step *step) {
    const Sparse *s = step->state;
    SparseRun r = {s, step_ptr(step, s->src), step_ptr(step, s->dst)};
    parallel_for(s->batch * s->m, sparse_row, &r);
}
static bool sparse_accepts(const Plan *p, const PlanNode *n) { return sparse_source(p, n) >= 0; }
static Err sparse_forward(Plan *p, PlanNode *n, int id) {
    const int which = sparse_source(p, n);
    Sparse *s = make_lists(p, n, which);
    s->src = plan_src(p, n->src[1 - which], LAYOUT_PLAIN), s->dst = plan_dst(p, id, LAYOUT_PLAIN);
    Step *step = plan_step(p, id, "forward", run_sparse, s);
    step->impl = "retort:sparse";
    step_reads(step, s->src), step_writes(step, s->dst);
    return OK;
}
const Kernel cpu_sparse_matmul = {&op_matmul, false, sparse_accepts, sparse_forward, backward};

/* ---- dense ---------------------------------------------------------------------------------------------- */

/* As few dimensions as the product has: matrices behind one another against one matrix are one tall matrix. */
static void flatten(const MatmulAttr *t, Shape *a, Shape *b, Shape *dst) {
    const int rank = dst->rank;
    if (b->rank == 2 && !t->trans_a) {
        const int64_t K = a->d[a->rank - 1], N = dst->d[rank - 1];
        *a = SHAPE(shape_count(*a) / K, K), *dst = SHAPE(shape_count(*dst) / N, N);
        return;
    }
    Shape *const s[] = {a, b};
    for (int i = 0; i < 2; i++) {
        Shape wide = {.rank = rank};
        for (int k = 0; k < rank; k++)
            wide.d[k] = k < rank - s[i]->rank ? 1 : s[i]->d[k - rank + s[i]->rank];
        *s[i] = wide;
    }
}
typedef struct { DnnPrim *prim; ValueId value[DNN_ARG_COUNT]; } Dense;
static void run_dense(const Step *s) {
    const Dense *d = s->state;
    void *ptr[DNN_ARG_COUNT];
    for (int i = 0; i < DNN_ARG_COUNT; i++) ptr[i] = step_ptr(s, d->value[i]);
    dnn_run(d->prim, ptr);
}
static Err dense_forward(Plan *p, PlanNode *n, int id) {
    const MatmulAttr *t = n->attr;
    Shape a = p->nodes[n->src[0]].shape, b = p->nodes[n->src[1]].shape, dst = n->shape;
    flatten(t, &a, &b, &dst);
    Dense *d = arena_alloc(p->arena, sizeof *d);
    TRY(dnn_matmul(p, &(DnnMatmul){a, b, dst, t->trans_a, t->trans_b}, &d->prim));
    d->value[DNN_SCRATCH] = plan_new_bytes(p, "scratch", dnn_prim_scratch(d->prim));
    d->value[DNN_SRC] = plan_src(p, n->src[0], LAYOUT_PLAIN),
    d->value[DNN_WEIGHTS] = plan_src(p, n->src[1], LAYOUT_PLAIN);
    d->value[DNN_DST] = plan_dst(p, id, LAYOUT_PLAIN);
    Step *s = plan_step(p, id, "forward", run_dense, d);
    s->impl = dnn_prim_impl(d->prim);
    s->flops = 2.0 * (double)shape_count(dst) * (double)a.d[a.rank - 1 - t->trans_a];
    step_reads(s, d->value[DNN_SRC]), step_reads(s, d->value[DNN_WEIGHTS]);
    step_writes(s, d->value[DNN_SCRATCH]), step_writes(s, d->value[DNN_DST]);
    return OK;
}
const Kernel cpu_matmul = {&op_matmul, false, NULL, dense_forward, backward};
