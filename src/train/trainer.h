/* trainer.h - the training loop, its optimiser and schedule, checkpoints and metrics. */
#ifndef RETORT_TRAIN_TRAINER_H
#define RETORT_TRAIN_TRAINER_H
#include "backend/plan.h"
#include "train/config.h"

/* A student with its teacher and loss terms, ready to step. Shared by train, bench and the C API.
 */
typedef struct Job Job;
Err job_open(const Config *c, int batch, int h, int w, Dataset *d,
             Job **out); /* d may be NULL: classes from config, an int8 teacher's ranges from noise */
void job_close(Job *j);
Net *job_student(Job *j);
Net *job_teacher(Job *j); /* NULL when there is none */
Plan *job_student_plan(Job *j);
Plan *job_teacher_plan(Job *j); /* NULL when there is none or nothing reads it */

enum { CLASSES_MAX = 256 };
typedef struct StepResult { /* staged: the task loss has stages (rdd); kept_class: of n_kept classes, NaN: absent */
    double total, task, aux, terms[LOSSES_MAX], grad_norm, kept_main, kept_aux;
    bool staged;
    int n_kept;
    double kept_class[CLASSES_MAX];
} StepResult;
/* What each term asks of the weights that all share: the norm of its weighted gradient there, and its cosine with the
 * task's. Index 0: the task. seconds: what measuring took. */
typedef struct Conflict {
    double norm[1 + LOSSES_MAX], cosine[1 + LOSSES_MAX], seconds;
} Conflict;
/* One forward and backward of one micro-batch: teacher, student, losses. stage: {tfe, tse} weights.
 * Fails when a loss term met what it cannot compute with (KdMethod.check); no weight has changed
 * then. */
Err job_step(Job *j, const Batch *b, uint64_t seed, const float stage[2], bool accumulate,
             StepResult *out);
/* The terms' gradients apart, on the batch of the last job_step: one forward and backward for each. The weights shared are
 * those of the student but for its terms' own. Gradients are overwritten; everything else is as before. */
void job_conflict(Job *j, const Batch *b, uint64_t seed, Conflict *out);
Err job_check_classes(const Config *c, const Dataset *d); /* E2037 before any image is read */
/* After each update of the student: what learns beside it (a discriminator) learns too. */
void job_update(Job *j);
/* What terms remember is as it was before the first step; of a dry run. */
void job_forget(Job *j);

typedef struct TrainHooks { /* called at report.every and at the end; failures only warn */
    Err (*report)(const char *run_dir, void *arg);
    void *arg;
} TrainHooks;
/* `retort train`: resumes by itself; exit codes as in docs/errors.md. hooks may be NULL. */
Err train_run_with(const Config *c, const TrainHooks *hooks);
Err train_run(const Config *c);
/* best.safetensors, last.safetensors or the newest checkpoint of a run directory; caller frees.
 * E4000. */
Err run_weights(const char *dir, char **path);
Err model_unknown(const char *what); /* E2076 with the nearest network's name */
/* What MODEL of the command line may be: the name of a network, a run directory, a checkpoint. On
 * success o and *out_weights (may be NULL or "none") say what to build and load; text lives in a.
 * weights may be NULL. */
Err model_source(const char *model, const char *weights, Arena *a, ModelOptions *o,
                 const char **out_weights);

/* Optimiser: one pass over the parameter block. */
typedef struct Optimizer Optimizer;
Err optimizer_open(const Config *c, Net *n, Optimizer **out);
void optimizer_close(Optimizer *o);
double optimizer_step(
    Optimizer *o,
    int64_t step); /* returns the gradient norm before clipping; NaN: nothing was updated */
double optimizer_lr(const Config *c, int64_t step); /* poly schedule with warm-up */

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
#endif
