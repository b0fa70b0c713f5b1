/* fuzz_onnx.c - the ONNX format: messages to nodes, values and tensors. */
#include "fuzz.h"
#include "io/onnx.h"

FUZZ(onnx) {
    OnnxModel *m;
    Err rc = onnx_parse(data, n, "fuzz.onnx", NULL, &m);
    if (!rc) onnx_close(m);
    return rc;
}
