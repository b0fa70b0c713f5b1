/* open_model.h - the MODEL argument of the commands: a run directory, a file, or the name of a network. */
#ifndef RETORT_CLI_OPEN_MODEL_H
#define RETORT_CLI_OPEN_MODEL_H
#include "train/config.h"

/* A command line cut into words and options. */
typedef struct CliArgs { char **word, **opt; int n_word, n_opt; bool help; } CliArgs;
/* Fails unless min <= words <= max (max < 0: any). With --help the command's help is printed and help set. */
Err  cli_args(const char *command, const char *usage, int argc, char **argv, int min, int max, CliArgs *out);
void cli_args_close(CliArgs *a);
/* "HxW" or "N"; NULL or "": as given in h, w before. */
Err  cli_size(const char *text, int *h, int *w);

enum { OPEN_RAW = 1,                 /* the input is a normalised float image */
       OPEN_NO_WEIGHTS = 2 };        /* a bare name needs no weights: random ones */
typedef struct OpenModel {
    Config      *config;             /* of the run directory with the command's options on top */
    ModelOptions options;
    Net         *net;
    ModelNodes   nodes;
    char        *source;             /* file of the weights, or what made them; caller's close frees */
} OpenModel;
/* MODEL is
 *   RUN       a run directory: its config.yaml; best, else last, else the newest checkpoint
 *   FILE      a checkpoint inside a run directory, or weights together with model=NAME; the number of
 *             classes and the auxiliary head are read from the file
 *   NAME      a network, with weights=FILE | formula:SEED
 * h, w: nominal image. On failure nothing stays open. */
Err  open_model(const char *command, const char *what, const CliArgs *args, unsigned flags, int h, int w, OpenModel *out);
/* The teacher of a configuration; out->net stays NULL when it has none. */
Err  open_teacher(const Config *c, int classes, int h, int w, OpenModel *out);
void open_model_close(OpenModel *m);
char *run_weights_file(const char *run_dir);         /* best, last or newest checkpoint; NULL: none; caller frees */
#endif
