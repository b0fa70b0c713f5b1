/* Whole networks of formula weights against tests/golden/nets.safetensors: PyTorch's outputs, loss and gradients in
 * float64 (tools/golden_nets.py writes the file). L2 ratios: outputs in evaluation within 1e-5, in training (batch
 * statistics) within 2e-4. Of each gradient the norm and the dot product with its parameter are known, and the
 * error that float32 PyTorch makes: at most twice that, as far as two numbers can tell. */
#include "backend/plan.h"
#include "distill/method.h"
#include "io/safetensors.h"
#include "models/model.h"
#include "test.h"

typedef struct Case {
    SafeFile   file;
    const char *name;
    Net       *net;
    ModelNodes at;
    Node       labels, loss;
    const Tensor *image;
    int32_t   *label;
    Shape      label_shape;
} Case;

static const Tensor *find(Case *c, const char *what) {
    const Tensor *t =
        tensor_find(c->file.tensors, arena_printf(c->net->arena, "%s/%s", c->name, what));
    if (!t) FAIL("%s/%s is not in the file", c->name, what);
    return t;
}
static Node add_loss(Net *n, const ModelNodes *at, Node labels) {
    void *opt = arena_alloc(n->arena, kd_ce.option_bytes);
    option_defaults(kd_ce.options, opt, n->arena);
    return kd_ce.build(n, &(KdSite){.logits = at->logits, .aux = at->aux, .labels = labels}, opt);
}
static Err open_case(Case *c, const char *name, ModelOptions o) {
    c->name = name;
    o.classes = 11, o.aux = true, o.norm = "none", o.dropout_off = true;
    TRY(st_read(SOURCE_DIR "/tests/golden/nets.safetensors", EXIT_MODEL, &c->file));
    c->image = tensor_find(c->file.tensors, "image");
    const Tensor *bytes = tensor_find(c->file.tensors, "labels");
    CHECK(c->image && bytes && bytes->dtype == DT_U8);
    TRY(model_open(&o, (int)c->image->shape.d[2], (int)c->image->shape.d[3], &c->net, &c->at));
    c->label_shape = bytes->shape;
    c->label = arena_alloc(c->net->arena, (size_t)shape_count(bytes->shape) * sizeof *c->label);
    for (int64_t i = 0; i < shape_count(bytes->shape); i++)
        c->label[i] = ((uint8_t *)bytes->data)[i] == 255 ? -1 : ((uint8_t *)bytes->data)[i];
    c->labels = net_input(c->net, "labels", DT_I32, SHAPE(1, 33, 41));
    c->loss = add_loss(c->net, &c->at, c->labels);
    TRY(net_finish(c->net));
    return model_load_weights(c->net, "formula:1", 0, 0);
}
static void expect_ratio(const Case *c, const char *what, const float *got, const Tensor *want,
                         double tol) {
    double d = 0, s = 0;
    for (int64_t i = 0; want && i < shape_count(want->shape); i++) {
        double w = (double)((const float *)want->data)[i], e = (double)got[i] - w;
        d += e * e, s += w * w;
    }
    if (!(sqrt(d) <= tol * sqrt(s)))
        FAIL("%s: %s is off by %.2g, at most %.2g", c->name, what, sqrt(d / s), tol);
}
/* By the triangle inequality: norm and projection of two vectors differ no more than the vectors do. */
static void expect_gradients(Case *c) {
    const Tensor *sums = find(c, "gradsum");
    const float (*want)[3] = sums ? sums->data : NULL;
    double whole = 0;
    int row = 0, rows = sums ? (int)sums->shape.d[0] : 0;
    for (int i = 0; i < rows; i++) whole += (double)want[i][0] * (double)want[i][0];
    for (int i = 0; i < c->net->n_params; i++) {
        const NetParam *p = &c->net->params[i];
        if (!p->grad) continue;
        if (row == rows) { FAIL("%s: %s has no row", c->name, p->name); return; }
        double norm = 0, dot = 0, size = 0;
        for (int64_t k = 0; k < shape_count(p->shape); k++) {
            double g = (double)p->grad[k], v = (double)p->data[k];
            norm += g * g, dot += g * v, size += v * v;
        }
        double may = 2 * fmax((double)want[row][2], 1e-6 * sqrt(whole));
        if (!(fabs(sqrt(norm) - (double)want[row][0]) <= may))
            FAIL("%s: gradient of %s has norm %.6g, not %.6g; may differ by %.2g", c->name, p->name,
                 sqrt(norm), (double)want[row][0], may);
        if (!(fabs(dot - (double)want[row][1]) <= may * sqrt(size)))
            FAIL("%s: gradient of %s times it is %.6g, not %.6g", c->name, p->name, dot,
                 (double)want[row][1]);
        row++;
    }
    EXPECT_INT(row, rows);
}
static Err run(Case *c, bool training, Plan **plan) {
    Node outputs[] = {c->at.logits, c->at.aux, c->loss}, inputs[] = {c->at.image, c->labels};
    Shape shapes[] = {c->image->shape, c->label_shape};
    TRY(plan_make(c->net,
                  &(PlanSpec){.training = training,
                              .loss = training ? c->loss : NO_NODE,
                              .outputs = outputs,
                              .n_outputs = 3,
                              .inputs = inputs,
                              .input_shapes = shapes,
                              .n_inputs = 2},
                  plan));
    plan_bind(*plan, c->at.image, c->image->data);
    plan_bind(*plan, c->labels, c->label);
    plan_run(*plan, &(OpRun){.training = training, .seed = 1}, false);
    return OK;
}
static void compare(const char *name, ModelOptions o) {
    Case c = {0};
    Plan *plan;
    EXPECT_OK(open_case(&c, name, o));
    EXPECT_OK(run(&c, false, &plan));
    expect_ratio(&c, "eval.logits", plan_value(plan, c.at.logits), find(&c, "eval.logits"), 1e-5);
    plan_close(plan);
    EXPECT_OK(run(&c, true, &plan));
    expect_ratio(&c, "train.logits", plan_value(plan, c.at.logits), find(&c, "train.logits"), 2e-4);
    expect_ratio(&c, "train.aux", plan_value(plan, c.at.aux), find(&c, "train.aux"), 2e-4);
    expect_ratio(&c, "loss", plan_value(plan, c.loss), find(&c, "loss"), 1e-5);
    expect_gradients(&c);
    plan_close(plan);
    net_close(c.net);
    st_close(&c.file);
}
TEST(resnet18_equals_torch) { compare("resnet18", (ModelOptions){.model = "deeplabv3_resnet18"}); }
TEST(resnet50_equals_torch) { compare("resnet50", (ModelOptions){.model = "deeplabv3_resnet50"}); }
TEST(mobilenetv2_equals_torch) {
    compare("mobilenetv2", (ModelOptions){.model = "deeplabv3_mobilenetv2"});
}
TEST(half_width_mobilenetv2_equals_torch) {
    compare("mobilenetv2_w05", (ModelOptions){.model = "deeplabv3_mobilenetv2", .width = 0.5});
}
TEST(resnet18_at_stride_16_equals_torch) {
    compare("resnet18_os16", (ModelOptions){.model = "deeplabv3_resnet18", .output_stride = 16});
}
TEST(mobilenetv2_at_stride_16_equals_torch) {
    compare("mobilenetv2_os16",
            (ModelOptions){.model = "deeplabv3_mobilenetv2", .output_stride = 16});
}
TEST_MAIN(T(resnet18_equals_torch), T(resnet50_equals_torch), T(mobilenetv2_equals_torch),
          T(half_width_mobilenetv2_equals_torch), T(resnet18_at_stride_16_equals_torch),
          T(mobilenetv2_at_stride_16_equals_torch))
