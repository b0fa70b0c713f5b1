/* config_priv.h - the configuration's own pieces: the struct that the table of rows
 * describes, and what must be remembered to print it with its origins. */
#ifndef RETORT_TRAIN_CONFIG_PRIV_H
#define RETORT_TRAIN_CONFIG_PRIV_H
#include "base/str.h"
#include "io/yaml.h"
#include "train/config.h"

/* ---- config_table.c ---- */
enum {                               /* who accepts a row on the command line */
    IN_TRAIN = 1, IN_EVAL = 2, IN_PREDICT = 4, IN_INFO = 8, IN_RUN = 16, IN_BENCH = 32,
    IN_CHECK = 64, IN_MAPS = 128, IN_STUDY = 256, IN_EXPORT = 512, IN_LOSS = 1024,
    IN_ALL = 2047, IN_TRAINING = IN_TRAIN | IN_CHECK | IN_STUDY | IN_BENCH,
    IN_DATA = IN_TRAINING | IN_EVAL | IN_PREDICT | IN_MAPS | IN_EXPORT,          /* which pictures */
    IN_STUDENT = IN_TRAINING | IN_EVAL | IN_PREDICT | IN_INFO | IN_RUN | IN_EXPORT,
    IN_WEIGHTS = IN_EVAL | IN_PREDICT | IN_INFO | IN_RUN | IN_BENCH | IN_EXPORT,
    IN_TEACHER = IN_TRAINING | IN_MAPS, IN_DISTILL = IN_TEACHER | IN_LOSS
};
typedef struct ModelRaw {
    const char *model, *weights, *norm, *class_list, *tap[3];      /* class_list: teacher.classes as typed */
    int64_t classes, output_stride;
    double  width;
    bool    aux, dropout, partial;
    int     bn, stem, input, output;
} ModelRaw;
typedef struct ConfigRaw {           /* what options.def describes; types are those of OptType */
    const char *out; int64_t seed;
    struct { const char *kind, *root, *images, *labels, *classes, *ignore, *split, *unlabelled; double unlabelled_share; int64_t crop[2], resize[2], scenes_size[2]; double scale[2], scale_step, mirror;
             int resize_kernel; double crop_share, rotate, jitter[4], blur, blur_sigma[2], cutout, cutout_size; const char *preview;
             bool skip_unpaired, follow_links; int64_t workers, max_bad, scenes_seed, scenes_train, scenes_val, scenes_test; } data;
    ModelRaw student, teacher;
    const char *task_kind; double task_warmup, switch_window, switch_drop; int task_schedule, task_switch;
    int64_t steps, batch, accumulate, lr_batch, lr_warmup, threads;
    int optimizer, schedule, memory, precision, teacher_precision; bool nesterov, tune; double tune_seconds;
    double lr, momentum, weight_decay, betas[2], adam_eps, schedule_power, clip, ema, report_every;
    const char *lr_groups, *eval_split;
    OptEvery checkpoint_every, eval_every;
    int check_kind; double check_seconds, check_floor;
    struct { int mode, window[2], stride[2]; const char *scales; bool mirror; int average, blend; } infer;      /* of eval */
    struct { const char *write; bool legend; } predict;
    struct { const char *csv, *html, *metrics, *protocol; int64_t worst; } eval_out;
    int64_t checkpoint_keep, eval_images, report_images, metrics_every, gradients_every, images, runs; bool tensorboard;
    const char *weights, *split, *json, *trace, *mode, *size, *taps, *loss, *grads;
    bool plan, probs, deterministic, print_config;
    int output, input, opset, export_batch, calibrate; bool check, int8; const char *python;     /* of export */
} ConfigRaw;
extern const Option config_rows[];   /* ends with {0} */
int  config_row_count(void);
unsigned config_row_commands(int row);
int  config_row_find(const char *name);                      /* -1 when absent */
const char *config_later(const char *name);                  /* accepted values, or NULL: not such a row */
unsigned config_command_bit(const char *command);            /* 0: unknown */
const char *config_alias(const char *name, unsigned bit);    /* "model" -> "student.model" for such a command; else NULL */
const char *config_alias_of(const char *name);               /* the other way round */
const char *config_nearest(const char *name);

/* ---- what is known of a term's options before its method is resolved, and where each came from ---- */
typedef struct TermOption { const char *name, *value, *where; } TermOption;
typedef struct TermSource {
    const char *name, *where;        /* the method */
    TermOption *option; int n, cap;  /* malloc'd */
} TermSource;
enum { TERM_OVERRIDES_MAX = 64, BASE_DEPTH_MAX = 16 };
typedef struct ConfigOrigin {
    ConfigRaw raw;
    const char **where, **was;       /* [rows]; was: "VALUE (WHERE)" that the value took the place of; NULL: none */
    const char *base[BASE_DEPTH_MAX]; int n_base;    /* files that the given one inherits from, nearest first */
    TermSource task, loss[LOSSES_MAX];
    TermOption override[TERM_OVERRIDES_MAX];    /* name: "kd.tau" */
    int n_override;
    const char *losses_where, *losses_was;
} ConfigOrigin;
Err  config_resolve_eval(Config *c);                         /* config_eval.c: how images are looked at and scored */
Err  config_resolve(Config *c, const char *file, unsigned command);   /* config_resolve.c: raw -> the public fields */
const TermOption *term_option(const TermSource *t, const char *name);   /* the last one given; NULL: default */
char *config_row_text(const Config *c, int row);             /* value as typed; caller frees */
#endif
