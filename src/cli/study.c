/* study.c - the runs of a study, one after the other; see study.h. */
#include "cli/study_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "cli/check.h"
#include "cli/finish.h"
#include "train/trainer.h"

static Err renew_page(const char *run_dir, void *arg) { return report_write(run_dir); }

/* Each arm once. */
static Err look_first(const Config *c, void *arg) {
    StudyArmJob *a = arg;
    if (c->check.kind != CHECK_OFF && !a->checked) TRY(check_training(c, true));
    a->checked = true;
    return OK;
}

static Err pending(void) {
    const int sig = sys_signal_pending();
    return sig ? err_set(128 + sig, "stopped between two runs; the same command goes on from here")
               : OK;
}

static Err train_now(StudyJob *j, StudyArmJob *a, int seed, const Config *c) {
    const double start = sys_now();
    log_info("%s: %s, seed %d of %d", j->spec->command, a->name, seed, a->seeds);
    Err rc =
        train_run_with(c, &(TrainHooks){.report = renew_page, .check = look_first, .arg = a});
    log_attach(j->log);
    if (!rc)
        log_info("%s: %s, seed %d took %.1f s", j->spec->command, a->name, seed, sys_now() - start);
    if (err_exit_code(rc) == EXIT_CHECKPOINT)
        rc = err_set(rc, "%s; to start the %s anew, remove %s or give another out=DIR", err_text(),
                     j->spec->command, j->spec->out);
    return rc;
}

/* A run that fails does not stop those beside it; the report names it, and the study's exit code is its. */
static void note_failure(StudyJob *j, StudyArmJob *a, int seed, Err rc) {
    const char *text = arena_strdup(j->arena, err_text());
    a->failed[seed - 1] = arena_printf(j->arena, "E%04d %s", rc, text);
    log_warn("%s: %s, seed %d failed: E%04d %s; the other runs go on", j->spec->command, a->name,
             seed, rc, text);
    if (j->n_failed++) return;
    j->first_failure = rc;
    j->first_failed = arena_printf(j->arena, "%s: %s", a->dir[seed - 1], text);
}

/* Train one run, or go on with it, or find it finished. Fails on a signal, or where the study itself cannot go on. */
static Err train_one(StudyJob *j, int arm, int seed) {
    StudyArmJob *a = &j->arm[arm];
    Config *c;
    TRY(pending());
    TRY(study_config(j, arm, seed, &c));
    const bool done = study_run_done(a->dir[seed - 1], c), teacher = j->spec->has_teacher && arm == 0;
    Err rc = done ? OK : train_now(j, a, seed, c);
    a->checked |= done;
    config_close(c);
    if (rc && (rc < 1000 || teacher)) return rc;     /* without the teacher nothing can be compared */
    if (rc) note_failure(j, a, seed, rc);
    return done ? OK : study_report(j, false);
}

/* The page is there from the start, for `retort info` too. */
static Err first_page(StudyJob *j) {
    char *json = path_join(j->spec->out, "study.json");
    Err rc = sys_exists(json) ? OK : study_report(j, false);
    free(json);
    return rc;
}

/* Seeds outside: whatever is done when a study is cut short is balanced. */
static Err train_all(StudyJob *j) {
    const int first = j->spec->has_teacher;
    if (first) TRY(train_one(j, 0, 1));
    for (int seed = 1; seed <= j->spec->seeds; seed++)
        for (int arm = first; arm < j->n; arm++) TRY(train_one(j, arm, seed));
    return OK;
}

/* Maps and page of one run of each arm. The runs are complete by now: what cannot be drawn is a warning. */
static Err draw_all(StudyJob *j) {
    if (j->state.drawn == j->n) return OK;
    for (int arm = 0; arm < j->n; arm++) {
        const char *dir = study_shown_run(&j->arm[arm]);
        Config of_run = *j->arm[arm].config;
        TRY(pending());
        if (!dir) continue;
        of_run.out = dir;
        Err rc = finish_run(&of_run);
        if (rc && rc < 1000) return rc;      /* a signal */
        if (rc) log_warn("%s: %s", dir, err_text());
    }
    j->state.drawn = j->n_failed ? 0 : j->n;         /* those that failed are tried again */
    return study_state_write(j);
}

static Err sum_up(const StudyJob *j) {
    int n = 0;
    for (int i = 0; i < j->n; i++) n += j->arm[i].seeds;
    if (!j->n_failed) return OK;
    return err_set(j->first_failure,
                   "%s: %d of %d runs failed, %s/study.html names them; the first: %s; the same "
                   "command tries them again",
                   j->spec->command, j->n_failed, n, j->spec->out, j->first_failed);
}

static Err study(StudyJob *j) {
    const char *out = j->spec->out;
    TRY(study_read(j));
    if (j->arm[0].config->print_config) return study_print(j), OK;
    char *log = path_join(out, "log.txt");
    Err rc = sys_mkdirs(out);
    if (!rc) rc = sys_probe_writable(out);
    if (!rc) rc = lock_open(out, &j->lock);
    if (!rc) durable_sweep(out);
    if (!rc) rc = append_open(log, &j->log);
    if (!rc) log_attach(j->log);
    free(log);
    if (!rc) rc = study_plan(j);
    if (!rc) rc = first_page(j);
    if (!rc) rc = train_all(j);
    if (!rc) rc = draw_all(j);
    if (!rc) rc = study_read_split(j);
    if (!rc) rc = study_report(j, true);
    return rc ? rc : sum_up(j);
}

Err study_run(const StudySpec *spec) {
    StudyJob j = {.spec = spec, .arena = arena_open()};
    Err rc = study(&j);
    for (int i = 0; i < j.n; i++) config_close(j.arm[i].config);
    log_attach(NULL);
    append_close(j.log);
    lock_close(j.lock);
    arena_close(j.arena);
    return rc;
}
