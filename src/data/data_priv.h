/* data_priv.h - what the files of data/ share: the eleven street classes, label checks. */
#ifndef RETORT_DATA_PRIV_H
#define RETORT_DATA_PRIV_H
#include "data/data.h"

/* The classes of CamVid as SegNet grouped them; scenes draws the same ones. */
typedef enum {
    CLASS_SKY,
    CLASS_BUILDING,
    CLASS_POLE,
    CLASS_ROAD,
    CLASS_PAVEMENT,
    CLASS_TREE,
    CLASS_SIGN,
    CLASS_FENCE,
    CLASS_CAR,
    CLASS_PEDESTRIAN,
    CLASS_CYCLIST,
    STREET_CLASSES
} StreetClass;
extern const char *const street_names[STREET_CLASSES];
extern const uint8_t street_palette[STREET_CLASSES][3];

/* Map file ids to class ids in place: map[id] is a class, IGNORE_U8, or LABEL_REFUSED, which is
 * E3034 with the pixel as (x,y). known ends "label id 34 at (3,2) is ": "outside 0..10 and ...". */
enum { LABEL_REFUSED = 254 };
Err labels_map(const char *path, Sample *s, const uint8_t map[256], const char *known);
/* Read a pair of files; E3033 when their sizes differ. Labels are the file's ids, unmapped. */
Err sample_read_pair(const char *image_path, const char *label_path, Sample *out);

/* Sample `from` becomes sample `to` (<= from): for leaving some out of the lists. */
void dataset_move(Dataset *d, int from, int to);

#define DATASET(name) extern const DatasetDef dataset_##name;
#include "data/datasets.def"
#undef DATASET
#endif
