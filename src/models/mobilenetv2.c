/* mobilenetv2.c - MobileNetV2 (Sandler et al., CVPR 2018), dilated, without its 1280-wide last layer.
 * Names of the PyTorch files under "pretrained.net.features". Channels are int(c * width). */
#include <stdio.h>

#include "models/parts.h"

typedef struct { int expand, out, stride, dilation; } Inverted;

/* 1x1 expansion (absent at 1), depthwise 3x3, linear 1x1; identity sum where the shape allows. */
static Node inverted_residual(Net *n, Node x, Inverted b) {
    const int in = (int)net_shape(n, x).d[1], hidden = in * b.expand;
    Node y = x;
    int at = 0;
    char conv[8], bn[8];
    if (b.expand != 1) {
        y = nn_relu6(n, nn_bn(n, nn_conv(n, y, "0", (Conv){.out = hidden, .k = 1}), "1"));
        at = 3;
    }
    snprintf(conv, sizeof conv, "%d", at), snprintf(bn, sizeof bn, "%d", at + 1);
    y = nn_conv(n, y, conv,
                (Conv){.out = hidden,
                       .k = 3,
                       .stride = b.stride,
                       .pad = b.dilation,
                       .dilation = b.dilation,
                       .groups = hidden});
    y = nn_relu6(n, nn_bn(n, y, bn));
    snprintf(conv, sizeof conv, "%d", at + 3), snprintf(bn, sizeof bn, "%d", at + 4);
    y = nn_bn(n, nn_conv(n, y, conv, (Conv){.out = b.out, .k = 1}), bn);
    return b.stride == 1 && in == b.out ? nn_add(n, x, y) : y;
}
/* The block's scope is "features.NUMBER.conv"; its output is also known as "features.NUMBER". */
static Node numbered(Net *n, Node x, int number, Inverted b) {
    char name[16];
    snprintf(name, sizeof name, "%d", number);
    net_enter(n, name);
    net_enter(n, "conv");
    x = inverted_residual(n, x, b);
    net_leave(n);
    net_alias(n, x, "");
    net_leave(n);
    return x;
}
Backbone mobilenetv2_backbone(Net *n, Node x, int variant, const ModelOptions *o,
                              int output_stride) {
    static const struct { int expand, out, repeats, stride;
    } GROUPS[] = {
        {1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2},  {6, 64, 4, 2},
        {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1},
    };
    (void)variant;
    const double width = o->width > 0 ? o->width : 1;
    Node low = NO_NODE, aux = NO_NODE;
    int number = 1, reached = 2, dilation = 1;           /* reached: stride so far */
    net_enter(n, "pretrained");
    net_enter(n, "net");
    net_enter(n, "features");
    net_init_rule(n, true);
    net_enter(n, "0");
    x = nn_conv(n, x, "0", (Conv){.out = (int)(32 * width), .k = 3, .stride = 2, .pad = 1});
    x = nn_relu6(n, nn_bn(n, x, "1"));
    net_leave(n);
    for (size_t g = 0; g < sizeof GROUPS / sizeof *GROUPS; g++)
        for (int i = 0; i < GROUPS[g].repeats; i++, number++) {
            int stride = i ? 1 : GROUPS[g].stride, used = dilation;   /* a lost stride dilates what follows */
            if (stride == 2 && reached >= output_stride) stride = 1, dilation *= 2;
            reached *= stride;
            x = numbered(n, x, number,
                         (Inverted){GROUPS[g].expand, (int)(GROUPS[g].out * width), stride, used});
            if (number == 6) low = x;
            if (number == 13) aux = x;
        }
    net_init_rule(n, false);
    net_leave(n);
    net_leave(n);
    net_leave(n);
    return (Backbone){.low = low, .aux = aux, .out = x};
}
