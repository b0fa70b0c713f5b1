/* config.h - the whole configuration: one struct, one table of rows (options.def), one reader.
 *
 * Values come from defaults, base files, the file, then key=value arguments; each remembers its origin. */
#ifndef RETORT_TRAIN_CONFIG_H
#define RETORT_TRAIN_CONFIG_H
#include "base/option.h"
#include "data/data.h"
#include "distill/method.h"
#include "eval/eval.h"
#include "models/model.h"

enum { LOSSES_MAX = 8, LR_GROUPS_MAX = 8 };
typedef struct { const KdMethod *method; double weight; void *opt; char label[32]; } LossTerm;   /* label: "kd", "kd.2" */
enum { CHECK_QUICK, CHECK_FULL, CHECK_OFF };         /* check.kind */
enum { PREDICT_LABEL = 1, PREDICT_IDS = 2, PREDICT_PROBS = 4, PREDICT_OVERLAY = 8, PREDICT_OUTPUTS = 4 };    /* and how many */
typedef struct Config {
    const char *out; int64_t seed;
    DataOptions  data;
    ModelOptions student, teacher;                   /* teacher.model NULL: none */
    const char  *student_weights, *teacher_weights;
    LossTerm     task;                               /* distill.task */
    double       task_warmup;                        /* rdd: fraction of steps (< 1) or steps (>= 1) */
    int          task_schedule;                      /* hard | linear | cosine */
    bool         task_auto;                          /* the first stage ends by its loss, not by warmup */
    double       switch_window, switch_drop;         /* of that: fraction of steps (< 1) or steps; share */
    bool         task_compat;                        /* rdd2023: the off-by-one of the switch */
    LossTerm     losses[LOSSES_MAX]; int n_losses;
    int64_t steps, batch, accumulate, lr_batch, lr_warmup, threads;
    Dtype   precision, teacher_precision;            /* DT_F32 | DT_BF16; the teacher's also DT_I8 */
    double  tune_seconds;
    bool    tune, lean;                              /* train.tune; train.memory */
    int     optimizer;                               /* sgd | adamw */
    double  lr, momentum, weight_decay, beta1, beta2, adam_eps, schedule_power, clip, ema;
    bool    nesterov;
    int     schedule;                                /* poly | constant | cosine */
    struct { const char *prefix; double factor; } lr_groups[LR_GROUPS_MAX]; int n_lr_groups;
    OptEvery checkpoint_every; int64_t checkpoint_keep;
    OptEvery eval_every; const char *eval_split; int64_t eval_images;   /* 0: all */
    struct { unsigned write; bool legend; } predict; /* write: of PREDICT_LABEL ... */
    InferOptions infer;                              /* eval.mode and its company */
    struct {                                         /* of `retort eval` alone; csv, html NULL: not written */
        const char *csv, *html; const MetricDef *metric[METRICS_MAX]; int n_metrics;
        const ProtocolDef *protocol;                 /* NULL: by the data set */
        int worst;
    } eval_out;
    const char *preview;                             /* data.preview: file of a contact sheet, or NULL */
    struct { int kind; double seconds, floor; } check;       /* seconds 0: no limit */
    double   report_every_s; int64_t report_images, metrics_every, gradients_every; bool report_tensorboard;
    /* options of single commands */
    const char *weights, *json, *trace, *split, *mode, *size, *taps, *loss, *grads; bool plan, print_config, deterministic; int64_t images, runs;
    struct { int output, input, opset, batch, calibrate; bool check, int8; const char *python; } export;   /* batch 0: free */
    Arena *arena; struct ConfigOrigin *origin;       /* where each value came from */
} Config;

/* command: only rows that belong to it are accepted in args (a file may hold any). file may be NULL.
 * args: key=value, --x, --x V; short names (batch=, threads=, ...; model=, classes=, ... for commands that do not train). */
Err  config_read(const char *command, const char *file, char *const *args, int n_args, Config **out);
Err  config_read_text(const char *text, const char *name, Config **out);   /* as config_text wrote it */
/* As config_read, but with such a text, of a run or its files, in the place of a file. */
Err  config_read_over(const char *command, const char *text, const char *name, char *const *args, int n_args, Config **out);
/* Sort a command's arguments: words to pos, options to args. Both arrays hold argc entries. `--x V` takes V
 * unless x is a switch, so use this before config_read where a command has words of its own. */
void config_split_args(int argc, char **argv, char **pos, int *n_pos, char **args, int *n_args);
void config_close(Config *c);
/* For studies: the part `key` ("arms") of a file, or of what it inherits; *out NULL: none. Lives in a. */
struct YNode;
Err  config_part(const char *file, const char *key, Arena *a, struct YNode **out);
/* Options as they would be typed; a map of them as key=value, added to out. */
enum { ARG_LIST_MAX = 64 };
typedef struct ArgList { char *v[ARG_LIST_MAX]; int n; } ArgList;
Err  config_map_args(const struct YNode *map, Arena *a, ArgList *out);
char *config_changes(const Config *was, const Config *is);       /* "a: 1 -> 2, ..." of what may change a result; "": none; caller frees */
Err  config_write(const Config *c, const char *path);            /* resolved, each value with its origin as a comment */
/* text: what the run began with, from its checkpoint at path. E5xxx listing old -> new of what may not change. */
Err  config_check_resume(const Config *c, const char *text, const char *path);
char *config_text(const Config *c);                              /* the resolved YAML; caller frees */
void config_help(const char *command);
#endif
