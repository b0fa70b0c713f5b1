/* cmd_report.c - `retort report RUN`: write RUN/report.html anew from what the run directory holds. */
#include <string.h>

#include "base/log.h"
#include "cli/open_model.h"
#include "report/report.h"

Err cmd_report(int argc, char **argv) {
    if (argc != 1 || !strcmp(argv[0], "--help"))
        return err_set(E(EXIT_USAGE, 76), "report: %d word(s) given; usage: retort report RUN", argc);
    TRY(report_write(argv[0]));
    log_info("wrote %s/report.html", argv[0]);
    return OK;
}
