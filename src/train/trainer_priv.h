/* trainer_priv.h - what the files of the training loop share. */
#ifndef RETORT_TRAIN_TRAINER_PRIV_H
#define RETORT_TRAIN_TRAINER_PRIV_H
#include "base/str.h"
#include "base/sys.h"
#include "io/safetensors.h"
#include "train/trainer.h"

/* Momentum and averages lie in blocks shaped like the net's value block, so that a parameter's state
 * is at the parameter's offset. */
typedef struct OptChunk { int64_t offset, n; double factor; } OptChunk;   /* factor: of the learning rate */
struct Optimizer {
    const Config *c;
    Net      *net;
    float    *m, *v;                 /* n_trainable floats: SGD's buffer or Adam's first moment; Adam's second */
    float    *ema;                   /* n_values floats; NULL: off */
    OptChunk *chunk; int n_chunks;   /* the trainable block, cut by parameters */
    double   *sum;                   /* [n_chunks] squares, added in order */
};

/* distill.task.switch=auto: when the first stage ended, and the means of its loss that decide. */
typedef struct StageSwitch {
    int64_t at;                      /* updates done then; -1: not yet */
    int64_t n;                       /* in the present stretch */
    double  sum, before;             /* of the present one; mean of the one before, NaN: none */
} StageSwitch;

/* What a run must remember beside tensors; all of it is in a checkpoint's metadata. */
typedef struct RunState {
    int64_t  step;                   /* updates done */
    int64_t  eval_step;              /* the last step that was evaluated; -1: none */
    int64_t  best_step;
    double   best, last;             /* mIoU; NaN: none yet */
    uint64_t metrics_bytes;          /* length of metrics.jsonl at this step */
    double   eval_seconds;           /* what one evaluation takes; NaN: not known */
    StageSwitch stages;
} RunState;
typedef struct RunIdentity {         /* what may not change under a resumed run */
    const char *config;              /* resolved text */
    const char *train_data, *val_data;               /* fingerprints */
    const char *teacher;             /* digest of its weights; "" without a teacher */
    const char *choices;             /* choices_text: the ways in which layers are computed; NULL: the usual ones */
    const char *const *class_names; int n_classes;
    int64_t  seed, samples;          /* the key of everything random; samples drawn per update */
} RunIdentity;

/* checkpoint.c. dir: the run directory. */
Err  checkpoint_write(const char *dir, Net *n, const Optimizer *o, const RunState *s, const RunIdentity *id, int64_t keep);
typedef struct Checkpoint { char *path; SafeFile file; } Checkpoint;      /* path NULL: none */
/* The newest good one and its state. Bad ones are named, passed over, and set aside once a good one is
 * found. Only the metadata is looked at; checkpoint_load takes the tensors. checkpoint_close in any case. */
Err  checkpoint_open(const char *dir, Checkpoint *out, RunState *s);
Err  checkpoint_load(const Checkpoint *k, Net *n, Optimizer *o, const RunIdentity *id);
void checkpoint_close(Checkpoint *k);
Err  checkpoint_weights(const char *path, Net *n, const RunState *s, const RunIdentity *id);   /* weights alone */

/* data_list.c - RUN/lists/SPLIT.txt: the files of a data set as they were when the run began. */
Err  data_list_write(const char *dir, const Dataset *d);
/* E5047 with what was added, removed and changed, when the fingerprint is not what it was. */
Err  data_list_check(const char *dir, const Dataset *d, const char *was, const char *is);

/* metrics.c */
char *metrics_train_line(const Config *c, int64_t step, double epoch, double lr, const StepResult *r,
                         const float stage[2], double images_per_s, double stall, const Dataset *d);
char *metrics_conflict_line(const Config *c, int64_t step, const Conflict *x);
char *metrics_eval_line(int64_t step, const Dataset *d, const Confusion *m, const Confusion *ema, double seconds);
typedef struct RunStatus {
    const char *state;               /* running | done | stopped | failed */
    int64_t step, steps, eval_step;  /* eval_step -1: none yet */
    int exit_code;
    double eta_s, miou, best;
    const StepResult *last;          /* NULL: none yet */
    bool log_incomplete;
} RunStatus;
Err  status_write(const Config *c, const RunStatus *s);

/* job.c */
/* Running statistics and counts, which a run in training moves beside gradients. */
typedef struct Moved { float *stats; int64_t *counts; } Moved;
void  moved_keep(const Net *n, Moved *m);             /* allocates at the first time; starts zeroed */
void  moved_put_back(Net *n, const Moved *m);
void  moved_free(Moved *m);
const char *job_teacher_digest(const Job *j);        /* "" without a teacher */
/* schedule.c */
/* step: updates done so far; w: for switch=auto. */
void stage_weights(const Config *c, int64_t step, const StageSwitch *w, float stage[2]);
/* The loss of update number step (from 1) of the first stage; true when that ends it. */
bool stage_watch(const Config *c, StageSwitch *w, int64_t step, double loss);
#endif
