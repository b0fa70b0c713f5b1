/* job.c - a student, its teacher and the loss terms as two plans that step together.
 *
 * The teacher is a frozen Net of its own with an inference plan. Its outputs (logits, aux,
 * features) are inputs of the student's Net, so its gradients cannot exist; they are bound by
 * pointer, without a copy. Only what the loss terms read is asked of the teacher. The total is a
 * weighted sum of the terms, each of which is kept as an output for the log. Rows 13, 14, 37 of the
 * failure table are told apart here. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "train/trainer_priv.h"

enum { FLIP = 3, N_TAPS = 4 }; /* flip: the logits of the mirrored images, mirrored back */
static const char *const tap_names[N_TAPS] = {"logits", "aux", "features", "flip"};
struct Job {
    const Config *c;
    Arena *arena;
    Net *student, *teacher;
    ModelNodes sn, tn;
    Node taught[N_TAPS]; /* inputs of the student's net; NO_NODE where unused */
    Node labels, stage, term[1 + LOSSES_MAX], total;
    Plan *splan, *tplan;
    float stage_value[2];
    float *flip;                   /* values of taught[FLIP] */
    uint8_t *mirrored;             /* images, and their rectangles */
    int32_t *mirrored_rects;
    Digest teacher_digest;
    bool has_digest;
};

static Node tap_of(const ModelNodes *m, int i) {
    const Node tap[N_TAPS] = {m->logits, m->aux, m->features, m->logits};
    return tap[i];
}

/* ---- classes -------------------------------------------------------------------------------- */

static Err resolve_model(const Config *c, const ModelOptions *in, const char *weights, Arena *a,
                         ModelOptions *o, const char **path) {
    *o = *in;
    return model_source(in->model, weights, a, o, path);
}

static Err check_classes(const Config *c, int classes, const char *whose,
                         const ModelOptions *student, const ModelOptions *teacher) {
    int s = student->classes ? student->classes : classes,
        t = teacher->class_map ? teacher->n_class_map : teacher->classes ? teacher->classes : classes;
    if (!teacher->model) t = classes;
    if (s == classes && t == classes) return OK;
    char with[64] = "";
    if (teacher->model) snprintf(with, sizeof with, ", the teacher %d", t);
    return err_set(E(2, 37),
                   "numbers of classes differ: %s has %d, the student %d%s; they must agree", whose,
                   classes, s, with);
}

Err job_check_classes(const Config *c, const Dataset *d) {
    Arena *a = arena_open();
    ModelOptions s, t;
    const char *path;
    Err rc = resolve_model(c, &c->student, c->student_weights, a, &s, &path);
    if (!rc) rc = resolve_model(c, &c->teacher, c->teacher_weights, a, &t, &path);
    if (!rc) rc = check_classes(c, d->n_classes, d->def->name, &s, &t);
    arena_close(a);
    return rc;
}

/* ---- opening -------------------------------------------------------------------------------- */

static Err open_nets(Job *j, int classes, int h, int w) {
    const Config *c = j->c;
    ModelOptions s, t;
    const char *sw, *tw;
    if (!c->student.model)
        return err_set(E(2, 76),
                       "student.model is not set; give student.model=NAME, see retort info");
    TRY(resolve_model(c, &c->student, c->student_weights, j->arena, &s, &sw));
    TRY(resolve_model(c, &c->teacher, c->teacher_weights, j->arena, &t, &tw));
    TRY(check_classes(c, classes, "the data set", &s, &t));
    s.classes = classes;
    if (!t.class_map) t.classes = classes;
    if (t.class_map && t.model && !model_is_onnx(t.model) && !t.classes)
        return err_set(E(2, 76), "teacher.classes: a list needs a teacher whose file tells how many it has: a run, a checkpoint or FILE.onnx");
    TRY(model_open(&s, h, w, &j->student, &j->sn));
    TRY(model_load_weights(j->student, sw, (uint64_t)c->seed, LOAD_START | (s.partial ? LOAD_PARTIAL : 0)));
    if (!t.model) return OK;
    t.frozen = t.dropout_off = true;
    TRY(model_open(&t, h, w, &j->teacher, &j->tn));
    TRY(model_load_weights(j->teacher, tw, (uint64_t)c->seed, t.partial ? LOAD_PARTIAL : 0));
    if (!tw || !strcmp(tw, "none"))
        log_warn("the teacher has random weights; give teacher.weights=FILE");
    j->teacher_digest =
        hash_digest(j->teacher->values, (size_t)j->teacher->n_values * sizeof(float));
    j->has_digest = true;
    return OK;
}

static void add_inputs(Job *j, int h, int w) {
    Net *n = j->student;
    int64_t batch = net_shape(n, j->sn.image).d[0];
    j->labels = net_input(n, "labels", DT_I32, SHAPE(batch, h, w));
    j->stage = net_input(n, "stage", DT_F32, SHAPE(2));
    for (int i = 0; j->teacher && i < N_TAPS; i++) {
        Node x = tap_of(&j->tn, i);
        char name[32];
        snprintf(name, sizeof name, "teacher.%s", tap_names[i]);
        if (x.id) j->taught[i] = net_input(n, name, DT_F32, net_shape(j->teacher, x));
    }
}

/* Parameters that a method added (adapters) start at random, as the net's own do. */
static Err init_added(Job *j, int first) {
    Net *n = j->student;
    if (n->n_params == first) return OK;
    TRY(net_finish(n));
    net_init_params(n, first, (uint64_t)j->c->seed);
    return OK;
}

/* The teacher's logits or aux as the loss terms take them: on the grid of the student's logits. */
static Node lined_up(Job *j, Node taught) {
    Net *n = j->student;
    if (!taught.id) return NO_NODE;
    Shape s = net_shape(n, j->sn.logits), t = net_shape(n, taught);
    if (s.d[2] == t.d[2] && s.d[3] == t.d[3]) return taught;
    return nn_resize_like(n, taught, j->sn.logits, true);
}

static Err add_losses(Job *j) {
    const Config *c = j->c;
    Net *n = j->student;
    net_enter(n, "teacher");
    const Node t_logits = lined_up(j, j->taught[0]), t_aux = lined_up(j, j->taught[1]);
    const Node t_flip = lined_up(j, j->taught[FLIP]);
    net_leave(n);
    KdSite site = {.logits = j->sn.logits,
                   .aux = j->sn.aux,
                   .features = j->sn.features,
                   .t_logits = t_logits,
                   .t_aux = t_aux,
                   .t_features = j->taught[2],
                   .t_flip = t_flip,
                   .labels = j->labels,
                   .stage = j->stage};
    float weight[1 + LOSSES_MAX];
    const int first = n->n_params;
    for (int i = 0; i <= c->n_losses; i++) {
        const LossTerm *t = i ? &c->losses[i - 1] : &c->task;
        net_enter(n, "loss");
        char scope[40];
        snprintf(scope, sizeof scope, "%s", t->label);
        for (char *p = scope; *p; p++)
            if (*p == '.') *p = '_';
        net_enter(n, scope);
        j->term[i] = t->method->build(n, &site, t->opt);
        net_leave(n), net_leave(n);
        weight[i] = (float)t->weight;
    }
    j->total = nn_weighted_sum(n, j->term, weight, 1 + c->n_losses);
    if (n->err) return err_set(n->err, "%s", n->err_msg);
    return init_added(j, first);
}

/* Does the total depend on x? What was lined up for terms that do not want it does not count. */
static bool is_read(const Job *j, Node x) {
    const Net *n = j->student;
    if (x.id == j->total.id) return true;
    for (int i = x.id + 1; i < n->n_nodes; i++)
        for (int k = 0; k < n->nodes[i].n_src; k++)
            if (n->nodes[i].src[k] == x.id && is_read(j, (Node){i})) return true;
    return false;
}

static Err make_teacher_plan(Job *j, int batch, int h, int w) {
    Node out[N_TAPS], in[] = {j->tn.image, j->tn.rects};
    Shape shapes[] = {SHAPE(batch, h, w, 3), SHAPE(batch, 4)};
    int n = 0;
    for (int i = 0; i < N_TAPS; i++) {
        if (j->taught[i].id && !is_read(j, j->taught[i])) j->taught[i] = NO_NODE;
        if (j->taught[i].id) out[n++] = tap_of(&j->tn, i);
    }
    if (!n) {
        log_warn("no loss term reads the teacher; it is not run");
        return OK;
    }
    PlanSpec spec = {
        .outputs = out, .n_outputs = n, .inputs = in, .input_shapes = shapes, .n_inputs = 2};
    return plan_make(j->teacher, &spec, &j->tplan);
}

static Err make_student_plan(Job *j, int batch, int h, int w) {
    Node in[4 + N_TAPS] = {j->sn.image, j->sn.rects, j->labels}, out[2 + LOSSES_MAX];
    Shape shapes[4 + N_TAPS] = {SHAPE(batch, h, w, 3), SHAPE(batch, 4), SHAPE(batch, h, w)};
    int n_in = 3, n_out = 0;
    for (int i = 0; i < N_TAPS; i++) {
        if (!j->taught[i].id) continue;
        in[n_in] = j->taught[i];
        shapes[n_in++] = plan_shape(j->tplan, tap_of(&j->tn, i));
    }
    out[n_out++] = j->total;
    for (int i = 0; i <= j->c->n_losses; i++) out[n_out++] = j->term[i];
    PlanSpec spec = {.training = true,
                     .loss = j->total,
                     .outputs = out,
                     .n_outputs = n_out,
                     .inputs = in,
                     .input_shapes = shapes,
                     .n_inputs = n_in};
    return plan_make(j->student, &spec, &j->splan);
}

static Err open_parts(Job *j, int batch, int h, int w, const Dataset *d) {
    int classes = d ? d->n_classes : j->c->student.classes;
    if (classes <= 0)
        return err_set(E(2, 76), "the number of classes is not known; give student.classes=N");
    TRY(open_nets(j, classes, h, w));
    const Net *nets[] = {j->student, j->teacher};
    for (int i = 0; i < 2; i++)
        if (nets[i] && net_node(nets[i], i ? j->tn.image : j->sn.image)->dtype != DT_U8)
            return err_set(E(2, 76),
                           "%s.norm=none takes no pictures; give rgb-imagenet or bgr-caffe",
                           i ? "teacher" : "student");
    add_inputs(j, h, w);
    TRY(add_losses(j));
    if (j->teacher) TRY(make_teacher_plan(j, batch, h, w));
    return make_student_plan(j, batch, h, w);
}

Err job_open(const Config *c, int batch, int h, int w, const Dataset *d, Job **out) {
    Job *j = xcalloc(1, sizeof *j);
    j->c = c;
    j->arena = arena_open();
    Err rc = open_parts(j, batch, h, w, d);
    if (rc) return job_close(j), rc;
    *out = j;
    return OK;
}

void job_close(Job *j) {
    if (!j) return;
    if (j->splan) plan_close(j->splan);
    if (j->tplan) plan_close(j->tplan);
    net_close(j->student);
    net_close(j->teacher);
    arena_close(j->arena);
    free(j);
}

Net *job_student(Job *j) {
    return j->student;
}
Net *job_teacher(Job *j) {
    return j->teacher;
}
Plan *job_student_plan(Job *j) {
    return j->splan;
}
Plan *job_teacher_plan(Job *j) {
    return j->tplan;
}
const ModelNodes *job_nodes(const Job *j) {
    return &j->sn;
}
const char *job_teacher_digest(const Job *j) {
    return j->has_digest ? j->teacher_digest.hex : "";
}

/* ---- one micro-batch ------------------------------------------------------------------------ */

/* Rows of `width` items of `bytes` each, every row from its end. */
static void mirror_rows(void *dst, const void *src, int64_t rows, int64_t width, size_t bytes) {
    for (int64_t y = 0; y < rows; y++)
        for (int64_t x = 0; x < width; x++)
            memcpy((char *)dst + (size_t)(y * width + x) * bytes,
                   (const char *)src + (size_t)(y * width + width - 1 - x) * bytes, bytes);
}
static void run_plan(Job *j, const uint8_t *images, const int32_t *rects, const OpRun *run) {
    plan_bind(j->tplan, j->tn.image, images);
    plan_bind(j->tplan, j->tn.rects, rects);
    plan_run(j->tplan, run, false);
}
static void run_mirrored(Job *j, const Batch *b, const OpRun *run) {
    const Shape s = plan_shape(j->tplan, j->tn.logits);
    const size_t pixels = (size_t)b->n * (size_t)b->h * (size_t)b->w;
    if (!j->flip) {
        j->mirrored = arena_alloc(j->arena, 3 * pixels);
        j->mirrored_rects = arena_alloc(j->arena, 4 * (size_t)b->n * sizeof *b->rects);
        j->flip = arena_alloc(j->arena, (size_t)shape_count(s) * sizeof *j->flip);
    }
    mirror_rows(j->mirrored, b->images, (int64_t)b->n * b->h, b->w, 3);
    memcpy(j->mirrored_rects, b->rects, 4 * (size_t)b->n * sizeof *b->rects);
    for (int i = 0; i < b->n; i++) {
        int32_t *r = j->mirrored_rects + 4 * i;
        r[0] = b->w - r[0] - r[2];
    }
    run_plan(j, j->mirrored, j->mirrored_rects, run);
    mirror_rows(j->flip, plan_value(j->tplan, j->tn.logits), s.d[0] * s.d[1] * s.d[2], s.d[3],
                sizeof *j->flip);
}
static void run_teacher(Job *j, const Batch *b, const OpRun *run) {
    OpRun quiet = *run;
    quiet.training = false;
    if (j->taught[FLIP].id) run_mirrored(j, b, &quiet);
    run_plan(j, b->images, b->rects, &quiet);
    for (int i = 0; i < N_TAPS; i++)
        if (j->taught[i].id)
            plan_bind(j->splan, j->taught[i],
                      i == FLIP ? j->flip : plan_value(j->tplan, tap_of(&j->tn, i)));
}

static void read_stats(const Job *j, StepResult *out) {
    enum { STATS_MAX = 16 };
    const char *name[STATS_MAX];
    double value[STATS_MAX];
    const KdMethod *m = j->c->task.method;
    const void *saved = m->stats ? plan_saved(j->splan, j->term[0]) : NULL;
    int n = saved ? m->stats(saved, name, value, STATS_MAX) : 0;
    for (int i = 0; i < n; i++) {
        if (!strcmp(name[i], "kept.main")) out->kept_main = value[i];
        if (!strcmp(name[i], "kept.aux")) out->kept_aux = value[i];
        if (!strcmp(name[i], "aux")) out->aux = value[i];
    }
}

/* Kernels cannot fail: what a term met that its formula does not allow is told here, after the run.
 */
static Err check_terms(const Job *j) {
    const Config *c = j->c;
    for (int i = 0; i <= c->n_losses; i++) {
        const KdMethod *m = i ? c->losses[i - 1].method : c->task.method;
        const void *saved = m->check ? plan_saved(j->splan, j->term[i]) : NULL;
        if (saved) TRY(m->check(saved));
    }
    return OK;
}

Err job_step(Job *j, const Batch *b, uint64_t seed, const float stage[2], bool accumulate,
             StepResult *out) {
    OpRun run = {.training = true, .seed = seed, .first_sample = b->first_sample};
    *out = (StepResult){.kept_main = NAN,
                        .kept_aux = NAN,
                        .aux = NAN,
                        .grad_norm = NAN,
                        .staged = is_read(j, j->stage)};
    if (j->tplan) run_teacher(j, b, &run);
    memcpy(j->stage_value, stage, sizeof j->stage_value);
    plan_bind(j->splan, j->sn.image, b->images);
    plan_bind(j->splan, j->sn.rects, b->rects);
    plan_bind(j->splan, j->labels, b->labels);
    if (out->staged) plan_bind(j->splan, j->stage, j->stage_value);
    plan_run(j->splan, &run, accumulate);
    out->total = *plan_value(j->splan, j->total);
    out->task = *plan_value(j->splan, j->term[0]);
    for (int i = 0; i < j->c->n_losses; i++) out->terms[i] = *plan_value(j->splan, j->term[1 + i]);
    read_stats(j, out);
    return check_terms(j);
}
