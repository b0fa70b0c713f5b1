/* planes.h - one class's probabilities at the labels' resolution at a time, for losses over whole regions (dice, lovasz).
 *
 * p_k = softmax(U(X))_k, U the bilinear upsampling (align_corners) from N x K x h x w to N x H x W. What is kept are maps
 * of N x H x W: the logarithm of the softmax's sum, from which any class's plane is made again. A loss gives its gradient
 * by p as g_k(i); the gradient by the logits is U^T [p_k (g_k - sum over l of g_l p_l)]. Both are taken less the slope of the
 * pixel's most probable class, which is all of the sum at a sure pixel: its gradient would drown in rounding. */
#ifndef RETORT_DISTILL_PLANES_H
#define RETORT_DISTILL_PLANES_H
#include "distill/class_weights.h"

typedef struct Planes {
    const float   *logits;           /* N x K x h x w */
    const int32_t *labels;           /* N x H x W */
    int n, k, h, w, H, W;
    float   *top, *log_sum;          /* N x H x W: the largest logit, and the log of the sum of exp(logit - top): apart, since a sum of
                                        both would lose the digits of log_sum where logits are large */
    float   *inner, *base;           /* N x H x W: sums of (g - base) p; slopes of the likeliest classes, NULL: 0 */
    int32_t *col;                    /* [W] */
    float   *fx;                     /* [W] */
    /* Gradient by the probabilities of class k of row `row` = n H + y; the loss's own. p: the row's. 0 where void. */
    void   (*slope)(const struct Planes *, int k, int64_t row, const float *p, float *g);
    const void *loss;                /* slope's own */
} Planes;
size_t planes_bytes(Shape logits, Shape labels);
void   planes_open(Planes *p, const OpCall *c, int head, char *memory);      /* head: number of the source; labels: source 1 */
void   planes_row(const Planes *p, int k, int64_t row, float *out);          /* p_k of a row: W floats */
/* U^T [p_k (g_k - inner)] times a, of `count` classes from `first`; inner NULL: 0. add: to what is there. */
void   planes_back(const Planes *p, int first, int count, double a, bool add, float *dlogits);
/* dlogits = a * gradient; overwrites inner. */
void   planes_gradient(Planes *p, double a, float *dlogits);
/* The student's logits, labels [, auxiliary logits]; one value for both heads: main + 0.4 auxiliary. */
Node   planes_add(Net *n, const OpDef *op, const KdSite *s, const void *attr, size_t attr_bytes);
Err    planes_infer(const OpSite *s, Shape *dst);
size_t planes_saved_bytes(const OpSite *s, Shape dst);
void   planes_backward(const OpCall *c);
/* One head: value; gradient, times a, to dlogits. */
typedef double (*PlanesHead)(const OpCall *c, Planes *p, void *memory, double a, float *dlogits);
void   planes_forward(const OpCall *c, PlanesHead head);
#endif
