/* parts.h - backbones and heads, the parts whose product the networks are (backbones.def, heads.def). */
#ifndef RETORT_MODELS_PARTS_H
#define RETORT_MODELS_PARTS_H
#include "models/model.h"

typedef struct Backbone {
    Node low;                        /* the last layer of stride 8 when nothing is dilated; for LR-ASPP */
    Node aux;                        /* where an auxiliary head reads */
    Node out;                        /* the last stage */
} Backbone;
enum { HAS_STEMS = 1, HAS_WIDTH = 2, WIDE_HEADS = 4 };   /* options it takes; heads' second width */

typedef struct BackboneDef {
    const char *name, *title;
    /* Names under "pretrained". */
    Backbone (*build)(Net *n, Node x, int variant, const ModelOptions *o, int output_stride);
    int variant;                     /* depth of a ResNet, number of an EfficientNet-Lite */
    unsigned traits;
} BackboneDef;
typedef struct HeadDef {
    const char *name, *title;
    /* Sets out->logits and out->features, the value before the last 1x1; names under "head". */
    void (*build)(Net *n, const Backbone *b, int width, int classes, ModelNodes *out);
    int width[2];                    /* on a narrow backbone, on one with WIDE_HEADS; 0: it follows them */
    int output_stride;               /* where the options leave it open */
} HeadDef;

/* FCN's layers, also the auxiliary head: 3x3 to a quarter of x's channels, then classes; names under
 * SCOPE.block. features may be NULL. */
Node fcn_block(Net *n, Node x, const char *scope, int classes, Node *features);
/* The inputs and the normalised image, N x 3 x H x W; sets out->image and out->rects. */
Node model_image_input(Net *n, const NormDef *norm, int64_t batch, int h, int w, ModelNodes *out);
Node model_log_of(Net *n, Node p);                       /* logits of probabilities, which may be 0 */
/* E4017 when the values of a parameter, in a file, cannot be right: not finite, a variance below 0. */
Err model_check_values(const NetParam *p, const Tensor *t, const char *where);
Node conv_bn_relu(Net *n, Node x, const char *conv, const char *bn, Conv c);
Node classifier(Net *n, Node x, const char *name, int classes);          /* 1x1 with bias */
#endif
