/* pairs.c - lists of images and labels, and the checks every data set of files goes through; see
 * pairs.h. How patterns are searched and splits are dealt: pairs_find.c. */
#include "data/pairs.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"
#include "data/data_priv.h"

enum { LIST_MAX_BYTES = 64 << 20, SHOWN = 10 };

void pairs_add(PairList *l, const char *name, const char *image, const char *label) {
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 64;
        const size_t bytes = (size_t)l->cap * sizeof(char *);
        l->name = xrealloc(l->name, bytes);
        l->image = xrealloc(l->image, bytes);
        l->label = xrealloc(l->label, bytes);
    }
    l->name[l->n] = name, l->image[l->n] = image, l->label[l->n++] = label;
}

void pairs_free(PairList *l) {
    free(l->name), free(l->image), free(l->label);
    *l = (PairList){0};
}

/* ---- list files ---------------------------------------------------------------------------------
 */
static char *next_word(char **at) {
    char *s = *at;
    while (isspace((unsigned char)*s)) s++;
    char *end = s;
    while (*end && !isspace((unsigned char)*end)) end++;
    *at = *end ? end + 1 : end;
    *end = 0;
    return s;
}

static char *trimmed(char *s) {
    while (isspace((unsigned char)*s)) s++;
    for (char *end = s + strlen(s); end > s && isspace((unsigned char)end[-1]);) *--end = 0;
    return s;
}

static void cut_line(char *at, const char *word[2]) {
    char *tab = strchr(trimmed(at), '\t');
    if (!tab) {
        word[0] = next_word(&at), word[1] = next_word(&at);
        return;
    }
    *tab = 0;
    word[0] = trimmed(at), word[1] = trimmed(tab + 1);
}

Err pairs_read_list(Arena *a, const char *path, ListLine **out, int *n) {
    Bytes file;
    TRY(sys_read_file(path, LIST_MAX_BYTES, EXIT_DATA, &file));
    char *text = arena_alloc(a, file.bytes + 1);
    if (file.bytes) memcpy(text, file.data, file.bytes);
    free(file.data);
    int cap = 1, line = 0;
    for (const char *p = text; *p; p++) cap += *p == '\n';
    *out = arena_alloc(a, (size_t)cap * sizeof **out), *n = 0;
    for (char *next = text, *at; (at = next) != NULL;) {
        next = strchr(at, '\n');
        if (next) *next++ = 0;
        ListLine l = {.where = arena_printf(a, "%s:%d", path, ++line)};
        cut_line(at, l.word);
        if (*l.word[0]) (*out)[(*n)++] = l;
    }
    return OK;
}

/* ---- checks -------------------------------------------------------------------------------------
 */
typedef struct {
    const char *name, *path;
} Named;
static int by_folded_name(const void *a, const void *b) {
    return strcasecmp(((const Named *)a)->name, ((const Named *)b)->name);
}

/* Names become names of outputs: a.png and A.jpg would overwrite each other somewhere. */
static Err check_unique(const Dataset *d) {
    Named *v = xcalloc((size_t)d->n + 1, sizeof *v);
    for (int i = 0; i < d->n; i++) v[i] = (Named){d->names[i], d->image_paths[i]};
    qsort(v, (size_t)d->n, sizeof *v, by_folded_name);
    Err rc = OK;
    for (int i = 1; i < d->n && !rc; i++)
        if (!by_folded_name(&v[i - 1], &v[i]))
            rc = err_set(E(EXIT_DATA, 32), "%s and %s have the same name; rename or remove one",
                         v[i - 1].path, v[i].path);
    free(v);
    return rc;
}

/* All missing files at once: the first ten by name, and how many. */
static Err check_there(Dataset *d, bool skip) {
    Str list = {0};
    int missing = 0, kept = 0;
    for (int i = 0; i < d->n; i++) {
        bool image = sys_exists(d->image_paths[i]), label = sys_exists(d->label_paths[i]);
        const char *absent = image ? d->label_paths[i] : d->image_paths[i];
        if (image && label) {
            dataset_move(d, i, kept++);
            continue;
        }
        if (skip) log_warn("left out, there is no %s", absent);
        else if (missing++ < SHOWN)
            str_addf(&list, "%s%s%s", list.n ? ", " : "", absent,
                     sys_is_link(absent) ? " (a link to nowhere)" : "");
    }
    Err rc = OK;
    if (missing)
        rc = err_set(
            E(EXIT_DATA, 31),
            "split %s: %d of %d images without label or labels without image: %s%s; add the "
            "files, remove the lines, or set data.skip_unpaired=true",
            d->split, missing, d->n, list.s, missing > SHOWN ? ", ..." : "");
    d->n = kept;
    str_free(&list);
    return rc;
}

static Err check_links(const Dataset *d, const char *root) {
    for (int i = 0; i < 2 * d->n; i++) {
        const char *path = (i % 2 ? d->label_paths : d->image_paths)[i / 2];
        TRY(sys_check_beneath(root, path, EXIT_DATA));
    }
    return OK;
}

/* Move an array of the list into the arena. */
static const char **into_arena(Arena *a, const char **v, int n) {
    const char **out = arena_alloc(a, (size_t)(n + 1) * sizeof *out);
    if (n) memcpy(out, v, (size_t)n * sizeof *out);
    free(v);
    return out;
}

Err pairs_finish(Dataset *d, const DataOptions *o, PairList *l) {
    d->n = l->n;
    d->names = into_arena(d->arena, l->name, l->n);
    d->image_paths = into_arena(d->arena, l->image, l->n);
    d->label_paths = into_arena(d->arena, l->label, l->n);
    *l = (PairList){0};
    if (!o->follow_links) TRY(check_links(d, o->root));
    TRY(check_unique(d));
    return check_there(d, o->skip_unpaired);
}
