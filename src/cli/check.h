/* check.h - everything that could go wrong with a training, looked for before hours are spent on it.
 *
 * Every part is tried, whatever the parts before it found: the data, both networks' weights, one step
 * of each stage, the memory and the time the whole needs, the teacher. What is wrong is listed at the
 * end, each with its remedy, and the first problem gives the exit code. */
#ifndef RETORT_CLI_CHECK_H
#define RETORT_CLI_CHECK_H
#include "train/config.h"

/* into_log: at the start of a training, lines for its log; otherwise they go to standard output. */
Err check_training(const Config *c, bool into_log);
#endif
