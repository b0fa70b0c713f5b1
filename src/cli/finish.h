/* finish.h - a training with its pages: maps, report and event file, while it runs and after. */
#ifndef RETORT_CLI_FINISH_H
#define RETORT_CLI_FINISH_H
#include "train/config.h"
/* train_run_with, and beside it RUN/report.html, RUN/events.out.tfevents.* and pictures of report.images
 * validation images in RUN/maps, renewed at evaluations. check: before the first step; may be NULL. */
Err finish_train(const Config *c, Err (*check)(const Config *c));
/* Of a run that was trained without: pictures, then the page. */
Err finish_run(const Config *c);
Err finish_maps(const Config *c, const char *dir, const char *split,
                int images); /* the pictures alone */
#endif
