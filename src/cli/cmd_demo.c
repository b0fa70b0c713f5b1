/* cmd_demo.c - `retort demo out=DIR`: what distillation does, on pictures the program draws itself.
 *
 * A study (cli/study.h) with a configuration of its own: a teacher, then three arms of one small student
 * that differ in their loss alone: alone (cross-entropy), with pixel-wise KD, and with RDD. Whatever
 * comes out is printed: no arm, seed or step is chosen by its result. */
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "cli/study.h"

typedef struct DemoOptions {
    const char *out;
    int64_t seeds, steps, teacher_steps, batch, images;
    int64_t size[2];
} DemoOptions;
static const Option options[] = {
    {"out", OPT_STR, offsetof(DemoOptions, out), "runs/demo", "", "folder of the runs and of study.html", 0, NULL, 0, 0},
    {"seeds", OPT_INT, offsetof(DemoOptions, seeds), "2", "", "runs per student, with seeds 1, 2, ...", 0, NULL, 1, STUDY_SEEDS_MAX},
    {"steps", OPT_INT, offsetof(DemoOptions, steps), "300", "steps", "of each student", 0, NULL, 1, 1e9},
    {"teacher_steps", OPT_INT, offsetof(DemoOptions, teacher_steps), "500", "steps", "of the teacher", 0, NULL, 1, 1e9},
    {"batch", OPT_INT, offsetof(DemoOptions, batch), "4", "images", "per step", 0, NULL, 1, 4096},
    {"images", OPT_INT, offsetof(DemoOptions, images), "256", "", "pictures to train on; a quarter as many others to validate on, and to test on", 0, NULL, 4, 1e6},
    {"size", OPT_SIZE, offsetof(DemoOptions, size), "64x96", "px", "HxW of the drawn pictures", 0, NULL, 0, 0},
    {0}};

/* The teacher is the same network, four times as wide. */
static const char *const teacher[] = {"student.width=1"};
static const char *const common[] = {
    "student.model=pspnet_mobilenetv2", "student.output_stride=8", "student.aux=true", "student.dropout=false", "data=scenes", "data.mirror=0.5",
    "train.optimizer.kind=adamw", "train.optimizer.weight_decay=0.01", "train.lr=0.01", "train.lr_warmup=20", "train.schedule.kind=poly",
    "checkpoint.every=20s", "report.images=5", "check=off"};
static const char *const kd[] = {"teacher.model=study", "distill.losses=[{kd: {weight: 1, tau: 1}}]"};
static const char *const rdd[] = {"teacher.model=study", "distill.losses=[{kd: {weight: 1, tau: 1}}]", "distill.task={kind: rdd, warmup: 0.1}"};
static const char *const width[] = {"student.width=0.25"};
#define ADD_ALL(list, texts) \
    for (size_t i_ = 0; i_ < sizeof texts / sizeof *texts; i_++) add(list, (char *)(uintptr_t)texts[i_])

static void add(ArgList *a, char *text) {
    CHECK(a->n < ARG_LIST_MAX);
    a->v[a->n++] = text;
}

static void add_numbers(const DemoOptions *o, Arena *a, StudySpec *s) {
    const char *size = arena_printf(a, "%lldx%lld", (long long)o->size[0], (long long)o->size[1]);
    const int64_t every = o->steps / 5, teacher_every = o->teacher_steps / 5;
    const struct { const char *name; int64_t value; } numbers[] = {
        {"data.scenes.train", o->images}, {"data.scenes.val", o->images / 4}, {"data.scenes.test", o->images / 4},
        {"train.batch", o->batch}, {"train.steps", o->steps}, {"eval.every", every > 0 ? every : 1}};
    add(&s->common, arena_printf(a, "data.scenes.size=%s", size));
    add(&s->common, arena_printf(a, "data.crop=%s", size));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        add(&s->common, arena_printf(a, "%s=%lld", numbers[i].name, (long long)numbers[i].value));
    add(&s->teacher, arena_printf(a, "train.steps=%lld", (long long)o->teacher_steps));
    add(&s->teacher, arena_printf(a, "eval.every=%lld", (long long)(teacher_every > 0 ? teacher_every : 1)));
}

static Err demo(const DemoOptions *o, Arena *a) {
    StudySpec s = {.command = "demo", .out = o->out, .title = "retort demo: one student, three losses", .n = 3, .has_teacher = true,
                   .seeds = o->seeds, .split = "test", .group = "none"};
    s.intro = arena_printf(a, "Street-like scenes drawn by the program, %lldx%lld pixels: %lld to train on, %lld others to validate on, %lld to test on. The "
                              "students differ in their loss alone: each takes %lld steps of %lld pictures, and for one seed first weights, batches and "
                              "schedule are the same. The teacher took %lld steps.",
                           (long long)o->size[0], (long long)o->size[1], (long long)o->images, (long long)o->images / 4, (long long)o->images / 4,
                           (long long)o->steps, (long long)o->batch, (long long)o->teacher_steps);
    s.arm[0].name = "alone", s.arm[1].name = "kd", s.arm[2].name = "rdd";
    for (int i = 0; i < s.n; i++) ADD_ALL(&s.arm[i].args, width);
    ADD_ALL(&s.arm[1].args, kd);
    ADD_ALL(&s.arm[2].args, rdd);
    ADD_ALL(&s.common, common);
    ADD_ALL(&s.teacher, teacher);
    add_numbers(o, a, &s);
    return study_run(&s);
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
    else if (!rc) rc = demo(&o, a);
    arena_close(a);
    return rc;
}
