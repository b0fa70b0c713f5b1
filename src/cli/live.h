/* live.h - how a run stands now: what it last said of itself, and whether anybody is at it. */
#ifndef RETORT_CLI_LIVE_H
#define RETORT_CLI_LIVE_H
#include "base/sys.h"
#include "report/report.h"

typedef struct Live {
    RunData   *data;
    LockHolder holder;
    const char *state;               /* its own, but for "killed": said running, and nobody holds the lock */
    double     age_s;                /* of its last word; NaN: it has said none */
} Live;
Err  live_open(const char *dir, Live *out);
void live_close(Live *l);
#endif
