/* dnn.h - the one door to oneDNN: dnn.c holds every call and every difference between 2.6 and 3.x.
 *
 * Layouts of activations are ours (tensor.h); layouts of weights are opaque (DnnMd). Primitives are
 * created while a plan is made, with all memory objects and the scratchpad; running one only checks
 * that pointers are still those of last time, so it allocates nothing. */
#ifndef RETORT_BACKEND_CPU_DNN_H
#define RETORT_BACKEND_CPU_DNN_H
#include "backend/plan_priv.h"

typedef struct DnnMd DnnMd;                  /* a memory description; lives in the plan's CpuState */
typedef struct DnnPrim DnnPrim;              /* a primitive with its memories */
typedef enum { DNN_SRC, DNN_WEIGHTS, DNN_BIAS, DNN_DST, DNN_SCRATCH, DNN_ARG_COUNT } DnnArg;   /* same for gradients */
typedef enum { DNN_FORWARD, DNN_BACKWARD_DATA, DNN_BACKWARD_WEIGHTS } DnnPass;

DnnMd *dnn_md_activation(Plan *p, Shape s, Dtype t, int layout);     /* a Layout, or -1: oneDNN chooses */
DnnMd *dnn_md_weights(Plan *p, Shape s, int groups, Dtype t, bool any);
DnnMd *dnn_md_vector(Plan *p, int64_t n);
size_t dnn_md_bytes(const DnnMd *m);
bool   dnn_md_equal(const DnnMd *a, const DnnMd *b);
bool   dnn_md_layout(const DnnMd *m, Layout *out);                   /* false: none of ours */

typedef struct DnnConv {                     /* one pass of one convolution */
    Shape src, weights, dst;                 /* weights: OIHW */
    int   stride, dilation, groups, src_layout, dst_layout;          /* layouts: -1 = oneDNN chooses */
    int64_t pad[2], pad_end[2];              /* before and behind, of H and W */
    bool  bias, inference, residual;         /* residual: dst holds the summand */
    Act   act;
    const float *scales;                     /* [channels of dst], with t = DT_U8 (weights are DT_I8 then), or NULL:
                                                dst = act(scales * sums + bias + residual_scale * residual), act's 6 being `six` */
    float residual_scale, six; Dtype residual_t;
    Dtype t, dst_t;                          /* of src, weights and their data gradient; of dst. bfloat16: weights' gradient in float32 */
    DnnPass pass;
} DnnConv;
Err dnn_conv(Plan *p, const DnnConv *c, DnnPrim **out);              /* E1000-family on failure, with the shapes */
typedef struct DnnMatmul { Shape a, b, dst; bool trans_a, trans_b; } DnnMatmul;      /* of one rank; leading sides of a and b may be 1 */
Err dnn_matmul(Plan *p, const DnnMatmul *m, DnnPrim **out);          /* DNN_SRC = a, DNN_WEIGHTS = b */
DnnPrim *dnn_reorder(Plan *p, const DnnMd *from, const DnnMd *to, bool add);   /* DNN_SRC -> DNN_DST */
DnnPrim *dnn_rescale(Plan *p, const DnnMd *from, const DnnMd *to, float factor);   /* to = factor * from, integers rounded and cut off */
float  dnn_scaled_bias(float bias, float scale);     /* as a convolution with `scales` wants it */
const DnnMd *dnn_prim_md(const DnnPrim *m, DnnArg arg);
size_t dnn_prim_scratch(const DnnPrim *m);
const char *dnn_prim_impl(const DnnPrim *m);
void dnn_run(DnnPrim *m, void *const ptr[DNN_ARG_COUNT]);            /* NULL where unused */
#endif
