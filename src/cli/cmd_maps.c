/* cmd_maps.c - `retort maps CONFIG.yaml out=DIR`: image, label, teacher, student, TFE weight and TSE mask
 * side by side. CONFIG may be a run directory; the student is shown once that run has weights. */
#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/finish.h"
#include "cli/open_model.h"

static Err maps_into(const char *what, const CliArgs *args) {
    char *file = sys_is_dir(what) ? path_join(what, "config.yaml") : xstrdup(what);
    Config *c = NULL, *run = NULL;
    Err rc = config_read("maps", file, args->opt, args->n_opt, &c);
    if (!rc) rc = config_read("maps", file, NULL, 0, &run);      /* its own `out` is the run, ours the pictures' */
    free(file);
    if (!rc) {
        int images = c->report_images > 0 ? (int)c->report_images : 8;
        if (sys_is_dir(what)) run->out = what;           /* also when the run was moved */
        rc = finish_maps(run, c->out, c->eval_split, images);
        if (!rc) log_info("wrote maps to %s", c->out);
    }
    if (c) config_close(c);
    if (run) config_close(run);
    return rc;
}

Err cmd_maps(int argc, char **argv) {
    CliArgs args;
    TRY(cli_args("maps", "maps CONFIG.yaml|RUN out=DIR [report.images=N]", argc, argv, 1, 1, &args));
    if (args.help) return OK;
    Err rc = maps_into(args.word[0], &args);
    cli_args_close(&args);
    return rc;
}
