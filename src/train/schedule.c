/* schedule.c - the learning rate and the stage of the task loss as functions of the step.
 *
 * `step` counts the updates done so far, from 0. Warm-up rises linearly to the full rate at step
 * lr_warmup; poly: lr (1 - step / steps)^power; cosine: lr (1 + cos(pi step / steps)) / 2. */
#include <math.h>

#include "train/trainer_priv.h"

double optimizer_lr(const Config *c, int64_t step) {
    double lr = c->lr, t = (double)step / (double)c->steps;
    if (c->lr_batch > 0) lr *= (double)(c->batch * c->accumulate) / (double)c->lr_batch;
    if (t > 1) t = 1;
    if (c->schedule == 0) lr *= pow(1 - t, c->schedule_power);
    if (c->schedule == 2) lr *= 0.5 * (1 + cos(3.14159265358979323846 * t));
    if (step < c->lr_warmup) lr *= (double)(step + 1) / (double)c->lr_warmup;
    return lr;
}

static double in_steps(double v, double steps) {
    return v < 1 ? floor(v * steps + 1e-6) : v; /* 0.29 x 100 is 29 */
}

/* Stage 1 (TFE) for the first warmup steps, then stage 2 (TSE), at once or by a cross-fade whose
 * weight v = (step - steps) / (warmup - steps) falls from 1 to 0, or (1 - cos(pi v)) / 2 in its place. compat rdd2023 counts from
 * 1 and so runs stage 1 for warmup - 1 steps. */
void stage_weights(const Config *c, int64_t step, const StageSwitch *w, float stage[2]) {
    double steps = (double)c->steps, at = (double)(step + (c->task_compat ? 1 : 0));
    double warmup = in_steps(c->task_warmup, steps);
    if (c->task_auto) warmup = w->at >= 0 ? (double)w->at : INFINITY;
    double v = at < warmup ? 1 : 0;
    if (c->task_schedule >= 1 && at >= warmup && warmup < steps)
        v = (at - steps) / (warmup - steps);
    if (c->task_schedule == 2) v = 0.5 * (1 - cos(3.14159265358979323846 * v));
    if (v <= 0) v = 0; /* -0 too */
    stage[0] = (float)v;
    stage[1] = (float)(1 - v);
}

/* Means over stretches of the window, each held against the one before: a difference of single losses
 * would be noise. Depends on the losses alone, so a resumed run switches where it would have. */
bool stage_watch(const Config *c, StageSwitch *w, int64_t step, double loss) {
    if (!c->task_auto || w->at >= 0) return false;
    const double window = in_steps(c->switch_window, (double)c->steps);
    w->sum += loss, w->n++;
    bool over = 2 * step >= c->steps;
    if ((double)w->n >= window) {
        const double mean = w->sum / (double)w->n;
        over |= mean > (1 - c->switch_drop) * w->before; /* false where there is none before */
        w->before = mean, w->sum = 0, w->n = 0;
    }
    if (over) w->at = step;
    return over;
}
