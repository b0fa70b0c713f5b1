/* fullres.h - task losses at the labels' resolution: shared by ce.c, ohem.c and rdd.c.
 *
 * All three are L = sum over heads j of a_j * sum over pixels i of w_ji * CE(U(X_j))_i with constant
 * weights w (a = 1 main, 0.4 auxiliary); U is the bilinear upsampling with align_corners = true from
 * N x K x h x w to the labels' N x H x W. They differ in w only:
 *   ce    w = c_y / sum over V of c_y
 *   ohem  w = [i in M] c_y / sum over M of c_y, M: the student's own hard pixels
 *   rdd   TFE: w = U(easiness of the teacher) / Z;  TSE: as ohem with M by student and teacher
 * The forward pass computes value and gradient at once; the gradient, on the low grid, waits in
 * `saved` behind an FrStats. Nothing of size N x K x H x W ever exists: maps of N x H x W and tiles.
 *
 * A batch in parts (parts.h): what labels tell is counted over all parts; thresholds and masks of TSE and OHEM are those of all
 * parts together, whose probabilities are gathered in a pass of their own (`store`), or with NULL each micro-batch's.
 *
 * fullres.c orders the passes, fullres_simd.c has the fused ones, fullres_ref.c the plain C oracle. */
#ifndef RETORT_DISTILL_FULLRES_H
#define RETORT_DISTILL_FULLRES_H
#include "distill/method.h"
#include "distill/parts.h"

enum { TFE_AUX, TFE_FLIP, TFE_ENTROPY };             /* order of the option's choices */
enum { SCOPE_BATCH, SCOPE_MICRO_BATCH, SCOPE_IMAGE };  /* of min_kept_scope */
enum { FR_CLASSES_MAX = 4096 };                      /* tiles live on the stack */
/* Which pixels count, as a truth table: bit (2 * student hard + teacher hard). */
enum { RULE_XOR = 6, RULE_OR = 14, RULE_AND = 8, RULE_STUDENT = 12, RULE_STUDENT_NOT_TEACHER = 4 };

typedef struct FullresAttr {
    int aux, t, t_aux, t_flip, stage;    /* source numbers, 0: absent; source 0: student's logits, 1: labels */
    bool   tfe, tse;                     /* neither: plain cross-entropy */
    int    tfe_kind;                     /* TFE_* */
    unsigned rule;                       /* RULE_* */
    bool   random;                       /* as many pixels as the rule keeps, drawn at random */
    double theta, fraction;              /* hard: probability <= max(theta, k-th smallest) */
    int64_t count;                       /* k when > 0, otherwise from fraction */
    bool   per_image;                    /* k and threshold of each image, not of the batch */
    bool   main_mask;                    /* the auxiliary head keeps what the main one keeps */
    bool   kl_reversed;                  /* TFE: KL(T || Ta) in place of KL(Ta || T) */
    bool   all_pixels;                   /* TFE: Z counts void pixels too */
    const float *class_weight;           /* [K] in the net's arena; NULL: 1. Not used by TFE */
    PartStore *store;                    /* NULL: masks by micro-batches alone */
    PartStore *counts;                   /* of labels, of all parts */
    bool   compat;                       /* rdd2023: Z over all pixels, k absolute, too few pixels is a failure */
} FullresAttr;

typedef struct FrStats {                 /* the start of `saved` */
    double loss, main, aux;              /* total; the terms of the two heads without the factor 0.4 */
    double theta[2], theta_t[2];         /* thresholds, student and teacher, main and aux, mean over images; 0: not computed */
    int64_t valid, kept[2];              /* |V|, |M| of main and aux */
    int64_t short_of;                    /* compat: the k that |V| falls short of; 0: fine */
    int32_t masked, empty;               /* TSE or OHEM ran; its main mask was empty */
    int32_t classes, unused;
} FrStats;

Err    fullres_infer(const OpSite *s, Shape *dst);
size_t fullres_saved_bytes(const OpSite *s, Shape dst);
size_t fullres_scratch_bytes(const OpSite *s, Shape dst);
void   fullres_forward(const OpCall *c);             /* plain C, double */
void   fullres_fast_forward(const OpCall *c);        /* fused, by cpu_level() */
void   fullres_backward(const OpCall *c);            /* dlogits += ddst[0] * saved gradient */
/* The op of a loss that is computed this way: an OpDef's initialiser. */
#define FULLRES_OP(text)                                                                           \
    {.name = text, .infer = fullres_infer, .saved_bytes = fullres_saved_bytes,                     \
     .scratch_bytes = fullres_scratch_bytes, .forward = fullres_forward,                           \
     .backward = fullres_backward, .fast_forward = fullres_fast_forward,                           \
     .fast_backward = fullres_backward}
int    fullres_stats(const void *saved, const char **names, double *values, int max);
int    fullres_kept(const void *saved, double *share, int max);
Err    fullres_check(const void *saved);
/* Adds the node: attr's source numbers are filled in from the site (t: with a teacher). */
Node   fullres_add(Net *n, const OpDef *op, const KdSite *s, FullresAttr *attr, bool teacher);
#endif
