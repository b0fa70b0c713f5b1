/* folder.c - any two trees, or list files, of images and labels, described by options alone:
 *   data: {kind: folder, root: ../yard, images: img/{id}.jpg, labels: gt/{id}_L.png,
 *          classes: labelmap.txt, ignore: [255], split: {val: 0.1, test: 0.1, group: '^(drive\d+)'}}
 * The table of classes lies below root, or where its path says, or stands there itself: [road, car]. */
#include <string.h>

#include "base/sys.h"
#include "data/classes.h"
#include "data/pairs.h"

/* The table itself, or where it lies. */
static Err read_classes(Arena *a, const DataOptions *o, Classes *out) {
    if (strchr("[{", *o->classes))
        return classes_parse(a, o->classes, strlen(o->classes), "data.classes", out);
    const char *below = arena_printf(a, "%s/%s", o->root, o->classes);
    if (!sys_exists(below) && !sys_exists(o->classes))
        return err_set(E(EXIT_DATA, 30), "data.classes: there is no %s and no %s; correct the path",
                       below, o->classes);
    return classes_read(a, sys_exists(below) ? below : o->classes, out);
}

static Err folder_open(Dataset *d, const DataOptions *o, const char *split) {
    if (!o->classes)
        return err_set(E(EXIT_USAGE, 76), "data.classes is not set; give a file of names, ids or "
                                          "colours, see docs/data.md");
    TRY(pairs_open(d, o, &(PairSpec){.images = o->images, .labels = o->labels, .split = o->split}));
    Classes *c = arena_alloc(d->arena, sizeof *c);
    TRY(read_classes(d->arena, o, c));
    TRY(classes_ignore(d->arena, c, o->ignore ? o->ignore : "[255]", "data.ignore"));
    return classes_use(d, c);
}

const DatasetDef dataset_folder = {
    .name = "folder",
    .help = "your own images and labels, by patterns, lists and a file of classes",
    .open = folder_open,
    .read = classes_read_sample,
};
