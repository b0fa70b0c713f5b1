/* onnx_write.h - building an ONNX model node by node and writing it. Knows no operator.
 *
 * Names of values are made unique here: every call that makes a value returns the name it got. All
 * texts and data are copied into the writer's arena. */
#ifndef RETORT_IO_ONNX_WRITE_H
#define RETORT_IO_ONNX_WRITE_H
#include "io/onnx.h"
#include "io/safetensors.h"

enum { ONNX_WRITE_MIN = 11, ONNX_WRITE_MAX = 23 };   /* opsets that are written */
typedef struct OnnxWriter OnnxWriter;
typedef struct { int64_t size; const char *name; } OnnxDim;      /* name: of a free one; size is then ignored */

/* output: what the one output will be called; no other value gets that name. */
OnnxWriter *onnx_write_open(const char *graph, int opset, const char *output);
void onnx_write_close(OnnxWriter *w);                /* NULL is fine */
int  onnx_write_opset(const OnnxWriter *w);
const char *onnx_write_input(OnnxWriter *w, const char *name, Dtype t, const OnnxDim *dim, int rank);
const char *onnx_write_tensor(OnnxWriter *w, const char *name, Dtype t, Shape s, const void *data);
/* A node of one output. in: names, "" where an optional one is left out. */
const char *onnx_write_node(OnnxWriter *w, const char *op, const char *name, const char *const *in,
                            int n_in, const OnnxAttr *attr, int n_attr);
void onnx_write_output(OnnxWriter *w, const char *value, Dtype t, const OnnxDim *dim, int rank);    /* once */
void onnx_write_meta(OnnxWriter *w, const char *key, const char *value);
/* The file's bytes; caller frees *data. E7060 above 2 GiB, protobuf's limit. */
Err  onnx_write_pack(const OnnxWriter *w, uint8_t **data, size_t *bytes);
#endif
