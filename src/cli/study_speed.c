/* study_speed.c - `time=9h`: the number of steps, the same for all arms, that fits.
 *
 * Each arm takes a few steps on real batches, loader and optimiser included; the median counts, of
 * RDD the second stage, where most steps are. To that come opening, each arm's check, evaluations by
 * eval.every, the last one, and the reading of the split at the end, by the time of one image. Nothing
 * that is trained here is kept. A twentieth is left for checkpoints, reports and what was not seen. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "base/str.h"
#include "cli/study_priv.h"
#include "train/trainer.h"

enum { WARM_UP = 2, STEPS_MIN = 5, STEPS_MAX = 40, IMAGES = 3 };
static const double PROBE_S = 5, USABLE = 0.95;

typedef struct Speed { double open_s, step_s, image_s; int val, split; } Speed;  /* images of either */

/* One update's time, as the loop would take it. */
static Err time_step(const Config *c, Job *j, Optimizer *o, Loader *l, double *out) {
    static const float stage[2] = {0, 1};
    const double start = sys_now();
    for (int64_t k = 0; k < c->accumulate; k++) {
        const Batch *b;
        StepResult x;
        TRY(loader_next(l, &b));
        Err rc = job_step(j, b, (uint64_t)c->seed, stage, k > 0, &x);
        loader_done(l, b);
        TRY(rc);
    }
    optimizer_step(o, 0);
    job_update(j);
    *out = sys_now() - start;
    return OK;
}

static Err time_steps(const Config *c, Job *j, Optimizer *o, Loader *l, double *out) {
    double taken[STEPS_MAX], one;
    int n = 0;
    const double start = sys_now();
    for (int i = 0; n < STEPS_MIN || (n < STEPS_MAX && sys_now() - start < PROBE_S); i++) {
        TRY(sys_poll());
        TRY(time_step(c, j, o, l, &one));
        if (i >= WARM_UP) taken[n++] = one;
    }
    *out = stats_median(taken, n);
    return OK;
}

/* The student on whole images, with whatever weights it has by now. The first one pays for the plan. */
static Err time_images(const Config *c, Job *j, Dataset *val, double *out) {
    Predictor *p;
    double best = INFINITY;
    TRY(predictor_open(job_student(j), job_nodes(j), &c->infer, &p));
    Err rc = OK;
    for (int i = 0; i < IMAGES && !rc; i++) {
        Sample s = {0};
        const double start = sys_now();
        if ((rc = dataset_read(val, i % val->n, &s))) break;
        uint8_t *pred = xcalloc((size_t)s.h * (size_t)s.w, 1);
        rc = predictor_run(p, s.rgb, s.h, s.w, pred);
        best = fmin(best, sys_now() - start);
        free(pred);
        sample_free(&s);
    }
    predictor_close(p);
    *out = best;
    return rc;
}

static Err probe_with(const Config *c, Dataset *train, Dataset *val, Speed *out) {
    DataOptions o = c->data;
    Job *j = NULL;
    Optimizer *opt = NULL;
    Loader *l = NULL;
    const double start = sys_now();
    TRY(dataset_crop(train, &o));
    Choices *choices = /* measured now, not in the first run */
        c->tune ? choices_of_machine(c->tune_seconds) : NULL;
    Err rc = job_open(c, (int)c->batch, o.crop_h, o.crop_w, train, choices, &j);
    if (!rc) rc = optimizer_open(c, job_student(j), &opt);
    if (!rc) rc = loader_open(train, &o, (int)c->batch, (uint64_t)c->seed, 0, &l);
    out->open_s = sys_now() - start;
    if (!rc) rc = time_steps(c, j, opt, l, &out->step_s);
    loader_close(l);
    if (!rc) rc = time_images(c, j, val, &out->image_s);
    optimizer_close(opt);
    job_close(j);
    choices_close(choices);
    return rc;
}

static Err probe(const Config *c, const char *split, Speed *out) {
    Dataset *train = NULL, *val = NULL, *other = NULL;
    parallel_set_threads((int)c->threads);
    Err rc = dataset_open_training(&c->data, &train);
    if (!rc) rc = dataset_open(&c->data, c->eval_split, &val);
    if (!rc) rc = dataset_open(&c->data, split, &other);
    if (!rc) rc = job_check_classes(c, train);
    if (!rc) rc = probe_with(c, train, val, out);
    if (!rc)
        out->val = c->eval_images > 0 && c->eval_images < val->n ? (int)c->eval_images : val->n;
    if (!rc) out->split = other->n;
    dataset_close(train), dataset_close(val), dataset_close(other);
    return rc;
}

/* One whole run. */
static double run_seconds(const Config *c, const Speed *s, int64_t steps) {
    const double train = (double)steps * s->step_s;
    double evals = 1;
    if (c->eval_every.steps > 0) evals += (double)((steps - 1) / c->eval_every.steps);
    else if (c->eval_every.seconds > 0) evals += floor(train / c->eval_every.seconds);
    return s->open_s + train + (evals * s->val + s->split) * s->image_s;
}

static double study_seconds(const StudyJob *j, const Speed *speed, int64_t steps) {
    double sum = 0;
    for (int i = 0; i < j->n; i++) {
        const Config *c = j->arm[i].config;
        sum += c->check.kind == CHECK_OFF ? 0 : c->check.seconds;
        sum += j->arm[i].seeds *
               run_seconds(c, &speed[i], j->spec->has_teacher && i == 0 ? c->steps : steps);
    }
    return sum;
}

static void tell(const StudyJob *j, const Speed *speed, int64_t steps) {
    Str s = {0};
    for (int i = 0; i < j->n; i++)
        str_addf(&s, "%s%s %.0f ms", i ? ", " : "", j->arm[i].name, 1000 * speed[i].step_s);
    log_info(
        "a step takes: %s; evaluating an image %.0f ms. %lld steps each for %d seeds: about %s of %s",
        s.s, 1000 * speed[j->base].image_s, (long long)steps, j->arm[j->base].seeds,
        duration_text(study_seconds(j, speed, steps)).s, duration_text(j->spec->time_s).s);
    str_free(&s);
}

/* Where the teacher is the study's own, it is not trained yet: the same network with weights that need no file is as fast. */
static void stand_in(const StudyJob *j, Config *c) {
    const Config *t = j->arm[0].config;
    const char *norm = c->teacher.norm;
    char *own = xprintf("%s/last.safetensors", j->arm[0].dir[0]);   /* as study_plan.c writes it */
    const bool is_own = c->teacher.model && !strcmp(c->teacher.model, own);
    free(own);
    if (!is_own) return;
    c->teacher = t->student;
    if (norm && strcmp(norm, "auto")) c->teacher.norm = norm;
    c->teacher_weights = "formula:1";
}

/* The largest number of steps that fits; 0: not even one does. */
static int64_t steps_that_fit(const StudyJob *j, const Speed *speed, double usable) {
    int64_t lo = 0, hi = 1;
    while (hi < INT64_C(1000000000000) && study_seconds(j, speed, hi) <= usable) lo = hi, hi *= 2;
    while (hi - lo > 1) {
        const int64_t mid = lo + (hi - lo) / 2;
        if (study_seconds(j, speed, mid) <= usable) lo = mid;
        else hi = mid;
    }
    return lo;
}

Err study_choose_steps(StudyJob *j, int64_t *steps) {
    Speed speed[STUDY_ARMS_MAX];
    for (int i = 0; i < j->n; i++) {
        Config c = *j->arm[i].config;
        log_info("measuring %s: a few steps, which are not kept", j->arm[i].name);
        if (j->spec->has_teacher && i > 0) stand_in(j, &c);
        TRY(probe(&c, j->spec->split, &speed[i]));
    }
    *steps = steps_that_fit(j, speed, USABLE * j->spec->time_s);
    if (!*steps)
        return err_set(
            E(EXIT_USAGE, 76),
            "time=%g s is not enough: one step each and the evaluations take %.0f s; give more time=, or fewer seeds= or arms=",
            j->spec->time_s, study_seconds(j, speed, 1) / USABLE);
    tell(j, speed, *steps);
    return OK;
}
