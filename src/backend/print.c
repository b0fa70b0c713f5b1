/* print.c - `retort info --plan`: the arena, the peak, and which values make it. */
#include <stdio.h>
#include <stdlib.h>

#include "backend/plan_priv.h"

static int peak_step(const Plan *p, size_t *bytes) {
    int best = 0;
    *bytes = 0;
    for (int i = 0; i < p->n_steps; i++) {
        size_t live = 0;
        for (ValueId v = 1; v < p->n_values; v++) {
            const Value *x = &p->values[v];
            bool counted =
                x->place != VALUE_BOUND && x->place != VALUE_OWN && x->root == v && x->first >= 0;
            if (counted && x->first <= i && i <= x->last) live += x->bytes;
        }
        if (live > *bytes) *bytes = live, best = i;
    }
    return best;
}

static const Plan *sorting;                  /* qsort has no context; set and read in plan_print only */
static int by_size(const void *a, const void *b) {
    size_t x = sorting->values[*(const int *)a].bytes, y = sorting->values[*(const int *)b].bytes;
    return x < y ? 1 : x > y ? -1 : *(const int *)a - *(const int *)b;
}

void plan_print(const Plan *p, int max_rows) {
    static const char *const layout[] = {"plain", "last", "c8", "c16"};
    size_t peak;
    int at = peak_step(p, &peak), n = 0;
    int *ids = xcalloc((size_t)p->n_values, sizeof *ids);
    for (ValueId v = 1; v < p->n_values; v++) {
        const Value *x = &p->values[v];
        bool counted =
            x->place != VALUE_BOUND && x->place != VALUE_OWN && x->root == v && x->first >= 0;
        if (counted && x->first <= at && at <= x->last) ids[n++] = v;
    }
    sorting = p;
    qsort(ids, (size_t)n, sizeof *ids, by_size);
    const Step *s = &p->steps[at];
    printf("arena %.1f MB, peak %.1f MB, parameter copies %.1f MB, %d steps, %d reorders\n",
           (double)p->arena_bytes / 1e6, (double)peak / 1e6, (double)p->own_bytes / 1e6, p->n_steps,
           p->n_reorders);
    const PlanStats stats = plan_stats(p);
    if (stats.again_flops > 0)
        printf("computes again in the backward pass: %.1f of %.1f GFLOP (%.1f %% more)\n",
               stats.again_flops * 1e-9, stats.conv_flops * 1e-9,
               100 * stats.again_flops / (stats.conv_flops - stats.again_flops));
    printf("peak at step %d of %d: %s, %s; alive there:\n", at, p->n_steps,
           p->net->nodes[s->node].name, s->what);
    for (int i = 0; i < n && i < max_rows; i++) {
        const Value *x = &p->values[ids[i]];
        printf("  %9.2f MB  %-22s %-6s steps %d..%d  %s\n", (double)x->bytes / 1e6,
               shape_text(x->shape).s, layout[x->layout], x->first, x->last,
               x->name ? x->name : "");
    }
    if (n > max_rows) printf("  and %d more\n", n - max_rows);
    free(ids);
}
