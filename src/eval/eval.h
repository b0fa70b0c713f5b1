/* eval.h - what a network makes of whole images, and how good that is.
 *
 * Labels are bytes here, IGNORE_U8 for void. Every sum over pixels is a whole number, so it does not
 * depend on the order of images, threads or ranks. */
#ifndef RETORT_EVAL_H
#define RETORT_EVAL_H
#include "backend/plan.h"
#include "base/stats.h"
#include "base/str.h"
#include "data/data.h"
#include "models/model.h"

/* ---- predictor.c, windows.c: images to classes ------------------------------------------------- */
enum { SCALES_MAX = 8 };
typedef enum { INFER_AUTO, INFER_WHOLE, INFER_SLIDE } InferMode;
typedef enum { AVERAGE_PROBABILITIES, AVERAGE_LOGITS } InferAverage;
typedef enum { BLEND_RAMP, BLEND_MEAN } InferBlend;
typedef struct InferOptions {        /* of the group `eval`; all zero: whole images below WHOLE_MAX pixels */
    InferMode mode;                  /* auto: windows for more than WHOLE_MAX_PX pixels */
    int window_h, window_w;          /* 0: WINDOW_PX */
    int stride_h, stride_w;          /* 0: two thirds of the window */
    double scale[SCALES_MAX];
    int n_scales;                    /* 0: as the image is */
    bool mirror;                     /* each window mirrored too */
    InferAverage average;            /* of all that covers a pixel */
    Resize resize;                   /* every image is first brought to this size; h 0: none */
    InferBlend blend;                /* weights fall towards a window's inner edges, or are equal */
} InferOptions;
enum { WHOLE_MAX_PX = 1 << 22, WINDOW_PX = 769 };

/* Gets the probabilities of rows [y, y + n), K x n x W, block by block from the top. */
typedef struct ProbSink {
    Err (*put)(void *self, int y, int n, const float *probs);
    void *self;
} ProbSink;
/* What is wanted of an image; NULL: not. pred, confidence (the probability of the predicted class): H x W. */
typedef struct Prediction {
    uint8_t *pred;
    float *confidence;
    ProbSink probs;
} Prediction;
typedef struct Predictor Predictor;          /* keeps plans per size */
Err  predictor_open(Net *n, const ModelNodes *nodes, const InferOptions *o, Predictor **out);
char *predictor_text(const Predictor *p);    /* "whole", or how else images were seen; caller frees */
void predictor_close(Predictor *p);
/* Plans work in host's arena where they fit: it does not run meanwhile, and outlives p. */
void predictor_lend(Predictor *p, const Plan *host);
Err  predictor_fill(Predictor *p, const uint8_t *rgb, int h, int w, const Prediction *out);
Err  predictor_run(Predictor *p, const uint8_t *rgb, int h, int w, uint8_t *pred);
/* The end of it: logits 1 x K x h x w, enlarged with aligned corners to h x w, to the best class; probs: K x h x w. */
void predictor_classes(const float *logits, Shape s, int h, int w, uint8_t *pred, float *probs);

/* ---- confusion.c, interval.c: one integer matrix and its scores -------------------------------- */
typedef struct Confusion {           /* rows = labels, columns = predictions */
    int n;
    int64_t *count;
    int64_t images;
} Confusion;
/* miou: over classes that occur or are predicted; miou_present: over those that occur in the labels;
 * miou_all: over all, absent ones as 0. dice, mean_accuracy: as miou, as miou_present. */
typedef struct Scores {
    double miou, miou_present, miou_all, pixel_accuracy, mean_accuracy, mean_dice, weighted_iou;
    double *iou, *accuracy, *dice;   /* [n], NaN: absent */
    int64_t *pixels;
} Scores;
Confusion *confusion_open(int n);
void confusion_close(Confusion *m);
void confusion_add(Confusion *m, const uint8_t *label, const uint8_t *pred, int64_t pixels);
void confusion_scores(const Confusion *m, Scores *out); /* arrays: caller frees with scores_free */
void scores_free(Scores *s);
/* [{"name", "iou", "accuracy", "pixels"}, ...], as in eval --json */
void scores_json_classes(Str *s, const Scores *sc, const Dataset *d);
void confusion_json(Str *s, const Confusion *m);     /* [[...], ...]: rows labels, columns predictions */
/* 95 % interval of mIoU, by drawing images anew (bootstrap). counts: n x K x 3, per image and class
 * the pixels that are right, labelled and predicted so. NaN for n = 0. */
void scores_interval(const int64_t *counts, int n, int n_classes, uint64_t seed, double out[2]);
/* One image's share of such counts, from its own confusion matrix; and the mIoU of such a share. */
void confusion_counts(const Confusion *m, int64_t *counts);
double counts_miou(const int64_t *counts, int n_classes);

/* ---- bootstrap.c ------------------------------------------------------------------------------- */
/* Matched arms on units drawn anew. counts[arm * n_seeds + seed]: n_units x K x 3, NULL: there is no such
 * run. Both results have n_arms 95 % intervals: of the arm's mean over seeds, and of its difference to the
 * base arm's over the seeds that both have; NaN where there is none. */
enum { BOOTSTRAP_DRAWS = 2000 };
typedef struct Bootstrap {
    int n_units, n_classes, n_arms, n_seeds, base;
    const int64_t *const *counts;
} Bootstrap;
void bootstrap_arms(const Bootstrap *b, uint64_t seed, Interval *mean, Interval *gain);

/* ---- metrics.def: one file each, for what a confusion matrix does not tell --------------------- */
typedef struct EvalImage {
    int h, w;
    const uint8_t *label, *pred;     /* H x W */
    const float *confidence;         /* H x W, or NULL where no metric wants it */
    const uint16_t *instance;        /* H x W, likewise */
} EvalImage;
typedef struct ClassScore {
    const char *key, *title;         /* "boundary_iou" of the files, "boundary IoU" for people */
    double mean;
    double *of;                      /* [K], NaN: absent; NULL: it is no matter of classes; caller frees */
} ClassScore;
enum { METRIC_SCORES_MAX = 4 };
typedef struct MetricDef {
    const char *name, *help;
    bool confidence;                 /* it reads EvalImage.confidence */
    bool instances;                  /* ... and .instance, which Cityscapes alone has */
    int  (*sums)(int classes);       /* how many whole numbers it keeps */
    void (*add)(int64_t *sum, int classes, const EvalImage *im);
    int  (*scores)(const int64_t *sum, int classes, ClassScore *out);
    void (*json)(Str *s, const int64_t *sum);        /* , "key": value beside the scores; NULL: none */
} MetricDef;
const MetricDef *metric_find(const char *name);      /* NULL when unknown */
double score_mean(const double *v, int n);           /* of those that are not NaN; NaN: none */
const MetricDef *metric_at(int i);                   /* NULL behind the last */
enum { METRICS_MAX = 8, CALIBRATION_BINS = 15 };
/* calibration.c: confidence and accuracy of each bin, NaN where it is empty. */
void calibration_bins(const int64_t *sum, double *confidence, double *accuracy, int64_t *pixels);

/* ---- evaluate.c -------------------------------------------------------------------------------- */
typedef struct Evaluation {
    Confusion *confusion;
    int64_t   *counts;               /* [images x K x 3] as of scores_interval; NULL: not kept */
    const MetricDef *metric[METRICS_MAX];
    int64_t   *sum[METRICS_MAX];
    int        n_metrics;
} Evaluation;
/* metrics: n of them, borrowed. images: of evaluate_with; 0: no counts are kept. */
void evaluation_open(Evaluation *e, int classes, int64_t images, const MetricDef *const *metrics, int n);
void evaluation_close(Evaluation *e);
/* The first max_images (0: all) of d; progress on stderr when it takes longer than 2 s. */
Err evaluate_with(Predictor *p, Dataset *d, int64_t max_images, Evaluation *e);
/* Numbers of the images, the lowest mIoU first; at most max. Needs counts. Returns how many. */
int evaluation_worst(const Evaluation *e, int max, int *index);

/* ---- protocol.c: conventions by name (protocols.def) ------------------------------------------- */
typedef struct Number { const char *key, *title; double value; } Number;
enum { NUMBERS_MAX = 16 };
typedef struct ProtocolDef {
    const char *name, *help;
    int classes;                     /* it is made for; 0: any */
    int (*numbers)(const Confusion *m, const Scores *s, Number *out);    /* the headline first */
} ProtocolDef;
const ProtocolDef *protocol_find(const char *name);  /* NULL when unknown */
const ProtocolDef *protocol_at(int i);               /* NULL behind the last */

/* ---- result.c: all that is told of an evaluation ----------------------------------------------- */
typedef struct EvalResult {
    const char *model, *source, *split;      /* borrowed, as d, e and protocol are */
    char *mode;                              /* of predictor_text */
    const Dataset *d;
    const Evaluation *e;
    const ProtocolDef *protocol;
    Scores s;
    double interval[2];                      /* 95 %, of miou */
    ClassScore extra[METRICS_MAX * METRIC_SCORES_MAX]; int n_extra;
    Number official[NUMBERS_MAX]; int n_official;
    int *worst, n_worst;                     /* numbers of images */
} EvalResult;
/* r names model, source, d, e, protocol and mode (taken); the rest is computed. e keeps counts. */
void  result_make(EvalResult *r, int worst, uint64_t seed);
void  result_free(EvalResult *r);
char *result_json(const EvalResult *r);      /* eval --json; caller frees, as of the next */
char *result_csv(const EvalResult *r);
/* Of one image: its mIoU and pixel accuracy. */
void  result_image(const EvalResult *r, int index, double *miou, double *accuracy);
#endif
