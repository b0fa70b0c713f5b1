/* fuzz_classes.c - a table of classes in any of its notations. */
#include "fuzz.h"
#include "data/classes.h"

FUZZ(classes) {
    Arena *a = arena_open();
    Classes c;
    Err rc = classes_parse(a, (const char *)data, n, "classes.txt", &c);
    arena_close(a);
    return rc;
}
