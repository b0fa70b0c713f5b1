/* onnx.h - ONNX model files: bytes to a graph of nodes, values and tensors. Knows no operator.
 *
 * Names, attributes and tensors live as long as the model. Tensors keep the types of tensor.h: int16 and
 * uint16 become int32, uint32 and uint64 int64. Limits: 2 GiB, 100 nested messages, unpacked at most the
 * file's size + 60 MB (rows 46 and 60 of the failure table). */
#ifndef RETORT_IO_ONNX_H
#define RETORT_IO_ONNX_H
#include "tensor/tensor.h"

typedef enum { ONNX_INT, ONNX_FLOAT, ONNX_STRING, ONNX_TENSOR, ONNX_INTS, ONNX_FLOATS, ONNX_OTHER } OnnxKind;
typedef struct OnnxAttr {
    const char *name;
    OnnxKind    kind;                /* OTHER: graphs, types, lists of strings */
    int64_t     i;
    float       f;
    const char *s;
    const int64_t *ints;             /* [n] */
    const float   *floats;           /* [n] */
    int         n;
    const Tensor *tensor;
} OnnxAttr;
typedef struct OnnxNode {
    const char *name, *op, *domain;  /* name: its first output where the file gives none; domain "" is ONNX's own */
    int        *in, *out;            /* indices into the model's values; 0 where an optional one is left out */
    int         n_in, n_out;
    OnnxAttr   *attr;
    int         n_attr;
} OnnxNode;
typedef struct OnnxValue {
    const char   *name;
    const Tensor *tensor;            /* of an initialiser */
    int           node;              /* that makes it; -1: an input or initialiser */
    bool          typed;             /* of inputs and outputs: dtype is given and one of ours */
    Dtype         dtype;
    Shape         shape;             /* of inputs and outputs: rank -1: not given; a dimension -1: free */
} OnnxValue;
typedef struct OnnxModel {
    Arena      *arena;
    const char *name, *producer;     /* of the file, for errors; of the program that wrote it */
    int         opset;               /* of ONNX's own domain */
    OnnxNode   *node;   int n_node;  /* producers first, as the format demands */
    OnnxValue  *value;  int n_value; /* value[0] is no value */
    int        *input;  int n_input; /* without those that are initialisers */
    int        *output; int n_output;
    void       *message;             /* what the names and most data point into */
    void      **block; int n_block, cap_block;       /* data read from other files */
} OnnxModel;
/* Reads the file and the data files beside it that it names. Errors are E4060, E4046 and those of reading. */
Err  onnx_read(const char *path, OnnxModel **out);
/* Pure, over bytes; name stands for the file in errors. folder: where data files may lie; NULL: refuse them. */
Err  onnx_parse(const uint8_t *data, size_t bytes, const char *name, const char *folder, OnnxModel **out);
void onnx_close(OnnxModel *m);       /* NULL is fine */
const OnnxAttr *onnx_attr(const OnnxNode *n, const char *name);      /* NULL when absent */
#endif
