/* resnet.c - ResNet with either stem and dilated last stages (He et al., CVPR 2016; output stride 8
 * or 16 as in DeepLab). Names of the PyTorch files under "pretrained". The deep stem is three 3x3
 * convolutions of 64, 64, 128, the plain one torchvision's 7x7 of 64; bottlenecks carry the stride on
 * their 3x3. */
#include <stdio.h>

#include "models/parts.h"

typedef struct { int planes, stride, first, dilation; } Block;   /* first: dilation of the block's first 3x3 */

static Node shortcut(Net *n, Node x, int out, int stride) {
    if (stride == 1 && net_shape(n, x).d[1] == out) return x;
    return nn_bn(n, nn_conv(n, x, "downsample.0", (Conv){.out = out, .k = 1, .stride = stride}),
                 "downsample.1");
}
static Node basic_block(Net *n, Node x, Block b) {
    Node y = conv_bn_relu(
        n, x, "conv1", "bn1",
        (Conv){.out = b.planes, .k = 3, .stride = b.stride, .pad = b.first, .dilation = b.first});
    y = nn_conv(n, y, "conv2",
                (Conv){.out = b.planes, .k = 3, .pad = b.dilation, .dilation = b.dilation});
    y = nn_bn(n, y, "bn2");
    return nn_relu(n, nn_add(n, y, shortcut(n, x, b.planes, b.stride)));
}
static Node bottleneck(Net *n, Node x, Block b) {
    Node y = conv_bn_relu(n, x, "conv1", "bn1", (Conv){.out = b.planes, .k = 1});
    y = conv_bn_relu(
        n, y, "conv2", "bn2",
        (Conv){.out = b.planes, .k = 3, .stride = b.stride, .pad = b.first, .dilation = b.first});
    y = nn_bn(n, nn_conv(n, y, "conv3", (Conv){.out = 4 * b.planes, .k = 1}), "bn3");
    return nn_relu(n, nn_add(n, y, shortcut(n, x, 4 * b.planes, b.stride)));
}
/* Stage s (1..4): its first block has dilation `first`, then `dilation`; only the first has the stride. */
static Node stage(Net *n, Node x, int s, int blocks, Block b, bool bottlenecks) {
    char name[16];
    snprintf(name, sizeof name, "layer%d", s);
    net_enter(n, name);
    for (int i = 0; i < blocks; i++) {
        snprintf(name, sizeof name, "%d", i);
        net_enter(n, name);
        x = bottlenecks ? bottleneck(n, x, b) : basic_block(n, x, b);
        net_leave(n);
        b.stride = 1, b.first = b.dilation;
    }
    net_leave(n);
    return x;
}
static Node deep_stem(Net *n, Node x) {
    x = conv_bn_relu(n, x, "conv1", "bn1", (Conv){.out = 64, .k = 3, .stride = 2, .pad = 1});
    x = conv_bn_relu(n, x, "conv2", "bn2", (Conv){.out = 64, .k = 3, .pad = 1});
    x = conv_bn_relu(n, x, "conv3", "bn3", (Conv){.out = 128, .k = 3, .pad = 1});
    return nn_max_pool(n, x, 3, 2, 1);
}
static Node plain_stem(Net *n, Node x) {
    x = conv_bn_relu(n, x, "conv1", "bn1", (Conv){.out = 64, .k = 7, .stride = 2, .pad = 3});
    return nn_max_pool(n, x, 3, 2, 1);
}
Backbone resnet_backbone(Net *n, Node x, int depth, const ModelOptions *o, int output_stride) {
    const int *blocks = depth == 18 ? (int[]){2, 2, 2, 2} : (int[]){3, 4, depth == 101 ? 23 : 6, 3};
    const bool deep = depth >= 50;
    /* Once the output stride is reached, a stage's stride becomes a doubled dilation. */
    Block s3 = {.planes = 256, .stride = 2, .first = 1, .dilation = 1}, s4 = s3;
    s4.planes = 512;
    if (output_stride <= 16) s4.stride = 1, s4.dilation = 2;
    if (output_stride == 8) s3.stride = 1, s3.dilation = 2, s4.first = 2, s4.dilation = 4;
    net_enter(n, "pretrained");
    net_init_rule(n, true);
    x = o->plain_stem ? plain_stem(n, x) : deep_stem(n, x);
    x = stage(n, x, 1, blocks[0], (Block){.planes = 64, .stride = 1, .first = 1, .dilation = 1},
              deep);
    const Node low = stage(n, x, 2, blocks[1],
                           (Block){.planes = 128, .stride = 2, .first = 1, .dilation = 1}, deep);
    const Node aux = stage(n, low, 3, blocks[2], s3, deep);
    x = stage(n, aux, 4, blocks[3], s4, deep);
    net_init_rule(n, false);
    net_leave(n);
    return (Backbone){.low = low, .aux = aux, .out = x};
}
