/* data_list.c - which files a run was trained on: RUN/lists/SPLIT.txt, written when the run begins.
 *
 * One line per sample: its name as a JSON string, the bytes of the image, the bytes of the label;
 * what the fingerprint is made of. The fingerprint alone decides whether data changed; the list can
 * say what did. Drawn data sets have no files and no list: their recipe is in the configuration. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "train/trainer_priv.h"

enum { NAMED_MAX = 3, LIST_BYTES_MAX = 1 << 30 };

typedef struct Lines {
    char **v;
    int n, cap;
} Lines; /* sorted: names are unique */

static uint64_t bytes_of(const char *path) {
    uint64_t n = 0;
    return sys_file_size(path, EXIT_DATA, &n) ? 0 : n;
}

static char *line_of(const Dataset *d, int i) {
    Str s = {0};
    str_json(&s, d->names[i]);
    str_addf(&s, "\t%" PRIu64 "\t%" PRIu64, bytes_of(d->image_paths[i]),
             d->label_paths ? bytes_of(d->label_paths[i]) : 0);
    return s.s;
}

static char *list_path(const char *dir, const Dataset *d) {
    return xprintf("%s/lists/%s.txt", dir, d->split);
}

Err data_list_write(const char *dir, const Dataset *d) {
    if (d->unlabelled) TRY(data_list_write(dir, d->unlabelled));
    if (!d->image_paths) return OK;
    char *path = list_path(dir, d), *folder = path_join(dir, "lists");
    Str s = {0};
    str_add(&s, "");
    for (int i = 0; i < d->n; i++) {
        char *line = line_of(d, i);
        str_addf(&s, "%s\n", line);
        free(line);
    }
    Err rc = sys_mkdirs(folder);
    if (!rc) rc = durable_write_all(path, s.s, s.n);
    str_free(&s);
    free(path), free(folder);
    return rc;
}

/* ---- comparing ------------------------------------------------------------------------------ */

static size_t name_length(const char *line) {
    return strcspn(line, "\t");
}

static int by_name(const void *a, const void *b) {
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    size_t n = name_length(x), m = name_length(y);
    int c = memcmp(x, y, n < m ? n : m);
    return c ? c : n < m ? -1 : n > m;
}

static void lines_add(Lines *l, char *line) { /* takes line */
    GROW(l->v, l->n, l->cap);
    l->v[l->n++] = line;
}

static void lines_free(Lines *l) {
    for (int i = 0; i < l->n; i++) free(l->v[i]);
    free(l->v);
}

static Lines lines_now(const Dataset *d) {
    Lines l = {0};
    for (int i = 0; d->image_paths && i < d->n; i++) lines_add(&l, line_of(d, i));
    if (l.n) qsort(l.v, (size_t)l.n, sizeof *l.v, by_name);
    return l;
}

static Lines lines_read(const char *path) {
    Lines l = {0};
    Bytes b;
    if (!sys_exists(path) || sys_read_file(path, LIST_BYTES_MAX, EXIT_OUTPUT, &b)) return l;
    for (size_t at = 0; at < b.bytes;) {
        const char *p = (const char *)b.data + at, *end = memchr(p, '\n', b.bytes - at);
        size_t n = end ? (size_t)(end - p) : b.bytes - at;
        lines_add(&l, xprintf("%.*s", (int)n, p));
        at += n + 1;
    }
    free(b.data);
    if (l.n) qsort(l.v, (size_t)l.n, sizeof *l.v, by_name);
    return l;
}

typedef struct Change {
    const char *what;
    int n;
    Str names;
} Change;

static void change_add(Change *c, const char *line) {
    if (c->n++ >= NAMED_MAX) return;
    str_addf(&c->names, "%s%.*s", c->names.n ? ", " : "", (int)name_length(line), line);
}

/* Two sorted lists, walked together. */
static void compare(const Lines *was, const Lines *is, Change change[3]) {
    for (int i = 0, k = 0; i < was->n || k < is->n;) {
        int c = i == was->n ? 1 : k == is->n ? -1 : by_name(&was->v[i], &is->v[k]);
        if (c < 0) change_add(&change[1], was->v[i++]);
        else if (c > 0) change_add(&change[0], is->v[k++]);
        else if (strcmp(was->v[i++], is->v[k++])) change_add(&change[2], is->v[k - 1]);
    }
}

static void compare_list(const char *dir, const Dataset *d, Change change[3]) {
    char *path = list_path(dir, d);
    Lines before = lines_read(path), now = lines_now(d);
    if (before.n) compare(&before, &now, change);
    lines_free(&before), lines_free(&now);
    free(path);
}

Err data_list_check(const char *dir, const Dataset *d, const char *was, const char *is) {
    if (!strcmp(was, is)) return OK;
    Change change[3] = {{.what = "added"}, {.what = "removed"}, {.what = "changed"}};
    Str s = {0};
    compare_list(dir, d, change);
    if (d->unlabelled) compare_list(dir, d->unlabelled, change);
    for (int i = 0; i < 3; i++) {
        if (change[i].n)
            str_addf(&s, "%s%d %s (%s%s)", s.n ? ", " : "", change[i].n, change[i].what,
                     change[i].names.s, change[i].n > NAMED_MAX ? ", ..." : "");
        str_free(&change[i].names);
    }
    Err rc = err_set(
        E(5, 47),
        "%s: the %s data changed since this run began: %s; restore them, or give another out=", dir,
        d->split, s.n ? s.s : "names or sizes differ");
    str_free(&s);
    return rc;
}
