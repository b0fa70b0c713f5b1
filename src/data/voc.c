/* voc.c - PASCAL VOC 2012 segmentation: ROOT is VOC2012, or holds VOCdevkit/VOC2012. Palette PNGs are
 * read as indices, 255 (the borders of things) is void. With SBD's further labels:
 *   data.split={train: ImageSets/Segmentation/trainaug.txt} data.labels=SegmentationClassAug/{id}.png
 * whose list may also name both files of each line. */
#include "base/sys.h"
#include "data/classes.h"
#include "data/pairs.h"

static const char *const names[] = {
    "background", "aeroplane",   "bicycle", "bird",  "boat",        "bottle", "bus",
    "car",        "cat",         "chair",   "cow",   "diningtable", "dog",    "horse",
    "motorbike",  "person",      "pottedplant", "sheep", "sofa",    "train",  "tvmonitor",
};
enum { N = sizeof names / sizeof *names };

static Err voc_open(Dataset *d, const DataOptions *o, const char *split) {
    DataOptions at = *o;
    const char *inner = arena_printf(d->arena, "%s/VOCdevkit/VOC2012", o->root ? o->root : "");
    if (sys_is_dir(inner)) at.root = inner;
    TRY(pairs_open(d, &at,
                   &(PairSpec){.images = o->images ? o->images : "JPEGImages/{id}.jpg",
                               .labels = o->labels ? o->labels : "SegmentationClass/{id}.png",
                               .split = o->split,
                               .lists = "ImageSets/Segmentation/{split}.txt"}));
    Classes *c = arena_alloc(d->arena, sizeof *c);
    classes_of_names(d->arena, names, NULL, N, c);
    TRY(classes_ignore(d->arena, c, o->ignore ? o->ignore : "[255]", "data.ignore"));
    return classes_use(d, c);
}

const DatasetDef dataset_voc = {
    .name = "voc",
    .help = "PASCAL VOC 2012: 21 classes, palette labels by index, the lists of ImageSets",
    .open = voc_open,
    .read = classes_read_sample,
};
