/* result.c - an evaluation as JSON and as CSV. docs/formats.md tells the keys. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/eval.h"

void result_make(EvalResult *r, int worst, uint64_t seed) {
    const Evaluation *e = r->e;
    const int n = e->confusion->n, images = (int)e->confusion->images;
    confusion_scores(e->confusion, &r->s);
    for (int i = 0; i < e->n_metrics; i++)
        r->n_extra += e->metric[i]->scores(e->sum[i], n, r->extra + r->n_extra);
    r->n_official = r->protocol->numbers(e->confusion, &r->s, r->official);
    r->interval[0] = r->interval[1] = NAN;
    if (images > 1) scores_interval(e->counts, images, n, seed, r->interval);        /* one tells nothing of others */
    r->worst = xcalloc((size_t)worst + 1, sizeof *r->worst);
    r->n_worst = evaluation_worst(e, worst, r->worst);
}

void result_free(EvalResult *r) {
    for (int i = 0; i < r->n_extra; i++) free(r->extra[i].of);
    scores_free(&r->s);
    free(r->worst), free(r->mode);
    *r = (EvalResult){0};
}

void result_image(const EvalResult *r, int index, double *miou, double *accuracy) {
    const int n = r->e->confusion->n;
    const int64_t *c = r->e->counts + (int64_t)index * 3 * n;
    int64_t right = 0, all = 0;
    for (int k = 0; k < n; k++) right += c[3 * k], all += c[3 * k + 1];
    *miou = counts_miou(c, n);
    *accuracy = all ? (double)right / (double)all : NAN;
}

/* ---- JSON ------------------------------------------------------------------------------------ */
static void add_number(Str *s, const char *key, double v) {
    str_addf(s, ", \"%s\": ", key);
    str_json_number(s, v);
}

static void add_text(Str *s, const char *key, const char *text) {
    str_addf(s, ", \"%s\": ", key);
    str_json(s, text);
}

static void add_summary(Str *s, const EvalResult *r) {
    add_number(s, "miou", r->s.miou);
    add_number(s, "miou_present", r->s.miou_present);
    add_number(s, "miou_all", r->s.miou_all);
    add_number(s, "pixel_accuracy", r->s.pixel_accuracy);
    add_number(s, "mean_accuracy", r->s.mean_accuracy);
    add_number(s, "mean_dice", r->s.mean_dice);
    add_number(s, "weighted_iou", r->s.weighted_iou);
    str_add(s, ", \"miou_interval\": [");
    str_json_number(s, r->interval[0]);
    str_add(s, ", ");
    str_json_number(s, r->interval[1]);
    str_add(s, "]");
    for (int i = 0; i < r->n_extra; i++) add_number(s, r->extra[i].key, r->extra[i].mean);
}

static void add_classes(Str *s, const EvalResult *r) {
    for (int k = 0; k < r->d->n_classes; k++) {
        str_add(s, k ? ", {\"name\": " : ", \"classes\": [{\"name\": ");
        str_json(s, r->d->class_names[k]);
        add_number(s, "iou", r->s.iou[k]);
        add_number(s, "accuracy", r->s.accuracy[k]);
        str_addf(s, ", \"pixels\": %lld", (long long)r->s.pixels[k]);
        add_number(s, "dice", r->s.dice[k]);
        for (int i = 0; i < r->n_extra; i++)
            if (r->extra[i].of) add_number(s, r->extra[i].key, r->extra[i].of[k]);
        str_add(s, "}");
    }
    str_add(s, "]");
}

void confusion_json(Str *s, const Confusion *m) {
    str_add(s, "[");
    for (int k = 0; k < m->n; k++) {
        str_add(s, k ? ", [" : "[");
        for (int j = 0; j < m->n; j++)
            str_addf(s, "%s%lld", j ? ", " : "", (long long)m->count[(int64_t)k * m->n + j]);
        str_add(s, "]");
    }
    str_add(s, "]");
}

static void add_worst(Str *s, const EvalResult *r) {
    str_add(s, ", \"worst\": [");
    for (int i = 0; i < r->n_worst; i++) {
        double miou, accuracy;
        result_image(r, r->worst[i], &miou, &accuracy);
        str_add(s, i ? ", {\"name\": " : "{\"name\": ");
        str_json(s, r->d->names[r->worst[i]]);
        add_number(s, "miou", miou);
        add_number(s, "pixel_accuracy", accuracy);
        str_add(s, "}");
    }
    str_add(s, "]");
}

char *result_json(const EvalResult *r) {
    Str s = {0};
    str_add(&s, "{\"model\": "), str_json(&s, r->model);
    add_text(&s, "data", r->d->def->name);
    add_text(&s, "split", r->d->split);
    str_addf(&s, ", \"images\": %lld", (long long)r->e->confusion->images);
    add_summary(&s, r);
    add_classes(&s, r);
    str_add(&s, ", \"confusion\": ");
    confusion_json(&s, r->e->confusion);
    for (int i = 0; i < r->e->n_metrics; i++)
        if (r->e->metric[i]->json) r->e->metric[i]->json(&s, r->e->sum[i]);
    add_worst(&s, r);
    add_text(&s, "mode", r->mode);
    add_text(&s, "protocol", r->protocol->name);
    for (int i = 0; i < r->n_official; i++) {
        str_add(&s, i ? ", " : ", \"official\": {");
        str_json(&s, r->official[i].key);
        str_add(&s, ": ");
        str_json_number(&s, r->official[i].value);
    }
    str_add(&s, r->n_official ? "}" : "");
    add_text(&s, "version", RETORT_VERSION);
    str_add(&s, "}");
    return s.s;
}

/* ---- CSV, RFC 4180 --------------------------------------------------------------------------- */
static void csv_text(Str *s, const char *text) {
    Str safe = {0};
    str_escape_terminal(&safe, text);            /* no control bytes, so no line breaks */
    const bool quote = strpbrk(safe.n ? safe.s : "", ",\"") != NULL;
    if (quote) str_add(s, "\"");
    for (size_t i = 0; i < safe.n; i++) {
        if (safe.s[i] == '"') str_add(s, "\"");
        str_addn(s, safe.s + i, 1);
    }
    if (quote) str_add(s, "\"");
    str_free(&safe);
}

/* An empty field for what does not exist. */
static void csv_number(Str *s, double v) {
    str_add(s, ",");
    if (isfinite(v)) str_json_number(s, v);
}

static void csv_class(Str *s, const EvalResult *r, int k) {
    str_add(s, "class,");
    csv_text(s, r->d->class_names[k]);
    csv_number(s, r->s.iou[k]), csv_number(s, r->s.accuracy[k]), csv_number(s, r->s.dice[k]);
    str_addf(s, ",%lld", (long long)r->s.pixels[k]);
    for (int i = 0; i < r->n_extra; i++) csv_number(s, r->extra[i].of ? r->extra[i].of[k] : NAN);
    str_add(s, "\n");
}

static void csv_row(Str *s, const EvalResult *r, const char *kind, const char *name,
                    const double v[3]) {
    str_addf(s, "%s,", kind);
    csv_text(s, name);
    for (int i = 0; i < 3; i++) csv_number(s, v[i]);
    str_add(s, ",");
    for (int i = 0; i < r->n_extra; i++)
        csv_number(s, strcmp(name, "mean") || strcmp(kind, "all") ? NAN : r->extra[i].mean);
    str_add(s, "\n");
}

char *result_csv(const EvalResult *r) {
    Str s = {0};
    str_add(&s, "kind,name,iou,accuracy,dice,pixels");
    for (int i = 0; i < r->n_extra; i++) str_addf(&s, ",%s", r->extra[i].key);
    str_add(&s, "\n");
    for (int k = 0; k < r->d->n_classes; k++) csv_class(&s, r, k);
    csv_row(&s, r, "all", "mean", (double[]){r->s.miou, r->s.mean_accuracy, r->s.mean_dice});
    csv_row(&s, r, "all", "mean of present classes", (double[]){r->s.miou_present, NAN, NAN});
    csv_row(&s, r, "all", "mean of all classes", (double[]){r->s.miou_all, NAN, NAN});
    csv_row(&s, r, "all", "by pixels", (double[]){r->s.weighted_iou, r->s.pixel_accuracy, NAN});
    for (int i = 0; i < r->n_official; i++)
        csv_row(&s, r, r->protocol->name, r->official[i].title,
                (double[]){r->official[i].value, NAN, NAN});
    for (int i = 0; i < (int)r->e->confusion->images; i++) {
        double v[3] = {NAN, NAN, NAN};
        result_image(r, i, &v[0], &v[1]);
        csv_row(&s, r, "image", r->d->names[i], v);
    }
    return s.s;
}
