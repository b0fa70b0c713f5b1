/* op_list.c - the table of the ops of ops.def. */
#include <string.h>

#include "graph/op.h"

static const OpDef *const OPS[] = {
#define OP(name) &op_##name,
#include "graph/ops.def"
#undef OP
};

const OpDef *op_find(const char *name) {
    for (size_t i = 0; i < sizeof OPS / sizeof *OPS; i++)
        if (!strcmp(OPS[i]->name, name)) return OPS[i];
    return NULL;
}
