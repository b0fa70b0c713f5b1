/* test_plan.c - plans: the CPU backend equals the reference, fused equals composed, memory is shared. */
#include "backend/plan.h"
#include "base/cpu.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "models/model.h"
#include "measure.h"
#include "probe.h"
#include "base/sys.h"
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
    PlanSpec spec = {.backend = backend,
                     .training = training,
                     .loss = gradients ? c->loss : NO_NODE,
                     .outputs = outputs,
                     .n_outputs = 2,
                     .inputs = &c->nodes.image,
                     .input_shapes = &c->shape,
                     .n_inputs = 1,
                     .no_fuse = no_fuse};
    net_init_formula(c->net, 1);
    if (plan_make(c->net, &spec, &r.plan)) { FAIL("%s", err_text()); exit(1); }
    plan_bind(r.plan, c->nodes.image, c->image);
    plan_run(r.plan, &(OpRun){.seed = 1}, false);
    r.n_logits = shape_count(plan_shape(r.plan, c->nodes.logits));
    r.logits = memcpy(xcalloc((size_t)r.n_logits, 4), plan_value(r.plan, c->nodes.logits),
                      (size_t)r.n_logits * 4);
    r.grads = memcpy(xcalloc((size_t)c->net->n_trainable, 4), c->net->grads,
                     (size_t)c->net->n_trainable * 4);
    r.loss = gradients ? *plan_value(r.plan, c->loss) : 0;
    return r;
}
static void close_result(Result *r) { free(r->logits), free(r->grads), plan_close(r->plan); }
static void close_case(Case *c) { free(c->image), net_close(c->net); }
static void close_two(Case *c, Result *a, Result *b) {
    close_result(a), close_result(b), close_case(c);
}
/* float32 sums in different orders: forward 1e-5, gradients 1e-3 (ReLU masks at the edge flip). */
static void compare(const char *model, int n, int h, int w, bool training, bool gradients) {
    Case c = open_case(model, n, h, w);
    Result a = run_case(&c, BACKEND_CPU, training, gradients, false),
           b = run_case(&c, BACKEND_REF, training, gradients, true);
    EXPECT_NEAR(l2_ratio(a.logits, b.logits, a.n_logits), 0, training ? 1e-4 : 1e-5);
    double mag = 0;
    for (int64_t i = 0; gradients && i < c.net->n_trainable; i++) mag += fabs((double)b.grads[i]);
    if (gradients) EXPECT_NEAR(l2_ratio(a.grads, b.grads, c.net->n_trainable), 0, 2e-3);
    EXPECT((mag > 0) == gradients);
    close_two(&c, &a, &b);
}
TEST(resnet18_inference_equals_reference) {
    compare("deeplabv3_resnet18", 1, 33, 49, false, false);
}
TEST(resnet18_training_equals_reference) { compare("deeplabv3_resnet18", 2, 33, 49, true, true); }
TEST(resnet18_eval_gradients_equal_reference) {
    compare("deeplabv3_resnet18", 2, 33, 49, false, true);
}
TEST(resnet50_inference_equals_reference) {
    compare("deeplabv3_resnet50", 1, 33, 41, false, false);
}
TEST(mobilenet_inference_equals_reference) {
    compare("deeplabv3_mobilenetv2", 1, 33, 49, false, false);
}
TEST(mobilenet_training_equals_reference) {
    compare("deeplabv3_mobilenetv2", 2, 33, 49, true, true);
}
/* Even sides: TensorFlow's padding is lopsided there. */
TEST(efficientnet_inference_equals_reference) {
    compare("deeplabv3_efficientnet_lite0", 1, 44, 54, false, false);
}
TEST(lraspp_efficientnet_training_equals_reference) {
    compare("lraspp_efficientnet_lite0", 2, 44, 54, true, true);
}

TEST(fused_training_equals_composed) {
    Case c = open_case("deeplabv3_resnet18", 2, 33, 49);
    Result a = run_case(&c, BACKEND_CPU, true, true, false),
           b = run_case(&c, BACKEND_CPU, true, true, true);
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
    Case big = open_case("deeplabv3_resnet18", 2, 65, 65),
         small = open_case("deeplabv3_mobilenetv2", 2, 65, 65);
    Result host = run_case(&big, BACKEND_CPU, true, true, false),
           r = run_case(&small, BACKEND_CPU, false, false, false);
    size_t before = plan_stats(r.plan).arena_bytes;
    EXPECT(!plan_share_arena(host.plan, r.plan));
    EXPECT(plan_share_arena(r.plan, host.plan));
    EXPECT(plan_stats(r.plan).arena_bytes < before / 4);
    plan_run(r.plan, &(OpRun){.seed = 1}, false);
    plan_run(host.plan, &(OpRun){.seed = 1}, true);
    EXPECT(!memcmp(plan_value(r.plan, small.nodes.logits), r.logits, (size_t)r.n_logits * 4));
    EXPECT(
        !memcmp(plan_value(host.plan, big.nodes.logits), host.logits, (size_t)host.n_logits * 4));
    close_result(&r), close_case(&small), close_two(&big, &host, &(Result){0});
}

/* Two sizes of one net: the second reads the copies of the first, but for those that its kernels want otherwise. */
TEST(shared_copies_change_nothing) {
    Case c = open_case("deeplabv3_resnet18", 1, 65, 65);
    const Node in[] = {c.nodes.image};
    Plan *p[3];
    for (int i = 0; i < 3; i++) {
        const int h = i ? 129 : 65;
        static float picture[129 * 129 * 3];
        const PlanSpec spec = {.outputs = &c.nodes.logits,
                               .n_outputs = 1,
                               .inputs = in,
                               .input_shapes = &(Shape){4, {1, 3, h, h}},
                               .n_inputs = 1};
        for (int k = 0; k < 3 * h * h; k++) picture[k] = (float)(k % 7);
        EXPECT_OK(plan_make(c.net, &spec, &p[i]));
        plan_bind(p[i], c.nodes.image, picture);
        plan_run(p[i], &(OpRun){0}, false);
    }
    const size_t before = plan_stats(p[1]).param_bytes;
    plan_share_copies(p[1], p[0]);
    EXPECT(plan_stats(p[1]).param_bytes < before / 10);
    plan_run(p[1], &(OpRun){0}, false);
    EXPECT(!memcmp(plan_value(p[1], c.nodes.logits), plan_value(p[2], c.nodes.logits),
                   (size_t)shape_count(plan_shape(p[2], c.nodes.logits)) * sizeof(float)));
    for (int i = 2; i >= 0; i--) plan_close(p[i]);
    close_case(&c);
}

/* Past the deadline no plan is made and no step begun; without one all goes on. */
TEST(a_deadline_ends_a_run) {
    Case c = open_case("deeplabv3_mobilenetv2", 1, 65, 65);
    Result r = run_case(&c, BACKEND_CPU, false, false, false);
    Plan *p;
    const PlanSpec spec = {.outputs = &c.nodes.logits, .n_outputs = 1};
    EXPECT(plan_stats(r.plan).done_flops > 0 &&
           plan_stats(r.plan).done_flops >= plan_stats(r.plan).conv_flops);
    sys_set_deadline(sys_now() - 1);
    plan_run(r.plan, &(OpRun){.seed = 1}, false);
    EXPECT(plan_stats(r.plan).done_flops == 0 && sys_late());
    EXPECT_INT(sys_poll(), LATE);
    EXPECT_INT(plan_make(c.net, &spec, &p), LATE);
    sys_set_deadline(sys_now() + 1000);
    EXPECT(!sys_late() && !sys_poll());
    plan_run(r.plan, &(OpRun){.seed = 1}, false);
    EXPECT(plan_stats(r.plan).done_flops > 0);
    sys_set_deadline(0);
    close_result(&r), close_case(&c);
}

/* A lean plan computes some values twice, and everything else once: gradients, outputs and running statistics are
 * those of the plan that keeps all, to the bit. */
static void compare_lean(const char *model, int h, Dtype precision) {
    Case c = open_case(model, 2, h, h + 8);
    const Node outputs[] = {c.nodes.logits};
    float *kept[2] = {0};
    int64_t counts[2] = {0};
    PlanStats stats[2];
    for (int lean = 0; lean < 2; lean++) {
        Plan *p;
        net_init_formula(c.net, 1);
        for (int i = 0; i < c.net->n_params; i++) c.net->params[i].count = 0;
        EXPECT_OK(plan_make(c.net,
                            &(PlanSpec){.training = true,
                                        .precision = precision,
                                        .loss = c.loss,
                                        .outputs = outputs,
                                        .n_outputs = 1,
                                        .inputs = &c.nodes.image,
                                        .input_shapes = &c.shape,
                                        .n_inputs = 1,
                                        .lean = lean},
                            &p));
        plan_bind(p, c.nodes.image, c.image);
        plan_run(p, &(OpRun){.seed = 1, .training = true}, false);
        const int64_t n_logits = shape_count(plan_shape(p, c.nodes.logits)),
                      n = c.net->n_values + c.net->n_trainable;
        kept[lean] = xcalloc((size_t)(n + n_logits), sizeof(float));
        memcpy(kept[lean], c.net->values, (size_t)c.net->n_values * 4);
        memcpy(kept[lean] + c.net->n_values, c.net->grads, (size_t)c.net->n_trainable * 4);
        memcpy(kept[lean] + n, plan_value(p, c.nodes.logits), (size_t)n_logits * 4);
        for (int i = 0; i < c.net->n_params; i++) counts[lean] += c.net->params[i].count;
        stats[lean] = plan_stats(p);
        plan_close(p);
        if (lean && memcmp(kept[0], kept[1], (size_t)(n + n_logits) * 4))
            FAIL("%s: a lean plan gives other bits", model);
    }
    EXPECT_INT(counts[1], counts[0]);
    EXPECT(stats[0].again_flops == 0 && stats[1].again_flops > 0);
    EXPECT(stats[1].conv_flops <= 1.34 * stats[0].conv_flops);
    if (stats[1].arena_bytes > stats[0].arena_bytes * 7 / 10)
        FAIL("%s: %zu bytes lean, %zu otherwise", model, stats[1].arena_bytes,
             stats[0].arena_bytes);
    free(kept[0]), free(kept[1]);
    close_case(&c);
}
TEST(a_lean_plan_gives_the_same_bits) {
    compare_lean("deeplabv3_resnet18", 49, DT_F32);
    compare_lean("deeplabv3_mobilenetv2", 49, DT_F32);
    compare_lean("lraspp_efficientnet_lite0", 49, DT_F32);
    compare_lean("fcn_efficientnet_lite0", 49, DT_F32);      /* oneDNN has no kernel for its widest */
}
TEST(a_lean_plan_of_bottlenecks_gives_the_same_bits) {
    compare_lean("deeplabv3_resnet50", 33, DT_F32);
}
TEST(a_lean_plan_in_bfloat16_gives_the_same_bits) {
    if (!backend_has(DT_BF16)) SKIP("this processor (%s) has no bfloat16", backend_isa());
    /* At 97 x 105 half of the memory is one weight gradient in float32, which no plan saves. */
    compare_lean("deeplabv3_resnet18", 161, DT_BF16);
    compare_lean("deeplabv3_mobilenetv2", 97, DT_BF16);
}
/* Its stats are those of the plan that runs; it takes no memory. */
TEST(a_dry_plan_tells_the_same) {
    Case c = open_case("deeplabv3_resnet18", 1, 65, 65);
    Plan *p[2];
    for (int dry = 0; dry < 2; dry++)
        EXPECT_OK(plan_make(c.net,
                            &(PlanSpec){.training = true,
                                        .loss = c.loss,
                                        .inputs = &c.nodes.image,
                                        .input_shapes = &c.shape,
                                        .n_inputs = 1,
                                        .dry = dry},
                            &p[dry]));
    EXPECT_INT(plan_stats(p[1]).arena_bytes, plan_stats(p[0]).arena_bytes);
    EXPECT_INT(plan_stats(p[1]).n_steps, plan_stats(p[0]).n_steps);
    plan_close(p[0]), plan_close(p[1]);
    close_case(&c);
}

TEST_MAIN(T(a_lean_plan_gives_the_same_bits), T(a_lean_plan_of_bottlenecks_gives_the_same_bits),
          T(a_lean_plan_in_bfloat16_gives_the_same_bits), T(a_dry_plan_tells_the_same),
          T(resnet18_inference_equals_reference), T(resnet18_training_equals_reference),
          T(resnet18_eval_gradients_equal_reference), T(resnet50_inference_equals_reference),
          T(mobilenet_inference_equals_reference), T(mobilenet_training_equals_reference),
          T(efficientnet_inference_equals_reference),
          T(lraspp_efficientnet_training_equals_reference), T(fused_training_equals_composed),
          T(accumulating_doubles_the_gradient), T(running_twice_gives_the_same_bits),
          T(simd_levels_agree), T(running_statistics_equal_the_reference),
          T(arena_is_close_to_its_peak), T(a_shared_arena_changes_nothing),
          T(shared_copies_change_nothing),
          T(a_deadline_ends_a_run))
