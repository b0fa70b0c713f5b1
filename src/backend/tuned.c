/* tuned.c - a plan whose layers are computed in chosen ways, unless the usual ways are faster as a whole.
 *
 * Each layer's way is chosen with the layouts that it finds (cpu/ways.c), not with those it leaves to the layers
 * behind it. So where something was measured, both plans' convolutions and reorders are timed, alone, and the
 * verdict is a choice like the others. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/plan_priv.h"
#include "base/hash.h"
#include "base/str.h"
#include "base/sys.h"

enum { RUNS = 3 };
static const char USUAL[] = "usual", TUNED[] = "chosen";

static void add_shape(Str *s, Shape x) { str_addf(s, " %s", shape_text(x).s); }

/* "plan DIGEST": of what the steps of a plan depend on, values aside. */
static void plan_key(const Net *n, const PlanSpec *spec, char out[64]) {
    Str s = {0};
    str_addf(&s, "%d %d %s %d", spec->training, spec->loss.id, dtype_name(spec->precision),
             spec->ranges != NULL);
    for (int i = 0; i < spec->n_inputs; i++)
        str_addf(&s, " %d", spec->inputs[i].id), add_shape(&s, spec->input_shapes[i]);
    for (int i = 0; i < spec->n_outputs; i++) str_addf(&s, " out %d", spec->outputs[i].id);
    for (int i = 1; i < n->n_nodes; i++)
        str_addf(&s, " %s", n->nodes[i].op->name), add_shape(&s, n->nodes[i].shape);
    for (int i = 0; i < n->n_params; i++)
        add_shape(&s, n->params[i].shape), str_addf(&s, "%d", n->params[i].trainable);
    strcpy(out, "plan ");
    strcat(out, hash_digest(s.s, s.n).hex);
    str_free(&s);
}

static bool bound(const Step *s) {
    for (int i = 0; i < s->n_read; i++)
        if (!step_ptr(s, s->read[i])) return false;
    return true;
}

static double run_once(const Plan *p) {
    const double start = sys_now();
    for (int i = 0; i < p->n_steps; i++)
        if ((p->steps[i].kind == STEP_CONV || p->steps[i].kind == STEP_REORDER) &&
            bound(&p->steps[i]))
            p->steps[i].fn(&p->steps[i]);
    return sys_now() - start;
}

/* Seconds of a plan's convolutions and reorders; the plan is closed. */
static double time_of(Plan *p) {
    double best = INFINITY;
    memset(p->arena_block, 0x3c, p->arena_bytes);        /* 0.01 in every type */
    for (int i = 0; i < p->n_param_steps; i++) p->param_steps[i].fn(&p->param_steps[i]);
    for (int i = 0; i < RUNS; i++) best = fmin(best, run_once(p));
    plan_close(p);
    return best;
}

Err plan_make_tuned(Net *net, const PlanSpec *spec, Plan **out) {
    Choices *c = spec->choices;
    PlanSpec usual = *spec;
    Plan *p;
    char key[64];
    usual.choices = NULL;
    plan_key(net, spec, key);
    const char *known = choices_find(c, key);
    if (known) return plan_make_once(net, strcmp(known, USUAL) ? spec : &usual, out);
    if (!choices_measure(c)) return plan_make_once(net, spec, out);
    const double before = choices_stats(c).seconds, start = sys_now();
    TRY(plan_make_once(net, spec, &p));
    const double chosen_s = time_of(p);
    TRY(plan_make_once(net, &usual, &p));
    const char *verdict = time_of(p) > chosen_s ? TUNED : USUAL;
    if (!sys_signal_pending())
        choices_add(c, key, verdict, sys_now() - start - (choices_stats(c).seconds - before));
    return plan_make_once(net, verdict == USUAL ? &usual : spec, out);
}
