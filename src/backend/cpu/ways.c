/* ways.c - which of the ways to compute a pass of a convolution is taken.
 *
 * What is faster differs between processors by two, either way: so it is measured (tune.c), once per machine and
 * layer, and remembered under a key that says all a measurement depends on. Ways differ in the last bits only.
 * Another way than the usual one must be clearly faster: what it does to the layers behind it is not seen here. */
#include <math.h>
#include <string.h>

#include "backend/cpu/conv_priv.h"
#include "base/str.h"
#include "base/sys.h"

static const double CLEARLY = 0.95;

static bool always(const Plan *p, const PlanNode *n, const DnnConv *c) { return true; }
static bool own_fits(const Plan *p, const PlanNode *n, const DnnConv *c) {
    return dilated_fits(c) || depthwise_fits(p, n, c);
}
static const struct {
    const char *name;
    bool (*fits)(const Plan *, const PlanNode *, const DnnConv *);
} ways[WAY_COUNT] = {
    [WAY_ANY] = {"any", always}, [WAY_LAST] = {"last", always}, [WAY_OWN] = {"own", own_fits}};

static Err depthwise_way(Plan *p, const DnnConv *c, Way *out) {
    DnnPrim *prim;
    Layout src, dst;
    TRY(conv_create(p, *c, WAY_ANY, &prim, &src, &dst));
    return *out = conv_depthwise(prim) ? WAY_ANY : WAY_OWN, OK;
}
/* Without a measurement: oneDNN's layouts, unless it has no good kernel for a dilation or for depthwise ones. */
static Err usual_way(Plan *p, const PlanNode *n, const DnnConv *c, Way *out) {
    bool unfolds;
    *out = WAY_ANY;
    if (depthwise_fits(p, n, c)) return depthwise_way(p, c, out);
    if (c->dilation == 1) return OK;
    TRY(conv_folded_way(p, c, out, &unfolds));
    if (!unfolds) return OK;
    bool no_gain = !dilated_fits(c);
    if (!no_gain && c->pass == DNN_BACKWARD_DATA) TRY(dilated_data_unfolds(p, c, &no_gain));
    if (!no_gain) *out = WAY_OWN;
    return OK;
}

/* ---- keys ------------------------------------------------------------------------------------------ */

/* The layouts and types in which a value lies already; in backward its own alone, so that a lean plan has the same keys. */
static void key_value(Str *k, const Plan *p, const char *what, const PlanNode *n) {
    static const char *const layout[] = {"plain", "last", "c8", "c16"};
    str_addf(k, " %s", what);
    for (int l = LAYOUT_PLAIN; l <= LAYOUT_C16; l++)
        for (int t = 0; t < 4; t++)
            if (n->as[l][t] && (!p->emitting_backward || n->as[l][t] == n->value))
                str_addf(k, ":%s.%s", layout[l], dtype_name(p->values[n->as[l][t]].dtype));
}

/* Lives in the plan's arena. */
static const char *key_of(const Plan *p, const PlanNode *n, const ConvPass *pass, const DnnConv *c) {
    Str k = {0};
    const ConvAttr *a = n->attr;
    str_addf(&k, "%s %s %s", pass->name, n->int8 ? "int8" : dtype_name(c->t),
            dtype_name(n->int8 ? n->stored : c->dst_t));
    str_addf(&k, " %s * %s > %s", shape_text(c->src).s, shape_text(c->weights).s,
            shape_text(c->dst).s);
    str_addf(&k, " stride %d dilation %d groups %d pad %d %d %d %d", c->stride, c->dilation,
            c->groups, (int)c->pad[0], (int)c->pad[1], (int)c->pad_end[0], (int)c->pad_end[1]);
    str_addf(&k, "%s%s%s act %d", c->bias ? " bias" : "", c->inference ? " inference" : "",
            a->residual ? " residual" : "", (int)c->act);
    key_value(&k, p, "src", &p->nodes[plan_resolve(p, n->src[0])]);
    if (a->residual) key_value(&k, p, "residual", &p->nodes[plan_resolve(p, n->src[1])]);
    if (n->n_grad)
        str_addf(&k, " dst:%d.%s", (int)p->values[n->grad[0]].layout,
                dtype_name(p->values[n->grad[0]].dtype));
    const char *key = arena_strdup(p->arena, k.s);
    str_free(&k);
    return key;
}

/* ---- choosing --------------------------------------------------------------------------------------- */

static Way measure(const Plan *p, const PlanNode *n, int id, const ConvPass *pass, const DnnConv *c,
                   Way usual) {
    double best = tune_time(p, id, pass, usual, INFINITY) * CLEARLY;
    Way out = usual;
    for (Way w = 0; w < WAY_COUNT; w++) {
        if (w == usual || !ways[w].fits(p, n, c) || sys_signal_pending()) continue;
        const double s = tune_time(p, id, pass, w, best);
        if (s < best) best = s, out = w;
    }
    return out;
}

static Err choose(Plan *p, const PlanNode *n, int id, const ConvPass *pass, Way *out) {
    const DnnConv c = conv_describe(p, n, pass->pass);
    Choices *choices = p->spec.choices;
    if (!choices) return usual_way(p, n, &c, out);
    const char *key = key_of(p, n, pass, &c);
    const char *known = choices_find(choices, key);
    for (Way w = 0; known && w < WAY_COUNT; w++)
        if (!strcmp(known, ways[w].name) && ways[w].fits(p, n, &c)) return *out = w, OK;
    TRY(usual_way(p, n, &c, out));
    if (known && !strcmp(known, CHOICE_USUAL)) return OK;
    if (!choices_measures(choices, conv_flops(&c)) || sys_signal_pending()) return OK;
    if (choices_over(choices)) return choices_leave(choices, key), OK;
    const double start = sys_now();
    const Way fastest = measure(p, n, id, pass, &c, *out);
    if (sys_signal_pending()) return OK;     /* not all ways were timed: nothing to remember */
    *out = fastest;
    choices_add(choices, key, ways[*out].name, sys_now() - start);
    return OK;
}

Err ways_emit(Plan *p, PlanNode *n, int id, const ConvPass *pass) {
    Way way;
    TRY(choose(p, n, id, pass, &way));
    return pass->emit(p, n, id, way);
}
