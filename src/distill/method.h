/* method.h - task losses and distillation methods.
 *
 * The task loss (ce, ohem, rdd) and each entry of distill.losses is a function that adds nodes to the
 * student's graph and returns a scalar node. A method is one file and one line METHOD(x) in methods.def;
 * nothing in train/ or cli/ knows a method's name. */
#ifndef RETORT_DISTILL_METHOD_H
#define RETORT_DISTILL_METHOD_H
#include "base/option.h"
#include "nn/nn.h"

/* Pixels of each class, and of all images that show it, void left out: [classes]. */
typedef struct ClassPixels { int64_t *own, *shown; } ClassPixels;
typedef struct KdSite {              /* what a method may use; NO_NODE where absent */
    Node logits, aux;                /* student's, N x K x h x w */
    Node t_logits, t_aux;            /* teacher's: inputs of the student's net, constant */
    Node t_flip;                     /* teacher's logits of the mirrored image, mirrored back; of the TFE stage alone */
    Node t_aux_tfe;                  /* t_aux for who reads it in the TFE stage alone; NO_NODE: t_aux itself */
    Node labels;                     /* i32 N x H x W, -1 = ignore */
    Node stage;                      /* f32 [2]: weights of the TFE and the TSE stage, set per step by the trainer */
    int  only;                       /* KD_TFE or KD_TSE: rdd's other stage will never run; KD_DISCRIMINATOR: skd.ho's
                                        own loss in place of the student's; 0: all of it */
    int  classes;                    /* labels are below this */
    bool adapters;                   /* a 1x1 convolution on the student's features even where channels agree */
    /* Any layer by name: logits, aux, features, mid, or one that `retort info` prints. The teacher's are constant
     * inputs of the student's net. Fails the net, naming the nearest, when there is no such layer. */
    Node (*tap)(const struct KdSite *, Net *student, bool teacher, const char *name);
    Err  (*count_pixels)(const struct KdSite *, ClassPixels *out);   /* of the training labels; NULL: there are none */
    void *owner;                     /* of these two */
    struct KdSide *side;             /* out: zeroed before build; see below */
} KdSite;
enum { KD_TFE = 1, KD_TSE, KD_DISCRIMINATOR };
enum { KD_LOGITS = 1, KD_FEATURES = 2, KD_LABELS = 4, KD_AUX = 8 };

/* A network beside the student's that a method trains on its own loss, by Adam (a discriminator). After each update
 * of the student its inputs are bound to values of the student's net, it steps, and its parameters are copied to
 * those of the student's net called PREFIX.NAME, which are frozen there. */
enum { SIDE_INPUTS_MAX = 4 };
typedef struct KdSide {
    Net  *net;                       /* NULL: none. The caller closes it, and finishes it first */
    Node  from[SIDE_INPUTS_MAX], to[SIDE_INPUTS_MAX], loss;
    int   n;
    double lr, beta1, beta2;
    const char *prefix;              /* whole, scopes included; lives in the student's arena */
    Tensor *m, *v, *count;           /* Adam's moments and steps: states of the student's net */
} KdSide;

typedef struct KdMethod {
    const char   *name;              /* in distill.losses / distill.task, and of the file */
    const char   *cite;              /* paper and equation number */
    double        weight;            /* default weight of the term */
    double      (*weight_of)(const void *opt);   /* the same where it depends on the options; NULL: weight */
    bool          task;              /* a task loss (ce, ohem, rdd), chosen by distill.task */
    bool          also_term;         /* a task loss that may stand in distill.losses too (dice, lovasz) */
    unsigned      taps;              /* what it needs from both nets */
    const Option *options;           /* of the opt struct; ends with {0} */
    size_t        option_bytes;
    Node (*build)(Net *student, const KdSite *site, const void *opt);   /* scalar loss */
    /* Statistics of the last run for the log, from plan_saved of the built node: adds "kept.main" etc.; NULL: none */
    int  (*stats)(const void *saved, const char **names, double *values, int max);
    /* Of pixels chosen: the share kept of each class in the last run, NaN where it has none; returns how many classes, 0
     * when nothing was chosen; NULL: never is. */
    int  (*kept)(const void *saved, double *share, int max);
    /* Does it take statistics of the networks' outputs over a whole update (parts.h)? stage: as KdSite's. NULL: never */
    bool (*gathers)(const void *opt, const float stage[2]);
    Err  (*check)(const void *saved);    /* after each run: kernels cannot fail, so this reports what they met; NULL: nothing */
} KdMethod;
#define METHOD(name) extern const KdMethod kd_##name;
#include "distill/methods.def"
#undef METHOD
const KdMethod *method_find(const char *name);
/* Defaults, with the parts of a term weighing 1: the bare formula. */
void method_bare_options(const KdMethod *m, void *opt, Arena *a);
int method_names(const char **out, int max);
#endif
