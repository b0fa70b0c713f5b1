/* cmd_demo.c - `retort demo out=DIR`: what distillation does, on pictures the program draws itself.
 *
 * Trains a teacher, then three arms of one small student that differ in their loss alone: alone
 * (cross-entropy), with pixel-wise KD, and with RDD. Same data, schedule, batches and first weights for
 * each seed. Prints one table and writes DIR/report.html. Whatever comes out is printed: no arm, seed or
 * step is chosen by its result, and every number is the last evaluation, not the best. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/finish.h"
#include "cli/open_model.h"
#include "report/report.h"
#include "train/trainer.h"

typedef struct DemoOptions {
    const char *out;
    int64_t seeds, steps, teacher_steps, batch, images;
    int64_t size[2];
} DemoOptions;
static const Option options[] = {
    {"out", OPT_STR, offsetof(DemoOptions, out), "runs/demo", "", "folder of the runs and of report.html", 0, NULL, 0, 0},
    {"seeds", OPT_INT, offsetof(DemoOptions, seeds), "2", "", "runs per student, with seeds 1, 2, ...", 0, NULL, 1, 16},
    {"steps", OPT_INT, offsetof(DemoOptions, steps), "300", "steps", "of each student", 0, NULL, 1, 1e9},
    {"teacher_steps", OPT_INT, offsetof(DemoOptions, teacher_steps), "500", "steps", "of the teacher", 0, NULL, 1, 1e9},
    {"batch", OPT_INT, offsetof(DemoOptions, batch), "4", "images", "per step", 0, NULL, 1, 4096},
    {"images", OPT_INT, offsetof(DemoOptions, images), "256", "", "pictures to train on; a quarter as many others to validate on", 0, NULL, 4, 1e6},
    {"size", OPT_SIZE, offsetof(DemoOptions, size), "64x96", "px", "HxW of the drawn pictures", 0, NULL, 0, 0},
    {0}};

enum { ARMS = 4, BASE = 1, ARGS_MAX = 32, SEEDS_MAX = 16 };
typedef struct { const char *name, *folder, *loss, *settings[2]; } ArmRow;
static const ArmRow rows[ARMS] = {
    {"teacher", "teacher", "cross-entropy", {"distill.task=ce"}},
    {"student alone", "alone", "cross-entropy", {"distill.task=ce"}},
    {"student + KD", "kd", "cross-entropy and pixel-wise KD", {"distill.task=ce", "distill.losses=[{kd: {weight: 1, tau: 1}}]"}},
    {"student + RDD", "rdd", "pixel-wise KD, and cross-entropy weighted by RDD: TFE for a tenth of the steps, then TSE",
     {"distill.task={kind: rdd, warmup: 0.1}", "distill.losses=[{kd: {weight: 1, tau: 1}}]"}}};
/* The teacher's network, the students' one, and what every run shares: data, schedule, what is watched. */
static const char *const teacher_settings[] = {"student.width=1", NULL};
static const char *const student_settings[] = {"student.width=0.25", NULL};
static const char *const common_settings[] = {
    "student.model=pspnet_mobilenetv2", "student.output_stride=8", "student.aux=true", "student.dropout=false", "data=scenes", "data.mirror=0.5",
    "train.optimizer.kind=adamw", "train.optimizer.weight_decay=0.01", "train.lr=0.01", "train.lr_warmup=20", "train.schedule.kind=poly",
    "checkpoint.every=20s", "report.images=5", NULL};

typedef struct { char *arg[ARGS_MAX]; int n; Arena *arena; } Args;

static void args_add(Args *a, const char *text) {
    CHECK(a->n < ARGS_MAX);
    a->arg[a->n++] = arena_strdup(a->arena, text);
}

static void args_addf(Args *a, const char *name, const char *value) {
    CHECK(a->n < ARGS_MAX);
    a->arg[a->n++] = arena_printf(a->arena, "%s=%s", name, value);
}

static void args_number(Args *a, const char *name, int64_t value) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    args_addf(a, name, text);
}

static void args_all(Args *a, const char *const *settings) {
    for (; *settings; settings++) args_add(a, *settings);
}

/* The whole configuration of one run, as it could be typed after `retort train`. */
static void run_args(Args *a, const DemoOptions *o, int arm, int seed, const char *dir, const char *teacher) {
    char size[48];
    int64_t steps = arm < BASE ? o->teacher_steps : o->steps, every = steps / 5;
    snprintf(size, sizeof size, "%lldx%lld", (long long)o->size[0], (long long)o->size[1]);
    args_all(a, common_settings);
    args_all(a, arm < BASE ? teacher_settings : student_settings);
    for (int i = 0; i < 2 && rows[arm].settings[i]; i++) args_add(a, rows[arm].settings[i]);
    if (arm > BASE) args_addf(a, "teacher.model", teacher);
    args_addf(a, "data.scenes.size", size);
    args_addf(a, "data.crop", size);
    args_number(a, "data.scenes.train", o->images);
    args_number(a, "data.scenes.val", o->images / 4);
    args_number(a, "seed", seed);
    args_number(a, "train.steps", steps);
    args_number(a, "train.batch", o->batch);
    args_number(a, "eval.every", every > 0 ? every : 1);
    args_addf(a, "out", dir);
}

/* ---- the runs ------------------------------------------------------------------------------------ */
typedef struct Demo {
    const DemoOptions *o;
    Arena      *arena;
    ReportArm   arm[ARMS];
    const char *dir[ARMS][SEEDS_MAX];
    const char *teacher;             /* the teacher's weights after its last step */
    ReportArms  report;
    char       *page;
} Demo;

static Err run_config(const Demo *d, int arm, int seed, Config **out) {
    Args a = {.arena = d->arena};
    run_args(&a, d->o, arm, seed, d->dir[arm][seed - 1], d->teacher);
    return config_read("train", NULL, a.arg, a.n, out);
}

/* A note for the table: the arm's network, its size and its loss. */
static Err arm_note(const Demo *d, int arm, const char **out) {
    Config *c;
    Dataset *data = NULL;
    Net *n = NULL;
    ModelNodes nodes;
    TRY(run_config(d, arm, 1, &c));
    Err rc = dataset_open(&c->data, c->eval_split, &data);
    if (!rc) {
        ModelOptions m = c->student;
        m.classes = data->n_classes;
        rc = model_open(&m, (int)d->o->size[0], (int)d->o->size[1], &n, &nodes);
    }
    if (!rc) *out = arena_printf(d->arena, "%s, width %g, %.2f M parameters; %s", c->student.model, c->student.width, (double)n->n_trainable / 1e6, rows[arm].loss);
    if (n) net_close(n);
    if (data) dataset_close(data);
    config_close(c);
    return rc;
}

static Err plan_demo(Demo *d) {
    const DemoOptions *o = d->o;
    for (int arm = 0; arm < ARMS; arm++) {
        int seeds = arm < BASE ? 1 : (int)o->seeds;
        for (int k = 0; k < seeds; k++)
            d->dir[arm][k] = arena_printf(d->arena, arm < BASE ? "%s/%s" : "%s/%s-%d", o->out, rows[arm].folder, k + 1);
        d->arm[arm] = (ReportArm){rows[arm].name, "", d->dir[arm], seeds};
        TRY(arm_note(d, arm, &d->arm[arm].note));
    }
    d->teacher = arena_printf(d->arena, "%s/last.safetensors", d->dir[0][0]);
    d->page = arena_printf(d->arena, "%s/report.html", o->out);
    d->report = (ReportArms){
        .title = "retort demo: one student, three losses", .arm = d->arm, .n = ARMS, .base = BASE, .detail = d->dir[ARMS - 1][0],
        .intro = arena_printf(d->arena,
            "Street-like scenes drawn by the program, %lldx%lld pixels: %lld to train on, %lld others to validate on. The students differ in "
            "their loss alone: each takes %lld steps of %lld pictures, and for one seed first weights, batches and schedule are the same. "
            "The teacher took %lld steps.", (long long)o->size[0], (long long)o->size[1], (long long)o->images, (long long)o->images / 4,
            (long long)o->steps, (long long)o->batch, (long long)o->teacher_steps)};
    return OK;
}

static bool run_done(const char *dir) {
    RunData *r = NULL;
    bool done = !run_data_open(dir, &r) && !strcmp(r->state, "done");
    run_data_close(r);
    return done;
}

/* Train one run, or go on with it, or find it finished. Seed 1 of each arm is shown in pictures. */
static Err train_one(const Demo *d, int arm, int seed) {
    Config *c;
    double start = sys_now();
    bool done = run_done(d->dir[arm][seed - 1]);
    TRY(run_config(d, arm, seed, &c));
    log_info("demo: %s, seed %d%s", rows[arm].name, seed, done ? ", finished before" : "");
    Err rc = train_run(c);
    if (!rc && seed == 1 && !done) rc = finish_run(c);
    config_close(c);
    if (err_exit_code(rc) == EXIT_CHECKPOINT)
        return err_set(rc, "%s; to start the demo anew, remove %s or give another out=DIR", err_text(), d->o->out);
    if (!rc) log_info("demo: %s, seed %d took %.1f s", rows[arm].name, seed, sys_now() - start);
    return rc ? rc : report_write_arms(d->page, &d->report);         /* what there is so far */
}

static Err train_all(const Demo *d) {
    TRY(train_one(d, 0, 1));
    for (int seed = 1; seed <= d->o->seeds; seed++)      /* seeds outside: a demo cut short stays matched */
        for (int arm = BASE; arm < ARMS; arm++) TRY(train_one(d, arm, seed));
    return OK;
}

static void print_result(const Demo *d) {
    ArmScore score[ARMS];
    Str text = {0};
    report_arm_scores(&d->report, score);
    printf("\n%s\n\n%-16s %8s   %-17s %5s   %s\n", d->report.intro, "arm", "mIoU %", "lowest .. highest", "runs", "points against student alone");
    for (int i = 0; i < ARMS; i++) {
        const ArmScore *s = &score[i];
        printf("%-16s %8.2f   %6.2f .. %6.2f  %5d", d->arm[i].name, 100 * s->mean, 100 * s->lo, 100 * s->hi, s->n);
        if (i > BASE) printf("   %+.2f (%+.2f .. %+.2f by seed)", 100 * s->gain, 100 * s->gain_lo, 100 * s->gain_hi);
        printf("\n");
    }
    report_verdict(&text, &d->report, score);
    printf("\n%s%s\n", text.s ? text.s : "", d->page);
    str_free(&text);
}

static Err demo(const DemoOptions *o) {
    Demo d = {.o = o, .arena = arena_open()};
    Err rc = plan_demo(&d);
    if (!rc) rc = train_all(&d);
    if (!rc) print_result(&d);
    arena_close(d.arena);
    return rc;
}

Err cmd_demo(int argc, char **argv) {
    Arena *a = arena_open();
    DemoOptions o = {0};
    Err rc = OK;
    bool help = false;
    option_defaults(options, &o, a);
    for (int i = 0; i < argc && !rc; i++) {
        const char *arg = argv[i] + (str_starts(argv[i], "--") ? 2 : 0), *eq = strchr(arg, '=');
        if (!strcmp(arg, "help")) { help = true; break; }
        if (!eq) { rc = err_set(E(EXIT_USAGE, 76), "demo: %s is no key=value; usage: retort demo [out=DIR] [seeds=N]", argv[i]); break; }
        char *name = arena_strdup(a, arg);
        name[eq - arg] = 0;
        rc = option_set(options, &o, a, "", name, eq + 1, "command line");
    }
    if (help) printf("retort demo [out=DIR] [key=value ...]\n\n"), option_help(options, "");
    else if (!rc) rc = demo(&o);
    arena_close(a);
    return rc;
}
