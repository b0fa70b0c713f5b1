/* parts.h - backbones and heads, the parts that the models of models.def combine. */
#ifndef RETORT_MODELS_PARTS_H
#define RETORT_MODELS_PARTS_H
#include "models/model.h"

typedef struct Backbone { Node out, aux; } Backbone;     /* last stage; where an auxiliary head reads */
/* depth: 18, 34, 50 or 101; deep stem; names under "pretrained". */
Backbone resnet_backbone(Net *n, Node x, int depth, int output_stride);
Backbone mobilenetv2_backbone(Net *n, Node x, double width, int output_stride);

/* Heads set out->logits and out->features (the value before the last 1x1). width: 128 or 256. */
void deeplabv3_head(Net *n, Node x, int width, int classes, ModelNodes *out);
void pspnet_head(Net *n, Node x, int width, int classes, ModelNodes *out);
/* A quarter of x's channels, then classes; names under SCOPE.block. features may be NULL. */
Node fcn_head(Net *n, Node x, const char *scope, int classes, Node *features);

Node conv_bn_relu(Net *n, Node x, const char *conv, const char *bn, Conv c);
#endif
