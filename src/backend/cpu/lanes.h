/* lanes.h - the inner loops of the CPU backend's own kernels, one table per instruction set.
 *
 * Every activation layout is (N, outer, S, inner) (tensor.h); these functions see one contiguous run of
 * `rows` x `inner` floats, and per-lane arrays of `inner` floats. inner = 1 (plain layout): one lane,
 * rows contiguous. Nothing here allocates, divides work or knows a shape. */
#ifndef RETORT_BACKEND_CPU_LANES_H
#define RETORT_BACKEND_CPU_LANES_H
#include "base/cpu.h"
#include "graph/op.h"

typedef struct BnRows {              /* one run of a batch norm */
    const float *x, *residual, *y, *dy;   /* [rows][inner]; residual and y may be NULL */
    float *out, *dresidual;          /* forward: y; backward: dx, and g for the residual or NULL */
    const float *scale, *shift;      /* [inner]: y = act(x * scale + shift + residual) */
    const float *slope;              /* [inner]: of prelu in the place of act */
    const float *mean, *c1, *c2;     /* [inner]: dx = scale * (g - c1 - (x - mean) * c2) */
    double *sum, *sum2;              /* [inner]: overwritten */
    int64_t rows;
    int inner;
    Act act;
} BnRows;
typedef struct PoolRow { const float *src; float *dst; uint8_t *arg; int64_t in_h, in_w, out_h, out_w; int k, stride, pad, inner; } PoolRow;

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
    void (*prelu)(const BnRows *);            /* as bn_apply */
    void (*window_sums)(const WindowRow *);
    void (*add)(float *dst, const float *a, const float *b, int64_t n);
    void (*act)(float *dst, const float *x, int64_t n, Act act);
    void (*act_backward)(float *dx, const float *dy, const float *y, int64_t n, Act act);
    void (*mul)(float *dst, const float *a, const float *b, int64_t n);
    void (*max_pool)(const PoolRow *);        /* one (n, outer) plane, arg: index within the window */
    void (*max_pool_backward)(const PoolRow *);   /* src = dy, dst = dx (overwritten) */
    void (*mix)(float *dst, const float *a, const float *b, float wa, float wb, int64_t n);        /* dst = wa a + wb b */
    void (*axpy)(float *dst, const float *x, float w, int64_t n);                                   /* dst += w x */
    /* dst[x] = sum of w * row[at] over the taps of x, x < out; backward: drow[at] += w * dy[x] */
    void (*stretch)(float *dst, const float *row, const FloatTap *t, int64_t out, int inner);
    void (*stretch_backward)(float *drow, const float *dy, const FloatTap *t, int64_t out, int inner);
} LaneKernels;
extern const LaneKernels lanes_plain, lanes_avx2, lanes_avx512;
const LaneKernels *lanes(void);               /* of this processor */
#endif
