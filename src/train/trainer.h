/* trainer.h - the training loop, its optimiser and schedule, checkpoints and metrics. */
#ifndef RETORT_TRAIN_TRAINER_H
#define RETORT_TRAIN_TRAINER_H
#include "backend/plan.h"
#include "eval/eval.h"
#include "train/config.h"

/* A student with its teacher and loss terms, ready to step. Shared by train, bench and the C API.
 */
typedef struct Job Job;
/* d may be NULL: classes from config, an int8 teacher's ranges from noise. choices may be NULL: see
 * PlanSpec; otherwise what was measured is in the machine's cache afterwards, and told in the log. */
Err job_open(const Config *c, int batch, int h, int w, Dataset *d, Choices *choices, Job **out);
void job_close(Job *j);
const ModelNodes *job_nodes(const Job *j); /* of the student */
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
    int showing[CLASSES_MAX]; /* micro-batches with the class */
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
/* The update of which the next steps are parts (distill/parts.h), until told otherwise; borrowed, NULL: none. */
void job_parts(Job *j, const struct Parts *p);
/* Do terms want statistics of all parts first? Then each part is run by job_gather, and then stepped. */
bool job_gathers(const Job *j, const float stage[2]);
void job_gather(Job *j, const Batch *b, uint64_t seed, const float stage[2]);
/* The terms' gradients apart, on the batch of the last job_step: one forward and backward for each. The weights shared are
 * those of the student but for its terms' own. Gradients are overwritten; everything else is as before. */
void job_conflict(Job *j, const Batch *b, uint64_t seed, Conflict *out);
Err job_check_classes(const Config *c, const Dataset *d); /* E2037 before any image is read */
/* After each update of the student: what learns beside it (a discriminator) learns too. */
void job_update(Job *j);
/* What terms remember is as it was before the first step; of a dry run. */
void job_forget(Job *j);

typedef struct TrainView { /* what an evaluation was of; borrowed for the call */
    int64_t step;
    Dataset *val;
    Net *student;
    const ModelNodes *nodes;
} TrainView;
typedef struct TrainHooks {
    Err (*report)(const char *run_dir, void *arg); /* at report.every and at the end; failures only warn */
    Err (*evaluated)(const TrainView *v, void *arg); /* after each evaluation; failures only warn */
    Err (*check)(const Config *c, void *arg);      /* before a run's first step; a failure ends it */
    void *arg;
} TrainHooks;
/* `retort train`: resumes by itself; exit codes as in docs/errors.md. hooks may be NULL. */
Err train_run_with(const Config *c, const TrainHooks *hooks);
Err train_run(const Config *c);
/* best.safetensors, last.safetensors or the newest checkpoint of a run directory; caller frees.
 * E4000. */
Err run_weights(const char *dir, char **path);
char *checkpoint_newest(const char *dir); /* path of a run's newest by number; caller frees; NULL: none */
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
#endif
