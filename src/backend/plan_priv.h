/* plan_priv.h - inside of a plan, for the passes of backend/ and the kernels of its folders.
 *
 * A plan is two flat lists of steps: `param_steps` make a backend's copies of the parameters and run
 * only when the net's version changed; `steps` are one forward and, with a loss, one backward pass.
 * A Value is written by one step and read by later ones; the memory planner gives values whose lives
 * do not overlap the same bytes, and honours a step's wish to run in place where the source dies. */
#ifndef RETORT_BACKEND_PLAN_PRIV_H
#define RETORT_BACKEND_PLAN_PRIV_H
#include "backend/plan.h"

typedef int ValueId;                         /* index into plan->values; 0 is no value */
enum { STEP_IO_MAX = 12, GRAD_MAX = 16 };    /* a layer that every loss reads */

typedef enum {
    VALUE_ARENA,                             /* lives between its first write and its last read */
    VALUE_KEPT,                              /* an arena value that survives the run (outputs) */
    VALUE_OWN,                               /* a block of its own for the plan's whole life */
    VALUE_BOUND                              /* memory of someone else: inputs, parameters */
} ValuePlace;
typedef struct Value {
    const char *name;                        /* for `info --plan`: the node's */
    Shape      shape;
    Dtype      dtype;
    Layout     layout;
    float      scale;                        /* of 8-bit values: a number is scale times the integer; 0: no such value */
    size_t     bytes;
    ValuePlace place;
    int        first, last;                  /* steps that write and last read it; first < 0: never written */
    ValueId    root;                         /* whose memory it uses: itself, or the value it replaced in place */
    size_t     offset;                       /* of a root, in the arena or in the block of own values */
    void      *ptr;
} Value;

typedef struct Step Step;
struct Step {
    void      (*fn)(const Step *s);          /* kernels cannot fail */
    Plan       *plan;
    void       *state;                       /* the kernel's own, in the plan's arena */
    ValueId     read[STEP_IO_MAX], write[STEP_IO_MAX];
    int         n_read, n_write;
    ValueId     in_place_src, in_place_dst;  /* wish: dst may take src's memory when src dies here */
    int         node;
    const char *what, *impl;                 /* "forward", "backward data", ...; which implementation */
    StepKind    kind;
    bool        backward, weights, again;    /* again: makes a value of the forward pass once more */
    double      flops, ms;
};

typedef struct PlanNode {                    /* a node after fusing */
    const OpDef *op;                         /* NULL: fused into another */
    const void  *attr;
    int          n_src, src[NODE_SRC_MAX];
    int          n_param, param[NODE_PARAM_MAX];
    int          same_as;                    /* node whose value this one is (dropout in inference); 0: its own */
    Shape        shape;
    Dtype        dtype;
    bool         is_output, wants_grad, read_as_float;   /* read_as_float: some consumer has no kernel for bfloat16 */
    int          uses;                       /* consumers after fusing, outputs included */
    ValueId      value;                      /* in the layout its kernel chose */
    ValueId      as[LAYOUT_C16 + 1][4];      /* the same in other layouts and types (type_slot), made on demand */
    ValueId      grad[GRAD_MAX]; int n_grad; /* contributions to its gradient so far */
    ValueId      saved;                      /* the reference's saved block */
    const struct Kernel *kernel;
    bool         not_negative, int8;         /* by quantize.c: no value is negative; its convolution takes 8-bit integers */
    Dtype        stored;                     /* DT_U8, DT_I8: its convolution's result is kept so; DT_F32: as without ranges */
    float        scale;                      /* of its values where they are 8-bit integers */
    ValueId    (*remake)(Plan *, struct PlanNode *, int id);   /* emits the value again in backward, so that it
                                                need not live until then; NULL: it is kept */
    int          again;                      /* convolutions in a row that remaking takes, from the last kept value on */
    const void  *forward;                    /* the kernel's own, for remake */
} PlanNode;

struct Plan {
    Net        *net, *sized;                 /* sized: the nodes for this plan's shapes, where the net must be rebuilt */
    PlanSpec    spec;
    Arena      *arena;                       /* everything small */
    PlanNode   *nodes;                       /* [net->n_nodes] */
    Value      *values; int n_values, cap_values;
    Step       *steps;  int n_steps, cap_steps;
    Step       *param_steps; int n_param_steps, cap_param_steps;
    bool        emitting_params, emitting_backward;
    bool       *param_written;               /* [n_params]: a gradient write was emitted */
    void       *arena_block, *own_block;
    size_t      arena_bytes, own_bytes, peak_bytes;
    size_t      needs_bytes;                 /* of an arena, its own or another's */
    double      done_flops;
    uint64_t    version;                     /* of the parameters our copies show; 0: none */
    bool        borrows_copies;              /* some of them are another plan's, see plan_share_copies */
    OpRun       run;                         /* of the run in progress */
    bool        accumulate, profiling;
    float      *watched;                     /* ranges of plan_watch, or NULL */
    bool       *needed;                      /* [n_values] of plan_run_forward, or NULL */
    int         n_reorders;
    ValueId     param_scratch;               /* see plan_param_scratch; 0: none yet */
    struct CpuState *cpu;                    /* handles of the CPU backend; closed by cpu_close */
};

/* How one backend runs an op. Rows in kernels.def, fastest first; the generic one is implied last. */
typedef struct Kernel {
    const OpDef *op;
    bool bf16;                                            /* works on activations of plan_type, not only float32 */
    bool (*accepts)(const Plan *, const PlanNode *);      /* NULL: always */
    Err  (*forward)(Plan *, PlanNode *, int id);          /* emits steps; calls plan_dst */
    Err  (*backward)(Plan *, PlanNode *, int id);         /* in reverse order; calls plan_add_grad */
} Kernel;
extern const Kernel kernel_generic;                       /* op->forward or op->fast_forward, plain layout */
const Kernel *cpu_kernel(const Plan *p, const PlanNode *n);    /* of kernels.def; NULL: generic */

void plan_refresh_copies(Plan *p);                        /* of parameters that have changed */

/* For kernels, while they emit. */
ValueId plan_new_value(Plan *p, const char *name, Shape s, Dtype t, Layout l);
ValueId plan_new_bytes(Plan *p, const char *name, size_t bytes);        /* scratch, saved blocks */
ValueId plan_bound_value(Plan *p, const char *name, Shape s, Dtype t, void *ptr);
ValueId plan_own_value(Plan *p, const char *name, size_t bytes);        /* for copies of parameters */
ValueId plan_param_scratch(Plan *p, size_t bytes);        /* one block for all: from a parameter step to the next one only */
/* The element type that kernels which know bfloat16 use for activations and their gradients. */
static inline Dtype plan_type(const Plan *p) { return p->spec.precision == DT_BF16 ? DT_BF16 : DT_F32; }
ValueId plan_src_as(Plan *p, int node, Layout want, Dtype t);   /* the node's value in that layout and type */
ValueId plan_src(Plan *p, int node, Layout want);         /* in float32, or as it is when it holds integers */
Layout  plan_layout(const Plan *p, int node);             /* it has now */
ValueId plan_dst_as(Plan *p, int id, Layout l, Dtype t);  /* declares the node's value */
ValueId plan_dst(Plan *p, int id, Layout l);              /* in float32 */
ValueId plan_grad_as(Plan *p, int node, Layout want, Dtype t);  /* summed gradient of the node; 0: none flows */
ValueId plan_grad(Plan *p, int node, Layout want);        /* in float32 */
void    plan_add_grad(Plan *p, int node, ValueId g);      /* contributes */
bool    plan_wants_grad(const Plan *p, int node);
Step   *plan_step(Plan *p, int node, const char *what, void (*fn)(const Step *), void *state);  /* valid until the next call */
void    step_reads(Step *s, ValueId v);                   /* 0 is ignored */
void    step_writes(Step *s, ValueId v);
bool    plan_param_first(Plan *p, int param);             /* true once: this write may overwrite unless accumulating */
static inline void *step_ptr(const Step *s, ValueId v) { return v ? s->plan->values[v].ptr : NULL; }
int     plan_resolve(const Plan *p, int node);            /* through same_as */

/* Passes, one file each. */
Err  plan_make_once(Net *net, const PlanSpec *spec, Plan **out);      /* plan.c: all passes */
Err  plan_make_tuned(Net *net, const PlanSpec *spec, Plan **out);     /* tuned.c: with spec->choices */
Err  plan_infer_shapes(Plan *p);             /* plan.c */
void plan_fuse(Plan *p);                     /* fuse.c */
void plan_quantize(Plan *p);                 /* quantize.c: which convolutions take 8-bit integers; after kernels are chosen */
/* lean.c: which values are made again in backward rather than kept, beside those that cost nothing. */
bool plan_remakes_conv(const Plan *p, PlanNode *n);
bool plan_remakes_norm(const Plan *p, PlanNode *n);
Err  plan_place_memory(Plan *p);             /* memory.c */
void cpu_close(Plan *p);                     /* cpu/: frees primitives and memories */
Err  cpu_reorder_step(Plan *p, ValueId from, ValueId to, int node);    /* between layouts and types of activations */
void cpu_sum_step(Plan *p, int node, ValueId a, ValueId b, ValueId dst);   /* dst = a + b, same layout and type; dst may replace a */
#endif
