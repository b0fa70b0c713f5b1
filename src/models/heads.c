/* heads.c - what sits on a backbone: DeepLabV3 (Chen et al., 2017), PSPNet (Zhao et al., CVPR 2017)
 * and FCN (Long et al., CVPR 2015). Resizes align corners; logits stay on the backbone's grid. */
#include <stdio.h>

#include "models/parts.h"

Node conv_bn_relu(Net *n, Node x, const char *conv, const char *bn, Conv c) {
    return nn_relu(n, nn_bn(n, nn_conv(n, x, conv, c), bn));
}
Node classifier(Net *n, Node x, const char *name, int classes) {
    return nn_conv(n, x, name, (Conv){.out = classes, .k = 1, .bias = true});
}

static Node aspp_branch(Net *n, Node x, const char *scope, Conv c) {
    net_enter(n, scope);
    if (c.k > 1) net_enter(n, "block");                  /* only the dilated ones are wrapped once more */
    x = conv_bn_relu(n, x, "0", "1", c);
    if (c.k > 1) net_leave(n);
    net_leave(n);
    return x;
}
static Node aspp_pool(Net *n, Node x, int width) {
    net_enter(n, "b4");
    net_enter(n, "gap");
    Node y =
        conv_bn_relu(n, nn_adaptive_avg_pool(n, x, 1, 1), "1", "2", (Conv){.out = width, .k = 1});
    net_leave(n);
    y = nn_resize_like(n, y, x, true);
    net_leave(n);
    return y;
}
static Node aspp(Net *n, Node x, int width) {
    Node branch[5];
    char name[8];
    net_enter(n, "aspp");
    branch[0] = aspp_branch(n, x, "b0", (Conv){.out = width, .k = 1});
    for (int i = 1; i < 4; i++) {
        snprintf(name, sizeof name, "b%d", i);
        branch[i] = aspp_branch(n, x, name,
                                (Conv){.out = width, .k = 3, .pad = 12 * i, .dilation = 12 * i});
    }
    branch[4] = aspp_pool(n, x, width);
    x = nn_concat(n, branch, 5);
    net_enter(n, "project");
    x = nn_dropout(n, conv_bn_relu(n, x, "0", "1", (Conv){.out = width, .k = 1}), 0.5f);
    net_leave(n);
    net_leave(n);
    return x;
}
void deeplabv3_head(Net *n, const Backbone *b, int width, int classes, ModelNodes *out) {
    net_enter(n, "head");
    Node x = aspp(n, b->out, width);
    net_enter(n, "block");
    x = conv_bn_relu(n, x, "0", "1", (Conv){.out = width, .k = 3, .pad = 1});
    out->features = nn_dropout(n, x, 0.1f);
    out->logits = classifier(n, out->features, "4", classes);
    net_leave(n);
    net_leave(n);
}

void pspnet_head(Net *n, const Backbone *b, int width, int classes, ModelNodes *out) {
    static const int SIDES[] = {1, 2, 3, 6};
    Node x = b->out, level[5] = {x};
    char name[8];
    const int quarter = (int)net_shape(n, x).d[1] / 4;
    net_enter(n, "head");
    net_enter(n, "psp");
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "conv%d", i + 1);
        net_enter(n, name);
        Node y = conv_bn_relu(n, nn_adaptive_avg_pool(n, x, SIDES[i], SIDES[i]), "0", "1",
                              (Conv){.out = quarter, .k = 1});
        level[i + 1] = nn_resize_like(n, y, x, true);
        net_leave(n);
    }
    x = nn_concat(n, level, 5);
    net_leave(n);
    net_enter(n, "block");
    x = conv_bn_relu(n, x, "0", "1", (Conv){.out = width, .k = 3, .pad = 1});
    out->features = nn_dropout(n, x, 0.1f);
    net_leave(n);
    out->logits = classifier(n, out->features, "classifier", classes);
    net_leave(n);
}

Node fcn_block(Net *n, Node x, const char *scope, int classes, Node *features) {
    const int quarter = (int)net_shape(n, x).d[1] / 4;
    net_enter(n, scope);
    net_enter(n, "block");
    x = conv_bn_relu(n, x, "0", "1", (Conv){.out = quarter, .k = 3, .pad = 1});
    x = nn_dropout(n, x, 0.1f);
    if (features) *features = x;
    x = classifier(n, x, "4", classes);
    net_leave(n);
    net_leave(n);
    return x;
}
void fcn_head(Net *n, const Backbone *b, int width, int classes, ModelNodes *out) {
    (void)width;
    out->logits = fcn_block(n, b->out, "head", classes, &out->features);
}
