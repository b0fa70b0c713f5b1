/* convert.h - single elements of a tensor of any type as a number. */
#ifndef RETORT_TENSOR_CONVERT_H
#define RETORT_TENSOR_CONVERT_H
#include "tensor/tensor.h"

float   tensor_float(const Tensor *t, int64_t i);    /* of the float types: rounded once */
int64_t tensor_int(const Tensor *t, int64_t i);      /* of the integer types and bool */
#endif
