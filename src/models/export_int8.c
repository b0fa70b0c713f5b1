/* export_int8.c - weights and values in 8 bits, as pairs of QuantizeLinear and DequantizeLinear.
 *
 * Values: uint8, q = round(v / scale) + zero, scale = (hi - lo) / 255, zero = round(-lo / scale), from
 * ranges seen on images. Weights: int8, one scale per output channel, largest magnitude / 127, or as much more as
 * lets the bias fit: int32 of scale (input's * weight's). The classifiers stay in float32: they are small, and their rounding
 * would be the logits'. Runtimes fuse the pairs into 8-bit kernels; what follows from the file is the same.
 * Max pooling picks among values, so its result keeps the range of its source. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/export_priv.h"

static bool keeps_range(const OpDef *op) { return op == &op_max_pool || op == &op_dropout; }

void export_quantised(const Net *n, const ModelNodes *nodes, bool *mark) {
    int *uses = xcalloc((size_t)n->n_nodes, sizeof *uses),
        *relu = xcalloc((size_t)n->n_nodes, sizeof *relu);
    uses[nodes->logits.id] = 1;
    for (int id = nodes->logits.id; id > 0; id--)
        for (int i = 0; i < n->nodes[id].n_src && uses[id]; i++) {
            uses[n->nodes[id].src[i]]++;
            relu[n->nodes[id].src[i]] +=
                n->nodes[id].op == &op_relu || n->nodes[id].op == &op_batch_norm;
        }
    for (int id = 1; id < n->n_nodes; id++) {
        const NetNode *x = &n->nodes[id];
        mark[id] = uses[id] && x->n_src && x->op != &op_constant && uses[id] != relu[id] &&
                   x->shape.rank == 4;
    }
    mark[nodes->logits.id] = false;
    for (int i = 0; model_classifier(n, nodes->logits, i).id; i++)
        mark[model_classifier(n, nodes->logits, i).id] = false;
    free(uses), free(relu);
}
void export_share_ranges(const Net *n, ExportRange *range) {
    for (int id = 1; id < n->n_nodes; id++)
        if (keeps_range(n->nodes[id].op)) range[id] = range[n->nodes[id].src[0]];
}
bool export_is_int8(const Export *e, int id) {
    return e->o->range && e->o->range[id].hi > e->o->range[id].lo;
}
bool export_is_classifier(const Export *e, int id) {
    for (int i = 0; model_classifier(e->net, e->logits, i).id; i++)
        if (model_classifier(e->net, e->logits, i).id == id) return true;
    return false;
}

/* One that the weights of a channel and its bias fit, above 0. A channel that has died in training may have weights
 * far below its bias. */
static float weight_scale(const float *weight, int64_t n, float bias, float src_scale) {
    float top = 0;
    for (int64_t i = 0; i < n; i++) top = fmaxf(top, fabsf(weight[i]));
    const float least = fabsf(bias) / (float)(1 << 30) / src_scale, scale = fmaxf(top / 127, least);
    return scale >= FLT_MIN ? scale : top > 0 ? FLT_MIN : 1;
}
static float scale_of(ExportRange r) { return (r.hi - r.lo) / 255; }
static uint8_t zero_of(ExportRange r) { return (uint8_t)lrintf(-r.lo / scale_of(r)); }

const char *export_int8_value(Export *e, int id, const char *value) {
    const NetNode *x = &e->sized->nodes[id];
    if (keeps_range(x->op) && export_is_int8(e, x->src[0])) return value;
    const ExportRange r = e->o->range[id];
    const char *name = *x->name ? x->name : x->op->name;
    const char *scale = export_floats(e, name, (Shape){0}, &(float){scale_of(r)}),
               *zero = onnx_write_tensor(e->w, name, DT_U8, (Shape){0}, &(uint8_t){zero_of(r)});
    const char *q =
        onnx_write_node(e->w, "QuantizeLinear", name, INPUTS(value, scale, zero), NO_ATTRS);
    return onnx_write_node(e->w, "DequantizeLinear", name, INPUTS(q, scale, zero), NO_ATTRS);
}

void export_int8_weights(Export *e, const char *name, ExportRange src, Shape s, const float *weight,
                         const float *bias, const char *out[2]) {
    const int64_t outputs = s.d[0], per = shape_count(s) / outputs;
    int8_t *q = xcalloc((size_t)shape_count(s), 1), *zero = xcalloc((size_t)outputs, 1);
    int32_t *b = xcalloc((size_t)outputs, sizeof *b);
    float *scale = xcalloc((size_t)outputs, sizeof *scale),
          *b_scale = xcalloc((size_t)outputs, sizeof *b_scale);
    for (int64_t k = 0; k < outputs; k++) {
        scale[k] = weight_scale(weight + k * per, per, bias ? bias[k] : 0, scale_of(src));
        b_scale[k] = scale[k] * scale_of(src);
        for (int64_t i = 0; i < per; i++)
            q[k * per + i] = (int8_t)lrintf(weight[k * per + i] / scale[k]);
        if (bias && b_scale[k] > 0) b[k] = (int32_t)rint((double)bias[k] / (double)b_scale[k]);
    }
    const OnnxAttr axis = ATTR_INT("axis", 0);
    const Shape channels = SHAPE(outputs);
    out[0] = onnx_write_node(e->w, "DequantizeLinear", name,
                             INPUTS(onnx_write_tensor(e->w, name, DT_I8, s, q),
                                    export_floats(e, name, channels, scale),
                                    onnx_write_tensor(e->w, name, DT_I8, channels, zero)),
                             &axis, 1);
    if (bias)
        out[1] = onnx_write_node(e->w, "DequantizeLinear", name,
                                 INPUTS(onnx_write_tensor(e->w, name, DT_I32, channels, b),
                                        export_floats(e, name, channels, b_scale)),
                                 &axis, 1);
    free(q), free(zero), free(b), free(scale), free(b_scale);
}
