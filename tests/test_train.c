/* test_train.c - one process: jobs and their gradients, evaluation and its scores, whole small runs
 * and what they leave behind, what is refused before any work. Runs that are interrupted:
 * test_resume.c. */
#include "base/log.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "distill/parts.h"
#include "measure.h"
#include "prob_planes.h"
#include "runs.h"
#include "tempdir.h"
#include "test.h"
#include "train/trainer_priv.h"

enum { H = 32, W = 32 };
#define STUDENT "student.model=deeplabv3_mobilenetv2 student.width=0.1 student.aux=true "
#define TEACHER                                                                                    \
    "teacher.model=deeplabv3_mobilenetv2 teacher.width=0.1 teacher.aux=true "                      \
    "teacher.weights=formula:2 "
#define SCENES                                                                                     \
    "data=scenes data.crop=32x32 data.scenes.size=32x48 data.scenes.train=10 data.scenes.val=3 "   \
    "data.scale=[0.5,1.5] "
#define SHORT                                                                                      \
    "train.steps=8 train.batch=2 train.lr=0.02 train.threads=1 checkpoint.every=3 eval.every=4 "   \
    "report.metrics=1 "

static Config *config(const char *fmt, ...) {
    char text[2048], *word[64], *rest = text, *item;
    int n = 0;
    Config *c;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    while (n < 64 && (item = strtok_r(rest, " ", &rest))) word[n++] = item;
    if (config_read("train", NULL, word, n, &c)) FAIL("%s", err_text()), exit(1);
    parallel_set_threads(c->threads ? (int)c->threads : 2);
    return c;
}

/* ---- jobs ----------------------------------------------------------------------------------- */
typedef struct Work {
    Config *c;
    Dataset *d;
    Job *job;
} Work;

static Err work_open(Work *w, Config *c) {
    *w = (Work){.c = c};
    TRY(dataset_open(&c->data, "train", &w->d));
    return job_open(c, (int)c->batch, H, W, w->d, NULL, &w->job);
}
static void work_close(Work *w) {
    job_close(w->job);
    dataset_close(w->d);
    config_close(w->c);
}
/* n images of noise, every pixel labelled. */
static Batch noise(int n) {
    const size_t pixels = (size_t)n * H * W;
    Batch b = {.n = n,
               .h = H,
               .w = W,
               .images = xcalloc(pixels, 3),
               .labels = xcalloc(pixels, 4),
               .rects = xcalloc((size_t)n, 16)};
    Rng r = rng_stream(3, RNG_METHOD, 0, 0);
    for (size_t i = 0; i < 3 * pixels; i++) b.images[i] = (uint8_t)rng_below(&r, i, 256);
    for (size_t i = 0; i < pixels; i++) b.labels[i] = (int32_t)rng_below(&r, 4 * pixels + i, 11);
    for (int i = 0; i < n; i++) b.rects[4 * i + 2] = W, b.rects[4 * i + 3] = H;
    return b;
}
static Batch part(const Batch *b, int first, int n) {
    Batch p = *b;
    p.n = n, p.first_sample = (uint64_t)first;
    p.images += (size_t)first * H * W * 3, p.labels += (size_t)first * H * W,
        p.rects += (size_t)first * 4;
    return p;
}
static void batch_free(Batch *b) {
    free(b->images), free(b->labels), free(b->rects);
}
/* With batch norm frozen, dropout off and all pixels labelled, two micro-batches of two are one
 * batch of four: the means over equal counts average to the mean. */
TEST(accumulation_gives_the_mean_gradient) {
    static const float stage[] = {1, 0};
    static const char common[] =
        SCENES STUDENT TEACHER "student.weights=formula:1 student.bn=frozen student.dropout=false "
                               "distill.losses=[kd] train.schedule=constant train.threads=1 ";
    Work whole, halves;
    StepResult a, b[2];
    Batch four = noise(4);
    EXPECT_OK(work_open(&whole, config("%strain.batch=4", common)));
    EXPECT_OK(work_open(&halves, config("%strain.batch=2 train.accumulate=2", common)));
    EXPECT_OK(job_step(whole.job, &four, 1, stage, false, &a));
    for (int i = 0; i < 2; i++) {
        Batch two = part(&four, 2 * i, 2);
        EXPECT_OK(job_step(halves.job, &two, 1, stage, i > 0, &b[i]));
    }
    EXPECT_NEAR(0.5 * (b[0].total + b[1].total), a.total, 1e-6);
    EXPECT_NEAR(0.5 * (b[0].terms[0] + b[1].terms[0]), a.terms[0], 1e-6);
    Net *x = job_student(whole.job), *y = job_student(halves.job);
    float *before =
        memcpy(xcalloc((size_t)x->n_trainable, 4), x->values, (size_t)x->n_trainable * 4);
    Optimizer *ox, *oy;
    EXPECT_OK(optimizer_open(whole.c, x, &ox));
    EXPECT_OK(optimizer_open(halves.c, y, &oy));
    EXPECT_NEAR(optimizer_step(oy, 0), optimizer_step(ox, 0), 1e-5);
    for (int64_t i = 0; i < x->n_trainable; i++)
        x->values[i] -= before[i], y->values[i] -= before[i];
    double ratio = l2_ratio(y->values, x->values,
                            x->n_trainable); /* of the updates; float32 sums in another order */
    if (!(ratio < 1e-5)) FAIL("updates differ by %.3g of their length", ratio);
    free(before), batch_free(&four);
    optimizer_close(ox), optimizer_close(oy);
    work_close(&whole), work_close(&halves);
}
/* The terms' gradients are parts of the whole one: |a + b|^2 = |a|^2 + |b|^2 + 2 |a| |b| cos. Nothing else moves. */
TEST(gradients_apart_add_up_and_leave_no_trace) {
    static const float stage[] = {1, 0};
    Work w;
    StepResult x;
    Conflict apart;
    Batch b = noise(2);
    EXPECT_OK(work_open(
        &w,
        config(
            SCENES STUDENT TEACHER
            "student.weights=formula:1 train.batch=2 train.threads=1 train.precision=f32 distill.losses=[cirkd] "
            "distill.losses.cirkd.pixel_queue=9 distill.losses.cirkd.region_queue=4")));
    Net *n = job_student(w.job);
    EXPECT_OK(job_step(w.job, &b, 1, stage, false, &x));
    double whole = 0;
    for (int i = 0; i < n->n_params; i++)
        for (int64_t k = 0; n->params[i].trainable && strncmp(n->params[i].name, "loss.", 5) &&
                            k < shape_count(n->params[i].shape);
             k++)
            whole += (double)n->params[i].grad[k] * (double)n->params[i].grad[k];
    const size_t queue = 2 * (size_t)shape_count(n->states[0]->shape),
                 values = 4 * (size_t)n->n_values;
    void *before = memcpy(xcalloc(1, values), n->values, values),
         *entries = memcpy(xcalloc(1, queue), n->states[0]->data, queue);
    /* The queue was empty in the first run: the term within the batch alone is the same again. */
    memset(n->states[1]->data, 0, 8 * 11), memset(n->states[3]->data, 0, 8 * 11);
    job_conflict(w.job, &b, 1, &apart);
    const double a = apart.norm[0], c = apart.norm[1];
    EXPECT(a > 0 && c > 0 && fabs(apart.cosine[1]) <= 1 + 1e-9);
    EXPECT_NEAR(sqrt(a * a + c * c + 2 * a * c * apart.cosine[1]) / sqrt(whole), 1, 1e-4);
    EXPECT_NEAR(apart.cosine[0], 1, 1e-9);
    EXPECT(!memcmp(before, n->values, values) && !memcmp(entries, n->states[0]->data, queue));
    EXPECT(((int64_t *)n->states[1]->data)[0] == 0);
    free(before), free(entries), batch_free(&b);
    work_close(&w);
}
TEST(a_term_reports_what_it_cannot_compute) {
    static const float stage[] = {0, 1};
    Work w;
    StepResult x;
    Batch b = noise(2);
    EXPECT_OK(work_open(&w, config(SCENES STUDENT TEACHER
                                   "train.batch=2 distill.task=rdd distill.task.compat=rdd2023 "
                                   "distill.task.class_weights=1,1,1,1,1,1,1,1,1,1,1")));
    EXPECT_ERR(job_step(w.job, &b, 1, stage, false, &x), E(3, 0));
    EXPECT_HAS(err_text(), "2048 labelled pixels, compat=rdd2023 keeps at least 100000");
    batch_free(&b);
    work_close(&w);
}
TEST(a_teacher_that_no_term_reads_is_not_run) {
    Work w;
    EXPECT_OK(work_open(&w, config(SCENES STUDENT TEACHER "train.batch=1")));
    EXPECT(job_teacher(w.job) != NULL);
    EXPECT(job_teacher_plan(w.job) == NULL);
    work_close(&w);
}
/* The teacher's auxiliary head is run where something reads it: in the first stage, and in the second for the student's
 * own. Another stage in between changes no bit. */
TEST(the_teachers_auxiliary_head_is_run_while_it_is_read) {
    enum { STEPS = 4000 };
    static const struct {
        const char *words;
        bool second;
    } rows[] = {{"student.aux=false", false},
                {"distill.task.aux_mask=main", false},
                {"", true},
                {"student.aux=false distill.losses=[at] distill.losses.at.tap=logits "
                 "distill.losses.at.teacher_tap=aux",
                 true}};
    static StepTime times[STEPS];
    Batch b = noise(2);
    for (int r = 0; r < 4; r++) {
        Work w;
        StepResult x;
        double first = 0;
        EXPECT_OK(work_open(&w, config(SCENES STUDENT TEACHER
                                       "student.weights=formula:1 student.bn=frozen train.batch=2 "
                                       "distill.task=rdd %s",
                                       rows[r].words)));
        Plan *teacher = job_teacher_plan(w.job);
        plan_profile(teacher, true);
        for (int turn = 0; turn < 3; turn++) {
            const bool tfe = turn != 1;
            int run = 0;
            EXPECT_OK(job_step(w.job, &b, 1, (float[]){tfe, !tfe}, false, &x));
            const int n = plan_step_times(teacher, times, STEPS);
            for (int i = 0; i < n; i++) run += strstr(times[i].node, "aux") && times[i].ms > 0;
            if ((run > 0) != (tfe || rows[r].second))
                FAIL("row %d, turn %d: %d steps of the auxiliary head", r, turn, run);
            if (turn == 0) first = x.total;
        }
        EXPECT(x.total == first);
        work_close(&w);
    }
    batch_free(&b);
}
/* Gathered by two passes of the student, of the terms that gather alone; the teacher, its mirror too, is run in the first. */
TEST(gathering_runs_the_teacher_once_and_no_other_term) {
    enum { STEPS = 4000 };
    static const float stage[] = {1, 0};
    static StepTime times[STEPS];
    const int32_t *labels[2];
    double total[2][2], alone[2];
    Batch four = noise(4), two[2] = {part(&four, 0, 2), part(&four, 2, 2)};
    for (int i = 0; i < 2; i++) labels[i] = two[i].labels;
    for (int other = 0; other < 2; other++) {                /* another teacher from the second pass on */
        Work w;
        StepResult x;
        Parts p = {.parts = 2, .labels = labels, .gather = true};
        EXPECT_OK(work_open(
            &w, config(SCENES STUDENT TEACHER
                       "student.weights=formula:1 distill.task=rdd distill.task.tfe=flip "
                       "distill.losses=[kd,at,dist] train.batch=2 train.accumulate=2")));
        Plan *plan = job_student_plan(w.job);
        Net *teacher = job_teacher(w.job);
        plan_profile(plan, true);
        job_parts(w.job, &p);
        for (p.part = 0; p.part < 2; p.part++) job_gather(w.job, &two[p.part], 1, stage);
        const int n = plan_step_times(plan, times, STEPS);
        for (int i = 0; i < n; i++)
            if (str_starts(times[i].node, "loss.") && !times[i].backward)
                EXPECT((times[i].ms > 0) == str_starts(times[i].node, "loss.dist."));
        for (int64_t i = 0; other && i < teacher->n_values; i++) teacher->values[i] *= 1.5f;
        teacher->version++;
        p.gather = false;
        for (p.part = 0; p.part < 2; p.part++) {
            EXPECT_OK(job_step(w.job, &two[p.part], 1, stage, p.part > 0, &x));
            total[other][p.part] = x.total;
        }
        job_parts(w.job, NULL);
        EXPECT_OK(job_step(w.job, &two[0], 1, stage, false, &x));
        alone[other] = x.total;
        work_close(&w);
    }
    EXPECT(total[0][0] == total[1][0] && total[0][1] == total[1][1]);
    EXPECT(alone[0] != alone[1]);
    batch_free(&four);
}
/* Mean over the pixels of KL(softmax(t) || softmax(s_i)), one t for all of them. */
static double kl_by_hand(const float *t, const float *s, int pixels, int classes) {
    double kl = 0, zt = 0;
    for (int k = 0; k < classes; k++) zt += exp(t[k]);
    for (int i = 0; i < pixels; i++) {
        double zs = 0;
        for (int k = 0; k < classes; k++) zs += exp(s[k * pixels + i]);
        for (int k = 0; k < classes; k++)
            kl += exp(t[k]) / zt * (t[k] - log(zt) - s[k * pixels + i] + log(zs));
    }
    return kl / pixels;
}
/* The teacher has one output per image: of the student's 4 x 4 the first corner is left. */
TEST(a_student_is_resized_to_a_teacher_of_another_stride) {
    static const float stage[] = {1, 0};
    Work w;
    StepResult x;
    Batch b = noise(1);
    EXPECT_OK(work_open(
        &w,
        config(SCENES STUDENT TEACHER
               "train.batch=1 student.weights=formula:1 student.bn=frozen student.dropout=false "
               "teacher.output_stride=32 distill.losses=[kd] distill.task=rdd")));
    const ModelNodes *at = job_nodes(w.job);
    Node in[] = {at->image, at->rects}, out[] = {at->logits};
    Shape shapes[] = {SHAPE(1, H, W, 3), SHAPE(1, 4)};
    Plan *p;
    EXPECT_OK(plan_make(
        job_student(w.job),
        &(PlanSpec){
            .outputs = out, .n_outputs = 1, .inputs = in, .input_shapes = shapes, .n_inputs = 2},
        &p));
    plan_bind(p, at->image, b.images), plan_bind(p, at->rects, b.rects);
    plan_run(p, &(OpRun){0}, false);
    EXPECT_OK(job_step(w.job, &b, 1, stage, false, &x));
    const Node teacher = net_find(job_teacher(w.job), "logits");
    EXPECT_INT(plan_shape(job_teacher_plan(w.job), teacher).d[2], 1);
    EXPECT_INT(plan_shape(p, at->logits).d[2], 4);
    float corner[11];
    for (int k = 0; k < 11; k++) corner[k] = plan_value(p, at->logits)[16 * k];
    EXPECT_NEAR(x.terms[0], kl_by_hand(plan_value(job_teacher_plan(w.job), teacher), corner, 1, 11),
                1e-5);
    plan_close(p);
    batch_free(&b);
    work_close(&w);
}
/* What tfe=flip reads of a batch is what the teacher says of the mirrored one, mirrored back. */
TEST(the_teacher_sees_the_mirrored_image) {
    static const float stage[] = {1, 0};
    Work w;
    StepResult x;
    Batch b = noise(2);
    EXPECT_OK(work_open(&w, config(SCENES STUDENT TEACHER "train.batch=2 teacher.aux=false "
                                   "distill.task=rdd distill.task.tfe=flip")));
    const int32_t covered[] = {4, 0, 20, W};
    memcpy(b.rects + 4, covered, sizeof covered);
    EXPECT_OK(job_step(w.job, &b, 1, stage, false, &x));
    EXPECT(isfinite(x.task));
    const Node flip = net_find(job_student(w.job), "teacher.flip");
    const Node logits = net_find(job_teacher(w.job), "logits");
    const Shape s = plan_shape(job_teacher_plan(w.job), logits);
    float *got = xcalloc((size_t)shape_count(s), sizeof *got);
    memcpy(got, plan_value(job_student_plan(w.job), flip), (size_t)shape_count(s) * sizeof *got);
    Batch m = noise(2);
    for (int64_t i = 0; i < 2 * H * W * 3; i++)
        m.images[i] = b.images[i / (3 * W) * 3 * W + (W - 1 - i / 3 % W) * 3 + i % 3];
    m.rects[4] = W - 4 - 20, m.rects[6] = 20;
    EXPECT_OK(job_step(w.job, &m, 1, stage, false, &x));
    const float *want = plan_value(job_teacher_plan(w.job), logits);
    for (int64_t i = 0; i < shape_count(s); i++)
        EXPECT(got[i] == want[i / s.d[3] * s.d[3] + s.d[3] - 1 - i % s.d[3]]);
    /* The second stage does not read it: what there is stays. */
    memcpy(got, plan_value(job_student_plan(w.job), flip), (size_t)shape_count(s) * sizeof *got);
    EXPECT_OK(job_step(w.job, &b, 1, (float[]){0, 1}, false, &x));
    EXPECT(!memcmp(got, plan_value(job_student_plan(w.job), flip),
                   (size_t)shape_count(s) * sizeof *got));
    free(got), batch_free(&b), batch_free(&m);
    work_close(&w);
}
/* A file of another image size, its classes in the opposite order: what the student learns from is
 * what the file says, turned round. */
TEST(an_onnx_file_teaches_in_the_order_that_is_asked_for) {
    static const char file[] = "teacher.model=" SOURCE_DIR "/tests/golden/onnx/unet.dy.onnx ";
    static const char *const order[] = {"", "teacher.classes=[10,9,8,7,6,5,4,3,2,1,0]"};
    static const float stage[] = {1, 0};
    float *first = NULL;
    for (int i = 0; i < 2; i++) {
        Work w;
        StepResult x;
        Batch b = noise(2);
        EXPECT_OK(work_open(&w, config(SCENES STUDENT "%s train.batch=2 teacher.input=resize "
                                                      "distill.task=rdd distill.task.tfe=flip %s",
                                       file, order[i])));
        EXPECT_OK(job_step(w.job, &b, 1, stage, false, &x));
        EXPECT(isfinite(x.task) && x.task > 0);
        const Node logits = net_find(job_teacher(w.job), "logits");
        const Shape s = plan_shape(job_teacher_plan(w.job), logits);
        const float *v = plan_value(job_teacher_plan(w.job), logits);
        const int64_t P = s.d[2] * s.d[3], n = shape_count(s);
        EXPECT(shape_equal(s, SHAPE(2, 11, 64, 96)));
        if (!first) first = memcpy(xcalloc((size_t)n, sizeof *v), v, (size_t)n * sizeof *v);
        for (int64_t k = 0; i && k < n; k++)
            EXPECT(v[k] == first[(k / P / 11 * 11 + 10 - k / P % 11) * P + k % P]);
        batch_free(&b);
        work_close(&w);
    }
    free(first);
}
/* A softmax that is tapped: refused as logits; as probabilities it gives logits of the same softmax. */
TEST(a_teacher_of_probabilities_is_recognised) {
    static const float stage[] = {1, 0};
    double p[11] = {0};
    for (int said = 0; said < 2; said++) {
        Work w;
        StepResult x;
        Batch b = noise(2);
        EXPECT_OK(work_open(
            &w, config(SCENES STUDENT
                       "teacher.model=" SOURCE_DIR
                       "/tests/golden/onnx/mobile.dy.onnx train.batch=2 teacher.input=resize "
                       "teacher.taps.logits=softmax distill.losses=[kd] %s",
                       said ? "teacher.output=probabilities" : "")));
        const Err rc = job_step(w.job, &b, 1, stage, false, &x);
        EXPECT_INT(rc, said ? OK : E(4, 60));
        if (!said) EXPECT_HAS(err_text(), "give teacher.output=probabilities");
        const Node logits = net_find(job_teacher(w.job), "logits");
        const Shape s = plan_shape(job_teacher_plan(w.job), logits);
        const float *v = plan_value(job_teacher_plan(w.job), logits);
        const int64_t P = s.d[2] * s.d[3];
        double sum = 0;
        for (int64_t k = 0; k < 11; k++) sum += exp((double)v[k * P]);
        for (int64_t k = 0; k < 11; k++) {
            if (said) EXPECT_NEAR(exp((double)v[k * P]) / sum, p[k], 1e-5);
            else p[k] = (double)v[k * P];
        }
        batch_free(&b);
        work_close(&w);
    }
}
TEST(a_teacher_whose_logits_are_not_finite_is_named) {
    static const float stage[] = {1, 0};
    Work w;
    StepResult x;
    Batch b = noise(2);
    EXPECT_OK(work_open(&w, config(SCENES STUDENT TEACHER "train.batch=2 distill.losses=[kd]")));
    Net *t = job_teacher(w.job);
    t->params[net_find_param(t, "head.block.4.bias")].data[2] = INFINITY;
    t->version++;
    EXPECT_ERR(job_step(w.job, &b, 1, stage, false, &x), E(8, 62));
    EXPECT_HAS(err_text(), "its output ");
    batch_free(&b);
    work_close(&w);
}
/* A plain file of 19 classes, of which the list takes 11. */
TEST(a_weights_file_of_more_classes_teaches_those_of_the_list) {
    const char *path = temp_path("teacher.safetensors");
    const ModelOptions o = {.model = "deeplabv3_mobilenetv2", .width = 0.1, .classes = 19};
    Net *n;
    ModelNodes at;
    Tensor t[512];
    EXPECT_OK(model_open(&o, H, W, &n, &at));
    net_init_formula(n, 5);
    for (int i = 0; i < n->n_params; i++) {
        NetParam *p = &n->params[i];
        const bool count = p->kind == PARAM_COUNT;
        t[i] = (Tensor){.name = p->name,
                        .dtype = count ? DT_I64 : DT_F32,
                        .shape = p->shape,
                        .data = count ? (void *)&p->count : p->data};
    }
    EXPECT_OK(st_write(path, t, n->n_params, NULL, 0));
    net_close(n);
    static const char *const lists[] = {"[18,0,1,2,3,4,5,6,7,8,9]", "[19,0,1,2,3,4,5,6,7,8,9]"};
    for (int i = 0; i < 2; i++) {
        Work w;
        const Err rc = work_open(
            &w, config(SCENES STUDENT
                       "teacher.model=deeplabv3_mobilenetv2 teacher.width=0.1 teacher.weights=%s "
                       "teacher.classes=%s distill.losses=[kd]",
                       path, lists[i]));
        EXPECT_INT(rc, i ? E(2, 37) : OK);
        if (i) EXPECT_HAS(err_text(), "asks for class 19, deeplabv3_mobilenetv2 has 0 to 18");
        else
            EXPECT_INT(net_shape(job_teacher(w.job), net_find(job_teacher(w.job), "logits")).d[1],
                       11);
        work_close(&w);
    }
}
TEST(jobs_that_cannot_be_are_refused) {
    static const struct {
        const char *args;
        Err rc;
        const char *text;
    } cases[] = {
        {SCENES, E(2, 76), "student.model is not set"},
        {SCENES "student=deeplabv3_resnet81", E(2, 76), "deeplabv3_resnet18"},
        {SCENES STUDENT "student.classes=5", E(2, 37),
         "the data set has 11, the student 5; they must agree"},
        {SCENES STUDENT TEACHER "teacher.classes=19", E(2, 37),
         "the data set has 11, the student 11, the teacher 19"},
        {SCENES STUDENT "student.norm=none", E(2, 76), "student.norm=none takes no pictures"},
        {SCENES STUDENT "distill.losses=[kd]", E(2, 0), "there is no teacher"},
        {SCENES STUDENT TEACHER "teacher.classes=[0,1,2,3,4,5,6,7,8,9,10] distill.losses=[kd]",
         E(2, 76), "tells how many it has"},
        {SCENES STUDENT TEACHER "teacher.output=classmap distill.losses=[kd]", E(2, 76),
         "gives logits, no class map; leave teacher.output out"},
        {SCENES STUDENT TEACHER "teacher.output=probabilities distill.losses=[kd]", E(2, 76),
         "gives logits, no probabilities; leave teacher.output out"},
        {SCENES STUDENT "distill.task=rdd", E(2, 0), "there is no teacher"},
        {SCENES STUDENT TEACHER "teacher.aux=false distill.task=rdd", E(2, 0),
         "tfe=aux needs a teacher with an auxiliary head"},
        {SCENES STUDENT "teacher.model=" SOURCE_DIR "/tests/golden/onnx/unet.dy.onnx", E(2, 76),
         "takes images of 64x96, not 32x32; give data.crop=64x96 or teacher.input=resize"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Work w;
        Err rc = work_open(&w, config("%s", cases[i].args));
        if (rc != cases[i].rc || !strstr(err_text(), cases[i].text))
            FAIL("%s: E%d %s, expected E%d and \"%s\"", cases[i].args, rc, rc ? err_text() : "",
                 cases[i].rc, cases[i].text);
        work_close(&w);
    }
}

/* ---- evaluation ----------------------------------------------------------------------------- */
TEST(scores_follow_from_the_confusion_matrix) {
    static const uint8_t label[] = {0, 0, 0, 1, 1, 255, 0, 3};
    static const uint8_t pred[] = {0, 0, 1, 1, 2, 0, 0, 3};
    Confusion *m = confusion_open(5);
    Scores s;
    confusion_add(m, label, pred, 8);
    EXPECT_INT(m->count[0], 3);
    EXPECT_INT(m->count[1], 1); /* label 0 taken for 1: rows are labels */
    EXPECT_INT(m->count[5 + 2], 1);
    confusion_scores(m, &s);
    EXPECT_NEAR(s.iou[0], 3.0 / 4, 1e-15);
    EXPECT_NEAR(s.iou[1], 1.0 / 3, 1e-15);
    EXPECT_NEAR(s.iou[2], 0, 0); /* predicted, never a label: counts in miou, not in miou_present */
    EXPECT(isnan(s.iou[4]));     /* neither: has none */
    EXPECT_NEAR(s.miou, (0.75 + 1.0 / 3 + 0 + 1) / 4, 1e-15);
    EXPECT_NEAR(s.miou_present, (0.75 + 1.0 / 3 + 1) / 3, 1e-15);
    EXPECT_NEAR(s.pixel_accuracy, 5.0 / 7, 1e-15);
    EXPECT_NEAR(s.mean_accuracy, (0.75 + 0.5 + 1) / 3, 1e-15);
    EXPECT_INT(s.pixels[0], 4);
    scores_free(&s);
    confusion_close(m);
}
TEST(nothing_labelled_scores_nothing) {
    static const uint8_t label[] = {255, 255};
    static const uint8_t pred[] = {0, 1};
    Confusion *m = confusion_open(2);
    Scores s;
    confusion_add(m, label, pred, 2);
    confusion_scores(m, &s);
    EXPECT(isnan(s.miou) && isnan(s.miou_present) && isnan(s.pixel_accuracy) &&
           isnan(s.mean_accuracy));
    scores_free(&s);
    confusion_close(m);
}
/* Bilinear, align_corners, in double. */
static double upsampled(const float *x, int h, int w, int H_, int W_, int y, int z) {
    double fy = H_ > 1 ? (double)y * (h - 1) / (H_ - 1) : 0,
           fx = W_ > 1 ? (double)z * (w - 1) / (W_ - 1) : 0;
    int y0 = (int)fy, x0 = (int)fx, y1 = y0 + 1 < h ? y0 + 1 : y0, x1 = x0 + 1 < w ? x0 + 1 : x0;
    double a = x[y0 * w + x0] * (1 - (fx - x0)) + x[y0 * w + x1] * (fx - x0),
           b = x[y1 * w + x0] * (1 - (fx - x0)) + x[y1 * w + x1] * (fx - x0);
    return a * (1 - (fy - y0)) + b * (fy - y0);
}
static void check_prediction(Net *n, const ModelNodes *at, Predictor *p, int h, int w) {
    uint8_t *rgb = xcalloc((size_t)h * (size_t)w, 3), *pred = xcalloc((size_t)h * (size_t)w, 1);
    float *probs = xcalloc((size_t)h * (size_t)w * 11, 4);
    const int32_t rect[4] = {0, 0, w, h};
    Rng r = rng_stream(1, RNG_METHOD, 0, 0);
    for (int i = 0; i < 3 * h * w; i++) rgb[i] = (uint8_t)rng_below(&r, (uint64_t)i, 256);
    EXPECT_OK(predictor_fill(p, rgb, h, w,
                             &(Prediction){.pred = pred, .probs = prob_planes(&(Planes){probs, h, w, 11})}));
    Plan *plan;
    Node in[] = {at->image, at->rects};
    Shape shapes[] = {SHAPE(1, h, w, 3), SHAPE(1, 4)};
    EXPECT_OK(plan_make(n,
                        &(PlanSpec){.backend = BACKEND_REF,
                                    .outputs = &at->logits,
                                    .n_outputs = 1,
                                    .inputs = in,
                                    .input_shapes = shapes,
                                    .n_inputs = 2},
                        &plan));
    plan_bind(plan, at->image, rgb), plan_bind(plan, at->rects, rect);
    plan_run(plan, &(OpRun){0}, false);
    Shape s = plan_shape(plan, at->logits);
    const float *logits = plan_value(plan, at->logits);
    int lh = (int)s.d[2], lw = (int)s.d[3];
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            double v[11], sum = 0, top = -1e30;
            for (int k = 0; k < 11; k++)
                v[k] = upsampled(logits + k * lh * lw, lh, lw, h, w, y, x), top = fmax(top, v[k]);
            for (int k = 0; k < 11; k++) sum += exp(v[k] - top);
            for (int k = 0; k < 11; k++)
                EXPECT_NEAR(probs[(k * h + y) * w + x], exp(v[k] - top) / sum, 1e-4);
            EXPECT(v[pred[y * w + x]] > top - 1e-4); /* the best class, or one that ties with it */
        }
    plan_close(plan);
    free(rgb), free(pred), free(probs);
}
TEST(predictions_are_the_best_class_of_upsampled_logits) {
    static const int sizes[][2] = {{33, 50}, {8, 9},   {40, 33},
                                   {1, 20},  {64, 64}, {33, 50}}; /* more than it keeps plans for */
    ModelOptions o = {
        .model = "deeplabv3_mobilenetv2", .classes = 11, .width = 0.1, .norm = "rgb-imagenet"};
    Net *n;
    ModelNodes at;
    Predictor *p;
    EXPECT_OK(model_open(&o, 33, 33, &n, &at));
    net_init_formula(n, 4);
    EXPECT_OK(predictor_open(n, &at, &(InferOptions){0}, &p));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        check_prediction(n, &at, p, sizes[i][0], sizes[i][1]);
    predictor_close(p);
    net_close(n);
}
/* The training net holds kd, whose shape rule knows the teacher's grid of the crop only. */
TEST(a_distilling_net_is_evaluated_on_whole_images) {
    Work w;
    Dataset *val;
    EXPECT_OK(work_open(
        &w, config(SCENES STUDENT TEACHER "distill.losses=[kd] distill.task=rdd train.batch=1")));
    EXPECT_OK(dataset_open(&w.c->data, "val", &val));
    Confusion *m = confusion_open(11);
    Predictor *p;
    EXPECT_OK(predictor_open(job_student(w.job), job_nodes(w.job), &w.c->infer, &p));
    EXPECT_OK(evaluate_with(p, val, 2, &(Evaluation){.confusion = m}));
    predictor_close(p);
    int64_t sum = 0, labelled = 0;
    for (int i = 0; i < 121; i++) sum += m->count[i];
    for (int i = 0; i < 2; i++) {
        Sample s;
        EXPECT_OK(dataset_read(val, i, &s));
        for (int k = 0; k < s.h * s.w; k++) labelled += s.label[k] != IGNORE_U8;
        sample_free(&s);
    }
    EXPECT_INT(m->images, 2);
    EXPECT_INT(sum, labelled);
    confusion_close(m);
    dataset_close(val);
    work_close(&w);
}

/* ---- whole runs ----------------------------------------------------------------------------- */
static Err train(const char *out, const char *args) {
    Config *c = config("out=%s %s", out, args);
    Err rc = train_run(c);
    config_close(c);
    return rc;
}
/* "miou" or "eval.miou" of a JSON object; NULL when absent. */
static json_t *field(json_t *o, const char *path) {
    char key[64], *rest = key, *item;
    snprintf(key, sizeof key, "%s", path);
    while (o && (item = strtok_r(rest, "/", &rest))) o = json_object_get(o, item);
    return o;
}
static void expect_numbers(json_t *o, const char *const *paths) {
    for (; *paths; paths++)
        if (!json_is_number(field(o, *paths))) FAIL("%s is no number", *paths);
}
static json_t *status_of(const char *run) {
    char *text = run_text(run, "/run.status.json");
    json_t *o = json_loads(text, 0, NULL);
    if (!o) FAIL("run.status.json: \"%s\"", text);
    free(text);
    return o;
}
#define RDD TEACHER "distill.losses=[kd] distill.task=rdd distill.task.warmup=0.5 "

TEST(a_run_leaves_what_is_promised) {
    const char *run = temp_path("run");
    EXPECT_OK(train(run, SCENES STUDENT RDD SHORT "train.ema=0.9"));
    static const char *const files[] = {"config.yaml",
                                        "log.txt",
                                        "metrics.jsonl",
                                        "run.status.json",
                                        "best.safetensors",
                                        "last.safetensors",
                                        "checkpoints/step-8.safetensors",
                                        "checkpoints/step-6.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = path_join(run, files[i]);
        if (!sys_exists(path)) FAIL("%s is missing", files[i]);
        free(path);
    }
    char path[RUN_PATH];
    EXPECT_INT(run_newest(run, path), 8);
    snprintf(path, sizeof path, "%s/checkpoints/step-3.safetensors", run);
    EXPECT(!sys_exists(path)); /* keep=2 */
    json_t *o = status_of(run);
    EXPECT_STR(json_string_value(field(o, "state")), "done");
    EXPECT_INT(json_integer_value(field(o, "exit_code")), 0);
    EXPECT_INT(json_integer_value(field(o, "pid")), getpid());
    EXPECT_STR(json_string_value(field(o, "log")), "complete");
    EXPECT(json_is_string(field(o, "host")) && json_is_string(field(o, "time")));
    expect_numbers(o,
                   (const char *const[]){"step", "steps", "eta_s", "loss/total", "loss/task",
                                         "loss/kd", "eval/step", "eval/miou", "eval/best", NULL});
    json_decref(o);
}
TEST(metrics_lines_hold_what_is_promised) {
    const char *run = temp_path("run");
    EXPECT_OK(train(run, SCENES STUDENT RDD SHORT "train.ema=0.9"));
    char *text = run_text(run, "/metrics.jsonl"), *rest = text;
    int steps = 0, evals = 0;
    for (char *line; (line = strsep(&rest, "\n")) && *line;) {
        json_t *o = json_loads(line, JSON_REJECT_DUPLICATES, NULL), *eval = field(o, "eval");
        if (!o) FAIL("no JSON: %s", line);
        if (eval) {
            evals++;
            EXPECT_INT(json_integer_value(field(o, "step")), 4 * evals);
            expect_numbers(eval, (const char *const[]){"miou", "miou_present", "pixel_accuracy",
                                                       "mean_accuracy", "images", "seconds",
                                                       "ema/miou", NULL});
            EXPECT_INT(json_array_size(field(eval, "classes")), 11);
            EXPECT_STR(json_string_value(field(json_array_get(field(eval, "classes"), 0), "name")),
                       "sky");
        } else {
            steps++;
            EXPECT_INT(json_integer_value(field(o, "step")), steps);
            EXPECT_STR(json_string_value(field(o, "stage")), steps <= 4 ? "tfe" : "tse");
            expect_numbers(o, (const char *const[]){"epoch", "lr", "loss/total", "loss/task",
                                                    "loss/aux", "loss/kd", "grad_norm",
                                                    "images_per_s", "stall", NULL});
            if (steps > 4) expect_numbers(o, (const char *const[]){"kept/main", "kept/aux", NULL});
            EXPECT_NEAR(json_number_value(field(o, "loss/total")),
                        json_number_value(field(o, "loss/task")) +
                            json_number_value(field(o, "loss/kd")),
                        1e-5);
        }
        json_decref(o);
    }
    EXPECT_INT(steps, 8);
    EXPECT_INT(evals, 2);
    free(text);
}
static const char *meta(const SafeFile *f, const char *key) {
    const char *v = st_meta(f, key);
    if (!v) FAIL("%s is not in the metadata", key);
    return v ? v : "";
}
TEST(a_checkpoint_holds_the_whole_state) {
    const char *run = temp_path("run");
    char path[RUN_PATH];
    SafeFile f;
    EXPECT_OK(train(run, SCENES STUDENT RDD SHORT
                    "train.ema=0.9 train.optimizer=adamw train.accumulate=2 seed=6"));
    run_newest(run, path);
    EXPECT_OK(st_read(path, EXIT_CHECKPOINT, &f));
    static const char *const tensors[] = {"head.block.1.weight", "optim/head.block.1.weight",
                                          "optim/sq/head.block.1.weight",
                                          "ema/head.block.1.weight"};
    EXPECT_STR(meta(&f, "step"), "8");
    EXPECT_STR(meta(&f, "sample"), "32"); /* 8 updates x 2 micro-batches x 2 images */
    EXPECT_STR(meta(&f, "seed"), "6");
    EXPECT_STR(meta(&f, "threads"), "1");
    EXPECT_STR(meta(&f, "eval_step"), "8");
    EXPECT_STR(meta(&f, "format_version"), "1");
    EXPECT_STR(meta(&f, "version"), RETORT_VERSION);
    EXPECT_STR(meta(&f, "n_classes"), "11");
    EXPECT_HAS(meta(&f, "library"), "oneDNN ");
    EXPECT_HAS(meta(&f, "class_names"), "[\"sky\", \"building\"");
    EXPECT_HAS(meta(&f, "config"), "kind: adamw");
    EXPECT_INT(strlen(meta(&f, "teacher")), 32);
    EXPECT_INT(strlen(meta(&f, "fingerprint")), 32);
    EXPECT_INT(strlen(meta(&f, "fingerprint_val")), 32);
    EXPECT(*meta(&f, "kernels") && *meta(&f, "compiler") && *meta(&f, "best") &&
           *meta(&f, "best_step") && *meta(&f, "last"));
    int parts[4] = {0};
    for (int i = 0; i < f.tensors->n; i++) {
        const char *name = f.tensors->v[i].name;
        if (str_ends(name, "num_batches_tracked")) /* the dry run of both stages is not counted */
            EXPECT_INT(*(int64_t *)f.tensors->v[i].data, 16);
        parts[str_starts(name, "optim/sq/") ? 2
              : str_starts(name, "optim/")  ? 1
              : str_starts(name, "ema/")    ? 3
                                            : 0]++;
        for (int k = 0; k < 4; k++)
            if (!strcmp(name, tensors[k])) parts[k] += 10000;
    }
    for (int k = 0; k < 4; k++)
        if (parts[k] < 10000 && k)
            FAIL("%d tensors like %s, and not that one", parts[k], tensors[k]);
    EXPECT_INT(parts[1], parts[2]);
    EXPECT(parts[3] % 10000 > parts[1] % 10000); /* running statistics are averaged too */
    st_close(&f);
}
TEST(a_run_learns) {
    const char *run = temp_path("run");
    EXPECT_OK(train(run, "data=scenes data.scenes.size=32x32 data.scenes.train=4 data.scenes.val=1 "
                         "data.mirror=0 " STUDENT
                         "train.steps=60 train.batch=4 train.lr=0.05 train.threads=1 eval.every=0 "
                         "report.metrics=59 student.dropout=false"));
    double loss[3] = {0};
    int n = 0;
    char *text = run_text(run, "/metrics.jsonl"), *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) && *line;) {
        json_t *o = json_loads(line, 0, NULL);
        if (field(o, "loss") && n < 3) loss[n++] = json_number_value(field(o, "loss/total"));
        json_decref(o);
    }
    EXPECT_INT(n, 3); /* steps 1, 59 and 60 */
    if (!(loss[2] < 0.5 * loss[0])) FAIL("loss %g -> %g", loss[0], loss[2]);
    free(text);
}
/* The losses and kept shares of a run of `steps` steps, four images an update in `parts` parts. */
static void run_in_parts(int parts, int steps, double out[][4]) {
    char options[1024];
    const char *run = temp_path(parts == 1 ? "p1" : parts == 2 ? "p2" : "p4");
    snprintf(
        options, sizeof options,
        SCENES STUDENT TEACHER
        "student.bn=frozen student.dropout=false distill.losses=[kd,dist] train.precision=f32 "
        "distill.task=rdd distill.task.warmup=2 distill.task.theta=0.1 distill.task.min_kept_fraction=0.3 train.steps=%d train.batch=%d train.accumulate=%d "
        "train.lr=1e-3 train.threads=1 eval.every=0 report.metrics=1",
        steps, 4 / parts, parts);
    EXPECT_OK(train(run, options));
    int n = 0;
    char *text = run_text(run, "/metrics.jsonl"), *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) && *line;) {
        json_t *o = json_loads(line, 0, NULL);
        static const char *const names[] = {"loss/task", "loss/kd", "loss/dist", "kept/main"};
        for (int i = 0; i < 4 && n < steps && field(o, "loss"); i++)
            out[n][i] = json_number_value(field(o, names[i]));
        n += field(o, "loss") != NULL;
        json_decref(o);
    }
    EXPECT_INT(n, steps);
    free(text);
}
/* With batch norm frozen nothing else ties the images of a micro-batch: losses, thresholds and updates are the same. */
TEST(an_update_in_parts_is_the_same_update) {
    enum { STEPS = 5 };
    double whole[STEPS][4], split[STEPS][4];
    run_in_parts(1, STEPS, whole);
    for (int parts = 2; parts <= 4; parts += 2) {
        run_in_parts(parts, STEPS, split);
        for (int s = 0; s < STEPS; s++)
            for (int i = 0; i < 4; i++)
                if (!(fabs(split[s][i] - whole[s][i]) <= 1e-4 * fabs(whole[s][i])))
                    FAIL("%d parts, step %d, number %d: %.9g, expected %.9g", parts, s + 1, i,
                         split[s][i], whole[s][i]);
    }
    EXPECT(whole[STEPS - 1][3] > 0.01 && whole[0][0] > 0.1);
}
TEST(a_diverging_run_stops_before_the_update) {
    const char *run = temp_path("run");
    char path[RUN_PATH];
    EXPECT_ERR(train(run, SCENES STUDENT SHORT
                     "student.bn=frozen train.lr=1e6 train.steps=200 checkpoint.every=1"),
               E(8, 62));
    EXPECT_HAS(err_text(), "is not finite (task ");
    EXPECT_HAS(err_text(), "nothing was updated; lower train.lr or set train.clip as a new run");
    EXPECT(run_says(run, "/log.txt", "error E8062 step "));
    json_t *o = status_of(run);
    EXPECT_STR(json_string_value(field(o, "state")), "failed");
    EXPECT_INT(json_integer_value(field(o, "exit_code")), 8);
    json_decref(o);
    SafeFile f;
    EXPECT(run_newest(run, path) >= 1);
    EXPECT_OK(st_read(path, EXIT_CHECKPOINT, &f));
    for (int i = 0; i < f.tensors->n; i++)
        for (int64_t k = 0;
             f.tensors->v[i].dtype == DT_F32 && k < shape_count(f.tensors->v[i].shape); k++)
            if (!isfinite(((float *)f.tensors->v[i].data)[k])) {
                FAIL("%s holds %g", f.tensors->v[i].name, ((float *)f.tensors->v[i].data)[k]);
                break;
            }
    st_close(&f);
}
/* Weights of a file in which one unit is dead (batch norm gives relu -1) and weighs 3e38: loss and
 * gradient are finite, but its decay overflows in the first update. */
TEST(weights_that_overflow_are_neither_judged_nor_saved) {
    ModelOptions o = {
        .model = "deeplabv3_mobilenetv2", .classes = 11, .width = 0.1, .norm = "rgb-imagenet"};
    Net *n;
    ModelNodes at;
    char path[RUN_PATH];
    const char *run = temp_path("run");
    EXPECT_OK(model_open(&o, H, W, &n, &at));
    net_init_formula(n, 1);
    const NetParam *w = &n->params[net_find_param(n, "head.block.4.weight")];
    n->params[net_find_param(n, "head.block.1.weight")].data[0] = 0;
    n->params[net_find_param(n, "head.block.1.bias")].data[0] = -1;
    w->data[0] = 3e38f;
    Tensor t[512];
    for (int i = 0; i < n->n_params; i++) {
        NetParam *p = &n->params[i];
        t[i] = (Tensor){p->name, p->kind == PARAM_COUNT ? DT_I64 : DT_F32, p->shape,
                        p->kind == PARAM_COUNT ? (void *)&p->count : p->data};
    }
    EXPECT_OK(st_write(temp_path("dead.safetensors"), t, n->n_params, NULL, 0));
    char *args =
        xprintf(SCENES "student.model=deeplabv3_mobilenetv2 student.width=0.1 train.steps=1 "
                       "train.batch=1 train.lr=5 train.threads=1 "
                       "train.optimizer.weight_decay=1 student.bn=frozen student.weights=%s",
                temp_path("dead.safetensors"));
    EXPECT_ERR(train(run, args), E(8, 62));
    EXPECT_HAS(err_text(),
               "step 1: head.block.4.weight is not finite at element 0; nothing was saved");
    EXPECT_INT(run_newest(run, path), -1);
    snprintf(path, sizeof path, "%s/best.safetensors", run);
    EXPECT(!sys_exists(path));
    free(args);
    net_close(n);
}
TEST(runs_that_cannot_be_are_refused_before_any_work) {
    static const struct {
        const char *args;
        Err rc;
        const char *text;
    } cases[] = {
        {STUDENT, E(2, 76), "data.kind is not set; give data=camvid:DIR or data=scenes"},
        {SCENES, E(2, 76), "student.model is not set"},
        {SCENES STUDENT "eval.split=vla", E(3, 30), "split \"vla\""},
        {SCENES STUDENT "data.kind=scnes", E(2, 76), "did you mean scenes?"},
        {SCENES STUDENT "student.classes=12", E(2, 37), "scenes has 11, the student 12"},
        {SCENES STUDENT "train.lr_groups={heda:1}", E(2, 76), "heda:1 must be a factor"},
        {SCENES STUDENT "student.weights=/nowhere.safetensors", E(4, 0), "/nowhere.safetensors"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[16], path[RUN_PATH];
        snprintf(name, sizeof name, "r%d", (int)i);
        char *word[32], *text = xprintf("out=%s %s", temp_path(name), cases[i].args), *rest = text,
                        *item;
        int n = 0;
        Config *c;
        while ((item = strtok_r(rest, " ", &rest))) word[n++] = item;
        Err rc = config_read("train", NULL, word, n, &c);
        if (!rc) rc = train_run(c), config_close(c);
        if (rc != cases[i].rc || !strstr(err_text(), cases[i].text))
            FAIL("%s: E%d %s, expected E%d and \"%s\"", cases[i].args, rc, rc ? err_text() : "",
                 cases[i].rc, cases[i].text);
        EXPECT_INT(run_newest(temp_path(name), path), -1);
        free(text);
    }
}
TEST(a_run_without_a_folder_is_refused) {
    Config *c = config(SCENES STUDENT);
    EXPECT_ERR(train_run(c), E(2, 76));
    EXPECT_HAS(err_text(), "out is not set; give out=DIR");
    config_close(c);
}

/* ---- MODEL of the command line -------------------------------------------------------------- */
TEST(a_run_directory_says_what_its_network_is) {
    Arena *a = arena_open();
    ModelOptions o = {.model = "x"};
    const char *run = temp_path("run"), *weights;
    EXPECT_OK(train(run, SCENES STUDENT SHORT));
    EXPECT_OK(model_source(run, NULL, a, &o, &weights));
    EXPECT_STR(o.model, "deeplabv3_mobilenetv2");
    EXPECT_NEAR(o.width, 0.1, 0);
    EXPECT_INT(o.classes, 11);
    EXPECT(o.aux);
    EXPECT_HAS(weights, "run/best.safetensors");
    static const char *const next[][2] = {{"best", "run/last.safetensors"},
                                          {"last", "run/checkpoints/step-8.safetensors"}};
    for (int i = 0; i < 2; i++) {
        char path[RUN_PATH];
        snprintf(path, sizeof path, "%s/%s.safetensors", run, next[i][0]);
        EXPECT_OK(sys_remove(path));
        EXPECT_OK(model_source(run, NULL, a, &o, &weights));
        EXPECT_HAS(weights, next[i][1]);
    }
    EXPECT_OK(sys_mkdirs(temp_path("empty")));
    EXPECT_ERR(model_source(temp_path("empty"), NULL, a, &o, &weights), E(4, 0));
    EXPECT_HAS(err_text(), "this folder holds no weights");
    EXPECT_OK(model_source("deeplabv3_resnet18", "formula:1", a, &o, &weights));
    EXPECT_STR(weights, "formula:1");
    arena_close(a);
}
TEST(a_checkpoint_of_any_run_can_teach) {
    const char *run = temp_path("teacher");
    char path[RUN_PATH];
    EXPECT_OK(train(run, SCENES STUDENT SHORT "train.ema=0.5"));
    run_newest(run, path);
    Work w;
    EXPECT_OK(
        work_open(&w, config(SCENES STUDENT "teacher=%s distill.losses=[kd] train.batch=1", path)));
    EXPECT(job_teacher_plan(w.job) != NULL);
    work_close(&w);
}

TEST_MAIN(T(accumulation_gives_the_mean_gradient),
          T(the_teachers_auxiliary_head_is_run_while_it_is_read),
          T(gathering_runs_the_teacher_once_and_no_other_term), T(gradients_apart_add_up_and_leave_no_trace),
          T(a_term_reports_what_it_cannot_compute), T(a_teacher_that_no_term_reads_is_not_run),
          T(a_student_is_resized_to_a_teacher_of_another_stride),
          T(the_teacher_sees_the_mirrored_image),
          T(an_onnx_file_teaches_in_the_order_that_is_asked_for),
          T(a_teacher_of_probabilities_is_recognised),
          T(a_teacher_whose_logits_are_not_finite_is_named),
          T(a_weights_file_of_more_classes_teaches_those_of_the_list),
          T(jobs_that_cannot_be_are_refused), T(scores_follow_from_the_confusion_matrix),
          T(nothing_labelled_scores_nothing), T(predictions_are_the_best_class_of_upsampled_logits),
          T(a_distilling_net_is_evaluated_on_whole_images), T(a_run_leaves_what_is_promised),
          T(metrics_lines_hold_what_is_promised), T(a_checkpoint_holds_the_whole_state),
          T(an_update_in_parts_is_the_same_update), T(a_run_learns),
          T(a_diverging_run_stops_before_the_update),
          T(weights_that_overflow_are_neither_judged_nor_saved),
          T(runs_that_cannot_be_are_refused_before_any_work), T(a_run_without_a_folder_is_refused),
          T(a_run_directory_says_what_its_network_is), T(a_checkpoint_of_any_run_can_teach))
