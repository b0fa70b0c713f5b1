/* check_steps.c - the part of the check that opens the training as it will run: what memory it needs,
 * one step of each stage, and how long all of it will take. */
#include "cli/check_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/progress.h"
#include "data/preview.h"
#include "eval/windows.h"

enum { BATCHES_TRIED = 8 };          /* a sample that cannot be used may be in the first ones */
static const double STEPS_SHARE = 0.7;       /* of check.seconds: by then steps are over, the rest is the teacher's */

static double megabytes(double bytes) { return bytes / 1e6; }

/* ---- memory ---------------------------------------------------------------------------------- */
static double net_bytes(const Net *n) {
    return n ? 4.0 * (double)(n->n_values + n->n_trainable) : 0;
}
static double plan_bytes(const Plan *p) {
    const PlanStats s = plan_stats(p);
    return (double)(s.arena_bytes + s.param_bytes);
}

static double training_bytes(const Check *k, Job *j, const DataOptions *o) {
    const Config *c = k->c;
    const Net *n = job_student(j);
    const double moments = (c->optimizer ? 2 : 1) * 4.0 * (double)n->n_trainable,
                 average = c->ema > 0 ? 4.0 * (double)n->n_values : 0,
                 batches = (double)((o->workers > 0 ? o->workers : 1) + 2) * (double)c->batch *
                           o->crop_h * o->crop_w * 7;
    return net_bytes(n) + net_bytes(job_teacher(j)) + moments + average + batches +
           plan_bytes(job_student_plan(j)) +
           (job_teacher_plan(j) ? plan_bytes(job_teacher_plan(j)) : 0);
}

/* The student on one image, or the largest part or scale of it that is seen at once, beside the training. */
static Err validation_cost(const InferOptions *o, Job *j, int h, int w, double *bytes) {
    const double pixels = (double)h * w;
    int n, seen_h = 0, seen_w = 0;
    Window *v = windows_of(o, h, w, &n);
    for (int i = 0; i < n; i++)
        if ((int64_t)v[i].h * v[i].w > (int64_t)seen_h * seen_w) seen_h = v[i].h, seen_w = v[i].w;
    free(v);
    const ModelNodes *m = job_nodes(j);
    const Node inputs[] = {m->image, m->rects};
    const Shape shapes[] = {SHAPE(1, seen_h, seen_w, 3), SHAPE(1, 4)};
    Plan *p;
    TRY(plan_make(job_student(j),
                  &(PlanSpec){.outputs = &m->logits,
                              .n_outputs = 1,
                              .inputs = inputs,
                              .input_shapes = shapes,
                              .n_inputs = 2,
                              .dry = true},
                  &p));
    *bytes = plan_bytes(p) + 9 * pixels; /* image, label, prediction */
    plan_close(p);
    return OK;
}

static double kept_images(const Check *k, int which) {
    const Survey *s = &k->seen[which];
    return 4.0 * s->total * (s->h[0] + s->h[1]) / 2 * (s->w[0] + s->w[1]) / 2;
}

/* Images stay in memory only as far as it goes, so they are no part of what is needed. */
static Err plan_memory(Check *k, Job *j, const DataOptions *o) {
    const Survey *s = &k->seen[VAL];
    const double train = training_bytes(k, j, o), room = (double)k->free_bytes / 4,
                 images = fmin(room, kept_images(k, TRAIN)) + fmin(room, kept_images(k, VAL));
    double val = 0;
    const bool seen = s->h[1] > 0;
    TRY(validation_cost(&k->c->infer, j, seen ? s->h[1] : o->crop_h, seen ? s->w[1] : o->crop_w,
                        &val));
    check_say(
        k,
        "memory: training %.0f MB (student's activations %.0f), validation %.0f MB more, peak %.0f MB; "
        "images kept decoded %.0f MB; %.0f MB are free",
        megabytes(train), megabytes((double)plan_stats(job_student_plan(j)).arena_bytes),
        megabytes(val), megabytes(train + val), megabytes(images),
        megabytes((double)k->free_bytes));
    if (train + val < (double)k->free_bytes) return OK;
    return err_set(
        E(EXIT_LIMIT, 24),
        "training needs about %.0f MB and %.0f MB are free; lower train.batch or data.crop",
        megabytes(train + val), megabytes((double)k->free_bytes));
}

/* ---- steps ----------------------------------------------------------------------------------- */
typedef struct Timing {
    double stage_s[2], eval_s;       /* a micro-batch of either stage; one validation image; NAN: not tried */
    bool staged, kept_none;          /* the second stage kept no pixel, so it was quicker than it will be */
    bool guessed;                    /* a step was cut short: its time is told by the part that was done */
} Timing;

static double step_flops(Job *j, bool done) {
    const Plan *plans[] = {job_student_plan(j), job_teacher_plan(j)};
    double sum = 0;
    for (int i = 0; i < 2; i++) {
        const PlanStats s = plans[i] ? plan_stats(plans[i]) : (PlanStats){0};
        sum += done ? s.done_flops : s.conv_flops;
    }
    return sum;
}

static Err one_step(Check *k, Job *j, const Batch *b, int i, Timing *t) {
    static const char *const names[] = {"first", "second"};
    const float stage[2] = {i == 0, i == 1};
    const double start = sys_now();
    StepResult x;
    TRY(job_step(j, b, (uint64_t)k->c->seed, stage, false, &x));
    bool finite = isfinite(x.total) && isfinite(x.task);
    for (int l = 0; l < k->c->n_losses; l++) finite &= isfinite(x.terms[l]);
    if (!finite)
        return err_set(E(EXIT_NUMERIC, 62),
                       "%s stage: the loss of a first batch is not finite; look at the "
                       "weights, and at distill.losses",
                       names[i]);
    const double took = sys_now() - start;
    if (isnan(t->stage_s[i]))
        check_say(k, "one step of the %s stage: loss %.5g, %.2f s", names[i], x.total, took);
    t->stage_s[i] = took;
    t->staged = x.staged;
    if (i == 1) t->kept_none = x.staged && x.kept_main == 0;
    return OK;
}

/* A step that time cut short: as long as the part of its arithmetic that was done makes it. */
static void guess_step(Job *j, double took, double *out) {
    const double share = step_flops(j, true) / step_flops(j, false);
    if (share > 0.05) *out = took / share;
}

/* Once around for the result, once more for the time, which the first touch of memory does not count in; each while there
 * is time. */
static Err run_steps(Check *k, Job *j, const Batch *b, Timing *t) {
    static const char *const missed[] = {"a step of either stage", "a step of the second stage"};
    for (int i = 0; i < 4 && !sys_late(); i++) {
        const double start = sys_now();
        Err rc = one_step(k, j, b, i % 2, t);
        if (rc && rc != LATE) return rc;
        if (!rc) continue;
        if (!i) guess_step(j, sys_now() - start, &t->stage_s[0]), t->guessed = true;
    }
    for (int i = 0; i < 2; i++)
        if (isnan(t->stage_s[i]) || (!i && t->guessed)) return check_unreached(k, "%s", missed[i]), OK;
    return OK;
}

/* The first batch all of whose samples can be used; what is wrong with the others was told with the data. */
static Err first_batch(Check *k, const DataOptions *o, Loader **l, const Batch **b) {
    Err rc = OK;
    for (uint64_t i = 0; i < BATCHES_TRIED; i++) {
        TRY(loader_open(k->split[TRAIN], o, (int)k->c->batch, (uint64_t)k->c->seed,
                        i * (uint64_t)k->c->batch, l));
        if (!(rc = loader_next(*l, b))) return OK;
        loader_close(*l);
        if (rc < 1000) return rc;
    }
    return rc;
}

static Err time_validation(Check *k, Job *j, Timing *t) {
    Predictor *p = NULL;
    Sample s = {0};
    if (k->split[VAL] && sys_late())
        return check_unreached(k, "an image of %s by the student", k->c->eval_split), OK;
    t->eval_s = 0;
    if (!k->split[VAL] || k->split[VAL]->def->read(k->split[VAL], 0, &s)) return OK;
    uint8_t *pred = xcalloc((size_t)s.h, (size_t)s.w);
    Err rc = predictor_open(job_student(j), job_nodes(j), &k->c->infer, &p);
    t->eval_s = NAN;
    for (int i = 0; i < 2 && !rc; i++) {     /* the first one makes the plan */
        const double start = sys_now();
        rc = predictor_run(p, s.rgb, s.h, s.w, pred);
        if (!rc) t->eval_s = sys_now() - start;
    }
    if (rc == LATE && isnan(t->eval_s))
        check_unreached(k, "an image of %s by the student", k->c->eval_split);
    if (rc == LATE) rc = OK;
    if (p) predictor_close(p);
    free(pred);
    sample_free(&s);
    return rc;
}

/* ---- time ------------------------------------------------------------------------------------ */
/* Updates of the first stage; a cross-fade computes both all the time. */
static double first_stage_steps(const Config *c) {
    const double warmup = c->task_warmup < 1 ? c->task_warmup * (double)c->steps : c->task_warmup;
    return fmin(warmup, (double)c->steps);
}

static void tell_duration(Check *k, const Timing *t) {
    const Config *c = k->c;
    const bool one = isnan(t->stage_s[1]);
    if (isnan(t->stage_s[0]) || isnan(t->eval_s))
        return check_say(k, "expected: not known, since check.seconds was over before a step and an image were timed");
    const double first = t->stage_s[0],
                 second = t->kept_none || one ? fmax(first, t->stage_s[1]) : t->stage_s[1],
                 early = t->staged ? first_stage_steps(c) : 0,
                 images = k->split[VAL] ? k->split[VAL]->n : 0,
                 each =
                     t->eval_s * (c->eval_images ? fmin((double)c->eval_images, images) : images),
                 train =
                     (double)c->accumulate * (early * first + ((double)c->steps - early) * second);
    const double evaluations = c->eval_every.steps > 0
                                   ? ceil((double)c->steps / (double)c->eval_every.steps)
                               : c->eval_every.seconds > 0 ? ceil(train / c->eval_every.seconds)
                                                           : 1;
    k->expected_s = train + evaluations * each;
    check_say(k, "expected: %lld steps of %.2f s, evaluation of %.1f s %.0f times, %s in all%s",
              (long long)c->steps, train / (double)c->steps, each, evaluations,
              duration_text(k->expected_s).s,
              t->guessed     ? " (by the part of a step that there was time for)"
              : one          ? " (the second stage was not tried; it is counted like the first)"
              : t->kept_none ? " (the second stage kept no pixel here; it is counted like the first)"
                             : "");
}

/* ---- all of it ------------------------------------------------------------------------------- */
static Err try_steps(Check *k, Job *j, const DataOptions *o) {
    Timing t = {.stage_s = {NAN, NAN}, .eval_s = NAN};
    Loader *l;
    const Batch *b;
    if (k->c->preview) {
        TRY(preview_write(k->split[TRAIN], o, o->crop_h, o->crop_w, (uint64_t)k->c->seed,
                          k->c->preview));
        check_say(k, "wrote %s: what the first batches look like", k->c->preview);
    }
    TRY(first_batch(k, o, &l, &b));
    Err rc = run_steps(k, j, b, &t);
    loader_done(l, b);
    loader_close(l);
    if (!rc) rc = time_validation(k, j, &t);
    if (!rc) tell_duration(k, &t);
    return rc;
}

static void miss_steps(Check *k, bool memory_told) {
    check_unreached(k, "%sa step of either stage", memory_told ? "" : "the memory plan, ");
}

Err check_steps(Check *k) {
    const Config *c = k->c;
    DataOptions o = c->data;
    Job *j = NULL;
    bool memory_told = false;
    const bool no_teacher = c->teacher.model && !k->teacher.net;
    if (k->student_fits && check_over(k, STEPS_SHARE, k->open_s))
        return miss_steps(k, false), OK;
    check_deadline(k, STEPS_SHARE);
    if (!k->split[TRAIN] || !k->student_fits || no_teacher)
        return check_say(k, "no step was tried: %s",
                         !k->split[TRAIN] ? "there is no training split"
                                          : "a network is missing or does not fit"), OK;
    Err rc = dataset_crop(k->split[TRAIN], &o);
    if (!rc) rc = job_open(c, (int)c->batch, o.crop_h, o.crop_w, k->split[TRAIN], NULL, &j);
    if (!rc) {
        check_say(k, "%s, %.2f M parameters, %lld x %dx%d", c->student.model,
                  (double)net_count_params(job_student(j)) / 1e6, (long long)c->batch, o.crop_h,
                  o.crop_w);
        rc = plan_memory(k, j, &o);
        memory_told = !rc;
        if (!rc) rc = try_steps(k, j, &o);
    }
    if (rc == LATE) miss_steps(k, memory_told);
    job_close(j);
    if (err_exit_code(rc) == EXIT_DATA && k->seen[TRAIN].bad)        /* they are listed already */
        return check_say(k, "no step was tried: samples that it needs cannot be used"), OK;
    return check_problem(k, rc);
}
