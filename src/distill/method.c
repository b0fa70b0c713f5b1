/* method.c - the table of task losses and distillation methods, from methods.def. */
#include "distill/method.h"

#include <string.h>

#define METHOD(name) &kd_##name,
static const KdMethod *const methods[] = {
#include "distill/methods.def"
};
#undef METHOD
enum { METHODS = sizeof methods / sizeof *methods };

const KdMethod *method_find(const char *name) {
    for (int i = 0; i < METHODS; i++)
        if (!strcmp(methods[i]->name, name)) return methods[i];
    return NULL;
}
int method_names(const char **out, int max) {
    for (int i = 0; i < METHODS && i < max; i++) out[i] = methods[i]->name;
    return METHODS < max ? METHODS : max;
}
