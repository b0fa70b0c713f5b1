/* trainer.c - `retort train`: from a configuration to a finished run directory, whatever happens
 * between.
 *
 * Every step edge is a point from which the run can go on: what was logged up to there is counted
 * in the checkpoint (metrics.jsonl is cut back to that length on resume), the loader restarts at
 * the sample number step * accumulate * batch, dropout and augmentation are keyed by sample, and
 * evaluations are remembered by their step. So a killed run, started again, writes the same bytes
 * as one that was not. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/progress.h"
#include "base/parallel.h"
#include "base/spark.h"
#include "distill/parts.h"
#include "train/trainer_priv.h"

enum { MISSES_MAX = 3 };
typedef struct Run {
    const Config *c;
    const TrainHooks *hooks;
    DirLock *lock;
    Appender *log, *metrics;
    Dataset *train, *val;
    DataOptions data; /* with the crop decided */
    Choices *choices; /* NULL: the usual ways */
    Job *job;
    Optimizer *opt;
    Loader *loader;
    const Batch **batch; /* the micro-batches of an update, borrowed from the loader */
    const int32_t **labels;
    RunState s;
    RunIdentity id;
    char *config, *chosen;
    Digest train_data, val_data; /* fingerprints */
    StepResult last;
    bool has_last, log_failed, dry;
    bool refused; /* to go on with other options or data: what there is stays as it was */
    int misses;                               /* checkpoints in a row that could not be written */
    double saved_at, status_at, evaluated_at; /* sys_now() of the last */
    double session_start, session_aside;      /* aside: seconds of evaluations and checkpoints */
    Spark curve;                              /* the loss of this session */
    bool draws;                               /* stderr is a terminal that can show it */
    double reported_at, report_s;             /* the last page; what it took */
    double conflict_s;                        /* spent on show_conflict, this session */
    double stall_s;                           /* waited for the loader, this session */
    int64_t session_step;
    double line_at, line_stall; /* since the last line of metrics */
    int64_t line_step;
} Run;

/* ---- the run directory ---------------------------------------------------------------------- */

static char *in_run(const Run *r, const char *name) {
    return path_join(r->c->out, name);
}

static Err open_dir(Run *r) {
    const Config *c = r->c;
    if (!c->out) return err_set(E(2, 76), "out is not set; give out=DIR");
    char *checkpoints = in_run(r, "checkpoints"), *log = in_run(r, "log.txt");
    Err rc = sys_mkdirs(c->out);
    if (!rc) rc = sys_probe_writable(c->out);
    if (!rc) rc = lock_open(c->out, &r->lock);
    if (!rc) rc = sys_mkdirs(checkpoints);
    if (!rc) rc = sys_probe_writable(checkpoints);
    if (!rc) durable_sweep(checkpoints), durable_sweep(c->out);
    if (!rc) rc = append_open(log, &r->log);
    if (!rc) log_attach(r->log);
    free(checkpoints), free(log);
    return rc;
}

/* metrics.jsonl holds exactly what the state has counted. */
static Err open_metrics(Run *r) {
    char *path = in_run(r, "metrics.jsonl");
    uint64_t bytes = 0;
    Err rc = OK;
    if (sys_exists(path)) {
        rc = sys_file_size(path, EXIT_OUTPUT, &bytes);
        if (!rc && bytes > r->s.metrics_bytes) rc = sys_truncate(path, r->s.metrics_bytes);
    }
    if (!rc && bytes < r->s.metrics_bytes)
        log_warn("%s: shorter than at the checkpoint; the lines before step %" PRId64 " are lost",
                 path, r->s.step);
    if (!rc) rc = append_open(path, &r->metrics);
    free(path);
    return rc;
}

static void metrics_line(Run *r, char *line) { /* takes line */
    if (append_line(r->metrics, line) && !r->log_failed) {
        log_warn("%s; training goes on, the log is incomplete", err_text());
        r->log_failed = true;
    }
    free(line);
}

static double eta_seconds(const Run *r) {
    const Config *c = r->c;
    int64_t done = r->s.step - r->session_step, left = c->steps - r->s.step, evals = left > 0;
    if (!done) return NAN;
    double per_step = (sys_now() - r->session_start - r->session_aside) / (double)done;
    double train = per_step * (double)left, eval = isnan(r->s.eval_seconds) ? 0 : r->s.eval_seconds;
    if (c->eval_every.steps > 0)
        evals += (c->steps - 1) / c->eval_every.steps - r->s.step / c->eval_every.steps;
    else if (c->eval_every.seconds > 0) evals += (int64_t)(train / c->eval_every.seconds);
    return train + eval * (double)evals;
}

static void write_status(Run *r, const char *state, int exit_code) {
    RunStatus st = {.state = state,
                    .step = r->s.step,
                    .steps = r->c->steps,
                    .eval_step = r->s.eval_step,
                    .exit_code = exit_code,
                    .eta_s = exit_code || strcmp(state, "running") ? 0 : eta_seconds(r),
                    .miou = r->s.last,
                    .best = r->s.best,
                    .last = r->has_last ? &r->last : NULL,
                    .log_incomplete = r->log_failed};
    if (status_write(r->c, &st) && !r->log_failed) {
        log_warn("%s; training goes on", err_text());
        r->log_failed = true;
    }
    r->status_at = sys_now();
}

static void report(Run *r) {
    const double start = sys_now();
    if (r->hooks && r->hooks->report && r->hooks->report(r->c->out, r->hooks->arg))
        log_warn("report: %s", err_text());
    r->reported_at = sys_now(), r->report_s = r->reported_at - start;
}

/* The page of a long run takes seconds: it may have a fiftieth of the time. */
static void report_now_and_then(Run *r) {
    enum { SHARE = 50 };
    if (sys_now() - r->status_at < r->c->report_every_s) return;
    write_status(r, "running", 0);
    if (sys_now() - r->reported_at >= SHARE * r->report_s) report(r);
}

static void show_evaluation(Run *r) {
    const TrainView v = {r->s.step, r->val, job_student(r->job), job_nodes(r->job)};
    if (r->hooks && r->hooks->evaluated && r->hooks->evaluated(&v, r->hooks->arg))
        log_warn("report: %s", err_text());
}

/* ---- opening -------------------------------------------------------------------------------- */

static Err open_data(Run *r) {
    const Config *c = r->c;
    if (!c->data.kind)
        return err_set(E(2, 76), "data.kind is not set; give data=camvid:DIR or data=scenes");
    if (!c->student.model)
        return err_set(E(2, 76),
                       "student.model is not set; give student.model=NAME, see retort info");
    TRY(dataset_open_training(&c->data, &r->train));
    TRY(dataset_open(&c->data, c->eval_split, &r->val));
    if (r->train->n_classes != r->val->n_classes)
        return err_set(E(3, 37), "train and %s have different classes", c->eval_split);
    TRY(job_check_classes(c, r->train));
    r->data = c->data;
    TRY(dataset_crop(r->train, &r->data));
    r->train_data = dataset_fingerprint(r->train), r->val_data = dataset_fingerprint(r->val);
    return OK;
}

/* k: the checkpoint to go on from, or without path. What began without choices goes on without them. */
static Choices *open_choices(const Run *r, const Checkpoint *k) {
    const char *text = k->path ? st_meta(&k->file, "choices") : NULL;
    if (k->path) return text ? choices_replay(text) : NULL;
    return r->c->tune ? choices_of_machine(r->c->tune_seconds) : NULL;
}

static Err open_job(Run *r, const Checkpoint *k) {
    const Config *c = r->c;
    r->choices = open_choices(r, k);
    TRY(job_open(c, (int)c->batch, r->data.crop_h, r->data.crop_w, r->train, r->choices, &r->job));
    TRY(optimizer_open(c, job_student(r->job), &r->opt));
    r->config = config_text(c);
    r->chosen = r->choices ? choices_text(r->choices) : NULL;
    r->id = (RunIdentity){.config = r->config,
                          .train_data = r->train_data.hex,
                          .val_data = r->val_data.hex,
                          .teacher = job_teacher_digest(r->job),
                          .class_names = r->train->class_names,
                          .n_classes = r->train->n_classes,
                          .choices = r->chosen,
                          .seed = c->seed,
                          .samples = c->accumulate * c->batch};
    return OK;
}

/* Options first, then data: what is cheap to check, and easy to have got wrong. */
static Err check_resume(const Run *r, const Checkpoint *k) {
    const char *train = st_meta(&k->file, "fingerprint"),
               *val = st_meta(&k->file, "fingerprint_val");
    TRY(config_check_resume(r->c, st_meta(&k->file, "config"), k->path));
    TRY(data_list_check(r->c->out, r->train, train ? train : "", r->train_data.hex));
    return val ? data_list_check(r->c->out, r->val, val, r->val_data.hex) : OK;
}

static Err restore(Run *r) {
    const Config *c = r->c;
    Checkpoint k;
    Err rc = checkpoint_open(c->out, &k, &r->s);
    if (!rc && k.path) {
        rc = check_resume(r, &k);
        r->refused = rc != OK;
    }
    if (!rc) rc = open_job(r, &k);
    if (!rc && k.path) rc = checkpoint_load(&k, job_student(r->job), r->opt, &r->id);
    const bool fresh = !k.path;
    checkpoint_close(&k);
    TRY(rc);
    char *path = in_run(r, "config.yaml");
    rc = config_write(c, path);
    free(path);
    if (!rc && fresh) rc = data_list_write(c->out, r->train);
    if (!rc && fresh) rc = data_list_write(c->out, r->val);
    return rc ? rc : open_metrics(r);
}

static Err open_loader(Run *r) {
    const Config *c = r->c;
    r->data.lent = (int)c->accumulate;
    r->batch = xcalloc((size_t)c->accumulate, sizeof *r->batch);
    r->labels = xcalloc((size_t)c->accumulate, sizeof *r->labels);
    uint64_t first = (uint64_t)r->s.step * (uint64_t)c->accumulate * (uint64_t)c->batch;
    return loader_open(r->train, &r->data, (int)c->batch, (uint64_t)c->seed, first, &r->loader);
}

static void announce(const Run *r) {
    const Config *c = r->c;
    log_info("%s: %d images to train on, %d to validate on, %d classes; %s, %.2f M parameters%s%s",
             c->out, r->train->n, r->val->n, r->train->n_classes, c->student.model,
             (double)net_count_params(job_student(r->job)) / 1e6,
             c->teacher.model ? "; teacher " : "", c->teacher.model ? c->teacher.model : "");
    log_info("batch %" PRId64 " x %" PRId64 " of %dx%d, %" PRId64 " steps, seed %" PRId64
             ", %d threads, %s; results are the same to the bit for the "
             "same threads, processor and libraries",
             c->batch, c->accumulate, r->data.crop_h, r->data.crop_w, c->steps, c->seed,
             parallel_threads(), dtype_name(c->precision));
    if (r->train->unlabelled)
        log_info("%d of %" PRId64 " images of a batch are without labels, of %d in %s",
                 unlabelled_count(&c->data, (int)c->batch), c->batch, r->train->unlabelled->n,
                 c->data.unlabelled);
    if (r->s.step == 0 && !strcmp(c->student_weights, "none") && !job_student(r->job)->has_weights)
        log_warn("the backbone starts from random weights; docs/weights.md tells which file fits "
                 "student.weights");
    if (c->accumulate > 1 && job_gathers(r->job, (const float[]){1, 1}))
        log_info("a loss is defined over the whole update: its %" PRId64
                 " micro-batches are run forward twice by the student "
                 "(min_kept_scope or scope=micro-batch takes each by itself)",
                 c->accumulate);
}

/* ---- evaluation and saving ------------------------------------------------------------------ */

static void swap_ema(Run *r) {
    Net *n = job_student(r->job);
    for (int64_t i = 0; i < n->n_values; i++) {
        float t = n->values[i];
        n->values[i] = r->opt->ema[i], r->opt->ema[i] = t;
    }
    n->version++;
}

static double miou_of(const Confusion *m) {
    Scores s;
    confusion_scores(m, &s);
    double v = s.miou;
    scores_free(&s);
    return v;
}

static void keep_best(Run *r, double miou) { /* the net holds the weights in question */
    if (isnan(miou) || (!isnan(r->s.best) && miou <= r->s.best)) return;
    char *path = in_run(r, "best.safetensors");
    if (checkpoint_weights(path, job_student(r->job), &r->s, &r->id))
        log_warn("%s; training goes on", err_text());
    else r->s.best = miou, r->s.best_step = r->s.step;
    free(path);
}

/* A finite loss and gradient can still push weights or running statistics over the edge. Such
 * weights are neither judged nor saved: what lies on the disk stays good. */
static Err check_weights(const Run *r) {
    const Net *n = job_student(r->job);
    for (int k = 0; k < n->n_params; k++) {
        const NetParam *p = &n->params[k];
        for (int64_t i = 0; p->kind != PARAM_COUNT && i < shape_count(p->shape); i++)
            if (!isfinite(p->data[i]))
                return err_set(E(8, 62),
                               "step %" PRId64 ": %s is not finite at element %" PRId64
                               "; nothing was saved; lower train.lr or set train.clip as a new run "
                               "with another out=",
                               r->s.step, p->name, i);
    }
    return OK;
}

/* By eval.mode and its company, as `retort eval` would. */
static Err evaluate_student(Run *r, Confusion *out) {
    Predictor *p;
    Evaluation e = {.confusion = out};
    TRY(predictor_open(job_student(r->job), job_nodes(r->job), &r->c->infer, &p));
    predictor_lend(p, job_student_plan(r->job));
    Err rc = evaluate_with(p, r->val, r->c->eval_images, &e);
    predictor_close(p);
    return rc;
}

static Err evaluate_both(Run *r, Confusion *raw, Confusion *ema) {
    TRY(evaluate_student(r, raw));
    double first = miou_of(raw), second = NAN;
    if (ema) {
        swap_ema(r);
        Err rc = evaluate_student(r, ema);
        second = miou_of(ema);
        if (!rc && second > first) keep_best(r, second);
        swap_ema(r);
        TRY(rc);
    }
    if (!(second > first)) keep_best(r, first);
    r->s.last = second > first ? second : first;
    return OK;
}

static Err run_evaluation(Run *r) {
    const Config *c = r->c;
    TRY(check_weights(r));
    double start = sys_now();
    Confusion *raw = confusion_open(r->val->n_classes),
              *ema = r->opt->ema ? confusion_open(r->val->n_classes) : NULL;
    Err rc = evaluate_both(r, raw, ema);
    if (!rc) {
        double seconds = sys_now() - start;
        r->s.eval_seconds = seconds;
        r->s.eval_step = r->s.step;
        metrics_line(r, metrics_eval_line(r->s.step, r->val, raw, ema, seconds));
        log_info("step %" PRId64 ": mIoU %.2f %% on %s (%" PRId64
                 " images, %.1f s), best %.2f %% at step %" PRId64,
                 r->s.step, 100 * r->s.last, c->eval_split, raw->images, seconds, 100 * r->s.best,
                 r->s.best_step);
        show_evaluation(r);
        r->evaluated_at = sys_now();
        write_status(r, "running", 0);
    }
    confusion_close(raw), confusion_close(ema);
    r->session_aside += sys_now() - start;
    return rc;
}

/* A full or failing disk is no reason to stop at once: warn, train on, try again at the next
 * interval. */
static Err save(Run *r, bool must) {
    TRY(check_weights(r));
    double start = sys_now();
    if (append_sync(r->metrics) && !r->log_failed)
        log_warn("%s; training goes on, the log is incomplete", err_text()), r->log_failed = true;
    r->s.metrics_bytes = append_bytes(r->metrics);
    Err rc = checkpoint_write(r->c->out, job_student(r->job), r->opt, &r->s, &r->id,
                              r->c->checkpoint_keep);
    r->saved_at = sys_now();
    r->session_aside += r->saved_at - start;
    if (!rc) return r->misses = 0, OK;
    if (must || ++r->misses >= MISSES_MAX)
        return err_wrap(rc, "the checkpoint of step %" PRId64 " could not be written", r->s.step);
    log_warn("checkpoint of step %" PRId64
             " not written: %s; training goes on, next try at the next interval (%d of %d)",
             r->s.step, err_text(), r->misses, MISSES_MAX);
    return OK;
}

/* ---- steps ---------------------------------------------------------------------------------- */

/* samples: how many, up to the last of b, may be the cause. */
static Err not_finite(const Run *r, const Batch *b, int64_t samples, const StepResult *x,
                      const char *what) {
    Str s = {0};
    const uint64_t end = b->first_sample + (uint64_t)b->n;
    for (int i = 0; i < r->c->n_losses; i++)
        str_addf(&s, ", %s %g", r->c->losses[i].label, x->terms[i]);
    Err rc = err_set(
        E(8, 62),
        "step %" PRId64 ": %s is not finite (task %g%s; samples %" PRIu64 " to %" PRIu64
        "); nothing was updated; "
        "lower train.lr or set train.clip as a new run with another out=, or look at these samples",
        r->s.step + 1, what, x->task, s.n ? s.s : "", end - (uint64_t)samples, end - 1);
    str_free(&s);
    return rc;
}

static bool finite_result(const Run *r, const StepResult *x) {
    bool good = isfinite(x->total) && isfinite(x->task);
    for (int i = 0; i < r->c->n_losses; i++) good = good && isfinite(x->terms[i]);
    return good;
}

/* Run both stages once on the first batch, so that a bad option fails now and not at the switch.
 * The running statistics and counts are put back; weights are not touched. */
static Err dry_run(Run *r, const Batch *b) {
    Moved moved = {0};
    moved_keep(job_student(r->job), &moved);
    Err rc = OK;
    for (int i = 0; i < 2 && !rc; i++) {
        const float stage[2] = {i == 0, i == 1};
        StepResult x;
        rc = job_step(r->job, b, (uint64_t)r->c->seed, stage, false, &x);
        if (!rc && !finite_result(r, &x)) rc = not_finite(r, b, b->n, &x, "the loss");
    }
    moved_put_back(job_student(r->job), &moved);
    moved_free(&moved);
    job_forget(r->job);
    r->dry = true;
    return rc;
}

static void add_result(StepResult *sum, const StepResult *x, double share, int n_losses) {
    sum->total += share * x->total, sum->task += share * x->task, sum->aux += share * x->aux;
    sum->kept_main += share * x->kept_main, sum->kept_aux += share * x->kept_aux,
        sum->staged = x->staged;
    for (int i = 0; i < n_losses; i++) sum->terms[i] += share * x->terms[i];
    sum->n_kept = x->n_kept;
    for (int k = 0; k < x->n_kept; k++) { /* of those that show the class */
        double *mean = &sum->kept_class[k];
        if (isnan(x->kept_class[k])) continue;
        *mean += (x->kept_class[k] - *mean) / ++sum->showing[k];
    }
}

/* Do the terms pull the same way? Measured on the batch just learnt; its cost is told. */
static void show_conflict(Run *r, const Batch *b) {
    const Config *c = r->c;
    const int64_t step = r->s.step + 1;
    Conflict x;
    Str s = {0};
    if (!c->gradients_every || step % c->gradients_every || !c->n_losses) return;
    job_conflict(r->job, b, (uint64_t)c->seed, &x);
    r->conflict_s += x.seconds;
    for (int i = 0; i < c->n_losses; i++)
        str_addf(&s, ", %s %.3g (cosine %.3f)", c->losses[i].label, x.norm[1 + i], x.cosine[1 + i]);
    log_progress_end();
    log_info("step %" PRId64
             ": gradients of task %.3g%s; measuring took %.2f s, %.1f %% of the time so far",
             step, x.norm[0], s.s, x.seconds, 100 * r->conflict_s / (sys_now() - r->session_start));
    metrics_line(r, metrics_conflict_line(c, step, &x));
    str_free(&s);
}

static Err micro_batch(Run *r, const Batch *b, const float stage[2], bool accumulate,
                       StepResult *sum, bool update) {
    const Config *c = r->c;
    StepResult x;
    Err rc = job_step(r->job, b, (uint64_t)c->seed, stage, accumulate, &x);
    if (!rc && !finite_result(r, &x)) rc = not_finite(r, b, b->n, &x, "the loss");
    if (!rc) add_result(sum, &x, 1.0 / (double)c->accumulate, c->n_losses);
    if (!rc && update) {
        sum->grad_norm = optimizer_step(r->opt, r->s.step);
        if (isnan(sum->grad_norm))
            rc = not_finite(r, b, c->accumulate * c->batch, &x, "the gradient");
        else job_update(r->job);
        if (!rc) show_conflict(r, b);
    }
    return rc;
}

/* One update: its micro-batches wait in the loader's ring, since what a loss divides by may be counted over
 * all of them; terms that need more of the whole see every one twice. */
static Err all_micro_batches(Run *r, const float stage[2], StepResult *sum) {
    const Config *c = r->c;
    const int n = (int)c->accumulate;
    Parts p = {.parts = n, .labels = r->labels};
    for (int i = 0; i < n; i++) {
        TRY(loader_next(r->loader, &r->batch[i]));
        r->stall_s += r->batch[i]->wait_s, r->line_stall += r->batch[i]->wait_s;
        r->labels[i] = r->batch[i]->labels;
    }
    if (r->s.step == 0 && !r->dry) TRY(dry_run(r, r->batch[0]));
    job_parts(r->job, n > 1 ? &p : NULL);
    p.gather = true;
    if (n > 1 && job_gathers(r->job, stage))
        for (p.part = 0; p.part < n; p.part++)
            job_gather(r->job, r->batch[p.part], (uint64_t)c->seed, stage);
    p.gather = false;
    Err rc = OK;
    for (p.part = 0; p.part < n && !rc; p.part++)
        rc = micro_batch(r, r->batch[p.part], stage, p.part > 0, sum, p.part + 1 == n);
    job_parts(r->job, NULL);
    for (int k = 0; k < sum->n_kept; k++)
        if (!sum->showing[k]) sum->kept_class[k] = NAN;
    for (int i = 0; i < n; i++) loader_done(r->loader, r->batch[i]);
    return rc;
}

static void show_progress(const Run *r) {
    const Config *c = r->c;
    Str s = {0};
    for (int i = 0; i < c->n_losses; i++)
        str_addf(&s, ", %s %.4g", c->losses[i].label, r->last.terms[i]);
    double spent = sys_now() - r->session_start - r->session_aside, eta = eta_seconds(r);
    double rate = (double)((r->s.step - r->session_step) * c->batch * c->accumulate) / spent;
    Str curve = {0};
    if (r->draws) spark_text(&curve, r->curve.mean, r->curve.n), str_add(&curve, " ");
    log_progress("step %" PRId64 "/%" PRId64
                 "  loss %s%.5g (task %.4g%s)  %.1f images/s, %.0f %% waiting for data  %s left",
                 r->s.step, c->steps, curve.n ? curve.s : "", r->last.total, r->last.task,
                 s.n ? s.s : "", rate, 100 * r->stall_s / spent, duration_text(eta).s);
    str_free(&s), str_free(&curve);
}

static void log_metrics(Run *r, const float stage[2], double lr) {
    const Config *c = r->c;
    double now = sys_now(), span = now - r->line_at;
    int64_t images = (r->s.step - r->line_step) * c->batch * c->accumulate;
    const int64_t labelled =
        c->batch - (r->train->unlabelled ? unlabelled_count(&c->data, (int)c->batch) : 0);
    double epoch = (double)r->s.step * (double)(labelled * c->accumulate) / (double)r->train->n;
    metrics_line(r, metrics_train_line(c, r->s.step, epoch, lr, &r->last, stage,
                                       (double)images / span, r->line_stall / span, r->train));
    r->line_at = now, r->line_stall = 0, r->line_step = r->s.step;
}

static void watch_stage(Run *r) {
    StageSwitch *w = &r->s.stages;
    const double before = w->before;
    if (!r->last.staged || !stage_watch(r->c, w, r->s.step, r->last.task)) return;
    log_progress_end();
    log_info(
        "step %" PRId64
        ": the first stage ends here (switch=auto, experimental): its loss was %.4g on average, %.4g before",
        r->s.step, w->n ? w->sum / (double)w->n : w->before, before);
}

static Err one_step(Run *r) {
    const Config *c = r->c;
    float stage[2];
    StepResult sum = {0};
    stage_weights(c, r->s.step, &r->s.stages, stage);
    double lr = optimizer_lr(c, r->s.step);
    TRY(all_micro_batches(r, stage, &sum));
    r->s.step++;
    r->last = sum, r->has_last = true;
    watch_stage(r);
    spark_add(&r->curve, sum.total);
    if (r->s.step % c->metrics_every == 0 || r->s.step == c->steps || r->s.step == 1)
        log_metrics(r, stage, lr);
    show_progress(r);
    return OK;
}

static bool evaluation_due(const Run *r) {
    const OptEvery *e = &r->c->eval_every;
    if (r->s.step == 0 || r->s.eval_step == r->s.step) return false;
    if (r->s.step == r->c->steps) return true;
    return e->steps > 0 ? r->s.step % e->steps == 0
                        : e->seconds > 0 && sys_now() - r->evaluated_at >= e->seconds;
}

static bool save_due(const Run *r) {
    const OptEvery *e = &r->c->checkpoint_every;
    if (r->s.step == r->c->steps) return true;
    return e->steps > 0 ? r->s.step % e->steps == 0
                        : sys_now() - r->saved_at >= (e->seconds > 0 ? e->seconds : 600);
}

static Err stop_for_signal(Run *r, int sig) {
    log_progress_end();
    TRY(save(r, true));
    char by[32] = "on request";
    if (!sys_stop_asked()) snprintf(by, sizeof by, "by signal %d", sig);
    log_info("stopped %s after step %" PRId64
             "; everything is saved: the same command goes on from here",
             by, r->s.step);
    return err_set(128 + sig, "stopped by signal %d", sig);
}

/* Everything that happens between two steps. An evaluation cut short by a signal is done again on
 * resume. */
static Err step_edge(Run *r) {
    int sig = sys_signal_pending();
    if (sig) return stop_for_signal(r, sig);
    if (evaluation_due(r)) {
        log_progress_end();
        Err rc = run_evaluation(r);
        if (rc >= 128 && rc < 1000) return stop_for_signal(r, rc - 128);
        TRY(rc);
    }
    report_now_and_then(r);
    return OK;
}

static Err loop(Run *r) {
    const Config *c = r->c;
    r->session_start = r->saved_at = r->evaluated_at = r->line_at = sys_now();
    r->session_step = r->line_step = r->s.step;
    r->draws = sys_isatty(2) && sys_utf8();
    write_status(r, "running", 0);
    report(r);
    TRY(step_edge(r));
    while (r->s.step < c->steps) {
        TRY(one_step(r));
        TRY(step_edge(r));
        if (save_due(r)) TRY(save(r, r->s.step == c->steps));
    }
    log_progress_end();
    return OK;
}

static Err finish(Run *r) {
    char *path = in_run(r, "last.safetensors");
    Err rc = checkpoint_weights(path, job_student(r->job), &r->s, &r->id);
    free(path);
    if (rc) return rc;
    write_status(r, "done", 0);
    report(r);
    log_info("done: %" PRId64 " steps, mIoU %.2f %% (best %.2f %% at step %" PRId64
             "); weights in %s/best.safetensors and last.safetensors",
             r->s.step, 100 * r->s.last, 100 * r->s.best, r->s.best_step, r->c->out);
    return OK;
}

static void close_run(Run *r) {
    loader_close(r->loader);
    optimizer_close(r->opt);
    job_close(r->job);
    dataset_close(r->train), dataset_close(r->val);
    append_close(r->metrics);
    log_attach(NULL);
    append_close(r->log);
    lock_close(r->lock);
    choices_close(r->choices);
    free(r->config), free(r->chosen), free(r->batch), free(r->labels);
}

/* Of a run that goes on everything was checked when it began. */
static Err check_first(Run *r) {
    char *begun = checkpoint_newest(r->c->out);
    const bool fresh = !begun;
    free(begun);
    return fresh && r->hooks && r->hooks->check ? r->hooks->check(r->c, r->hooks->arg) : OK;
}

static Err run_all(Run *r) {
    TRY(check_first(r));
    TRY(open_data(r));
    TRY(restore(r));
    announce(r);
    TRY(open_loader(r));
    TRY(loop(r));
    return finish(r);
}

/* The caller prints the error line when the log is closed already; it belongs into the log too. */
static void log_failure(Run *r, Err rc, const char *text) {
    char *line = xprintf("error E%04d %s", rc, text);
    if (append_line(r->log, line)) r->log_failed = true;
    free(line);
}

Err train_run_with(const Config *c, const TrainHooks *hooks) {
    Run r = {.c = c, .hooks = hooks};
    r.s = (RunState){.eval_step = -1,
                     .best_step = -1,
                     .best = NAN,
                     .last = NAN,
                     .eval_seconds = NAN,
                     .stages = {.at = -1, .before = NAN}};
    sys_catch_signals();
    parallel_set_threads((int)c->threads);
    Err rc = open_dir(&r);
    if (!rc) {
        rc = run_all(&r);
        if (rc) {
            char *text = xstrdup(err_text()); /* writing the status may set another */
            log_progress_end();
            if (rc >= 1000) log_failure(&r, rc, text);
            if (!r.refused)
                write_status(&r, rc >= 128 && rc < 1000 ? "stopped" : "failed", err_exit_code(rc));
            if (r.metrics) report(&r); /* what there is, up to the last line */
            err_set(rc, "%s", text);
            free(text);
        }
    }
    close_run(&r);
    return rc;
}

Err train_run(const Config *c) {
    return train_run_with(c, NULL);
}
