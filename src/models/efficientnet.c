/* efficientnet.c - EfficientNet-Lite 0, 1, 2 (Tan and Le, ICML 2019; no attention, ReLU6, the first
 * layer not scaled), dilated, without its 1280-wide last convolution and its classifier.
 *
 * Names, batch norm's constants and padding are those of the PyTorch files efficientnet-lite{0,1,2}:
 * zeros as TensorFlow puts them, by the true size of each input (that package fixes them for 224, 240,
 * 260 and so agrees at those sizes). Stochastic depth, which it has in training, is left out. */
#include <stdio.h>

#include "models/parts.h"

enum { GROUPS = 7 };
typedef struct { int out, k, expand, stride, dilation; } Block;

static Node bn(Net *n, Node x, const char *name) {
    return nn_bn_with(n, x, name, (Bn){.eps = 1e-3f, .momentum = 0.01f});
}
static Node bn_relu6(Net *n, Node x, const char *name) { return nn_relu6(n, bn(n, x, name)); }

/* 1x1 expansion (absent at 1), depthwise k x k, linear 1x1; identity sum where the shape allows. */
static Node mb_conv(Net *n, Node x, Block b) {
    const int in = (int)net_shape(n, x).d[1], hidden = in * b.expand;
    Node y = x;
    const Conv depthwise = {.out = hidden, .k = b.k, .stride = b.stride, .dilation = b.dilation,
                            .groups = hidden, .same = true};
    if (b.expand != 1)
        y = bn_relu6(n, nn_conv(n, y, "_expand_conv", (Conv){.out = hidden, .k = 1}), "_bn0");
    y = bn_relu6(n, nn_conv(n, y, "_depthwise_conv", depthwise), "_bn1");
    y = bn(n, nn_conv(n, y, "_project_conv", (Conv){.out = b.out, .k = 1}), "_bn2");
    return b.stride == 1 && in == b.out ? nn_add(n, x, y) : y;
}
static Node numbered(Net *n, Node x, int number, Block b) {
    char name[16];
    snprintf(name, sizeof name, "%d", number);
    net_enter(n, name);
    x = mb_conv(n, x, b);
    net_alias(n, x, "");
    net_leave(n);
    return x;
}
static Backbone blocks(Net *n, Node x, int variant, int output_stride) {
    static const int KERNEL[GROUPS] = {3, 3, 5, 3, 5, 5, 3}, STRIDE[GROUPS] = {1, 2, 2, 2, 1, 2, 1};
    static const int REPEATS[3][GROUPS] = {
        {1, 2, 2, 3, 3, 4, 1}, {1, 3, 3, 4, 4, 5, 1}, {1, 3, 3, 4, 4, 5, 1}};
    static const int OUT[3][GROUPS] = {{16, 24, 40, 80, 112, 192, 320},
                                       {16, 24, 40, 80, 112, 192, 320},
                                       {16, 24, 48, 88, 120, 208, 352}};
    Node low = NO_NODE;
    int number = 0, reached = 2, dilation = 1;           /* reached: stride so far */
    for (int g = 0; g < GROUPS; g++) {
        for (int i = 0; i < REPEATS[variant][g]; i++) {
            int stride = i ? 1 : STRIDE[g], used = dilation; /* a lost stride dilates what follows */
            if (stride == 2 && reached >= output_stride) stride = 1, dilation *= 2;
            reached *= stride;
            const Block b = {OUT[variant][g], KERNEL[g], g ? 6 : 1, stride, used};
            x = numbered(n, x, number++, b);
        }
        if (g == 2) low = x;
    }
    return (Backbone){.low = low, .aux = low, .out = x};
}
Backbone efficientnet_backbone(Net *n, Node x, int variant, const ModelOptions *o,
                               int output_stride) {
    (void)o;
    net_enter(n, "pretrained");
    net_init_rule(n, true);
    x = nn_conv(n, x, "_conv_stem", (Conv){.out = 32, .k = 3, .stride = 2, .same = true});
    x = bn_relu6(n, x, "_bn0");
    net_enter(n, "_blocks");
    const Backbone b = blocks(n, x, variant, output_stride);
    net_leave(n);
    net_init_rule(n, false);
    net_leave(n);
    return b;
}
