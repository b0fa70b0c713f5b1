/* conv_priv.h - what the files of convolutions share: primitives as steps of a plan, and the ways to compute a pass. */
#ifndef RETORT_BACKEND_CPU_CONV_PRIV_H
#define RETORT_BACKEND_CPU_CONV_PRIV_H
#include "backend/cpu/dnn.h"

typedef struct { DnnPrim *prim, *alternative; ValueId value[DNN_ARG_COUNT]; ValueId residual; bool overwrite; } PrimStep;
PrimStep *new_prim_step(Plan *p, DnnPrim *prim);
/* Emit the step of a primitive whose values are set: what it reads and writes follows from `writes`. */
Step *emit_prim(Plan *p, int node, const char *what, PrimStep *ps, DnnArg writes, DnnArg writes_too, StepKind kind);
/* Copy of the weights in layout `md`, made by the parameter steps; plain weights may come folded. t: of the plain ones. */
ValueId weights_copy(Plan *p, int node, ValueId plain, Shape shape, int groups, Dtype t, const DnnMd *md);
/* Room for plain float32 weights that parameter steps make and weights_copy reads next: shared where a copy is made. */
ValueId weights_room(Plan *p, const NetParam *w, Shape shape, int groups, const DnnMd *md);
/* The ways to compute one pass of a convolution, rows of a table in ways.c. */
typedef enum { WAY_ANY, WAY_LAST, WAY_OWN, WAY_COUNT } Way;   /* oneDNN in its own layouts, in channels last; a kernel of ours */
typedef struct ConvPass {
    const char *name;
    DnnPass     pass;
    Err       (*emit)(Plan *p, PlanNode *n, int id, Way way);
} ConvPass;
/* Emits a pass in the way that PlanSpec.choices knows, or after measuring the ways there are, or in the usual one. */
Err ways_emit(Plan *p, PlanNode *n, int id, const ConvPass *pass);
DnnConv conv_describe(const Plan *p, const PlanNode *n, DnnPass pass);

/* Create a primitive whose activations lie in layouts of ours: the way's, else channels last, else plain. */
Err conv_create(Plan *p, DnnConv c, Way way, DnnPrim **prim, Layout *src, Layout *dst);
/* Of a dilated one: oneDNN's own layouts, unless those unfold the image and channels last does not; *unfolds: both do. */
Err conv_folded_way(Plan *p, const DnnConv *c, Way *out, bool *unfolds);
bool conv_depthwise(const DnnPrim *prim);    /* oneDNN has a kernel for depthwise convolutions like this one */
double conv_flops(const DnnConv *c);
bool conv_unfolds(const DnnPrim *prim);      /* oneDNN has no kernel of its own and multiplies unfolded images ("gemm") */

/* dilated.c: backward passes of dense dilated convolutions. */
bool dilated_fits(const DnnConv *c);
Err  dilated_data(Plan *p, const PlanNode *n, int id, const DnnConv *c);
Err  dilated_data_unfolds(Plan *p, const DnnConv *c, bool *out);     /* it would gain nothing */
Err  dilated_weights(Plan *p, const PlanNode *n, int id, const DnnConv *c);

/* depthwise.c: 3x3 and 5x5 depthwise convolutions. */
bool depthwise_fits(const Plan *p, const PlanNode *n, const DnnConv *c);
Err  depthwise_forward(Plan *p, PlanNode *n, int id, ValueId weights, ValueId bias, Act act);
Err  depthwise_data(Plan *p, const PlanNode *n, int id);
Err  depthwise_weights(Plan *p, const PlanNode *n, int id);

/* tune.c: seconds that the pass takes in that way, alone, with the reorders it causes where its values lie now. The
 * plan is left as it was; gradients in the net are overwritten. INFINITY: no way to go. */
double tune_time(const Plan *p, int id, const ConvPass *pass, Way way, double best);
#endif
