/* op.h - what an op is. One file per op in graph/ops/ (losses: in distill/), one line in ops.def.
 *
 * A kernel cannot fail: all checks happen in infer. Reference kernels are plain C over NCHW float32
 * with double sums; they are the oracle of every backend. */
#ifndef RETORT_GRAPH_OP_H
#define RETORT_GRAPH_OP_H
#include "graph/net.h"

typedef struct OpSite {              /* a node as its op sees it when shapes are inferred */
    const void  *attr;
    int          n_src;
    const Shape *src;
    const Dtype *src_dtype;
    int          n_param;
    const Shape *param;
} OpSite;

typedef struct OpRun {               /* what varies from run to run */
    bool     training;               /* batch statistics, dropout active */
    uint64_t seed;                   /* of the run */
    uint64_t first_sample;           /* global number of the batch's first sample */
    const struct Parts *parts;       /* the update that this run is a part of, for losses (distill/parts.h); NULL: none */
} OpRun;

/* One execution. Forward overwrites dst and saved. Backward ADDS to dsrc and dparam; the plan zeroes
 * them first where needed. Entries of dsrc and dparam are NULL where no gradient is wanted; entries of
 * src and dst are NULL in backward unless `keep` names them. */
typedef struct OpCall {
    const void  *attr;
    int          n_src;
    const Shape *src_shape;          /* [n_src] */
    Shape        shape;              /* of dst */
    const void *const *src;          /* [n_src], plain layout; float32 unless the input is typed */
    float       *dst;
    float *const *param;             /* [n_param]; running statistics are updated in place */
    int64_t *const *param_count;     /* [n_param]; set for PARAM_COUNT entries only */
    const float *ddst;
    float *const *dsrc;              /* [n_src] */
    float *const *dparam;            /* [n_param] */
    void        *saved;              /* saved_bytes; written by forward, read by backward */
    void        *scratch;            /* scratch_bytes; meaningless before and after */
    const OpRun *run;
    int          node;               /* node id: keys dropout */
} OpCall;

enum { KEEP_SRC0 = 1, KEEP_SRC1 = 2, KEEP_DST = 256 };   /* KEEP_SRC0 << i */

struct OpDef {
    const char *name;                /* "conv2d": in dumps, errors, tests */
    unsigned    keep;                /* what the reference's backward reads */
    unsigned    shape_only;          /* bit i: of source i only the shape matters */
    Err    (*infer)(const OpSite *, Shape *dst);         /* the only place that rejects shapes */
    size_t (*saved_bytes)(const OpSite *, Shape dst);    /* NULL: none */
    size_t (*scratch_bytes)(const OpSite *, Shape dst);  /* NULL: none */
    void   (*forward)(const OpCall *);                   /* the reference */
    void   (*backward)(const OpCall *);                  /* NULL: no gradient flows */
    void   (*fast_forward)(const OpCall *);              /* same contract, faster; NULL: none. Used by   */
    void   (*fast_backward)(const OpCall *);             /* every backend but ref; tested against reference */
};

/* The ops of graph/ops/, declared from the list. */
#define OP(name) extern const OpDef op_##name;
#include "graph/ops.def"
#undef OP
const OpDef *op_find(const char *name);              /* among those of ops.def; NULL when absent */

/* Attributes, one struct per op that has any. Fields equal PyTorch's; 0 means PyTorch's default. */
typedef enum { ACT_NONE, ACT_RELU, ACT_RELU6 } Act;
typedef struct { int out, kh, kw, stride, pad, dilation, groups;  /* square stride, padding, dilation */
                 bool same, bias, bn, residual; Act act; float eps;
                 int extra[4]; } ConvAttr;                             /* more padding: above, left, below, right */
    /* conv2d: src x [, residual]; params weight [, bias] [, bn weight, bias, mean, var].
     * same: TensorFlow's padding in place of `pad`: as many zeros as make ceil(side / stride) outputs, an odd
     * one behind. bn, residual, act are set only by fusing for inference: dst = act(bn(conv(x)) + residual). */
void conv_padding(const ConvAttr *a, Shape src, int64_t begin[2], int64_t end[2]);   /* of H and W; in conv2d.c */
typedef struct { float eps, momentum; bool frozen, residual; Act act; } BnAttr;
    /* batch_norm: src x [, residual]; params weight, bias, mean, var, count. dst = act(bn(x) + residual).
     * residual and act are set only by fusing. frozen: running statistics even in training. */
typedef struct { Act act; } ActAttr;                                     /* relu: src x */
typedef struct { float p; } DropoutAttr;                                 /* dropout: src x */
typedef struct { int k, stride, pad;                                     /* max_pool: src x */
                 int kw, stride_w, extra[4]; bool ceil; } PoolAttr;
    /* kw, stride_w: 0 as k and stride; extra: more padding above, left, below, right; ceil: as avg_pool's */
typedef struct { int out_h, out_w; } AdaptiveAttr;                       /* adaptive_avg_pool: src x */
typedef enum { RESIZE_LINEAR, RESIZE_NEAREST, RESIZE_CUBIC } ResizeMode;
typedef enum { RESIZE_HALF, RESIZE_HALF_OR_ZERO, RESIZE_ASYMMETRIC } ResizeAt;
typedef enum { ROUND_HALF_DOWN, ROUND_HALF_UP, ROUND_FLOOR, ROUND_CEIL } ResizeRound;
typedef struct { bool align_corners; int out_h, out_w;                   /* resize: src x [, like]; like: only its H x W */
                 ResizeMode mode; ResizeAt at; ResizeRound round;
                 double step[2]; float cubic_a; } ResizeAttr;
    /* step: of the source per output, H and W; 0: in / out; cubic_a: 0 means -0.75. See resize.c */
typedef struct { float mean[3], inv_std[3]; bool bgr; } NormalizeAttr;
    /* normalize: src u8 images N x H x W x 3 (RGB), i32 rects N x 4 (x, y, w, h of the valid part)
     * -> float32 N x 3 x H x W; zero outside the rectangle. dst_c = (v - mean_c) * inv_std_c in the order of dst. */
typedef struct { int n; const int *index; } GatherAttr;                  /* gather_channels: src x; index [n] lives in the net's arena */
typedef struct { int n; float weight[NODE_SRC_MAX]; } WeightedSumAttr;   /* weighted_sum: scalars -> scalar */

/* The ops of imported networks. */
typedef enum { UNARY_AFFINE, UNARY_CLIP, UNARY_LEAKY_RELU, UNARY_ELU, UNARY_SELU, UNARY_SIGMOID, UNARY_HARD_SIGMOID, UNARY_HARD_SWISH,
               UNARY_SILU, UNARY_TANH, UNARY_ERF, UNARY_GELU, UNARY_GELU_TANH, UNARY_SOFTPLUS, UNARY_MISH, UNARY_EXP, UNARY_LOG,
               UNARY_SQRT, UNARY_POW, UNARY_RECIPROCAL, UNARY_ABS, UNARY_KINDS } UnaryKind;
typedef struct { UnaryKind kind; float a, b; } UnaryAttr;                /* unary: src x; see the table in unary.c for a and b */
typedef enum { BINARY_ADD, BINARY_SUB, BINARY_MUL, BINARY_DIV, BINARY_MIN, BINARY_MAX, BINARY_POW, BINARY_KINDS } BinaryKind;
typedef struct { BinaryKind kind; } BinaryAttr;                          /* binary: src a, b; broadcast as numpy does */
typedef struct { Shape shape; const float *data; } ConstantAttr;
    /* constant: no source; dst = data, which lives as long as the net, or, when NULL, the one parameter */
typedef struct { int kh, kw, stride_h, stride_w, pad_h, pad_w, extra_h, extra_w; bool ceil, count_padding; } AvgPoolAttr;
    /* avg_pool: src x; extra: more padding below and right than above and left */
typedef struct { int slopes; bool bn, residual; float eps; } PreluAttr;
    /* prelu: src x [, residual]; params slope: 1, or one per channel [, bn weight, bias, mean, var].
     * bn and residual are set only by fusing for inference: dst = prelu(bn(x) + residual). */
typedef struct { Shape shape; } ReshapeAttr;                             /* reshape: src x */
typedef struct { int perm[RANK_MAX]; } TransposeAttr;                    /* transpose: src x; dst.d[i] = src.d[perm[i]] */
typedef struct { int64_t start[RANK_MAX], step[RANK_MAX]; Shape shape; } SliceAttr;      /* slice: src x; all dimensions */
typedef enum { PAD_CONSTANT, PAD_REFLECT, PAD_EDGE } PadMode;
typedef struct { int64_t before[RANK_MAX], after[RANK_MAX]; PadMode mode; float value; } PadAttr;   /* pad: src x */
typedef struct { Shape shape; } ExpandAttr;                              /* expand: src x */
typedef struct { int axis; bool log; } SoftmaxAttr;                      /* softmax: src x */
typedef enum { REDUCE_SUM, REDUCE_MEAN, REDUCE_MAX, REDUCE_MIN, REDUCE_L2 } ReduceKind;
typedef struct { ReduceKind kind; unsigned axes; } ReduceAttr;           /* reduce: src x; bit i: over dimension i */
typedef struct { int dims; float eps; } LayerNormAttr;                   /* layer_norm: src x; over the last dims dimensions */
typedef struct { int out, kh, kw, stride, pad, dilation, groups, extra[2]; bool bias; } ConvTransposeAttr;
    /* conv_transpose: src x; params weight I x O/groups x kh x kw [, bias]; extra: more rows and columns of dst;
     * stride, dilation and groups are at least 1 */
typedef struct { float scale; int zero, lo, hi; } QuantizeAttr;          /* quantize: src x; see quantize.c */
typedef struct { bool trans_a, trans_b; } MatmulAttr;
    /* matmul: src a, b of rank >= 2; the last two dimensions are matrices, the others broadcast */
/* without attributes: input, add (a + b), concat (channels), gate (x, s N x C x 1 x 1: x sigmoid(s)) */
#endif
