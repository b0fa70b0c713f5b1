/* checkpoint.c - RUN/checkpoints/step-N.safetensors: everything a run needs to go on, in one file.
 *
 * Tensors: weights and running statistics under their own names, optimiser state under optim/
 * (AdamW's second moment under optim/sq/), averages under ema/, what loss terms own and remember
 * (adapters, queues) under state/. The rest is in the metadata: there
 * is nothing after the tensors and nothing beside the file. The writer (st_write) is durable,
 * stores a digest per tensor and reads the file back before it gets its name; older files go only
 * after that, and two always stay.
 *
 * Reading takes the newest file by number. One that cannot be read or whose digests fail is named
 * and passed over (rows 1, 11, 12), and renamed to NAME.bad once an older one is found good, so
 * that it never counts as one of those to keep. One that is good but of another network, teacher or
 * version is an error, because an older file of the same run would be no better (rows 13, 14, 15,
 * 79). */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/log.h"
#include "base/parallel.h"
#include "train/trainer_priv.h"

#define FORMAT_VERSION 1
enum { META_MAX = 32, META_TEXT = 96 };

/* ---- metadata ------------------------------------------------------------------------------- */

typedef struct Meta {
    MetaPair pair[META_MAX];
    char text[META_MAX][META_TEXT];
    int n;
    char *names;
} Meta;

static void meta_text(Meta *m, const char *key, const char *value) {
    CHECK(m->n < META_MAX);
    m->pair[m->n++] = (MetaPair){key, value};
}

static void meta_copy(Meta *m, const char *key, const char *value) {
    snprintf(m->text[m->n], META_TEXT, "%s", value);
    meta_text(m, key, m->text[m->n]);
}

static void meta_i64(Meta *m, const char *key, int64_t v) {
    snprintf(m->text[m->n], META_TEXT, "%" PRId64, v);
    meta_text(m, key, m->text[m->n]);
}

static void meta_f64(Meta *m, const char *key, double v) { /* with '.', whatever the locale */
    Str s = {0};
    str_json_number(&s, v);
    meta_copy(m, key, s.s);
    str_free(&s);
}

static char *names_json(const RunIdentity *id) {
    Str s = {0};
    str_add(&s, "[");
    for (int i = 0; i < id->n_classes; i++) {
        if (i) str_add(&s, ", ");
        str_json(&s, id->class_names[i]);
    }
    str_add(&s, "]");
    return s.s;
}

static void meta_identity(Meta *m, const RunState *s, const RunIdentity *id) {
    m->names = names_json(id);
    meta_text(m, "config", id->config);
    meta_text(m, "fingerprint", id->train_data);
    meta_text(m, "fingerprint_val", id->val_data);
    meta_text(m, "teacher", id->teacher);
    meta_text(m, "class_names", m->names);
    meta_i64(m, "n_classes", id->n_classes);
    meta_i64(m, "format_version", FORMAT_VERSION);
    meta_text(m, "version", RETORT_VERSION);
    meta_i64(m, "step", s->step);
    meta_i64(m, "seed", id->seed);
    meta_i64(m, "sample", s->step * id->samples); /* the next one to be drawn */
}

static void meta_state(Meta *m, const RunState *s) {
    meta_i64(m, "eval_step", s->eval_step);
    meta_i64(m, "best_step", s->best_step);
    meta_f64(m, "best", s->best);
    meta_f64(m, "last", s->last);
    meta_i64(m, "metrics_bytes", (int64_t)s->metrics_bytes);
    meta_f64(m, "eval_seconds", s->eval_seconds);
    meta_i64(m, "switch_at", s->stages.at);
    meta_i64(m, "switch_n", s->stages.n);
    meta_f64(m, "switch_sum", s->stages.sum);
    meta_f64(m, "switch_before", s->stages.before);
}

/* ---- what the last bits depend on beside the configuration (row 68) ------------------------- */

enum { PLATFORM_KEYS = 4 };
typedef struct Platform {
    const char *key[PLATFORM_KEYS];
    char value[PLATFORM_KEYS][META_TEXT];
} Platform;

static Platform platform_here(void) {
    Platform p = {.key = {"threads", "library", "kernels", "compiler"}};
    snprintf(p.value[0], META_TEXT, "%d", parallel_threads());
    plan_library(p.value[1], META_TEXT);
    snprintf(p.value[2], META_TEXT, "%s", cpu_level_name(cpu_level()));
    snprintf(p.value[3], META_TEXT, "%s", __VERSION__);
    return p;
}

static void meta_platform(Meta *m) {
    const Platform p = platform_here();
    for (int i = 0; i < PLATFORM_KEYS; i++) meta_copy(m, p.key[i], p.value[i]);
}

static void warn_other_platform(const SafeFile *f) {
    const Platform p = platform_here();
    Str s = {0};
    for (int i = 0; i < PLATFORM_KEYS; i++) {
        const char *was = st_meta(f, p.key[i]);
        if (was && strcmp(was, p.value[i]))
            str_addf(&s, "%s%s: %s -> %s", s.n ? ", " : "", p.key[i], was, p.value[i]);
    }
    if (s.n)
        log_warn("not bit-exact from here on: %s; the run goes on, its last bits differ from those "
                 "of one that was not moved",
                 s.s);
    str_free(&s);
}

/* ---- reading metadata ----------------------------------------------------------------------- */

static bool get_i64(const SafeFile *f, const char *key, int64_t *out) {
    const char *v = st_meta(f, key);
    return v && parse_i64(v, out);
}

static double get_f64(const SafeFile *f, const char *key) {
    const char *v = st_meta(f, key);
    double d = NAN;
    return v && parse_f64(v, &d) ? d : NAN;
}

/* ---- tensors -------------------------------------------------------------------------------- */

typedef struct Wanted {
    Arena *a;
    Tensor *t;
    int n, cap;
} Wanted;

/* Parameters that loss terms added: adapters, a discriminator. Files of weights alone are without. */
static bool of_losses(const NetParam *p) {
    return str_starts(p->name, "loss.");
}

static void want(Wanted *w, const char *prefix, const NetParam *p, void *data, Dtype t) {
    GROW(w->t, w->n, w->cap);
    w->t[w->n++] = (Tensor){.name = *prefix ? arena_printf(w->a, "%s%s", prefix, p->name) : p->name,
                            .dtype = t,
                            .shape = p->shape,
                            .data = data};
}

/* Every tensor of a checkpoint with the memory it lives in: written from there, read into there. */
static void list_tensors(Wanted *w, Net *n, const Optimizer *o) {
    for (int k = 0; k < n->n_params; k++) {
        NetParam *p = &n->params[k];
        const char *prefix = of_losses(p) ? "state/" : "";
        if (!o && of_losses(p)) continue;
        if (p->kind == PARAM_COUNT) want(w, prefix, p, &p->count, DT_I64);
        else want(w, prefix, p, p->data, DT_F32);
    }
    for (int k = 0; o && k < n->n_states; k++) {
        GROW(w->t, w->n, w->cap);
        w->t[w->n] = *n->states[k];
        w->t[w->n++].name = arena_printf(w->a, "state/%s", n->states[k]->name);
    }
    for (int k = 0; o && k < n->n_params; k++) {
        NetParam *p = &n->params[k];
        if (p->kind == PARAM_COUNT) continue;
        if (p->trainable) want(w, "optim/", p, o->m + p->offset, DT_F32);
        if (p->trainable && o->v) want(w, "optim/sq/", p, o->v + p->offset, DT_F32);
        if (o->ema) want(w, "ema/", p, o->ema + p->offset, DT_F32);
    }
}

static Err write_file(const char *path, Net *n, const Optimizer *o, const RunState *s,
                      const RunIdentity *id) {
    Wanted w = {.a = arena_open()};
    Meta m = {.n = 0};
    list_tensors(&w, n, o);
    meta_identity(&m, s, id);
    meta_platform(&m);
    if (o) meta_state(&m, s);
    if (o && id->choices) meta_text(&m, "choices", id->choices);
    Err rc = st_write(path, w.t, w.n, m.pair, m.n);
    free(m.names), free(w.t);
    arena_close(w.a);
    return rc;
}

Err checkpoint_weights(const char *path, Net *n, const RunState *s, const RunIdentity *id) {
    return write_file(path, n, NULL, s, id);
}

/* ---- the folder ----------------------------------------------------------------------------- */

typedef struct StepFile {
    int64_t step;
    char *path;
} StepFile;

static int by_step_down(const void *a, const void *b) {
    int64_t x = ((const StepFile *)a)->step, y = ((const StepFile *)b)->step;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Newest first, by number: clocks lie. Caller frees with free_steps. */
static int list_steps(const char *dir, StepFile **out) {
    char **names, *folder = path_join(dir, "checkpoints");
    int n_names = 0, n = 0, cap = 0;
    StepFile *f = NULL;
    if (sys_is_dir(folder) && !sys_list(folder, EXIT_CHECKPOINT, &names, &n_names)) {
        for (int i = 0; i < n_names; i++) {
            char number[24];
            size_t len = strlen(names[i]);
            int64_t step;
            if (!str_starts(names[i], "step-") || !str_ends(names[i], ".safetensors") ||
                len - 17 > 20)
                continue;
            snprintf(number, sizeof number, "%.*s", (int)(len - 17), names[i] + 5);
            if (!parse_i64(number, &step) || step < 0) continue;
            GROW(f, n, cap);
            f[n++] = (StepFile){step, path_join(folder, names[i])};
        }
        sys_free_names(names, n_names);
    }
    free(folder);
    if (n) qsort(f, (size_t)n, sizeof *f, by_step_down);
    *out = f;
    return n;
}

static void free_steps(StepFile *f, int n) {
    for (int i = 0; i < n; i++) free(f[i].path);
    free(f);
}

char *checkpoint_newest(const char *dir) {
    StepFile *f;
    int n = list_steps(dir, &f);
    char *path = n ? xstrdup(f[0].path) : NULL;
    free_steps(f, n);
    return path;
}

/* Delete all but the newest `keep`; the one just written is verified and counts. */
static void prune(const char *dir, int64_t keep) {
    StepFile *f;
    int n = list_steps(dir, &f);
    for (int i = 0; i < n; i++)
        if (i >= keep && sys_remove(f[i].path)) log_warn("%s", err_text());
    free_steps(f, n);
}

Err checkpoint_write(const char *dir, Net *n, const Optimizer *o, const RunState *s,
                     const RunIdentity *id, int64_t keep) {
    char *path = xprintf("%s/checkpoints/step-%" PRId64 ".safetensors", dir, s->step);
    Err rc = write_file(path, n, o, s, id);
    if (!rc) prune(dir, keep < 2 ? 2 : keep);
    free(path);
    return rc;
}

/* ---- reading -------------------------------------------------------------------------------- */

static Err read_state(const char *path, const SafeFile *f, RunState *s) {
    int64_t version = 0, bytes = 0;
    const char *by = st_meta(f, "version");
    if (!get_i64(f, "format_version", &version) || version < 1 || !st_meta(f, "config"))
        return err_set(E(5, 13), "%s: not a checkpoint of this program; give another out=", path);
    if (version > FORMAT_VERSION)
        return err_set(E(5, 15), "%s: written by version %s, which is newer; use that version",
                       path, by ? by : "?");
    if (!get_i64(f, "step", &s->step) || !get_i64(f, "eval_step", &s->eval_step) ||
        !get_i64(f, "best_step", &s->best_step) || !get_i64(f, "metrics_bytes", &bytes) ||
        bytes < 0 || s->step < 0)
        return err_set(E(5, 12),
                       "%s: its metadata is not complete; remove it to go back to the one before",
                       path);
    s->metrics_bytes = (uint64_t)bytes;
    s->best = get_f64(f, "best"), s->last = get_f64(f, "last"),
    s->eval_seconds = get_f64(f, "eval_seconds");
    if (get_i64(f, "switch_at", &s->stages.at) && get_i64(f, "switch_n", &s->stages.n))
        s->stages.sum = get_f64(f, "switch_sum"), s->stages.before = get_f64(f, "switch_before");
    return OK;
}

/* Out of the way of whoever looks for the newest, but still there to be looked at. */
static void set_aside(const char *path) {
    char *to = xprintf("%s.bad", path);
    if (sys_rename(path, to)) log_warn("%s; remove it", err_text());
    free(to);
}

Err checkpoint_open(const char *dir, Checkpoint *out, RunState *s) {
    StepFile *f;
    int n = list_steps(dir, &f), bad = 0;
    Str reasons = {0};
    *out = (Checkpoint){0};
    for (; bad < n && st_read(f[bad].path, EXIT_CHECKPOINT, &out->file); bad++) {
        log_warn("checkpoint not usable: %s%s", err_text(),
                 bad + 1 < n ? "; going back to the one before" : "");
        str_addf(&reasons, "%s%s", bad ? "; " : "", err_text());
    }
    Err rc = OK;
    if (n && bad == n)
        rc = err_set(E(5, 11),
                     "%s/checkpoints: none of %d is usable (%s); give another out=, or remove them "
                     "to start again",
                     dir, n, reasons.s);
    if (bad < n) {
        out->path = xstrdup(f[bad].path);
        rc = read_state(out->path, &out->file, s);
        for (int i = 0; i < bad && !rc; i++) set_aside(f[i].path);
    }
    str_free(&reasons);
    free_steps(f, n);
    return rc;
}

void checkpoint_close(Checkpoint *k) {
    if (k->path) st_close(&k->file);
    free(k->path);
    *k = (Checkpoint){0};
}

/* Names the first five tensors that differ. */
static Err check_tensors(const char *path, const SafeFile *f, const Wanted *w) {
    Str s = {0};
    int bad = 0;
    for (int i = 0; i < w->n; i++) {
        const Tensor *t = tensor_find(f->tensors, w->t[i].name);
        if (t && t->dtype == w->t[i].dtype && shape_equal(t->shape, w->t[i].shape)) continue;
        if (bad++ >= 5) continue;
        str_addf(&s, "%s%s (expected %s, found %s)", s.n ? ", " : "", w->t[i].name,
                 shape_text(w->t[i].shape).s, t ? shape_text(t->shape).s : "nothing");
    }
    for (int i = 0; i < f->tensors->n; i++) {
        bool known = false;
        for (int k = 0; k < w->n && !known; k++)
            known = !strcmp(w->t[k].name, f->tensors->v[i].name);
        if (!known && bad++ < 5)
            str_addf(&s, "%s%s (not expected)", s.n ? ", " : "", f->tensors->v[i].name);
    }
    Err rc =
        bad ? err_set(
                  E(5, 13),
                  "%s: a checkpoint of another network: %d tensors differ: %s; give another out=",
                  path, bad, s.s)
            : OK;
    str_free(&s);
    return rc;
}

Err checkpoint_load(const Checkpoint *k, Net *n, Optimizer *o, const RunIdentity *id) {
    const char *teacher = st_meta(&k->file, "teacher");
    if (!teacher || strcmp(teacher, id->teacher))
        return err_set(E(5, 79),
                       "%s: the teacher's weights changed since this run began; restore them, or "
                       "give another out=",
                       k->path);
    Wanted w = {.a = arena_open()};
    list_tensors(&w, n, o);
    Err rc = check_tensors(k->path, &k->file, &w);
    for (int i = 0; i < w.n && !rc; i++) {
        const Tensor *t = tensor_find(k->file.tensors, w.t[i].name);
        memcpy(w.t[i].data, t->data, (size_t)shape_count(t->shape) * dtype_bytes(t->dtype));
    }
    free(w.t);
    arena_close(w.a);
    if (rc) return rc;
    n->version++;
    log_info("resuming from %s", k->path);
    warn_other_platform(&k->file);
    return OK;
}
