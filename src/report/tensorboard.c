/* tensorboard.c - a run's metrics as an event file beside them.
 *
 * The file is made of metrics.jsonl alone: whole when a session begins, then line by line as they
 * come. A resumed run cuts its metrics back to its checkpoint, so it writes a new file with all
 * that still holds, beginning with a mark that makes a TensorBoard which is looking on forget what
 * it had read; then it removes the file before. So no step is there twice and none is missing,
 * whatever was killed when. Pictures are those of maps/, at the evaluations that have some. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "report/report.h"
#include "report/tfevents.h"

enum { CHUNK = 8 << 20, TAG_MAX = 200 };
static const char PREFIX[] = "events.out.tfevents.", SUFFIX[] = ".retort";

struct Tensorboard {
    char *run, *metrics, *path;
    Appender *file;
    uint64_t offset; /* of metrics.jsonl, up to where it is written */
};

/* Seconds since 1970 of 2026-01-31T12:00:00Z; 0 when it is none. */
static double wall_of(const char *text) {
    int y, m, d, h, min, s;
    if (!text || sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d", &y, &m, &d, &h, &min, &s) != 6) return 0;
    y -= m <= 2; /* years begin in March: the leap day is the last */
    const int64_t era = y / 400, of_era = y - era * 400,
                  of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    const int64_t days = era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
    return (double)(days * 86400 + h * 3600 + min * 60 + s);
}

/* ---- a line as an event ---------------------------------------------------------------------- */

static void add_number(Str *summary, const char *group, const char *name, const json_t *v) {
    char tag[TAG_MAX];
    if (!json_is_number(v)) return; /* null: not finite */
    snprintf(tag, sizeof tag, "%s%s%s", group, *group ? "/" : "", name);
    tfevents_add_scalar(summary, tag, json_number_value(v));
}

static void add_group(Str *summary, const char *group, json_t *object) {
    const char *key;
    json_t *v;
    json_object_foreach(object, key, v) add_number(summary, group, key, v);
}

static void add_evaluation(Str *summary, json_t *eval) {
    size_t i;
    json_t *c;
    add_group(summary, "eval", eval); /* its numbers: miou, pixel_accuracy, ... */
    json_array_foreach(json_object_get(eval, "classes"), i, c) {
        const char *name = json_string_value(json_object_get(c, "name"));
        if (name) add_number(summary, "iou", name, json_object_get(c, "iou"));
    }
    add_group(summary, "eval_ema", json_object_get(eval, "ema"));
}

/* All pictures of DIR with its name's end, by the tag TITLE/NAME. */
static void add_pictures(Str *summary, const char *dir, const char *const *kinds) {
    enum { FILE_MAX = 16 << 20 };
    char **names, tag[TAG_MAX];
    int n;
    if (!sys_is_dir(dir) || sys_list(dir, EXIT_OUTPUT, &names, &n)) return;
    for (int i = 0; i < n; i++)
        for (const char *const *k = kinds; *k; k++) {
            Bytes b = {0};
            if (!str_ends(names[i], *k)) continue;
            char *path = path_join(dir, names[i]);
            if (!sys_read_file(path, FILE_MAX, EXIT_OUTPUT, &b)) {
                snprintf(tag, sizeof tag, "%.*s/%.*s", (int)(strlen(names[i]) - strlen(*k)),
                         names[i], (int)strlen(*k) - 5, *k + 1);
                tfevents_add_png(summary, tag, b.data, b.bytes);
            }
            free(b.data), free(path);
        }
    sys_free_names(names, n);
}

static void add_maps(const Tensorboard *t, Str *summary, int64_t step) {
    static const char *const still[] = {".image.png", ".label.png", ".teacher.png", ".tfe.png",
                                        NULL},
                             *const moving[] = {".student.png", ".tse.png", NULL};
    char *maps = path_join(t->run, "maps"), *now = maps_step_dir(maps, step);
    if (sys_is_dir(now)) add_pictures(summary, maps, still), add_pictures(summary, now, moving);
    free(maps), free(now);
}

static void add_line(const Tensorboard *t, Str *out, json_t *o) {
    const double step = json_number_value(json_object_get(o, "step"));
    json_t *eval = json_object_get(o, "eval"), *gradients = json_object_get(o, "gradients");
    Str summary = {0};
    if (!json_is_number(json_object_get(o, "step")) || !(step >= 0 && step < 9e15)) return;
    add_group(&summary, "loss", json_object_get(o, "loss"));
    add_group(&summary, "kept", json_object_get(o, "kept"));
    add_group(&summary, "kept_class", json_object_get(o, "kept_class"));
    add_group(&summary, "gradient_norm", json_object_get(gradients, "norm"));
    add_group(&summary, "gradient_cosine", json_object_get(gradients, "cosine"));
    static const char *const alone[] = {"lr", "grad_norm", "images_per_s", "stall", "epoch"};
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++)
        add_number(&summary, "train", alone[i], json_object_get(o, alone[i]));
    if (json_is_object(eval)) {
        add_evaluation(&summary, eval);
        add_maps(t, &summary, (int64_t)step);
    }
    tfevents_summary(out, wall_of(json_string_value(json_object_get(o, "time"))), (int64_t)step,
                     &summary);
    str_free(&summary);
}

/* ---- the file -------------------------------------------------------------------------------- */

/* The whole lines of the next piece of the metrics; *more: there may be another. */
static Err follow_piece(Tensorboard *t, Str *out, bool *more) {
    uint64_t bytes;
    *more = false;
    if (!sys_exists(t->metrics)) return OK;
    TRY(sys_file_size(t->metrics, EXIT_OUTPUT, &bytes));
    if (bytes <= t->offset) return OK;
    const size_t n = bytes - t->offset < CHUNK ? (size_t)(bytes - t->offset) : CHUNK;
    char *text = xcalloc(n, 1);
    Err rc = sys_read_at(t->metrics, t->offset, text, n, EXIT_OUTPUT);
    size_t at = 0;
    for (char *end; !rc && at < n && (end = memchr(text + at, '\n', n - at));
         at = (size_t)(end - text) + 1) {
        json_t *o = json_loadb(text + at, (size_t)(end - text) - at, 0, NULL);
        if (json_is_object(o)) add_line(t, out, o);
        json_decref(o);
    }
    if (!rc && !at && n == CHUNK) at = n; /* a line longer than that is none of ours */
    t->offset += at;
    *more = at > 0;
    free(text);
    return rc;
}

Err tensorboard_follow(Tensorboard *t) {
    bool more = true;
    Err rc = OK;
    while (more && !rc) {
        Str out = {0};
        rc = follow_piece(t, &out, &more);
        if (!rc && out.n) rc = append_data(t->file, out.s, out.n);
        str_free(&out);
    }
    return rc;
}

static bool is_ours(const char *name) {
    return str_starts(name, PREFIX) && str_ends(name, SUFFIX);
}

/* Files are read in the order of their names: ours comes after all there are. */
static int64_t stamp_after(char *const *names, int n, int64_t now) {
    for (int i = 0; i < n; i++) {
        const int64_t s = is_ours(names[i]) ? strtoll(names[i] + sizeof PREFIX - 1, NULL, 10) : 0;
        if (s >= now && s < 9999999999) now = s + 1;
    }
    return now;
}

Err tensorboard_open(const char *run, Tensorboard **out) {
    char **names, now[32];
    int n;
    Str head = {0};
    TRY(sys_list(run, EXIT_OUTPUT, &names, &n));
    sys_wall_time(now);
    const double wall = wall_of(now);
    Tensorboard *t = xcalloc(1, sizeof *t);
    t->run = xstrdup(run), t->metrics = path_join(run, "metrics.jsonl");
    t->path = xprintf("%s/%s%010" PRId64 ".%s.%d%s", run, PREFIX,
                      stamp_after(names, n, (int64_t)wall), sys_hostname(), sys_pid(), SUFFIX);
    Err rc = append_open(t->path, &t->file);
    tfevents_version(&head, wall);
    tfevents_start(&head, wall, 0);
    if (!rc) rc = append_data(t->file, head.s, head.n);
    if (!rc) rc = tensorboard_follow(t);
    for (int i = 0; i < n && !rc; i++) { /* only now: what was there is in the new one */
        char *old = path_join(run, names[i]);
        if (is_ours(names[i])) rc = sys_remove(old);
        free(old);
    }
    sys_free_names(names, n);
    str_free(&head);
    if (rc) tensorboard_close(t);
    else *out = t;
    return rc;
}

void tensorboard_close(Tensorboard *t) {
    if (!t) return;
    append_close(t->file);
    free(t->run), free(t->metrics), free(t->path);
    free(t);
}
