/* nn.c - builder calls: each declares its parameters in PyTorch's order and appends one node.
 *
 * Calls without a name give their node the path of the present scope, so the last of them is what
 * net_find("layer4.1") returns: the block's output. */
#include "nn/nn.h"

#include <stdio.h>
#include <string.h>

enum { NAME_MAX_BYTES = 128 };
typedef struct { char s[NAME_MAX_BYTES]; } Name;

static Name name_of(const char *layer, const char *param) {
    Name out;
    int n = snprintf(out.s, sizeof out.s, "%s.%s", layer, param);
    CHECK(n > 0 && (size_t)n < sizeof out.s);
    return out;
}
static int or_one(int v) { return v ? v : 1; }

Node nn_conv(Net *n, Node x, const char *name, Conv c) {
    if (n->err) return NO_NODE;
    const ConvAttr a = {.out = c.out,
                        .kh = c.k,
                        .kw = c.k,
                        .stride = or_one(c.stride),
                        .pad = c.pad,
                        .dilation = or_one(c.dilation),
                        .groups = or_one(c.groups),
                        .same = c.same,
                        .bias = c.bias};
    const Shape in = net_shape(n, x);
    const int64_t per_group = in.rank > 1 ? in.d[1] / a.groups : 0;   /* the op's shape rule refuses the rest */
    const int area = c.k * c.k, fan_in = (int)per_group * area;
    int param[2], n_param = 0;
    param[n_param++] = net_param(n, name_of(name, "weight").s, PARAM_WEIGHT,
                                 SHAPE(c.out, per_group, c.k, c.k), fan_in, c.out * area);
    if (c.bias)
        param[n_param++] =
            net_param(n, name_of(name, "bias").s, PARAM_BIAS, SHAPE(c.out), fan_in, 0);
    return net_add(n, &op_conv2d, name, &a, sizeof a, &x, 1, param, n_param);
}
Node nn_bn_with(Net *n, Node x, const char *name, Bn b) {
    if (n->err) return NO_NODE;
    static const struct { const char *name; ParamKind kind; } PARAMS[] = {
        {"weight", PARAM_BN_WEIGHT}, {"bias", PARAM_BN_BIAS}, {"running_mean", PARAM_MEAN},
        {"running_var", PARAM_VAR}, {"num_batches_tracked", PARAM_COUNT},
    };
    const BnAttr a = {.eps = b.eps, .momentum = b.momentum, .frozen = n->bn_frozen};
    const Shape in = net_shape(n, x), per_channel = SHAPE(in.rank > 1 ? in.d[1] : 0);
    int param[5];
    for (int i = 0; i < 5; i++)
        param[i] = net_param(n, name_of(name, PARAMS[i].name).s, PARAMS[i].kind,
                             PARAMS[i].kind == PARAM_COUNT ? (Shape){0} : per_channel, 0, 0);
    return net_add(n, &op_batch_norm, name, &a, sizeof a, &x, 1, param, 5);
}
Node nn_bn(Net *n, Node x, const char *name) { return nn_bn_with(n, x, name, (Bn){1e-5f, 0.1f}); }
static Node unary(Net *n, const OpDef *op, const void *attr, size_t bytes, Node x) {
    return n->err ? NO_NODE : net_add(n, op, "", attr, bytes, &x, 1, NULL, 0);
}
Node nn_relu(Net *n, Node x) {
    return unary(n, &op_relu, &(ActAttr){ACT_RELU}, sizeof(ActAttr), x);
}
Node nn_relu6(Net *n, Node x) {
    return unary(n, &op_relu, &(ActAttr){ACT_RELU6}, sizeof(ActAttr), x);
}
Node nn_add(Net *n, Node a, Node b) {
    return n->err ? NO_NODE : net_add(n, &op_add, "", NULL, 0, (Node[]){a, b}, 2, NULL, 0);
}
Node nn_gate(Net *n, Node x, Node s) {
    return n->err ? NO_NODE : net_add(n, &op_gate, "", NULL, 0, (Node[]){x, s}, 2, NULL, 0);
}
Node nn_concat(Net *n, const Node *x, int count) {
    return n->err ? NO_NODE : net_add(n, &op_concat, "", NULL, 0, x, count, NULL, 0);
}
Node nn_gather_channels(Net *n, Node x, const int *index, int count) {
    if (n->err) return NO_NODE;
    const size_t bytes = (size_t)count * sizeof *index;
    const GatherAttr a = {count, memcpy(arena_alloc(n->arena, bytes + 1), index, bytes)};
    return net_add(n, &op_gather_channels, "", &a, sizeof a, &x, 1, NULL, 0);
}
Node nn_dropout(Net *n, Node x, float p) {
    return n->dropout_off ? x : unary(n, &op_dropout, &(DropoutAttr){p}, sizeof(DropoutAttr), x);
}
Node nn_max_pool(Net *n, Node x, int k, int stride, int pad) {
    return unary(n, &op_max_pool, &(PoolAttr){.k = k, .stride = stride, .pad = pad},
                 sizeof(PoolAttr), x);
}
Node nn_adaptive_avg_pool(Net *n, Node x, int out_h, int out_w) {
    return unary(n, &op_adaptive_avg_pool, &(AdaptiveAttr){out_h, out_w}, sizeof(AdaptiveAttr), x);
}
Node nn_resize_like(Net *n, Node x, Node like, bool align_corners) {
    const ResizeAttr a = {.align_corners = align_corners};
    return n->err ? NO_NODE
                  : net_add(n, &op_resize, "", &a, sizeof a, (Node[]){x, like}, 2, NULL, 0);
}
Node nn_weighted_sum(Net *n, const Node *x, const float *weight, int count) {
    if (n->err) return NO_NODE;
    CHECK(count <= NODE_SRC_MAX);
    WeightedSumAttr a = {.n = count};
    memcpy(a.weight, weight, (size_t)count * sizeof *weight);
    return net_add(n, &op_weighted_sum, "", &a, sizeof a, x, count, NULL, 0);
}
Node nn_tap(Net *n, Node x, const char *name) {
    net_alias(n, x, name);
    return x;
}
