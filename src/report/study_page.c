/* study_page.c - study.html: verdict, tables, charts and pictures of a study in one file. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/page.h"
#include "report/study_priv.h"

enum { ENOUGH_SEEDS = 3 };

/* What a reader must know beside the verdict. */
static void add_remarks(Str *out, const Study *s, const char *before, const char *after) {
    const int m = study_comparisons(s);
    for (int i = 0; i < s->n_remarks; i++) {
        str_add(out, before);
        str_escape_html(out, s->remark[i]);
        str_add(out, after);
    }
    if (m > 1)
        str_addf(
            out,
            "%s%d arms are compared with one: each 95 %% interval misses one time in 20, so among all of them "
            "one misses up to %.0f %% of the time. Those of the column \"all together\" miss 5 %% of the time taken together (Bonferroni).%s",
            before, m, 100 * fmin(1, m * (1 - STUDY_LEVEL)), after);
    if (s->n_seeds < ENOUGH_SEEDS)
        str_addf(
            out,
            "%s%d seed%s say next to nothing: only a difference of the size of the last column would be seen.%s",
            before, s->n_seeds, s->n_seeds > 1 ? "s" : "", after);
}

/* ---- tables ---------------------------------------------------------------------------------- */
static void cell_points(Str *out, double v) {
    if (isfinite(v)) str_addf(out, "<td>%+.2f", 100 * v);
    else str_add(out, "<td>-");
}

static void cell_interval(Str *out, Interval x, bool sign) {
    if (!isfinite(x.lo)) str_add(out, "<td>-");
    else str_addf(out, sign ? "<td>%+.2f .. %+.2f" : "<td>%.2f .. %.2f", 100 * x.lo, 100 * x.hi);
}

static void row_name(Str *out, const char *name) {
    str_add(out, "<tr><td>");
    str_escape_html(out, name);
}

static void table_open(Str *out, const char *caption, const char *head) {
    str_addf(out, "<h2>%s</h2><div class='card wide'><table><tr>%s</tr>\n", caption, head);
}

static void level_table(Str *out, const Study *s) {
    char *caption = xprintf(s->complete ? "Arms, on %s, read once at the end"
                                        : "Arms so far, last evaluation on %s",
                            s->complete ? s->split : s->val_split);
    Str safe = {0};
    str_escape_html(&safe, caption);
    table_open(
        out, safe.s,
        "<th>arm<th>mIoU %, mean<th>standard deviation<th>95 % over seeds<th>95 % over images<th>runs<th class=note>what it is");
    free(caption), str_free(&safe);
    for (int i = 0; i < s->n; i++) {
        const StudyArm *a = &s->arm[i];
        row_name(out, a->name);
        page_cell(out, a->level.mean);
        page_cell(out, a->level.sd);
        cell_interval(out, a->level.ci, false);
        cell_interval(out, a->images, false);
        str_addf(out, a->level.n < a->n ? "<td>%d of %d<td class=note>" : "<td>%d<td class=note>",
                 a->level.n, a->n);
        str_escape_html(out, a->note ? a->note : "");
        str_add(out, "</tr>\n");
    }
    str_add(out, "</table></div>\n");
}

static void gain_table(Str *out, const Study *s) {
    if (study_comparisons(s) < 1) return;
    table_open(
        out, "Differences, in points, seed by seed",
        "<th>arm<th>difference<th>standard deviation<th>95 % over seeds<th>all together<th>95 % over images<th>shown"
        "<th>could be shown from");
    for (int i = s->base + 1; i < s->n; i++) {
        const StudyArm *a = &s->arm[i];
        const int shown = study_shown(a);
        row_name(out, a->name);
        cell_points(out, a->gain.mean);
        page_cell(out, a->gain.sd);
        cell_interval(out, a->gain.ci, true);
        cell_interval(out, a->gain_all, true);
        cell_interval(out, a->gain_images, true);
        str_add(out, shown > 0 ? "<td>ahead" : shown < 0 ? "<td>behind" : "<td>not shown");
        page_cell(out, a->detectable);
        str_add(out, "</tr>\n");
    }
    str_addf(
        out,
        "</table></div>\n<p class=dim>Over seeds: Student's t of the paired differences. Over images: %d draws of %d %s with "
        "replacement, the same for all runs. Could be shown from: the smallest true difference that a paired t test at 5 %% "
        "on %d seeds finds four times in five, given this standard deviation.</p>\n",
        s->draws, s->n_units, s->unit ? s->unit : "images", s->n_seeds);
}

static void failed_table(Str *out, const Study *s) {
    bool open = false;
    for (int i = 0; i < s->n; i++)
        for (int k = 0; k < s->arm[i].n; k++) {
            const char *why = study_failed(&s->arm[i], k);
            if (!why) continue;
            if (!open) table_open(out, "Runs that failed", "<th>run<th class=note>what stopped it");
            open = true;
            row_name(out, s->arm[i].dirs[k]);
            str_add(out, "<td class=note>");
            str_escape_html(out, why);
            str_add(out, "</tr>\n");
        }
    if (open)
        str_add(out, "</table></div>\n<p class=dim>Means are over the runs that ended, differences over "
                     "the seeds that both arms have. The same command tries these runs again.</p>\n");
}

/* By the resolved configurations, whatever was typed. */
static void changes_list(Str *out, const Study *s) {
    if (study_comparisons(s) < 1) return;
    str_add(out, "<details><summary>What differs between the configurations</summary><ul>");
    for (int i = s->base + 1; i < s->n; i++) {
        str_add(out, "<li><b>");
        str_escape_html(out, s->arm[i].name);
        str_add(out, "</b> ");
        str_escape_html(out, s->arm[i].changes ? s->arm[i].changes : "");
        str_add(out, "</li>\n");
    }
    str_add(out, "</ul></details>\n");
}

/* Between the marks stands what a clock decides: two studies with the same results may differ here. */
static void time_table(Str *out, const Study *s) {
    str_add(out, "<!--clock-->\n");
    table_open(
        out, "Equal time",
        "<th>arm<th>ms a step<th>times the first<th>its step when the fastest had ended<th>mIoU % then<th>difference then<th>95 % over seeds");
    for (int i = s->base; i < s->n; i++) {
        const StudyArm *a = &s->arm[i];
        row_name(out, a->name);
        if (isfinite(a->step_s))
            str_addf(out, "<td>%.0f<td>%.2f", 1000 * a->step_s, a->step_s / s->arm[s->base].step_s);
        else str_add(out, "<td>-<td>-");
        str_addf(out, isfinite(a->then_step) ? "<td>%.0f" : "<td>-", a->then_step);
        page_cell(out, a->then_level.mean);
        cell_points(out, a->then_gain.mean);
        cell_interval(out, a->then_gain.ci, true);
        str_add(out, "</tr>\n");
    }
    str_addf(
        out,
        "</table></div>\n<p class=dim>All arms take the same number of steps; this tells what each had when the fastest had taken all "
        "of its own. Read from the evaluations on %s while training, linear between two of them; steps alone are timed. The "
        "slower arms' learning rate had not come down yet, which holds them back: a run planned for that time would do "
        "better.</p>\n<!--/clock-->\n",
        s->val_split);
}

/* ---- charts ---------------------------------------------------------------------------------- */
typedef struct ArmData {
    const StudyArm *arm;
    RunData **run;                   /* [arm->n]; NULL: not there */
} ArmData;

static void arms_open(const Study *s, ArmData *out) {
    for (int i = 0; i < s->n; i++) {
        const StudyArm *a = &s->arm[i];
        out[i] = (ArmData){.arm = a, .run = xcalloc((size_t)a->n + 1, sizeof *out[i].run)};
        for (int k = 0; k < a->n; k++)
            if (run_data_open(a->dirs[k], &out[i].run[k])) out[i].run[k] = NULL;
    }
}

static void arms_close(ArmData *a, int n) {
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < a[i].arm->n; k++) run_data_close(a[i].run[k]);
        free(a[i].run);
    }
}

/* Every run's mIoU as a dot. */
static void arms_dots(Str *out, const Study *s) {
    Series x[STUDY_ARMS_MAX] = {{0}};
    for (int i = 0; i < s->n; i++) {
        x[i].name = s->arm[i].name;
        for (int k = 0; k < s->arm[i].n; k++) series_add(&x[i], 0, 100 * s->arm[i].score[k]);
    }
    chart_dots(out, "mIoU of every run, and the mean of each arm", "%", x, s->n);
    for (int i = 0; i < s->n; i++) series_free(&x[i]);
}

static void arms_curves(Str *out, const ArmData *a, const Study *study) {
    Series *s = NULL;
    int found = 0, cap = 0;
    char *unit = xprintf("%% on %s by step, every run", study->val_split);
    for (int i = 0; i < study->n; i++)
        for (int k = 0; k < a[i].arm->n; k++) {
            const Series *run = a[i].run[k] ? run_data_series(a[i].run[k], "eval.miou") : NULL;
            if (!run) continue;
            GROW(s, found, cap);
            s[found] = (Series){.name = a[i].arm->name};
            for (int j = 0; j < run->n; j++) series_add(&s[found], run->x[j], 100 * run->y[j]);
            found++;
        }
    chart_lines(out, &(Chart){.title = "mIoU while training",
                              .unit = unit,
                              .series = s,
                              .n_series = found,
                              .from_zero = true});
    for (int i = 0; i < found; i++) series_free(&s[i]);
    free(s), free(unit);
}

static void arms_classes(Str *out, const Study *s, const RunData *colours) {
    const char *groups[STUDY_ARMS_MAX];
    const int classes = s->n && s->arm[0].class_iou ? s->n_classes : 0;
    double *value = xcalloc((size_t)classes * (size_t)s->n + 1, sizeof *value);
    BarRow *rows = xcalloc((size_t)classes + 1, sizeof *rows);
    for (int c = 0; c < classes; c++) {
        const bool coloured = colours && colours->n_colours == classes;
        rows[c] = (BarRow){s->class_names[c], value + c * s->n,
                           coloured ? colours->colours[c].rgb : NULL};
        for (int i = 0; i < s->n; i++)
            value[c * s->n + i] = s->arm[i].class_iou ? s->arm[i].class_iou[c] : NAN;
    }
    for (int i = 0; i < s->n; i++) groups[i] = s->arm[i].name;
    if (classes) chart_bars(out, "IoU per class, mean over runs", groups, s->n, rows, classes);
    free(value);
    free(rows);
}

/* Image, label and the teacher's maps from the detailed run; each arm's prediction from its first. */
static void arms_pictures(Str *out, const Study *s, const RunData *r) {
    Panel panels[STUDY_ARMS_MAX + 5] = {
        {r->dir, "image", "image"}, {r->dir, "label", "label"}, {r->dir, "teacher", "teacher"}};
    int n = 3;
    for (int i = s->base; i < s->n; i++)
        if (s->arm[i].shown) panels[n++] = (Panel){s->arm[i].shown, "student", s->arm[i].name};
    panels[n++] = (Panel){r->dir, "tfe", "TFE weight"};
    panels[n++] = (Panel){r->dir, "tse", "TSE mask"};
    pictures_add(out, r, panels, n);
}

static void arms_detail(Str *out, const RunData *r) {
    str_add(out, "<!--clock-->\n<h2>One run: ");
    str_escape_html(out, r->dir);
    str_add(out, "</h2>");
    run_tiles(out, r);
    run_charts(out, r);
    str_add(out, "<!--/clock-->\n");
    run_config(out, r);
}

static void study_text(Str *out, const Study *s) {
    Str verdict = {0};
    study_verdict(&verdict, s);
    str_add(out, "<p>");
    str_escape_html(out, s->intro ? s->intro : "");
    str_add(out, "</p>\n<p class=big>");
    str_escape_html(out, verdict.s);
    str_add(out, "</p>\n<ul>");
    str_free(&verdict);
    add_remarks(out, s, "<li>", "</li>\n");
    str_add(out, "</ul>\n");
}

Err study_page(const char *path, const Study *s) {
    ArmData a[STUDY_ARMS_MAX];
    RunData *detail = NULL;
    Str out = {0};
    arms_open(s, a);
    if (s->detail && run_data_open(s->detail, &detail)) detail = NULL;
    page_open(&out, s->title, !s->complete);
    study_text(&out, s);
    level_table(&out, s);
    gain_table(&out, s);
    failed_table(&out, s);
    changes_list(&out, s);
    str_add(&out, "<div class=grid><div>");
    arms_dots(&out, s);
    arms_curves(&out, a, s);
    str_add(&out, "</div>");
    arms_classes(&out, s, detail);
    str_add(&out, "</div>\n");
    time_table(&out, s);
    if (detail) arms_pictures(&out, s, detail);
    if (detail) arms_detail(&out, detail);
    run_data_close(detail);
    arms_close(a, s->n);
    return page_close(&out, path);
}
