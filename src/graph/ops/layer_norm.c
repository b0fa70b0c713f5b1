/* layer_norm.c - each line of n elements to mean 0 and variance 1: y = (x - m) / sqrt(v + eps).
 *
 * Lines are the last `dims` dimensions; weights and biases are products and sums of their own. Backward, with
 * r = 1 / sqrt(v + eps) saved:  dx = r (dy - mean(dy) - y mean(dy y)).  Sums in double. */
#include "graph/ops/op_util.h"

static Err layer_norm_infer(const OpSite *s, Shape *dst) {
    const LayerNormAttr *a = s->attr;
    if (a->dims < 1 || a->dims > s->src[0].rank || shape_count(s->src[0]) < 1)
        return err_set(E(EXIT_MODEL, 0), "layer_norm: %d dimensions of %s", a->dims,
                       shape_text(s->src[0]).s);
    return infer_same(s, dst);
}
static int64_t line_length(const void *attr, Shape s) {
    int64_t n = 1;
    for (int i = s.rank - ((const LayerNormAttr *)attr)->dims; i < s.rank; i++) n *= s.d[i];
    return n;
}
static size_t layer_norm_saved(const OpSite *s, Shape dst) {
    return (size_t)(shape_count(dst) / line_length(s->attr, dst)) * sizeof(float);
}
static void forward_line(void *arg, int64_t i) {
    const OpCall *c = arg;
    const int64_t n = line_length(c->attr, c->shape);
    const float *x = (const float *)c->src[0] + i * n;
    float *y = c->dst + i * n;
    double sum = 0, sum2 = 0;
    for (int64_t k = 0; k < n; k++) sum += x[k];
    const double mean = sum / (double)n;
    for (int64_t k = 0; k < n; k++) sum2 += (x[k] - mean) * (x[k] - mean);
    const double r = 1 / sqrt(sum2 / (double)n + ((const LayerNormAttr *)c->attr)->eps);
    for (int64_t k = 0; k < n; k++) y[k] = (float)((x[k] - mean) * r);
    ((float *)c->saved)[i] = (float)r;
}
static void backward_line(void *arg, int64_t i) {
    const OpCall *c = arg;
    const int64_t n = line_length(c->attr, c->shape);
    const float *y = c->dst + i * n, *d = c->ddst + i * n;
    double sum = 0, sum2 = 0;
    for (int64_t k = 0; k < n; k++) sum += d[k], sum2 += (double)d[k] * y[k];
    const double r = ((const float *)c->saved)[i], mean = sum / (double)n, mean2 = sum2 / (double)n;
    for (int64_t k = 0; k < n; k++)
        c->dsrc[0][i * n + k] += (float)(r * (d[k] - mean - y[k] * mean2));
}
static int64_t lines(const OpCall *c) {
    return shape_count(c->shape) / line_length(c->attr, c->shape);
}
static void layer_norm_forward(const OpCall *c) { parallel_for(lines(c), forward_line, (void *)c); }
static void layer_norm_backward(const OpCall *c) {
    if (c->dsrc[0]) parallel_for(lines(c), backward_line, (void *)c);
}

const OpDef op_layer_norm = {.name = "layer_norm", .keep = KEEP_DST, .infer = layer_norm_infer,
                             .saved_bytes = layer_norm_saved, .forward = layer_norm_forward,
                             .backward = layer_norm_backward};
