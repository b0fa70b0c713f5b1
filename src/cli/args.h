/* args.h - a command line cut into words and options, and a command's help. */
#ifndef RETORT_CLI_ARGS_H
#define RETORT_CLI_ARGS_H
#include "base/mem.h"

typedef struct CliArgs {
    char **word, **opt;
    int n_word, n_opt;
    bool help;
} CliArgs;
/* usage: the line behind "retort ", then, for --help alone, lines that explain it. Fails unless
 * min <= words <= max (max < 0: any). With --help the command's help is printed and help is set. */
Err cli_args(const char *command, const char *usage, int argc, char **argv, int min, int max,
             CliArgs *out);
void cli_args_close(CliArgs *a);
bool cli_wants_help(int argc, char **argv);
bool cli_given(const CliArgs *a, const char *name); /* is there name=V, --name=V or --name? */
/* Option number *i as key (in arena mem) and value (borrowed), and *i behind it: k=v, --k=v, --k v.
 * E2076. */
Err cli_option(const CliArgs *a, int *i, Arena *mem, const char **key, const char **value);
/* "HxW" or "N"; NULL or "": as given in h, w before. */
Err cli_size(const char *text, int *h, int *w);
/* Is value (NULL: not given) a or b (NULL: only a)? E2076. */
Err cli_choice(const char *name, const char *value, const char *a, const char *b);
/* Text from outside, safe for a terminal; at most max bytes of it. */
void cli_print(const char *text, size_t max);
/* A path's last part as the first part of an output's name: cut, with a hash of the whole, when the
 * outputs' suffixes would make it longer than file systems allow. Caller frees. */
char *cli_output_name(const char *stem);
#endif
