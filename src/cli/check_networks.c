/* check_networks.c - the part of the check that opens student and teacher, each by itself, and tells how
 * their files of weights fit. */
#include "cli/check_priv.h"

#include <string.h>

#include "io/weights.h"
#include "models/match.h"

static const double NETWORKS_SHARE = 0.6;    /* of check.seconds: no other network is begun later */
enum { NOMINAL = 65, SOME_CLASSES = 19 };    /* pixels a side; where the data do not tell */

static bool is_set(const char *weights) { return weights && strcmp(weights, "none") != 0; }

/* How the tensors of the file fit; whether that will do was decided when it was loaded. */
static Err tell_match(const Check *k, const char *whose, const Net *n, const char *weights) {
    SafeFile f;
    Match m;
    Str s = {0};
    if (!is_set(weights) || !sys_exists(weights)) return OK;
    TRY(weights_read(weights, &f));
    weights_unwrap(&f);
    match_names(n, f.tensors, &m);
    match_check(n, &m);
    match_text(&m, n->n_params, &s);
    check_say(k, "%s: %s: %s", whose, weights, s.s);
    str_free(&s);
    match_close(&m);
    st_close(&f);
    return OK;
}

/* A batch norm that sees one value per channel has no variance: its output is its bias. */
static void note_single_values(Check *k, const Net *n) {
    for (int i = 1; i < n->n_nodes && k->c->batch == 1 && !k->c->student.bn_frozen; i++) {
        const NetNode *x = &n->nodes[i];
        if (strcmp(x->op->name, "batch_norm") || x->shape.d[2] * x->shape.d[3] > 1) continue;
        check_note(
            k,
            "with train.batch=1 the batch norm %s sees a single value per channel and gives its bias "
            "alone; give train.batch=2 or more, or student.bn=frozen",
            x->name);
        return;
    }
}

static Err open_student(Check *k, int classes, Net **net) {
    const Config *c = k->c;
    ModelOptions o = c->student;
    ModelNodes nodes;
    const char *weights;
    TRY(model_source(o.model, c->student_weights, c->arena, &o, &weights));
    o.classes = classes ? classes : SOME_CLASSES;
    TRY(model_open(&o, NOMINAL, NOMINAL, net, &nodes));
    TRY(model_load_weights(*net, weights, (uint64_t)c->seed,
                           LOAD_START | (o.partial ? LOAD_PARTIAL : 0)));
    if (!is_set(weights) && !(*net)->has_weights)
        check_note(
            k,
            "the student's backbone starts from random weights; docs/weights.md tells which file "
            "fits student.weights");
    note_single_values(k, *net);
    return tell_match(k, "student", *net, weights);
}

static Err open_the_teacher(Check *k, int classes) {
    const Config *c = k->c;
    OpenModel *m = &k->teacher;
    TRY(open_teacher(c, classes, NOMINAL, NOMINAL, m));
    if (!m->net) return OK;
    if (!is_set(m->source) && !m->net->has_weights)
        check_note(k,
                   "the teacher has random weights: it teaches nothing; give teacher.weights=FILE");
    if (classes && m->options.classes != classes)
        return err_set(E(EXIT_USAGE, 37),
                       "the teacher has %d classes, the data set %d; give teacher.classes "
                       "a list, or take its own data set",
                       m->options.classes, classes);
    return model_is_onnx(m->options.model) ? OK : tell_match(k, "teacher", m->net, m->source);
}

Err check_networks(Check *k) {
    const Config *c = k->c;
    const Dataset *d = k->split[TRAIN] ? k->split[TRAIN] : k->split[VAL];
    const int classes = d ? d->n_classes : c->student.classes;
    const double start = sys_now();
    Net *student = NULL;
    Err rc = c->student.model ? OK
                              : err_set(E(EXIT_USAGE, 76), "student.model is not set; give "
                                                           "student.model=NAME, see retort info");
    if (!rc && d) rc = job_check_classes(c, d);
    if (!rc) rc = open_student(k, classes, &student);
    k->student_fits = !rc;
    TRY(check_problem(k, rc));
    if (student) net_close(student);
    k->open_s = sys_now() - start;
    if (c->teacher.model && check_over(k, NETWORKS_SHARE, 0))
        return check_unreached(k, "the teacher's weights"), OK;
    rc = open_the_teacher(k, classes);
    if (rc) open_model_close(&k->teacher);
    k->open_s = sys_now() - start;
    return check_problem(k, rc);
}
