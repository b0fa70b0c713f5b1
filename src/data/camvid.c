/* camvid.c - the CamVid data set in the layout of SegNet: ROOT/train.txt, val.txt, test.txt, each
 * line an image and its label file; grey PNG labels 0..10, 11 = void.
 *
 * The published lists hold absolute paths of their author's machine, so the last two components of
 * each entry are joined to ROOT ("/SegNet/CamVid/train/a.png" -> "ROOT/train/a.png") and may not be
 * "..". Links may not lead out of ROOT either, unless data.follow_links says so: a list that came
 * with the data must not make us read, and show, anybody's files. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"
#include "data/data_priv.h"

enum { LIST_MAX_BYTES = 64 << 20, VOID_ID = 11, SHOWN = 10 };

/* The path beneath root of one list entry (lives in arena a). */
static Err entry_path(Arena *a, const char *root, const char *entry, const char *where, int line,
                      const char **out) {
    const char *tail = entry + strlen(entry);
    for (int slashes = 0; tail > entry; tail--)
        if (tail[-1] == '/' && ++slashes == 2) break;
    if (!strncmp(tail, "../", 3) || !strcmp(path_base(tail), "..") || !*path_base(tail))
        return err_set(E(EXIT_DATA, 46),
                       "%s:%d: entry \"%s\" leaves the data root; name files beneath it", where,
                       line, entry);
    *out = arena_printf(a, "%s/%s", root, tail);
    return OK;
}

static char *next_word(char **at) {
    char *s = *at;
    while (isspace((unsigned char)*s)) s++;
    char *end = s;
    while (*end && !isspace((unsigned char)*end)) end++;
    *at = *end ? end + 1 : end;
    *end = 0;
    return s;
}

/* Parse the list in text (which is cut up) into the paths of d. */
static Err parse_list(Dataset *d, const DataOptions *o, const char *where, char *text) {
    int cap = 1;
    for (const char *p = text; *p; p++) cap += *p == '\n';
    d->names = arena_alloc(d->arena, (size_t)cap * sizeof *d->names);
    d->image_paths = arena_alloc(d->arena, (size_t)cap * sizeof *d->image_paths);
    d->label_paths = arena_alloc(d->arena, (size_t)cap * sizeof *d->label_paths);
    int line = 0;
    for (char *next = text; next;) {
        char *at = next;
        next = strchr(at, '\n');
        if (next) *next++ = 0;
        line++;
        char *image = next_word(&at), *label = next_word(&at);
        if (!*image) continue;
        if (!*label && o->skip_unpaired) {
            log_warn("%s:%d: left out, image %s without a label file", where, line, image);
            continue;
        }
        if (!*label)
            return err_set(E(EXIT_DATA, 31),
                           "%s:%d: image %s without a label file; write it behind the image", where,
                           line, image);
        int i = d->n++;
        TRY(entry_path(d->arena, o->root, image, where, line, &d->image_paths[i]));
        TRY(entry_path(d->arena, o->root, label, where, line, &d->label_paths[i]));
        char *stem = path_stem(image);
        d->names[i] = arena_strdup(d->arena, stem);
        free(stem);
    }
    return OK;
}

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
static Err check_pairs(Dataset *d, bool skip) {
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
        else if (missing++ < SHOWN) str_addf(&list, "%s%s", list.n ? ", " : "", absent);
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

static Err camvid_open(Dataset *d, const DataOptions *o, const char *split) {
    const char *root = o->root ? o->root : "";
    if (!sys_is_dir(root))
        return err_set(E(EXIT_DATA, 30),
                       "%s: no such folder; set data.root to the folder that holds train.txt",
                       *root ? root : "data.root");
    d->n_classes = STREET_CLASSES;
    d->class_names = street_names;
    d->palette = street_palette;
    const char *list = arena_printf(d->arena, "%s/%s.txt", root, split);
    if (!sys_exists(list))
        return err_set(E(EXIT_DATA, 30),
                       "%s: no such list file; each split needs one (lines: image label)", list);
    Bytes file;
    TRY(sys_read_file(list, LIST_MAX_BYTES, EXIT_DATA, &file));
    char *text = xcalloc(file.bytes + 1, 1);
    if (file.bytes) memcpy(text, file.data, file.bytes);
    free(file.data);
    Err rc = parse_list(d, o, list, text);
    free(text);
    if (rc) return rc;
    if (!o->follow_links) TRY(check_links(d, root));
    TRY(check_unique(d));
    TRY(check_pairs(d, o->skip_unpaired));
    if (d->n) return OK;
    return err_set(E(EXIT_DATA, 30),
                   "%s: 0 pairs found; looked for lines of an image and a label file", list);
}

static Err camvid_read(Dataset *d, int i, Sample *out) {
    uint8_t map[256];
    memset(map, LABEL_REFUSED, sizeof map);
    for (int k = 0; k < STREET_CLASSES; k++) map[k] = (uint8_t)k;
    map[VOID_ID] = map[IGNORE_U8] = IGNORE_U8;
    Sample s = {0};
    TRY(sample_read_pair(d->image_paths[i], d->label_paths[i], &s));
    Err rc = labels_map(d->label_paths[i], &s, map,
                        "outside 0..10 and is neither void (11) nor ignore id 255");
    if (rc) return sample_free(&s), rc;
    *out = s;
    return OK;
}

const DatasetDef dataset_camvid = {
    .name = "camvid",
    .help = "CamVid as SegNet laid it out: 367/101/233 images of 480x360, 11 classes",
    .open = camvid_open,
    .read = camvid_read,
};
