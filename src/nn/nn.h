/* nn.h - builder calls with scopes. Fields left 0 mean PyTorch's defaults.
 * Names follow PyTorch: nn_conv(n, x, "conv1", ...) inside scope "layer1" declares "layer1.conv1.weight". */
#ifndef RETORT_NN_H
#define RETORT_NN_H
#include "graph/op.h"

typedef struct { int out, k, stride, pad, dilation, groups; bool same, bias; } Conv;   /* same: TensorFlow's padding, see ConvAttr */
typedef struct { float eps, momentum; } Bn;
Node nn_conv(Net *n, Node x, const char *name, Conv c);
Node nn_bn(Net *n, Node x, const char *name);             /* eps 1e-5, momentum 0.1; frozen when net->bn_frozen */
Node nn_bn_with(Net *n, Node x, const char *name, Bn b);  /* others */
Node nn_relu(Net *n, Node x);
Node nn_relu6(Net *n, Node x);
Node nn_add(Net *n, Node a, Node b);
Node nn_gate(Net *n, Node x, Node s);                     /* x sigmoid(s), s N x C x 1 x 1 */
Node nn_concat(Net *n, const Node *x, int count);         /* along channels */
Node nn_gather_channels(Net *n, Node x, const int *index, int count);        /* channel k of the result: index[k] of x */
Node nn_dropout(Net *n, Node x, float p);                 /* x itself when net->dropout_off */
Node nn_max_pool(Net *n, Node x, int k, int stride, int pad);
Node nn_adaptive_avg_pool(Net *n, Node x, int out_h, int out_w);
Node nn_resize_like(Net *n, Node x, Node like, bool align_corners);
Node nn_weighted_sum(Net *n, const Node *x, const float *weight, int count);   /* scalars */
Node nn_tap(Net *n, Node x, const char *name);            /* gives the value a name that net_find knows; no copy */
#endif
