/* onnx_quantize.c - 8-bit files: QuantizeLinear is a node that rounds, DequantizeLinear behind it nothing, and
 * before constants their values. */
#include <string.h>

#include "models/onnx_ops.h"

/* The type of 8 bits is the zero point's; without one it is uint8. */
Err onnx_quantize(OnnxBuild *b, const OnnxNode *n) {
    const Tensor *scale = ob_constant(b, 1), *zero = ob_constant(b, 2),
                 *raw = ob_given(b, 2) ? b->m->value[n->in[2]].tensor : NULL;
    const bool is_signed = raw && raw->dtype == DT_I8;
    if (!scale || scale->dtype != DT_F32 || shape_count(scale->shape) != 1 ||
        !(*(const float *)scale->data > 0))
        return ob_refuse(b, "its scale is not one constant above 0");
    if (ob_given(b, 2) &&
        (!raw || (raw->dtype != DT_I8 && raw->dtype != DT_U8) || shape_count(zero->shape) != 1))
        return ob_refuse(b, "its zero point is no int8 or uint8 number");
    const QuantizeAttr a = {.scale = *(const float *)scale->data,
                            .zero = zero ? (int)*(const int64_t *)zero->data : 0,
                            .lo = is_signed ? -128 : 0,
                            .hi = is_signed ? 127 : 255};
    return ob_out(b, 0, ob_add1(b, &op_quantize, &a, sizeof a, ob_src(b, 0))), OK;
}
static bool same_numbers(const Tensor *a, const Tensor *b) {
    const size_t width = a ? dtype_bytes(a->dtype) : 0;
    if (!a || !b) return a == b;
    return a->dtype == b->dtype && shape_count(a->shape) == shape_count(b->shape) &&
           !memcmp(a->data, b->data, (size_t)shape_count(a->shape) * width);
}
/* QuantizeLinear's result lies on the scale already, so it stays as it is, if its scale is meant. */
Err onnx_dequantize(OnnxBuild *b, const OnnxNode *n) {
    static const char *const MOVES[] = {"Identity", "Reshape",   "Flatten", "Squeeze",
                                        "Unsqueeze", "Transpose", "Slice",   "MaxPool", NULL};
    const int made_by = b->m->value[onnx_before(b->m, n->n_in ? n->in[0] : 0, MOVES)].node;
    const OnnxNode *from = made_by >= 0 ? &b->m->node[made_by] : NULL;
    const Tensor *scale = ob_constant(b, 1), *zero = ob_constant(b, 2);
    if (!from || strcmp(from->op, "QuantizeLinear"))
        return ob_refuse(b, "is not behind a QuantizeLinear");
    b->node = from;
    const bool same =
        same_numbers(scale, ob_constant(b, 1)) && same_numbers(zero, ob_constant(b, 2));
    b->node = n;
    if (!same) return ob_refuse(b, "does not undo its QuantizeLinear: scale or zero point differ");
    return onnx_same(b, n);
}
/* (q - zero) scale; scale and zero: one number, or one per index of an axis. */
Err onnx_fold_dequantize(OnnxBuild *b) {
    const Tensor *q = ob_constant(b, 0), *scale = ob_constant(b, 1), *zero = ob_constant(b, 2);
    const int64_t n = scale ? shape_count(scale->shape) : 0, count = q ? shape_count(q->shape) : 0;
    int64_t inner = 1;
    int axis = 0;
    Tensor *out;
    if (ob_int(b->node, "block_size", 0))
        return ob_refuse(b, "its scales are of blocks; export with one per channel");
    if (n < 1 || scale->dtype != DT_F32 || q->dtype != DT_I64 ||
        (zero && (zero->dtype != DT_I64 || shape_count(zero->shape) != n)))
        return ob_refuse(b, "its constants are no 8-bit numbers with their scale");
    if (n > 1) {
        TRY(ob_axis(b, ob_int(b->node, "axis", 1), q->shape.rank, &axis));
        if (q->shape.d[axis] != n) return ob_refuse(b, "its scales do not fit its axis");
        for (int i = axis + 1; i < q->shape.rank; i++) inner *= q->shape.d[i];
    }
    TRY(ob_tensor(b, DT_F32, q->shape, &out));
    for (int64_t i = 0; i < count; i++) {
        const int64_t k = i / inner % n;
        ((float *)out->data)[i] =
            (float)(((const int64_t *)q->data)[i] - (zero ? ((const int64_t *)zero->data)[k] : 0)) *
            ((const float *)scale->data)[k];
    }
    return ob_out_constant(b, 0, out), OK;
}
