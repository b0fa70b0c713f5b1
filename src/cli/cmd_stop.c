/* cmd_stop.c - `retort stop RUN`: ask a run to save and end, and wait until it has. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "cli/args.h"
#include "cli/live.h"

static const char usage[] =
    "stop RUN\n\n"
    "Asks a live run, or a study, to save and end, and waits until it has. It may be of\n"
    "another session, user, container or host: what is needed is the right to write into\n"
    "its folder. The run ends at the next step with exit code 138, everything saved; its\n"
    "own command goes on from there.";
static const double LOOK_EVERY_S = 0.1;

/* One line about a run that nobody is at. */
static void tell(const char *dir, const Live *l, bool waited) {
    const RunData *r = l->data;
    char step[64] = "";
    if (isfinite(r->step))
        snprintf(step, sizeof step, " after step %.0f of %.0f", r->step, r->steps);
    if (!strcmp(l->state, "done"))
        log_info("%s: %s%s", dir, waited ? "finished by itself" : "already finished", step);
    else if (!strcmp(l->state, "stopped"))
        log_info("%s: %s%s; everything is saved, its own command goes on from there", dir,
                 waited ? "stopped" : "is not running, it was stopped", step);
    else if (!strcmp(l->state, "failed"))
        log_info("%s: %s with exit code %.0f%s; its log.txt tells why", dir,
                 waited ? "failed meanwhile" : "is not running, it failed", r->exit_code, step);
    else if (!strcmp(l->state, "killed"))
        log_info("%s: %s; its own command goes on from the newest checkpoint", dir,
                 waited ? "was killed meanwhile" : "is not running, it was killed");
    else
        log_info("%s: %s; retort info %s tells how far it came", dir,
                 waited ? "has ended" : "is not running", dir);
}

static bool same_holder(const LockHolder *a, const LockHolder *b) {
    return !a->pid || (a->pid == b->pid && !strcmp(a->host, b->host)); /* 0: about to leave */
}

/* Until the lock is free, or somebody else's: then the run has ended, and was started again. */
static Err wait_for_end(const char *dir, const LockHolder *first) {
    const double start = sys_now();
    LockHolder now = *first;
    while (now.held && same_holder(&now, first)) {
        int sig = sys_signal_pending();
        if (sig) {
            log_progress_end();
            return err_set(128 + sig,
                           "%s: no longer waited for; it was asked, and ends at its next step",
                           dir);
        }
        log_progress("%s: process %d on %s ends at its next step, asked %.0f s ago", dir,
                     first->pid, first->host, sys_now() - start);
        sys_sleep(LOOK_EVERY_S);
        TRY(lock_look(dir, &now));
    }
    log_progress_end();
    return OK;
}

static Err stop(const char *dir) {
    Live l;
    TRY(live_open(dir, &l));
    const bool held = l.holder.held;
    const LockHolder holder = l.holder;
    if (!held) tell(dir, &l, false);
    live_close(&l);
    if (!held) return OK;
    Err rc = lock_ask_stop(dir);
    if (rc) return err_wrap(rc, "process %d on %s cannot be asked", holder.pid, holder.host);
    TRY(wait_for_end(dir, &holder));
    TRY(live_open(dir, &l));
    if (l.holder.held)
        log_info("%s: ended, and was started again by process %d on %s", dir, l.holder.pid,
                 l.holder.host);
    else tell(dir, &l, true);
    live_close(&l);
    return OK;
}

Err cmd_stop(int argc, char **argv) {
    CliArgs args;
    TRY(cli_args("stop", usage, argc, argv, 1, 1, &args));
    if (args.help) return OK;
    const char *dir = args.word[0];
    char *lock = path_join(dir, ".lock");
    Err rc = OK;
    if (args.n_opt)
        rc = err_set(E(EXIT_USAGE, 76), "stop: %s is no option of it; usage: retort stop RUN",
                     args.opt[0]);
    else if (!sys_exists(lock))
        rc = err_set(E(EXIT_USAGE, 76),
                     "%s: was never a run directory; give the `out` of a training run", dir);
    if (!rc) rc = stop(dir);
    free(lock);
    cli_args_close(&args);
    return rc;
}
