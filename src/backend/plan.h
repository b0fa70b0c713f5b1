/* plan.h - a Plan: a Net compiled for one set of input sizes, one precision and one mode.
 *
 * Making a plan: infer shapes, fuse (fuse.c), let each node's kernel choose layouts and emit steps,
 * plan memory (memory.c), bind pointers. Running it is a loop over a flat list of steps and allocates
 * nothing. Every value is written once; in-place execution is the memory planner's decision. */
#ifndef RETORT_BACKEND_PLAN_H
#define RETORT_BACKEND_PLAN_H
#include "backend/choices.h"
#include "graph/op.h"

typedef struct Plan Plan;
typedef enum { BACKEND_CPU, BACKEND_REF } BackendKind;      /* CPU: oneDNN and our kernels */
typedef struct PlanSpec {
    BackendKind backend;
    bool        training;            /* batch statistics and dropout */
    Node        loss;                /* scalar to differentiate, or NO_NODE: forward only */
    const Node *outputs; int n_outputs;     /* values to read afterwards (plain float32) */
    const Node *inputs; const Shape *input_shapes; int n_inputs;   /* sizes that differ from the nominal ones */
    const Node *wanted; int n_wanted;       /* inputs whose gradient is wanted beside the parameters' */
    Dtype       precision;           /* DT_BF16: activations, their gradients and copies of weights in bfloat16, where
                                        kernels know it; sums, statistics, losses and parameters stay float32 */
    const float *ranges;                    /* [n_nodes] of plan_watch: convolutions in 8-bit integers where that pays
                                        (quantize.c); inference of weights that never change; borrowed by plan_make */
    Choices    *choices;             /* which way each layer is computed, asked and told; borrowed by plan_make; NULL: the usual one */
    bool        lean;                /* with a loss: what convolutions made is made again in the backward pass rather than kept; the same bits */
    const Plan *host;                /* as by plan_share_arena from the start, where it fits; NULL: an arena of its own */
    bool        dry;                 /* for its stats alone: takes no memory, cannot run */
    bool        no_fuse;             /* for tests: fused equals composed */
} PlanSpec;
Err  plan_make(Net *net, const PlanSpec *spec, Plan **out);
void plan_close(Plan *p);
void plan_bind(Plan *p, Node input, const void *data);      /* borrows; plain layout; before plan_run */
/* Forward, and with a loss backward: gradients go to net->grads. accumulate: add to them instead of
 * overwriting. Parameters' backend copies are refreshed when net->version changed. */
void plan_run(Plan *p, const OpRun *run, bool accumulate);      /* past sys_set_deadline's time it ends early */
/* Forward alone, and only what these nodes' values are made of; of a plan with a loss too: what the next run does not do
 * again is lost. */
void plan_run_forward(Plan *p, const OpRun *run, const Node *of, int n_of);
/* p works in host's arena from here on (its outputs keep a place of their own): for two plans that never run at the
 * same time. Returns false, and changes nothing, when it does not fit. host must outlive p. */
bool plan_share_arena(Plan *p, const Plan *host);
/* Copies of parameters that come out alike in both are kept once: p reads host's. For weights that do not change from here
 * on; host, of the same net, must outlive p. */
void plan_share_copies(Plan *p, Plan *host);
/* While a plan without gradients runs, each ranges[node] grows to the largest |value| of the node. [n_nodes],
 * borrowed; zeroed by the caller at first; NULL: no more. Other plans of the net with the same outputs have the same nodes. */
void plan_watch(Plan *p, float *ranges);
const float *plan_value(const Plan *p, Node x);             /* of an output; valid until the next run */
Err plan_check_finite(const Plan *p, Node x);               /* of an output; E8062 with the place of a NaN or infinity */
const float *plan_gradient(const Plan *p, Node x);          /* of an input in spec.wanted; NULL: none flowed */
Shape plan_shape(const Plan *p, Node x);                    /* for this plan's sizes */
const void *plan_saved(const Plan *p, Node x);              /* the node's saved block (loss statistics); NULL when none */

/* What happened and what it took. */
typedef enum { STEP_CONV, STEP_REORDER, STEP_NORM, STEP_LOSS, STEP_OTHER, STEP_KIND_COUNT } StepKind;
typedef struct {
    size_t arena_bytes, param_bytes, peak_bytes;
    int    n_steps, n_reorders;
    double conv_flops, again_flops;          /* of a run; of them, what makes values again (PlanSpec.lean) */
    double done_flops;                       /* of conv_flops, what the last run came to */
} PlanStats;
PlanStats plan_stats(const Plan *p);
void plan_profile(Plan *p, bool on);                        /* collect times per step */
typedef struct { const char *node, *what, *impl; StepKind kind; bool backward, weights; double ms, flops, bytes; } StepTime;
int  plan_step_times(const Plan *p, StepTime *out, int max);   /* of the last profiled run */
void plan_run_convs(Plan *p);                               /* the convolution primitives alone (bench) */
void plan_print(const Plan *p, int max_rows);               /* `retort info --plan`: arena, peak, what makes it */
void plan_library(char *out, size_t bytes);                 /* "oneDNN 2.6.0 avx2": what the last bits depend on */
double plan_macs(const Plan *p);                            /* multiply-adds of the convolutions, padding taps counted */
const char *backend_version(void);                          /* of oneDNN: "2.6.0" */
const char *backend_isa(void);                              /* what oneDNN uses here: "avx2", "avx512_bf16" */
bool backend_has(Dtype t);                                  /* the backend computes in that type here; DT_I8: 8-bit integers */
bool backend_fast(Dtype t);                                 /* ... and the processor has instructions for it */
#endif
