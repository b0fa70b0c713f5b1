/* data.h - images with labels: data sets, augmentation, and a loader that lends batches.
 *
 * A data set is one file and one line in datasets.def. Images are RGB bytes H x W x 3, labels one
 * byte per pixel in memory (class id or IGNORE_U8); batches carry int32 labels, -1 = ignore. */
#ifndef RETORT_DATA_H
#define RETORT_DATA_H
#include "base/hash.h"
#include "data/resize.h"
#include "tensor/tensor.h"

enum { IGNORE_U8 = 255 };
/* turned: the file asks for a rotation (EXIF) that was not made. sample_free frees rgb and label. */
typedef struct { int h, w; uint8_t *rgb, *label; bool turned; } Sample;
void sample_free(Sample *s);

typedef struct DataOptions {         /* the group `data` of the configuration */
    const char *kind, *root;         /* "camvid", "scenes"; the config reader splits "camvid:DIR" */
    const char *images, *labels;     /* patterns below root, or a list file; NULL: the kind's own */
    const char *classes;             /* path of a table of classes; NULL: the kind's own */
    const char *unlabelled;          /* shell pattern of images without labels, below root; NULL: none */
    double unlabelled_share;         /* of each batch */
    const char *ignore, *split;      /* YAML on one line; NULL: the kind's own */
    int    crop_h, crop_w;           /* 0: the data set's size */
    double scale_min, scale_max;     /* random scale, in steps of scale_step if > 0; 0: none */
    double scale_step;
    double mirror;                   /* probability */
    double crop_share;               /* largest share of one class among a crop's labelled pixels; 0, 1: any */
    double rotate;                   /* largest angle, degrees */
    double brightness, contrast, saturation, hue;    /* how far a factor goes from 1; hue: turns of the circle */
    double blur, blur_sigma[2];      /* probability; range, px */
    double cutout, cutout_size;      /* probability; largest side, as a share of the crop's */
    Resize resize;                   /* of all images, before anything else */
    int    workers;                  /* loader threads; 0: auto */
    int    lent;                     /* batches that are held at once; 0: 1 */
    int64_t max_bad;                 /* > 0: all files are read at open, and so many bad ones left out */
    bool   skip_unpaired;            /* leave out images without label and labels without image */
    bool   follow_links;             /* links may lead out of root */
    uint64_t seed;                   /* of the pictures drawn by `scenes` */
    int    scenes_h, scenes_w, scenes_train, scenes_val, scenes_test; /* of `scenes`; 0: defaults */
} DataOptions;

typedef struct Dataset Dataset;
typedef struct DatasetDef {
    const char *name, *help;
    Err  (*open)(Dataset *d, const DataOptions *o, const char *split);  /* fills the public part */
    Err  (*read)(Dataset *d, int i, Sample *out);                        /* thread-safe */
    void (*close)(Dataset *d);
} DatasetDef;
struct Dataset {
    const DatasetDef *def;
    const char *split;               /* "train", "val", "test" */
    int    n_classes;                /* without void */
    const char *const *class_names;  /* [n_classes] */
    const uint8_t (*palette)[3];     /* [n_classes] RGB */
    int    n;                        /* samples */
    const char **names;              /* [n] "0001TP_006690": unique, for logs and outputs */
    const char *group;               /* regular expression over names: images that belong together; NULL: none do */
    const char **image_paths;        /* [n] or NULL when drawn */
    const char **label_paths;        /* [n] or NULL */
    Arena *arena;                    /* holds all of the above */
    void  *impl;                     /* the data set's own */
    const char *recipe;              /* drawn sets: what pictures depend on, for the fingerprint */
    Sample *cache;                   /* [n] decoded samples, filled as read; rgb NULL: not there */
    uint64_t cache_left;             /* bytes it may still take: 1/4 of free memory at open */
    Resize resize;                   /* of the pictures a network is shown; h 0: none */
    bool   resized;                  /* samples come in that size, labels too; otherwise as they are in the files */
    struct Dataset *unlabelled;      /* images to mix into the batches of this split; NULL: none */
    struct Tally *tally;             /* what was seen so far; a warning once all samples were */
    struct Gate *gate;               /* guards cache, cache_left and tally */
};
Err  dataset_open(const DataOptions *o, const char *split, Dataset **out);
Err  dataset_open_training(const DataOptions *o, Dataset **out);     /* split train, in the size of data.resize */
void dataset_close(Dataset *d);
Err  dataset_read(Dataset *d, int i, Sample *out);  /* a copy the caller frees */
/* Lends sample i from the cache until dataset_close, or, where it does not fit, reads it into *own
 * (which starts zeroed; the caller frees it with sample_free in both cases). Thread-safe. */
Err  dataset_borrow(Dataset *d, int i, Sample *own, const Sample **out);
/* data.crop=auto: as large as the first image. */
Err  dataset_crop(Dataset *d, DataOptions *o);
const DatasetDef *dataset_find(const char *kind);
/* out[i]: what the pattern's first sub-expression, or all of it, matches in names[i] (\d, \w and \s are known); a name that
 * does not match is a group of its own. Texts live in a. E2076. */
Err  group_names(Arena *a, const char *pattern, const char *const *names, int n, const char **out);
Digest dataset_fingerprint(const Dataset *d);  /* names, sizes: changes are noticed on resume */

/* How many images of a batch are unlabelled: unlabelled_share of them, rounded, but one at least and not all. */
int  unlabelled_count(const DataOptions *o, int batch);

/* Augmented batches. Sample number s of a run is image perm(epoch = s / n)[s % n], augmented by
 * draws keyed (seed, epoch, s): a batch depends on its first
 * sample number alone, so resume is exact. With unlabelled images, the last unlabelled_count of each
 * batch are a second such sequence, in an order and with draws of its own. */
typedef struct Batch {
    int       n, h, w;
    uint8_t  *images;                /* N x H x W x 3, RGB 0..255 */
    int32_t  *labels;                /* N x H x W, -1 = ignore */
    int32_t  *rects;                 /* N x 4: x, y, w, h of the part covered by the image */
    uint64_t  first_sample;
    double    wait_s;                /* how long loader_next waited */
} Batch;
typedef struct Loader Loader;
Err  loader_open(Dataset *d, const DataOptions *o, int batch, uint64_t seed, uint64_t first_sample,
                 Loader **out);
Err  loader_next(Loader *l, const Batch **out);  /* borrows a batch, in order; or a worker's Err */
void loader_done(Loader *l, const Batch *b);                  /* returns it */
void loader_close(Loader *l);
/* What fills a slot of a batch: the memory for it is taken once, a run takes none. One thread each. */
typedef struct Augment Augment;
Augment *augment_open(const DataOptions *o, int h, int w);    /* borrows o */
Err  augment_run(Augment *a, const Sample *in, uint64_t seed, uint64_t epoch, uint64_t sample, uint8_t *image,
                 int32_t *label, int32_t rect[4]);
void augment_close(Augment *a);
/* All three for one sample (tests, calibration). */
Err  augment_sample(const Sample *in, const DataOptions *o, uint64_t seed, uint64_t epoch,
                    uint64_t sample, int h, int w, uint8_t *image, int32_t *label, int32_t rect[4]);
#endif
