/* conv_priv.h - what conv.c and dilated.c share: primitives as steps of a plan. */
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
/* Create a primitive whose activations lie in layouts of ours: freely chosen, else channels last, else plain. */
Err conv_create(Plan *p, DnnConv c, DnnPrim **prim, Layout *src, Layout *dst);
double conv_flops(const DnnConv *c);
bool conv_unfolds(const DnnPrim *prim);      /* oneDNN has no kernel of its own and multiplies unfolded images ("gemm") */

/* dilated.c: backward passes of convolutions that oneDNN has no kernel of its own for. */
bool dilated_fits(const DnnConv *c, const DnnPrim *prim);    /* prim: oneDNN's offer for c */
Err  dilated_data(Plan *p, const PlanNode *n, int id, const DnnConv *c, bool *done);
Err  dilated_weights(Plan *p, const PlanNode *n, int id, const DnnConv *c);
#endif
