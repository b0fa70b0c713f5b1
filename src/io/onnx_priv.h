/* onnx_priv.h - between the files of the ONNX reader. */
#ifndef RETORT_IO_ONNX_PRIV_H
#define RETORT_IO_ONNX_PRIV_H
#include "io/onnx.h"
#include "onnx.pb-c.h"               /* made from libonnx's schema when building */

/* Walks the wire format before protobuf-c may: depth, lengths, and what unpacking would take. */
Err onnx_scan(const uint8_t *data, size_t bytes, const char *name);
bool onnx_dtype(int32_t type, Dtype *out);     /* what an ONNX element type becomes; false: not read */
/* The tensor of a message; its data points into the message where the types agree, else into m's arena. */
Err onnx_tensor(OnnxModel *m, const char *folder, const Onnx__TensorProto *from, Tensor *out);
#endif
