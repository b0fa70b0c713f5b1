/* model.h - the networks: every head of heads.def on every backbone of backbones.def, named HEAD_BACKBONE.
 * Parameter names and shapes equal the PyTorch state_dict's. */
#ifndef RETORT_MODELS_MODEL_H
#define RETORT_MODELS_MODEL_H
#include "nn/nn.h"

struct SafeFile;
/* What a network's output is: logits; probabilities, of which the logarithm is taken; a map of classes, whose argmax is undone. */
typedef enum { OUTPUT_LOGITS, OUTPUT_PROBABILITIES, OUTPUT_CLASSMAP } ModelOutput;
typedef struct ModelOptions {        /* the groups `student` and `teacher` of the configuration */
    const char *model;               /* "deeplabv3_resnet18" */
    int    classes;
    double width;                    /* MobileNetV2's multiplier; 0 means 1 */
    bool   plain_stem;               /* ResNets: torchvision's 7x7 in place of three 3x3 */
    int    output_stride;            /* of the backbone: 8, 16 or 32; 0: the head's own, 16 for LR-ASPP, otherwise 8 */
    bool   aux;                      /* auxiliary head */
    const char *norm;                /* name of a normalisation; "none": input is float32 N x 3 x H x W already normalised;
                                        NULL: rgb-imagenet, or what an ONNX file leaves to be done */
    bool   bn_frozen;
    bool   dropout_off;
    bool   frozen;                   /* no parameter is trainable */
    bool   partial;                  /* of the weights' file, what fits is taken */
    const char *tap[3];              /* names of values in place of the network's own logits, aux and features; NULL: its own */
    const int *class_map;            /* [n_class_map]: class k of logits and aux is the network's own class_map[k]; NULL: all */
    int    n_class_map;
    ModelOutput output;
    bool   exact_size;               /* ONNX of one size: refuse images of another one; otherwise they are resized */
} ModelOptions;
typedef struct ModelNodes {
    Node image, rects;               /* inputs: u8 N x H x W x 3 and i32 N x 4; norm none: float image, rects NO_NODE */
    Node logits, aux, features;      /* N x K x h x w; aux NO_NODE where the network has none */
} ModelNodes;
typedef struct ModelDef { const char *name, *help; const struct BackboneDef *backbone; const struct HeadDef *head; } ModelDef;
typedef struct NormDef { const char *name; float mean[3], std[3]; bool bgr; const char *help; } NormDef;   /* 0..255 scale, in dst's channel order */

/* Build the named network into a fresh Net for nominal images of h x w; net_finish is done, weights are
 * not set. Unknown names: E2076 with the nearest known one. */
Err model_open(const ModelOptions *o, int h, int w, Net **net, ModelNodes *nodes);
/* The network of FILE.onnx as o->model; its weights are set. Classes 0: as many as the file has. Of model_open. */
Err model_open_onnx(const ModelOptions *o, int h, int w, Net **net, ModelNodes *nodes);
Err  model_unknown_tap(const Net *n, const char *tap);       /* E2076 with the nearest layer's name */
bool model_is_onnx(const char *name);
const ModelDef *model_find(const char *name);
const NormDef  *norm_find(const char *name);
int  model_names(const char **out, int max);
/* Layer i of those whose channels are the classes of x, the logits or aux: x itself, or the summands of
 * LR-ASPP's; NO_NODE behind the last. */
Node model_classifier(const Net *n, Node x, int i);
/* The parts that names are made of, in the order of their lists: name and title of number i; NULL behind the last. */
const char *model_head(int i, const char **title);
const char *model_backbone(int i, const char **title);
enum { LOAD_START = 1,               /* allows what a student starts from: a backbone alone, a classifier of other classes */
       LOAD_PARTIAL = 2 };           /* takes what fits; something must */
/* What a file of o->model's weights holds: how many classes, by its classifier (0: it has none), and whether an auxiliary head. */
Err model_look_into(const ModelOptions *o, const TensorList *file, int *classes, bool *aux);
bool model_is_weights_file(const char *weights);         /* neither "none" nor "formula:SEED" */
/* "none" (random), "formula:SEED", or a file of weights of any kind. Without flags every tensor must match;
 * what a flag lets be absent starts at random. On failure (E4061) nothing is written. */
Err  model_load_weights(Net *n, const char *weights, uint64_t seed, unsigned flags);
/* The same of a file that was read; where: its path, for the report. */
Err  model_load_file(Net *n, const struct SafeFile *f, const char *where, uint64_t seed, unsigned flags);
#endif
