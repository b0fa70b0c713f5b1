/* classes.h - what the numbers or colours of label files mean.
 *
 * A table comes with a data set, or from a file that is one of
 *   YAML          classes: [{name: road, id: 7, color: [128, 64, 128]}, {name: car, ids: [26, 27]}]
 *                 ignore: [255, "#000000"]     - or {road: 0, car: 1}, or [road, car]
 *   CVAT          road:128,64,128::
 *   CamVid        128 64 128	Road
 *   names         one a line; the ids count from 0
 * Where every class has a colour and none an id, colour label files are read by their colours. */
#ifndef RETORT_DATA_CLASSES_H
#define RETORT_DATA_CLASSES_H
#include "data/data.h"

typedef struct ColourClass { uint32_t rgb; uint8_t to; } ColourClass;   /* 0xrrggbb */
typedef struct Classes {             /* all lives in the arena it was made in */
    int n;
    const char **names;              /* [n] */
    uint8_t (*palette)[3];           /* [n] */
    uint8_t map[256];                /* id of a label file to class, IGNORE_U8 or LABEL_REFUSED */
    ColourClass *colour;             /* by rgb */
    int  n_colours;
    bool by_colour;                  /* colour files mean colours, grey ones still ids */
    bool given;                      /* by a file of the user's, who may change it */
    const char *known;               /* "outside 0..10 and is not ignored (255)": for errors */
} Classes;
enum { LABEL_REFUSED = 254, CLASSES_MAX = 254 };

/* A table of n names in the order of their ids. palette NULL: PASCAL VOC's colours. */
void classes_of_names(Arena *a, const char *const *names, const uint8_t (*palette)[3], int n,
                      Classes *out);
Err  classes_read(Arena *a, const char *path, Classes *out);
Err  classes_parse(Arena *a, const char *text, size_t bytes, const char *name, Classes *out);
/* flow: "[255, Void, '#000000']" - ids, class names or colours that count as void. A named class
 * leaves the table. */
Err  classes_ignore(Arena *a, Classes *c, const char *flow, const char *where);
/* Colour k of PASCAL VOC's scheme: the bits of k dealt out to red, green and blue. */
void classes_voc_colour(int k, uint8_t rgb[3]);

/* Read a pair of files, labels as classes. E3033 when sizes differ, E3034 for ids and colours that
 * mean nothing, with the first pixel as (x,y). */
Err  classes_read_pair(const Classes *c, const char *image_path, const char *label_path,
                       Sample *out);
/* Make c the table of a data set: its impl, names and colours. A DatasetDef then reads by the second. */
Err  classes_use(Dataset *d, Classes *c);
Err  classes_read_sample(Dataset *d, int i, Sample *out);
#endif
