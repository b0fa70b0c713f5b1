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

static Err look_first(const Config *c, void *arg) {
    return c->check.kind == CHECK_OFF ? OK : check_training(c, true);
}

static Err pending(void) {
    const int sig = sys_signal_pending();
    return sig ? err_set(128 + sig, "stopped between two runs; the same command goes on from here")
               : OK;
}

/* Train one run, or go on with it, or find it finished. */
static Err train_one(StudyJob *j, int arm, int seed) {
    const StudyArmJob *a = &j->arm[arm];
    const char *dir = a->dir[seed - 1];
    Config *c;
    TRY(pending());
    TRY(study_config(j, arm, seed, &c));
    Err rc = OK;
    if (!study_run_done(dir, c)) {
        const double start = sys_now();
        log_info("%s: %s, seed %d of %d", j->spec->command, a->name, seed, a->seeds);
        rc = train_run_with(
            c, &(TrainHooks){.report = renew_page, .check = seed == 1 ? look_first : NULL});
        log_attach(j->log);
        if (!rc)
            log_info("%s: %s, seed %d took %.1f s", j->spec->command, a->name, seed,
                     sys_now() - start);
        if (!rc) rc = study_report(j, false);
    }
    config_close(c);
    if (err_exit_code(rc) == EXIT_CHECKPOINT)
        rc = err_set(rc, "%s; to start the %s anew, remove %s or give another out=DIR", err_text(),
                     j->spec->command, j->spec->out);
    return rc;
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

/* Maps and page of each arm's first run. The runs are complete by now: what cannot be drawn is a warning. */
static Err draw_all(StudyJob *j) {
    if (j->state.drawn == j->n) return OK;
    for (int arm = 0; arm < j->n; arm++) {
        TRY(pending());
        Err rc = finish_run(j->arm[arm].config);
        if (rc && rc < 1000) return rc;      /* a signal */
        if (rc) log_warn("%s: %s", j->arm[arm].dir[0], err_text());
    }
    j->state.drawn = j->n;
    return study_state_write(j);
}

static Err study(StudyJob *j) {
    const char *out = j->spec->out;
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
    return rc ? rc : study_report(j, true);
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
