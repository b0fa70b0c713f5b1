/* load.c - weights into a network: random, by formula, or from a file, every tensor accounted for.
 *
 * Strict: names (by one of the layouts of rules.def) and shapes must be equal; a checkpoint's own tensors (optim/,
 * ema/, state/) are passed over. LOAD_START allows what a student starts from: a backbone alone, a classifier of
 * other classes. LOAD_PARTIAL takes what fits. All checks come before the first write, so a refused file leaves the
 * network as it was; what is allowed to be absent starts at random, and that is said. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "models/match.h"
#include "models/parts.h"
#include "tensor/convert.h"

enum { CLASSES_LIMIT = 65536 };

/* ---- filling --------------------------------------------------------------------------------------- */

/* A NaN, which a variance below 0 makes, would not be seen behind a ReLU of oneDNN's: it is 0 there. */
Err model_check_values(const NetParam *p, const Tensor *t, const char *where) {
    for (int64_t i = 0, n = shape_count(t->shape); match_is_float(t->dtype) && i < n; i++) {
        const float v = tensor_float(t, i);
        const bool below = p->kind == PARAM_VAR && v < 0;
        if (below || !isfinite(v))
            return err_set(E(EXIT_MODEL, 17),
                           "%s: tensor %s has the value %g at element %" PRId64 "%s; use another file",
                           where, t->name, (double)v, i, below ? ", and is a variance" : "");
    }
    return OK;
}
static void fill_param(NetParam *p, const Tensor *t) {
    if (p->kind == PARAM_COUNT) p->count = t ? *(const int64_t *)t->data : 0;
    else if (t->dtype == DT_F32)
        memcpy(p->data, t->data, (size_t)shape_count(p->shape) * sizeof(float));
    else
        for (int64_t i = 0, n = shape_count(p->shape); i < n; i++) p->data[i] = tensor_float(t, i);
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
/* Such classifiers count as absent, not as wrong; how many tensors that were. */
static int set_classifiers_aside(const Net *n, Match *m, const char *where) {
    int aside = 0;
    for (int i = 0; i < n->n_params; i++) {
        if (!is_other_classifier(n, i, m->of[i])) continue;
        log_warn("%s: %s is for another number of classes; it starts at random", where,
                 n->params[i].name);
        m->of[i] = NULL;
        aside++;
    }
    return aside;
}
/* What the flags allow, with `aside` tensors known to be absent. */
static bool is_allowed(const Match *m, unsigned flags, int aside) {
    if (!m->matched) return false;
    if (flags & LOAD_PARTIAL) return true;
    if (m->extra.n || m->wrong.n) return false;
    const bool backbone = !m->matched_outside && !m->missing_inside;
    return m->missing.n == aside || (flags & LOAD_START && backbone);
}
static void say(const Net *n, const Match *m, unsigned flags, const char *where) {
    Str s = {0};
    if (flags & LOAD_PARTIAL && (m->missing.n || m->extra.n || m->wrong.n)) {
        match_text(m, n->n_params, &s);
        log_warn("%s: loaded in part, the rest starts at random: %s", where, s.s);
    } else if (flags & LOAD_START && m->missing.n && !m->matched_outside)
        log_info(
            "%s: the backbone alone is loaded: %d of %d tensors%s%s; the head starts at random",
            where, m->matched, n->n_params, *m->layout ? ", named as in " : "", m->layout);
    else if (flags) log_info("%s: %d of %d tensors are loaded", where, m->matched, n->n_params);
    str_free(&s);
}
Err model_load_file(Net *n, const SafeFile *f, const char *where, uint64_t seed, unsigned flags) {
    Match m;
    Err rc = OK;
    match_names(n, f->tensors, &m);
    const int aside = flags & LOAD_START ? set_classifiers_aside(n, &m, where) : 0;
    match_check(n, &m);
    if (!is_allowed(&m, flags, aside)) rc = match_refuse(n, f, &m, where);
    for (int i = 0; i < n->n_params && !rc; i++) {
        if (m.of[i] && !match_fits(&n->params[i], m.of[i])) m.of[i] = NULL;      /* LOAD_PARTIAL */
        if (m.of[i]) rc = model_check_values(&n->params[i], m.of[i], where);
    }
    if (!rc && flags) net_init_random(n, seed);          /* what the file does not give */
    for (int i = 0; i < n->n_params && !rc; i++)
        if (m.of[i] || n->params[i].kind == PARAM_COUNT) fill_param(&n->params[i], m.of[i]);
    if (!rc) n->version++, say(n, &m, flags, where);
    match_close(&m);
    return rc;
}
/* The tensor that holds the weights of the classifier whose result is x, or NULL. */
static const Tensor *classifier_of(const Net *n, Node x, const Match *m) {
    Node c;
    for (int at = 0; (c = model_classifier(n, x, at)).id; at++) {
        const NetNode *node = net_node(n, c);
        const Tensor *t = node->n_param ? m->of[node->param[0]] : NULL;
        if (t && t->shape.rank == 4 && t->shape.d[0] > 0 && t->shape.d[0] < CLASSES_LIMIT) return t;
    }
    return NULL;
}
Err model_look_into(const ModelOptions *o, const TensorList *file, int *classes, bool *aux) {
    enum { SIDE = 65 };
    ModelOptions probe = *o;
    Net *n;
    ModelNodes at;
    Match m;
    probe.classes = 2, probe.aux = true, probe.frozen = true;
    probe.class_map = NULL, probe.output = OUTPUT_LOGITS, memset(probe.tap, 0, sizeof probe.tap);
    TRY(model_open(&probe, SIDE, SIDE, &n, &at));
    match_names(n, file, &m);
    const Tensor *head = classifier_of(n, at.logits, &m);
    *classes = head ? (int)head->shape.d[0] : 0;
    *aux = classifier_of(n, at.aux, &m) != NULL;
    match_close(&m);
    net_close(n);
    return OK;
}
bool model_is_weights_file(const char *weights) {
    return weights && *weights && strcmp(weights, "none") && !str_starts(weights, "formula:");
}
Err model_load_weights(Net *n, const char *weights, uint64_t seed, unsigned flags) {
    int64_t formula;
    if (n->has_weights && (!weights || !*weights || !strcmp(weights, "none"))) return OK;
    if (!weights || !strcmp(weights, "none")) {
        net_init_random(n, seed);
        return OK;
    }
    if (str_starts(weights, "formula:")) {
        if (!parse_i64(weights + 8, &formula))
            return err_set(E(EXIT_USAGE, 76), "weights=%s: the seed is no number; write formula:1",
                           weights);
        net_init_formula(n, (uint64_t)formula);
        return OK;
    }
    SafeFile f;
    TRY(weights_read(weights, &f));
    weights_unwrap(&f);
    Err rc = model_load_file(n, &f, weights, seed, flags);
    st_close(&f);
    return rc;
}
