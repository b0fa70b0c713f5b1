/* camvid.c - the CamVid data set in the layout of SegNet: ROOT/train.txt, val.txt, test.txt, each
 * line an image and its label file; grey PNG labels 0..10, 11 = void.
 *
 * The published lists hold absolute paths of their author's machine, so the last two components of
 * each entry are joined to ROOT ("/SegNet/CamVid/train/a.png" -> "ROOT/train/a.png") and may not be
 * "..". Links may not lead out of ROOT either, unless data.follow_links says so: a list that came
 * with the data must not make us read, and show, anybody's files. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"
#include "data/classes.h"
#include "data/data_priv.h"
#include "data/pairs.h"

enum { VOID_ID = 11 };

/* The path beneath root of one list entry (lives in arena a). */
static Err entry_path(Arena *a, const char *root, const char *entry, const char *where,
                      const char **out) {
    const char *tail = entry + strlen(entry);
    for (int slashes = 0; tail > entry; tail--)
        if (tail[-1] == '/' && ++slashes == 2) break;
    if (!strncmp(tail, "../", 3) || !strcmp(path_base(tail), "..") || !*path_base(tail))
        return err_set(E(EXIT_DATA, 46),
                       "%s: entry \"%s\" leaves the data root; name files beneath it", where,
                       entry);
    *out = arena_printf(a, "%s/%s", root, tail);
    return OK;
}

static Err add_line(Dataset *d, const DataOptions *o, const ListLine *line, PairList *out) {
    const char *image = line->word[0], *label = line->word[1];
    if (!*label && o->skip_unpaired) {
        log_warn("%s: left out, image %s without a label file", line->where, image);
        return OK;
    }
    if (!*label)
        return err_set(E(EXIT_DATA, 31),
                       "%s: image %s without a label file; write it behind the image", line->where,
                       image);
    const char *paths[2];
    TRY(entry_path(d->arena, o->root, image, line->where, &paths[0]));
    TRY(entry_path(d->arena, o->root, label, line->where, &paths[1]));
    char *stem = path_stem(image);
    pairs_add(out, arena_strdup(d->arena, stem), paths[0], paths[1]);
    free(stem);
    return OK;
}

static Err read_pairs(Dataset *d, const DataOptions *o, const char *list, PairList *out) {
    ListLine *line;
    int n;
    TRY(pairs_read_list(d->arena, list, &line, &n));
    for (int i = 0; i < n; i++) TRY(add_line(d, o, &line[i], out));
    return OK;
}

static Err camvid_open(Dataset *d, const DataOptions *o, const char *split) {
    const char *root = o->root ? o->root : "";
    if (!sys_is_dir(root))
        return err_set(E(EXIT_DATA, 30),
                       "%s: no such folder; set data.root to the folder that holds train.txt",
                       *root ? root : "data.root");
    const char *list = arena_printf(d->arena, "%s/%s.txt", root, split);
    if (!sys_exists(list))
        return err_set(E(EXIT_DATA, 30),
                       "%s: no such list file; each split needs one (lines: image label)", list);
    PairList pairs = {0};
    Err rc = read_pairs(d, o, list, &pairs);
    if (rc) return pairs_free(&pairs), rc;
    TRY(pairs_finish(d, o, &pairs));
    if (!d->n)
        return err_set(E(EXIT_DATA, 30),
                       "%s: 0 pairs found; looked for lines of an image and a label file", list);
    d->group = "^[^_]+";             /* the film */
    Classes *c = arena_alloc(d->arena, sizeof *c);
    classes_of_names(d->arena, street_names, street_palette, STREET_CLASSES, c);
    c->map[VOID_ID] = IGNORE_U8;
    TRY(classes_ignore(d->arena, c, o->ignore ? o->ignore : "[255]", "data.ignore"));
    return classes_use(d, c);
}

const DatasetDef dataset_camvid = {
    .name = "camvid",
    .help = "CamVid as SegNet laid it out: 367/101/233 images of 480x360, 11 classes",
    .open = camvid_open,
    .read = classes_read_sample,
};
