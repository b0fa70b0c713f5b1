/* class_weights.h - a weight per class, given or from the data; of every task loss. */
#ifndef RETORT_DISTILL_CLASS_WEIGHTS_H
#define RETORT_DISTILL_CLASS_WEIGHTS_H
#include "distill/method.h"

#define CLASS_WEIGHTS_HELP "per class: [c0, c1, ...], a file of such numbers, median or inverse-log of the training labels, or none"
/* K numbers in the net's arena; NULL: all 1. Fails the net, naming where. */
const float *class_weights(Net *n, const KdSite *s, const char *where, const char *text, int64_t classes);
#endif
