/* html.c - the page of one run, finished, failed or still running. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/page.h"

static void tile_percent(Str *out, const char *name, double v) {
    Str text = {0};
    if (!isfinite(v)) return;
    page_percent(&text, v, " %");
    page_tile(out, name, text.s);
    str_free(&text);
}

static bool is_running(const RunData *r) {
    return !strcmp(r->state, "running");
}

static void tile_left(Str *out, double seconds) {
    char text[32];
    int64_t minutes = (int64_t)(seconds / 60 + 0.5);
    if (minutes < 60) snprintf(text, sizeof text, "%d min", (int)minutes);
    else snprintf(text, sizeof text, "%lld h %02d", (long long)(minutes / 60), (int)(minutes % 60));
    page_tile(out, "left", text);
}

static void tile_number(Str *out, const RunData *r, const char *name, const char *series,
                        const char *format) {
    const Series *s = run_data_series(r, series);
    char text[64];
    if (!s || !s->n || !isfinite(s->y[s->n - 1])) return;
    snprintf(text, sizeof text, format, s->y[s->n - 1]);
    page_tile(out, name, text);
}

/* "deeplabv3_mobilenetv2, taught by FILE, on camvid; as of TIME". */
static void run_subject(Str *out, const RunData *r) {
    static const char *const parts[][2] = {
        {"student.model", ""}, {"teacher.model", "taught by "}, {"data.kind", "on "}};
    Str s = {0};
    for (int i = 0; i < 3; i++) {
        char *value = run_setting(r, parts[i][0]);
        if (value && *value) str_addf(&s, "%s%s%s", s.n ? ", " : "", parts[i][1], value);
        free(value);
    }
    if (*r->time) str_addf(&s, "%sas of %s", s.n ? "; " : "", r->time);
    str_add(out, "<p class=dim>");
    str_escape_html(out, s.n ? s.s : "");
    str_add(out, "</p>");
    str_free(&s);
}

static void progress_bar(Str *out, const RunData *r) {
    if (!(r->steps > 0) || !isfinite(r->step)) return;
    str_addf(out,
             "<div class=bar role=progressbar aria-valuenow=%.0f aria-valuemax=%.0f><b "
             "style=width:%.1f%%></b></div>",
             r->step, r->steps, 100 * fmax(0, fmin(1, r->step / r->steps)));
}

/* What must not be overlooked. */
static void warnings(Str *out, const RunData *r) {
    if (!strcmp(r->state, "killed"))
        str_add(out, "<p class=bad>The run says that it goes on, but no process holds it: it was "
                     "killed. The same command goes on "
                     "from its last checkpoint.</p>");
    if (r->bad_lines)
        str_addf(out,
                 "<p class=bad>%d line(s) of metrics.jsonl could not be read and are left out.</p>",
                 r->bad_lines);
    for (int i = 0; i < r->n_series; i++) {
        const Series *s = &r->series[i];
        int bad = 0, first = -1;
        if (!str_starts(s->name, "loss.") && strcmp(s->name, "grad_norm")) continue;
        for (int j = 0; j < s->n; j++)
            if (!isfinite(s->y[j])) first = bad++ ? first : j;
        if (!bad) continue;
        str_add(out, "<p class=bad>");
        str_escape_html(out, s->name);
        str_addf(out, " is not finite at %d of %d recorded steps, first at step %.0f.</p>", bad,
                 s->n, s->x[first]);
    }
}

void run_tiles(Str *out, const RunData *r) {
    char text[64];
    run_subject(out, r);
    progress_bar(out, r);
    str_add(out, "<div class=tiles>");
    page_tile(out, "state", r->state);
    if (isfinite(r->step)) str_addf(out, "<div class=tile><b>%.0f", r->step);
    if (isfinite(r->step) && isfinite(r->steps)) str_addf(out, "<small> / %.0f</small>", r->steps);
    if (isfinite(r->step)) str_add(out, "</b><span class=dim>step</span></div>");
    if (is_running(r) && r->eta_s >= 0 && r->eta_s < 1e9) tile_left(out, r->eta_s);
    tile_percent(out, "mIoU, last evaluation", r->miou);
    tile_percent(out, "mIoU, best evaluation", r->best_miou);
    tile_percent(out, "pixel accuracy", r->pixel_accuracy);
    tile_number(out, r, "loss", "loss.total", "%.4g");
    tile_number(out, r, "images/s", "images_per_s", "%.3g");
    if (isfinite(r->exit_code) && r->exit_code != 0) {
        snprintf(text, sizeof text, "%.0f", r->exit_code);
        page_tile(out, "exit code", text);
    }
    str_add(out, "</div>\n");
    warnings(out, r);
}

/* ---- curves ---------------------------------------------------------------------------------- */
typedef struct ChartRow {
    const char *prefix, *title, *unit;
    bool log;
} ChartRow;
static const ChartRow chart_rows[] = {
    {"loss.", "Loss terms", "by step", true},
    {"lr", "Learning rate", "by step", false},
    {"kept.", "Pixels kept", "share of the valid ones, by step", false},
    {"kept_class.", "Pixels kept of each class", "share, by step", false},
    {"norm.", "Gradient norms of the terms", "weighted, shared weights, by step", true},
    {"cosine.", "Gradient conflict", "cosine with the task's, shared weights, by step", false},
    {"grad_norm", "Gradient norm", "by step", true},
    {"images_per_s", "Speed", "images/s, by step", false}};

/* All series whose name starts with the prefix in one chart, named by what follows it. */
static void run_chart(Str *out, const RunData *r, const ChartRow *row) {
    Series found[RUN_SERIES_MAX];
    Chart c = {.title = row->title,
               .unit = row->unit,
               .series = found,
               .from_zero = true,
               .log = row->log};
    for (int i = 0; i < r->n_series; i++) {
        if (!str_starts(r->series[i].name, row->prefix)) continue;
        found[c.n_series] = r->series[i];
        if (str_ends(row->prefix, ".")) found[c.n_series].name += strlen(row->prefix);
        c.n_series++;
    }
    if (isfinite(r->switch_step)) c.mark_x = r->switch_step, c.mark = "TFE | TSE";
    char title[128];
    if (c.n_series == 1 &&
        str_ends(row->prefix, ".")) /* one curve has no label: the title tells its name */
        snprintf(title, sizeof title, "%s: %s", row->title, found[0].name), c.title = title;
    if (c.n_series) chart_lines(out, &c);
}

static void eval_chart(Str *out, const RunData *r) {
    static const char *const names[][2] = {{"eval.miou", "mIoU"},
                                           {"eval.ema", "mIoU of EMA"},
                                           {"eval.pixel_accuracy", "pixel accuracy"}};
    enum { NAMES = sizeof names / sizeof *names };
    Series s[NAMES];
    int n = 0;
    for (int i = 0; i < NAMES; i++) {
        const Series *found = run_data_series(r, names[i][0]);
        if (found) s[n] = *found, s[n++].name = names[i][1];
    }
    Chart c = {.title = "Evaluations",
               .unit = "0 to 1, by step",
               .series = s,
               .n_series = n,
               .from_zero = true};
    if (isfinite(r->switch_step)) c.mark_x = r->switch_step, c.mark = "TFE | TSE";
    chart_lines(out, &c);
}

static void class_chart(Str *out, const RunData *r) {
    enum { COLUMN_MAX = 23 }; /* longer lists take the page's width */
    BarRow *rows = xcalloc((size_t)r->n_classes + 1, sizeof *rows);
    for (int i = 0; i < r->n_classes; i++)
        rows[i] = (BarRow){r->classes[i].name, &r->classes[i].iou,
                           r->n_colours == r->n_classes ? r->colours[i].rgb : NULL};
    str_add(out, r->n_classes > COLUMN_MAX ? "<div class=full>" : "<div>");
    chart_bars(out, "IoU per class, last evaluation", (const char *const[]){"IoU"}, 1, rows,
               r->n_classes);
    str_add(out, "</div>");
    free(rows);
}

static void confusion_chart(Str *out, const RunData *r) {
    if (!r->confusion) return;
    const char **names = xcalloc((size_t)r->n_classes, sizeof *names);
    for (int i = 0; i < r->n_classes; i++) names[i] = r->classes[i].name;
    str_add(out, "<div class=full>");
    chart_confusion(out, "Confusion, last evaluation", names, r->confusion, r->n_classes);
    str_add(out, "</div>");
    free(names);
}

void run_charts(Str *out, const RunData *r) {
    str_add(out, "<div class=grid>");
    for (size_t i = 0; i < sizeof chart_rows / sizeof *chart_rows; i++)
        run_chart(out, r, &chart_rows[i]);
    str_add(out, "</div>\n");
}

static void run_pictures(Str *out, const RunData *r) {
    const Panel panels[] = {{r->dir, "image", "image"},     {r->dir, "label", "label"},
                            {r->dir, "teacher", "teacher"}, {r->dir, "student", "student"},
                            {r->dir, "tfe", "TFE weight"},  {r->dir, "tse", "TSE mask"}};
    pictures_add(out, r, panels, sizeof panels / sizeof *panels);
    pictures_history(out, r);
}

Err report_write(const char *run_dir) {
    RunData *r;
    TRY(run_data_open(run_dir, &r));
    Str out = {0};
    char *name = xstrdup(run_dir);
    for (size_t n = strlen(name); n > 1 && name[n - 1] == '/'; n--) name[n - 1] = 0;
    page_open(&out, path_base(name), is_running(r));
    free(name);
    run_tiles(&out, r);
    str_add(&out, "<div class=grid>");
    eval_chart(&out, r);
    class_chart(&out, r);
    confusion_chart(&out, r);
    str_add(&out, "</div>\n");
    run_pictures(&out, r);
    str_add(&out, "<h2>Training</h2>");
    run_charts(&out, r);
    run_config(&out, r);
    run_data_close(r);
    char *path = path_join(run_dir, "report.html");
    Err rc = page_close(&out, path);
    free(path);
    return rc;
}
