/* study_result.c - what the runs of a study gave: scores and counts of every image of the split, the
 * pace of each arm, and the report.
 *
 * RUN/counts.SPLIT.safetensors holds, for every image of the split and every class, the pixels that
 * are right, labelled and predicted so (int32, n x K x 3): all that mIoU of any set of images needs. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "cli/open_model.h"
#include "cli/study_priv.h"
#include "eval/eval.h"
#include "io/safetensors.h"

const char *study_shown_run(const StudyArmJob *a) {
    for (int k = 0; k < a->seeds; k++)
        if (!a->failed[k]) return a->dir[k];
    return NULL;
}

/* ---- one run --------------------------------------------------------------------------------- */
/* Its own steps to the end, with the options that it would have now. */
bool study_run_done(const char *dir, const Config *c) {
    RunData *r = NULL;
    char *last = path_join(dir, "last.safetensors");
    bool done = sys_exists(last) && !run_data_open(dir, &r) && !strcmp(r->state, "done") &&
                r->step == (double)c->steps;
    done = done && !config_check_resume(c, r->config, dir);
    run_data_close(r);
    free(last);
    return done;
}

static char *counts_path(const StudyJob *j, const char *dir) {
    return xprintf("%s/counts.%s.safetensors", dir, j->spec->split);
}

/* Counts of an earlier reading of the same split, n x K x 3 in the job's arena; NULL: none. */
static const int64_t *counts_read(const StudyJob *j, const char *dir, const Dataset *d,
                                  const char *fingerprint) {
    SafeFile f;
    char *path = counts_path(j, dir);
    int64_t *out = NULL;
    if (sys_exists(path) && !st_read(path, EXIT_OUTPUT, &f)) {
        const Tensor *t = tensor_find(f.tensors, "counts");
        const char *of = st_meta(&f, "fingerprint");
        if (t && of && !strcmp(of, fingerprint) && t->dtype == DT_I32 &&
            shape_equal(t->shape, SHAPE(d->n, d->n_classes, 3))) {
            out = arena_alloc(j->arena, (size_t)shape_count(t->shape) * sizeof *out);
            for (int64_t i = 0; i < shape_count(t->shape); i++)
                out[i] = ((const int32_t *)t->data)[i];
        }
        st_close(&f);
    }
    free(path);
    return out;
}

static Err counts_write(const StudyJob *j, const char *dir, const Dataset *d,
                        const char *fingerprint, const int64_t *counts) {
    const Shape shape = SHAPE(d->n, d->n_classes, 3);
    char *path = counts_path(j, dir);
    int32_t *v = xcalloc((size_t)shape_count(shape), sizeof *v);
    for (int64_t i = 0; i < shape_count(shape); i++) v[i] = (int32_t)counts[i];      /* an image has fewer pixels than 2^31 */
    const MetaPair meta[] = {
        {"split", d->split}, {"fingerprint", fingerprint}, {"weights", "last.safetensors"}};
    Err rc =
        st_write(path, &(Tensor){"counts", DT_I32, shape, v}, 1, meta, sizeof meta / sizeof *meta);
    free(v), free(path);
    return rc;
}

/* Images are seen as its trainer and `retort eval` see them. */
static Err count_run(const StudyJob *j, int arm, int seed, Dataset *d, const char *fingerprint) {
    const char *dir = j->arm[arm].dir[seed];
    CliArgs none = {0};
    OpenModel m = {0};
    Predictor *p = NULL;
    Evaluation e;
    char *last = path_join(dir, "last.safetensors");
    log_info("%s: reading %s with the last weights, %d images", dir, d->split, d->n);
    evaluation_open(&e, d->n_classes, d->n, NULL, 0);
    Err rc = open_model("eval", last, &none, 0, 65, 65, &m);
    if (!rc) rc = predictor_open(m.net, &m.nodes, &j->arm[arm].config->infer, &p);
    if (!rc) rc = evaluate_with(p, d, 0, &e);
    if (!rc) rc = counts_write(j, dir, d, fingerprint, e.counts);
    predictor_close(p);
    open_model_close(&m);
    evaluation_close(&e);
    free(last);
    return rc;
}

/* ---- the split ------------------------------------------------------------------------------- */
static int n_runs(const StudyJob *j) {
    int n = 0;
    for (int i = 0; i < j->n; i++) n += j->arm[i].seeds;
    return n;
}
static int n_ended(const StudyJob *j) { return n_runs(j) - j->n_failed; }

/* That the split is looked at now is written down first: who looks twice must be able to see it. */
static Err note_reading(StudyJob *j) {
    StudyState *s = &j->state;
    if (s->n_reads && s->reads[s->n_reads - 1] == n_ended(j)) return OK;
    if (s->n_reads == 16) memmove(s->reads, s->reads + 1, 15 * sizeof *s->reads), s->n_reads--;
    s->reads[s->n_reads++] = n_ended(j);
    return study_state_write(j);
}

Err study_read_split(StudyJob *j) {
    Dataset *d;
    TRY(dataset_open(&j->arm[j->base].config->data, j->spec->split, &d));
    const Digest mark = dataset_fingerprint(d);
    Err rc = note_reading(j);
    for (int i = 0; i < j->n; i++)
        for (int k = 0; k < j->arm[i].seeds && !rc; k++)
            if (!j->arm[i].failed[k] && !counts_read(j, j->arm[i].dir[k], d, mark.hex))
                rc = count_run(j, i, k, d, mark.hex);
    dataset_close(d);
    return rc;
}

/* ---- units: images that belong together ------------------------------------------------------ */
enum { UNITS_FEW = 10, BLOCK = 10 };

static int find_unit(const char **keys, int n, const char *key) {
    int i = n - 1;                   /* neighbours mostly share theirs */
    while (i >= 0 && strcmp(keys[i], key)) i--;
    return i;
}

/* Too few sequences to draw from: cut into blocks of neighbours. */
static int cut_blocks(int *unit_of, int n_images, int n) {
    int *seen = xcalloc((size_t)n, sizeof *seen), *block = xcalloc((size_t)n, sizeof *block),
        blocks = 0;
    for (int i = 0; i < n_images; i++) {
        const int u = unit_of[i];
        if (seen[u]++ % BLOCK == 0) block[u] = blocks++;
        unit_of[i] = block[u];
    }
    free(seen), free(block);
    return blocks;
}

Err study_units(Arena *a, const Dataset *d, const char *group, int *unit_of, int *n,
                const char **what) {
    const char *pattern = strcmp(group, "auto") ? group : d->group ? d->group : "none";
    const char **name = arena_alloc(a, (size_t)d->n * sizeof *name),
               **keys = arena_alloc(a, (size_t)d->n * sizeof *keys);
    *n = d->n, *what = "images";
    for (int i = 0; i < d->n; i++) unit_of[i] = i;
    if (!strcmp(pattern, "none")) return OK;
    Err rc = group_names(a, pattern, d->names, d->n, name);
    if (rc) return err_wrap(rc, "group");
    *n = 0;
    for (int i = 0; i < d->n; i++) {
        int u = find_unit(keys, *n, name[i]);
        if (u < 0) keys[u = (*n)++] = name[i];
        unit_of[i] = u;
    }
    *what = "groups of images";
    if (*n >= UNITS_FEW || *n == d->n) return OK;
    *what = arena_printf(a, "blocks of %d neighbouring images (there are %d groups alone)", BLOCK, *n);
    *n = cut_blocks(unit_of, d->n, *n);
    return OK;
}

/* ---- scores ---------------------------------------------------------------------------------- */
typedef struct Result {
    StudyJob *j;
    Study     s;
    StudyArm  arm[STUDY_ARMS_MAX];
    double   *score[STUDY_ARMS_MAX], *then[STUDY_ARMS_MAX], *class_iou[STUDY_ARMS_MAX];
    const int64_t **counts;          /* [arms * seeds], of compared arms the units' sums */
} Result;

static void sum_all(const int64_t *counts, int n, int width, int64_t *out) {
    memset(out, 0, (size_t)width * sizeof *out);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < width; k++) out[k] += counts[(int64_t)i * width + k];
}

static double class_iou(const int64_t c[3]) {
    const int64_t either = c[1] + c[2] - c[0];
    return either ? (double)c[0] / (double)either : NAN;
}

/* Scores of one arm from the counts of its runs, NULL: it failed; NaN classes (absent) stay out of the mean over seeds. */
static void score_arm(Result *r, int i, const Dataset *d, const int64_t *const *counts) {
    const int classes = d->n_classes;
    int64_t *sum = xcalloc((size_t)classes * 3, sizeof *sum);
    double *iou = xcalloc((size_t)classes * STUDY_SEEDS_MAX, sizeof *iou);
    for (int k = 0; k < r->arm[i].n; k++) {
        if (counts[k]) sum_all(counts[k], d->n, 3 * classes, sum);
        r->score[i][k] = counts[k] ? counts_miou(sum, classes) : NAN;
        for (int c = 0; c < classes; c++)
            iou[c * STUDY_SEEDS_MAX + k] = counts[k] ? class_iou(sum + 3 * c) : NAN;
    }
    r->class_iou[i] = arena_alloc(r->j->arena, (size_t)classes * sizeof(double));
    for (int c = 0; c < classes; c++)
        r->class_iou[i][c] = stats_moments(iou + c * STUDY_SEEDS_MAX, r->arm[i].n, 0.95).mean;
    r->arm[i].class_iou = r->class_iou[i];
    free(sum), free(iou);
}

/* Counts of units instead of images. */
static const int64_t *by_unit(Arena *a, const int64_t *counts, const int *unit_of, int n_images,
                              int n_units, int width) {
    int64_t *out = arena_alloc(a, (size_t)n_units * (size_t)width * sizeof *out);
    for (int i = 0; i < n_images; i++)
        for (int k = 0; k < width; k++)
            out[(int64_t)unit_of[i] * width + k] += counts[(int64_t)i * width + k];
    return out;
}

/* Intervals of all arms but the teacher, which has one run. */
static void draw_units(Result *r, const int64_t *const *counts, int n_units, int n_classes) {
    const int first = r->j->spec->has_teacher, n = r->s.n - first;
    Interval mean[STUDY_ARMS_MAX], gain[STUDY_ARMS_MAX];
    const Bootstrap b = {.n_units = n_units,
                         .n_classes = n_classes,
                         .n_arms = n,
                         .n_seeds = r->s.n_seeds,
                         .base = r->s.base - first,
                         .counts = counts};
    bootstrap_arms(&b, 1, mean, gain);
    for (int i = 0; i < n; i++)
        r->arm[first + i].images = mean[i], r->arm[first + i].gain_images = gain[i];
}

static Err from_split(Result *r) {
    StudyJob *j = r->j;
    Study *s = &r->s;
    Dataset *d;
    TRY(dataset_open(&j->arm[j->base].config->data, j->spec->split, &d));
    const Digest mark = dataset_fingerprint(d);
    int *unit_of = arena_alloc(j->arena, (size_t)d->n * sizeof *unit_of), n = 0;
    const int64_t **units = arena_alloc(j->arena, (size_t)(s->n * s->n_seeds) * sizeof *units);
    Err rc = study_units(j->arena, d, j->spec->group, unit_of, &s->n_units, &s->unit);
    for (int i = 0; i < s->n && !rc; i++) {
        const int64_t *counts[STUDY_SEEDS_MAX];
        for (int k = 0; k < r->arm[i].n && !rc; k++) {
            const bool failed = j->arm[i].failed[k];
            counts[k] = failed ? NULL : counts_read(j, j->arm[i].dir[k], d, mark.hex);
            if (!counts[k] && !failed)
                rc = err_set(E(EXIT_OUTPUT, 0),
                             "%s: its counts of %s are gone; start the study again",
                             j->arm[i].dir[k], d->split);
            else if (i > 0 || !j->spec->has_teacher)
                units[n++] = failed ? NULL
                                    : by_unit(j->arena, counts[k], unit_of, d->n, s->n_units,
                                              3 * d->n_classes);
        }
        if (!rc) score_arm(r, i, d, counts);
    }
    if (!rc) draw_units(r, units, s->n_units, d->n_classes);
    const char **names = arena_alloc(j->arena, (size_t)d->n_classes * sizeof *names);
    for (int c = 0; c < d->n_classes; c++) names[c] = arena_strdup(j->arena, d->class_names[c]);
    s->class_names = names, s->n_classes = d->n_classes, s->n_images = d->n,
    s->draws = BOOTSTRAP_DRAWS;
    dataset_close(d);
    return rc;
}

/* ---- by the clock ---------------------------------------------------------------------------- */
static double run_step_seconds(const RunData *r, const Config *c) {
    const Series *s = run_data_series(r, "images_per_s");
    if (!s) return NAN;
    double *copy = xcalloc((size_t)s->n, sizeof *copy);
    memcpy(copy, s->y, (size_t)s->n * sizeof *copy);
    const double rate = stats_median(copy, s->n);
    free(copy);
    return (double)(c->batch * c->accumulate) / rate;
}

/* y at x, linear between neighbours; NaN before the first and behind the last. */
static double series_at(const Series *s, double x) {
    for (int i = 0; s && i < s->n; i++) {
        if (s->x[i] == x) return s->y[i];
        if (s->x[i] > x)
            return i ? s->y[i - 1] +
                           (s->y[i] - s->y[i - 1]) * (x - s->x[i - 1]) / (s->x[i] - s->x[i - 1])
                     : NAN;
    }
    return NAN;
}

/* NULL where it failed: what it had before tells nothing of the arm. */
static RunData *open_run(const Result *r, int arm, int seed) {
    RunData *run;
    const StudyArmJob *a = &r->j->arm[arm];
    return a->failed[seed] || run_data_open(a->dir[seed], &run) ? NULL : run;
}

static void arm_pace(Result *r, int i) {
    StudyArm *a = &r->arm[i];
    double pace[STUDY_SEEDS_MAX];
    for (int k = 0; k < a->n; k++) {
        RunData *run = open_run(r, i, k);
        pace[k] = run ? run_step_seconds(run, r->j->arm[i].config) : NAN;
        if (run && !r->s.complete) r->score[i][k] = !strcmp(run->state, "done") ? run->miou : NAN;
        run_data_close(run);
    }
    a->step_s = stats_median(pace, a->n);
}

static void by_the_clock(Result *r) {
    double least = INFINITY;
    for (int i = 0; i < r->s.n; i++) arm_pace(r, i);
    for (int i = r->s.base; i < r->s.n; i++) least = fmin(least, r->arm[i].step_s);
    for (int i = r->s.base; i < r->s.n; i++) {
        StudyArm *a = &r->arm[i];
        a->then_step =
            a->step_s == least ? (double)r->s.steps : floor((double)r->s.steps * least / a->step_s);
        for (int k = 0; k < a->n; k++) {
            RunData *run = open_run(r, i, k);
            r->then[i][k] = run ? series_at(run_data_series(run, "eval.miou"), a->then_step) : NAN;
            run_data_close(run);
        }
    }
}

/* ---- the report ------------------------------------------------------------------------------ */
static const char *intro(StudyJob *j) {
    const Config *c = j->arm[j->base].config;
    if (j->spec->intro) return j->spec->intro;
    return arena_printf(
        j->arena,
        "%d arms, %lld seeds each, under one schedule: %lld steps of %lld images on %s. For one seed first weights, batches and "
        "their augmentation are the same in all arms%s. Scores are those of the last weights, none is chosen by its result.",
        j->n - j->base, (long long)j->spec->seeds, (long long)c->steps,
        (long long)(c->batch * c->accumulate), c->data.kind,
        j->spec->has_teacher ? "; the teacher was trained once, before them" : "");
}

static void add_remark(Result *r, const char **list, const char *text) {
    list[r->s.n_remarks++] = text;
    r->s.remark = list;
}

static void remarks(Result *r) {
    StudyJob *j = r->j;
    const StudyState *s = &j->state;
    const char **list = arena_alloc(j->arena, 4 * sizeof *list);
    if (s->time_s > 0)
        add_remark(
            r, list,
            arena_printf(
                j->arena,
                "%lld steps were chosen before the first run so that all of it takes about %g hours.",
                (long long)s->steps, s->time_s / 3600));
    if (s->n_reads > 1) {
        Str reads = {0};
        for (int i = 0; i < s->n_reads; i++) str_addf(&reads, "%s%d", i ? ", " : "", s->reads[i]);
        add_remark(
            r, list,
            arena_printf(
                j->arena,
                "The %s split was read %d times, with %s runs: who looks, and then adds runs, gets intervals that are too narrow.",
                j->spec->split, s->n_reads, reads.s));
        str_free(&reads);
    }
}

static void fill(Result *r, StudyJob *j, bool complete) {
    const Config *c = j->arm[j->base].config;
    const Interval none = {NAN, NAN};
    r->j = j;
    r->s = (Study){.title = j->spec->title,
                   .intro = intro(j),
                   .arm = r->arm,
                   .n = j->n,
                   .base = j->base,
                   .n_seeds = (int)j->spec->seeds,
                   .steps = c->steps,
                   .runs = n_runs(j),
                   .complete = complete,
                   .split = j->spec->split,
                   .val_split = c->eval_split,
                   .detail = study_shown_run(&j->arm[j->n - 1])};
    for (int i = 0; i < j->n; i++) {
        r->score[i] = arena_alloc(j->arena, STUDY_SEEDS_MAX * sizeof(double));
        r->then[i] = arena_alloc(j->arena, STUDY_SEEDS_MAX * sizeof(double));
        for (int k = 0; k < STUDY_SEEDS_MAX; k++) r->score[i][k] = r->then[i][k] = NAN;
        r->arm[i] = (StudyArm){.name = j->arm[i].name,
                               .note = j->arm[i].note,
                               .changes = j->arm[i].changes,
                               .dirs = j->arm[i].dir,
                               .n = j->arm[i].seeds,
                               .failed = j->arm[i].failed,
                               .shown = study_shown_run(&j->arm[i]),
                               .score = r->score[i],
                               .then = i >= j->base ? r->then[i] : NULL,
                               .images = none,
                               .gain_images = none,
                               .step_s = NAN,
                               .then_step = NAN};
    }
}

Err study_report(StudyJob *j, bool complete) {
    Result r;
    memset(&r, 0, sizeof r);
    fill(&r, j, complete);
    remarks(&r);
    by_the_clock(&r);
    if (complete) TRY(from_split(&r));
    for (int i = 0; i < j->n; i++)
        for (int k = 0; k < r.arm[i].n; k++) r.s.runs_done += isfinite(r.score[i][k]);
    study_compare(&r.s);
    TRY(study_write(j->spec->out, &r.s));
    if (!complete) return OK;
    Str text = {0};
    study_table(&text, &r.s);
    study_verdict(&text, &r.s);
    printf("%s\n%s/study.html\n", text.s, j->spec->out);
    str_free(&text);
    return OK;
}
