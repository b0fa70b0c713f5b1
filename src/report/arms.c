/* arms.c - the page of matched arms: what each reached, how far its seeds lie apart, and what that
 * allows to be said.
 *
 * Numbers are those of each run's last evaluation; the best one would be chosen by its result. Arms
 * are compared seed by seed, since runs of one seed share first weights and batches. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/page.h"

typedef struct ArmData {
    const ReportArm *arm;
    RunData **run; /* [arm->n]; NULL: not there */
    ArmScore score;
} ArmData;

static double run_score(const ArmData *a, int i) {
    return i < a->arm->n && a->run[i] ? a->run[i]->miou : NAN;
}

static ArmScore score_of(const ArmData *a, const ArmData *base) {
    ArmScore s = {.lo = INFINITY, .hi = -INFINITY, .gain_lo = INFINITY, .gain_hi = -INFINITY};
    for (int i = 0; i < a->arm->n; i++) {
        double v = run_score(a, i), gain = v - run_score(base, i);
        if (!isfinite(v)) continue;
        s.n++, s.mean += v, s.lo = fmin(s.lo, v), s.hi = fmax(s.hi, v);
        if (!isfinite(gain)) continue;
        s.pairs++, s.gain += gain;
        s.gain_lo = fmin(s.gain_lo, gain), s.gain_hi = fmax(s.gain_hi, gain);
    }
    s.mean = s.n ? s.mean / s.n : NAN;
    s.gain = s.pairs ? s.gain / s.pairs : NAN;
    if (!s.n) s.lo = s.hi = NAN;
    if (!s.pairs) s.gain_lo = s.gain_hi = NAN;
    return s;
}

static void arms_open(const ReportArms *arms, ArmData *out) {
    CHECK(arms->n <= ARMS_MAX && arms->base < arms->n);
    for (int i = 0; i < arms->n; i++) {
        const ReportArm *arm = &arms->arm[i];
        out[i] = (ArmData){.arm = arm, .run = xcalloc((size_t)arm->n + 1, sizeof *out[i].run)};
        for (int k = 0; k < arm->n; k++)
            if (run_data_open(arm->dirs[k], &out[i].run[k])) out[i].run[k] = NULL;
    }
    for (int i = 0; i < arms->n; i++) out[i].score = score_of(&out[i], &out[arms->base]);
}

static void arms_close(ArmData *a, int n) {
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < a[i].arm->n; k++) run_data_close(a[i].run[k]);
        free(a[i].run);
    }
}

void report_arm_scores(const ReportArms *arms, ArmScore *out) {
    ArmData a[ARMS_MAX];
    arms_open(arms, a);
    for (int i = 0; i < arms->n; i++) out[i] = a[i].score;
    arms_close(a, arms->n);
}

void report_verdict(Str *out, const ReportArms *arms, const ArmScore *score) {
    double apart = 0;
    for (int i = arms->base; i < arms->n; i++) apart = fmax(apart, score[i].hi - score[i].lo);
    for (int i = arms->base + 1; i < arms->n; i++) {
        const ArmScore *s = &score[i];
        const char *base = arms->arm[arms->base].name;
        if (!s->pairs) continue;
        str_addf(out, "%s: %+.2f points against %s", arms->arm[i].name, 100 * s->gain, base);
        bool one_sign = s->gain_lo > 0 || s->gain_hi < 0;
        if (s->pairs < 2)
            str_add(out, ", from one seed: its spread is unknown, so it says little.\n");
        else if (one_sign && fabs(s->gain) > apart)
            str_addf(
                out,
                ", %s with every seed and by more than the %.2f that seeds of one arm lie apart.\n",
                s->gain > 0 ? "ahead" : "behind", 100 * apart);
        else
            str_addf(out,
                     " (%+.2f to %+.2f by seed), where seeds of one arm lie up to %.2f apart: "
                     "no difference is shown.\n",
                     100 * s->gain_lo, 100 * s->gain_hi, 100 * apart);
    }
}

/* ---- the page -------------------------------------------------------------------------------- */
static void table_row(Str *out, const ArmData *a, bool compared) {
    ArmScore s = a->score;
    str_add(out, "<tr><td>");
    str_escape_html(out, a->arm->name);
    str_add(out, "<td class=big>");
    page_percent(out, s.mean, " %");
    str_addf(out, s.n ? "<td>%.2f .. %.2f<td>%d<td>" : "<td>-<td>0<td>", 100 * s.lo, 100 * s.hi,
             s.n);
    if (compared && s.pairs) str_addf(out, "%+.2f", 100 * s.gain);
    if (compared && s.pairs > 1)
        str_addf(out, " <small>(%+.2f .. %+.2f)</small>", 100 * s.gain_lo, 100 * s.gain_hi);
    str_add(out, "<td class=note>");
    str_escape_html(out, a->arm->note ? a->arm->note : "");
    str_add(out, "</tr>");
}

static void arms_table(Str *out, const ReportArms *arms, const ArmData *a) {
    str_add(out, "<div class='card wide'><table><tr><th>arm<th>mIoU, mean<th>lowest .. highest"
                 "<th>runs<th>points against ");
    str_escape_html(out, arms->arm[arms->base].name);
    str_add(out, "<th class=note>what it is</tr>");
    for (int i = 0; i < arms->n; i++) table_row(out, &a[i], i > arms->base);
    str_add(out, "</table></div>\n");
}

static void arms_verdict(Str *out, const ReportArms *arms, const ArmData *a) {
    ArmScore score[ARMS_MAX];
    Str text = {0};
    for (int i = 0; i < arms->n; i++) score[i] = a[i].score;
    report_verdict(&text, arms, score);
    str_add(out, "<ul>");
    for (char *line = text.s, *end; line && (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        str_add(out, "<li>");
        str_escape_html(out, line);
    }
    str_add(out, "</ul>\n<p class=dim>Every number is that of a run's last evaluation, not of its "
                 "best. So few seeds illustrate; they prove nothing.</p>\n");
    str_free(&text);
}

/* Every run's mIoU as a dot. */
static void arms_dots(Str *out, const ArmData *a, int n) {
    Series s[ARMS_MAX] = {{0}};
    for (int i = 0; i < n; i++) {
        s[i].name = a[i].arm->name;
        for (int k = 0; k < a[i].arm->n; k++) series_add(&s[i], 0, 100 * run_score(&a[i], k));
    }
    chart_dots(out, "mIoU of every run, and the mean of each arm", "%", s, n);
    for (int i = 0; i < n; i++) series_free(&s[i]);
}

static void arms_curves(Str *out, const ArmData *a, int n) {
    Series *s = NULL;
    int found = 0, cap = 0;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < a[i].arm->n; k++) {
            const Series *run = a[i].run[k] ? run_data_series(a[i].run[k], "eval.miou") : NULL;
            if (!run) continue;
            GROW(s, found, cap);
            s[found] = (Series){.name = a[i].arm->name};
            for (int j = 0; j < run->n; j++) series_add(&s[found], run->x[j], 100 * run->y[j]);
            found++;
        }
    chart_lines(out, &(Chart){.title = "mIoU while training",
                              .unit = "% by step, every run",
                              .series = s,
                              .n_series = found,
                              .from_zero = true});
    for (int i = 0; i < found; i++) series_free(&s[i]);
    free(s);
}

/* Mean IoU of class c over the arm's runs; NaN when absent in all. */
static double arm_class(const ArmData *a, int c) {
    double sum = 0;
    int n = 0;
    for (int i = 0; i < a->arm->n; i++)
        if (a->run[i] && c < a->run[i]->n_classes && isfinite(a->run[i]->classes[c].iou))
            sum += a->run[i]->classes[c].iou, n++;
    return n ? sum / n : NAN;
}

static void arms_classes(Str *out, const ArmData *a, int n, const RunData *colours) {
    const RunData *first = n && a[0].arm->n ? a[0].run[0] : NULL;
    int classes = first ? first->n_classes : 0;
    const char *groups[ARMS_MAX];
    double *value = xcalloc((size_t)classes * (size_t)n + 1, sizeof *value);
    BarRow *rows = xcalloc((size_t)classes + 1, sizeof *rows);
    for (int c = 0; c < classes; c++) {
        bool coloured = colours && colours->n_colours == classes;
        rows[c] = (BarRow){first->classes[c].name, value + c * n,
                           coloured ? colours->colours[c].rgb : NULL};
        for (int i = 0; i < n; i++) value[c * n + i] = arm_class(&a[i], c);
    }
    for (int i = 0; i < n; i++) groups[i] = a[i].arm->name;
    chart_bars(out, "IoU per class, mean over runs", groups, n, rows, classes);
    free(value);
    free(rows);
}

/* Image, label and the teacher's maps from the detailed run; each arm's prediction from its first.
 */
static void arms_pictures(Str *out, const ReportArms *arms, const RunData *r) {
    Panel panels[ARMS_MAX + 5] = {
        {r->dir, "image", "image"}, {r->dir, "label", "label"}, {r->dir, "teacher", "teacher"}};
    int n = 3;
    for (int i = arms->base; i < arms->n; i++)
        if (arms->arm[i].n)
            panels[n++] = (Panel){arms->arm[i].dirs[0], "student", arms->arm[i].name};
    panels[n++] = (Panel){r->dir, "tfe", "TFE weight"};
    panels[n++] = (Panel){r->dir, "tse", "TSE mask"};
    pictures_add(out, r, panels, n);
}

static void arms_detail(Str *out, const RunData *r) {
    str_add(out, "<h2>One run: ");
    str_escape_html(out, r->dir);
    str_add(out, "</h2>");
    run_tiles(out, r);
    run_charts(out, r);
    run_config(out, r);
}

Err report_write_arms(const char *path, const ReportArms *arms) {
    ArmData a[ARMS_MAX];
    RunData *detail = NULL;
    Str out = {0};
    arms_open(arms, a);
    if (arms->detail && run_data_open(arms->detail, &detail)) detail = NULL;
    page_open(&out, arms->title, false);
    str_add(&out, "<p>");
    str_escape_html(&out, arms->intro ? arms->intro : "");
    str_add(&out, "</p>\n");
    arms_table(&out, arms, a);
    arms_verdict(&out, arms, a);
    str_add(&out, "<div class=grid><div>");
    arms_dots(&out, a, arms->n);
    arms_curves(&out, a, arms->n);
    str_add(&out, "</div>");
    arms_classes(&out, a, arms->n, detail);
    str_add(&out, "</div>\n");
    if (detail) arms_pictures(&out, arms, detail);
    if (detail) arms_detail(&out, detail);
    run_data_close(detail);
    arms_close(a, arms->n);
    return page_close(&out, path);
}
