/* softmax.c - along one dimension: dst = e^(x - m) / sum e^(x - m), m the largest x; or its logarithm.
 *
 *   softmax      dx = y (dy - sum y dy)
 *   log_softmax  dx = dy - e^y sum dy
 * Sums in double. A line is the elements along the dimension, `inner` apart. */
#include "graph/ops/op_util.h"

static Err softmax_infer(const OpSite *s, Shape *dst) {
    const SoftmaxAttr *a = s->attr;
    if (a->axis < 0 || a->axis >= s->src[0].rank || s->src[0].d[a->axis] < 1)
        return err_set(E(EXIT_MODEL, 0), "softmax: dimension %d of %s", a->axis,
                       shape_text(s->src[0]).s);
    return infer_same(s, dst);
}

typedef struct { const OpCall *c; int64_t n, inner; bool log; } Job;
static Job job_of(const OpCall *c) {
    const SoftmaxAttr *a = c->attr;
    Job j = {c, c->shape.d[a->axis], 1, a->log};
    for (int i = a->axis + 1; i < c->shape.rank; i++) j.inner *= c->shape.d[i];
    return j;
}
static int64_t line_count(const Job *j) { return shape_count(j->c->shape) / j->n; }
static int64_t line_start(const Job *j, int64_t i) {
    return i / j->inner * j->n * j->inner + i % j->inner;
}

static void forward_line(void *arg, int64_t i) {
    const Job *j = arg;
    const int64_t at = line_start(j, i);
    const float *x = (const float *)j->c->src[0] + at;
    float *y = j->c->dst + at, most = x[0];
    double sum = 0;
    for (int64_t k = 1; k < j->n; k++) most = fmaxf(most, x[k * j->inner]);
    for (int64_t k = 0; k < j->n; k++) sum += exp((double)x[k * j->inner] - most);
    for (int64_t k = 0; k < j->n; k++) {
        const double v = (double)x[k * j->inner] - most;
        y[k * j->inner] = (float)(j->log ? v - log(sum) : exp(v) / sum);
    }
}
static void backward_line(void *arg, int64_t i) {
    const Job *j = arg;
    const int64_t at = line_start(j, i);
    const float *y = j->c->dst + at, *d = j->c->ddst + at;
    float *dx = j->c->dsrc[0] + at;
    double sum = 0;
    for (int64_t k = 0; k < j->n; k++)
        sum += j->log ? d[k * j->inner] : (double)y[k * j->inner] * d[k * j->inner];
    for (int64_t k = 0; k < j->n; k++) {
        const double p = j->log ? exp(y[k * j->inner]) : y[k * j->inner];
        const double dy = d[k * j->inner];
        dx[k * j->inner] += (float)(j->log ? dy - p * sum : p * (dy - sum));
    }
}
/* The same in float, where a line is contiguous. */
static void fast_line(void *arg, int64_t i) {
    const Job *j = arg;
    const float *x = (const float *)j->c->src[0] + i * j->n;
    float *y = j->c->dst + i * j->n, most = x[0], sum = 0;
    for (int64_t k = 1; k < j->n; k++) most = x[k] > most ? x[k] : most;
    for (int64_t k = 0; k < j->n; k++) sum += y[k] = expf(x[k] - most);
    for (int64_t k = 0; k < j->n; k++) y[k] /= sum;
}
static void softmax_forward(const OpCall *c) {
    Job j = job_of(c);
    parallel_for(line_count(&j), forward_line, &j);
}
static void softmax_fast(const OpCall *c) {
    Job j = job_of(c);
    parallel_for(line_count(&j), j.inner == 1 && !j.log ? fast_line : forward_line, &j);
}
static void softmax_backward(const OpCall *c) {
    Job j = job_of(c);
    if (c->dsrc[0]) parallel_for(line_count(&j), backward_line, &j);
}

const OpDef op_softmax = {.name = "softmax",
                          .keep = KEEP_DST,
                          .infer = softmax_infer,
                          .forward = softmax_forward,
                          .backward = softmax_backward,
                          .fast_forward = softmax_fast};
