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
#include "base/progress.h"
#include "distill/parts.h"
#include "io/weights.h"
#include "train/calibrate.h"
#include "train/side.h"

enum { TAUGHT_MAX = 32, OUTPUTS_MAX = 64, CALIBRATION_IMAGES = 16 };
enum { KEPT_SHARE = 8 }; /* of the student's values: what may be kept of the teacher's between gathering and stepping */
/* A value of the teacher, an input of the student's net; tfe: read in the first stage alone. */
typedef struct Taught { Node from, to; bool tfe; } Taught;
struct Job {
    const Config *c;
    Dataset *data; /* borrowed while opening; NULL: none */
    Choices *choices; /* borrowed while opening; NULL: the usual ways */
    Arena *arena;
    Net *student, *teacher;
    ModelNodes sn, tn;
    Taught taught[TAUGHT_MAX];
    int n_taught;
    Node flip; /* input: the teacher's logits of the mirrored images; NO_NODE: nothing reads it */
    Node labels, stage, weights, term[1 + LOSSES_MAX], total;
    float weight[1 + LOSSES_MAX]; /* of the terms, read at run time */
    Side side[1 + LOSSES_MAX];
    Plan *splan, *tplan;
    float stage_value[2];
    const struct Parts *parts; /* borrowed; NULL: each step by itself */
    float *kept;               /* the teacher's outputs for each part; NULL: not gathered, or too large */
    bool has_kept;             /* those of the present update */
    Moved moved;               /* put back after gathering */
    uint8_t *mirrored; /* images and rectangles, and the logits put right again */
    int32_t *mirrored_rects;
    float *flipped;
    Digest teacher_digest;
    bool has_digest, looked; /* looked: at the teacher's first output */
};

/* ---- classes -------------------------------------------------------------------------------- */

static Err resolve_model(const Config *c, const ModelOptions *in, const char *weights, Arena *a,
                         ModelOptions *o, const char **path) {
    *o = *in;
    return model_source(in->model, weights, a, o, path);
}

static Err check_classes(const Config *c, int classes, const char *whose,
                         const ModelOptions *student, const ModelOptions *teacher) {
    int s = student->classes ? student->classes : classes, t = teacher->class_map
                                                                   ? teacher->n_class_map
                                                               : teacher->classes ? teacher->classes
                                                                                  : classes;
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

/* Builds t and fills it. Where a list picks from a file's classes, that file tells how many it has; it is read once. */
static Err open_teacher_net(Job *j, ModelOptions t, const char *weights, int h, int w) {
    const unsigned flags = t.partial ? LOAD_PARTIAL : 0;
    const bool told = !t.class_map || t.classes || model_is_onnx(t.model);
    SafeFile f = {0};
    bool aux;
    if (!told && !model_is_weights_file(weights))
        return err_set(
            E(2, 76),
            "teacher.classes: a list needs a teacher whose file tells how many it has: a run, a checkpoint or FILE.onnx");
    if (!told) {
        TRY(weights_read(weights, &f));
        weights_unwrap(&f);
    }
    Err rc = told ? OK : model_look_into(&t, f.tensors, &t.classes, &aux);
    if (!rc && !told && !t.classes)
        rc = err_set(
            E(EXIT_MODEL, 61),
            "%s: holds no classifier of %s, so its classes cannot be counted; use the whole network's file",
            weights, t.model);
    if (!rc) rc = model_open(&t, h, w, &j->teacher, &j->tn);
    if (!rc)
        rc = told ? model_load_weights(j->teacher, weights, (uint64_t)j->c->seed, flags)
                  : model_load_file(j->teacher, &f, weights, (uint64_t)j->c->seed, flags);
    if (!told) st_close(&f);
    return rc;
}

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
    TRY(model_open(&s, h, w, &j->student, &j->sn));
    TRY(model_load_weights(j->student, sw, (uint64_t)c->seed,
                           LOAD_START | (s.partial ? LOAD_PARTIAL : 0)));
    if (!t.model) return OK;
    t.frozen = t.dropout_off = true;
    TRY(open_teacher_net(j, t, tw, h, w));
    if (!j->teacher->has_weights && (!tw || !strcmp(tw, "none")))
        log_warn("the teacher has random weights; give teacher.weights=FILE");
    j->teacher_digest =
        hash_digest(j->teacher->values, (size_t)j->teacher->n_values * sizeof(float));
    j->has_digest = true;
    return OK;
}

/* The input of the student's net that shows x of the teacher. */
static Node taught_input(Job *j, Node x, const char *name, bool tfe) {
    for (int i = 0; i < j->n_taught; i++)
        if (j->taught[i].from.id == x.id && j->taught[i].tfe == tfe) return j->taught[i].to;
    if (j->n_taught == TAUGHT_MAX)
        return net_fail(j->student, E(2, 0), "more than %d layers of the teacher are compared",
                        TAUGHT_MAX),
               NO_NODE;
    const Node to =
        net_input(j->student, arena_printf(j->arena, "teacher.%s%s", name, tfe ? " of TFE" : ""),
                  DT_F32, net_shape(j->teacher, x));
    j->taught[j->n_taught++] = (Taught){x, to, tfe};
    return to;
}

/* KdSite.tap: a layer of either network by its name. */
static Node find_layer(const KdSite *s, Net *student, bool teacher, const char *name) {
    Job *j = s->owner;
    const Net *n = teacher ? j->teacher : student;
    if (student->err) return NO_NODE;
    if (!n)
        return net_fail(
                   student, E(2, 0),
                   "there is no teacher; set teacher.model, or take this term out of distill.losses"),
               NO_NODE;
    const Node x = net_find(n, name);
    if (x.id) return teacher ? taught_input(j, x, name, false) : x;
    const char **names = arena_alloc(j->arena, (size_t)n->n_nodes * sizeof *names);
    for (int i = 1; i < n->n_nodes; i++) names[i - 1] = n->nodes[i].name;
    const char *near = str_nearest(name, names, n->n_nodes - 1);
    net_fail(student, E(2, 0), "the %s has no layer %s; %s%s%s", teacher ? "teacher" : "student",
             name, near ? "did you mean " : "retort info lists them", near ? near : "",
             near ? "?" : "");
    return NO_NODE;
}

/* KdSite.count_pixels: all labels of the training split are read once. */
static Err count_pixels(const KdSite *s, ClassPixels *out) {
    const Job *j = s->owner;
    Dataset *d = j->data;
    Progress progress = progress_start("labels", d->n, "counting the pixels of each class");
    for (int i = 0; i < d->n; i++) {
        TRY(sys_poll());
        Sample own = {0};
        const Sample *x;
        int64_t count[IGNORE_U8 + 1] = {0}, all = 0;
        TRY(dataset_borrow(d, i, &own, &x));
        for (int64_t p = 0; p < (int64_t)x->h * x->w; p++) count[x->label[p]]++;
        for (int c = 0; c < d->n_classes; c++) all += count[c];
        for (int c = 0; c < d->n_classes; c++)
            out->own[c] += count[c], out->shown[c] += count[c] ? all : 0;
        sample_free(&own);
        progress_to(&progress, i + 1);
    }
    progress_end(&progress);
    return OK;
}

static void add_inputs(Job *j, int h, int w) {
    Net *n = j->student;
    const int64_t batch = net_shape(n, j->sn.image).d[0];
    j->labels = net_input(n, "labels", DT_I32, SHAPE(batch, h, w));
    j->stage = net_input(n, "stage", DT_F32, SHAPE(2));
    j->weights = net_input(n, "weights", DT_F32, SHAPE(1 + LOSSES_MAX));
    if (!j->teacher) return;
    taught_input(j, j->tn.logits, "logits", false);
    for (int tfe = 0; tfe < 2 && j->tn.aux.id; tfe++) taught_input(j, j->tn.aux, "aux", tfe);
    j->flip = net_input(n, "teacher.flip", DT_F32, net_shape(j->teacher, j->tn.logits));
}

/* Parameters that a method added (adapters) start at random, as the net's own do. */
static Err init_added(Job *j, int first) {
    Net *n = j->student;
    if (n->n_params == first) return OK;
    TRY(net_finish(n));
    net_init_params(n, first, (uint64_t)j->c->seed);
    return OK;
}

/* sum + weights[term] * x, scalars; a term of weight 0 adds nothing, not even its NaN. */
typedef struct { int term; } SumAttr;
static Err sum_infer(const OpSite *s, Shape *dst) { /* x, weights [, sum] */
    if (shape_count(s->src[0]) != 1)
        return err_set(E(2, 0), "a loss term of shape %s", shape_text(s->src[0]).s);
    *dst = (Shape){0};
    return OK;
}
static void sum_forward(const OpCall *c) {
    const float w = ((const float *)c->src[1])[((const SumAttr *)c->attr)->term];
    const double sum = c->n_src > 2 ? *(const float *)c->src[2] : 0;
    *c->dst = (float)(w != 0 ? sum + (double)w * *(const float *)c->src[0] : sum);
}
static void sum_backward(const OpCall *c) {
    const float w = ((const float *)c->src[1])[((const SumAttr *)c->attr)->term];
    if (c->dsrc[0]) *c->dsrc[0] += w * *c->ddst;
    if (c->n_src > 2 && c->dsrc[2]) *c->dsrc[2] += *c->ddst;
}
static const OpDef op_sum = {.name = "sum of terms",
                             .keep = KEEP_SRC1,
                             .infer = sum_infer,
                             .forward = sum_forward,
                             .backward = sum_backward};

static Node add_term(Job *j, int i, KdSite *site) {
    const LossTerm *t = i ? &j->c->losses[i - 1] : &j->c->task;
    Net *n = j->student;
    char scope[40];
    snprintf(scope, sizeof scope, "%s", t->label);
    for (char *p = scope; *p; p++)
        if (*p == '.') *p = '_';
    net_enter(n, "loss"), net_enter(n, scope);
    site->side = &j->side[i].side;
    const Node term = t->method->build(n, site, t->opt);
    net_leave(n), net_leave(n);
    return term;
}

static Err add_losses(Job *j) {
    const Config *c = j->c;
    Net *n = j->student;
    KdSite site = {.logits = j->sn.logits,
                   .aux = j->sn.aux,
                   .t_flip = j->flip,
                   .labels = j->labels,
                   .stage = j->stage,
                   .classes = (int)net_shape(n, j->sn.logits).d[1],
                   .tap = find_layer,
                   .count_pixels = j->data ? count_pixels : NULL,
                   .owner = j};
    if (j->teacher) site.t_logits = taught_input(j, j->tn.logits, "logits", false);
    if (j->teacher && j->tn.aux.id)
        site.t_aux = taught_input(j, j->tn.aux, "aux", false),
        site.t_aux_tfe = taught_input(j, j->tn.aux, "aux", true);
    const int first = n->n_params;
    for (int i = 0; i <= c->n_losses; i++) {
        j->weight[i] = (float)(i ? c->losses[i - 1].weight : c->task.weight);
        j->term[i] = add_term(j, i, &site);
        if (n->err) break;
        j->total = net_add(n, &op_sum, "total", &(SumAttr){i}, sizeof(SumAttr),
                           (Node[]){j->term[i], j->weights, j->total}, i ? 3 : 2, NULL, 0);
    }
    if (n->err) return err_set(n->err, "%s", n->err_msg);
    return init_added(j, first);
}

/* Does the total depend on x, or a network beside the student's? */
static bool is_read(const Job *j, Node x) {
    const Net *n = j->student;
    if (x.id == j->total.id) return true;
    for (int i = 0; i <= j->c->n_losses; i++)
        for (int k = 0; k < j->side[i].side.n; k++)
            if (x.id == j->side[i].side.from[k].id) return true;
    for (int i = x.id + 1; i < n->n_nodes; i++)
        for (int k = 0; k < n->nodes[i].n_src; k++)
            if (n->nodes[i].src[k] == x.id && is_read(j, (Node){i})) return true;
    return false;
}

/* What no term reads is forgotten. */
static void forget_unread(Job *j) {
    int n = 0;
    for (int i = 0; i < j->n_taught; i++)
        if (is_read(j, j->taught[i].to)) j->taught[n++] = j->taught[i];
    j->n_taught = n;
    if (j->flip.id && !is_read(j, j->flip)) j->flip = NO_NODE;
}

/* In 8-bit integers: a resumed run draws the same images, so it gets the same plan. */
static Err make_int8_plan(Job *j, const PlanSpec *spec, int h, int w, Dataset *d) {
    DataOptions o = j->c->data;
    o.crop_h = h, o.crop_w = w;
    Batch images;
    Agreement a;
    TRY(calibration_images(d, &o, (uint64_t)j->c->seed,
                           d && d->n < CALIBRATION_IMAGES ? d->n : CALIBRATION_IMAGES, &images));
    Err rc = calibrate(j->teacher, &j->tn, spec, &images, &j->tplan, &a);
    calibration_free(&images);
    if (rc) return rc;
    char easiness[64] = "", hard[96] = "";
    if (!isnan(a.easiness))
        snprintf(easiness, sizeof easiness, ", rank correlation of TFE's weights %.4f", a.easiness);
    if (!isnan(a.hard))
        snprintf(hard, sizeof hard, ", IoU of TSE's hard pixels %.4f, %.2f %% of the labelled change sides",
                 a.hard, 100 * a.moved);
    log_info(
        "the teacher in 8-bit integers agrees with itself in float32 on %.2f %% of the pixels of %d %s (mean KL %.2g%s%s)",
        100 * a.equal, a.images, d ? "training images" : "images of noise", a.kl, easiness, hard);
    return OK;
}

static Err make_teacher_plan(Job *j, int batch, int h, int w, Dataset *d) {
    const bool int8 = j->c->teacher_precision == DT_I8;
    Node out[TAUGHT_MAX + 1], in[] = {j->tn.image, j->tn.rects};
    Shape shapes[] = {SHAPE(batch, h, w, 3), SHAPE(batch, 4)};
    int n = 0;
    forget_unread(j);
    for (int i = 0; i < j->n_taught; i++) out[n++] = j->taught[i].from;
    if (j->flip.id || (int8 && n)) out[n++] = j->tn.logits;      /* agreement is told of the logits */
    if (!n) {
        log_warn("no loss term reads the teacher; it is not run");
        return OK;
    }
    PlanSpec spec = {.precision = j->c->teacher_precision,
                     .outputs = out,
                     .n_outputs = n,
                     .inputs = in,
                     .input_shapes = shapes,
                     .n_inputs = 2,
                     .choices = j->choices};
    if (int8) spec.precision = backend_fast(DT_BF16) ? DT_BF16 : DT_F32;
    TRY(int8 ? make_int8_plan(j, &spec, h, w, d) : plan_make(j->teacher, &spec, &j->tplan));
    if (!j->flip.id) return OK;
    const size_t pixels = (size_t)batch * (size_t)h * (size_t)w;
    j->mirrored = xcalloc(pixels, 3),
    j->mirrored_rects = xcalloc((size_t)batch, 4 * sizeof(int32_t));
    j->flipped = xcalloc((size_t)shape_count(plan_shape(j->tplan, j->tn.logits)), sizeof(float));
    return OK;
}

/* What a lean plan gains and costs, beside the plan that keeps everything. */
static void tell_lean(const Job *j, const PlanSpec *spec) {
    const PlanStats lean = plan_stats(j->splan);
    PlanSpec normal = *spec;
    Plan *p;
    normal.lean = false, normal.dry = true, normal.choices = NULL;
    if (plan_make(j->student, &normal, &p)) return;
    log_info(
        "train.memory=lean: a step's values take %.1f MB instead of %.1f MB; convolutions compute %.1f %% more",
        (double)lean.arena_bytes / 1e6, (double)plan_stats(p).arena_bytes / 1e6,
        100 * lean.again_flops / (lean.conv_flops - lean.again_flops));
    plan_close(p);
}

static Err make_student_plan(Job *j, int batch, int h, int w) {
    Node in[4 + TAUGHT_MAX] = {j->sn.image, j->sn.rects, j->labels}, out[OUTPUTS_MAX];
    Shape shapes[4 + TAUGHT_MAX] = {SHAPE(batch, h, w, 3), SHAPE(batch, 4), SHAPE(batch, h, w)};
    int n_in = 3, n_out = 0;
    for (int i = 0; i < j->n_taught; i++) {
        in[n_in] = j->taught[i].to;
        shapes[n_in++] = plan_shape(j->tplan, j->taught[i].from);
    }
    if (j->flip.id) in[n_in] = j->flip, shapes[n_in++] = plan_shape(j->tplan, j->tn.logits);
    out[n_out++] = j->total;
    for (int i = 0; i <= j->c->n_losses; i++) {
        out[n_out++] = j->term[i];
        for (int k = 0; k < j->side[i].side.n; k++) out[n_out++] = j->side[i].side.from[k];
    }
    PlanSpec spec = {.training = true,
                     .precision = j->c->precision,
                     .loss = j->total,
                     .outputs = out,
                     .n_outputs = n_out,
                     .inputs = in,
                     .input_shapes = shapes,
                     .n_inputs = n_in,
                     .lean = j->c->lean,
                     .choices = j->choices};
    TRY(plan_make(j->student, &spec, &j->splan));
    if (spec.lean) tell_lean(j, &spec);
    for (int i = 0; i <= j->c->n_losses; i++)
        if (j->side[i].side.net) TRY(side_open(&j->side[i], j->splan));
    return OK;
}

static Err open_parts(Job *j, int batch, int h, int w, Dataset *d) {
    int classes = d ? d->n_classes : j->c->student.classes;
    if (classes <= 0)
        return err_set(E(2, 76), "the number of classes is not known; give student.classes=N");
    j->data = (Dataset *)(uintptr_t)d;
    TRY(open_nets(j, classes, h, w));
    const Net *nets[] = {j->student, j->teacher};
    for (int i = 0; i < 2; i++)
        if (nets[i] && net_node(nets[i], i ? j->tn.image : j->sn.image)->dtype != DT_U8)
            return err_set(E(2, 76),
                           "%s.norm=none takes no pictures; give rgb-imagenet or bgr-caffe",
                           i ? "teacher" : "student");
    add_inputs(j, h, w);
    TRY(add_losses(j));
    if (j->teacher) TRY(make_teacher_plan(j, batch, h, w, d));
    TRY(make_student_plan(j, batch, h, w));
    if (j->tplan) plan_share_arena(j->tplan, j->splan);
    return OK;
}

static void save_choices(Choices *choices) {
    char *why;
    choices_save(choices, &why);
    const ChoiceStats s = choices_stats(choices);
    char left[128] = "";
    if (s.left)
        snprintf(left, sizeof left, ", then train.tune_seconds=%g was over: %d with less arithmetic stay as usual",
                 s.limit_s, s.left);
    if (s.measured)
        log_info("which way of computing a layer is faster: %d measured in %.1f s%s; kept in %s (train.tune)",
                 s.measured, s.seconds, left, s.path);
    if (why) log_warn("%s; what was measured is not kept for other runs", why);
    free(why);
}

Err job_open(const Config *c, int batch, int h, int w, Dataset *d, Choices *choices, Job **out) {
    Job *j = xcalloc(1, sizeof *j);
    j->c = c, j->choices = choices;
    j->arena = arena_open();
    Err rc = open_parts(j, batch, h, w, d);
    if (choices) save_choices(choices);
    if (rc) return job_close(j), rc;
    *out = j;
    return OK;
}

void job_close(Job *j) {
    if (!j) return;
    for (int i = 0; i <= LOSSES_MAX; i++) side_close(&j->side[i]);
    free(j->kept);
    moved_free(&j->moved);
    free(j->mirrored), free(j->mirrored_rects), free(j->flipped);
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

static void mirror_row(uint8_t *dst, const uint8_t *src, int64_t w) {
    for (int64_t x = 0; x < w; x++) memcpy(dst + 3 * x, src + 3 * (w - 1 - x), 3);
}

/* The teacher on the mirrored images; its logits, mirrored back, wait in j->flipped. */
static void run_mirrored(Job *j, const Batch *b, const OpRun *run) {
    const Shape images = plan_shape(j->tplan, j->tn.image),
                logits = plan_shape(j->tplan, j->tn.logits);
    const int64_t W = images.d[2], w = logits.d[3];
    for (int64_t row = 0; row < images.d[0] * images.d[1]; row++)
        mirror_row(j->mirrored + 3 * row * W, b->images + 3 * row * W, W);
    memcpy(j->mirrored_rects, b->rects, (size_t)images.d[0] * 4 * sizeof(int32_t));
    for (int64_t i = 0; i < images.d[0]; i++) {
        int32_t *r = j->mirrored_rects + 4 * i;
        r[0] = (int32_t)W - r[0] - r[2];
    }
    plan_bind(j->tplan, j->tn.image, j->mirrored);
    plan_bind(j->tplan, j->tn.rects, j->mirrored_rects);
    plan_run_forward(j->tplan, run, &j->tn.logits, 1);
    const float *out = plan_value(j->tplan, j->tn.logits);
    for (int64_t i = 0; i < shape_count(logits); i++)
        j->flipped[i] = out[i - i % w + w - 1 - i % w];
    plan_bind(j->splan, j->flip, j->flipped);
}

/* What the student's net sees of the teacher, one after the other: copied to `to`, or shown from `from`. Returns how
 * many floats. */
static int64_t pass_taught(Job *j, float *to, const float *from) {
    int64_t at = 0;
    for (int i = 0; i < j->n_taught + (j->flip.id != 0); i++) {
        const bool flip = i == j->n_taught;
        const Node source = flip ? j->tn.logits : j->taught[i].from;
        const int64_t n = shape_count(plan_shape(j->tplan, source));
        if (to)
            memcpy(to + at, flip ? j->flipped : plan_value(j->tplan, source),
                   (size_t)n * sizeof *to);
        if (from) plan_bind(j->splan, flip ? j->flip : j->taught[i].to, from + at);
        at += n;
    }
    return at;
}

/* Of an update whose parts are gathered first, the teacher is run once where its outputs are small. */
static void keep_taught(Job *j) {
    const int64_t floats = j->tplan ? pass_taught(j, NULL, NULL) : 0;
    const size_t all = (size_t)floats * (size_t)j->parts->parts;
    if (!floats || KEPT_SHARE * all * sizeof(float) > plan_stats(j->splan).arena_bytes) return;
    if (!j->kept) j->kept = xcalloc(all, sizeof *j->kept);
    pass_taught(j, j->kept + j->parts->part * floats, NULL);
    j->has_kept = true;
}

/* tfe: the first stage takes part, which alone reads the mirrored images' logits and some values. */
static void run_teacher(Job *j, const Batch *b, const OpRun *run, bool tfe) {
    OpRun quiet = *run;
    Node read[TAUGHT_MAX];
    int n = 0;
    quiet.training = false;
    if (j->flip.id && tfe) run_mirrored(j, b, &quiet);
    else if (j->flip.id) plan_bind(j->splan, j->flip, j->flipped);
    plan_bind(j->tplan, j->tn.image, b->images);
    plan_bind(j->tplan, j->tn.rects, b->rects);
    for (int i = 0; i < j->n_taught; i++)
        if (tfe || !j->taught[i].tfe) read[n++] = j->taught[i].from;
    if (n) plan_run_forward(j->tplan, &quiet, read, n);
    for (int i = 0; i < j->n_taught; i++)
        plan_bind(j->splan, j->taught[i].to, plan_value(j->tplan, j->taught[i].from));
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
    if (saved && m->kept) out->n_kept = m->kept(saved, out->kept_class, CLASSES_MAX);
}

/* Is v, N x K x h x w, what a softmax gives at every pixel? */
static bool are_probabilities(const float *v, Shape s) {
    const int64_t K = s.d[1], P = s.d[2] * s.d[3];
    for (int64_t i = 0; i < s.d[0] * P; i++) {
        const float *x = v + i / P * K * P + i % P;
        double sum = 0;
        for (int64_t k = 0; k < K; k++) {
            if (!(x[k * P] >= 0 && x[k * P] <= 1)) return false;
            sum += (double)x[k * P];
        }
        if (fabs(sum - 1) > 1e-3) return false;
    }
    return K > 1;
}

/* Losses read logits; a softmax of probabilities would teach almost nothing, and nobody would notice. */
static Err look_at_teacher(Job *j) {
    const Node x = j->tn.logits;
    const bool run = !j->looked && j->n_taught && j->taught[0].from.id == x.id;
    j->looked = true;
    if (run) TRY(plan_check_finite(j->tplan, x));
    if (run && are_probabilities(plan_value(j->tplan, x), plan_shape(j->tplan, x)))
        return err_set(
            E(EXIT_MODEL, 60),
            "%s: its output are probabilities, no logits; give teacher.output=probabilities",
            j->teacher->name);
    return OK;
}

/* Kernels cannot fail: what a term met that its formula does not allow is told here, after the run;
 * then side networks take what they need of it. */
static Err after_run(Job *j, const OpRun *run, bool accumulate) {
    const Config *c = j->c;
    TRY(look_at_teacher(j));
    for (int i = 0; i <= c->n_losses; i++) {
        const KdMethod *m = i ? c->losses[i - 1].method : c->task.method;
        const void *saved = plan_saved(j->splan, j->term[i]);
        if (saved && m->check) TRY(m->check(saved));
    }
    for (int i = 0; i <= c->n_losses; i++)
        if (j->side[i].plan) side_run(&j->side[i], j->student, j->splan, run, accumulate);
    return OK;
}

/* ---- what a run in training moves beside gradients ------------------------------------------ */

void moved_keep(const Net *n, Moved *m) {
    const size_t rest = (size_t)(n->n_values - n->n_trainable);
    if (!m->stats)
        *m = (Moved){xcalloc(rest + 1, sizeof *m->stats),
                     xcalloc((size_t)n->n_params + 1, sizeof *m->counts)};
    memcpy(m->stats, n->values + n->n_trainable, rest * sizeof *m->stats);
    for (int i = 0; i < n->n_params; i++) m->counts[i] = n->params[i].count;
}

void moved_put_back(Net *n, const Moved *m) {
    memcpy(n->values + n->n_trainable, m->stats,
           (size_t)(n->n_values - n->n_trainable) * sizeof *m->stats);
    for (int i = 0; i < n->n_params; i++) n->params[i].count = m->counts[i];
}

void moved_free(Moved *m) {
    free(m->stats), free(m->counts);
}

/* ---- the terms apart ------------------------------------------------------------------------ */

/* What methods remember, one after the other: copied to `to`, or put back from `from`. Returns how many bytes. */
static size_t pass_states(const Net *n, char *to, const char *from) {
    size_t at = 0, bytes;
    for (int i = 0; i < n->n_states; i++, at += bytes) {
        CHECK(shape_bytes(n->states[i]->shape, n->states[i]->dtype, &bytes));
        if (to) memcpy(to + at, n->states[i]->data, bytes);
        if (from) memcpy(n->states[i]->data, from + at, bytes);
    }
    return at;
}

/* Products of the present gradient with itself and with `other`, over the shared weights. */
static void measure(const Net *n, const float *other, double *own, double *with) {
    *own = *with = 0;
    for (int i = 0; i < n->n_params; i++) {
        const NetParam *p = &n->params[i];
        if (!p->trainable || str_starts(p->name, "loss.")) continue;
        for (int64_t k = 0; k < shape_count(p->shape); k++) {
            *own += (double)p->grad[k] * (double)p->grad[k];
            *with += (double)p->grad[k] * (double)other[p->offset + k];
        }
    }
}

void job_conflict(Job *j, const Batch *b, uint64_t seed, Conflict *out) {
    const double start = sys_now();
    const OpRun run = {.training = true, .seed = seed, .first_sample = b->first_sample};
    Net *n = j->student;
    float weight[1 + LOSSES_MAX], *task = xcalloc((size_t)n->n_trainable + 1, sizeof *task);
    double own, with, task_norm = 0;
    memcpy(weight, j->weight, sizeof weight);
    Moved moved = {0};
    moved_keep(n, &moved);
    char *states = xcalloc(pass_states(n, NULL, NULL) + 1, 1);
    pass_states(n, states, NULL);
    for (int i = 0; i <= j->c->n_losses; i++) {
        for (int k = 0; k <= LOSSES_MAX; k++) j->weight[k] = k == i ? weight[k] : 0;
        plan_run(j->splan, &run, false);
        moved_put_back(n, &moved), pass_states(n, NULL, states);
        if (!i) memcpy(task, n->grads, (size_t)n->n_trainable * sizeof *task);
        measure(n, task, &own, &with);
        if (!i) task_norm = sqrt(own);
        out->norm[i] = sqrt(own);
        out->cosine[i] = own > 0 && task_norm > 0 ? with / (sqrt(own) * task_norm) : NAN;
    }
    memcpy(j->weight, weight, sizeof weight);
    moved_free(&moved);
    free(states), free(task);
    out->seconds = sys_now() - start;
}

/* ---- between updates ------------------------------------------------------------------------ */

void job_update(Job *j) {
    for (int i = 0; i <= j->c->n_losses; i++)
        if (j->side[i].plan) side_step(&j->side[i], j->student, j->c->accumulate);
}

void job_forget(Job *j) {
    Net *n = j->student;
    for (int i = 0; i < n->n_states; i++) {
        size_t bytes;
        CHECK(shape_bytes(n->states[i]->shape, n->states[i]->dtype, &bytes));
        memset(n->states[i]->data, 0, bytes);
    }
    for (int i = 0; i <= j->c->n_losses; i++) j->side[i].loaded = false;
}

/* Runs the teacher, unless its outputs were kept, and shows everything to the student's net. */
static void bind_batch(Job *j, const Batch *b, const OpRun *run, const float stage[2]) {
    if (j->has_kept)
        pass_taught(j, NULL, j->kept + j->parts->part * pass_taught(j, NULL, NULL));
    else if (j->tplan) run_teacher(j, b, run, stage[0] != 0);
    memcpy(j->stage_value, stage, sizeof j->stage_value);
    plan_bind(j->splan, j->sn.image, b->images);
    plan_bind(j->splan, j->sn.rects, b->rects);
    plan_bind(j->splan, j->labels, b->labels);
    plan_bind(j->splan, j->weights, j->weight);
    if (is_read(j, j->stage)) plan_bind(j->splan, j->stage, j->stage_value);
}

void job_parts(Job *j, const struct Parts *p) {
    j->parts = p, j->has_kept = false;
}

/* Values of the terms that gather; returns how many. */
static int gathering(const Job *j, const float stage[2], Node out[1 + LOSSES_MAX]) {
    const Config *c = j->c;
    int n = 0;
    for (int i = 0; i <= c->n_losses; i++) {
        const LossTerm *t = i ? &c->losses[i - 1] : &c->task;
        if (t->method->gathers && t->method->gathers(t->opt, stage)) out[n++] = j->term[i];
    }
    return n;
}
bool job_gathers(const Job *j, const float stage[2]) {
    return gathering(j, stage, (Node[1 + LOSSES_MAX]){NO_NODE}) > 0;
}

/* A forward pass that leaves nothing behind but what the terms gathered, and the teacher's outputs. */
void job_gather(Job *j, const Batch *b, uint64_t seed, const float stage[2]) {
    const OpRun run = {
        .training = true, .seed = seed, .first_sample = b->first_sample, .parts = j->parts};
    Node terms[1 + LOSSES_MAX];
    const int n = gathering(j, stage, terms);
    j->has_kept = false;
    bind_batch(j, b, &run, stage);
    moved_keep(j->student, &j->moved);
    plan_run_forward(j->splan, &run, terms, n);
    moved_put_back(j->student, &j->moved);
    keep_taught(j);
}

Err job_step(Job *j, const Batch *b, uint64_t seed, const float stage[2], bool accumulate,
             StepResult *out) {
    OpRun run = {
        .training = true, .seed = seed, .first_sample = b->first_sample, .parts = j->parts};
    *out = (StepResult){.kept_main = NAN,
                        .kept_aux = NAN,
                        .aux = NAN,
                        .grad_norm = NAN,
                        .staged = is_read(j, j->stage)};
    bind_batch(j, b, &run, stage);
    plan_run(j->splan, &run, accumulate);
    if (sys_late()) return sys_poll();
    out->total = *plan_value(j->splan, j->total);
    out->task = *plan_value(j->splan, j->term[0]);
    for (int i = 0; i < j->c->n_losses; i++) out->terms[i] = *plan_value(j->splan, j->term[1 + i]);
    read_stats(j, out);
    return after_run(j, &run, accumulate);
}
