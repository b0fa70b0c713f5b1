/* data_priv.h - what the files of data/ share: the eleven street classes, the list of data sets. */
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

/* Sample `from` becomes sample `to` (<= from): for leaving some out of the lists. */
void dataset_move(Dataset *d, int from, int to);

/* data.unlabelled; see unlabelled.c. Not in the list: the training split opens it. */
extern const DatasetDef dataset_unlabelled;

#define DATASET(name) extern const DatasetDef dataset_##name;
#include "data/datasets.def"
#undef DATASET
#endif
