/* run_data.c - read a run directory: config.yaml, metrics.jsonl, run.status.json, maps/.
 *
 * A run may be live, killed or damaged: whatever is missing stays NaN, "" or empty, and lines that
 * are not JSON (the torn last one of a killed run) are counted, not fatal. */
#include "report/report.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"

static const size_t FILE_MAX = (size_t)1 << 30;

const Series *run_data_series(const RunData *r, const char *name) {
    for (int i = 0; i < r->n_series; i++)
        if (!strcmp(r->series[i].name, name)) return &r->series[i];
    return NULL;
}

/* Lines are alike: the series after the one recorded last is the likeliest. */
static Series *series_find(RunData *r, const char *name) {
    const int next = r->next_series < r->n_series ? r->next_series : 0;
    Series *s = r->n_series && !strcmp(r->series[next].name, name)
                    ? &r->series[next]
                    : (Series *)run_data_series(r, name);
    if (s) r->next_series = (int)(s - r->series) + 1;
    return s;
}

static void series_record(RunData *r, const char *name, double x, const json_t *value) {
    if (!json_is_number(value) && !json_is_null(value)) return;
    Series *s = series_find(r, name);
    if (!s) {
        if (r->n_series == RUN_SERIES_MAX) return; /* a crafted file cannot grow the page */
        s = &r->series[r->n_series++];
        s->name = arena_strdup(r->arena, name);
    }
    series_add(s, x, json_is_number(value) ? json_number_value(value) : NAN);
}

static void record_group(RunData *r, const char *group, double x, json_t *object) {
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        char name[96];
        snprintf(name, sizeof name, "%s.%s", group, key);
        series_record(r, name, x, value);
    }
}

static double number_or_nan(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static const char *text_or(RunData *r, const json_t *object, const char *key,
                           const char *otherwise) {
    const char *s = json_string_value(json_object_get(object, key));
    return arena_strdup(r->arena, s ? s : otherwise);
}

static void record_classes(RunData *r, const json_t *classes) {
    size_t n = json_array_size(classes);
    if (!n || n > RUN_CLASSES_MAX) return;
    r->classes = arena_alloc(r->arena, n * sizeof *r->classes);
    r->n_classes = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *c = json_array_get(classes, i);
        r->classes[i].name = text_or(r, c, "name", "?");
        r->classes[i].iou = number_or_nan(c, "iou");
        double pixels = number_or_nan(c, "pixels");
        r->classes[i].pixels = pixels >= 0 && pixels < 9e18 ? (int64_t)pixels : 0;
    }
}

/* A matrix that is not as large as the classes are many is none. */
static void record_confusion(RunData *r, const json_t *rows) {
    const size_t n = (size_t)r->n_classes;
    r->confusion = NULL;
    if (!n || json_array_size(rows) != n) return;
    double *count = arena_alloc(r->arena, n * n * sizeof *count);
    for (size_t i = 0; i < n; i++) {
        const json_t *row = json_array_get(rows, i);
        if (json_array_size(row) != n) return;
        for (size_t j = 0; j < n; j++) {
            double v = json_number_value(json_array_get(row, j));
            count[i * n + j] = v > 0 && v < 1e18 ? v : 0;
        }
    }
    r->confusion = count;
}

static void record_eval(RunData *r, double step, json_t *eval) {
    r->eval_step = step;
    r->miou = number_or_nan(eval, "miou");
    r->pixel_accuracy = number_or_nan(eval, "pixel_accuracy");
    if (isfinite(r->miou) && !(r->miou <= r->best_miou)) r->best_miou = r->miou;
    series_record(r, "eval.miou", step, json_object_get(eval, "miou"));
    series_record(r, "eval.miou_present", step, json_object_get(eval, "miou_present"));
    series_record(r, "eval.pixel_accuracy", step, json_object_get(eval, "pixel_accuracy"));
    series_record(r, "eval.ema", step, json_object_get(json_object_get(eval, "ema"), "miou"));
}

/* last_eval: classes and matrix are read of the last one alone. */
static void record_line(RunData *r, json_t *o, json_t **last_eval) {
    double step = number_or_nan(o, "step");
    if (!isfinite(step)) return;
    json_t *eval = json_object_get(o, "eval");
    if (json_is_object(eval)) {
        json_decref(*last_eval);
        *last_eval = json_incref(eval);
        record_eval(r, step, eval);
        return;
    }
    record_group(r, "loss", step, json_object_get(o, "loss"));
    record_group(r, "kept", step, json_object_get(o, "kept"));
    record_group(r, "kept_class", step, json_object_get(o, "kept_class"));
    json_t *gradients = json_object_get(o, "gradients");
    record_group(r, "norm", step, json_object_get(gradients, "norm"));
    record_group(r, "cosine", step, json_object_get(gradients, "cosine"));
    series_record(r, "lr", step, json_object_get(o, "lr"));
    series_record(r, "grad_norm", step, json_object_get(o, "grad_norm"));
    series_record(r, "images_per_s", step, json_object_get(o, "images_per_s"));
    const char *stage = json_string_value(json_object_get(o, "stage"));
    if (stage && !strcmp(stage, "tse") && isnan(r->switch_step)) r->switch_step = step;
}

static Err read_text(const RunData *r, const char *name, Bytes *out) {
    char *path = path_join(r->dir, name);
    *out = (Bytes){0};
    Err rc = sys_exists(path) ? sys_read_file(path, FILE_MAX, EXIT_OUTPUT, out) : OK;
    free(path);
    return rc;
}

static Err read_metrics(RunData *r) {
    Bytes b;
    json_t *last_eval = NULL;
    TRY(read_text(r, "metrics.jsonl", &b));
    for (size_t at = 0; at < b.bytes;) {
        const uint8_t *end = memchr(b.data + at, '\n', b.bytes - at);
        size_t n = end ? (size_t)(end - b.data) - at : b.bytes - at;
        json_t *o = json_loadb((const char *)b.data + at, n, JSON_REJECT_DUPLICATES, NULL);
        if (json_is_object(o)) record_line(r, o, &last_eval);
        else if (n) r->bad_lines++;
        json_decref(o);
        at += n + 1;
    }
    record_classes(r, json_object_get(last_eval, "classes"));
    record_confusion(r, json_object_get(last_eval, "confusion"));
    json_decref(last_eval);
    free(b.data);
    return OK;
}

static Err read_status(RunData *r) {
    Bytes b;
    TRY(read_text(r, "run.status.json", &b));
    json_t *o = b.bytes ? json_loadb((const char *)b.data, b.bytes, 0, NULL) : NULL;
    r->state = text_or(r, o, "state", "unknown");
    r->time = text_or(r, o, "time", "");
    r->step = number_or_nan(o, "step");
    r->steps = number_or_nan(o, "steps");
    r->eta_s = number_or_nan(o, "eta_s");
    r->exit_code = number_or_nan(o, "exit_code");
    const char *host = json_string_value(json_object_get(o, "host"));
    LockHolder holder;
    if (!strcmp(r->state, "running") && host && !strcmp(host, sys_hostname()) &&
        !lock_look(r->dir, &holder) && !holder.held)
        r->state = "killed";
    json_decref(o);
    free(b.data);
    return OK;
}

static Err read_config(RunData *r) {
    Bytes b;
    TRY(read_text(r, "config.yaml", &b));
    char *text = arena_alloc(r->arena, b.bytes + 1);
    if (b.bytes) memcpy(text, b.data, b.bytes);
    r->config = text;
    free(b.data);
    return OK;
}

static Err read_pictures(RunData *r) {
    char *dir = path_join(r->dir, "maps"), **names = NULL;
    int n = 0;
    Err rc = sys_is_dir(dir) ? sys_list(dir, EXIT_OUTPUT, &names, &n) : OK;
    free(dir);
    if (rc || !n) return rc;
    r->pictures = arena_alloc(r->arena, (size_t)n * sizeof *r->pictures);
    for (int i = 0; i < n; i++)
        if (str_ends(names[i], ".png"))
            r->pictures[r->n_pictures++] = arena_strdup(r->arena, names[i]);
    sys_free_names(names, n);
    return OK;
}

/* Names and colours of the label maps, as the writer of the pictures left them. */
static Err read_colours(RunData *r) {
    Bytes b;
    TRY(read_text(r, "maps/classes.json", &b));
    json_t *list = b.bytes ? json_loadb((const char *)b.data, b.bytes, 0, NULL) : NULL;
    size_t n = json_array_size(list);
    if (n > RUN_CLASSES_MAX) n = RUN_CLASSES_MAX;
    r->colours = arena_alloc(r->arena, (n + 1) * sizeof *r->colours);
    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(list, i), *rgb = json_object_get(o, "rgb");
        r->colours[i].name = text_or(r, o, "name", "?");
        for (size_t c = 0; c < 3; c++)
            r->colours[i].rgb[c] = (uint8_t)json_integer_value(json_array_get(rgb, c));
    }
    r->n_colours = (int)n;
    json_decref(list);
    free(b.data);
    return OK;
}

Err run_data_open(const char *dir, RunData **out) {
    if (!sys_is_dir(dir))
        return err_set(E(EXIT_USAGE, 76),
                       "%s: is not a run directory; give the `out` of a training run", dir);
    Arena *a = arena_open();
    RunData *r = arena_alloc(a, sizeof *r);
    r->arena = a;
    r->dir = arena_strdup(a, dir);
    r->config = r->time = "";
    r->switch_step = r->miou = r->best_miou = r->pixel_accuracy = r->eval_step = NAN;
    Err rc = read_config(r);
    if (!rc) rc = read_status(r);
    if (!rc) rc = read_metrics(r);
    if (!rc) rc = read_pictures(r);
    if (!rc) rc = read_colours(r);
    if (rc) run_data_close(r);
    else *out = r;
    return rc;
}

void run_data_close(RunData *r) {
    if (!r) return;
    for (int i = 0; i < r->n_series; i++) series_free(&r->series[i]);
    arena_close(r->arena);
}
