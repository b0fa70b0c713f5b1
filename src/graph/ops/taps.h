/* taps.h - which inputs one output of a resize reads along a side, and with which weights. */
#ifndef RETORT_GRAPH_TAPS_H
#define RETORT_GRAPH_TAPS_H
#include "graph/op.h"

typedef struct { int n; int64_t at[4]; double w[4]; } Tap;       /* at is inside the side */
/* Output i of `out`; which: 0 for H, 1 for W. */
Tap resize_tap(const ResizeAttr *a, int which, int64_t i, int64_t in, int64_t out);
#endif
