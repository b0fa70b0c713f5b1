/* segmentors.c - the published pairs of backbone and head, one function per row of models.def.
 *
 * Heads are 128 wide on the small backbones; on ResNet-50 and 101 DeepLabV3's is 256, PSPNet's 512. */
#include "models/parts.h"

typedef void (*Head)(Net *n, Node x, int width, int classes, ModelNodes *out);

static int stride_of(const ModelOptions *o) { return o->output_stride ? o->output_stride : 8; }

static void assemble(Net *n, Backbone b, Head head, int width, const ModelOptions *o, ModelNodes *out) {
    head(n, b.out, width, o->classes, out);
    if (o->aux) out->aux = fcn_head(n, b.aux, "auxlayer", o->classes, NULL);
}
static void on_resnet(Net *n, Node x, int depth, Head head, const ModelOptions *o, ModelNodes *out) {
    const int width = depth < 50 ? 128 : head == pspnet_head ? 512 : 256;
    assemble(n, resnet_backbone(n, x, depth, stride_of(o)), head, width, o, out);
}
static void on_mobilenetv2(Net *n, Node x, Head head, const ModelOptions *o, ModelNodes *out) {
    assemble(n, mobilenetv2_backbone(n, x, o->width > 0 ? o->width : 1, stride_of(o)), head, 128, o, out);
}

#define ON_RESNET(head, depth) \
    void model_build_##head##_resnet##depth(Net *n, Node x, const ModelOptions *o, ModelNodes *out) { \
        on_resnet(n, x, depth, head##_head, o, out); }
#define ON_MOBILENETV2(head) \
    void model_build_##head##_mobilenetv2(Net *n, Node x, const ModelOptions *o, ModelNodes *out) { \
        on_mobilenetv2(n, x, head##_head, o, out); }
ON_RESNET(deeplabv3, 18)
ON_RESNET(deeplabv3, 34)
ON_RESNET(deeplabv3, 50)
ON_RESNET(deeplabv3, 101)
ON_MOBILENETV2(deeplabv3)
ON_RESNET(pspnet, 18)
ON_RESNET(pspnet, 34)
ON_RESNET(pspnet, 50)
ON_RESNET(pspnet, 101)
ON_MOBILENETV2(pspnet)
