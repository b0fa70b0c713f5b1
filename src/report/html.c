/* html.c - the page of one run, finished, failed or still running. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/page.h"

static void tile(Str *out, const char *name, const char *text) {
    str_add(out, "<div class=tile><b>");
    str_escape_html(out, text);
    str_add(out, "</b><span class=dim>");
    str_escape_html(out, name);
    str_add(out, "</span></div>");
}

static void tile_percent(Str *out, const char *name, double v) {
    Str text = {0};
    if (!isfinite(v)) return;
    page_percent(&text, v, " %");
    tile(out, name, text.s);
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
    tile(out, "left", text);
}

void run_tiles(Str *out, const RunData *r) {
    char text[64];
    str_add(out, "<div class=tiles>");
    tile(out, *r->time ? r->time : "state", r->state);
    if (isfinite(r->step)) {
        if (isfinite(r->steps)) snprintf(text, sizeof text, "%.0f / %.0f", r->step, r->steps);
        else snprintf(text, sizeof text, "%.0f", r->step);
        tile(out, "step", text);
    }
    if (is_running(r) && r->eta_s >= 0 && r->eta_s < 1e9) tile_left(out, r->eta_s);
    tile_percent(out, "mIoU, last evaluation", r->miou);
    tile_percent(out, "mIoU, best evaluation", r->best_miou);
    tile_percent(out, "pixel accuracy", r->pixel_accuracy);
    if (isfinite(r->exit_code) && r->exit_code != 0) {
        snprintf(text, sizeof text, "%.0f", r->exit_code);
        tile(out, "exit code", text);
    }
    str_add(out, "</div>\n");
    if (r->bad_lines)
        str_addf(out, "<p>%d line(s) of metrics.jsonl could not be read and are left out.</p>",
                 r->bad_lines);
}

/* ---- curves ---------------------------------------------------------------------------------- */
typedef struct ChartRow {
    const char *prefix, *title, *unit;
} ChartRow;
static const ChartRow chart_rows[] = {{"loss.", "Loss terms", "by step"},
                                      {"lr", "Learning rate", "by step"},
                                      {"kept.", "Pixels kept", "share of the valid ones, by step"},
                                      {"kept_class.", "Pixels kept of each class", "share, by step"},
                                      {"norm.", "Gradient norms of the terms", "weighted, shared weights, by step"},
                                      {"cosine.", "Gradient conflict", "cosine with the task's, shared weights, by step"},
                                      {"grad_norm", "Gradient norm", "by step"},
                                      {"images_per_s", "Speed", "images/s, by step"}};

/* All series whose name starts with the prefix in one chart, named by what follows it. */
static void run_chart(Str *out, const RunData *r, const ChartRow *row) {
    Series found[RUN_SERIES_MAX];
    Chart c = {.title = row->title, .unit = row->unit, .series = found, .from_zero = true};
    for (int i = 0; i < r->n_series; i++) {
        if (!str_starts(r->series[i].name, row->prefix)) continue;
        found[c.n_series] = r->series[i];
        if (str_ends(row->prefix, ".")) found[c.n_series].name += strlen(row->prefix);
        c.n_series++;
    }
    if (isfinite(r->switch_step)) c.mark_x = r->switch_step, c.mark = "TFE | TSE";
    if (c.n_series) chart_lines(out, &c);
}

static void eval_chart(Str *out, const RunData *r) {
    static const char *const names[][2] = {{"eval.miou", "mIoU"},
                                           {"eval.pixel_accuracy", "pixel accuracy"}};
    Series s[2];
    int n = 0;
    for (int i = 0; i < 2; i++) {
        const Series *found = run_data_series(r, names[i][0]);
        if (found) s[n] = *found, s[n++].name = names[i][1];
    }
    chart_lines(out, &(Chart){.title = "Evaluations",
                              .unit = "0 to 1, by step",
                              .series = s,
                              .n_series = n,
                              .from_zero = true});
}

static void class_chart(Str *out, const RunData *r) {
    BarRow *rows = xcalloc((size_t)r->n_classes + 1, sizeof *rows);
    for (int i = 0; i < r->n_classes; i++)
        rows[i] = (BarRow){r->classes[i].name, &r->classes[i].iou,
                           r->n_colours == r->n_classes ? r->colours[i].rgb : NULL};
    chart_bars(out, "IoU per class, last evaluation", (const char *const[]){"IoU"}, 1, rows,
               r->n_classes);
    free(rows);
}

void run_charts(Str *out, const RunData *r) {
    str_add(out, "<div class=grid>");
    for (size_t i = 0; i < sizeof chart_rows / sizeof *chart_rows; i++)
        run_chart(out, r, &chart_rows[i]);
    str_add(out, "</div>\n");
}

void run_config(Str *out, const RunData *r) {
    if (!*r->config) return;
    str_add(out, "<h2>Configuration</h2><details><summary>config.yaml</summary><pre>");
    str_escape_html(out, r->config);
    str_add(out, "</pre></details>\n");
}

static void run_pictures(Str *out, const RunData *r) {
    const Panel panels[] = {{r->dir, "image", "image"},     {r->dir, "label", "label"},
                            {r->dir, "teacher", "teacher"}, {r->dir, "student", "student"},
                            {r->dir, "tfe", "TFE weight"},  {r->dir, "tse", "TSE mask"}};
    pictures_add(out, r, panels, sizeof panels / sizeof *panels);
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
