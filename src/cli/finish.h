/* finish.h - maps and report of a run, after training or on demand. */
#ifndef RETORT_CLI_FINISH_H
#define RETORT_CLI_FINISH_H
#include "train/config.h"
/* Pictures of report.images validation images into RUN/maps, then RUN/report.html. */
Err finish_run(const Config *c);
Err finish_maps(const Config *c, const char *dir, const char *split,
                int images); /* the pictures alone */
#endif
