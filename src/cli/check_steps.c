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
static Err validation_bytes(const InferOptions *o, Job *j, int h, int w, double *out) {
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
                              .n_inputs = 2},
                  &p));
    *out = plan_bytes(p) + 9 * pixels; /* image, label, prediction */
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
    TRY(validation_bytes(&k->c->infer, j, seen ? s->h[1] : o->crop_h, seen ? s->w[1] : o->crop_w,
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
    double stage_s[2], eval_s;       /* a micro-batch of either stage; one validation image */
    bool staged, kept_none;          /* the second stage kept no pixel, so it was quicker than it will be */
} Timing;

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

/* Once around for the result, once more for the time, which the first touch of memory does not count in. */
static Err run_steps(Check *k, Job *j, const Batch *b, Timing *t) {
    const double spent = sys_now();
    for (int i = 0; i < 2; i++) TRY(one_step(k, j, b, i, t));
    const double left = check_time_until(k, 0.7);
    for (int i = 0; i < 2 && (left <= 0 || sys_now() - spent < left); i++)
        TRY(one_step(k, j, b, i, t));
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

static Err time_validation(const Check *k, Job *j, Timing *t) {
    Predictor *p;
    Sample s = {0};
    if (!k->split[VAL] || k->split[VAL]->def->read(k->split[VAL], 0, &s)) return OK;
    uint8_t *pred = xcalloc((size_t)s.h, (size_t)s.w);
    Err rc = predictor_open(job_student(j), job_nodes(j), &k->c->infer, &p);
    for (int i = 0; i < 2 && !rc; i++) { /* the first one makes the plan */
        const double start = sys_now();
        rc = predictor_run(p, s.rgb, s.h, s.w, pred, NULL);
        t->eval_s = sys_now() - start;
    }
    if (!rc) predictor_close(p);
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
    const double first = t->stage_s[0],
                 second = t->kept_none ? fmax(first, t->stage_s[1]) : t->stage_s[1],
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
              t->kept_none ? " (the second stage kept no pixel here; it is counted like the first)"
                           : "");
}

/* ---- all of it ------------------------------------------------------------------------------- */
static Err training_size(Check *k, DataOptions *o) {
    *o = k->c->data;
    if (!o->crop_h) {
        Sample s = {0};
        TRY(dataset_read(k->split[TRAIN], 0, &s));
        o->crop_h = s.h, o->crop_w = s.w;
        sample_free(&s);
    }
    return OK;
}

static Err try_steps(Check *k, Job *j, const DataOptions *o) {
    Timing t = {{NAN, NAN}, 0, false, false};
    Loader *l;
    const Batch *b;
    TRY(plan_memory(k, j, o));
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

Err check_steps(Check *k) {
    const Config *c = k->c;
    DataOptions o;
    Job *j = NULL;
    const bool no_teacher = c->teacher.model && !k->teacher.net;
    if (!k->split[TRAIN] || !k->student_fits || no_teacher)
        return check_say(k, "no step was tried: %s",
                         !k->split[TRAIN] ? "there is no training split"
                                          : "a network is missing or does not fit"), OK;
    Err rc = training_size(k, &o);
    if (!rc) rc = job_open(c, (int)c->batch, o.crop_h, o.crop_w, k->split[TRAIN], NULL, &j);
    if (!rc) {
        check_say(k, "%s, %.2f M parameters, %lld x %dx%d", c->student.model,
                  (double)net_count_params(job_student(j)) / 1e6, (long long)c->batch, o.crop_h,
                  o.crop_w);
        rc = try_steps(k, j, &o);
    }
    job_close(j);
    return check_problem(k, rc);
}
