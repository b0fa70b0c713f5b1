/* cmd_check.c - `retort check CONFIG`: data, networks, one step, memory and the teacher, looked at
 * before hours are spent on them. Every part is tried, whatever the parts before it found; what is
 * wrong is listed at the end, each with its remedy, and the first problem gives the exit code. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "base/rng.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/open_model.h"
#include "data/survey.h"
#include "train/trainer.h"

static const char usage[] =
    "check [CONFIG.yaml] [key=value ...]\n\n"
    "Looks at the data, the networks and their weights, runs one step of each stage, and\n"
    "measures the teacher, all within check.seconds. Lists every problem with its\n"
    "remedy; what time did not allow is named. Takes what `retort train` takes.";

typedef struct Check {
    const Config *c;
    double start;                    /* sys_now() */
    Dataset *split[2];               /* train, eval.split; NULL: cannot be opened */
    Fault *problem; int n, cap;
    int h, w;                        /* of a training image; 0: not known */
} Check;

/* Remember a failure as a problem. A signal is none: it is passed up. */
static Err note(Check *k, Err rc) {
    if (rc < 1000) return rc;
    GROW(k->problem, k->n, k->cap);
    k->problem[k->n++] = (Fault){rc, xstrdup(err_text())};
    return OK;
}

/* Seconds that a part may take up to this share of the whole time; 0: no limit. */
static double time_until(const Check *k, double share) {
    if (k->c->check.seconds <= 0) return 0;
    return fmax(0.5, share * k->c->check.seconds - (sys_now() - k->start));
}

/* ---- data ------------------------------------------------------------------------------------ */
static void print_classes(const Dataset *d, const Survey *s) {
    double all = 0;
    for (int k = 0; k < d->n_classes; k++) all += (double)s->pixels[k];
    printf("    share %%   images  class\n");
    for (int k = 0; k < d->n_classes; k++) {
        printf("  %9.3f %8d  ", all > 0 ? 100 * (double)s->pixels[k] / all : 0.0, s->images[k]);
        cli_print(d->class_names[k], 100);
        printf("%s\n", s->images[k] ? "" : "   never seen");
    }
    printf("  void: %.3f %% of all pixels\n",
           100 * (double)s->pixels[IGNORE_U8] / fmax(1, all + (double)s->pixels[IGNORE_U8]));
}

/* A picture has no classes to tell of where it has no label. */
static void print_survey(const Dataset *d, const Survey *s) {
    cli_print(d->split, 64);
    printf(": %d of %d samples looked at, %d cannot be used", s->scanned, s->total, s->bad);
    if (s->h[1])
        printf(", %dx%d to %dx%d pixels (height x width)", s->h[0], s->w[0], s->h[1], s->w[1]);
    printf("\n");
    if (d->n_classes) print_classes(d, s);
    if (s->turned) printf("  %d images ask for a rotation (EXIF), which is not made\n", s->turned);
}

static Err look_at(Check *k, Dataset *d, double share) {
    Survey s;
    TRY(survey_run(d, time_until(k, share), (uint64_t)k->c->seed, &s));
    if (d->n_classes) printf("%s/", d->def->name);
    print_survey(d, &s);
    for (int i = 0; i < s.n_faults; i++) note(k, err_set(s.fault[i].code, "%s", s.fault[i].text));
    if (s.bad > s.n_faults)
        printf("  %d more samples cannot be used than are listed\n", s.bad - s.n_faults);
    survey_free(&s);
    return OK;
}

static Err check_data(Check *k) {
    const Config *c = k->c;
    const char *const splits[] = {"train", c->eval_split};
    if (!c->data.kind)
        return note(k, err_set(E(2, 76), "data.kind is not set; give data=camvid:DIR"));
    DataOptions all = c->data;
    all.max_bad = 0;                 /* bad ones are to be seen here, not left out */
    for (int i = 0; i < 2; i++) {
        TRY(note(k, dataset_open(&all, splits[i], &k->split[i])));
        if (k->split[i]) TRY(look_at(k, k->split[i], i ? 0.5 : 0.35));
        if (k->split[i] && k->split[i]->unlabelled)
            TRY(look_at(k, k->split[i]->unlabelled, 0.42));
    }
    return OK;
}

/* ---- a step ---------------------------------------------------------------------------------- */
static void print_duration(const Check *k, const double step_s[2]) {
    const Config *c = k->c;
    const double second = isnan(step_s[1]) ? step_s[0] : step_s[1];
    const double hours = second * (double)(c->steps * c->accumulate) / 3600;
    printf("a step takes %.2f s now: %lld steps about %.1f h, without evaluations\n",
           second * (double)c->accumulate, (long long)c->steps, hours);
}

static void print_memory(Job *j) {
    const PlanStats s = plan_stats(job_student_plan(j));
    double teacher = 0;
    if (job_teacher_plan(j)) {
        const PlanStats t = plan_stats(job_teacher_plan(j));
        teacher = (double)(t.arena_bytes + t.param_bytes) / 1e6;
    }
    printf("memory: student %.0f MB, teacher %.0f MB; %.0f MB of this process so far, %.0f MB free\n",
           (double)(s.arena_bytes + s.param_bytes) / 1e6, teacher, (double)sys_peak_rss() / 1e6,
           (double)sys_mem_available() / 1e6);
}

/* Both stages on one batch; the second pays no first touch, so its time is a step's. */
static Err run_steps(Check *k, Job *j, const Batch *b) {
    static const char *const names[] = {"the first stage", "the second stage"};
    double step_s[2] = {NAN, NAN};
    for (int i = 0; i < 2; i++) {
        const float stage[2] = {i == 0, i == 1};
        StepResult x;
        const double start = sys_now();
        Err rc = job_step(j, b, (uint64_t)k->c->seed, stage, false, &x);
        if (!rc && !(isfinite(x.total) && isfinite(x.task)))
            rc = err_set(E(8, 62), "%s: the loss of a first batch is not finite; look at the "
                                   "weights and at distill.losses", names[i]);
        if (rc) return note(k, rc);
        step_s[i] = sys_now() - start;
        printf("one step of %s: loss %.5g, %.2f s\n", names[i], x.total, step_s[i]);
    }
    print_duration(k, step_s);
    return OK;
}

static Err with_batch(Check *k, Job *j, const DataOptions *o) {
    Loader *l = NULL;
    const Batch *b;
    Err rc = loader_open(k->split[0], o, (int)k->c->batch, (uint64_t)k->c->seed, 0, &l);
    if (!rc) rc = loader_next(l, &b);
    if (rc) loader_close(l);
    if (rc) return note(k, rc);
    rc = run_steps(k, j, b);
    loader_done(l, b);
    loader_close(l);
    return rc;
}

static Err training_size(Check *k, DataOptions *o) {
    *o = k->c->data;
    if (!o->crop_h) {
        Sample s = {0};
        TRY(dataset_read(k->split[0], 0, &s));
        o->crop_h = s.h, o->crop_w = s.w;
        sample_free(&s);
    }
    return OK;
}

static Err check_training(Check *k) {
    const Config *c = k->c;
    DataOptions o;
    Job *j = NULL;
    if (!c->student.model)
        return note(k, err_set(E(2, 76), "student.model is not set; give student.model=NAME, see "
                                         "retort info"));
    if (!k->split[0]) return printf("no step was tried: there are no training data\n"), OK;
    Err rc = job_check_classes(c, k->split[0]);
    if (!rc) rc = training_size(k, &o);
    if (!rc) rc = job_open(c, (int)c->batch, o.crop_h, o.crop_w, k->split[0], &j);
    if (rc) return note(k, rc);
    printf("%s, %.2f M parameters, %lld x %dx%d\n", c->student.model,
           (double)net_count_params(job_student(j)) / 1e6, (long long)c->batch, o.crop_h, o.crop_w);
    if (!strcmp(c->student_weights, "none"))
        printf("the student's backbone starts from random weights; docs/weights.md tells which file "
               "fits student.weights\n");
    if (job_teacher(j) && c->teacher_weights && !strcmp(c->teacher_weights, "none") &&
        model_find(c->teacher.model))
        printf("the teacher has random weights: it teaches nothing; give teacher.weights=FILE\n");
    rc = with_batch(k, j, &o);
    print_memory(j);
    job_close(j);
    return rc;
}

/* ---- the teacher ----------------------------------------------------------------------------- */
static Err judge_teacher(Check *k, const Confusion *all, const int64_t *counts) {
    Scores s;
    double ci[2];
    confusion_scores(all, &s);
    scores_interval(counts, (int)all->images, all->n, (uint64_t)k->c->seed, ci);
    printf("the teacher's mIoU on %s: %.2f %% (95 %% interval %.2f to %.2f) by %lld of %d images\n",
           k->c->eval_split, 100 * s.miou, 100 * ci[0], 100 * ci[1], (long long)all->images,
           k->split[1]->n);
    Err rc = OK;
    if (ci[1] < k->c->check.floor)
        rc = note(k, err_set(E(EXIT_MODEL, 0), "the teacher's mIoU is at most %.2f %%, below "
                                      "check.floor=%g: check teacher.weights, teacher.norm and the "
                                      "order of teacher.classes",
                             100 * ci[1], k->c->check.floor));
    scores_free(&s);
    return rc;
}

/* One image into the matrix and its own counts. A sample that cannot be read was told before. */
static Err teach_one(Predictor *p, Dataset *d, int i, Confusion *all, int64_t *counts) {
    Sample s = {0};
    if (d->def->read(d, i, &s)) return OK;
    const int64_t pixels = (int64_t)s.h * s.w;
    uint8_t *pred = xcalloc((size_t)pixels, 1);
    int32_t *label = xcalloc((size_t)pixels, sizeof *label);
    Confusion *one = confusion_open(all->n);
    for (int64_t j = 0; j < pixels; j++) label[j] = s.label[j] == IGNORE_U8 ? -1 : s.label[j];
    Err rc = predictor_run(p, s.rgb, s.h, s.w, pred, NULL);
    if (!rc) {
        confusion_add(one, label, pred, pixels);
        confusion_counts(one, counts + all->images++ * 3 * all->n);
        for (int64_t j = 0; j < (int64_t)all->n * all->n; j++) all->count[j] += one->count[j];
    }
    confusion_close(one);
    free(pred), free(label);
    sample_free(&s);
    return rc;
}

static Err measure_teacher(Check *k, const OpenModel *m) {
    Dataset *d = k->split[1];
    Predictor *p;
    TRY(predictor_open(m->net, &m->nodes, &p));
    Confusion *all = confusion_open(d->n_classes);
    int64_t *counts = xcalloc((size_t)d->n * 3 * (size_t)d->n_classes, sizeof *counts);
    uint32_t *order = xcalloc((size_t)d->n, sizeof *order);
    Rng r = rng_stream((uint64_t)k->c->seed, RNG_SHUFFLE, 0, 1);
    rng_permutation(&r, order, (uint32_t)d->n);
    Progress progress = progress_start("images", d->n, "teacher on %s", d->split);
    if (k->c->check.seconds > 0) progress.until = sys_now() + time_until(k, 1);
    Err rc = OK;
    for (int i = 0; i < d->n && !rc; i++) {
        const int signal = sys_signal_pending();
        rc = signal ? err_set(128 + signal, "stopped by signal %d", signal)
                    : teach_one(p, d, (int)order[i], all, counts);
        progress_to(&progress, i + 1);
        if (progress.until > 0 && sys_now() > progress.until) break;
    }
    progress_end(&progress);
    if (!rc && all->images) rc = judge_teacher(k, all, counts);
    free(order), free(counts);
    confusion_close(all);
    predictor_close(p);
    return rc;
}

static Err check_teacher(Check *k) {
    OpenModel m = {0};
    if (!k->c->teacher.model || !k->split[1]) return OK;
    Err rc = open_teacher(k->c, k->split[1]->n_classes, 65, 65, &m);
    if (!rc && m.options.classes != k->split[1]->n_classes)
        rc = err_set(E(2, 37), "the teacher has %d classes, the data set %d; give teacher.classes",
                     m.options.classes, k->split[1]->n_classes);
    if (!rc && m.net) rc = measure_teacher(k, &m);
    open_model_close(&m);
    return note(k, rc);
}

/* ---- all of it ------------------------------------------------------------------------------- */
static bool told_before(const Check *k, int i) {
    for (int j = 0; j < i; j++)
        if (k->problem[j].code == k->problem[i].code && !strcmp(k->problem[j].text, k->problem[i].text))
            return true;
    return false;
}

static Err verdict(const Check *k) {
    int n = 0;
    for (int i = 0; i < k->n; i++) {
        if (told_before(k, i)) continue;
        printf("%sproblem %d: E%04d ", n ? "" : "\n", n + 1, k->problem[i].code), n++;
        cli_print(k->problem[i].text, 4096);
        putchar('\n');
    }
    printf("\n%d problem%s, %.1f s\n", n, n == 1 ? "" : "s", sys_now() - k->start);
    return n ? err_set(k->problem[0].code, "%d problem%s; the first: %s", n, n == 1 ? "" : "s",
                       k->problem[0].text)
             : OK;
}

static Err check_all(const Config *c) {
    Check k = {.c = c, .start = sys_now()};
    parallel_set_threads((int)c->threads);
    Err rc = check_data(&k);
    if (!rc) rc = check_training(&k);
    if (!rc) rc = check_teacher(&k);
    if (!rc) rc = verdict(&k);
    for (int i = 0; i < k.n; i++) free(k.problem[i].text);
    free(k.problem);
    dataset_close(k.split[0]), dataset_close(k.split[1]);
    return rc;
}

Err cmd_check(int argc, char **argv) {
    CliArgs args;
    TRY(cli_args("check", usage, argc, argv, 0, 1, &args));
    if (args.help) return OK;
    Config *c = NULL;
    Err rc = config_read("check", args.n_word ? args.word[0] : NULL, args.opt, args.n_opt, &c);
    if (!rc) rc = check_all(c);
    if (c) config_close(c);
    cli_args_close(&args);
    return rc;
}
