/* yaml.h - YAML text to a small tree with a place for everything; no anchors, depth bounded. */
#ifndef RETORT_IO_YAML_H
#define RETORT_IO_YAML_H
#include "base/mem.h"
#include "base/str.h"

typedef enum { Y_SCALAR, Y_LIST, Y_MAP } YKind;
typedef struct YNode {
    YKind kind;
    const char *text;                /* scalar */
    const char *where;               /* "a.yaml:12" */
    int n, cap;                      /* list and map */
    struct YNode **item;
    const char **key;                /* map: unique (duplicates are refused) */
} YNode;
/* name: shown in places; lives as long as the arena, like the tree. Empty text: a map of nothing. */
Err  yaml_parse(const char *text, size_t bytes, const char *name, Arena *a, YNode **out);
YNode *yaml_scalar(Arena *a, const char *text, const char *where);
YNode *yaml_get(const YNode *map, const char *key);          /* NULL when absent */
char *yaml_flow(const YNode *y);                             /* "[a, b]", "{a: 1}"; caller frees */
void yaml_quote(Str *s, const char *text);                   /* as it must stand in a file */
#endif
