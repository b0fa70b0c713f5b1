/* main.c - `retort COMMAND ...`: finds the command, prints its error, returns its exit code. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/option.h"
#include "base/str.h"
#include "base/sys.h"

#define COMMAND(name, help) Err cmd_##name(int argc, char **argv);
#include "cli/commands.def"
#undef COMMAND

static const struct {
    const char *name, *help;
    Err (*run)(int argc, char **argv);
} commands[] = {
#define COMMAND(name, help) {#name, help, cmd_##name},
#include "cli/commands.def"
#undef COMMAND
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_help(void) {
    help_print("retort %s distils big segmentation networks into small ones\n\n", RETORT_VERSION);
    for (int i = 0; i < COMMANDS; i++)
        help_print("  retort %-8s %s\n", commands[i].name, commands[i].help);
    help_print("\nretort COMMAND --help lists its options.\n"
           "Options are key=value; --x is x=true, --x V is x=V.\n");
}

static Err unknown(const char *name) {
    const char *names[COMMANDS];
    for (int i = 0; i < COMMANDS; i++) names[i] = commands[i].name;
    const char *near = str_nearest(name, names, COMMANDS);
    if (near)
        return err_set(E(EXIT_USAGE, 76), "%s: there is no such command; did you mean %s?", name,
                       near);
    return err_set(E(EXIT_USAGE, 76), "%s: there is no such command; retort --help lists them",
                   name);
}

static Err dispatch(const char *name, int argc, char **argv) {
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(name, commands[i].name)) return commands[i].run(argc, argv);
    return unknown(name);
}

/* A table that did not reach its file is a failure; a reader that had enough (a pipe) is none. */
static Err flush_output(Err rc) {
    if ((!fflush(stdout) && !ferror(stdout)) || errno == EPIPE || rc) return rc;
    return err_set(E(EXIT_OUTPUT, 5), "standard output: %s; what was printed is not complete",
                   strerror(errno));
}

static bool is_help(const char *word) {
    return !strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help");
}

int main(int argc, char **argv) {
    char *help[] = {"--help"};
    Err rc = OK;
    sys_catch_signals();
    if (argc < 2 || (argc == 2 && is_help(argv[1]))) print_help();
    else if (!strcmp(argv[1], "--version")) puts("retort " RETORT_VERSION);
    else rc = is_help(argv[1]) ? dispatch(argv[2], 1, help) : dispatch(argv[1], argc - 2, argv + 2);
    rc = flush_output(rc);
    if (rc >= 1000) log_error_line(rc, err_text());
    else if (rc) log_info("%s", err_text()); /* stopped by a signal: 128 + N, no failure */
    return err_exit_code(rc);
}
