/* onnx_ops.h - the builders named in onnx_ops.def. */
#ifndef RETORT_MODELS_ONNX_OPS_H
#define RETORT_MODELS_ONNX_OPS_H
#include "models/onnx_priv.h"
#define ONNX_OP(name, since, until, builder) Err onnx_##builder(OnnxBuild *b, const OnnxNode *n);
#include "models/onnx_ops.def"
#undef ONNX_OP
#endif
