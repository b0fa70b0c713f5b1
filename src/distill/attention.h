/* attention.h - attention maps (at, dsd). */
#ifndef RETORT_DISTILL_ATTENTION_H
#define RETORT_DISTILL_ATTENTION_H
#include "distill/pair.h"

Node attention_map(Net *n, Node x);              /* N x C x h x w -> N x 1 x h x w, mean over channels of x^2 */
/* Vectors of one image, n positions, those where mask is 0 left out. unit = a / max(|a|, 1e-12); returns that divisor. */
double attention_unit(const double *a, const float *mask, int64_t n, double *unit);
/* d: gradient by unit -> by a, in place; size: what attention_unit returned. */
void   attention_unit_back(const double *unit, double size, int64_t n, double *d);
#endif
