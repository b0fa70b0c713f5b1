/* input.c - a value bound from outside (net_input, plan_bind). It has no shape rule and no kernel:
 * its shape is the nominal one or the plan's, its bytes are the caller's. */
#include "graph/op.h"

const OpDef op_input = {.name = "input"};
