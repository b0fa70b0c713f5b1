/* classes_pair.c - an image and its label file to a sample whose labels are classes. */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "data/classes.h"
#include "io/image.h"

enum { SHOWN = 4, UNKNOWN_MAX = 64 };

/* Ids that start at 1 go unnoticed until the last class occurs: to ignore that one would shift all others. */
static bool one_too_many(const Classes *c, uint8_t id) {
    return c->given && id > 0 && c->map[0] < LABEL_REFUSED && c->map[id - 1] < LABEL_REFUSED;
}

static Err map_ids(const Classes *c, const char *path, Image *im) {
    size_t pixels = (size_t)im->h * (size_t)im->w;
    for (size_t p = 0; p < pixels; p++) {
        uint8_t id = im->px[p], to = c->map[id];
        if (to == LABEL_REFUSED)
            return err_set(
                E(EXIT_DATA, 34), "%s: label id %d at (%d,%d) is %s; add it to data.ignore, or %s",
                path, id, (int)(p % (size_t)im->w), (int)(p / (size_t)im->w), c->known,
                one_too_many(c, id) ? "map it in data.classes; where ids start at 1, write "
                                      "NAME: 1, NAME: 2 there"
                : c->given          ? "map it in data.classes"
                                    : "correct the label");
        im->px[p] = to;
    }
    return OK;
}

/* ---- colours ------------------------------------------------------------------------------------
 */
static const ColourClass *find_colour(const Classes *c, uint32_t rgb) {
    int lo = 0, hi = c->n_colours;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (c->colour[mid].rgb < rgb) lo = mid + 1;
        else hi = mid;
    }
    return lo < c->n_colours && c->colour[lo].rgb == rgb ? &c->colour[lo] : NULL;
}

typedef struct {
    uint32_t rgb;
    int64_t count;
    int x, y;
} Unknown;

/* Count one more pixel of a colour that is no class's; false: the list is full. */
static bool unknown_add(Unknown *v, int *n, uint32_t rgb, int x, int y) {
    int i = 0;
    while (i < *n && v[i].rgb != rgb) i++;
    if (i == UNKNOWN_MAX) return false;
    if (i == *n) v[(*n)++] = (Unknown){rgb, 0, x, y};
    v[i].count++;
    return true;
}

static Err refuse_colours(const char *path, const Unknown *v, int n, bool more) {
    Str s = {0};
    for (int i = 0; i < n && i < SHOWN; i++)
        str_addf(&s, "%s#%06x (%lld pixels, the first at (%d,%d))", i ? ", " : "", v[i].rgb,
                 (long long)v[i].count, v[i].x, v[i].y);
    Err rc = err_set(E(EXIT_DATA, 34),
                     "%s: %s%d %s no class's: %s%s; add them to data.classes or "
                     "data.ignore, or give the classes ids where the indices of a palette count",
                     path, more ? "more than " : "", n, n > 1 ? "colours are" : "colour is", s.s,
                     n > SHOWN ? ", ..." : "");
    str_free(&s);
    return rc;
}

/* RGB pixels to classes, in place. Neighbours mostly share a colour, so the last one is kept. */
static Err map_colours(const Classes *c, const char *path, Image *im) {
    Unknown unknown[UNKNOWN_MAX];
    int n_unknown = 0;
    uint32_t last = 1u << 24;
    uint8_t to = 0;
    size_t pixels = (size_t)im->h * (size_t)im->w;
    for (size_t p = 0; p < pixels; p++) {
        const uint8_t *px = im->px + p * 3;
        uint32_t rgb = (uint32_t)px[0] << 16 | (uint32_t)px[1] << 8 | px[2];
        if (rgb != last) {
            const ColourClass *found = find_colour(c, rgb);
            to = found ? found->to : LABEL_REFUSED, last = rgb;
        }
        if (to == LABEL_REFUSED && !unknown_add(unknown, &n_unknown, rgb, (int)(p % (size_t)im->w),
                                                (int)(p / (size_t)im->w)))
            return refuse_colours(path, unknown, n_unknown, true);
        im->px[p] = to;
    }
    im->channels = 1;
    return n_unknown ? refuse_colours(path, unknown, n_unknown, false) : OK;
}

static Err read_labels(const Classes *c, const char *path, Image *out) {
    if (c->by_colour) {
        TRY(image_read_colours(path, out));
        if (out->channels == 3) return map_colours(c, path, out);
    } else TRY(image_read_labels(path, out));
    return map_ids(c, path, out);
}

Err classes_read_pair(const Classes *c, const char *image_path, const char *label_path,
                      Sample *out) {
    Image image = {0}, label = {0};
    Err rc = image_read_rgb(image_path, &image);
    if (!rc) rc = read_labels(c, label_path, &label);
    if (!rc && (image.h != label.h || image.w != label.w))
        rc = err_set(E(EXIT_DATA, 33),
                     "%s: label of %dx%d pixels for %s of %dx%d (width x height); "
                     "labels are never resized: make them equal",
                     label_path, label.w, label.h, image_path, image.w, image.h);
    if (rc) {
        free(image.px);
        free(label.px);
        return rc;
    }
    *out = (Sample){image.h, image.w, image.px, label.px, image.turned};
    return OK;
}

Err classes_use(Dataset *d, Classes *c) {
    d->impl = c;
    d->n_classes = c->n;
    d->class_names = c->names;
    d->palette = (const uint8_t(*)[3])c->palette;
    return OK;
}

Err classes_read_sample(Dataset *d, int i, Sample *out) {
    return classes_read_pair(d->impl, d->image_paths[i], d->label_paths[i], out);
}
