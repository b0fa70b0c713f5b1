/* cmd_bench.c - `retort bench step|start|infer|loss|loader`: times as JSON, medians, ratios within one run.
 *
 *   infer   one network forward, as evaluation and a teacher run it
 *   step    one training step beside the time of its bare convolutions, measured between the steps
 *   start   from weights on the disk to the end of the first step, less one median step
 *   loss    forward and backward of the task losses and of kd, both heads, on random logits
 *   loader  images per second of one core: read, scale, crop, mirror */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cpu.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "base/stats.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/open_model.h"
#include "io/safetensors.h"
#include "train/trainer.h"

/* ---- JSON ----------------------------------------------------------------------------------------- */
static void json_key(Str *s, const char *key) {
    str_add(s, s->n ? ", " : "{");
    str_json(s, key);
    str_add(s, ": ");
}
static void json_number(Str *s, const char *key, double v) {
    json_key(s, key), str_json_number(s, v);
}
static void json_text(Str *s, const char *key, const char *v) { json_key(s, key), str_json(s, v); }

/* What was measured on. */
static void json_machine(Str *s) {
    json_number(s, "threads", parallel_threads());
    json_text(s, "onednn", backend_version());
    json_text(s, "isa", backend_isa());
    json_text(s, "version", RETORT_VERSION);
}

/* To stdout and, with json=, to a file. */
static Err json_put(Str *s, const Config *c) {
    str_add(s, "}\n");
    fputs(s->s, stdout);
    Err rc = c->json && *c->json ? durable_write_all(c->json, s->s, s->n) : OK;
    str_free(s);
    return rc;
}

/* ---- a batch of noise in blocks ------------------------------------------------------------------- */
static void batch_make(Batch *b, int n, int h, int w, int classes) {
    int64_t pixels = (int64_t)n * h * w;
    Rng r = rng_stream(1, RNG_SCENES, 0, 0);
    *b = (Batch){.n = n, .h = h, .w = w};
    b->images = xcalloc((size_t)pixels, 3);
    b->labels = xcalloc((size_t)pixels, sizeof *b->labels);
    b->rects = xcalloc((size_t)n * 4, sizeof *b->rects);
    for (int64_t i = 0; i < 3 * pixels; i++)
        b->images[i] = (uint8_t)rng_below(&r, (uint64_t)i, 256);
    for (int64_t i = 0; i < pixels; i++) {
        int64_t block = i / ((int64_t)w * 24) * 64 + i % w / 24;         /* squares of 24, one in 16 void */
        uint32_t draw = rng_below(&r, (uint64_t)block, (uint32_t)classes * 16);
        b->labels[i] = draw % 16 ? (int32_t)(draw / 16) : -1;
    }
    for (int i = 0; i < n; i++) b->rects[4 * i + 2] = w, b->rects[4 * i + 3] = h;
}

static void batch_free(Batch *b) {
    free(b->images);
    free(b->labels);
    free(b->rects);
}

/* ---- step ------------------------------------------------------------------------------------------ */
typedef enum {
    PART_STEP,
    PART_TEACHER,
    PART_FORWARD,
    PART_LOSS,
    PART_BACKWARD,
    PART_OPTIMIZER,
    PART_OTHER,
    PART_BARE,
    PARTS
} Part;
static const char *const part_names[PARTS] = {"step",     "teacher",   "forward", "loss",
                                              "backward", "optimizer", "other",   "bare_convs"};
enum { STEPS_MAX = 1000, TIMES_MAX = 8192, WARM_STEPS = 2 };

typedef struct Bench {
    const Config *c;
    Choices   *choices;              /* NULL: untuned */
    Job       *job;
    Optimizer *optimizer;
    Batch      batch;
    StepTime  *times;                /* [TIMES_MAX] */
    double     ms[PARTS][STEPS_MAX];
    double     start, open_s, first_s;   /* sys_now() when the bench began; seconds until all is made, to the end of the first step */
    bool       start_only;           /* `bench start` */
    double     loaded_mb;            /* resident before the first step: libraries, weights, plans not yet run */
} Bench;

static double plan_ms(Bench *b, Plan *p, double *loss, double *backward) {
    double forward = 0;
    int n = p ? plan_step_times(p, b->times, TIMES_MAX) : 0;
    for (int i = 0; i < n; i++) {
        const StepTime *t = &b->times[i];
        *(t->kind == STEP_LOSS ? loss : t->backward ? backward : &forward) += t->ms;
    }
    return forward;
}

static Err bench_one(Bench *b, int step, double out[PARTS]) {
    const float stage[2] = {0, 1};                       /* TSE: the dearer stage, and the longer one */
    StepResult result;
    double start = sys_now(), middle, loss = 0, backward = 0, none = 0;
    TRY(job_step(b->job, &b->batch, 1, stage, false, &result));
    middle = sys_now();
    optimizer_step(b->optimizer, step);
    double end = sys_now();
    out[PART_STEP] = 1e3 * (end - start);
    out[PART_OPTIMIZER] = 1e3 * (end - middle);
    out[PART_TEACHER] = plan_ms(b, job_teacher_plan(b->job), &none, &none);
    out[PART_FORWARD] = plan_ms(b, job_student_plan(b->job), &loss, &backward);
    out[PART_LOSS] = loss, out[PART_BACKWARD] = backward;
    out[PART_OTHER] = out[PART_STEP];
    for (int p = PART_TEACHER; p < PART_OTHER; p++) out[PART_OTHER] -= out[p];
    if (step == 0) return OK;            /* the start: nothing but the step */
    start = sys_now();
    if (job_teacher_plan(b->job)) plan_run_convs(job_teacher_plan(b->job));
    plan_run_convs(job_student_plan(b->job));
    out[PART_BARE] = 1e3 * (sys_now() - start);
    return OK;
}

typedef struct { StepTime t; double lost_ms; } TraceRow;

static int compare_lost(const void *a, const void *b) {
    double x = ((const TraceRow *)a)->lost_ms, y = ((const TraceRow *)b)->lost_ms;
    return (x < y) - (x > y);
}

/* One line per primitive, the most time lost first. Its limit: the best arithmetic and memory rates that
 * any step of this same run reached. */
static Err write_trace(const StepTime *times, int n, const char *path) {
    double flop_rate = 1, byte_rate = 1;                 /* per ms */
    TraceRow *rows = xcalloc((size_t)n + 1, sizeof *rows);
    for (int i = 0; i < n; i++) {
        rows[i].t = times[i];
        if (times[i].ms < 0.05) continue;                /* too short for a rate */
        flop_rate = fmax(flop_rate, times[i].flops / times[i].ms);
        byte_rate = fmax(byte_rate, times[i].bytes / times[i].ms);
    }
    for (int i = 0; i < n; i++)
        rows[i].lost_ms =
            rows[i].t.ms - fmax(rows[i].t.flops / flop_rate, rows[i].t.bytes / byte_rate);
    qsort(rows, (size_t)n, sizeof *rows, compare_lost);
    Str s = {0};
    str_add(&s, "lost_ms\tms\tGFLOP/s\tGB/s\tpass\tkind\tlayer\timplementation\n");
    for (int i = 0; i < n; i++) {
        const StepTime *t = &rows[i].t;
        double rate = t->ms > 0 ? 1e-6 / t->ms : 0;
        str_addf(&s, "%.3f\t%.3f\t%.1f\t%.1f\t%s\t%s\t%s\t%s\n", rows[i].lost_ms, t->ms,
                 t->flops * rate, t->bytes * rate,
                 t->weights    ? "weights"
                 : t->backward ? "backward"
                               : "forward",
                 t->what ? t->what : "", t->node ? t->node : "", t->impl ? t->impl : "");
    }
    Err rc = durable_write_all(path, s.s, s.n);
    str_free(&s);
    free(rows);
    return rc;
}

static Err trace_job(Bench *b, const char *path) {
    int n = 0;
    if (job_teacher_plan(b->job))
        n = plan_step_times(job_teacher_plan(b->job), b->times, TIMES_MAX);
    n += plan_step_times(job_student_plan(b->job), b->times + n, TIMES_MAX - n);
    return write_trace(b->times, n, path);
}

static void json_job(Str *s, const Bench *b, int steps) {
    json_text(s, "model", b->c->student.model);
    if (b->c->teacher.model) json_text(s, "teacher_model", b->c->teacher.model);
    json_text(s, "precision", dtype_name(b->c->precision));
    if (b->c->teacher.model) json_text(s, "teacher_precision", dtype_name(b->c->teacher_precision));
    json_number(s, "batch", b->batch.n);
    json_number(s, "height", b->batch.h);
    json_number(s, "width", b->batch.w);
    json_number(s, "steps", steps);
}

/* measured_layers: 0 unless this start was the first of its kind on the machine (train.tune). */
static Err report_start(Bench *b, int steps) {
    Str s = {0};
    const double step = stats_median(b->ms[PART_STEP], steps);
    json_job(&s, b, steps);
    json_number(&s, "open_s", b->open_s);
    json_number(&s, "first_step_s", b->first_s);
    json_number(&s, "step", step);
    json_number(&s, "start_s", b->first_s - step / 1e3);
    json_number(&s, "measured_layers", b->choices ? choices_stats(b->choices).measured : 0);
    json_machine(&s);
    return json_put(&s, b->c);
}

static Err report_step(Bench *b, int steps) {
    Str s = {0};
    double m[PARTS];
    size_t arena = plan_stats(job_student_plan(b->job)).arena_bytes;
    if (job_teacher_plan(b->job)) arena += plan_stats(job_teacher_plan(b->job)).arena_bytes;
    json_job(&s, b, steps);
    for (int p = 0; p < PARTS; p++) json_number(&s, part_names[p], m[p] = stats_median(b->ms[p], steps));
    json_number(&s, "ratio", m[PART_STEP] / m[PART_BARE]);
    json_number(&s, "peak_rss_mb", (double)sys_peak_rss() / 1e6);
    json_number(&s, "loaded_rss_mb", b->loaded_mb);
    json_number(&s, "arena_mb", (double)arena / 1e6);
    json_number(&s, "first_step_s", b->first_s);
    json_number(&s, "measured_layers", b->choices ? choices_stats(b->choices).measured : 0);
    json_machine(&s);
    return json_put(&s, b->c);
}

static Err bench_steps(Bench *b, int steps) {
    double out[PARTS] = {0};
    for (int i = -WARM_STEPS; i < steps; i++) {
        TRY(bench_one(b, i + WARM_STEPS, out));
        if (i == -WARM_STEPS) {
            b->first_s = sys_now() - b->start;
            plan_profile(job_student_plan(b->job), true);
            if (job_teacher_plan(b->job)) plan_profile(job_teacher_plan(b->job), true);
        }
        for (int p = 0; p < PARTS && i >= 0; p++) b->ms[p][i] = out[p];
        int signal = sys_signal_pending();
        if (signal) return err_set(128 + signal, "bench: stopped by signal %d", signal);
    }
    if (b->c->trace && *b->c->trace) TRY(trace_job(b, b->c->trace));
    return b->start_only ? report_start(b, steps) : report_step(b, steps);
}

static Err bench_job(Config *c, int h, int w, bool start_only) {
    Bench *b = xcalloc(1, sizeof *b);
    b->start_only = start_only;
    b->start = sys_now();
    int steps = c->steps > STEPS_MAX ? 20 : (int)c->steps;           /* the configuration's default is a whole training */
    if (!c->student.classes) c->student.classes = 11;
    if (!c->teacher.classes) c->teacher.classes = c->student.classes;
    b->c = c;
    b->times = xcalloc(TIMES_MAX, sizeof *b->times);
    batch_make(&b->batch, (int)c->batch, h, w, c->student.classes);
    b->choices = c->tune ? choices_of_machine(c->tune_seconds) : NULL;
    Err rc = job_open(c, (int)c->batch, h, w, NULL, b->choices, &b->job);
    if (!rc) rc = optimizer_open(c, job_student(b->job), &b->optimizer);
    b->open_s = sys_now() - b->start, b->loaded_mb = (double)sys_rss() / 1e6;
    if (!rc) rc = bench_steps(b, steps);
    if (b->optimizer) optimizer_close(b->optimizer);
    if (b->job) job_close(b->job);
    choices_close(b->choices);
    batch_free(&b->batch);
    free(b->times);
    free(b);
    return rc;
}

static Err bench_step(Config *c, int h, int w) { return bench_job(c, h, w, false); }

/* ---- start ----------------------------------------------------------------------------------------- */
/* The network's own formula weights, as a file. */
static Err put_weights(const ModelOptions *o, int h, int w, const char *path) {
    Net *n;
    ModelNodes m;
    TRY(model_open(o, h, w, &n, &m));
    net_init_formula(n, 1);
    Tensor *t = xcalloc((size_t)n->n_params, sizeof *t);
    for (int i = 0; i < n->n_params; i++) {
        NetParam *p = &n->params[i];
        const bool count = p->kind == PARAM_COUNT;
        t[i] = (Tensor){p->name, count ? DT_I64 : DT_F32, p->shape,
                        count ? (void *)&p->count : p->data};
    }
    Err rc = st_write(path, t, n->n_params, NULL, 0);
    free(t);
    net_close(n);
    return rc;
}

/* Both networks start from files, as they do in use; the files are written first, so the disk's cache holds them. */
static Err bench_start(Config *c, int h, int w) {
    char *path[2] = {NULL, NULL};
    ModelOptions *const net[2] = {&c->student, &c->teacher};
    const char **const weights[2] = {&c->student_weights, &c->teacher_weights};
    Err rc = OK;
    for (int i = 0; i < 2 && !rc; i++) {
        if (!net[i]->model || model_is_onnx(net[i]->model)) continue;
        if (*weights[i] && strcmp(*weights[i], "none") && !str_starts(*weights[i], "formula:")) continue;     /* a file of the caller's */
        if (!net[i]->classes) net[i]->classes = 11;
        path[i] = xprintf("bench-%d-%d.safetensors", sys_pid(), i);
        rc = put_weights(net[i], h, w, path[i]);
        *weights[i] = path[i];
    }
    if (!rc) rc = bench_job(c, h, w, true);
    for (int i = 0; i < 2; i++) {
        if (path[i] && sys_exists(path[i])) sys_remove(path[i]);
        free(path[i]);
    }
    return rc;
}

/* ---- infer ----------------------------------------------------------------------------------------- */
/* Times of `runs` forward passes; afterwards, with a trace wanted, one more that is profiled. */
static Err time_infer(const Config *c, Plan *p, int runs, double *ms) {
    for (int i = -WARM_STEPS; i < runs; i++) {
        const double start = sys_now();
        plan_run(p, &(OpRun){0}, false);
        if (i >= 0) ms[i] = 1e3 * (sys_now() - start);
    }
    if (!c->trace || !*c->trace) return OK;
    StepTime *times = xcalloc(TIMES_MAX, sizeof *times);
    plan_profile(p, true);
    plan_run(p, &(OpRun){0}, false);
    Err rc = write_trace(times, plan_step_times(p, times, TIMES_MAX), c->trace);
    free(times);
    return rc;
}

static Err bench_infer(Config *c, int h, int w) {
    const int runs = c->runs > 1 && c->runs <= STEPS_MAX ? (int)c->runs : 20, batch = (int)c->batch;
    ModelOptions o = c->student;
    Net *n = NULL;
    Plan *p = NULL;
    ModelNodes m;
    Batch b = {0};
    double ms[STEPS_MAX];
    o.frozen = true;
    if (!o.classes && !model_is_onnx(o.model)) o.classes = 11;
    Err rc = model_open(&o, h, w, &n, &m);
    if (!rc) rc = model_load_weights(n, c->weights ? c->weights : "none", (uint64_t)c->seed, 0);
    if (!rc && !m.rects.id)
        rc = err_set(E(EXIT_USAGE, 76), "bench: norm=none takes no pictures; leave it out");
    if (!rc)
        rc =
            plan_make(n,
                      &(PlanSpec){.outputs = &m.logits,
                                  .n_outputs = 1,
                                  .inputs = (Node[]){m.image, m.rects},
                                  .input_shapes = (Shape[]){SHAPE(batch, h, w, 3), SHAPE(batch, 4)},
                                  .n_inputs = 2},
                      &p);
    if (!rc) {
        batch_make(&b, batch, h, w, 11);
        plan_bind(p, m.image, b.images), plan_bind(p, m.rects, b.rects);
        rc = time_infer(c, p, runs, ms);
    }
    Str s = {0};
    if (!rc) {
        json_text(&s, "model", o.model);
        json_number(&s, "batch", batch), json_number(&s, "height", h), json_number(&s, "width", w);
        json_number(&s, "infer_ms", stats_median(ms, runs));
        json_number(&s, "gmac", plan_macs(p) * 1e-9);
        json_number(&s, "arena_mb", (double)plan_stats(p).arena_bytes / 1e6);
        json_machine(&s);
        rc = json_put(&s, c);
    }
    plan_close(p);
    net_close(n);
    batch_free(&b);
    return rc;
}

/* ---- loss ------------------------------------------------------------------------------------------ */
typedef struct { const char *key, *method; float stage[2]; } LossRow;
static const LossRow loss_rows[] = {{"ce_ms", "ce", {1, 0}},
                                    {"ohem_ms", "ohem", {1, 0}},
                                    {"rdd_tfe_ms", "rdd", {1, 0}},
                                    {"rdd_tse_ms", "rdd", {0, 1}},
                                    {"kd_ms", "kd", {1, 0}}};
enum { HEADS = 4, LOSS_RUNS = 50 };

static Err time_loss(const LossRow *row, const Batch *b, int classes, int runs, Arena *a,
                     double *ms) {
    const KdMethod *m = method_find(row->method);
    int h = (b->h + 7) / 8, w = (b->w + 7) / 8;
    Shape low = SHAPE(b->n, classes, h, w);
    Net *n = net_open("loss");
    static const char *const names[HEADS] = {"logits", "aux", "t_logits", "t_aux"};
    Node x[HEADS], labels = net_input(n, "labels", DT_I32, SHAPE(b->n, b->h, b->w)),
                   stage = net_input(n, "stage", DT_F32, SHAPE(2));
    for (int i = 0; i < HEADS; i++) x[i] = net_input(n, names[i], DT_F32, low);
    void *opt = arena_alloc(a, m->option_bytes + 1);
    if (m->options) option_defaults(m->options, opt, a);
    Node loss = m->build(n,
                         &(KdSite){.logits = x[0],
                                   .aux = x[1],
                                   .t_logits = x[2],
                                   .t_aux = x[3],
                                   .labels = labels,
                                   .stage = stage},
                         opt);
    Plan *p = NULL;
    float *values = NULL;
    double *t = xcalloc((size_t)runs, sizeof *t);
    Err rc = net_finish(n);
    if (!rc)
        rc = plan_make(n,
                       &(PlanSpec){.training = true,
                                   .loss = loss,
                                   .outputs = &loss,
                                   .n_outputs = 1,
                                   .wanted = x,
                                   .n_wanted = 2},
                       &p);
    if (!rc) {
        int64_t count = shape_count(low);
        Rng r = rng_stream(2, RNG_SCENES, 0, 0);
        values = xcalloc((size_t)(HEADS * count), sizeof *values);
        for (int64_t i = 0; i < HEADS * count; i++) values[i] = 2 * rng_normal(&r, (uint64_t)i);
        for (int i = 0; i < HEADS; i++) plan_bind(p, x[i], values + i * count);
        plan_bind(p, labels, b->labels);
        plan_bind(p, stage, row->stage);
        for (int i = -3; i < runs; i++) {
            double start = sys_now();
            plan_run(p, &(OpRun){.training = true}, false);
            if (i >= 0) t[i] = 1e3 * (sys_now() - start);
        }
        *ms = stats_median(t, runs);
    }
    free(t);
    free(values);
    plan_close(p);
    net_close(n);
    return rc;
}

static Err bench_loss(Config *c, int h, int w) {
    int classes = c->student.classes ? c->student.classes : 11,
        runs = c->runs > 1 ? (int)c->runs : LOSS_RUNS;
    Batch b;
    Str s = {0};
    Err rc = OK;
    batch_make(&b, (int)c->batch, h, w, classes);
    json_number(&s, "batch", b.n);
    json_number(&s, "height", h);
    json_number(&s, "width", w);
    json_number(&s, "classes", classes);
    for (size_t i = 0; i < sizeof loss_rows / sizeof *loss_rows && !rc; i++) {
        double ms = NAN;
        rc = time_loss(&loss_rows[i], &b, classes, runs, c->arena, &ms);
        json_number(&s, loss_rows[i].key, ms);
    }
    batch_free(&b);
    if (rc) { str_free(&s); return rc; }
    json_machine(&s);
    return json_put(&s, c);
}

/* ---- loader ---------------------------------------------------------------------------------------- */
/* Images per second of processor time, over whole epochs and at least so many seconds. */
static Err loader_rate(Loader *l, int64_t images, double seconds, double *out) {
    const double start = sys_now(), cpu = (double)clock() / CLOCKS_PER_SEC;
    int64_t n = 0;
    do {
        for (int64_t end = n + images; n < end;) {
            const Batch *b;
            TRY(loader_next(l, &b));
            n += b->n;
            loader_done(l, b);
        }
    } while (sys_now() - start < seconds);
    *out = (double)n / ((double)clock() / CLOCKS_PER_SEC - cpu);
    return OK;
}

/* The first epoch decodes every file, later ones find them in memory. The loader works ahead, so a ring of
 * batches more or less counts in either. */
static Err bench_loader(Config *c, int h, int w) {
    Dataset *d;
    Loader *l = NULL;
    double rate[2] = {NAN, NAN};
    if (!c->data.kind || !*c->data.kind) c->data.kind = "scenes";
    if (!c->data.scale_min) c->data.scale_min = 0.5, c->data.scale_max = 2;
    c->data.crop_h = h, c->data.crop_w = w;
    TRY(dataset_open_training(&c->data, &d));
    Err rc = loader_open(d, &c->data, (int)c->batch, (uint64_t)c->seed, 0, &l);
    if (!rc) rc = loader_rate(l, d->n, 0, &rate[0]);
    if (!rc) rc = loader_rate(l, d->n, 3, &rate[1]);
    loader_close(l);
    Str s = {0};
    json_text(&s, "data", c->data.kind);
    json_number(&s, "images", (double)d->n);
    json_number(&s, "workers", c->data.workers > 0 ? (double)c->data.workers : 1);
    json_number(&s, "decoding_per_cpu_s", rate[0]);
    json_number(&s, "kept_per_cpu_s", rate[1]);
    json_machine(&s);
    dataset_close(d);
    if (rc) { str_free(&s); return rc; }
    return json_put(&s, c);
}

/* ---- the command ----------------------------------------------------------------------------------- */
/* A teacher given as `teacher=NAME` brings what the published step has: RDD with KD, both heads. Options
 * of the command line come later and win. */
static Err read_config(const CliArgs *args, Arena *a, Config **out) {
    char **opt = arena_alloc(a, (size_t)(args->n_opt + 8) * sizeof *opt);
    int n = 0;
    for (int i = 0; i < args->n_opt; i++)
        if (str_starts(args->opt[i], "teacher=")) {
            opt[n++] = "student.aux=true", opt[n++] = "teacher.aux=true";
            opt[n++] = "teacher.weights=formula:1", opt[n++] = "distill.task=rdd",
            opt[n++] = "distill.losses=[kd]";
            break;
        }
    for (int i = 0; i < args->n_opt; i++)
        opt[n++] = str_starts(args->opt[i], "teacher=")
                       ? arena_printf(a, "teacher.model=%s", args->opt[i] + 8)
                       : args->opt[i];
    return config_read("bench", NULL, opt, n, out);
}

Err cmd_bench(int argc, char **argv) {
    static const struct { const char *name; Err (*run)(Config *, int, int);
    } benches[] = {{"step", bench_step},
                   {"start", bench_start},
                   {"infer", bench_infer},
                   {"loss", bench_loss},
                   {"loader", bench_loader}};
    enum { BENCHES = sizeof benches / sizeof *benches };
    CliArgs args;
    TRY(cli_args(
        "bench",
        "bench step|start|infer|loss|loader [model=NAME] [teacher=NAME] [batch=4] [size=360x360] [json=FILE] [trace=FILE]",
        argc, argv, 0, 1, &args));
    if (args.help) return OK;
    const char *what = args.n_word ? args.word[0] : "step";
    Arena *a = arena_open();
    Config *c = NULL;
    int h = 360, w = 360, which = -1;
    for (int i = 0; i < BENCHES; i++)
        if (!strcmp(benches[i].name, what)) which = i;
    Err rc =
        which < 0
            ? err_set(E(EXIT_USAGE, 76),
                      "bench: %s is not known; choose step, start, infer, loss or loader", what)
            : read_config(&args, a, &c);
    if (!rc) rc = cli_size(c->size, &h, &w);
    if (!rc && which <= 2 && (!c->student.model || !*c->student.model))
        rc = err_set(E(EXIT_USAGE, 76), "bench: no network is named; add model=NAME");
    if (!rc && c->threads) parallel_set_threads((int)c->threads);
    if (!rc) rc = benches[which].run(c, h, w);
    if (c) config_close(c);
    arena_close(a);
    cli_args_close(&args);
    return rc;
}
