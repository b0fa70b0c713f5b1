/* eval_page.c - see eval_page.h. The page is one file without script or request; its pictures are
 * shrunk by whole factors to SIDE_MAX pixels: photographs by averaging, maps of classes by picking. */
#include "cli/eval_page.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/progress.h"
#include "cli/args.h"
#include "io/image.h"
#include "report/page.h"

enum { SIDE_MAX = 480, BARS_MAX = 60, PRINTED_MAX = 200 };

/* ---- the terminal ---------------------------------------------------------------------------- */
typedef struct { char s[16]; } Percent;

/* A percentage, or "-" for what does not exist. */
static Percent percent(double v) {
    Percent p = {"-"};
    if (isfinite(v)) snprintf(p.s, sizeof p.s, "%.2f", 100 * v);
    return p;
}

static void print_classes(const EvalResult *r) {
    printf("   IoU %%    acc %%   Dice %%");
    for (int j = 0; j < r->n_extra; j++)
        if (r->extra[j].of) printf("  %13s %%", r->extra[j].title);
    printf("         pixels  class\n");
    for (int k = 0; k < r->d->n_classes; k++) {
        printf("%8s %8s %8s", percent(r->s.iou[k]).s, percent(r->s.accuracy[k]).s,
               percent(r->s.dice[k]).s);
        for (int j = 0; j < r->n_extra; j++)
            if (r->extra[j].of) printf("  %15s", percent(r->extra[j].of[k]).s);
        printf(" %14lld  ", (long long)r->s.pixels[k]);
        cli_print(r->d->class_names[k], 100);
        putchar('\n');
    }
}

static void print_worst(const EvalResult *r) {
    if (!r->n_worst) return;
    printf("\nlowest mIoU:\n");
    for (int i = 0; i < r->n_worst; i++) {
        double miou, accuracy;
        result_image(r, r->worst[i], &miou, &accuracy);
        printf("%8s %%  ", percent(miou).s);
        cli_print(r->d->names[r->worst[i]], PRINTED_MAX);
        putchar('\n');
    }
}

void eval_print(const EvalResult *r) {
    const Scores *s = &r->s;
    cli_print(r->source, 4096);
    printf(" on %s/", r->d->def->name);
    cli_print(r->d->split, 64);
    printf(", %lld of %d images; %s\n\n", (long long)r->e->confusion->images, r->d->n, r->mode);
    print_classes(r);
    printf(
        "\nmIoU %s %% (95 %% interval %s to %s; of classes present %s %%, absent ones as 0: %s %%)\n",
        percent(s->miou).s, percent(r->interval[0]).s, percent(r->interval[1]).s,
        percent(s->miou_present).s, percent(s->miou_all).s);
    printf(
        "pixel accuracy %s %%  mean accuracy %s %%  mean Dice %s %%  IoU weighted by pixels %s %%\n",
        percent(s->pixel_accuracy).s, percent(s->mean_accuracy).s, percent(s->mean_dice).s,
        percent(s->weighted_iou).s);
    for (int i = 0; i < r->n_extra; i++)
        printf("%s%s %s %%", i ? "  " : "", r->extra[i].title, percent(r->extra[i].mean).s);
    if (r->n_extra) putchar('\n');
    if (r->n_official) printf("\nas %s counts:\n", r->protocol->name);
    for (int i = 0; i < r->n_official; i++)
        printf("%8s %%  %s\n", percent(r->official[i].value).s, r->official[i].title);
    print_worst(r);
}

/* ---- tables of the page ---------------------------------------------------------------------- */
static void tile(Str *out, const char *title, double v) {
    Str text = {0};
    page_percent(&text, v, " %");
    page_tile(out, title, text.s);
    str_free(&text);
}

static void tiles(Str *out, const EvalResult *r) {
    str_add(out, "<div class=tiles>");
    tile(out, "mIoU", r->s.miou);
    tile(out, "mIoU of classes present", r->s.miou_present);
    tile(out, "mIoU, absent ones as 0", r->s.miou_all);
    tile(out, "pixel accuracy", r->s.pixel_accuracy);
    tile(out, "mean accuracy", r->s.mean_accuracy);
    tile(out, "mean Dice", r->s.mean_dice);
    tile(out, "IoU weighted by pixels", r->s.weighted_iou);
    for (int i = 0; i < r->n_extra; i++) tile(out, r->extra[i].title, r->extra[i].mean);
    str_add(out, "</div>\n");
    if (!r->n_official) return;
    str_add(out, "<h2>As ");
    str_escape_html(out, r->protocol->name);
    str_add(out, " counts</h2><div class=tiles>");
    for (int i = 0; i < r->n_official; i++) tile(out, r->official[i].title, r->official[i].value);
    str_add(out, "</div>\n");
}

static void class_table(Str *out, const EvalResult *r) {
    str_add(out, "<div class='card wide'><table><tr><th>class<th>IoU %<th>accuracy %<th>Dice %");
    for (int j = 0; j < r->n_extra; j++) {
        if (!r->extra[j].of) continue;
        str_add(out, "<th>");
        str_escape_html(out, r->extra[j].title);
        str_add(out, " %");
    }
    str_add(out, "<th>pixels</tr>\n");
    for (int k = 0; k < r->d->n_classes; k++) {
        str_add(out, "<tr><td>");
        str_escape_html(out, r->d->class_names[k]);
        page_cell(out, r->s.iou[k]), page_cell(out, r->s.accuracy[k]), page_cell(out, r->s.dice[k]);
        for (int j = 0; j < r->n_extra; j++)
            if (r->extra[j].of) page_cell(out, r->extra[j].of[k]);
        str_addf(out, "<td>%lld</tr>\n", (long long)r->s.pixels[k]);
    }
    str_add(out, "</table></div>\n");
}

static void class_bars(Str *out, const EvalResult *r) {
    static const char *const groups[] = {"IoU"};
    const int n = r->d->n_classes;
    BarRow *row = xcalloc((size_t)n, sizeof *row);
    for (int k = 0; k < n; k++)
        row[k] = (BarRow){r->d->class_names[k], &r->s.iou[k], r->d->palette[k]};
    if (n <= BARS_MAX) chart_bars(out, "IoU of each class", groups, 1, row, n);
    free(row);
}

static void confusion(Str *out, const EvalResult *r) {
    const int n = r->d->n_classes;
    double *count = xcalloc((size_t)n * (size_t)n, sizeof *count);
    for (int64_t i = 0; i < (int64_t)n * n; i++) count[i] = (double)r->e->confusion->count[i];
    str_add(out, "<div style=height:16px></div>");
    chart_confusion(out, "Confusion", r->d->class_names, count, n);
    free(count);
}

/* How right a network is that is so sure; where it lies on the diagonal it knows. */
static void calibration_chart(Str *out, const EvalResult *r) {
    for (int i = 0; i < r->e->n_metrics; i++) {
        if (strcmp(r->e->metric[i]->name, "calibration")) continue;
        double confidence[CALIBRATION_BINS], accuracy[CALIBRATION_BINS];
        int64_t pixels[CALIBRATION_BINS];
        Series s[2] = {{.name = "accuracy"}, {.name = "as it should be"}};
        calibration_bins(r->e->sum[i], confidence, accuracy, pixels);
        for (int b = 0; b < CALIBRATION_BINS; b++)
            if (pixels[b])
                series_add(&s[0], confidence[b], accuracy[b]),
                    series_add(&s[1], confidence[b], confidence[b]);
        chart_lines(out, &(Chart){.title = "Calibration",
                                  .unit = "accuracy by confidence",
                                  .series = s,
                                  .n_series = 2,
                                  .from_zero = true});
        series_free(&s[0]), series_free(&s[1]);
    }
}

/* ---- pictures -------------------------------------------------------------------------------- */
static Err picture(Str *out, const uint8_t *rgb, int h, int w, bool average, const char *title) {
    int sh, sw;
    uint8_t *small = page_shrink(rgb, h, w, SIDE_MAX, average, &sh, &sw), *png;
    size_t bytes;
    Err rc = image_encode_png_rgb(small, sh, sw, &png, &bytes);
    free(small);
    if (rc) return rc;
    str_addf(out, "<figure><img alt='%s' src='data:image/png;base64,", title);
    base64_add(out, png, bytes);
    str_addf(out, "'><figcaption>%s</figcaption></figure>", title);
    free(png);
    return OK;
}

static Err four_pictures(Str *out, const EvalResult *r, const Sample *s, const uint8_t *pred) {
    const int64_t pixels = (int64_t)s->h * s->w;
    const int n = r->d->n_classes;
    uint8_t *rgb = xcalloc((size_t)pixels, 3);
    Err rc = picture(out, s->rgb, s->h, s->w, true, "image");
    overlay_labels(rgb, s->label, pixels, r->d->palette, n);
    if (!rc) rc = picture(out, rgb, s->h, s->w, false, "label");
    overlay_labels(rgb, pred, pixels, r->d->palette, n);
    if (!rc) rc = picture(out, rgb, s->h, s->w, false, "prediction");
    for (int64_t i = 0; i < pixels; i++) {           /* what is right and what is void stays grey */
        const bool wrong = s->label[i] < n && s->label[i] != pred[i];
        const uint8_t *p = s->rgb + 3 * i;
        const int grey = (p[0] + p[1] + p[2]) / 6;
        for (int c = 0; c < 3; c++)
            rgb[3 * i + c] = (uint8_t)(wrong             ? r->d->palette[pred[i]][c]
                                       : s->label[i] < n ? grey + 100
                                                         : grey);
    }
    if (!rc) rc = picture(out, rgb, s->h, s->w, false, "what is wrong");
    free(rgb);
    return rc;
}

static Err worst_image(Str *out, const EvalResult *r, Predictor *p, Dataset *d, int index) {
    Sample s = {0};
    double miou, accuracy;
    TRY(dataset_read(d, index, &s));
    uint8_t *pred = xcalloc((size_t)s.h * (size_t)s.w, 1);
    Err rc = predictor_run(p, s.rgb, s.h, s.w, pred);
    result_image(r, index, &miou, &accuracy);
    str_add(out, "<p>");
    str_escape_html(out, d->names[index]);
    str_add(out, " <span class=dim>mIoU ");
    page_percent(out, miou, " %");
    str_add(out, ", pixel accuracy ");
    page_percent(out, accuracy, " %");
    str_add(out, "</span></p><div class=row>");
    if (!rc) rc = four_pictures(out, r, &s, pred);
    str_add(out, "</div>\n");
    free(pred);
    sample_free(&s);
    return rc;
}

static void legend(Str *out, const Dataset *d) {
    str_add(out, "<div class=keys>");
    for (int k = 0; k < d->n_classes; k++) page_key(out, d->palette[k], d->class_names[k]);
    str_add(out, "</div>\n");
}

static Err worst_images(Str *out, const EvalResult *r, Predictor *p, Dataset *d) {
    Progress progress = progress_start("images", r->n_worst, "drawing the worst");
    Err rc = OK;
    if (!r->n_worst) return OK;
    str_add(out, "<h2>Lowest mIoU</h2>\n");
    legend(out, d);
    for (int i = 0; i < r->n_worst && !rc; i++) {
        rc = worst_image(out, r, p, d, r->worst[i]);
        progress_to(&progress, i + 1);
    }
    progress_end(&progress);
    return rc;
}

Err eval_page(const char *path, const EvalResult *r, Predictor *p, Dataset *d) {
    Str out = {0};
    char *title = xprintf("%s on %s/%s", r->model, d->def->name, d->split);
    page_open(&out, title, false);
    free(title);
    str_add(&out, "<p class=dim>");
    str_escape_html(&out, r->source);
    str_addf(&out, ", %lld of %d images; %s; 95 %% interval of mIoU over images ",
             (long long)r->e->confusion->images, d->n, r->mode);
    page_percent(&out, r->interval[0], "");
    str_add(&out, " to ");
    page_percent(&out, r->interval[1], " %");
    str_add(&out, "</p>\n");
    tiles(&out, r);
    str_add(&out, "<h2>Classes</h2>\n");
    class_table(&out, r);
    str_add(&out, "<h2>Charts</h2><div class=grid>");
    class_bars(&out, r);
    calibration_chart(&out, r);
    str_add(&out, "</div>\n");
    confusion(&out, r);
    Err rc = worst_images(&out, r, p, d);
    if (rc) str_free(&out);
    return rc ? rc : page_close(&out, path);
}
