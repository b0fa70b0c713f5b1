/* cmd_maps.c - `retort maps CONFIG.yaml|RUN`: image, label, teacher, student, TFE weight and TSE
 * mask of some images of a split. The student is there once the run has weights. */
#include <stdlib.h>

#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/finish.h"
#include "cli/open_model.h"

static const char usage[] =
    "maps CONFIG.yaml|RUN [out=DIR] [images=8] [split=val]\n\n"
    "Writes what RDD sees: for some images of the split the image, its label, what\n"
    "teacher and student say, the weight of the first stage (TFE) and the mask of the\n"
    "second (TSE), as DIR/NAME.{image,label,...}.png. DIR is RUN/maps unless given;\n"
    "`retort report RUN` then shows them.";

/* `out` of the configuration alone: the run directory, where the command's own out= is the
 * pictures'. */
static Err own_out(const char *file, char **out) {
    Config *c;
    TRY(config_read("maps", file, NULL, 0, &c));
    *out = xstrdup(c->out);
    config_close(c);
    return OK;
}

static Err write_maps(Config *c, const char *run, const char *dir) {
    const char *split = c->split ? c->split : c->eval_split;
    int images = (int)(c->images > 0 ? c->images : c->report_images > 0 ? c->report_images : 8);
    c->out = run;
    TRY(finish_maps(c, dir, split, images));
    log_info("wrote maps of %s to %s", split, dir);
    return OK;
}

static Err maps_of(const char *what, const CliArgs *args) {
    const bool is_run = sys_is_dir(what);
    char *file = is_run ? path_join(what, "config.yaml") : xstrdup(what), *run = NULL, *dir = NULL;
    Config *c = NULL;
    Err rc =
        is_run && !sys_exists(file)
            ? err_set(
                  E(EXIT_USAGE, 76),
                  "%s: holds no config.yaml, so it is no run directory; give one, or a CONFIG.yaml",
                  what)
            : OK;
    if (!rc) rc = config_read("maps", file, args->opt, args->n_opt, &c);
    if (!rc && is_run) run = xstrdup(what); /* also when it was moved */
    else if (!rc) rc = own_out(file, &run);
    if (!rc) dir = cli_given(args, "out") ? xstrdup(c->out) : path_join(run, "maps");
    if (!rc) rc = write_maps(c, run, dir);
    free(file);
    free(run);
    free(dir);
    if (c) config_close(c);
    return rc;
}

Err cmd_maps(int argc, char **argv) {
    CliArgs args;
    TRY(cli_args("maps", usage, argc, argv, 1, 1, &args));
    if (args.help) return OK;
    Err rc = maps_of(args.word[0], &args);
    cli_args_close(&args);
    return rc;
}
