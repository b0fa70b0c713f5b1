/* binary.c - dst = a op b element by element, shapes broadcast as numpy does.
 *
 * The gradient of a broadcast source is the sum over what it was spread to, in double, each element's
 * terms in row-major order of dst: one fixed order whatever the threads do. */
#include "graph/ops/op_util.h"
#include "graph/ops/strides.h"

static Err binary_infer(const OpSite *s, Shape *dst) {
    CHECK(s->n_src == 2);
    if (shape_broadcast(s->src[0], s->src[1], dst)) return OK;
    return err_set(E(EXIT_MODEL, 0), "binary: shapes %s and %s do not broadcast",
                   shape_text(s->src[0]).s, shape_text(s->src[1]).s);
}

static double apply(BinaryKind k, double a, double b) {
    switch (k) {
    case BINARY_ADD: return a + b;
    case BINARY_SUB: return a - b;
    case BINARY_MUL: return a * b;
    case BINARY_DIV: return a / b;
    case BINARY_MIN: return a < b ? a : b;
    case BINARY_MAX: return a > b ? a : b;
    default: return pow(a, b);
    }
}
/* Derivative by a (which = 0) or b; where min and max are equal, half to each, as in PyTorch. */
static double slope(BinaryKind k, int which, double a, double b) {
    const double pick = a == b ? 0.5 : (k == BINARY_MIN) == (which ? b < a : a < b);
    switch (k) {
    case BINARY_ADD: return 1;
    case BINARY_SUB: return which ? -1 : 1;
    case BINARY_MUL: return which ? a : b;
    case BINARY_DIV: return which ? -a / (b * b) : 1 / b;
    case BINARY_MIN:
    case BINARY_MAX: return pick;
    default: return which ? pow(a, b) * log(a) : b * pow(a, b - 1);
    }
}

typedef struct { const OpCall *c; BinaryKind kind; Strides s[2]; int which; } Job;

static Job job_of(const OpCall *c) {
    return (Job){c,
                 ((const BinaryAttr *)c->attr)->kind,
                 {strides_broadcast(c->src_shape[0], c->shape),
                  strides_broadcast(c->src_shape[1], c->shape)},
                 0};
}
static void forward_row(void *arg, int64_t i) {
    const Job *j = arg;
    const Shape s = j->c->shape;
    const int64_t n = row_length(s), sa = row_step(s, &j->s[0]), sb = row_step(s, &j->s[1]);
    const float *a = (const float *)j->c->src[0] + strides_row(s, &j->s[0], i),
                *b = (const float *)j->c->src[1] + strides_row(s, &j->s[1], i);
    for (int64_t k = 0; k < n; k++)
        j->c->dst[i * n + k] = (float)apply(j->kind, a[k * sa], b[k * sb]);
}
static void binary_forward(const OpCall *c) {
    Job j = job_of(c);
    parallel_for(row_count(c->shape), forward_row, &j);
}
/* Rows in float: a row against a row, or against one number. */
static void fast_row(void *arg, int64_t i) {
    const Job *j = arg;
    const Shape s = j->c->shape;
    const int64_t n = row_length(s), sa = row_step(s, &j->s[0]), sb = row_step(s, &j->s[1]);
    const float *a = (const float *)j->c->src[0] + strides_row(s, &j->s[0], i),
                *b = (const float *)j->c->src[1] + strides_row(s, &j->s[1], i);
    float *restrict dst = j->c->dst + i * n;
#define EACH(op) \
    if (sa && sb) for (int64_t k = 0; k < n; k++) dst[k] = a[k] op b[k]; \
    else if (sa) for (int64_t k = 0, one = 0; k < n; k++) dst[k] = a[k] op b[one]; \
    else for (int64_t k = 0; k < n; k++) dst[k] = a[0] op b[k * sb]; \
    break
    switch (j->kind) {
    case BINARY_ADD: EACH(+);
    case BINARY_SUB: EACH(-);
    case BINARY_MUL: EACH(*);
    case BINARY_DIV: EACH(/);
    default: forward_row(arg, i);
    }
#undef EACH
}
static void binary_fast(const OpCall *c) {
    Job j = job_of(c);
    parallel_for(row_count(c->shape), fast_row, &j);
}

/* The gradient of element e of source `which`: all elements of dst that read it. */
static void backward_element(void *arg, int64_t e) {
    const Job *j = arg;
    const OpCall *c = j->c;
    const int w = j->which;
    const Shape own = c->src_shape[w], s = c->shape;
    const Strides dst = strides_of(s), mine = strides_of(own);
    Shape spread = {.rank = s.rank};                     /* the dimensions this source is repeated along */
    int64_t base[3] = {0};                               /* of dst, a, b */
    for (int i = 0; i < s.rank; i++) {
        const int k = i - (s.rank - own.rank);
        const bool repeated = k < 0 || own.d[k] == 1;
        const int64_t at = repeated ? 0 : e / mine.v[k] % own.d[k];
        spread.d[i] = repeated ? s.d[i] : 1;
        base[0] += at * dst.v[i], base[1] += at * j->s[0].v[i], base[2] += at * j->s[1].v[i];
    }
    double sum = 0;
    const int64_t n = row_length(spread), rows = row_count(spread);
    for (int64_t r = 0; r < rows; r++) {
        const float *d = c->ddst + base[0] + strides_row(spread, &dst, r);
        const float *a = (const float *)c->src[0] + base[1] + strides_row(spread, &j->s[0], r),
                    *b = (const float *)c->src[1] + base[2] + strides_row(spread, &j->s[1], r);
        const int64_t sd = row_step(spread, &dst), sa = row_step(spread, &j->s[0]),
                      sb = row_step(spread, &j->s[1]);
        for (int64_t k = 0; k < n; k++) sum += d[k * sd] * slope(j->kind, w, a[k * sa], b[k * sb]);
    }
    c->dsrc[w][e] += (float)sum;
}
static void binary_backward(const OpCall *c) {
    Job j = job_of(c);
    for (j.which = 0; j.which < 2; j.which++)
        if (c->dsrc[j.which])
            parallel_for(shape_count(c->src_shape[j.which]), backward_element, &j);
}

const OpDef op_binary = {.name = "binary",
                         .keep = KEEP_SRC0 | KEEP_SRC1,
                         .infer = binary_infer,
                         .forward = binary_forward,
                         .backward = binary_backward,
                         .fast_forward = binary_fast};
