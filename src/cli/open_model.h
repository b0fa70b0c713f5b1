/* open_model.h - the MODEL argument of the commands: a run directory, a file, or the name of a network. */
#ifndef RETORT_CLI_OPEN_MODEL_H
#define RETORT_CLI_OPEN_MODEL_H
#include "cli/args.h"
#include "train/config.h"

enum { OPEN_RAW = 1,                 /* the input is a normalised float image */
       OPEN_NO_WEIGHTS = 2 };        /* a bare name needs no weights: random ones */
typedef struct OpenModel {
    Config      *config;             /* of the run, with the command's options on top; NULL for a teacher */
    ModelOptions options;
    Net         *net;
    ModelNodes   nodes;
    const char *const *class_names; int n_class_names;           /* as the file tells them; NULL: it does not */
    char        *source;             /* file of the weights, or what made them; caller's close frees */
} OpenModel;
/* MODEL is
 *   NAME      a network, with weights=FILE | RUN | formula:SEED
 *   RUN       a run directory: best, else last, else the newest checkpoint
 *   FILE      what a run wrote, which knows its network and data set, or weights together with model=NAME;
 *             the number of classes and the auxiliary head are read from the tensors
 * A folder with a network's name is given as ./NAME. h, w: nominal image. On failure nothing
 * stays open. */
Err  open_model(const char *command, const char *what, const CliArgs *args, unsigned flags, int h, int w, OpenModel *out);
/* The teacher of a configuration; out->net stays NULL when it has none. */
Err  open_teacher(const Config *c, int classes, int h, int w, OpenModel *out);
/* A data set for its classes and colours alone; NULL when there is none to be opened. */
Dataset *open_some_split(const DataOptions *data);
/* Its colours; beyond them, and for NULL, those of PASCAL VOC's bit scheme. */
void open_palette(const Dataset *d, uint8_t rgb[256][3]);
void open_model_close(OpenModel *m);
#endif
