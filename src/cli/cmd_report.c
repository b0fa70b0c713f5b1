/* cmd_report.c - `retort report RUN`: write RUN/report.html anew from what the run holds. */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/args.h"
#include "report/report.h"

static const char usage[] =
    "report RUN\n\n"
    "Writes RUN/report.html, one page that needs nothing else, from the run's\n"
    "configuration, metrics and maps. Training does so by itself; `retort maps RUN`\n"
    "makes the pictures anew.";

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
    free(config);
    cli_args_close(&args);
    return rc;
}
