/* eval.h - what a network makes of whole images, and how good that is.
 *
 * Labels are bytes here, IGNORE_U8 for void. Every sum over pixels is a whole number, so it does not
 * depend on the order of images, threads or ranks. */
#ifndef RETORT_EVAL_H
#define RETORT_EVAL_H
#include "backend/plan.h"
#include "base/str.h"
#include "data/data.h"
#include "models/model.h"

/* Evaluation: one integer confusion matrix. rows = labels, columns = predictions. */
typedef struct Confusion {
    int n;
    int64_t *count;
    int64_t images;
} Confusion;
typedef struct Scores {
    double miou, miou_present, pixel_accuracy, mean_accuracy;
    double *iou, *accuracy;
    int64_t *pixels;
} Scores; /* [n], NaN: absent */
Confusion *confusion_open(int n);
void confusion_close(Confusion *m);
void confusion_add(Confusion *m, const int32_t *label, const uint8_t *pred, int64_t pixels);
void confusion_scores(const Confusion *m, Scores *out); /* arrays: caller frees with scores_free */
void scores_free(Scores *s);
/* 95 % interval of mIoU, by drawing images anew (bootstrap). counts: n x 3 x K, per image and class
 * the pixels that are right, labelled and predicted so. NaN for n = 0. */
void scores_interval(const int64_t *counts, int n, int n_classes, uint64_t seed, double out[2]);
/* One image's share of such counts, from its own confusion matrix. */
void confusion_counts(const Confusion *m, int64_t *counts);
/* Whole images, logits upsampled with align_corners; progress on stderr when it takes longer than 2
 * s. */
Err evaluate(Net *n, const ModelNodes *nodes, Dataset *d, int64_t max_images, Confusion *out);
/* Class map of one RGB image; pred H x W; probs may be NULL, else K x H x W. */
typedef struct Predictor Predictor;
Err predictor_open(Net *n, const ModelNodes *nodes, Predictor **out); /* keeps plans per size */
void predictor_close(Predictor *p);
Err predictor_run(Predictor *p, const uint8_t *rgb, int h, int w, uint8_t *pred, float *probs);
/* The end of it: logits 1 x K x h x w, enlarged with aligned corners to h x w, to the best class. */
void predictor_classes(const float *logits, Shape s, int h, int w, uint8_t *pred, float *probs);
char *scores_json(const Confusion *m, const Dataset *d,
                  const char *model); /* eval --json; caller frees */
/* [{"name", "iou", "accuracy", "pixels"}, ...], as in eval --json */
void scores_json_classes(Str *s, const Scores *sc, const Dataset *d);
#endif
