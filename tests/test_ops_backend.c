/* Each op alone: the CPU backend at every instruction set against the reference, in training and inference:
 * values, gradients of inputs and parameters, running statistics. Each op stands once right behind the plain
 * inputs and once behind a convolution, whose result may lie in a blocked layout. The reference fuses nothing. */
#include "backend/plan.h"
#include "base/cpu.h"
#include "nn/nn.h"
#include "probe.h"
#include "test.h"

/* L2 ratios of float32 sums in different orders; a gradient is a sum of up to a thousand products here. */
static const double VALUE_TOL = 1e-6, GRAD_TOL = 3e-6;
/* In bfloat16 each value is rounded to 2^-9 of itself, up to six times here. Where that crosses a kink (a ReLU's, the
 * largest of a window) a gradient goes another way: the loops themselves are held tightly in test_lanes. */
static const double BF16_VALUE_TOL = 1e-2, BF16_GRAD_TOL = 0.25;
enum { BEHIND_CONV = 1, TRAINING = 2, INFERENCE = 4 };           /* INFERENCE: no gradients, everything folded */

static const char *forced_way;                                   /* of all convolutions; NULL: the usual ones */

typedef Node Build(Net *n, Node x, Node y, const void *arg);     /* x and y have one shape */
typedef struct Case {
    Net  *net;
    Node  in[2], out, loss;
    float *data[2];
    unsigned mode;
} Case;
typedef struct { float *out, *din[2], *values, *grads; int64_t n_out; } Result;      /* the caller's arena */

static Case make(Build *build, const void *arg, Shape s, unsigned mode) {
    Case c = {.net = net_open("op"), .mode = mode};
    Node at[2];
    for (int i = 0; i < 2; i++) {
        const Rng r = rng_stream(11, RNG_METHOD, (uint64_t)i, 0);
        c.in[i] = at[i] = net_input(c.net, i ? "y" : "x", DT_F32, s);
        c.data[i] = arena_alloc(c.net->arena, (size_t)shape_count(s) * sizeof(float));
        for (int64_t k = 0; k < shape_count(s); k++) c.data[i][k] = 2 * rng_normal(&r, (uint64_t)k);
        if (mode & BEHIND_CONV)
            at[i] = nn_conv(c.net, at[i], i ? "before_y" : "before_x",
                            (Conv){.out = (int)s.d[1], .k = 1});
    }
    c.out = build(c.net, at[0], at[1], arg);
    c.loss = net_add(c.net, &op_probe, "loss", NULL, 0, &c.out, 1, NULL, 0);
    return c;
}
static float *copied(Arena *a, const float *v, int64_t n) {
    return v ? memcpy(arena_alloc(a, (size_t)(n + 1) * sizeof *v), v, (size_t)n * sizeof *v) : NULL;
}
static Err run(Case *c, BackendKind backend, Dtype precision, Arena *a, Result *r) {
    const bool gradients = !(c->mode & INFERENCE);
    Plan *plan;
    Choices *choices = forced_way ? choices_replay(forced_way) : NULL;
    net_init_formula(c->net, 1);
    TRY(plan_make(c->net,
                  &(PlanSpec){.backend = backend,
                              .choices = choices,
                              .precision = precision,
                              .no_fuse = backend == BACKEND_REF,
                              .training = c->mode & TRAINING,
                              .loss = gradients ? c->loss : NO_NODE,
                              .outputs = &c->out,
                              .n_outputs = 1,
                              .wanted = c->in,
                              .n_wanted = gradients ? 2 : 0},
                  &plan));
    for (int i = 0; i < 2; i++) plan_bind(plan, c->in[i], c->data[i]);
    plan_run(plan, &(OpRun){.training = c->mode & TRAINING, .seed = 1}, false);
    r->n_out = shape_count(plan_shape(plan, c->out));
    r->out = copied(a, plan_value(plan, c->out), r->n_out);
    for (int i = 0; i < 2; i++)
        r->din[i] = gradients ? copied(a, plan_gradient(plan, c->in[i]),
                                       shape_count(net_shape(c->net, c->in[i])))
                              : NULL;
    r->values = copied(a, c->net->values, c->net->n_values);
    r->grads = gradients ? copied(a, c->net->grads, c->net->n_trainable) : NULL;
    plan_close(plan);
    choices_close(choices);
    return OK;
}
static void near(const char *name, const char *what, const float *a, const float *b, int64_t n,
                 double tol) {
    double d = 0, s = 0;
    if (!a != !b) FAIL("%s: %s: one backend has it, the other not", name, what);
    for (int64_t i = 0; a && b && i < n; i++)
        d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]), s += (double)b[i] * b[i];
    if (!(sqrt(d) <= tol * sqrt(s)))
        FAIL("%s: %s differs by %.2g of %.2g", name, what, sqrt(d), sqrt(s));
}
typedef struct { double value, grad; } Tolerance;
static void compare_results(const char *at, const Case *c, Shape s, const Result *got,
                            const Result *want, Tolerance t) {
    near(at, "value", got->out, want->out, want->n_out, t.value);
    near(at, "gradient of x", got->din[0], want->din[0], shape_count(s), t.grad);
    near(at, "gradient of y", got->din[1], want->din[1], shape_count(s), t.grad);
    near(at, "parameter or statistic", got->values, want->values, c->net->n_values, t.value);
    near(at, "gradient of parameters", got->grads, want->grads, c->net->n_trainable, t.grad);
}
static void compare_mode(const char *name, Build *build, const void *arg, Shape s, unsigned mode) {
    Case c = make(build, arg, s, mode);
    Arena *a = arena_open();
    Result want, got;
    EXPECT_OK(net_finish(c.net));
    EXPECT_OK(run(&c, BACKEND_REF, DT_F32, a, &want));
    for (int level = CPU_PLAIN; level <= (int)cpu_best(); level++) {
        cpu_force((CpuLevel)level);
        const char *at = arena_printf(a, "%s %s%s%s at %s", name, shape_text(s).s,
                                      mode & BEHIND_CONV ? " behind conv" : "",
                                      mode & TRAINING    ? " training"
                                      : mode & INFERENCE ? " inference"
                                                         : "",
                                      cpu_level_name((CpuLevel)level));
        EXPECT_OK(run(&c, BACKEND_CPU, DT_F32, a, &got));
        compare_results(at, &c, s, &got, &want, (Tolerance){VALUE_TOL, GRAD_TOL});
        if (!backend_has(DT_BF16)) continue;
        EXPECT_OK(run(&c, BACKEND_CPU, DT_BF16, a, &got));
        compare_results(arena_printf(a, "%s in bfloat16", at), &c, s, &got, &want,
                        (Tolerance){BF16_VALUE_TOL, BF16_GRAD_TOL});
    }
    arena_close(a);
    net_close(c.net);
}
static void compare(const char *name, Build *build, const void *arg, Shape s) {
    for (unsigned behind = 0; behind <= BEHIND_CONV && test_failures < 5; behind++) {
        compare_mode(name, build, arg, s, TRAINING | behind);
        compare_mode(name, build, arg, s, INFERENCE | behind);
    }
}

/* ---- the ops ---------------------------------------------------------------------------------------- */

static Node conv(Net *n, Node x, Node y, const void *arg) {
    return nn_conv(n, x, "conv", *(const Conv *)arg);
}
TEST(conv2d_equals_the_reference) {
    static const Conv some[] = {{.out = 12, .k = 3, .pad = 1},
                                {.out = 16, .k = 1},
                                {.out = 11, .k = 1, .bias = true},
                                {.out = 16, .k = 3, .stride = 2, .pad = 1},
                                {.out = 5, .k = 3, .pad = 2, .dilation = 2, .bias = true},
                                {.out = 8, .k = 3, .pad = 12, .dilation = 12},
                                {.out = 8, .k = 7, .stride = 2, .pad = 3},
                                {.out = 8, .k = 3},
                                {.out = 16, .k = 1, .stride = 2}};
    for (int i = 0; i < (int)(sizeof some / sizeof *some); i++)
        compare("conv2d", conv, &some[i], SHAPE(2, 8, 9, 13));
    compare("conv2d", conv, &some[0], SHAPE(1, 3, 17, 10));
    compare("conv2d", conv, &some[3], SHAPE(3, 11, 8, 5));
}
/* Dilations of which most taps lie outside the image, and padding that is not the dilation. */
TEST(widely_dilated_conv2d_equals_the_reference) {
    static const Conv some[] = {{.out = 16, .k = 3, .pad = 24, .dilation = 24},
                                {.out = 24, .k = 3, .pad = 36, .dilation = 36},
                                {.out = 16, .k = 3, .pad = 9, .dilation = 12},
                                {.out = 16, .k = 5, .pad = 18, .dilation = 9},
                                {.out = 16, .k = 3, .pad = 40, .dilation = 30}};
    for (int i = 0; i < (int)(sizeof some / sizeof *some); i++)
        compare("conv2d", conv, &some[i], SHAPE(2, 32, 27, 31));
}
TEST(grouped_conv2d_equals_the_reference) {
    compare("grouped", conv, &(Conv){.out = 12, .k = 3, .pad = 1, .groups = 2}, SHAPE(2, 8, 9, 7));
    for (int side = 3; side <= 5; side += 2)
        for (int dilation = 1; dilation <= 4; dilation *= 2)
            for (int stride = 1; stride <= (dilation == 1 ? 2 : 1); stride++)
                for (int channels = 11; channels <= 16; channels += 5)
                    compare("depthwise", conv,
                            &(Conv){.out = channels,
                                    .k = side,
                                    .pad = dilation * (side / 2),
                                    .dilation = dilation,
                                    .stride = stride,
                                    .groups = channels},
                            SHAPE(2, channels, 11, 14));
}
/* Every way to compute a convolution, not only the one that would be taken. */
static void each_way(void (*cases)(void)) {
    static const char *const ways[] = {"*\tany\n", "*\tlast\n", "*\town\n"};
    for (int i = 0; i < 3; i++) forced_way = ways[i], cases();
}
TEST(each_way_of_conv2d_equals_the_reference) { each_way(test_conv2d_equals_the_reference); }
TEST(each_way_of_widely_dilated_conv2d_equals_the_reference) {
    each_way(test_widely_dilated_conv2d_equals_the_reference);
}
TEST(each_way_of_grouped_conv2d_equals_the_reference) {
    each_way(test_grouped_conv2d_equals_the_reference);
}
static Node bn(Net *n, Node x, Node y, const void *arg) { return nn_bn(n, x, "bn"); }
static Node bn_relu(Net *n, Node x, Node y, const void *arg) {
    return nn_relu(n, nn_bn(n, x, "bn"));
}
static Node bn_relu6(Net *n, Node x, Node y, const void *arg) {
    return nn_relu6(n, nn_bn(n, x, "bn"));
}
static Node bn_add(Net *n, Node x, Node y, const void *arg) {
    return nn_add(n, y, nn_bn(n, x, "bn"));
}
static Node bn_add_relu(Net *n, Node x, Node y, const void *arg) {
    return nn_relu(n, nn_add(n, nn_bn(n, x, "bn"), y));
}
static Node frozen_bn_relu(Net *n, Node x, Node y, const void *arg) {
    n->bn_frozen = true;
    return nn_relu(n, nn_bn(n, x, "bn"));
}
TEST(batch_norm_equals_the_reference) {
    static const struct { const char *name; Build *build;
    } forms[] = {
        {"bn", bn},         {"bn_relu", bn_relu},         {"bn_relu6", bn_relu6},
        {"bn_add", bn_add}, {"bn_add_relu", bn_add_relu}, {"frozen_bn_relu", frozen_bn_relu}};
    for (int i = 0; i < (int)(sizeof forms / sizeof *forms); i++) {
        compare(forms[i].name, forms[i].build, NULL, SHAPE(2, 16, 7, 9));
        compare(forms[i].name, forms[i].build, NULL, SHAPE(3, 11, 5, 6));
        compare(forms[i].name, forms[i].build, NULL, SHAPE(4, 19, 1, 1));
        compare_mode(forms[i].name, forms[i].build, NULL, SHAPE(2, 16, 7, 9), 0);        /* running statistics, with gradients */
        compare_mode(forms[i].name, forms[i].build, NULL, SHAPE(2, 16, 7, 9), BEHIND_CONV);
    }
}
static Node relu(Net *n, Node x, Node y, const void *arg) { return nn_relu(n, x); }
static Node relu6(Net *n, Node x, Node y, const void *arg) { return nn_relu6(n, x); }
static Node add(Net *n, Node x, Node y, const void *arg) { return nn_add(n, x, y); }
static Node add_itself(Net *n, Node x, Node y, const void *arg) { return nn_add(n, x, x); }
static Node concat(Net *n, Node x, Node y, const void *arg) {
    return nn_concat(n, (Node[]){x, y, x}, 3);
}
static Node dropout(Net *n, Node x, Node y, const void *arg) { return nn_dropout(n, x, 0.3f); }
TEST(elementwise_ops_equal_the_reference) {
    static const struct {
        const char *name;
        Build *build;
    } ops[] = {{"relu", relu},     {"relu6", relu6},    {"add", add}, {"add_itself", add_itself},
               {"concat", concat}, {"dropout", dropout}};
    for (int i = 0; i < (int)(sizeof ops / sizeof *ops); i++) {
        compare(ops[i].name, ops[i].build, NULL, SHAPE(2, 16, 7, 9));
        compare(ops[i].name, ops[i].build, NULL, SHAPE(1, 11, 5, 6));
    }
}
static Node max_pool(Net *n, Node x, Node y, const void *arg) {
    const PoolAttr *a = arg;
    return nn_max_pool(n, x, a->k, a->stride, a->pad);
}
static Node avg_pool(Net *n, Node x, Node y, const void *arg) {
    const AdaptiveAttr *a = arg;
    return nn_adaptive_avg_pool(n, x, a->out_h, a->out_w);
}
TEST(pools_equal_the_reference) {
    static const PoolAttr max[] = {
        {.k = 3, .stride = 2, .pad = 1}, {.k = 2}, {.k = 3, .stride = 1, .pad = 1}};
    static const AdaptiveAttr mean[] = {{1, 1}, {2, 3}, {6, 6}};
    for (int channels = 11; channels <= 16; channels += 5) {
        for (int i = 0; i < 3; i++)
            compare("max_pool", max_pool, &max[i], SHAPE(2, channels, 9, 13));
        for (int i = 0; i < 3; i++)
            compare("adaptive_avg_pool", avg_pool, &mean[i], SHAPE(2, channels, 9, 13));
    }
}
/* To the size of a pooled y, or of y from a pooled x. */
static Node resize_down(Net *n, Node x, Node y, const void *arg) {
    return nn_resize_like(n, x, nn_max_pool(n, y, 2, 2, 0), *(const bool *)arg);
}
static Node resize_up(Net *n, Node x, Node y, const void *arg) {
    return nn_resize_like(n, nn_max_pool(n, x, 3, 2, 1), y, *(const bool *)arg);
}
static Node resize_from_one(Net *n, Node x, Node y, const void *arg) {
    return nn_resize_like(n, nn_adaptive_avg_pool(n, x, 1, 1), y, *(const bool *)arg);
}
TEST(resize_equals_the_reference) {
    static Build *const forms[] = {resize_down, resize_up, resize_from_one};
    static const bool align[] = {false, true};
    for (int i = 0; i < 6; i++) {
        compare(i % 2 ? "resize aligned" : "resize", forms[i / 2], &align[i % 2],
                SHAPE(2, 16, 9, 13));
        compare(i % 2 ? "resize aligned" : "resize", forms[i / 2], &align[i % 2],
                SHAPE(1, 11, 8, 5));
    }
}
/* What inference folds into one op: convolution, batch norm, sum and ReLU. */
static Node whole_block(Net *n, Node x, Node y, const void *arg) {
    return nn_relu(n, nn_add(n, nn_bn(n, nn_conv(n, x, "conv", *(const Conv *)arg), "bn"), y));
}
static Node conv_bn_relu6(Net *n, Node x, Node y, const void *arg) {
    return nn_relu6(n, nn_bn(n, nn_conv(n, x, "conv", *(const Conv *)arg), "bn"));
}
TEST(folded_blocks_equal_the_reference) {
    for (int channels = 11; channels <= 16; channels += 5) {
        const Conv full = {.out = channels, .k = 3, .pad = 1},
                   thin = {.out = channels, .k = 3, .pad = 2, .dilation = 2, .groups = channels},
                   wide = {.out = channels, .k = 5, .pad = 8, .dilation = 4, .groups = channels};
        compare("conv bn add relu", whole_block, &full, SHAPE(2, channels, 7, 9));
        compare("depthwise bn add relu", whole_block, &thin, SHAPE(2, channels, 7, 9));
        compare("conv bn relu6", conv_bn_relu6, &full, SHAPE(2, channels, 7, 9));
        compare("depthwise bn relu6", conv_bn_relu6, &thin, SHAPE(2, channels, 7, 9));
        compare("wide depthwise bn relu6", conv_bn_relu6, &wide, SHAPE(2, channels, 19, 10));
        compare("wide depthwise bn add relu", whole_block, &wide, SHAPE(2, channels, 19, 10));
    }
}
TEST(each_way_of_folded_blocks_equals_the_reference) {
    each_way(test_folded_blocks_equal_the_reference);
}
/* ---- of imported networks ------------------------------------------------------------------------------ */

static Node prelu_of(Net *n, Node x, int slopes) {
    const PreluAttr a = {.slopes = slopes};
    const int param = net_param(n, "slope", PARAM_BIAS, SHAPE(slopes), 0, 0);
    return net_add(n, &op_prelu, "prelu", &a, sizeof a, &x, 1, &param, 1);
}
static int channels_of(Net *n, Node x) { return (int)net_shape(n, x).d[1]; }
static Node prelu(Net *n, Node x, Node y, const void *arg) {
    return prelu_of(n, x, channels_of(n, x));
}
static Node prelu_one(Net *n, Node x, Node y, const void *arg) { return prelu_of(n, x, 1); }
static Node bn_prelu(Net *n, Node x, Node y, const void *arg) {
    return prelu_of(n, nn_bn(n, nn_concat(n, (Node[]){x, y}, 2), "bn"), 2 * channels_of(n, x));
}
static Node add_prelu(Net *n, Node x, Node y, const void *arg) {
    return prelu_of(n, nn_add(n, x, y), channels_of(n, x));
}
static Node bn_add_prelu(Net *n, Node x, Node y, const void *arg) {
    return prelu_of(n, nn_add(n, nn_bn(n, nn_max_pool(n, x, 3, 1, 1), "bn"), y), channels_of(n, x));
}
TEST(prelu_and_what_stands_before_it_equal_the_reference) {
    static const struct { const char *name; Build *build;
    } forms[] = {{"prelu", prelu},
                 {"prelu of one slope", prelu_one},
                 {"bn prelu", bn_prelu},
                 {"add prelu", add_prelu},
                 {"bn add prelu", bn_add_prelu}};
    for (int i = 0; i < (int)(sizeof forms / sizeof *forms); i++)
        for (int channels = 11; channels <= 16; channels += 5)
            compare(forms[i].name, forms[i].build, NULL, SHAPE(2, channels, 7, 9));
}
static Node window_mean(Net *n, Node x, Node y, const void *arg) {
    return net_add(n, &op_avg_pool, "mean", arg, sizeof(AvgPoolAttr), &x, 1, NULL, 0);
}
static Node resize_as(Net *n, Node x, Node y, const void *arg) {
    return net_add(n, &op_resize, "resize", arg, sizeof(ResizeAttr), &x, 1, NULL, 0);
}
static Node join_odd(Net *n, Node x, Node y, const void *arg) {
    return nn_concat(n, (Node[]){x, nn_conv(n, y, "thin", (Conv){.out = 3, .k = 1}), y}, 3);
}
TEST(other_windows_and_resizes_equal_the_reference) {
    static const AvgPoolAttr means[] = {{3, 3, 2, 2, 1, 1, 0, 0, false, true},
                                        {2, 3, 2, 1, 1, 0, 0, 1, true, false}};
    static const ResizeAttr sizes[] = {{.out_h = 14,
                                        .out_w = 20,
                                        .mode = RESIZE_NEAREST,
                                        .at = RESIZE_ASYMMETRIC,
                                        .round = ROUND_FLOOR},
                                       {.out_h = 5, .out_w = 21, .mode = RESIZE_CUBIC},
                                       {.out_h = 14, .out_w = 18, .step = {0.5, 0.5}}};
    for (int channels = 11; channels <= 16; channels += 5) {
        const Shape s = SHAPE(2, channels, 7, 9);
        for (int i = 0; i < 2; i++) compare("window mean", window_mean, &means[i], s);
        for (int i = 0; i < 3; i++) compare("resize", resize_as, &sizes[i], s);
        compare("concat of odd channels", join_odd, NULL, s);
    }
}
static Node fixed(Net *n, int64_t rows, int64_t columns, bool sparse) {
    float *v = arena_alloc(n->arena, (size_t)(rows * columns) * sizeof *v);
    for (int64_t i = 0; i < rows * columns; i++)
        v[i] = sparse && i / columns != i % columns * rows / columns ? 0
                                                                     : 0.1f * (float)(i % 7) - 0.3f;
    const ConstantAttr a = {SHAPE(rows, columns), v};
    return net_add(n, &op_constant, "matrix", &a, sizeof a, NULL, 0, NULL, 0);
}
static Node multiply(Net *n, Node a, Node b, MatmulAttr t) {
    return net_add(n, &op_matmul, "matmul", &t, sizeof t, (Node[]){a, b}, 2, NULL, 0);
}
static Node left(Net *n, Node x, Node y, const void *sparse) {
    return multiply(n, fixed(n, 13, net_shape(n, x).d[2], *(const bool *)sparse), x,
                    (MatmulAttr){false, false});
}
static Node right(Net *n, Node x, Node y, const void *sparse) {
    return multiply(n, x, fixed(n, net_shape(n, x).d[3], 25, *(const bool *)sparse),
                    (MatmulAttr){false, false});
}
static Node each(Net *n, Node x, Node y, const void *arg) {
    return multiply(n, x, y, (MatmulAttr){false, true});
}
static Node turned(Net *n, Node x, Node y, const void *arg) {
    return multiply(n, x, y, (MatmulAttr){true, false});
}
TEST(products_equal_the_reference) {
    static const bool is[] = {false, true};
    for (int i = 0; i < 2; i++) {
        compare(i ? "sparse on the left" : "matrix on the left", left, &is[i], SHAPE(2, 11, 9, 10));
        compare(i ? "sparse on the right" : "matrix on the right", right, &is[i],
                SHAPE(2, 11, 9, 10));
    }
    compare("product by the other turned", each, NULL, SHAPE(2, 3, 9, 10));
    compare("turned product", turned, NULL, SHAPE(2, 3, 9, 10));
}
/* ---- NaN -------------------------------------------------------------------------------------------------- */

static Node hard_sigmoid(Net *n, Node x, Node y, const void *arg) {
    return net_add(n, &op_unary, "gate", &(UnaryAttr){UNARY_HARD_SIGMOID, 0.2f, 0.5f},
                   sizeof(UnaryAttr), &x, 1, NULL, 0);
}
static Node hard_swish(Net *n, Node x, Node y, const void *arg) {
    return net_add(n, &op_unary, "gate", &(UnaryAttr){UNARY_HARD_SWISH, 0, 0}, sizeof(UnaryAttr),
                   &x, 1, NULL, 0);
}
static void expect_same_nan(const char *name, const Result *got, const Result *want) {
    int64_t n = 0;
    for (int64_t i = 0; i < want->n_out; i++) {
        n += isnan(want->out[i]) != 0;
        if (!isnan(got->out[i]) == !isnan(want->out[i])) continue;
        FAIL("%s: result %lld is %g, not %g", name, (long long)i, (double)got->out[i],
             (double)want->out[i]);
        return;
    }
    if (n < 1 || n >= want->n_out)
        FAIL("%s: %lld of %lld results are NaN", name, (long long)n, (long long)want->n_out);
}
/* Some values of x are NaN: what depends on them is NaN, as in PyTorch, so that the training sees it. */
static void compare_nan(const char *name, Build *build, const void *arg, unsigned mode) {
    const Shape s = SHAPE(2, 16, 9, 13);
    Case c = make(build, arg, s, mode);
    Arena *a = arena_open();
    Result want, got;
    for (int64_t i = 40; i < 9 * 13; i += 77) c.data[0][i] = NAN;
    EXPECT_OK(net_finish(c.net));
    EXPECT_OK(run(&c, BACKEND_REF, DT_F32, a, &want));
    for (int level = CPU_PLAIN; level <= (int)cpu_best(); level++)
        for (int half = 0; half <= (int)backend_has(DT_BF16); half++) {
            cpu_force((CpuLevel)level);
            EXPECT_OK(run(&c, BACKEND_CPU, half ? DT_BF16 : DT_F32, a, &got));
            expect_same_nan(arena_printf(a, "%s at %s%s", name, cpu_level_name((CpuLevel)level),
                                         half ? " in bfloat16" : ""),
                            &got, &want);
        }
    arena_close(a);
    net_close(c.net);
}
TEST(nan_stays_nan) {
    static const PoolAttr pool = {.k = 3, .stride = 2, .pad = 1};
    static const struct { const char *name; Build *build; const void *arg;
    } ops[] = {{"bn", bn, NULL},
               {"bn_relu", bn_relu, NULL},
               {"bn_relu6", bn_relu6, NULL},
               {"bn_add_relu", bn_add_relu, NULL},
               {"relu", relu, NULL},
               {"relu6", relu6, NULL},
               {"max_pool", max_pool, &pool},
               {"hard_sigmoid", hard_sigmoid, NULL},
               {"hard_swish", hard_swish, NULL}};
    for (int i = 0; i < (int)(sizeof ops / sizeof *ops); i++) {
        compare_nan(ops[i].name, ops[i].build, ops[i].arg, TRAINING);
        compare_nan(ops[i].name, ops[i].build, ops[i].arg, 0);
        compare_nan(ops[i].name, ops[i].build, ops[i].arg, INFERENCE);
    }
}
TEST_MAIN(T(conv2d_equals_the_reference), T(widely_dilated_conv2d_equals_the_reference),
          T(grouped_conv2d_equals_the_reference), T(each_way_of_conv2d_equals_the_reference),
          T(each_way_of_widely_dilated_conv2d_equals_the_reference),
          T(each_way_of_grouped_conv2d_equals_the_reference), T(batch_norm_equals_the_reference),
          T(elementwise_ops_equal_the_reference), T(pools_equal_the_reference),
          T(resize_equals_the_reference), T(folded_blocks_equal_the_reference),
          T(each_way_of_folded_blocks_equals_the_reference),
          T(prelu_and_what_stands_before_it_equal_the_reference),
          T(other_windows_and_resizes_equal_the_reference), T(products_equal_the_reference),
          T(nan_stays_nan))
