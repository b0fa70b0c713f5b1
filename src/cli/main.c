/* main.c - `retort COMMAND ...`: finds the command, prints its one error line, returns its exit code. */
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"

#define COMMAND(name, help) Err cmd_##name(int argc, char **argv);
#include "cli/commands.def"
#undef COMMAND

static const struct { const char *name, *help; Err (*run)(int argc, char **argv); } commands[] = {
#define COMMAND(name, help) {#name, help, cmd_##name},
#include "cli/commands.def"
#undef COMMAND
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static int print_help(void) {
    printf("retort %s distils big segmentation networks into small ones\n\n", RETORT_VERSION);
    for (int i = 0; i < COMMANDS; i++) printf("  retort %-8s %s\n", commands[i].name, commands[i].help);
    printf("\nretort COMMAND --help lists its options. Options are key=value; --x is x=true, --x V is x=V.\n");
    return 0;
}

static Err unknown(const char *name) {
    const char *names[COMMANDS];
    for (int i = 0; i < COMMANDS; i++) names[i] = commands[i].name;
    const char *near = str_nearest(name, names, COMMANDS);
    return err_set(E(EXIT_USAGE, 76), "%s: there is no such command%s%s; see retort --help", name, near ? "; did you mean " : "", near ? near : "");
}

static Err dispatch(int argc, char **argv) {
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(argv[1], commands[i].name)) return commands[i].run(argc - 2, argv + 2);
    return unknown(argv[1]);
}

int main(int argc, char **argv) {
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) return print_help();
    if (!strcmp(argv[1], "--version")) return puts("retort " RETORT_VERSION), 0;
    sys_catch_signals();
    Err rc = dispatch(argc, argv);
    if (rc >= 1000) log_error_line(rc, err_text());
    else if (rc) log_info("%s", err_text());             /* stopped by a signal: 128 + N, no failure */
    fflush(stdout);
    return err_exit_code(rc);
}
