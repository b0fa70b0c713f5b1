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
void method_bare_options(const KdMethod *m, void *opt, Arena *a) {
    if (m->options) option_defaults(m->options, opt, a);
    for (const Option *o = m->options; o && o->name; o++)
        if (o->flags & OPT_TERM_WEIGHT)
            CHECK(option_set(m->options, opt, a, "", o->name, "1", "default") == OK);
}
int method_names(const char **out, int max) {
    for (int i = 0; i < METHODS && i < max; i++) out[i] = methods[i]->name;
    return METHODS < max ? METHODS : max;
}
