/* tuned.c - a plan whose layers are computed in chosen ways, unless the usual ways are faster as a whole.
 *
 * Each layer's way is chosen with the layouts that it finds (cpu/ways.c), not with those it leaves to the layers
 * behind it. So where something was measured, both plans' convolutions and reorders are timed, alone, and the
 * verdict is a choice like the others.
 *
 * Layers are measured in rounds, those with most operations first, each round in a plan that is thrown away: where the
 * time for it is up, what is left in the usual way is what matters least. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/plan_priv.h"
#include "base/hash.h"
#include "base/str.h"
#include "base/sys.h"

enum { RUNS = 3, ROUNDS = 3 };
static const double SHARES[ROUNDS] = {0.5, 0.9, 1};      /* of all operations, reached by the end of a round */
static const char TUNED[] = "chosen";

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

/* Seconds of a plan's convolutions and reorders, best of so many runs; the plan is closed. */
static double time_of(Plan *p, int runs) {
    double best = INFINITY;
    memset(p->arena_block, 0x3c, p->arena_bytes);        /* 0.01 in every type */
    for (int i = 0; i < p->n_param_steps; i++) p->param_steps[i].fn(&p->param_steps[i]);
    for (int i = 0; i < runs; i++) best = fmin(best, run_once(p));
    plan_close(p);
    return best;
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
/* The least operations of a layer in each round. */
static void find_floors(const Plan *p, double floor[ROUNDS]) {
    double *flops = xcalloc((size_t)p->n_steps + 1, sizeof *flops), all = 0, sum = 0;
    int n = 0;
    for (int i = 0; i < p->n_steps; i++)
        if (p->steps[i].kind == STEP_CONV) all += flops[n++] = p->steps[i].flops;
    qsort(flops, (size_t)n, sizeof *flops, by_size);
    memset(floor, 0, ROUNDS * sizeof *floor);
    for (int r = 0; r < ROUNDS - 1; r++)
        while (n > 0 && sum < SHARES[r] * all) sum += floor[r] = flops[--n];
    free(flops);
}

static Err measure_layers(Net *net, const PlanSpec *spec) {
    PlanSpec dry = *spec, usual = *spec;
    Choices *c = spec->choices;
    double floor[ROUNDS];
    Plan *p;
    dry.dry = usual.dry = true, usual.choices = NULL;
    TRY(plan_make_once(net, &usual, &p));
    find_floors(p, floor);
    plan_close(p);
    choices_begin(c);
    Err rc = OK;
    for (int r = 0; r < ROUNDS && !rc && !sys_signal_pending(); r++) {
        choices_round(c, floor[r]);
        rc = plan_make_once(net, &dry, &p);
        if (!rc) plan_close(p);
    }
    choices_end(c);
    return rc;
}

Err plan_make_tuned(Net *net, const PlanSpec *spec, Plan **out) {
    Choices *c = spec->choices;
    PlanSpec usual = *spec;
    Plan *p;
    char key[64];
    usual.choices = NULL;
    plan_key(net, spec, key);
    const char *known = choices_find(c, key);
    if (known) return plan_make_once(net, strcmp(known, CHOICE_USUAL) ? spec : &usual, out);
    if (!choices_measure(c)) return plan_make_once(net, spec, out);
    TRY(measure_layers(net, spec));
    const int runs = choices_over(c) ? 1 : RUNS;
    const double start = sys_now();
    TRY(plan_make_once(net, spec, &p));
    const double chosen_s = time_of(p, runs);
    TRY(plan_make_once(net, &usual, &p));
    const char *verdict = time_of(p, runs) > chosen_s ? TUNED : CHOICE_USUAL;
    if (!sys_signal_pending()) choices_add(c, key, verdict, sys_now() - start);
    return plan_make_once(net, verdict == TUNED ? spec : &usual, out);
}
