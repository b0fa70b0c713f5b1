/* onnx_priv.h - inside of the ONNX importer: one build of a file's graph into a Net.
 *
 * Every value of the file is a constant tensor (canonical: float32 or int64, bools as int64 0 and 1) or a
 * node of the Net. Nodes all of whose inputs are constants are folded (onnx_fold.c); the rest is added by
 * one function per operator (onnx_ops.def). All shapes are known: the image's size is given. */
#ifndef RETORT_MODELS_ONNX_PRIV_H
#define RETORT_MODELS_ONNX_PRIV_H
#include "graph/op.h"
#include "io/onnx.h"
#include "models/model.h"

typedef struct { Node node; const Tensor *constant; } OnnxSlot;      /* of one value; neither: not made (yet) */
typedef struct { int param; const Tensor *from; } OnnxFill;          /* a parameter's values, copied when the net is finished */
typedef struct OnnxBuild {
    const OnnxModel *m;
    Net        *net;
    Arena      *arena;               /* folded constants; closed after the build */
    size_t      folded;              /* bytes of them */
    OnnxSlot   *slot;                /* [m->n_value] */
    int        *param;               /* [m->n_value]: the parameter made of it, or -1 */
    OnnxFill   *fill; int n_fill, cap_fill;
    int64_t     batch;               /* samples of this build */
    bool        again;               /* for another size: what there was to say is said */
    bool        fixed_batch;         /* the file was exported for one sample and is built for several */
    const OnnxNode *node;            /* being built */
} OnnxBuild;

typedef struct OnnxOp {              /* one operator: a row of onnx_ops.def */
    const char *name;
    int         since, until;        /* opsets whose meaning the builder knows */
    Err       (*build)(OnnxBuild *b, const OnnxNode *n);
} OnnxOp;

/* The node's inputs. An optional one that is left out has value 0 and is neither. */
bool          ob_given(const OnnxBuild *b, int i);
const Tensor *ob_constant(OnnxBuild *b, int i);          /* canonical; NULL: computed, or left out */
Node          ob_src(OnnxBuild *b, int i);               /* as a node; constants become constant nodes */
Shape         ob_shape(OnnxBuild *b, int i);
Err           ob_ints(OnnxBuild *b, int i, int64_t *out, int max, int *n);   /* a constant list of integers; left out: n = -1 */
int           ob_param(OnnxBuild *b, int i, ParamKind kind, Shape s, int fan_in, int fan_out);   /* of a constant input */
/* Attributes with their defaults. */
int64_t     ob_int(const OnnxNode *n, const char *name, int64_t def);
float       ob_float(const OnnxNode *n, const char *name, float def);
const char *ob_string(const OnnxNode *n, const char *name, const char *def);
Err         ob_list(OnnxBuild *b, const char *name, int64_t *out, int count, int64_t def);       /* exactly count numbers, or all def */
Err         ob_axis(OnnxBuild *b, int64_t axis, int rank, int *out);                             /* -rank .. rank - 1 -> 0 .. rank - 1 */
/* Of a file for one sample that is built for several: refused when the node works along their dimension of input 0. */
Err         ob_apart(OnnxBuild *b, bool along_first);
/* Results. ob_add gives each node the name of the operator's first output. */
Node ob_add(OnnxBuild *b, const OpDef *op, const void *attr, size_t bytes, const Node *src, int n_src, const int *param, int n_param);
Node ob_add1(OnnxBuild *b, const OpDef *op, const void *attr, size_t bytes, Node src);
Node ob_reshape(OnnxBuild *b, Node x, Shape s);
    /* Builders add the same nodes for every size and batch: a plan of another one must find them (onnx.c). */
Node ob_transpose(OnnxBuild *b, Node x, const int *perm);
bool ob_single(OnnxBuild *b, int i, float *out);         /* the one number of a constant input */
Err  ob_axes(OnnxBuild *b, int i, int64_t *axes, int *n);            /* input i, or before opset 13 the attribute axes; none: n = -1 */
void ob_out(OnnxBuild *b, int i, Node x);                /* value i of the node's outputs */
void ob_out_constant(OnnxBuild *b, int i, const Tensor *t);
/* E4060 that names file, node and operator; the text ends with what to do. */
Err  ob_refuse(const OnnxBuild *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
Err  ob_tensor(OnnxBuild *b, Dtype t, Shape s, Tensor **out);        /* zeroed; refuses what is too big */

/* onnx_ends.c */
typedef struct { int value; bool probabilities; } OnnxOutput;
Err  onnx_add_image(OnnxBuild *b, const ModelOptions *o, int h, int w, ModelNodes *out);  /* input, normalised, at the file's size */
int  onnx_find_value(const OnnxModel *m, const char *name);         /* 0: none */
/* Up from value v through operators of a list that ends with NULL, by their first inputs. */
int  onnx_before(const OnnxModel *m, int v, const char *const *ops);
/* The value before what only turns logits into something else, and whether those are probabilities. */
void onnx_logits_of(const OnnxModel *m, int v, OnnxOutput *out);
/* As the user says of value v what it is; E4060 when it cannot be that. */
Err  onnx_said_output(const OnnxModel *m, int v, ModelOutput said, OnnxOutput *out);
Err  onnx_add_outputs(OnnxBuild *b, const OnnxOutput *logits, const OnnxOutput *aux, ModelNodes *out);

/* onnx_fold.c */
Err  onnx_fold(OnnxBuild *b, const OnnxNode *n, bool *done);         /* done: all inputs are constants and the result is one */
const Tensor *onnx_canonical(OnnxBuild *b, const Tensor *t);
/* Where a Slice begins, its step and size per dimension; shared by constants and nodes. */
typedef struct { int64_t start[RANK_MAX], step[RANK_MAX]; Shape shape; } OnnxSlice;
Err  onnx_slice(OnnxBuild *b, Shape s, OnnxSlice *out);
Err  onnx_perm(OnnxBuild *b, int rank, int perm[RANK_MAX]);          /* of Transpose; by default in reverse */
Err  onnx_reshaped(OnnxBuild *b, Shape from, Shape *to);             /* Reshape, Flatten, Squeeze, Unsqueeze by their inputs */
Err  onnx_fold_dequantize(OnnxBuild *b);
const OnnxOp *onnx_op_find(const char *name);
#endif
