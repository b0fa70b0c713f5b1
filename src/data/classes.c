/* classes.c - tables of classes: made in, or read from a file; see classes.h. */
#include "data/classes.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "base/sys.h"
#include "io/yaml.h"

enum { FILE_MAX = 1 << 20, IDS_MAX = 256 };

/* One class as its file gives it. */
typedef struct {
    const char *name, *where;
    int ids[IDS_MAX], n_ids; /* 0: the place in the list */
    uint8_t rgb[3];
    bool coloured;
} Entry;
typedef struct {
    Entry *v;
    int n, cap;
} Entries;

void classes_voc_colour(int k, uint8_t rgb[3]) {
    rgb[0] = rgb[1] = rgb[2] = 0;
    for (int bit = 7; bit >= 0 && k; bit--, k >>= 3)
        for (int i = 0; i < 3; i++) rgb[i] |= (uint8_t)((k >> i & 1) << bit);
}

static uint32_t packed(const uint8_t rgb[3]) {
    return (uint32_t)rgb[0] << 16 | (uint32_t)rgb[1] << 8 | rgb[2];
}

static Err entry_add(Entries *e, const char *name, const char *where, Entry **out) {
    if (e->n == CLASSES_MAX)
        return err_set(E(EXIT_USAGE, 76), "%s: more than %d classes", where, CLASSES_MAX);
    if (!*name) return err_set(E(EXIT_USAGE, 76), "%s: a class without a name", where);
    for (int i = 0; i < e->n; i++)
        if (!strcmp(e->v[i].name, name))
            return err_set(E(EXIT_USAGE, 76), "%s: class %s is given twice, before at %s", where,
                           name, e->v[i].where);
    GROW(e->v, e->n, e->cap);
    e->v[e->n] = (Entry){.name = name, .where = where};
    *out = &e->v[e->n++];
    return OK;
}

/* ---- numbers and colours ------------------------------------------------------------------------
 */
static Err id_of(const YNode *y, int *out) {
    int64_t v;
    if (y->kind != Y_SCALAR || !parse_i64(y->text, &v) || v < 0 || v > 255)
        return err_set(E(EXIT_USAGE, 76), "%s: an id is a whole number from 0 to 255", y->where);
    *out = (int)v;
    return OK;
}

static bool hex_colour(const char *s, uint8_t rgb[3]) {
    unsigned v;
    char end;
    if (s[0] != '#' || strlen(s) != 7 || sscanf(s + 1, "%6x%c", &v, &end) != 1) return false;
    for (int i = 0; i < 3; i++) rgb[i] = (uint8_t)(v >> (16 - 8 * i));
    return true;
}

static Err colour_of(const YNode *y, uint8_t rgb[3]) {
    if (y->kind == Y_SCALAR && hex_colour(y->text, rgb)) return OK;
    bool good = y->kind == Y_LIST && y->n == 3;
    for (int i = 0; good && i < 3; i++) {
        int v;
        good = !id_of(y->item[i], &v);
        rgb[i] = (uint8_t)v;
    }
    return good ? OK
                : err_set(E(EXIT_USAGE, 76), "%s: a colour is [red, green, blue] or '#rrggbb'",
                          y->where);
}

/* ---- YAML ---------------------------------------------------------------------------------------
 */
static Err entry_ids(Entry *e, const YNode *y) {
    if (y->kind != Y_LIST) return id_of(y, &e->ids[e->n_ids++]);
    for (int i = 0; i < y->n && i < IDS_MAX; i++) TRY(id_of(y->item[i], &e->ids[e->n_ids++]));
    return OK;
}

static Err yaml_class(Entries *all, const YNode *y) {
    Entry *e;
    if (y->kind == Y_SCALAR) return entry_add(all, y->text, y->where, &e);
    const YNode *name = yaml_get(y, "name");
    if (!name || name->kind != Y_SCALAR)
        return err_set(E(EXIT_USAGE, 76), "%s: a class is its name, or {name: N, id: I, color: C}",
                       y->where);
    TRY(entry_add(all, name->text, y->where, &e));
    for (int i = 0; i < y->n; i++) {
        const char *key = y->key[i];
        if (!strcmp(key, "name")) continue;
        e->coloured |= str_starts(key, "colo");
        if (!strcmp(key, "id") || !strcmp(key, "ids")) TRY(entry_ids(e, y->item[i]));
        else if (!strcmp(key, "color") || !strcmp(key, "colour"))
            TRY(colour_of(y->item[i], e->rgb));
        else
            return err_set(E(EXIT_USAGE, 76),
                           "%s: %s is not known of a class; name, id, ids, color",
                           y->item[i]->where, key);
    }
    return OK;
}

/* {road: 0, car: [1, 2]} */
static Err yaml_map(Entries *all, const YNode *y) {
    for (int i = 0; i < y->n; i++) {
        Entry *e;
        TRY(entry_add(all, y->key[i], y->item[i]->where, &e));
        TRY(entry_ids(e, y->item[i]));
    }
    return OK;
}

static Err yaml_classes(Entries *all, const YNode *root, char **ignore) {
    const YNode *list = yaml_get(root, "classes"), *skip = yaml_get(root, "ignore");
    if (skip) *ignore = yaml_flow(skip);
    for (int i = 0; list && i < root->n; i++)
        if (root->item[i] != list && root->item[i] != skip)
            return err_set(E(EXIT_USAGE, 76), "%s: %s is not known here; classes and ignore are",
                           root->item[i]->where, root->key[i]);
    if (!list) list = root;
    if (list->kind == Y_MAP) return yaml_map(all, list);
    if (list->kind != Y_LIST)
        return err_set(E(EXIT_USAGE, 76), "%s: classes are a list or a map", list->where);
    for (int i = 0; i < list->n; i++) TRY(yaml_class(all, list->item[i]));
    return OK;
}

/* ---- lines of text ------------------------------------------------------------------------------
 */
static bool three_bytes(int r, int g, int b, uint8_t rgb[3]) {
    const int v[3] = {r, g, b};
    for (int i = 0; i < 3; i++) rgb[i] = (uint8_t)v[i];
    return r >= 0 && r < 256 && g >= 0 && g < 256 && b >= 0 && b < 256;
}

/* "road:128,64,128::", "128 64 128 road" or "road"; the name lies in the cut line. */
static bool text_class(char *line, char **name, uint8_t rgb[3], bool *coloured) {
    int r, g, b, used = 0;
    char *colon = strchr(line, ':');
    *coloured = true;
    if (colon && sscanf(colon, ":%d , %d , %d", &r, &g, &b) == 3) {
        *colon = 0, *name = line;
        return three_bytes(r, g, b, rgb);
    }
    if (sscanf(line, "%d %d %d %n", &r, &g, &b, &used) == 3 && line[used]) {
        *name = line + used;
        return three_bytes(r, g, b, rgb);
    }
    *coloured = false, *name = line;
    return !colon;
}

static Err text_classes(Arena *a, Entries *all, char *text, const char *name) {
    int line = 0;
    for (char *next = text, *at; (at = next) != NULL;) {
        next = strchr(at, '\n');
        if (next) *next++ = 0;
        line++;
        while (isspace((unsigned char)*at)) at++;
        for (char *end = at + strlen(at); end > at && isspace((unsigned char)end[-1]);) *--end = 0;
        if (!*at || *at == '#') continue;
        char *word;
        uint8_t rgb[3];
        bool coloured;
        const char *where = arena_printf(a, "%s:%d", name, line);
        Entry *e;
        if (!text_class(at, &word, rgb, &coloured))
            return err_set(E(EXIT_USAGE, 76),
                           "%s: neither NAME:R,G,B::, nor R G B NAME, nor a NAME: \"%s\"", where,
                           at);
        TRY(entry_add(all, arena_strdup(a, word), where, &e));
        memcpy(e->rgb, rgb, coloured ? 3 : 0), e->coloured = coloured;
    }
    return OK;
}

/* ---- from entries to the table ------------------------------------------------------------------
 */
static int by_rgb(const void *a, const void *b) {
    const uint32_t x = ((const ColourClass *)a)->rgb, y = ((const ColourClass *)b)->rgb;
    return x < y ? -1 : x > y;
}

/* "outside 0..18 and is not ignored (255)"; where ids have gaps, how many there are. */
static void describe(Arena *a, Classes *c) {
    enum { LISTED = 4 };
    int lo = -1, hi = -1, used = 0, ignored = 0;
    Str s = {0};
    for (int i = 0; i < 256; i++) {
        if (c->map[i] < LABEL_REFUSED) hi = i, lo = lo < 0 ? i : lo, used++;
        else if (c->map[i] == IGNORE_U8 && ignored++ < LISTED)
            str_addf(&s, "%s%d", ignored > 1 ? ", " : " (", i);
    }
    if (ignored) str_add(&s, ignored > LISTED ? ", ...)" : ")");
    const char *not_ignored = s.n ? s.s : "";
    c->known = used == hi - lo + 1
                   ? arena_printf(a, "outside %d..%d and is not ignored%s", lo, hi, not_ignored)
                   : arena_printf(a, "none of the %d ids of classes and is not ignored%s", used,
                                  not_ignored);
    str_free(&s);
}

static Err add_ids(Classes *c, const Entry *e, int k) {
    for (int i = 0; i < e->n_ids; i++) {
        uint8_t *to = &c->map[e->ids[i]];
        if (*to != LABEL_REFUSED)
            return err_set(E(EXIT_USAGE, 76), "%s: id %d belongs to %s already", e->where,
                           e->ids[i], c->names[*to]);
        *to = (uint8_t)k;
    }
    return OK;
}

static Err add_colours(Arena *a, Classes *c, const Entries *all) {
    c->colour = arena_alloc(a, (size_t)(all->n + 1) * sizeof *c->colour);
    for (int k = 0; k < all->n; k++)
        if (all->v[k].coloured)
            c->colour[c->n_colours++] = (ColourClass){packed(all->v[k].rgb), (uint8_t)k};
    qsort(c->colour, (size_t)c->n_colours, sizeof *c->colour, by_rgb);
    for (int i = 1; i < c->n_colours; i++)
        if (c->colour[i].rgb == c->colour[i - 1].rgb)
            return err_set(E(EXIT_USAGE, 76), "%s: %s and %s have one colour, #%06x",
                           all->v[0].where, c->names[c->colour[i - 1].to],
                           c->names[c->colour[i].to], c->colour[i].rgb);
    return OK;
}

static Err from_entries(Arena *a, Entries *all, const char *name, Classes *c) {
    int with_ids = 0, coloured = 0;
    *c = (Classes){.n = all->n};
    if (!all->n) return err_set(E(EXIT_USAGE, 76), "%s: no class is named here", name);
    for (int k = 0; k < all->n; k++)
        with_ids += all->v[k].n_ids > 0, coloured += all->v[k].coloured;
    if (with_ids && with_ids < all->n)
        return err_set(E(EXIT_USAGE, 76), "%s: only %d of %d classes have an id; give all or none",
                       name, with_ids, all->n);
    c->given = true;
    c->by_colour = !with_ids && coloured == all->n;
    c->names = arena_alloc(a, (size_t)all->n * sizeof *c->names);
    c->palette = arena_alloc(a, (size_t)all->n * sizeof *c->palette);
    memset(c->map, LABEL_REFUSED, sizeof c->map);
    for (int k = 0; k < all->n; k++) {
        Entry *e = &all->v[k];
        c->names[k] = e->name;
        if (e->coloured) memcpy(c->palette[k], e->rgb, 3);
        else classes_voc_colour(k + 1, c->palette[k]);
        if (!e->n_ids) e->ids[e->n_ids++] = k;
        TRY(add_ids(c, e, k));
    }
    TRY(add_colours(a, c, all));
    describe(a, c);
    return OK;
}

void classes_of_names(Arena *a, const char *const *names, const uint8_t (*palette)[3], int n,
                      Classes *out) {
    *out = (Classes){.n = n};
    out->names = arena_alloc(a, (size_t)n * sizeof *out->names);
    out->palette = arena_alloc(a, (size_t)n * sizeof *out->palette);
    memset(out->map, LABEL_REFUSED, sizeof out->map);
    for (int k = 0; k < n; k++) {
        out->names[k] = names[k];
        out->map[k] = (uint8_t)k;
        if (palette) memcpy(out->palette[k], palette[k], 3);
        else classes_voc_colour(k, out->palette[k]);
    }
    describe(a, out);
}

/* By the first line that is no comment: one with a colour in it is none of YAML's, whatever the file's name. */
static bool looks_like_yaml(const char *text, const char *name) {
    char line[256], *word;
    uint8_t rgb[3];
    bool coloured;
    while (*text == '#' || isspace((unsigned char)*text))
        text += *text == '#' ? strcspn(text, "\n") : 1;
    snprintf(line, sizeof line, "%.*s", (int)strcspn(text, "\r\n"), text);
    text_class(line, &word, rgb, &coloured);
    if (coloured) return false;
    return str_ends(name, ".yaml") || str_ends(name, ".yml") || *text == '[' || *text == '{' ||
           str_starts(text, "classes:");
}

Err classes_parse(Arena *a, const char *text, size_t bytes, const char *name, Classes *out) {
    Entries all = {0};
    YNode *root;
    char *copy = arena_printf(a, "%.*s", (int)bytes, text), *ignore = NULL;
    Err rc = OK;
    if (!looks_like_yaml(copy, name)) rc = text_classes(a, &all, copy, name);
    else if (!(rc = yaml_parse(text, bytes, name, a, &root)))
        rc = yaml_classes(&all, root, &ignore);
    if (!rc) rc = from_entries(a, &all, name, out);
    if (!rc && ignore) rc = classes_ignore(a, out, ignore, name);
    free(ignore);
    free(all.v);
    return rc;
}

Err classes_read(Arena *a, const char *path, Classes *out) {
    Bytes b;
    TRY(sys_read_file(path, FILE_MAX, EXIT_USAGE, &b));
    Err rc = classes_parse(a, (const char *)b.data, b.bytes, arena_strdup(a, path), out);
    free(b.data);
    return rc;
}

/* ---- void ---------------------------------------------------------------------------------------
 */
/* Class k becomes void; the ones behind it move up. */
static void drop_class(Classes *c, int k) {
    for (int i = 0; i < 256; i++)
        if (c->map[i] == k) c->map[i] = IGNORE_U8;
        else if (c->map[i] < LABEL_REFUSED && c->map[i] > k) c->map[i]--;
    for (int i = 0; i < c->n_colours; i++)
        if (c->colour[i].to == k) c->colour[i].to = IGNORE_U8;
        else if (c->colour[i].to < LABEL_REFUSED && c->colour[i].to > k) c->colour[i].to--;
    for (int i = k + 1; i < c->n; i++) {
        c->names[i - 1] = c->names[i];
        memcpy(c->palette[i - 1], c->palette[i], 3);
    }
    c->n--;
}

static void ignore_colour(Arena *a, Classes *c, uint32_t rgb) {
    ColourClass *more = arena_alloc(a, (size_t)(c->n_colours + 1) * sizeof *more);
    int n = 0;
    for (int i = 0; i < c->n_colours; i++)
        if (c->colour[i].rgb != rgb) more[n++] = c->colour[i];
    more[n++] = (ColourClass){rgb, IGNORE_U8};
    qsort(more, (size_t)n, sizeof *more, by_rgb);
    c->colour = more, c->n_colours = n;
}

static Err ignore_one(Arena *a, Classes *c, const YNode *y) {
    uint8_t rgb[3];
    int64_t id;
    if (y->kind != Y_SCALAR) {
        TRY(colour_of(y, rgb));
        return ignore_colour(a, c, packed(rgb)), OK;
    }
    if (hex_colour(y->text, rgb)) return ignore_colour(a, c, packed(rgb)), OK;
    if (parse_i64(y->text, &id) && id >= 0 && id < 256) return c->map[id] = IGNORE_U8, OK;
    for (int k = 0; k < c->n; k++)
        if (!strcmp(c->names[k], y->text)) return drop_class(c, k), OK;
    const char *near = str_nearest(y->text, c->names, c->n);
    return err_set(E(EXIT_USAGE, 76), "%s: %s is no id of 0..255, colour or class%s%s",
                   y->where, y->text, near ? "; did you mean " : "", near ? near : "");
}

Err classes_ignore(Arena *a, Classes *c, const char *flow, const char *where) {
    YNode *root;
    if (!flow || !*flow || !strcmp(flow, "none")) return OK;
    TRY(yaml_parse(flow, strlen(flow), where, a, &root));
    if (root->kind == Y_SCALAR) TRY(ignore_one(a, c, root));
    for (int i = 0; root->kind == Y_LIST && i < root->n; i++) TRY(ignore_one(a, c, root->item[i]));
    if (root->kind == Y_MAP && root->n)
        return err_set(E(EXIT_USAGE, 76), "%s: data.ignore is a list, as in [255, Void]", where);
    if (!c->n) return err_set(E(EXIT_USAGE, 76), "%s: data.ignore leaves no class", where);
    describe(a, c);
    return OK;
}
