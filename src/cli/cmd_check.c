/* cmd_check.c - `retort check CONFIG`: what `retort train` looks at before its first step, alone. */
#include "cli/args.h"
#include "cli/check.h"

static const char usage[] =
    "check [CONFIG.yaml] [key=value ...]\n\n"
    "Looks at the data, the networks and their weights, runs one step of each stage, and\n"
    "measures the teacher, all within check.seconds (check=full: everything, whatever the\n"
    "time). Lists every problem with its remedy; what time did not allow is named. Takes\n"
    "what `retort train` takes, which makes the same check before its first step.";

Err cmd_check(int argc, char **argv) {
    CliArgs args;
    TRY(cli_args("check", usage, argc, argv, 0, 1, &args));
    if (args.help) return OK;
    Config *c = NULL;
    Err rc = config_read("check", args.n_word ? args.word[0] : NULL, args.opt, args.n_opt, &c);
    if (!rc) rc = check_training(c, false);
    if (c) config_close(c);
    cli_args_close(&args);
    return rc;
}
