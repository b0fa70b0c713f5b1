/* Networks of the families people bring, as both of PyTorch's exporters write them (tools/golden_onnx.py), against
 * PyTorch's outputs in float64: by the CPU backend and the reference, one image or two at once. Then training one,
 * and the big networks beside ONNX Runtime, where it is installed. */
#include "backend/plan.h"
#include "base/sys.h"
#include "distill/method.h"
#include "io/safetensors.h"
#include "models/model.h"
#include "test.h"

enum { H = 64, W = 96, CLASSES = 11, EVERY = 8 };
/* float32 through some thirty layers, of logits below 2. */
static const double LOGITS_TOL = 2e-5, SAME_SHARE = 0.999;

static const SafeFile *expected(void) {
    static SafeFile f;
    if (!f.tensors &&
        st_read(SOURCE_DIR "/tests/golden/onnx/expected.safetensors", EXIT_MODEL, &f)) {
        FAIL("%s", err_text());
        exit(1);
    }
    return &f;
}
static const Tensor *part(const char *net, const char *what) {
    char name[64];
    snprintf(name, sizeof name, "%s/%s", net, what);
    return tensor_find(expected()->tensors, name);
}
static float *images(void) {
    const Tensor *t = tensor_find(expected()->tensors, "image");
    const int64_t n = shape_count(t->shape);
    float *out = xcalloc((size_t)n, sizeof *out);
    for (int64_t i = 0; i < n; i++) out[i] = (float)((const int8_t *)t->data)[i] / 32;
    return out;
}
static Err open_net(const char *name, const char *exporter, Net **net, ModelNodes *at) {
    char path[512];
    snprintf(path, sizeof path, SOURCE_DIR "/tests/golden/onnx/%s.%s.onnx", name, exporter);
    return model_open(&(ModelOptions){.model = path, .norm = "none"}, H, W, net, at);
}

static void compare_classes(const char *name, const float *logits, Shape s, int first) {
    const uint8_t *want =
        (const uint8_t *)part(name, "classes")->data + (int64_t)first * s.d[2] * s.d[3];
    const int64_t P = s.d[2] * s.d[3];
    int64_t same = 0;
    EXPECT_INT(shape_count(part(name, "classes")->shape), 2 * P);
    for (int64_t i = 0; i < s.d[0] * P; i++) {
        const float *x = logits + i / P * s.d[1] * P + i % P;
        int best = 0;
        for (int k = 1; k < s.d[1]; k++)
            if (x[k * P] > x[best * P]) best = k;
        same += best == want[i];
    }
    if ((double)same < SAME_SHARE * (double)(s.d[0] * P))
        FAIL("%s: %lld of %lld classes", name, (long long)same, (long long)(s.d[0] * P));
}
static void compare_logits(const char *name, const float *logits, Shape s, int first) {
    const Tensor *t = part(name, "logits");
    if (!t) return;
    const int64_t h = t->shape.d[2], w = t->shape.d[3], n = s.d[0] * s.d[1] * h * w;
    const float *want = (const float *)t->data + (int64_t)first * s.d[1] * h * w;
    for (int64_t i = 0; i < n && test_failures < 5; i++)
        EXPECT_NEAR(
            logits[i / (h * w) * s.d[2] * s.d[3] + i / w % h * EVERY * s.d[3] + i % w * EVERY],
            want[i], LOGITS_TOL);
}
/* Images first .. first + batch - 1 through a plan of their own. */
static void compare(Net *n, const ModelNodes *at, const char *name, BackendKind backend, int first,
                    int batch) {
    const Shape shape = SHAPE(batch, 3, H, W);
    float *image = images();
    Plan *p;
    EXPECT_OK(plan_make(n,
                        &(PlanSpec){.backend = backend,
                                    .outputs = &at->logits,
                                    .n_outputs = 1,
                                    .inputs = &at->image,
                                    .input_shapes = &shape,
                                    .n_inputs = 1},
                        &p));
    plan_bind(p, at->image, image + first * 3 * H * W);
    plan_run(p, &(OpRun){0}, false);
    compare_classes(name, plan_value(p, at->logits), plan_shape(p, at->logits), first);
    compare_logits(name, plan_value(p, at->logits), plan_shape(p, at->logits), first);
    plan_close(p);
    free(image);
}
static void check_net(const char *name) {
    static const char *const EXPORTERS[] = {"ts", "dy"};
    for (int i = 0; i < 2; i++) {
        Net *n;
        ModelNodes at;
        EXPECT_OK(open_net(name, EXPORTERS[i], &n, &at));
        EXPECT_INT(net_shape(n, at.logits).d[1], CLASSES);
        compare(n, &at, name, BACKEND_CPU, 1, 1);
        compare(n, &at, name, BACKEND_CPU, 0, 2);        /* dy was exported for one image */
        compare(n, &at, name, BACKEND_REF, 0, 1);
        net_close(n);
    }
}
TEST(unet_equals_torch) { check_net("unet"); }
TEST(segformer_equals_torch) { check_net("segformer"); }
TEST(bisenet_equals_torch) { check_net("bisenet"); }
TEST(ddrnet_equals_torch) { check_net("ddrnet"); }
TEST(mobile_equals_torch) { check_net("mobile"); }
TEST(odd_equals_torch) { check_net("odd"); }
TEST(second_output_is_the_auxiliary_head) {
    Net *n;
    ModelNodes at;
    EXPECT_OK(open_net("bisenet", "dy", &n, &at));
    EXPECT(at.aux.id && shape_equal(net_shape(n, at.aux), net_shape(n, at.logits)));
    net_close(n);
}

/* ---- training ------------------------------------------------------------------------------------------- */

static Node add_loss(Net *n, const ModelNodes *at, Node labels) {
    void *opt = arena_alloc(n->arena, kd_ce.option_bytes);
    option_defaults(kd_ce.options, opt, n->arena);
    return kd_ce.build(n, &(KdSite){.logits = at->logits, .labels = labels}, opt);
}
/* Forty plain steps towards three stripes: the loss must halve. */
static void train(const char *name, const char *exporter, float rate) {
    Net *n;
    ModelNodes at;
    EXPECT_OK(open_net(name, exporter, &n, &at));
    int32_t *label = xcalloc(2 * H * W, sizeof *label);
    float *image = images();
    for (int64_t i = 0; i < 2 * H * W; i++)
        label[i] = i % W < W / 3 ? 2 : i % W < 2 * W / 3 ? 5 : 9;
    const Node labels = net_input(n, "labels", DT_I32, SHAPE(1, H, W)),
               loss = add_loss(n, &at, labels), in[] = {at.image, labels};
    EXPECT_OK(net_finish(n));
    const Shape shapes[] = {SHAPE(2, 3, H, W), SHAPE(2, H, W)};
    Plan *p;
    EXPECT_OK(plan_make(n,
                        &(PlanSpec){.training = true,
                                    .loss = loss,
                                    .outputs = &loss,
                                    .n_outputs = 1,
                                    .inputs = in,
                                    .input_shapes = shapes,
                                    .n_inputs = 2},
                        &p));
    plan_bind(p, at.image, image), plan_bind(p, labels, label);
    double first = 0, last = 0;
    for (int step = 0; step < 40; step++) {
        plan_run(p, &(OpRun){.training = true, .seed = 1}, false);
        last = *plan_value(p, loss);
        if (!step) first = last;
        for (int64_t i = 0; i < n->n_trainable; i++) n->values[i] -= rate * n->grads[i];
        n->version++;
    }
    if (!(last < first / 2)) FAIL("%s: loss %g -> %g", name, first, last);
    plan_close(p);
    free(image), free(label);
    net_close(n);
}
TEST(unet_learns) {
    train("unet", "ts", 0.5f);
    train("unet", "dy", 0.5f);
}
TEST(segformer_learns) { train("segformer", "dy", 0.5f); }
TEST(bisenet_learns) { train("bisenet", "ts", 0.5f); }
TEST(mobile_learns) { train("mobile", "dy", 0.5f); }
/* ---- beside ONNX Runtime --------------------------------------------------------------------------------- */

static const char *python(void) {
    const char *own = getenv("RETORT_PYTHON");
    return own ? own : "python3";
}
static void need_runtime(void) {
    char command[512];
    snprintf(command, sizeof command,
             "%s -c 'import numpy, onnxruntime, safetensors, PIL' >/dev/null 2>&1", python());
    if (system(command))
        SKIP(
            "no ONNX Runtime (pip install onnxruntime numpy safetensors pillow); RETORT_PYTHON names another Python");
}
static void compare_with_runtime(const char *model, const char *with) {
    char command[2048];
    snprintf(command, sizeof command, "%s %s/tools/onnx_compare.py %s/retort %s %s >&2", python(),
             SOURCE_DIR, BUILD_DIR, model, with);
    if (system(command)) FAIL("%s differs from ONNX Runtime", model);
}
TEST(onnx_runtime_agrees_on_foreign_networks) {
    static const char *const NETS[] = {"unet.ts",    "unet.dy",   "segformer.ts", "segformer.dy",
                                       "bisenet.dy", "ddrnet.dy", "mobile.ts",    "odd.ts"};
    need_runtime();
    for (size_t i = 0; i < sizeof NETS / sizeof *NETS; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/tests/golden/onnx/%s.onnx", SOURCE_DIR, NETS[i]);
        compare_with_runtime(path, "--size 64x96 --random 2 --threads 1");
    }
}
TEST(onnx_runtime_agrees_on_real_networks) {
    static const char *const NETS[] = {"espnetv2_city_512x1024", "espnetv2_s05_city_512x1024"};
    const char *root = sys_test_data();
    if (!root) SKIP("no RETORT_TEST_DATA");
    need_runtime();
    for (int i = 0; i < 2; i++) {
        char path[512], images[1024];
        snprintf(path, sizeof path, "%s/onnx/%s.onnx", root, NETS[i]);
        if (!sys_exists(path)) SKIP("%s is not there", path);
        snprintf(images, sizeof images, "%s/data/cityscapes-samples/*_leftImg8bit.png", root);
        compare_with_runtime(path, images);
    }
}
TEST_MAIN(T(unet_equals_torch), T(segformer_equals_torch), T(bisenet_equals_torch),
          T(ddrnet_equals_torch), T(mobile_equals_torch), T(odd_equals_torch),
          T(second_output_is_the_auxiliary_head), T(unet_learns), T(segformer_learns),
          T(bisenet_learns), T(mobile_learns), T(onnx_runtime_agrees_on_foreign_networks),
          T(onnx_runtime_agrees_on_real_networks))
