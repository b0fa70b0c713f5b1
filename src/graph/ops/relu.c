/* relu.c - max(x, 0), or min(max(x, 0), 6). Backward reads the result only. */
#include "graph/ops/op_util.h"

static void relu_forward(const OpCall *c) {
    const Act act = ((const ActAttr *)c->attr)->act;
    const float *src = c->src[0];
    const int64_t n = shape_count(c->shape);
    for (int64_t i = 0; i < n; i++) {
        float v = src[i] < 0 ? 0 : src[i];               /* keeps NaN */
        c->dst[i] = act == ACT_RELU6 && v > 6 ? 6 : v;
    }
}
static void relu_backward(const OpCall *c) {
    const Act act = ((const ActAttr *)c->attr)->act;
    const float *dst = c->dst;
    float *dsrc = c->dsrc[0];
    const int64_t n = shape_count(c->shape);
    for (int64_t i = 0; dsrc && i < n; i++)
        if (act_passes(act, dst[i])) dsrc[i] += c->ddst[i];
}

const OpDef op_relu = {.name = "relu", .keep = KEEP_DST, .infer = infer_same,
                       .forward = relu_forward, .backward = relu_backward};
