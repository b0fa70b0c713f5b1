/* convert.c - see convert.h. */
#include "tensor/convert.h"

#include <math.h>
#include <string.h>

static float half_value(uint16_t h) {
    const int exponent = h >> 10 & 31, mantissa = h & 1023;
    const float v = exponent == 31 ? (mantissa ? NAN : INFINITY)
                    : exponent     ? ldexpf((float)(mantissa | 1024), exponent - 25)
                                   : ldexpf((float)mantissa, -24);
    return h >> 15 ? -v : v;
}
float tensor_float(const Tensor *t, int64_t i) {
    uint32_t bits;
    float v;
    switch (t->dtype) {
    case DT_F32: return ((const float *)t->data)[i];
    case DT_F64: return (float)((const double *)t->data)[i];
    case DT_F16: return half_value(((const uint16_t *)t->data)[i]);
    case DT_BF16:
        bits = (uint32_t)((const uint16_t *)t->data)[i] << 16;
        memcpy(&v, &bits, sizeof v);
        return v;
    default: return (float)tensor_int(t, i);
    }
}
int64_t tensor_int(const Tensor *t, int64_t i) {
    switch (t->dtype) {
    case DT_I32: return ((const int32_t *)t->data)[i];
    case DT_I64: return ((const int64_t *)t->data)[i];
    case DT_I8: return ((const int8_t *)t->data)[i];
    default: return ((const uint8_t *)t->data)[i];
    }
}
