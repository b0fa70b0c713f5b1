/* lanes.h - the inner loops of the CPU backend's own kernels, one table per instruction set and element type.
 *
 * Every activation layout is (N, outer, S, inner) (tensor.h); these functions see one contiguous run of
 * `rows` x `inner` elements (float32 or bfloat16), and per-lane arrays of `inner` floats. inner = 1 (plain layout): one lane,
 * rows contiguous. Nothing here allocates, divides work or knows a shape. */
#ifndef RETORT_BACKEND_CPU_LANES_H
#define RETORT_BACKEND_CPU_LANES_H
#include "base/cpu.h"
#include "graph/op.h"

typedef struct BnRows {              /* one run of a batch norm */
    const void *x, *residual, *y, *dy;    /* [rows][inner]; residual and y may be NULL */
    void *out, *dresidual;           /* forward: y; backward: dx, and g for the residual or NULL */
    const float *scale, *shift;      /* [inner]: y = act(x * scale + shift + residual) */
    const float *slope;              /* [inner]: of prelu in the place of act */
    const float *mean, *c1, *c2;     /* [inner]: dx = scale * (g - c1 - (x - mean) * c2) */
    double *sum, *sum2;              /* [inner]: overwritten */
    int64_t rows;
    int inner;
    Act act;
} BnRows;
typedef struct PoolRow { const void *src; void *dst; uint8_t *arg; int64_t in_h, in_w, out_h, out_w; int k, stride, pad, inner; } PoolRow;

enum { DW_TAPS_MAX = 25, DW_LANES = 16 };
typedef struct DwBlock {             /* up to 16 channels of one image of a 3x3 or 5x5 depthwise convolution */
    const void *x, *dy;              /* first channel of the first pixel */
    void *dx;                        /* overwritten; stride 1 alone */
    float (*w)[DW_LANES];            /* [side * side] */
    const float *bias;               /* [DW_LANES], added to dx before act */
    Act act;
    double *sums;                    /* [side * side][DW_LANES]: gradient of w, overwritten */
    int64_t first_channel, pixel;    /* pixel: elements between neighbours of a row */
    int64_t in_h, in_w, out_h, out_w;
    int lanes, side, stride, dilation, pad_y, pad_x;
} DwBlock;

typedef struct WindowRow {           /* one row of a window mean: dst[x] = scale[x] * sum of the window's part inside */
    const float *src; float *dst;    /* src: of the plane */
    const float *scale;              /* [out_w]: 1 / count */
    int64_t in_w, out_w, y0, y1;     /* rows y0 .. y1 - 1 of src */
    int kw, stride, pad, inner;
} WindowRow;
typedef struct { int n; int32_t at[4]; float w[4]; } FloatTap;      /* of a resize: what one output reads */

typedef struct LaneKernels {
    void (*bn_sums)(const BnRows *);          /* sum, sum2 of (x - mean), (x - mean)^2 */
    void (*bn_apply)(const BnRows *);
    void (*bn_backward_sums)(const BnRows *); /* g = dy through act; sum, sum2 of g, g * (x - mean); dresidual = g */
    void (*bn_backward)(const BnRows *);      /* out = dx; with dresidual set g is read from there */
    void (*add)(void *dst, const void *a, const void *b, int64_t n);
    void (*act)(void *dst, const void *x, int64_t n, Act act);
    void (*act_backward)(void *dx, const void *dy, const void *y, int64_t n, Act act);
    void (*drop)(void *dst, const void *x, const uint8_t *mask, float scale, int64_t n);   /* x * scale where mask, else 0 */
    void (*max_pool)(const PoolRow *);        /* one (n, outer) plane, arg: index within the window */
    void (*max_pool_backward)(const PoolRow *);   /* src = dy, dst = dx (overwritten) */
    void (*dw_data)(const DwBlock *);         /* dx from dy and w; a forward pass is that of the turned kernel */
    void (*dw_weights)(const DwBlock *);      /* sums from dy and x */
} LaneKernels;
typedef struct FloatKernels {        /* of kernels that work in float32 alone */
    void (*mix)(float *dst, const float *a, const float *b, float wa, float wb, int64_t n);        /* dst = wa a + wb b */
    void (*axpy)(float *dst, const float *x, float w, int64_t n);                                   /* dst += w x */
    void (*prelu)(const BnRows *);            /* as bn_apply, with slope in the place of act */
    void (*window_sums)(const WindowRow *);
    /* dst[x] = sum of w * row[at] over the taps of x, x < out; backward: drow[at] += w * dy[x] */
    void (*stretch)(float *dst, const float *row, const FloatTap *t, int64_t out, int inner);
    void (*stretch_backward)(float *drow, const float *dy, const FloatTap *t, int64_t out, int inner);
} FloatKernels;
extern const LaneKernels lanes_f32_plain, lanes_f32_avx2, lanes_f32_avx512, lanes_bf16_plain, lanes_bf16_avx2, lanes_bf16_avx512;
extern const FloatKernels float_lanes_plain, float_lanes_avx2, float_lanes_avx512;
const LaneKernels *lanes(Dtype t);            /* of this processor */
const FloatKernels *float_lanes(void);
#endif
