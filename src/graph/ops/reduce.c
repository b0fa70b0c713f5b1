/* reduce.c - sum, mean, largest, smallest or Euclidean norm over some dimensions, which become 1.
 *
 * Derivatives: sum 1; mean 1 / n; norm x / y (0 where y is 0); largest and smallest share theirs evenly
 * among equals, as PyTorch's amax and amin. Sums in double, in the order of the source. */
#include "graph/ops/op_util.h"
#include "graph/ops/strides.h"

static Err reduce_infer(const OpSite *s, Shape *dst) {
    const ReduceAttr *a = s->attr;
    *dst = s->src[0];
    for (int i = 0; i < dst->rank; i++)
        if (a->axes >> i & 1) dst->d[i] = 1;
    if (shape_count(s->src[0]) > 0) return OK;
    return err_set(E(EXIT_MODEL, 0), "reduce: over nothing, %s", shape_text(s->src[0]).s);
}

/* The elements behind one result: `part` is their shape, `own` the strides of src. */
typedef struct { const OpCall *c; ReduceKind kind; Shape part; Strides own; int64_t n; } Job;
static Job job_of(const OpCall *c) {
    const ReduceAttr *a = c->attr;
    Job j = {c, a->kind, c->src_shape[0], strides_of(c->src_shape[0]), 0};
    for (int i = 0; i < j.part.rank; i++)
        if (!(a->axes >> i & 1)) j.part.d[i] = 1;
    j.n = shape_count(j.part);
    return j;
}
static int64_t first_of(const Job *j, int64_t i) {
    const Shape s = j->c->shape;
    int64_t at = 0;
    for (int k = s.rank - 1; k >= 0; k--) at += i % s.d[k] * j->own.v[k], i /= s.d[k];
    return at;
}
static double combine(ReduceKind kind, double sum, double v) {
    switch (kind) {
    case REDUCE_MAX: return v > sum ? v : sum;
    case REDUCE_MIN: return v < sum ? v : sum;
    case REDUCE_L2: return sum + v * v;
    default: return sum + v;
    }
}
static void forward_one(void *arg, int64_t i) {
    const Job *j = arg;
    const float *src = (const float *)j->c->src[0] + first_of(j, i);
    const int64_t n = row_length(j->part), step = row_step(j->part, &j->own);
    double sum = j->kind == REDUCE_MAX || j->kind == REDUCE_MIN ? src[0] : 0;
    for (int64_t r = 0; r < row_count(j->part); r++) {
        const float *x = src + strides_row(j->part, &j->own, r);
        for (int64_t k = 0; k < n; k++) sum = combine(j->kind, sum, x[k * step]);
    }
    if (j->kind == REDUCE_MEAN) sum /= (double)j->n;
    j->c->dst[i] = (float)(j->kind == REDUCE_L2 ? sqrt(sum) : sum);
}
static void backward_one(void *arg, int64_t i) {
    const Job *j = arg;
    const int64_t first = first_of(j, i), n = row_length(j->part),
                  step = row_step(j->part, &j->own);
    const double y = j->c->dst[i], dy = j->c->ddst[i];
    const bool extreme = j->kind == REDUCE_MAX || j->kind == REDUCE_MIN;
    int64_t equals = 0;
    for (int64_t r = 0; extreme && r < row_count(j->part); r++)
        for (int64_t k = 0; k < n; k++)
            equals +=
                ((const float *)
                     j->c->src[0])[first + strides_row(j->part, &j->own, r) + k * step] == (float)y;
    for (int64_t r = 0; r < row_count(j->part); r++) {
        const int64_t at = first + strides_row(j->part, &j->own, r);
        for (int64_t k = 0; k < n; k++) {
            const double x = ((const float *)j->c->src[0])[at + k * step];
            const double slope = extreme ? (x == y ? 1 / (double)equals : 0)
                               : j->kind == REDUCE_MEAN ? 1 / (double)j->n
                               : j->kind == REDUCE_L2 ? (y > 0 ? x / y : 0) : 1;
            j->c->dsrc[0][at + k * step] += (float)(dy * slope);
        }
    }
}
static void reduce_forward(const OpCall *c) {
    Job j = job_of(c);
    parallel_for(shape_count(c->shape), forward_one, &j);
}
static void reduce_backward(const OpCall *c) {
    Job j = job_of(c);
    if (c->dsrc[0]) parallel_for(shape_count(c->shape), backward_one, &j);
}

const OpDef op_reduce = {.name = "reduce", .keep = KEEP_SRC0 | KEEP_DST, .infer = reduce_infer,
                         .forward = reduce_forward, .backward = reduce_backward};
