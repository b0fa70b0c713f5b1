/* study_plan.c - from what was asked for to run directories and configurations, and what a resumed
 * study keeps. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "cli/open_model.h"
#include "cli/study_priv.h"
#include "train/trainer.h"

enum { TEXT_BYTES_MAX = 1 << 20 };

/* ---- configurations -------------------------------------------------------------------------- */
static void add(ArgList *a, char *text) {
    CHECK(a->n < ARG_LIST_MAX);
    a->v[a->n++] = text;
}

static Err add_all(ArgList *a, const ArgList *more) {
    if (a->n + more->n + 8 > ARG_LIST_MAX)
        return err_set(E(EXIT_USAGE, 76),
                       "study: more than %d options of one run; put them into the file",
                       ARG_LIST_MAX - 8);
    for (int i = 0; i < more->n; i++) add(a, more->v[i]);
    return OK;
}

static bool is_teacher(const StudyJob *j, int arm) { return j->spec->has_teacher && arm == 0; }

/* Those of the command line win over an arm's own; the teacher's own win over all. */
static Err run_args(const StudyJob *j, int arm, ArgList *out) {
    const StudySpec *s = j->spec;
    *out = (ArgList){.n = 0};
    if (!is_teacher(j, arm)) TRY(add_all(out, &s->arm[arm - s->has_teacher].args));
    TRY(add_all(out, &s->common));
    if (!is_teacher(j, arm)) return OK;
    add(out, "teacher.model=none"), add(out, "distill.task=ce"), add(out, "distill.losses=[]");
    return add_all(out, &s->teacher);
}

Err study_config(const StudyJob *j, int arm, int seed, Config **out) {
    ArgList a;
    TRY(run_args(j, arm, &a));
    add(&a, arena_printf(j->arena, "seed=%d", seed));
    add(&a, arena_printf(j->arena, "out=%s", j->arm[arm].dir[seed - 1]));
    if (j->state.steps && !is_teacher(j, arm))
        add(&a, arena_printf(j->arena, "train.steps=%lld", (long long)j->state.steps));
    TRY(config_read("train", j->spec->file, a.v, a.n, out));
    if (!(*out)->teacher.model || strcmp((*out)->teacher.model, "study")) return OK;
    config_close(*out);
    if (!j->spec->has_teacher)
        return err_set(
            E(EXIT_USAGE, 76),
            "teacher.model=study: the study trains no teacher; give study.teacher, a group of its options");
    add(&a, arena_printf(j->arena, "teacher.model=%s/last.safetensors", j->arm[0].dir[0]));
    return config_read("train", j->spec->file, a.v, a.n, out);
}

/* ---- what a resumed study keeps -------------------------------------------------------------- */
static char *state_path(const StudyJob *j) { return path_join(j->spec->out, "study.state.json"); }

static Err state_read(StudyJob *j) {
    char *path = state_path(j);
    Bytes b = {0};
    Err rc = sys_exists(path) ? sys_read_file(path, TEXT_BYTES_MAX, EXIT_CHECKPOINT, &b) : OK;
    json_t *o = b.bytes ? json_loadb((const char *)b.data, b.bytes, 0, NULL) : NULL;
    if (!rc && b.bytes && !json_is_object(o))
        rc = err_set(
            E(EXIT_CHECKPOINT, 0),
            "%s: is not what a study wrote; remove it, and the study starts with its planning anew",
            path);
    const json_t *reads = json_object_get(o, "reads");
    j->state.time_s = json_number_value(json_object_get(o, "time"));
    j->state.steps = json_integer_value(json_object_get(o, "steps"));
    j->state.drawn = (int)json_integer_value(json_object_get(o, "drawn"));
    for (size_t i = 0; i < json_array_size(reads) && i < 16; i++)
        j->state.reads[j->state.n_reads++] = (int)json_integer_value(json_array_get(reads, i));
    json_decref(o);
    free(b.data), free(path);
    return rc;
}

Err study_state_write(const StudyJob *j) {
    const StudyState *s = &j->state;
    Str text = {0};
    char *path = state_path(j);
    str_add(&text, "{\"time\": ");
    str_json_number(&text, s->time_s);
    str_addf(&text, ", \"steps\": %lld, \"drawn\": %d, \"reads\": [", (long long)s->steps,
             s->drawn);
    for (int i = 0; i < s->n_reads; i++) str_addf(&text, "%s%d", i ? ", " : "", s->reads[i]);
    str_add(&text, "]}\n");
    Err rc = durable_write_all(path, text.s, text.n);
    str_free(&text);
    free(path);
    return rc;
}

/* ---- arms ------------------------------------------------------------------------------------ */
static void name_arms(StudyJob *j) {
    const StudySpec *s = j->spec;
    j->n = s->n + s->has_teacher, j->base = s->base + s->has_teacher;
    for (int i = 0; i < j->n; i++) {
        StudyArmJob *a = &j->arm[i];
        a->name = is_teacher(j, i) ? "teacher" : s->arm[i - s->has_teacher].name;
        a->seeds = is_teacher(j, i) ? 1 : (int)s->seeds;
        for (int k = 0; k < a->seeds; k++)
            a->dir[k] = is_teacher(j, i)
                            ? arena_printf(j->arena, "%s/teacher", s->out)
                            : arena_printf(j->arena, "%s/%s/seed-%d", s->out, a->name, k + 1);
    }
}

/* The arm's network and size, and what was typed to make it this arm. */
static Err arm_note(StudyJob *j, StudyArmJob *a, const ArgList *args) {
    const Config *c = a->config;
    Dataset *d = NULL;
    Net *n = NULL;
    ModelNodes nodes;
    ModelOptions m;
    const char *weights;
    Str own = {0};
    if (!c->student.model)
        return err_set(E(EXIT_USAGE, 76),
                       "student.model is not set; give student.model=NAME, see retort info");
    TRY(dataset_open(&c->data, c->eval_split, &d));
    Err rc = model_source(c->student.model, "none", j->arena, (m = c->student, &m), &weights);
    if (!rc) m.classes = d->n_classes;
    if (!rc) rc = model_open(&m, 65, 65, &n, &nodes);
    for (int i = 0; i < args->n; i++) str_addf(&own, "%s%s", i ? " " : "", args->v[i]);
    if (!rc)
        a->note = arena_printf(j->arena, "%s, %.2f M parameters%s%s", c->student.model,
                               (double)n->n_trainable / 1e6, own.n ? "; " : "", own.n ? own.s : "");
    str_free(&own);
    if (n) net_close(n);
    dataset_close(d);
    return rc;
}

/* Arms must share what makes them comparable; everything else that differs is told. */
static Err compare_to_base(StudyJob *j, StudyArmJob *a) {
    const Config *base = j->arm[j->base].config, *c = a->config;
    if (c->steps != base->steps)
        return err_set(
            E(EXIT_USAGE, 76),
            "study: arm %s takes %lld steps and %s %lld; arms take the same number, set train.steps for all of them",
            a->name, (long long)c->steps, j->arm[j->base].name, (long long)base->steps);
    char *changes = config_changes(base, c);
    a->changes = arena_strdup(j->arena, changes);
    free(changes);
    return OK;
}

/* OUT/ARM.yaml is the arm's configuration as it was first; another one would mix two studies. */
static Err keep_config(const StudyJob *j, const StudyArmJob *a) {
    char *path = xprintf("%s/%s.yaml", j->spec->out, a->name);
    Bytes b = {0};
    Err rc = OK;
    if (!sys_exists(path)) rc = config_write(a->config, path);
    else if (!(rc = sys_read_file(path, TEXT_BYTES_MAX, EXIT_CHECKPOINT, &b))) {
        char *text = xprintf("%.*s", (int)b.bytes, (const char *)b.data);
        rc = config_check_resume(a->config, text, path);
        free(text);
    }
    if (err_exit_code(rc) == EXIT_CHECKPOINT)
        rc = err_set(rc, "%s; to start the %s anew, remove %s or give another out=DIR", err_text(),
                     j->spec->command, j->spec->out);
    free(b.data), free(path);
    return rc;
}

static Err read_configs(StudyJob *j) {
    for (int i = 0; i < j->n; i++) {
        config_close(j->arm[i].config);
        j->arm[i].config = NULL;
        TRY(study_config(j, i, 1, &j->arm[i].config));
    }
    return OK;
}

static Err choose_steps(StudyJob *j) {
    const double asked = j->spec->time_s;
    StudyState *s = &j->state;
    if (s->steps && s->time_s != asked)
        return err_set(
            E(EXIT_CHECKPOINT, 0),
            "%s: this study was planned with time=%g s, %lld steps each; give the same time=, or another out=",
            j->spec->out, s->time_s, (long long)s->steps);
    if (s->steps)
        return log_info("%lld steps each, as chosen when the study began", (long long)s->steps), OK;
    TRY(study_choose_steps(j, &s->steps));
    s->time_s = asked;
    return study_state_write(j);
}

Err study_read(StudyJob *j) {
    name_arms(j);
    return read_configs(j);
}

/* One configuration of each arm; its other runs differ in seed and out. */
void study_print(const StudyJob *j) {
    const StudySpec *s = j->spec;
    printf("# %s: %lld seeds, compared with %s on %s, group %s\n", s->command, (long long)s->seeds,
           j->arm[j->base].name, s->split, s->group);
    if (s->time_s > 0)
        printf("# time=%g s: train.steps is chosen when the study begins, the same for all arms\n",
               s->time_s);
    for (int i = 0; i < j->n; i++) {
        char *text = config_text(j->arm[i].config);
        printf("\n# ---- %s: the first of %d run%s ----\n%s", j->arm[i].name, j->arm[i].seeds,
               j->arm[i].seeds > 1 ? "s" : "", text);
        free(text);
    }
}

Err study_plan(StudyJob *j) {
    const bool by_time = j->spec->time_s > 0;
    TRY(state_read(j));
    if (!by_time && j->state.steps)
        return err_set(E(EXIT_CHECKPOINT, 0),
                       "%s: this study was planned with time=%g s; give it again, or another out=",
                       j->spec->out, j->state.time_s);
    if (by_time) TRY(choose_steps(j));
    if (by_time) TRY(read_configs(j));
    for (int i = 0; i < j->n; i++) {
        if (!is_teacher(j, i)) TRY(compare_to_base(j, &j->arm[i]));
        TRY(keep_config(j, &j->arm[i]));
        TRY(arm_note(j, &j->arm[i],
                     is_teacher(j, i) ? &j->spec->teacher
                                      : &j->spec->arm[i - j->spec->has_teacher].args));
    }
    return OK;
}
