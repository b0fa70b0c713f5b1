/* yaml.c - YAML text to a small tree that remembers where everything stood.
 *
 * libyaml's event parser feeds an explicit stack, so nothing recurses on the file's content.
 * Anchors and aliases are refused: a configuration needs none, and they are how a small file
 * becomes a huge tree. */
#include "io/yaml.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

enum { YAML_DEPTH_MAX = 16, YAML_NODES_MAX = 20000 };      /* keys are compared with each other */
typedef struct Builder {
    Arena *a;
    const char *name;
    YNode *stack[YAML_DEPTH_MAX];
    const char *key[YAML_DEPTH_MAX]; /* of a map: the key whose value comes next */
    int depth, n_nodes;
    YNode *root;
} Builder;

static const char *place(const Builder *b, const yaml_mark_t *m) {
    return arena_printf(b->a, "%s:%zu", b->name, m->line + 1);
}

static YNode *node_new(Builder *b, YKind kind, const yaml_event_t *e) {
    YNode *y = arena_alloc(b->a, sizeof *y);
    y->kind = kind;
    y->where = place(b, &e->start_mark);
    b->n_nodes++;
    return y;
}

static void node_push(Arena *a, YNode *parent, const char *key, YNode *item) {
    if (parent->n == parent->cap) {
        int cap = parent->cap ? 2 * parent->cap : 8;
        YNode **items = arena_alloc(a, (size_t)cap * sizeof *items);
        const char **keys = arena_alloc(a, (size_t)cap * sizeof *keys);
        if (parent->n) memcpy(items, parent->item, (size_t)parent->n * sizeof *items);
        if (parent->n) memcpy(keys, parent->key, (size_t)parent->n * sizeof *keys);
        parent->item = items, parent->key = keys, parent->cap = cap;
    }
    parent->key[parent->n] = key;
    parent->item[parent->n++] = item;
}

/* Hang a finished or opening node under the top of the stack. */
static Err attach(Builder *b, YNode *y) {
    if (!b->depth) {
        if (b->root)
            return err_set(E(2, 76), "%s: a second document; a configuration is one", y->where);
        b->root = y;
        return OK;
    }
    YNode *top = b->stack[b->depth - 1];
    const char **key = &b->key[b->depth - 1];
    if (top->kind == Y_LIST) return node_push(b->a, top, NULL, y), OK;
    if (!*key) {
        if (y->kind != Y_SCALAR) return err_set(E(2, 76), "%s: a key must be a word", y->where);
        YNode *old = yaml_get(top, y->text);
        if (old)
            return err_set(E(2, 76), "%s: %s is given twice, before at %s; remove one", y->where,
                           y->text, old->where);
        *key = y->text;
        return OK;
    }
    node_push(b->a, top, *key, y);
    *key = NULL;
    return OK;
}

static Err on_event(Builder *b, const yaml_event_t *e) {
    YNode *y;
    const yaml_char_t *anchor = NULL;
    switch (e->type) {
    case YAML_ALIAS_EVENT:
        return err_set(E(2, 76), "%s: anchors and aliases are not supported; write the value out",
                       place(b, &e->start_mark));
    case YAML_SCALAR_EVENT:
        anchor = e->data.scalar.anchor;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = e->data.sequence_start.anchor;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = e->data.mapping_start.anchor;
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        b->depth--;
        return OK;
    default:
        return OK;
    }
    if (anchor)
        return err_set(E(2, 76), "%s: anchors and aliases are not supported; write the value out",
                       place(b, &e->start_mark));
    if (b->n_nodes >= YAML_NODES_MAX)
        return err_set(E(2, 76), "%s: more than %d values", b->name, YAML_NODES_MAX);
    if (e->type == YAML_SCALAR_EVENT) {
        y = node_new(b, Y_SCALAR, e);
        if (strlen((const char *)e->data.scalar.value) != e->data.scalar.length)
            return err_set(E(2, 76), "%s: a NUL byte in a value", y->where);
        y->text = arena_strdup(b->a, (const char *)e->data.scalar.value);
        return attach(b, y);
    }
    y = node_new(b, e->type == YAML_MAPPING_START_EVENT ? Y_MAP : Y_LIST, e);
    TRY(attach(b, y));
    if (b->depth == YAML_DEPTH_MAX)
        return err_set(E(2, 76), "%s: nested deeper than %d", y->where, YAML_DEPTH_MAX);
    b->stack[b->depth] = y;
    b->key[b->depth++] = NULL;
    return OK;
}

/* What libyaml says against the text. It gives no place for bytes that are no characters, but their offset. */
static Err not_yaml(const yaml_parser_t *p, const char *text, size_t bytes, const char *name) {
    size_t line = p->problem_mark.line, column = p->problem_mark.column;
    if (p->error == YAML_READER_ERROR) {
        line = column = 0;
        for (size_t i = 0; i < bytes && i < p->problem_offset; i++, column++)
            if (text[i] == '\n') line++, column = (size_t)-1;
    }
    return err_set(E(2, 76), "%s:%zu:%zu: not YAML: %s", name, line + 1, column + 1,
                   p->problem ? p->problem : "unreadable");
}

Err yaml_parse(const char *text, size_t bytes, const char *name, Arena *a, YNode **out) {
    yaml_parser_t parser;
    Builder b = {.a = a, .name = name};
    Err rc = OK;
    if (!yaml_parser_initialize(&parser)) return err_set(E(7, 23), "no memory to read %s", name);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
    for (bool done = false; !rc && !done;) {
        yaml_event_t e;
        if (!yaml_parser_parse(&parser, &e)) {
            rc = not_yaml(&parser, text, bytes, name);
            break;
        }
        done = e.type == YAML_STREAM_END_EVENT;
        rc = on_event(&b, &e);
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&parser);
    if (rc) return rc;
    if (!b.root ||
        (b.root->kind == Y_SCALAR && !*b.root->text)) { /* an empty file is an empty map */
        b.root = arena_alloc(a, sizeof *b.root);
        b.root->kind = Y_MAP;
        b.root->where = name;
    }
    *out = b.root;
    return OK;
}

YNode *yaml_scalar(Arena *a, const char *text, const char *where) {
    YNode *y = arena_alloc(a, sizeof *y);
    y->kind = Y_SCALAR, y->text = arena_strdup(a, text), y->where = where;
    return y;
}

YNode *yaml_get(const YNode *map, const char *key) {
    for (int i = 0; map->kind == Y_MAP && i < map->n; i++)
        if (!strcmp(map->key[i], key)) return map->item[i];
    return NULL;
}

void yaml_quote(Str *s, const char *text) {
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+:-";
    bool bare = *text && strspn(text, plain) == strlen(text) && *text != '-' && *text != ':' &&
                !str_ends(text, ":");
    bare = bare || ((*text == '-' || *text == '+') &&
                    strspn(text, "+-.0123456789e") == strlen(text) && text[1]);
    if (bare) str_add(s, text);
    else str_json(s, text);
}

static void flow(Str *s, const YNode *y) { /* depth is bounded by YAML_DEPTH_MAX */
    if (y->kind == Y_SCALAR) {
        yaml_quote(s, y->text);
        return;
    }
    str_add(s, y->kind == Y_LIST ? "[" : "{");
    for (int i = 0; i < y->n; i++) {
        if (i) str_add(s, ", ");
        if (y->kind == Y_MAP) yaml_quote(s, y->key[i]), str_add(s, ": ");
        flow(s, y->item[i]);
    }
    str_add(s, y->kind == Y_LIST ? "]" : "}");
}

char *yaml_flow(const YNode *y) {
    if (y->kind == Y_SCALAR) return xstrdup(y->text);
    Str s = {0};
    flow(&s, y);
    return s.s;
}
