/* tensor.h - element types, shapes and plain tensors.
 *
 * Shapes are always PyTorch's order (NCHW, OIHW, any rank up to 6). How a backend lays a value out
 * in memory is its Layout; files, references and everything outside backend/ see LAYOUT_PLAIN. */
#ifndef RETORT_TENSOR_H
#define RETORT_TENSOR_H
#include "base/mem.h"

typedef enum { DT_F32, DT_BF16, DT_F16, DT_F64, DT_I32, DT_I64, DT_U8, DT_I8, DT_BOOL, DT_COUNT } Dtype;
size_t      dtype_bytes(Dtype t);
const char *dtype_name(Dtype t);                     /* "float32", as in PyTorch */
float       bf16_to_f32(uint16_t v);
uint16_t    f32_to_bf16(float v);                    /* nearest, ties to even; NaN stays NaN */

enum { RANK_MAX = 6 };
typedef struct { int rank; int64_t d[RANK_MAX]; } Shape;   /* rank 0: a scalar */
#define SHAPE(...) shape_of((const int64_t[]){__VA_ARGS__}, (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))
Shape   shape_of(const int64_t *d, int rank);
int64_t shape_count(Shape s);                        /* elements; CHECKs against overflow */
bool    shape_equal(Shape a, Shape b);
bool    shape_bytes(Shape s, Dtype t, size_t *out);  /* false on overflow or negative */
typedef struct { char s[96]; } ShapeText;
ShapeText shape_text(Shape s);                       /* "4x3x360x360", "scalar" */

/* How a value of rank 4 lies in memory. All are (N, outer, H*W, inner) with C = outer * inner:
 * PLAIN inner = 1, LAST outer = 1, C8 / C16 inner = 8 / 16 with C padded up by zeros.
 * Other ranks are PLAIN. */
typedef enum { LAYOUT_PLAIN, LAYOUT_LAST, LAYOUT_C8, LAYOUT_C16 } Layout;
typedef struct { int64_t n, outer, spatial, inner; } LayoutDims;
LayoutDims layout_dims(Layout l, Shape s);           /* inner is the padded block; see above */
size_t     layout_bytes(Layout l, Shape s, Dtype t);
/* Copy between layouts, float32 (plain C, the reference for a backend's reorder). */
void layout_copy_f32(float *dst, Layout to, const float *src, Layout from, Shape s);

typedef struct {                                     /* a plain tensor with a name */
    const char *name;
    Dtype  dtype;
    Shape  shape;
    void  *data;
} Tensor;
typedef struct { Tensor *v; int n, cap; Arena *arena; } TensorList;   /* names and data live in arena */
Tensor *tensor_find(const TensorList *l, const char *name);           /* NULL when absent */
Tensor *tensor_add(TensorList *l, const char *name, Dtype t, Shape s); /* zeroed data in l->arena */
TensorList *tensor_list_open(void);
void tensor_list_close(TensorList *l);
#endif
