/* net.h - a Net: a static graph of nodes over named parameters.
 *
 * A Net is built once by short builder code (nn/nn.h) with nominal input sizes, so every node has a
 * shape; a Plan (backend/plan.h) infers all shapes again for the sizes it is made for. Nothing here
 * knows what an image is. Builders are sticky: after the first failure every call returns at once and
 * net_error() holds the text. Nodes, names and attributes live in the net's arena; parameters in two
 * aligned blocks (values, gradients) made by net_finish, so that an optimiser walks them in one loop. */
#ifndef RETORT_GRAPH_NET_H
#define RETORT_GRAPH_NET_H
#include "tensor/tensor.h"

typedef struct Net Net;
typedef struct OpDef OpDef;
typedef struct { int id; } Node;                     /* handle; id 0 is no node */
#define NO_NODE ((Node){0})
enum { NODE_SRC_MAX = 8, NODE_PARAM_MAX = 6 };

typedef enum {
    PARAM_WEIGHT, PARAM_BIAS, PARAM_BN_WEIGHT, PARAM_BN_BIAS,   /* trainable */
    PARAM_MEAN, PARAM_VAR,                                      /* running statistics, float32 */
    PARAM_COUNT                                                 /* num_batches_tracked, int64 scalar */
} ParamKind;
typedef struct NetParam {
    const char *name;                /* as in PyTorch's state_dict: "head.block.1.weight" */
    Shape     shape;                 /* PyTorch's order */
    ParamKind kind;
    int       fan_in, fan_out;       /* inputs of one output; outputs times kernel area; 0 where meaningless */
    bool      fan_out_init;          /* initialise normal(0, 2 / fan_out); otherwise uniform +-1/sqrt(fan_in) */
    bool      trainable;
    int64_t   offset;                /* of values in the value block and of gradients in the gradient block, in floats */
    float    *data, *grad;           /* after net_finish; grad NULL unless trainable; PARAM_COUNT: see count */
    int64_t   count;                 /* value of a PARAM_COUNT */
} NetParam;

typedef struct NetNode {
    const OpDef *op;
    const char *name;                /* scope path: "pretrained.layer1.0.conv1" */
    const void *attr;                /* the op's own struct, in the net's arena */
    int   n_src, src[NODE_SRC_MAX];  /* node ids, each smaller than this node's */
    int   n_param, param[NODE_PARAM_MAX];   /* indices into net->params */
    Shape shape;                     /* for the nominal input sizes */
    Dtype dtype;                     /* DT_F32, or DT_U8 / DT_I32 of inputs */
    bool  needs_grad;                /* a trainable parameter lies at or below it */
} NetNode;

struct Net {
    const char *name;
    Arena    *arena;
    NetNode  *nodes;  int n_nodes, cap_nodes;       /* nodes[0] is no node */
    NetParam *params; int n_params, cap_params;     /* in state_dict order */
    Tensor  **states; int n_states, cap_states;     /* what methods remember between steps; see net_state */
    float    *values, *grads; int64_t n_values, n_trainable;   /* trainable ones come first in the block */
    uint64_t  version;               /* bumped whenever a parameter changes: plans refresh their copies */
    Err       err; char *err_msg;    /* sticky builder failure */
    char      scope[256];
    /* Of a net whose attributes hold sizes (imported from a file): the same nodes for images of another
     * shape, without values of parameters. NULL: all shapes follow from the ops. */
    Err     (*rebuild)(const Net *n, Shape image, Net **out);
    Node      image;                 /* the input that shape is of */
    void     *origin;                /* what rebuild needs; closed with the net */
    void    (*close_origin)(void *);
    bool      has_weights;           /* parameters came with the network: not to be initialised */
    bool      frozen;                /* nothing is trainable (a teacher) */
    bool      bn_frozen;             /* nn_bn: running statistics even in training */
    bool      dropout_off;           /* nn_dropout adds nothing */
    bool      fan_out_init;          /* net_init_rule's present value */
    struct NameIndex *node_names, *param_names;      /* name -> number, by hash */
};

Net *net_open(const char *name);
void net_close(Net *n);
void net_enter(Net *n, const char *scope);           /* one path element, no dots (CHECKed) */
void net_leave(Net *n);
Node net_input(Net *n, const char *name, Dtype t, Shape nominal);   /* bound by plan_bind */
/* Append a node; copies attr (attr_bytes) into the arena, runs the op's shape rule. name: last path
 * element or "" for the scope itself. */
Node net_add(Net *n, const OpDef *op, const char *name, const void *attr, size_t attr_bytes,
             const Node *src, int n_src, const int *param, int n_param);
/* Declare a parameter under the present scope ("conv1" + ".weight"); returns its index. */
int  net_param(Net *n, const char *name, ParamKind kind, Shape shape, int fan_in, int fan_out);
/* Memory that outlives a step and is no parameter (a queue of features, an optimiser's moments): zeroed, at one
 * address as long as the net lives, saved in checkpoints as state/NAME. Returns NULL after a failure. */
Tensor *net_state(Net *n, const char *name, Dtype t, Shape shape);
void net_init_rule(Net *n, bool fan_out);            /* rule for the convolutions declared from here on */
/* Allocates the blocks; returns a sticky failure if any. Each parameter starts on 64 bytes, gaps are 0
 * in both blocks. More nodes and parameters may follow (distillation adapters): call it again, values stay. */
Err  net_finish(Net *n);
void net_alias(Net *n, Node x, const char *name);    /* one more name, under the present scope, for a value */
Node net_find(const Net *n, const char *name);       /* last node of that name; NO_NODE when absent */
int  net_find_param(const Net *n, const char *name); /* -1 when absent */
const NetNode *net_node(const Net *n, Node x);
Shape net_shape(const Net *n, Node x);
void net_fail(Net *n, Err rc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void net_init_random(Net *n, uint64_t seed);         /* PyTorch's distributions, counter-based */
void net_init_formula(Net *n, uint64_t seed);        /* weights=formula:SEED, see docs/formats.md */
int64_t net_count_params(const Net *n);              /* weights and biases in scalars, frozen or not */
void net_init_params(Net *n, int first, uint64_t seed);  /* net_init_random of params[first ..] only */
#endif
