/* ade20k.c - ADE20K as the scene parsing challenge laid it out (ADEChallengeData2016):
 * ROOT/images/{training,validation}/ID.jpg and ROOT/annotations/{training,validation}/ID.png, grey
 * labels 1..150, 0 = void. Split train reads training; val and test both read validation, since the
 * challenge's test labels are not public. Colours are VOC's scheme, not the challenge's. */
#include <string.h>

#include "data/classes.h"
#include "data/pairs.h"

/* The first word of each class of objectInfo150, in its order. */
static const char *const names[] = {
    "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass",
    "cabinet", "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain",
    "chair", "car", "water", "painting", "sofa", "shelf", "house", "sea", "mirror", "rug", "field",
    "armchair", "seat", "fence", "desk", "rock", "wardrobe", "lamp", "bathtub", "railing",
    "cushion", "base", "box", "column", "signboard", "chest of drawers", "counter", "sand", "sink",
    "skyscraper", "fireplace", "refrigerator", "grandstand", "path", "stairs", "runway", "case",
    "pool table", "pillow", "screen door", "stairway", "river", "bridge", "bookcase", "blind",
    "coffee table", "toilet", "flower", "book", "hill", "bench", "countertop", "stove", "palm",
    "kitchen island", "computer", "swivel chair", "boat", "bar", "arcade machine", "hovel", "bus",
    "towel", "light", "truck", "tower", "chandelier", "awning", "streetlight", "booth",
    "television receiver", "airplane", "dirt track", "apparel", "pole", "land", "bannister",
    "escalator", "ottoman", "bottle", "buffet", "poster", "stage", "van", "ship", "fountain",
    "conveyer belt", "canopy", "washer", "plaything", "swimming pool", "stool", "barrel", "basket",
    "waterfall", "tent", "bag", "minibike", "cradle", "oven", "ball", "food", "step", "tank",
    "trade name", "microwave", "pot", "animal", "bicycle", "lake", "dishwasher", "screen",
    "blanket", "sculpture", "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan",
    "pier", "crt screen", "plate", "monitor", "bulletin board", "shower", "radiator", "glass",
    "clock", "flag",
};
enum { N = sizeof names / sizeof *names };
_Static_assert(N == 150, "the challenge has 150 classes");

static Err ade20k_open(Dataset *d, const DataOptions *o, const char *split) {
    TRY(pairs_open(d, o,
                   &(PairSpec){.images = o->images ? o->images : "images/{split}/{id}.jpg",
                               .labels = o->labels ? o->labels : "annotations/{split}/{id}.png",
                               .split = o->split,
                               .word = strcmp(split, "train") ? "validation" : "training"}));
    Classes *c = arena_alloc(d->arena, sizeof *c);
    classes_of_names(d->arena, names, NULL, N, c);
    memset(c->map, LABEL_REFUSED, sizeof c->map);
    for (int k = 0; k < N; k++) c->map[k + 1] = (uint8_t)k;
    c->map[0] = IGNORE_U8;
    TRY(classes_ignore(d->arena, c, o->ignore ? o->ignore : "[255]", "data.ignore"));
    return classes_use(d, c);
}

const DatasetDef dataset_ade20k = {
    .name = "ade20k",
    .help = "ADE20K of the scene parsing challenge: 150 classes, label 0 is void",
    .open = ade20k_open,
    .read = classes_read_sample,
};
