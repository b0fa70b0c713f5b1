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
    int64_t seeds, steps, teacher_steps, batch;
    int64_t size[2];
} DemoOptions;
static const Option options[] = {
    {"out", OPT_STR, offsetof(DemoOptions, out), "runs/demo", "", "folder of the runs and of report.html", 0, NULL, 0, 0},
    {"seeds", OPT_INT, offsetof(DemoOptions, seeds), "2", "", "runs per arm, with seeds 1, 2, ...", 0, NULL, 1, 16},
    {"steps", OPT_INT, offsetof(DemoOptions, steps), "200", "steps", "of each student", 0, NULL, 1, 1e9},
    {"teacher_steps", OPT_INT, offsetof(DemoOptions, teacher_steps), "200", "steps", "of the teacher", 0, NULL, 1, 1e9},
    {"batch", OPT_INT, offsetof(DemoOptions, batch), "8", "images", "per step", 0, NULL, 1, 4096},
    {"size", OPT_SIZE, offsetof(DemoOptions, size), "72x96", "px", "HxW of the drawn pictures", 0, NULL, 0, 0},
    {0}};

enum { ARMS = 4, ARGS_MAX = 32, SEEDS_MAX = 16 };
typedef struct { const char *name, *note, *settings[6]; } ArmRow;
static const ArmRow rows[ARMS] = {
    {"teacher", "DeepLabV3-ResNet18", {"student.model=deeplabv3_resnet18", "student.aux=true"}},
    {"student alone", "DeepLabV3-MobileNetV2, width 0.5; cross-entropy", {"distill.task=ce"}},
    {"student + KD", "the same, and pixel-wise KD (tau 1, weight 1)", {"distill.task=ce", "distill.losses=[{kd: {weight: 1, tau: 1}}]"}},
    {"student + RDD", "the same as KD, task loss weighted by RDD: TFE, then TSE after a tenth of the steps",
     {"distill.task=rdd", "distill.task.warmup=0.1", "distill.losses=[{kd: {weight: 1, tau: 1}}]"}}};
static const char *const folders[ARMS] = {"teacher", "alone", "kd", "rdd"};
static const char *const student_settings[] = {"student.model=deeplabv3_mobilenetv2", "student.width=0.5", "student.aux=true"};
/* Shared by every run: the data, the schedule and what is watched. */
static const char *const common_settings[] = {
    "data=scenes", "data.scenes.train=256", "data.scenes.val=64", "data.scale=[0.75, 1.5]", "data.mirror=0.5",
    "student.output_stride=8", "train.lr=0.02", "train.schedule.kind=poly", "checkpoint.every=60s", "report.images=4"};

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

/* The whole configuration of one run, as it could be typed after `retort train`. */
static void run_args(Args *a, const DemoOptions *o, int arm, int seed, const char *dir, const char *teacher) {
    int64_t steps = arm ? o->steps : o->teacher_steps;
    for (size_t i = 0; i < sizeof common_settings / sizeof *common_settings; i++) args_add(a, common_settings[i]);
    a->arg[a->n++] = arena_printf(a->arena, "data.scenes.size=%lldx%lld", (long long)o->size[0], (long long)o->size[1]);
    a->arg[a->n++] = arena_printf(a->arena, "data.crop=%lldx%lld", (long long)o->size[0], (long long)o->size[1]);
    for (size_t i = 0; arm && i < sizeof student_settings / sizeof *student_settings; i++) args_add(a, student_settings[i]);
    for (int i = 0; i < 6 && rows[arm].settings[i]; i++) args_add(a, rows[arm].settings[i]);
    if (arm > 1) args_addf(a, "teacher.model", teacher);
    args_addf(a, "out", dir);
    args_number(a, "seed", seed);
    args_number(a, "train.steps", steps);
    args_number(a, "train.batch", o->batch);
    args_number(a, "eval.every", steps / 4 > 0 ? steps / 4 : 1);
}

static Err train_one(const DemoOptions *o, int arm, int seed, const char *dir, const char *teacher) {
    Args a = {.arena = arena_open()};
    Config *c = NULL;
    double start = sys_now();
    run_args(&a, o, arm, seed, dir, teacher);
    log_info("demo: %s, seed %d", rows[arm].name, seed);
    Err rc = config_read("train", NULL, a.arg, a.n, &c);
    if (!rc) rc = train_run(c);
    if (!rc) log_info("demo: %s, seed %d took %.1f s", rows[arm].name, seed, sys_now() - start);
    if (!rc && arm == ARMS - 1 && seed == 1) rc = finish_run(c);     /* the run shown in detail */
    if (c) config_close(c);
    arena_close(a.arena);
    return rc;
}

typedef struct { ReportArm arm[ARMS]; const char *dir[ARMS][SEEDS_MAX]; Arena *arena; } Demo;

static Err train_arms(const DemoOptions *o, Demo *d) {
    for (int arm = 0; arm < ARMS; arm++) {
        int seeds = arm ? (int)o->seeds : 1;
        d->arm[arm] = (ReportArm){rows[arm].name, rows[arm].note, d->dir[arm], seeds};
        for (int seed = 1; seed <= seeds; seed++)
            d->dir[arm][seed - 1] = arm ? arena_printf(d->arena, "%s/%s-%d", o->out, folders[arm], seed)
                                        : arena_printf(d->arena, "%s/%s", o->out, folders[arm]);
    }
    TRY(train_one(o, 0, 1, d->dir[0][0], NULL));
    for (int seed = 1; seed <= o->seeds; seed++)         /* seeds outside: a demo cut short stays matched */
        for (int arm = 1; arm < ARMS; arm++) TRY(train_one(o, arm, seed, d->dir[arm][seed - 1], d->dir[0][0]));
    return OK;
}

static void print_table(const Demo *d) {
    printf("\n%-16s %8s   %-17s %5s\n", "arm", "mIoU %", "lowest .. highest", "runs");
    for (int i = 0; i < ARMS; i++) {
        ArmScore s = report_arm_score(&d->arm[i]);
        if (!s.n) printf("%-16s %8s\n", d->arm[i].name, "-");
        else printf("%-16s %8.2f   %6.2f .. %6.2f  %5d\n", d->arm[i].name, 100 * s.mean, 100 * s.lo, 100 * s.hi, s.n);
    }
    printf("\nWith so few runs and steps, differences smaller than the spread say nothing.\n");
}

static Err demo(const DemoOptions *o) {
    Demo d = {.arena = arena_open()};
    double start = sys_now();
    char *page = path_join(o->out, "report.html");
    Err rc = train_arms(o, &d);
    if (!rc) rc = report_write_arms(page, "retort demo: one student, three losses", d.arm, ARMS, d.dir[ARMS - 1][0]);
    if (!rc) {
        print_table(&d);
        printf("%s, %.0f s\n", page, sys_now() - start);
    }
    free(page);
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
