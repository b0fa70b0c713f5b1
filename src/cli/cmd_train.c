/* cmd_train.c - `retort train CONFIG.yaml [key=value ...]`: the loop of train/ with the pages of
 * report/. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/check.h"
#include "cli/finish.h"
#include "cli/open_model.h"
#include "report/report.h"
#include "train/trainer.h"

static const char usage[] =
    "train [CONFIG.yaml] [key=value ...]\n\n"
    "Trains a student, alone or distilled from a teacher, into the run directory\n"
    "`out`. The same command again goes on where the last one stopped. What `retort check`\n"
    "looks at is looked at before the first step; check=off leaves it out. --print-config\n"
    "shows the whole configuration and where each value came from.";

static Err look_first(const Config *c) {
    return c->check.kind == CHECK_OFF ? OK : check_training(c, true);
}

static Err print_config(const Config *c) {
    char *text = config_text(c);
    fputs(text, stdout);
    free(text);
    return OK;
}

Err cmd_train(int argc, char **argv) {
    CliArgs args;
    TRY(cli_args("train", usage, argc, argv, 0, 1, &args));
    if (args.help) return OK;
    Config *c = NULL;
    const char *file = args.n_word ? args.word[0] : NULL;
    Err rc = OK;
    if (!file && !args.n_opt)
        rc = err_set(E(EXIT_USAGE, 76), "train: nothing to train; usage: retort train CONFIG.yaml "
                                        "[key=value ...], see recipes/");
    if (!rc) rc = config_read("train", file, args.opt, args.n_opt, &c);
    if (!rc && c->print_config) rc = print_config(c);
    else if (!rc) rc = finish_train(c, look_first);
    if (c) config_close(c);
    cli_args_close(&args);
    return rc;
}
