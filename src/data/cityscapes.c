/* cityscapes.c - Cityscapes as it is distributed: ROOT/leftImg8bit/SPLIT/CITY/ID_leftImg8bit.png and
 * ROOT/gtFine/SPLIT/CITY/ID_gtFine_labelIds.png, whose 34 ids become the 19 that are scored; or, by
 * data.labels=gtFine/{split}/{id}_gtFine_labelTrainIds.png, labels that are these 19 already. */
#include <string.h>

#include "data/classes.h"
#include "data/pairs.h"

static const struct {
    const char *name;
    int id;
    uint8_t rgb[3];
} table[] = {
    {"road", 7, {128, 64, 128}},          {"sidewalk", 8, {244, 35, 232}},
    {"building", 11, {70, 70, 70}},       {"wall", 12, {102, 102, 156}},
    {"fence", 13, {190, 153, 153}},       {"pole", 17, {153, 153, 153}},
    {"traffic light", 19, {250, 170, 30}}, {"traffic sign", 20, {220, 220, 0}},
    {"vegetation", 21, {107, 142, 35}},   {"terrain", 22, {152, 251, 152}},
    {"sky", 23, {70, 130, 180}},          {"person", 24, {220, 20, 60}},
    {"rider", 25, {255, 0, 0}},           {"car", 26, {0, 0, 142}},
    {"truck", 27, {0, 0, 70}},            {"bus", 28, {0, 60, 100}},
    {"train", 31, {0, 80, 100}},          {"motorcycle", 32, {0, 0, 230}},
    {"bicycle", 33, {119, 11, 32}},
};
enum { N = sizeof table / sizeof *table, IDS = 34 };

static void by_train_id(Arena *a, Classes *c) {
    const char *names[N];
    uint8_t palette[N][3];
    for (int k = 0; k < N; k++) names[k] = table[k].name, memcpy(palette[k], table[k].rgb, 3);
    classes_of_names(a, names, (const uint8_t(*)[3])palette, N, c);
}

static Err cityscapes_open(Dataset *d, const DataOptions *o, const char *split) {
    d->group = "^[a-z-]+_[0-9]+";    /* city and sequence */
    const char *labels = o->labels ? o->labels : "gtFine/{split}/{id}_gtFine_labelIds.png";
    TRY(pairs_open(
        d, o,
        &(PairSpec){.images = o->images ? o->images : "leftImg8bit/{split}/{id}_leftImg8bit.png",
                    .labels = labels,
                    .split = o->split,
                    .base_names = true}));
    Classes *c = arena_alloc(d->arena, sizeof *c);
    by_train_id(d->arena, c);
    if (!strstr(labels, "TrainIds")) {
        memset(c->map, LABEL_REFUSED, sizeof c->map);
        memset(c->map, IGNORE_U8, IDS);
        for (int k = 0; k < N; k++) c->map[table[k].id] = (uint8_t)k;
    }
    TRY(classes_ignore(d->arena, c, o->ignore ? o->ignore : "[255]", "data.ignore"));
    return classes_use(d, c);
}

const DatasetDef dataset_cityscapes = {
    .name = "cityscapes",
    .help = "Cityscapes: leftImg8bit and gtFine, label ids as the 19 train ids, or train ids",
    .open = cityscapes_open,
    .read = classes_read_sample,
};
