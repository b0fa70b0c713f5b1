/* load.c - weights into a network: random, by formula, or from a file, every tensor accounted for.
 *
 * Strict: names and shapes must be equal, except that num_batches_tracked may be absent (files older
 * than PyTorch 0.4.1) and that a checkpoint's own tensors (optim/, ema/, state/) are passed over. All
 * checks come before the first write, so a refused file leaves the network as it was. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "io/safetensors.h"
#include "models/model.h"

enum { LISTED = 5 };                                     /* names per kind of difference in the report */

/* ---- numbers ------------------------------------------------------------------------------------- */

static float half_value(uint16_t h) {
    const int exponent = h >> 10 & 31, mantissa = h & 1023;
    float v = exponent == 31 ? (mantissa ? NAN : INFINITY)
            : exponent ? ldexpf((float)(mantissa | 1024), exponent - 25) : ldexpf((float)mantissa, -24);
    return h >> 15 ? -v : v;
}
static float element(const Tensor *t, int64_t i) {
    uint32_t bits;
    float v;
    switch (t->dtype) {
    case DT_F32: return ((const float *)t->data)[i];
    case DT_F64: return (float)((const double *)t->data)[i];
    case DT_F16: return half_value(((const uint16_t *)t->data)[i]);
    default:
        bits = (uint32_t)((const uint16_t *)t->data)[i] << 16;
        memcpy(&v, &bits, sizeof v);
        return v;
    }
}
static bool is_float(Dtype t) { return t == DT_F32 || t == DT_F64 || t == DT_F16 || t == DT_BF16; }

/* ---- the report ---------------------------------------------------------------------------------- */

typedef struct { Str text; int n; } Names;               /* the first LISTED names and how many in all */
typedef struct { Names missing, extra, wrong; int matched, prefixed; } Match;

static void names_add(Names *l, const char *name, const char *detail) {
    if (l->n++ < LISTED) str_addf(&l->text, "%s%s%s", l->n > 1 ? ", " : "", name, detail);
}
static void report_part(Str *s, const char *what, const Names *l) {
    if (!l->n) return;
    str_addf(s, ", %d %s: %s", l->n, what, l->text.s);
    if (l->n > LISTED) str_addf(s, " and %d more", l->n - LISTED);
}
static bool is_state(const char *name) {
    return str_starts(name, "optim/") || str_starts(name, "ema/") || str_starts(name, "state/");
}
static void match_param(Match *m, const NetParam *p, const Tensor *t) {
    char detail[256];
    if (!t) {
        if (p->kind != PARAM_COUNT) names_add(&m->missing, p->name, "");
        return;
    }
    const bool typed = p->kind == PARAM_COUNT ? t->dtype == DT_I64 : is_float(t->dtype);
    if (typed && shape_count(t->shape) == shape_count(p->shape) && (shape_equal(t->shape, p->shape) || p->kind == PARAM_COUNT)) {
        m->matched++;
        return;
    }
    snprintf(detail, sizeof detail, " (%s %s, expected %s)", dtype_name(t->dtype), shape_text(t->shape).s, shape_text(p->shape).s);
    names_add(&m->wrong, p->name, detail);
}
static Err match_report(const Match *m, const char *where, int total) {
    Str s = {0};
    str_addf(&s, "%d of %d tensors match", m->matched, total);
    report_part(&s, "missing", &m->missing);
    report_part(&s, "extra", &m->extra);
    report_part(&s, "of another shape or type", &m->wrong);
    str_addf(&s, "; %s", m->prefixed ? "remove the prefix module. from the file's names" : "use the weights of this network with these classes and heads");
    Err rc = err_set(E(EXIT_MODEL, 61), "%s: %s", where, s.s);
    str_free(&s);
    return rc;
}

/* ---- filling --------------------------------------------------------------------------------------- */

/* The tensor of each parameter, by name; NULL where absent. Extra ones go into the report. The net's
 * own table finds the names, so a file of any number of tensors is one pass. */
static const Tensor **pair(const Net *n, const TensorList *list, Match *m) {
    const Tensor **of = xcalloc((size_t)n->n_params + 1, sizeof *of);
    for (int i = 0; i < list->n; i++) {
        const char *name = list->v[i].name;
        const int p = net_find_param(n, name);
        if (p >= 0) of[p] = &list->v[i];
        else if (!is_state(name)) {
            names_add(&m->extra, name, "");
            m->prefixed += str_starts(name, "module.") && net_find_param(n, name + 7) >= 0;
        }
    }
    return of;
}
static Err check_finite(const Tensor *t, const char *where) {
    for (int64_t i = 0, n = shape_count(t->shape); is_float(t->dtype) && i < n; i++)
        if (!isfinite(element(t, i)))
            return err_set(E(EXIT_MODEL, 17), "%s: tensor %s has the value %g at element %" PRId64 "; use another file",
                           where, t->name, (double)element(t, i), i);
    return OK;
}
static void fill_param(NetParam *p, const Tensor *t) {
    if (p->kind == PARAM_COUNT) p->count = t ? *(const int64_t *)t->data : 0;
    else if (t->dtype == DT_F32) memcpy(p->data, t->data, (size_t)shape_count(p->shape) * sizeof(float));
    else
        for (int64_t i = 0, n = shape_count(p->shape); i < n; i++) p->data[i] = element(t, i);
}
/* A classifier of another number of classes: a parameter of the convolution that gives logits or aux,
 * equal in every dimension but the first. */
static bool is_other_classifier(const Net *n, int p, const Tensor *t) {
    static const char *const OUTPUTS[] = {"logits", "aux"};
    Shape s = n->params[p].shape;
    if (!t || t->shape.rank != s.rank || !s.rank || t->shape.d[0] == s.d[0]) return false;
    s.d[0] = t->shape.d[0];
    if (!shape_equal(s, t->shape)) return false;
    for (int k = 0; k < 2; k++) {
        Node c, out = net_find(n, OUTPUTS[k]);
        for (int at = 0; (c = model_classifier(n, out, at)).id; at++)
            for (int i = 0; i < net_node(n, c)->n_param; i++)
                if (net_node(n, c)->param[i] == p) return true;
    }
    return false;
}

Err model_load_tensors(Net *n, const TensorList *list, const char *where, bool other_classes) {
    Match m = {0};
    Err rc = OK;
    const Tensor **of = pair(n, list, &m);
    for (int i = 0; i < n->n_params; i++) {
        if (other_classes && is_other_classifier(n, i, of[i])) {
            log_warn("%s: %s is for another number of classes; it starts from its present value", where, n->params[i].name);
            of[i] = NULL;
        } else match_param(&m, &n->params[i], of[i]);
    }
    if (m.missing.n || m.extra.n || m.wrong.n) rc = match_report(&m, where, n->n_params);
    for (int i = 0; !rc && i < n->n_params; i++)
        if (of[i]) rc = check_finite(of[i], where);
    for (int i = 0; !rc && i < n->n_params; i++)
        if (of[i] || n->params[i].kind == PARAM_COUNT) fill_param(&n->params[i], of[i]);
    n->version++;
    str_free(&m.missing.text), str_free(&m.extra.text), str_free(&m.wrong.text);
    free(of);
    return rc;
}
static Err load(Net *n, const char *weights, uint64_t seed, bool other_classes) {
    int64_t formula;
    if (n->has_weights && (!weights || !*weights || !strcmp(weights, "none"))) return OK;
    if (!weights || !strcmp(weights, "none")) {
        net_init_random(n, seed);
        return OK;
    }
    if (str_starts(weights, "formula:")) {
        if (!parse_i64(weights + 8, &formula)) return err_set(E(EXIT_USAGE, 76), "weights=%s: the seed is no number; write formula:1", weights);
        net_init_formula(n, (uint64_t)formula);
        return OK;
    }
    SafeFile f;
    TRY(st_read(weights, EXIT_MODEL, &f));
    if (other_classes) net_init_random(n, seed);         /* what the file does not give */
    Err rc = model_load_tensors(n, f.tensors, weights, other_classes);
    st_close(&f);
    return rc;
}
Err model_load_weights(Net *n, const char *weights, uint64_t seed) { return load(n, weights, seed, false); }
Err model_load_start(Net *n, const char *weights, uint64_t seed) { return load(n, weights, seed, true); }
