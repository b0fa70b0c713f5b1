/* test_plan.c - plans: the CPU backend equals the reference, fused equals composed, memory is shared. */
#include "backend/plan.h"
#include "base/cpu.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "models/model.h"
#include "probe.h"
#include "test.h"

typedef struct { Net *net; ModelNodes nodes; Node loss; float *image; Shape shape; } Case;

static Case open_case(const char *model, int n, int h, int w) {
    Case c = {.shape = SHAPE(n, 3, h, w)};
    ModelOptions o = {.model = model, .classes = 11, .aux = true, .norm = "none"};
    if (model_open(&o, h, w, &c.net, &c.nodes)) { FAIL("%s", err_text()); exit(1); }
    net_init_formula(c.net, 1);
    Node terms[2] = {net_add(c.net, &op_probe, "p0", NULL, 0, &c.nodes.logits, 1, NULL, 0),
                     net_add(c.net, &op_probe, "p1", NULL, 0, &c.nodes.aux, 1, NULL, 0)};
    c.loss = nn_weighted_sum(c.net, terms, (float[]){1.0f, 0.4f}, 2);
    c.image = xcalloc((size_t)shape_count(c.shape), sizeof(float));
    Rng r = rng_stream(5, RNG_METHOD, 1, 1);
    for (int64_t i = 0; i < shape_count(c.shape); i++) c.image[i] = rng_normal(&r, (uint64_t)i);
    return c;
}
typedef struct { float *logits, *grads, loss; int64_t n_logits; Plan *plan; } Result;
static Result run_case(Case *c, BackendKind backend, bool training, bool gradients, bool no_fuse) {
    Result r = {0};
    Node outputs[] = {c->nodes.logits, c->nodes.aux};
    PlanSpec spec = {.backend = backend, .training = training, .loss = gradients ? c->loss : NO_NODE, .outputs = outputs, .n_outputs = 2,
                     .inputs = &c->nodes.image, .input_shapes = &c->shape, .n_inputs = 1, .no_fuse = no_fuse};
    net_init_formula(c->net, 1);
    if (plan_make(c->net, &spec, &r.plan)) { FAIL("%s", err_text()); exit(1); }
    plan_bind(r.plan, c->nodes.image, c->image);
    plan_run(r.plan, &(OpRun){.seed = 1}, false);
    r.n_logits = shape_count(plan_shape(r.plan, c->nodes.logits));
    r.logits = memcpy(xcalloc((size_t)r.n_logits, 4), plan_value(r.plan, c->nodes.logits), (size_t)r.n_logits * 4);
    r.grads = memcpy(xcalloc((size_t)c->net->n_trainable, 4), c->net->grads, (size_t)c->net->n_trainable * 4);
    r.loss = gradients ? *plan_value(r.plan, c->loss) : 0;
    return r;
}
static void close_result(Result *r) { free(r->logits), free(r->grads), plan_close(r->plan); }
static void close_case(Case *c) { free(c->image), net_close(c->net); }
static void close_two(Case *c, Result *a, Result *b) { close_result(a), close_result(b), close_case(c); }
static double l2_ratio(const float *a, const float *b, int64_t n) {
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]), s += (double)b[i] * b[i];
    return sqrt(d / (s > 0 ? s : 1));
}
/* float32 sums in different orders: forward 1e-5, gradients 1e-3 (ReLU masks at the edge flip). */
static void compare(const char *model, int n, int h, int w, bool training, bool gradients) {
    Case c = open_case(model, n, h, w);
    Result a = run_case(&c, BACKEND_CPU, training, gradients, false), b = run_case(&c, BACKEND_REF, training, gradients, true);
    EXPECT_NEAR(l2_ratio(a.logits, b.logits, a.n_logits), 0, training ? 1e-4 : 1e-5);
    double mag = 0;
    for (int64_t i = 0; gradients && i < c.net->n_trainable; i++) mag += fabs((double)b.grads[i]);
    if (gradients) EXPECT_NEAR(l2_ratio(a.grads, b.grads, c.net->n_trainable), 0, 2e-3);
    EXPECT((mag > 0) == gradients);
    close_two(&c, &a, &b);
}
TEST(resnet18_inference_equals_reference) { compare("deeplabv3_resnet18", 1, 33, 49, false, false); }
TEST(resnet18_training_equals_reference) { compare("deeplabv3_resnet18", 2, 33, 49, true, true); }
TEST(resnet18_eval_gradients_equal_reference) { compare("deeplabv3_resnet18", 2, 33, 49, false, true); }
TEST(resnet50_inference_equals_reference) { compare("deeplabv3_resnet50", 1, 33, 41, false, false); }
TEST(mobilenet_inference_equals_reference) { compare("deeplabv3_mobilenetv2", 1, 33, 49, false, false); }
TEST(mobilenet_training_equals_reference) { compare("deeplabv3_mobilenetv2", 2, 33, 49, true, true); }
/* Even sides: TensorFlow's padding is lopsided there. */
TEST(efficientnet_inference_equals_reference) { compare("deeplabv3_efficientnet_lite0", 1, 44, 54, false, false); }
TEST(lraspp_efficientnet_training_equals_reference) { compare("lraspp_efficientnet_lite0", 2, 44, 54, true, true); }

TEST(fused_training_equals_composed) {
    Case c = open_case("deeplabv3_resnet18", 2, 33, 49);
    Result a = run_case(&c, BACKEND_CPU, true, true, false), b = run_case(&c, BACKEND_CPU, true, true, true);
    EXPECT_NEAR(l2_ratio(a.logits, b.logits, a.n_logits), 0, 1e-5);
    EXPECT_NEAR(l2_ratio(a.grads, b.grads, c.net->n_trainable), 0, 1e-3);
    EXPECT(plan_stats(a.plan).arena_bytes < plan_stats(b.plan).arena_bytes);
    close_two(&c, &a, &b);
}
TEST(accumulating_doubles_the_gradient) {
    Case c = open_case("deeplabv3_resnet18", 2, 33, 33);
    Result a = run_case(&c, BACKEND_CPU, true, true, false);
    plan_run(a.plan, &(OpRun){.seed = 1}, true);
    for (int64_t i = 0; i < c.net->n_trainable; i++) a.grads[i] *= 2;
    EXPECT_NEAR(l2_ratio(c.net->grads, a.grads, c.net->n_trainable), 0, 1e-6);
    close_result(&a), close_case(&c);
}
TEST(running_twice_gives_the_same_bits) {
    Case c = open_case("deeplabv3_mobilenetv2", 2, 41, 33);
    Result a = run_case(&c, BACKEND_CPU, true, true, false);
    Result b = run_case(&c, BACKEND_CPU, true, true, false);
    EXPECT(!memcmp(a.logits, b.logits, (size_t)a.n_logits * 4));
    EXPECT(!memcmp(a.grads, b.grads, (size_t)c.net->n_trainable * 4));
    close_two(&c, &a, &b);
}
/* Running statistics: with batch statistics on 5 x 5 grids a last-bit difference flips ReLU masks. */
TEST(simd_levels_agree) {
    Case c = open_case("deeplabv3_resnet18", 2, 33, 33);
    Result a = run_case(&c, BACKEND_CPU, false, true, false);
    cpu_force(CPU_PLAIN);
    Result b = run_case(&c, BACKEND_CPU, false, true, false);
    EXPECT_NEAR(l2_ratio(a.logits, b.logits, a.n_logits), 0, 1e-5);
    EXPECT_NEAR(l2_ratio(a.grads, b.grads, c.net->n_trainable), 0, 1e-3);
    close_two(&c, &a, &b);
}
TEST(running_statistics_equal_the_reference) {
    Case c = open_case("deeplabv3_resnet18", 2, 33, 33);
    Result a = run_case(&c, BACKEND_CPU, true, true, false);
    int64_t n = c.net->n_values - c.net->n_trainable;
    float *stats = memcpy(xcalloc((size_t)n, 4), c.net->values + c.net->n_trainable, (size_t)n * 4);
    Result b = run_case(&c, BACKEND_REF, true, true, false);
    EXPECT_NEAR(l2_ratio(stats, c.net->values + c.net->n_trainable, n), 0, 1e-6);
    EXPECT_INT(c.net->params[net_find_param(c.net, "pretrained.bn1.num_batches_tracked")].count, 1);
    free(stats);
    close_two(&c, &a, &b);
}
TEST(arena_is_close_to_its_peak) {
    Case c = open_case("deeplabv3_resnet18", 1, 65, 65);
    Result r = run_case(&c, BACKEND_CPU, true, true, false);
    PlanStats s = plan_stats(r.plan);
    EXPECT((double)s.arena_bytes <= 1.15 * (double)s.peak_bytes);
    close_result(&r), close_case(&c);
}
/* A plan in another's arena gives the same bits, and its outputs outlive the other's run. */
TEST(a_shared_arena_changes_nothing) {
    Case big = open_case("deeplabv3_resnet18", 2, 65, 65), small = open_case("deeplabv3_mobilenetv2", 2, 65, 65);
    Result host = run_case(&big, BACKEND_CPU, true, true, false), r = run_case(&small, BACKEND_CPU, false, false, false);
    size_t before = plan_stats(r.plan).arena_bytes;
    EXPECT(!plan_share_arena(host.plan, r.plan));
    EXPECT(plan_share_arena(r.plan, host.plan));
    EXPECT(plan_stats(r.plan).arena_bytes < before / 4);
    plan_run(r.plan, &(OpRun){.seed = 1}, false);
    plan_run(host.plan, &(OpRun){.seed = 1}, true);
    EXPECT(!memcmp(plan_value(r.plan, small.nodes.logits), r.logits, (size_t)r.n_logits * 4));
    EXPECT(!memcmp(plan_value(host.plan, big.nodes.logits), host.logits, (size_t)host.n_logits * 4));
    close_result(&r), close_case(&small), close_two(&big, &host, &(Result){0});
}

TEST_MAIN(T(resnet18_inference_equals_reference), T(resnet18_training_equals_reference), T(resnet18_eval_gradients_equal_reference),
          T(resnet50_inference_equals_reference), T(mobilenet_inference_equals_reference), T(mobilenet_training_equals_reference),
          T(efficientnet_inference_equals_reference), T(lraspp_efficientnet_training_equals_reference),
          T(fused_training_equals_composed), T(accumulating_doubles_the_gradient), T(running_twice_gives_the_same_bits),
          T(simd_levels_agree), T(running_statistics_equal_the_reference), T(arena_is_close_to_its_peak),
          T(a_shared_arena_changes_nothing))
