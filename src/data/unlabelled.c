/* unlabelled.c - data.unlabelled: images without labels, beside the ones to train on.
 *
 * A data set that no name opens: the training split owns it (Dataset.unlabelled), and the loader mixes it
 * in. Its labels are void all over, so every term that needs a label passes its images by. */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/sys.h"
#include "data/data_priv.h"
#include "io/image.h"

/* data.root is no pattern, whatever characters it holds. */
static const char *pattern_below(Arena *a, const char *root, const char *pattern) {
    Str s = {0};
    for (; *root; root++) str_addf(&s, strchr("*?[\\", *root) ? "\\%c" : "%c", *root);
    str_addf(&s, "/%s", pattern);
    const char *out = arena_strdup(a, s.s);
    str_free(&s);
    return out;
}

static Err unlabelled_open(Dataset *d, const DataOptions *o, const char *split) {
    const bool below = *o->unlabelled != '/' && o->root;
    const char *pattern =
        below ? pattern_below(d->arena, o->root, o->unlabelled) : o->unlabelled;
    char **paths;
    int n;
    TRY(sys_glob(pattern, EXIT_DATA, &paths, &n));
    Err rc = OK;
    d->names = arena_alloc(d->arena, (size_t)(n + 1) * sizeof *d->names);
    d->image_paths = arena_alloc(d->arena, (size_t)(n + 1) * sizeof *d->image_paths);
    for (int i = 0; i < n && !rc; i++) {
        if (sys_is_dir(paths[i])) continue;
        if (below && !o->follow_links) rc = sys_check_beneath(o->root, paths[i], EXIT_DATA);
        d->names[d->n] = d->image_paths[d->n] = arena_strdup(d->arena, paths[i]), d->n++;
    }
    sys_free_names(paths, n);
    if (!rc && !d->n)
        rc = err_set(E(EXIT_DATA, 30), "%s: no image fits; correct data.unlabelled", pattern);
    return rc;
}
static Err unlabelled_read(Dataset *d, int i, Sample *out) {
    Image image;
    TRY(image_read_rgb(d->image_paths[i], &image));
    const size_t pixels = (size_t)image.h * (size_t)image.w;
    *out = (Sample){image.h, image.w, image.px, xcalloc(pixels, 1), image.turned};
    memset(out->label, IGNORE_U8, pixels);
    return OK;
}
const DatasetDef dataset_unlabelled = {.name = "unlabelled",
                                       .help = "images without labels",
                                       .open = unlabelled_open,
                                       .read = unlabelled_read};

int unlabelled_count(const DataOptions *o, int batch) {
    if (!o->unlabelled || batch < 2) return 0;
    const int n = (int)(o->unlabelled_share * batch + 0.5);
    return n < 1 ? 1 : n < batch ? n : batch - 1;
}
