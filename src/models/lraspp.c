/* lraspp.c - LR-ASPP (Howard et al., Searching for MobileNetV3, ICCV 2019) as torchvision has it:
 *   high = resize(relu(bn(1x1(out))) * sigmoid(1x1(mean(out)))),  logits = 1x1(low) + 1x1(high)
 * on the grid of `low`, stride 8, whatever the output stride. Its resize does not align corners. */
#include "models/parts.h"

void lraspp_head(Net *n, const Backbone *b, int width, int classes, ModelNodes *out) {
    net_enter(n, "head");
    net_enter(n, "cbr");
    Node x = conv_bn_relu(n, b->out, "0", "1", (Conv){.out = width, .k = 1});
    net_leave(n);
    net_enter(n, "scale");
    Node s = nn_conv(n, nn_adaptive_avg_pool(n, b->out, 1, 1), "1", (Conv){.out = width, .k = 1});
    net_leave(n);
    out->features = nn_resize_like(n, nn_gate(n, x, s), b->low, false);
    Node low = classifier(n, b->low, "low_classifier", classes);
    out->logits = nn_add(n, low, classifier(n, out->features, "high_classifier", classes));
    net_leave(n);
}
