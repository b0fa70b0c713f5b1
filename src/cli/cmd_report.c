/* cmd_report.c - `retort report RUN`: write RUN/report.html anew from what the run holds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/args.h"
#include "report/page.h"

static const char usage[] =
    "report RUN\n\n"
    "Writes RUN/report.html, one page that needs nothing else, from the run's\n"
    "configuration, metrics and maps, and its event file for TensorBoard. Training does\n"
    "so by itself; `retort maps RUN` makes the pictures anew.";

/* The event file too, where the run has one and nobody is writing it. */
static Err renew_events(const char *run) {
    RunData *r;
    LockHolder holder;
    Tensorboard *t = NULL;
    TRY(lock_look(run, &holder));
    if (holder.held) return OK;
    TRY(run_data_open(run, &r));
    char *wanted = run_setting(r, "report.tensorboard");
    Err rc = wanted && !strcmp(wanted, "true") ? tensorboard_open(run, &t) : OK;
    tensorboard_close(t);
    free(wanted);
    run_data_close(r);
    return rc;
}

Err cmd_report(int argc, char **argv) {
    CliArgs args;
    TRY(cli_args("report", usage, argc, argv, 1, 1, &args));
    if (args.help) return OK;
    const char *run = args.word[0];
    char *config = path_join(run, "config.yaml");
    Err rc = OK;
    if (args.n_opt)
        rc = err_set(E(EXIT_USAGE, 76), "report: %s is no option of it; usage: retort report RUN",
                     args.opt[0]);
    else if (!sys_exists(config))
        rc = err_set(
            E(EXIT_USAGE, 76),
            "%s: holds no config.yaml, so it is no run directory; give the `out` of a training run",
            run);
    if (!rc) rc = report_write(run);
    if (!rc) log_info("wrote %s/report.html", run);
    if (!rc) rc = renew_events(run);
    free(config);
    cli_args_close(&args);
    return rc;
}
