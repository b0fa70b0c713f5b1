/* study.c - the statistics of a study, its verdict and study.json.
 *
 * Arms are compared seed by seed: runs of one seed share first weights and batches, so most of what a
 * seed does cancels. A difference counts as shown when both its intervals leave out 0, the one over
 * seeds (Student's t of the paired differences) and the one over test images (bootstrap): the first
 * knows nothing of other images, the second nothing of other seeds. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/sys.h"
#include "report/study_priv.h"

const double STUDY_LEVEL = 0.95, STUDY_POWER = 0.8;

/* ---- statistics ------------------------------------------------------------------------------ */
static void differences(const double *x, int n, const double *base, int n_base, double *out) {
    for (int i = 0; i < n; i++) out[i] = x && base && i < n_base ? x[i] - base[i] : NAN;
}

const char *study_failed(const StudyArm *a, int seed) { return a->failed ? a->failed[seed] : NULL; }

int study_comparisons(const Study *s) { return s->n - s->base - 1; }

void study_compare(Study *s) {
    const StudyArm *base = &s->arm[s->base];
    double d[STUDY_SEEDS_MAX];
    CHECK(s->n <= STUDY_ARMS_MAX && s->base < s->n);
    for (int i = 0; i < s->n; i++) {
        StudyArm *a = &s->arm[i];
        CHECK(a->n <= STUDY_SEEDS_MAX);
        a->level = stats_moments(a->score, a->n, STUDY_LEVEL);
        a->then_level = stats_moments(a->then, a->then ? a->n : 0, STUDY_LEVEL);
        differences(a->score, a->n, base->score, base->n, d);
        a->gain = stats_moments(d, i > s->base ? a->n : 0, STUDY_LEVEL);
        a->gain_all = stats_moments(d, i > s->base ? a->n : 0,
                                    1 - (1 - STUDY_LEVEL) / fmax(1, study_comparisons(s)))
                          .ci;
        a->detectable = stats_detectable(a->gain.n, STUDY_LEVEL, STUDY_POWER) * a->gain.sd;
        differences(a->then, a->n, base->then, base->n, d);
        a->then_gain = stats_moments(d, i > s->base ? a->n : 0, STUDY_LEVEL);
    }
}

static int side(Interval x) { return x.lo > 0 ? 1 : x.hi < 0 ? -1 : 0; }         /* NaN: 0 */

int study_shown(const StudyArm *a) {
    const int by_seed = side(a->gain.ci);
    return by_seed == side(a->gain_images) ? by_seed : 0;
}

/* What a difference is, and by how many seeds: an arm may lack runs that failed. */
static void verdict_arm(Str *out, const Study *s, const StudyArm *a) {
    const Moments *m = &a->gain;
    str_addf(out, "%s (", a->name);
    if (m->n > 1) str_addf(out, "%+.2f, %+.2f to %+.2f", 100 * m->mean, 100 * m->ci.lo, 100 * m->ci.hi);
    else str_add(out, m->n ? "one seed has no spread" : "no seed has a run of both");
    if (m->n && m->n < s->n_seeds) str_addf(out, ", by the %d of %d seeds that both have", m->n, s->n_seeds);
    str_add(out, ")");
}

static void verdict_part(Str *out, const Study *s, int shown, const char *what) {
    int n = 0;
    for (int i = s->base + 1; i < s->n; i++) {
        const StudyArm *a = &s->arm[i];
        if (study_shown(a) != shown) continue;
        str_addf(out, "%s%s", n ? "" : what, n ? ", " : ": ");
        verdict_arm(out, s, a);
        n++;
    }
    if (n) str_add(out, "; ");
}

void study_verdict(Str *out, const Study *s) {
    if (study_comparisons(s) < 1) {
        str_addf(out, "There is one arm: nothing is compared.");
        return;
    }
    if (!s->complete) {
        str_addf(
            out,
            "Nothing can be said yet: %d of %d runs are done, and the %s split has not been read.",
            s->runs_done, s->runs, s->split);
        return;
    }
    str_addf(out,
             "In points of mIoU on %s against %s, with 95 %% intervals over %d seed%s: ", s->split,
             s->arm[s->base].name, s->n_seeds, s->n_seeds > 1 ? "s" : "");
    verdict_part(out, s, 1, "shown to be ahead");
    verdict_part(out, s, -1, "shown to be behind");
    verdict_part(out, s, 0, "not shown to differ");
    out->s[out->n -= 2] = 0;         /* the last "; " */
    str_add(out, ".");
}

/* ---- for a terminal -------------------------------------------------------------------------- */
static void table_interval(Str *out, Interval x) {
    if (isfinite(x.lo)) str_addf(out, "   %+7.2f .. %+6.2f", 100 * x.lo, 100 * x.hi);
    else str_add(out, "                   -");
}

void study_table(Str *out, const Study *s) {
    str_addf(out, "%-20s %8s %8s %6s   %10s   %-17s   %-17s   %s\n",
             s->complete ? s->split : s->val_split, "mIoU %", "std dev", "runs", "difference",
             "95 % over seeds", "95 % over images", "shown");
    for (int i = 0; i < s->n; i++) {
        const StudyArm *a = &s->arm[i];
        str_addf(out, "%-20s %8.2f", a->name, 100 * a->level.mean);
        str_addf(out, isfinite(a->level.sd) ? " %8.2f" : "        -", 100 * a->level.sd);
        str_addf(out, " %6d", a->level.n);
        if (i > s->base && a->gain.n) {
            str_addf(out, "   %+10.2f", 100 * a->gain.mean);
            table_interval(out, a->gain.ci), table_interval(out, a->gain_images);
            str_addf(out, "   %s",
                     study_shown(a) > 0   ? "ahead"
                     : study_shown(a) < 0 ? "behind"
                                          : "not shown");
        }
        str_add(out, "\n");
    }
    for (int i = 0; i < s->n; i++)
        for (int k = 0; k < s->arm[i].n; k++)
            if (study_failed(&s->arm[i], k))
                str_addf(out, "failed: %s: %s\n", s->arm[i].dirs[k], study_failed(&s->arm[i], k));
}

/* ---- study.json ------------------------------------------------------------------------------ */
static void add_number(Str *out, const char *key, double v) {
    str_addf(out, ", \"%s\": ", key);
    str_json_number(out, v);
}

static void add_text(Str *out, const char *key, const char *text) {
    str_addf(out, ", \"%s\": ", key);
    str_json(out, text ? text : "");
}

static void add_list(Str *out, const char *key, const double *x, int n) {
    str_addf(out, ", \"%s\": [", key);
    for (int i = 0; i < n; i++) {
        if (i) str_add(out, ", ");
        str_json_number(out, x ? x[i] : NAN);
    }
    str_add(out, "]");
}

static void add_interval(Str *out, const char *key, Interval x) {
    add_list(out, key, (double[]){x.lo, x.hi}, 2);
}

static void add_moments(Str *out, const Moments *m) {
    str_addf(out, ", \"n\": %d", m->n);
    add_number(out, "mean", m->mean);
    add_number(out, "sd", m->sd);
    add_interval(out, "interval", m->ci);
}

/* Beside "runs": null where a run did not fail. */
static void add_failed(Str *out, const StudyArm *a) {
    str_add(out, ", \"failed\": [");
    for (int k = 0; k < a->n; k++) {
        if (k) str_add(out, ", ");
        if (study_failed(a, k)) str_json(out, study_failed(a, k));
        else str_add(out, "null");
    }
    str_add(out, "]");
}

static void add_arm(Str *out, const Study *s, const StudyArm *a) {
    str_add(out, "{\"name\": ");
    str_json(out, a->name);
    add_text(out, "note", a->note);
    add_text(out, "changes", a->changes);
    str_add(out, ", \"runs\": [");
    for (int k = 0; k < a->n; k++) {
        if (k) str_add(out, ", ");
        str_json(out, a->dirs[k]);
    }
    str_add(out, "]");
    add_failed(out, a);
    add_list(out, "miou", a->score, a->n);
    add_moments(out, &a->level);
    add_interval(out, "interval_images", a->images);
    if (a->class_iou) add_list(out, "class_iou", a->class_iou, s->n_classes);
    str_add(out, "}");
}

static void add_gain(Str *out, const Study *s, const StudyArm *a) {
    double d[STUDY_SEEDS_MAX];
    differences(a->score, a->n, s->arm[s->base].score, s->arm[s->base].n, d);
    str_add(out, "{\"arm\": ");
    str_json(out, a->name);
    add_text(out, "against", s->arm[s->base].name);
    add_list(out, "by_seed", d, a->n);
    add_moments(out, &a->gain);
    add_interval(out, "interval_together", a->gain_all);
    add_interval(out, "interval_images", a->gain_images);
    add_number(out, "detectable", a->detectable);
    const int shown = study_shown(a);
    add_text(out, "shown", shown > 0 ? "ahead" : shown < 0 ? "behind" : "not shown");
    str_add(out, "}");
}

static void add_time(Str *out, const Study *s, const StudyArm *a) {
    str_add(out, "{\"arm\": ");
    str_json(out, a->name);
    add_number(out, "step_seconds", a->step_s);
    add_number(out, "step_then", a->then_step);
    add_list(out, "miou_then", a->then, a->n);
    add_moments(out, &a->then_gain);
    str_add(out, "}");
}

/* Items of one list, one a line. */
static void add_arms(Str *out, const Study *s, int first,
                     void (*add)(Str *, const Study *, const StudyArm *)) {
    for (int i = first; i < s->n; i++) {
        str_add(out, i > first ? ",\n  " : "\n  ");
        add(out, s, &s->arm[i]);
    }
}

void study_json(Str *out, const Study *s) {
    Str verdict = {0};
    study_verdict(&verdict, s);
    str_add(out, "{\"title\": ");
    str_json(out, s->title);
    add_text(out, "verdict", verdict.s);
    add_text(out, "split", s->split);
    add_text(out, "scores_from", s->complete ? s->split : s->val_split);
    str_addf(
        out,
        ", \"complete\": %s, \"runs\": %d, \"runs_done\": %d, \"seeds\": %d, \"steps\": %" PRId64,
        s->complete ? "true" : "false", s->runs, s->runs_done, s->n_seeds, s->steps);
    str_addf(out, ", \"images\": %d, \"units\": %d, \"draws\": %d", s->n_images, s->n_units,
             s->draws);
    add_text(out, "unit", s->unit);
    str_add(out, ", \"remarks\": [");
    for (int i = 0; i < s->n_remarks; i++) {
        if (i) str_add(out, ", ");
        str_json(out, s->remark[i]);
    }
    str_add(out, "],\n \"arms\": [");
    add_arms(out, s, 0, add_arm);
    str_add(out, "],\n \"differences\": [");
    add_arms(out, s, s->base + 1, add_gain);
    str_add(out, "],\n \"time\": [");
    add_arms(out, s, s->base, add_time);
    str_addf(out, "],\n \"version\": \"%s\"}\n", RETORT_VERSION);
    str_free(&verdict);
}

Err study_write(const char *dir, const Study *s) {
    char *page = path_join(dir, "study.html"), *json = path_join(dir, "study.json");
    Str text = {0};
    study_json(&text, s);
    Err rc = durable_write_all(json, text.s, text.n);
    if (!rc) rc = study_page(page, s);
    str_free(&text);
    free(page), free(json);
    return rc;
}
