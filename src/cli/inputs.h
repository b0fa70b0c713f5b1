/* inputs.h - the IMAGE... words of a command: files, folders and patterns, and what each is called in
 * the output. Sub-folders are kept. */
#ifndef RETORT_CLI_INPUTS_H
#define RETORT_CLI_INPUTS_H
#include "base/err.h"

typedef struct Input { char *path, *stem; } Input;   /* stem: path below the output folder, without suffix */
typedef struct Inputs { Input *v; int n, cap; } Inputs;
/* word: a file; a folder, whose PNG and JPEG files are taken but for what this program wrote; or, where
 * nothing of that name exists, a pattern with * ? [ ]. E3030, E3045. */
Err  inputs_add(Inputs *in, const char *word);
Err  inputs_check(const Inputs *in);         /* E3030: none; E3032: two would write the same files */
void inputs_close(Inputs *in);
#endif
