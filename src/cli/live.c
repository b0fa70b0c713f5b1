/* live.c - see live.h. */
#include "cli/live.h"

#include <string.h>

Err live_open(const char *dir, Live *out) {
    *out = (Live){0};
    TRY(run_data_open(dir, &out->data));
    Err rc = lock_look(dir, &out->holder);
    if (rc) return live_close(out), rc;
    out->state = out->data->state;
    if (!strcmp(out->state, "running") && !out->holder.held) out->state = "killed";
    else if (strcmp(out->state, "running") && out->holder.held) out->state = "starting";
    out->age_s = sys_wall_age(out->data->time);
    return OK;
}

void live_close(Live *l) {
    run_data_close(l->data);
    *l = (Live){0};
}
