/* html.c - the report: one page, everything inside, no script and no request to anywhere.
 *
 * Colours come from variables, set once for light and once for dark pages. All text from outside
 * goes through str_escape_html. */
#include "report/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"

static const char STYLE[] =
    ":root{color-scheme:light "
    "dark;--bg:#fcfcfb;--fg:#1d1d1b;--dim:#6a6962;--line:#e3e2dc;--card:#fff;"
    "--s1:#2a78d6;--s2:#e08a00;--s3:#1a9c74;--s4:#4a3aa7;--s5:#d0403f;--s6:#7a7a70}"
    "@media(prefers-color-scheme:dark){:root{--bg:#161615;--fg:#f1f0ea;--dim:#a3a299;--line:#"
    "35342f;--card:#1f1f1d;"
    "--s1:#4c97ee;--s2:#e0982a;--s3:#27b489;--s4:#9a8ff0;--s5:#ee6e6c;--s6:#9c9b92}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 "
    "system-ui,sans-serif}"
    "main{max-width:1180px;margin:0 auto;padding:24px 20px 60px}h1{font-size:24px;margin:0 0 4px}"
    "h2{font-size:18px;margin:36px 0 10px}p{margin:6px 0}.dim,small,figcaption "
    "small{color:var(--dim);font-weight:400}"
    ".tiles{display:flex;flex-wrap:wrap;gap:12px;margin:16px "
    "0}.tile{background:var(--card);border:1px solid var(--line);"
    "border-radius:8px;padding:10px 16px;min-width:120px}.tile "
    "b{display:block;font-size:22px;font-weight:600}"
    ".grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:"
    "16px}"
    "figure{margin:0;background:var(--card);border:1px solid "
    "var(--line);border-radius:8px;padding:12px 14px}"
    "figcaption{font-weight:600;margin-bottom:6px}svg{width:100%;max-width:640px;height:auto;display:block}"
    "svg text{font:12px system-ui,sans-serif;fill:var(--fg)}svg .t{fill:var(--dim);font-size:11px;paint-order:stroke;stroke:var(--card);stroke-width:3px}"
    ".g{stroke:var(--line)}.m{stroke:var(--dim);stroke-dasharray:4 "
    "4}.c{fill:none;stroke-width:2;stroke-linejoin:round}"
    ".p{stroke:var(--card);stroke-width:1.5}.h{opacity:0}.h:hover{opacity:1}"
    ".c.s1{stroke:var(--s1)}.c.s2{stroke:var(--s2)}.c.s3{stroke:var(--s3)}.c.s4{stroke:var(--s4)}."
    "c.s5{stroke:var(--s5)}.c.s6{stroke:var(--s6)}"
    ".p.s1,.b1{fill:var(--s1)}.p.s2,.b2{fill:var(--s2)}.p.s3,.b3{fill:var(--s3)}.p.s4,.b4{fill:var("
    "--s4)}.p.s5,.b5{fill:var(--s5)}.p.s6,.b6{fill:var(--s6)}"
    ".keys{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:13px;margin-top:6px}.k "
    "i{display:inline-block;width:12px;height:12px;"
    "border-radius:3px;margin-right:6px;vertical-align:-1px}i.b1{background:var(--s1)}i.b2{"
    "background:var(--s2)}i.b3{background:var(--s3)}"
    "i.b4{background:var(--s4)}i.b5{background:var(--s5)}i.b6{background:var(--s6)}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{text-align:right;"
    "padding:5px 14px;border-bottom:1px solid var(--line)}"
    "th:first-child,td:first-child{text-align:left}.wide{overflow-x:auto}"
    ".panels{display:grid;grid-template-columns:repeat(6,minmax(130px,1fr));gap:8px;min-width:"
    "800px}.panels b{font-weight:600;font-size:13px}"
    ".panels "
    "img{width:100%;display:block;border-radius:4px;image-rendering:pixelated}.none{color:var(--"
    "dim)}"
    "pre{background:var(--card);border:1px solid "
    "var(--line);border-radius:8px;padding:12px;overflow-x:auto;font-size:12.5px}";

static void page_open(Str *out, const char *title) {
    str_add(out, "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
                 "<meta name=viewport content='width=device-width,initial-scale=1'>"
                 "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; img-src "
                 "data:; style-src 'unsafe-inline'\"><title>");
    str_escape_html(out, title);
    str_add(out, "</title><style>");
    str_add(out, STYLE);
    str_add(out, "</style></head><body><main><h1>");
    str_escape_html(out, title);
    str_add(out, "</h1>\n");
}

static Err page_close(Str *out, const char *path) {
    char now[32];
    sys_wall_time(now);
    str_addf(out, "<p class=dim>written %s by retort %s</p></main></body></html>\n", now,
             RETORT_VERSION);
    Err rc = durable_write_all(path, out->s, out->n);
    str_free(out);
    return rc;
}

static void tile(Str *out, const char *name, const char *text) {
    str_add(out, "<div class=tile><b>");
    str_escape_html(out, text);
    str_add(out, "</b><span class=dim>");
    str_escape_html(out, name);
    str_add(out, "</span></div>");
}

static void tile_percent(Str *out, const char *name, double v) {
    char text[32];
    if (isfinite(v)) snprintf(text, sizeof text, "%.2f %%", 100 * v);
    tile(out, name, isfinite(v) ? text : "-");
}

/* ---- the parts of one run
 * ------------------------------------------------------------------------ */
static void run_tiles(Str *out, const RunData *r) {
    char text[64];
    str_add(out, "<div class=tiles>");
    tile(out, "state", r->state);
    if (isfinite(r->step)) {
        if (isfinite(r->steps)) snprintf(text, sizeof text, "%.0f / %.0f", r->step, r->steps);
        else snprintf(text, sizeof text, "%.0f", r->step);
        tile(out, "step", text);
    }
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

/* All series whose name starts with prefix in one chart, named by what follows it. */
static void run_chart(Str *out, const RunData *r, const char *prefix, Chart c) {
    Series found[RUN_SERIES_MAX];
    int n = 0;
    for (int i = 0; i < r->n_series; i++) {
        if (!str_starts(r->series[i].name, prefix)) continue;
        found[n] = r->series[i];
        size_t skip = str_ends(prefix, ".") ? strlen(prefix) : 0;
        found[n++].name = r->series[i].name + skip;
    }
    c.series = found, c.n_series = n;
    if (isfinite(r->switch_step)) c.mark_x = r->switch_step, c.mark = "TFE | TSE";
    chart_lines(out, &c);
}

static void run_charts(Str *out, const RunData *r) {
    str_add(out, "<h2>Curves</h2><div class=grid>");
    run_chart(out, r, "loss.",
              (Chart){.title = "Loss terms", .unit = "by step", .from_zero = true});
    run_chart(out, r, "eval.",
              (Chart){.title = "mIoU and pixel accuracy", .unit = "by step", .from_zero = true});
    run_chart(out, r, "lr",
              (Chart){.title = "Learning rate", .unit = "by step", .from_zero = true});
    if (run_data_series(r, "kept.main"))
        run_chart(
            out, r, "kept.",
            (Chart){.title = "Share of valid pixels kept", .unit = "by step", .from_zero = true});
    if (run_data_series(r, "grad_norm"))
        run_chart(out, r, "grad_norm",
                  (Chart){.title = "Gradient norm", .unit = "by step", .from_zero = true});
    if (run_data_series(r, "images_per_s"))
        run_chart(out, r, "images_per_s",
                  (Chart){.title = "Speed", .unit = "images/s", .from_zero = true});
    str_add(out, "</div>\n");
}

static void run_classes(Str *out, const RunData *r) {
    BarRow *rows = xcalloc((size_t)r->n_classes + 1, sizeof *rows);
    for (int i = 0; i < r->n_classes; i++)
        rows[i] = (BarRow){r->classes[i].name, &r->classes[i].iou, NULL};
    str_add(out, "<h2>Classes</h2>");
    chart_bars(out, "IoU per class, last evaluation", (const char *const[]){"IoU"}, 1, rows,
               r->n_classes);
    free(rows);
}

/* ---- panels: one row of pictures per image
 * ------------------------------------------------------- */
static const struct {
    const char *kind, *title;
} panels[] = {{"image", "image"},     {"label", "label"},    {"teacher", "teacher"},
              {"student", "student"}, {"tfe", "TFE weight"}, {"tse", "TSE mask"}};
enum { PANELS = sizeof panels / sizeof *panels };

static void panel_picture(Str *out, const RunData *r, const char *stem, int panel) {
    char *path = xprintf("%s/maps/%s.%s.png", r->dir, stem, panels[panel].kind);
    Bytes b = {0};
    if (!sys_exists(path)) str_add(out, "<span class=none>-</span>");
    else if (sys_read_file(path, 16 << 20, EXIT_OUTPUT, &b))
        str_add(out, "<span class=none>unreadable</span>");
    else {
        str_add(out, "<img alt='");
        str_escape_html(out, stem);
        str_addf(out, " %s' src='data:image/png;base64,", panels[panel].title);
        base64_add(out, b.data, b.bytes);
        str_add(out, "'>");
    }
    free(b.data);
    free(path);
}

static void part_key(Str *out, TsePart part, const char *text) {
    const uint8_t *c = overlay_part_rgb[part];
    str_addf(out, "<span class=k><i style='background:rgb(%d,%d,%d)'></i>%s</span>", c[0], c[1],
             c[2], text);
}

static void run_panels(Str *out, const RunData *r) {
    int shown = 0;
    for (int i = 0; i < r->n_pictures && shown < REPORT_PICTURES_MAX; i++) {
        if (!str_ends(r->pictures[i], ".image.png")) continue;
        if (!shown++) {
            str_add(out, "<h2>Pictures</h2><div class=wide><div class=panels>");
            for (int k = 0; k < PANELS; k++) str_addf(out, "<b>%s</b>", panels[k].title);
        }
        char *stem = xstrdup(r->pictures[i]);
        stem[strlen(stem) - strlen(".image.png")] = 0;
        for (int k = 0; k < PANELS; k++) panel_picture(out, r, stem, k);
        free(stem);
    }
    if (!shown) return;
    str_add(out, "</div></div><div class=keys>TFE weight: dark 0 (the teacher's heads disagree), "
                 "bright 1. TSE mask, hard for: ");
    part_key(out, PART_STUDENT, "the student alone (kept)");
    part_key(out, PART_TEACHER, "the teacher alone (kept)");
    part_key(out, PART_BOTH, "both");
    part_key(out, PART_EASY, "neither");
    part_key(out, PART_NONE, "void");
    str_add(out, "</div>\n");
}

static void run_parts(Str *out, const RunData *r) {
    run_tiles(out, r);
    run_charts(out, r);
    run_classes(out, r);
    run_panels(out, r);
    if (*r->config) {
        str_add(out, "<h2>Configuration</h2><details><summary>config.yaml</summary><pre>");
        str_escape_html(out, r->config);
        str_add(out, "</pre></details>\n");
    }
}

Err report_write(const char *run_dir) {
    RunData *r;
    TRY(run_data_open(run_dir, &r));
    Str out = {0};
    page_open(&out, path_base(run_dir));
    run_parts(&out, r);
    run_data_close(r);
    char *path = path_join(run_dir, "report.html");
    Err rc = page_close(&out, path);
    free(path);
    return rc;
}

/* ---- matched arms
 * -------------------------------------------------------------------------------- */
typedef struct {
    const ReportArm *arm;
    RunData **run;
    ArmScore score;
} ArmData;

static ArmScore arm_score(RunData *const *run, int n) {
    ArmScore s = {.lo = INFINITY, .hi = -INFINITY};
    for (int i = 0; i < n; i++) {
        double v = run[i] ? run[i]->miou : NAN;
        if (!isfinite(v)) continue;
        s.n++, s.mean += v, s.lo = fmin(s.lo, v), s.hi = fmax(s.hi, v);
    }
    s.mean = s.n ? s.mean / s.n : NAN;
    if (!s.n) s.lo = s.hi = NAN;
    return s;
}

static void arm_open(const ReportArm *arm, ArmData *out) {
    *out = (ArmData){.arm = arm, .run = xcalloc((size_t)arm->n + 1, sizeof *out->run)};
    for (int i = 0; i < arm->n; i++)
        if (run_data_open(arm->dirs[i], &out->run[i])) out->run[i] = NULL; /* shown as "-" */
    out->score = arm_score(out->run, arm->n);
}

static void arm_close(ArmData *a) {
    for (int i = 0; i < a->arm->n; i++) run_data_close(a->run[i]);
    free(a->run);
}

ArmScore report_arm_score(const ReportArm *arm) {
    ArmData a;
    arm_open(arm, &a);
    ArmScore s = a.score;
    arm_close(&a);
    return s;
}

static void arms_table(Str *out, const ArmData *a, int n) {
    const ArmData *base = NULL;
    for (int i = 0; i < n && !base; i++)
        if (a[i].arm->n > 1) base = &a[i];
    str_add(out, "<div class=wide><table><tr><th>arm<th>mIoU, mean<th>lowest .. "
                 "highest<th>runs<th>difference to baseline<th style='text-align:left'>what it is</tr>");
    for (int i = 0; i < n; i++) {
        ArmScore s = a[i].score;
        str_add(out, "<tr><td>");
        str_escape_html(out, a[i].arm->name);
        if (s.n)
            str_addf(out, "<td>%.2f %%<td>%.2f .. %.2f<td>%d", 100 * s.mean, 100 * s.lo, 100 * s.hi,
                     s.n);
        else str_add(out, "<td>-<td>-<td>0");
        if (base && base != &a[i] && s.n && base->score.n && a[i].arm->n > 1)
            str_addf(out, "<td>%+.2f points", 100 * (s.mean - base->score.mean));
        else str_add(out, base == &a[i] ? "<td>baseline" : "<td>");
        str_add(out, "<td style='text-align:left'>");
        str_escape_html(out, a[i].arm->note ? a[i].arm->note : "");
        str_add(out, "</tr>");
    }
    str_add(out, "</table></div>\n<p class=dim>Mean over runs that differ by their seed alone, "
                 "from the last evaluation of each, not the best. "
                 "With so few runs a difference smaller than the spread says nothing.</p>\n");
}

/* mIoU by step: one curve per run, named by arm. */
static void arms_curves(Str *out, const ArmData *a, int n) {
    Series s[16];
    int found = 0;
    for (int i = 0; i < n && found < 16; i++) {
        const Series *first =
            a[i].arm->n && a[i].run[0] ? run_data_series(a[i].run[0], "eval.miou") : NULL;
        if (first) s[found] = *first, s[found++].name = a[i].arm->name;
    }
    chart_lines(out, &(Chart){.title = "mIoU on validation images",
                              .unit = "by step, first seed of each arm",
                              .series = s,
                              .n_series = found,
                              .from_zero = true});
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

static void arms_classes(Str *out, const ArmData *a, int n) {
    const RunData *first = n && a[0].arm->n ? a[0].run[0] : NULL;
    int classes = first ? first->n_classes : 0;
    const char *groups[16];
    double *value = xcalloc((size_t)classes * (size_t)n + 1, sizeof *value);
    BarRow *rows = xcalloc((size_t)classes + 1, sizeof *rows);
    for (int c = 0; c < classes; c++) {
        rows[c] = (BarRow){first->classes[c].name, value + c * n, NULL};
        for (int i = 0; i < n; i++) value[c * n + i] = arm_class(&a[i], c);
    }
    for (int i = 0; i < n; i++) groups[i] = a[i].arm->name;
    chart_bars(out, "IoU per class, mean over runs", groups, n, rows, classes);
    free(value);
    free(rows);
}

Err report_write_arms(const char *path, const char *title, const ReportArm *arms, int n,
                      const char *detail) {
    CHECK(n <= 16);
    ArmData a[16];
    Str out = {0};
    for (int i = 0; i < n; i++) arm_open(&arms[i], &a[i]);
    page_open(&out, title);
    arms_table(&out, a, n);
    str_add(&out, "<h2>Arms</h2><div class=grid>");
    arms_curves(&out, a, n);
    arms_classes(&out, a, n);
    str_add(&out, "</div>\n");
    RunData *r = NULL;
    if (detail && !run_data_open(detail, &r)) {
        str_add(&out, "<h2>One run: ");
        str_escape_html(&out, detail);
        str_add(&out, "</h2>");
        run_parts(&out, r);
    }
    run_data_close(r);
    for (int i = 0; i < n; i++) arm_close(&a[i]);
    return page_close(&out, path);
}
