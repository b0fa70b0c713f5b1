/* Every op: its shape rule, its gradient against central differences, its fused forms against the
 * composed ones. Values against PyTorch: test_ops_golden.c. */
#include "gradcheck.h"
#include "graph/ops/taps.h"

/* float32 results differenced over 2e-2 or 2e-3: rounding of about 1e-7 * sqrt(n) over the step. */
enum { LINEAR, KINKED };
static const double STEP[] = {1e-2, 1e-3}, TOL[] = {3e-4, 2e-3};
#define SHAPES(...) ((const Shape[]){__VA_ARGS__, NONE})
#define IMAGE SHAPE(2, 4, 7, 6)

static void expect_shape(const OpDef *op, const void *attr, const Shape *src, const Shape *param,
                         Shape want) {
    OpCase c = case_open(op, attr, src, param);
    if (c.rc) FAIL("%s: %s", op->name, err_text());
    else if (!shape_equal(c.shape, want))
        FAIL("%s: shape %s, expected %s", op->name, shape_text(c.shape).s, shape_text(want).s);
    case_close(&c);
}
static void expect_refused(const OpDef *op, const void *attr, const Shape *src, const Shape *param,
                           const char *why) {
    OpCase c = case_open(op, attr, src, param);
    EXPECT_INT(c.rc, E(4, 0));
    if (c.rc) EXPECT_HAS(err_text(), why);
    case_close(&c);
}
static void expect_gradient(const OpDef *op, const void *attr, const Shape *src, const Shape *param,
                            int n_trainable, int kind) {
    OpCase c = case_open(op, attr, src, param);
    gradcheck(&c, n_trainable, STEP[kind], TOL[kind]);
    case_close(&c);
}

/* ---- conv2d ---------------------------------------------------------------------------------------- */

static const ConvAttr PLAIN3 = {
    .out = 6, .kh = 3, .kw = 3, .stride = 1, .pad = 1, .dilation = 1, .groups = 1};
TEST(conv2d_shapes) {
    ConvAttr a = PLAIN3;
    const Shape *w = SHAPES(SHAPE(6, 4, 3, 3));
    expect_shape(&op_conv2d, &a, SHAPES(IMAGE), w, SHAPE(2, 6, 7, 6));
    a.stride = 2;
    expect_shape(&op_conv2d, &a, SHAPES(IMAGE), w, SHAPE(2, 6, 4, 3));
    a.stride = 1, a.dilation = 2;
    expect_shape(&op_conv2d, &a, SHAPES(IMAGE), w, SHAPE(2, 6, 5, 4));
    a.dilation = 12, a.pad = 12;
    expect_shape(&op_conv2d, &a, SHAPES(IMAGE), w, SHAPE(2, 6, 7, 6));
}
TEST(conv2d_refuses_wrong_shapes) {
    ConvAttr a = PLAIN3;
    expect_refused(&op_conv2d, &a, SHAPES(SHAPE(2, 4)), SHAPES(SHAPE(6, 4, 3, 3)), "N x C x H x W");
    expect_refused(&op_conv2d, &a, SHAPES(IMAGE), SHAPES(SHAPE(6, 5, 3, 3)), "6x5x3x3");
    a.groups = 3;
    expect_refused(&op_conv2d, &a, SHAPES(IMAGE), SHAPES(SHAPE(6, 4, 3, 3)), "groups");
    a = PLAIN3, a.dilation = 5;
    expect_refused(&op_conv2d, &a, SHAPES(IMAGE), SHAPES(SHAPE(6, 4, 3, 3)), "kernel larger");
}
TEST(conv2d_gradient) {
    ConvAttr a = PLAIN3;
    expect_gradient(&op_conv2d, &a, SHAPES(IMAGE), SHAPES(SHAPE(6, 4, 3, 3)), 1, LINEAR);
    a.stride = 2, a.bias = true;
    expect_gradient(&op_conv2d, &a, SHAPES(IMAGE), SHAPES(SHAPE(6, 4, 3, 3), SHAPE(6)), 2, LINEAR);
    a.stride = 1, a.dilation = 3, a.pad = 3;
    expect_gradient(&op_conv2d, &a, SHAPES(IMAGE), SHAPES(SHAPE(6, 4, 3, 3), SHAPE(6)), 2, LINEAR);
}
TEST(conv2d_gradient_of_groups) {
    ConvAttr a = PLAIN3;
    a.groups = 2, a.stride = 2;
    expect_gradient(&op_conv2d, &a, SHAPES(IMAGE), SHAPES(SHAPE(6, 2, 3, 3)), 1, LINEAR);
    a.out = a.groups = 4, a.stride = 1, a.dilation = a.pad = 2;          /* depthwise */
    expect_gradient(&op_conv2d, &a, SHAPES(IMAGE), SHAPES(SHAPE(4, 1, 3, 3)), 1, LINEAR);
}
TEST(conv2d_gradient_of_a_wide_row) {                    /* more than one block of columns */
    ConvAttr a = {.out = 1, .kh = 3, .kw = 3, .stride = 2, .pad = 1};
    expect_gradient(&op_conv2d, &a, SHAPES(SHAPE(1, 1, 2, 150)), SHAPES(SHAPE(1, 1, 3, 3)), 1,
                    LINEAR);
}
/* TensorFlow's padding: 7 x 6 at stride 2 gets 1 + 1 rows and 0 + 1 columns; the same by hand, without. */
TEST(conv2d_same_equals_explicit_zeros) {
    const ConvAttr same = {.out = 2, .kh = 3, .kw = 3, .stride = 2, .same = true, .groups = 2},
                   bare = {.out = 2, .kh = 3, .kw = 3, .stride = 2, .groups = 2};
    const Shape *w = SHAPES(SHAPE(2, 1, 3, 3));
    OpCase a = case_open(&op_conv2d, &same, SHAPES(SHAPE(1, 2, 7, 6)), w),
           b = case_open(&op_conv2d, &bare, SHAPES(SHAPE(1, 2, 9, 7)), w);
    memset(b.src[0], 0, 126 * sizeof(float));
    for (int i = 0; i < 84; i++)
        ((float *)b.src[0])[i / 42 * 63 + (i % 42 / 6 + 1) * 7 + i % 6] = ((float *)a.src[0])[i];
    case_forward(&a), case_forward(&b);
    EXPECT(shape_equal(a.shape, SHAPE(1, 2, 4, 3)) && shape_equal(b.shape, a.shape));
    EXPECT(!memcmp(a.dst, b.dst, (size_t)shape_count(a.shape) * sizeof(float)));
    case_close(&a), case_close(&b);
    ConvAttr wide = {.out = 4, .kh = 5, .kw = 5, .stride = 2, .same = true, .groups = 4};
    expect_shape(&op_conv2d, &wide, SHAPES(SHAPE(1, 4, 90, 45)), SHAPES(SHAPE(4, 1, 5, 5)),
                 SHAPE(1, 4, 45, 23));
    expect_gradient(&op_conv2d, &wide, SHAPES(IMAGE), SHAPES(SHAPE(4, 1, 5, 5)), 1, LINEAR);
    wide.stride = 1, wide.dilation = 2;
    expect_shape(&op_conv2d, &wide, SHAPES(IMAGE), SHAPES(SHAPE(4, 1, 5, 5)), IMAGE);
    expect_gradient(&op_conv2d, &wide, SHAPES(IMAGE), SHAPES(SHAPE(4, 1, 5, 5)), 1, LINEAR);
}
/* dst = act(bn(conv) + residual) in one op against conv2d, batch_norm, add, relu one after the other. */
static void composed_equals_fused(bool bias, bool residual, Act act) {
    ConvAttr a = PLAIN3;
    a.bias = bias, a.bn = true, a.residual = residual, a.act = act, a.eps = 1e-5f;
    Shape param[7] = {SHAPE(6, 4, 3, 3)}, src[3] = {IMAGE, NONE, NONE};
    int n = 1;
    for (int i = 0; i < 4 + bias; i++) param[n++] = SHAPE(6);
    param[n] = NONE;
    if (residual) src[1] = SHAPE(2, 6, 7, 6);
    OpCase f = case_open(&op_conv2d, &a, src, param);
    if (f.rc) { FAIL("%s", err_text()); return; }
    for (int i = 0; i < 6; i++) f.param[n - 1][i] = fabsf(f.param[n - 1][i]) + 0.1f;     /* a variance */
    case_forward(&f);
    ConvAttr bare = PLAIN3;
    bare.bias = bias;
    OpCase conv = case_open(&op_conv2d, &bare, SHAPES(IMAGE),
                            bias ? SHAPES(param[0], param[1]) : SHAPES(param[0]));
    case_forward(&conv);
    OpCase bn = case_open(&op_batch_norm, &(BnAttr){.residual = residual, .act = act},
                          residual ? SHAPES(f.shape, f.shape) : SHAPES(f.shape),
                          SHAPES(SHAPE(6), SHAPE(6), SHAPE(6), SHAPE(6), (Shape){0}));
    bn.run.training = false;
    bn.src[0] = conv.dst, bn.src[1] = f.src[1];
    for (int i = 0; i < 4; i++) bn.param[i] = f.param[1 + bias + i];
    case_forward(&bn);
    for (int64_t i = 0; i < shape_count(f.shape); i++) EXPECT_NEAR(f.dst[i], bn.dst[i], 1e-6);   /* one rounding between */
    case_close(&f), case_close(&conv), case_close(&bn);
}
TEST(conv2d_fused_equals_composed) {
    composed_equals_fused(false, false, ACT_NONE);
    composed_equals_fused(false, false, ACT_RELU6);
    composed_equals_fused(true, true, ACT_RELU);
    composed_equals_fused(false, true, ACT_NONE);
}

/* ---- batch_norm ------------------------------------------------------------------------------------ */

#define BN_SHAPES(c) SHAPES(SHAPE(c), SHAPE(c), SHAPE(c), SHAPE(c), (Shape){0})
static OpCase bn_case(const BnAttr *a, Shape x, bool training) {
    OpCase c =
        case_open(&op_batch_norm, a, a->residual ? SHAPES(x, x) : SHAPES(x), BN_SHAPES(x.d[1]));
    for (int64_t i = 0; i < x.d[1]; i++) c.param[3][i] = fabsf(c.param[3][i]) + 0.2f;
    c.run.training = training;
    return c;
}
TEST(batch_norm_gradient) {
    for (int mode = 0; mode < 3; mode++) {               /* training, evaluating, frozen in training */
        const BnAttr a = {.frozen = mode == 2};
        OpCase c = bn_case(&a, IMAGE, mode != 1);
        gradcheck(&c, 2, 5e-3, 1e-3);
        case_close(&c);
    }
}
TEST(batch_norm_gradient_with_residual_and_relu) {
    for (int act = ACT_NONE; act <= ACT_RELU6; act++) {
        const BnAttr a = {.residual = true, .act = (Act)act};
        OpCase c = bn_case(&a, SHAPE(2, 3, 4, 3), true);
        gradcheck(&c, 2, 2e-4, 5e-3);                    /* small steps: one value moves all of its channel over the kinks */
        case_close(&c);
    }
}
TEST(batch_norm_moves_its_running_statistics) {
    const BnAttr a = {0};
    OpCase c = bn_case(&a, SHAPE(2, 1, 1, 2), true);
    memcpy(c.src[0], (float[]){1, 2, 3, 6}, 4 * sizeof(float));
    c.param[2][0] = 1, c.param[3][0] = 2;
    case_forward(&c);
    EXPECT_NEAR(c.param[2][0], 0.9 * 1 + 0.1 * 3, 1e-7);
    EXPECT_NEAR(c.param[3][0], 0.9 * 2 + 0.1 * 14.0 / 3, 1e-7);
    EXPECT_INT(c.count, 1);
    case_close(&c);
}
TEST(batch_norm_of_one_value_gives_its_bias) {
    const BnAttr a = {0};
    OpCase c = bn_case(&a, SHAPE(1, 3, 1, 1), true);
    const float var = c.param[3][1];
    case_forward(&c);
    case_backward(&c);
    for (int i = 0; i < 3; i++) {
        EXPECT(c.dst[i] == c.param[1][i]);
        EXPECT_NEAR(c.dsrc[0][i] - GRAD_START, 0, 1e-6);
    }
    EXPECT(c.param[3][1] == var);
    EXPECT_INT(c.count, 1);
    case_close(&c);
}
TEST(batch_norm_evaluates_without_moving) {
    for (int mode = 0; mode < 2; mode++) {
        const BnAttr a = {.frozen = mode};
        OpCase c = bn_case(&a, IMAGE, mode);
        const float mean = c.param[2][1], var = c.param[3][1];
        case_forward(&c);
        EXPECT(c.param[2][1] == mean && c.param[3][1] == var && c.count == 0);
        const int64_t i = 42;                            /* channel 1 of sample 0 */
        EXPECT_NEAR(c.dst[i],
                    (((float *)c.src[0])[i] - mean) / sqrt(var + 1e-5) * c.param[0][1] +
                        c.param[1][1],
                    1e-6);
        case_close(&c);
    }
}
TEST(batch_norm_refuses_wrong_shapes) {
    expect_refused(&op_batch_norm, &(BnAttr){0}, SHAPES(SHAPE(5)), BN_SHAPES(5), "no channels");
    expect_refused(&op_batch_norm, &(BnAttr){0}, SHAPES(IMAGE), BN_SHAPES(5), "parameter");
    expect_refused(&op_batch_norm, &(BnAttr){.residual = true}, SHAPES(IMAGE, SHAPE(2, 4, 7, 5)),
                   BN_SHAPES(4), "residual");
}

/* ---- elementwise and scalars ------------------------------------------------------------------------ */

TEST(relu_gradient) {
    expect_gradient(&op_relu, &(ActAttr){ACT_RELU}, SHAPES(SHAPE(2, 3, 5)), NULL, 0, KINKED);
    OpCase c = case_open(&op_relu, &(ActAttr){ACT_RELU6}, SHAPES(SHAPE(3, 30)), NULL);
    for (int i = 0; i < 90; i++) ((float *)c.src[0])[i] *= 9;
    gradcheck(&c, 0, STEP[KINKED], TOL[KINKED]);
    case_close(&c);
}
TEST(relu_passes_nothing_on_its_edges) {
    OpCase c = case_open(&op_relu, &(ActAttr){ACT_RELU6}, SHAPES(SHAPE(4)), NULL);
    memcpy(c.src[0], (float[]){0, 6, -1, 3}, 4 * sizeof(float));
    case_forward(&c);
    case_backward(&c);
    for (int i = 0; i < 3; i++) EXPECT_NEAR(c.dsrc[0][i], GRAD_START, 0);
    EXPECT_NEAR(c.dsrc[0][3], GRAD_START + c.ddst[3], 1e-7);
    case_close(&c);
}
TEST(relu_keeps_nan) {
    OpCase c = case_open(&op_relu, &(ActAttr){ACT_RELU}, SHAPES(SHAPE(1)), NULL);
    ((float *)c.src[0])[0] = NAN;
    case_forward(&c);
    EXPECT(isnan(c.dst[0]));
    case_close(&c);
}
TEST(add_gradient) {
    expect_gradient(&op_add, NULL, SHAPES(IMAGE, IMAGE), NULL, 0, LINEAR);
    expect_refused(&op_add, NULL, SHAPES(IMAGE, SHAPE(2, 4, 6, 7)), NULL, "2x4x6x7");
}
TEST(concat_gradient) {
    expect_shape(&op_concat, NULL, SHAPES(IMAGE, SHAPE(2, 1, 7, 6), IMAGE), NULL,
                 SHAPE(2, 9, 7, 6));
    expect_gradient(&op_concat, NULL,
                    SHAPES(SHAPE(2, 2, 3, 2), SHAPE(2, 1, 3, 2), SHAPE(2, 3, 3, 2)), NULL, 0,
                    LINEAR);
    expect_refused(&op_concat, NULL, SHAPES(IMAGE, SHAPE(2, 4, 7, 7)), NULL, "differ");
}
TEST(gather_channels_gradient) {
    static const int order[] = {2, 0, 2, 3, 1}, outside[] = {0, 4};
    expect_shape(&op_gather_channels, &(GatherAttr){5, order}, SHAPES(IMAGE), NULL,
                 SHAPE(2, 5, 7, 6));
    expect_gradient(&op_gather_channels, &(GatherAttr){5, order}, SHAPES(IMAGE), NULL, 0, LINEAR);
    expect_gradient(&op_gather_channels, &(GatherAttr){2, order}, SHAPES(SHAPE(3, 4)), NULL, 0,
                    LINEAR);
    expect_refused(&op_gather_channels, &(GatherAttr){2, outside}, SHAPES(IMAGE), NULL,
                   "channel 4 of 2x4x7x6");
    expect_refused(&op_gather_channels, &(GatherAttr){0, order}, SHAPES(IMAGE), NULL, "0 channels");
}
TEST(gather_channels_takes_what_is_named) {
    static const int order[] = {3, 0};
    OpCase c = case_open(&op_gather_channels, &(GatherAttr){2, order}, SHAPES(IMAGE), NULL);
    const float *src = c.src[0];
    case_forward(&c);
    for (int n = 0; n < 2; n++)
        for (int k = 0; k < 2; k++)
            EXPECT(!memcmp(c.dst + (n * 2 + k) * 42, src + (n * 4 + order[k]) * 42,
                           42 * sizeof(float)));
    case_close(&c);
}
TEST(gate_gradient) {
    expect_shape(&op_gate, NULL, SHAPES(IMAGE, SHAPE(2, 4, 1, 1)), NULL, IMAGE);
    expect_gradient(&op_gate, NULL, SHAPES(IMAGE, SHAPE(2, 4, 1, 1)), NULL, 0, LINEAR);
    expect_refused(&op_gate, NULL, SHAPES(IMAGE, SHAPE(2, 3, 1, 1)), NULL, "2x3x1x1");
    expect_refused(&op_gate, NULL, SHAPES(IMAGE, IMAGE), NULL, "one value");
}
TEST(gate_of_zero_halves) {
    OpCase c = case_open(&op_gate, NULL, SHAPES(IMAGE, SHAPE(2, 4, 1, 1)), NULL);
    ((float *)c.src[1])[3] = 0, ((float *)c.src[1])[4] = -200;
    case_forward(&c);
    for (int i = 3 * 42; i < 4 * 42; i++) EXPECT(c.dst[i] == ((float *)c.src[0])[i] / 2);
    for (int i = 4 * 42; i < 5 * 42; i++) EXPECT_NEAR(c.dst[i], 0, 1e-30);
    case_close(&c);
}
TEST(weighted_sum_gradient) {
    const WeightedSumAttr a = {.n = 3, .weight = {1, 0.4f, -2}};
    expect_gradient(&op_weighted_sum, &a, SHAPES((Shape){0}, (Shape){0}, (Shape){0}), NULL, 0,
                    LINEAR);
    expect_refused(&op_weighted_sum, &a, SHAPES((Shape){0}, SHAPE(2), (Shape){0}), NULL, "scalar");
}

/* ---- pools and resize -------------------------------------------------------------------------------- */

TEST(max_pool_gradient) {
    const PoolAttr a = {.k = 3, .stride = 2, .pad = 1};
    expect_shape(&op_max_pool, &a, SHAPES(SHAPE(1, 1, 360, 480)), NULL, SHAPE(1, 1, 180, 240));
    expect_shape(&op_max_pool, &(PoolAttr){.k = 2}, SHAPES(SHAPE(1, 1, 7, 6)), NULL,
                 SHAPE(1, 1, 3, 3));
    expect_gradient(&op_max_pool, &a, SHAPES(SHAPE(2, 2, 5, 7)), NULL, 0, KINKED);
    expect_refused(&op_max_pool, &(PoolAttr){.k = 3, .stride = 2, .pad = 2}, SHAPES(IMAGE), NULL,
                   "padding");
    expect_refused(&op_max_pool, &(PoolAttr){.k = 9, .stride = 1, .pad = 0}, SHAPES(IMAGE), NULL,
                   "larger");
}
TEST(max_pool_takes_the_first_of_equals) {
    OpCase c = case_open(&op_max_pool, &(PoolAttr){.k = 2}, SHAPES(SHAPE(1, 1, 2, 2)), NULL);
    memcpy(c.src[0], (float[]){1, 5, 5, 5}, 4 * sizeof(float));
    case_forward(&c);
    EXPECT_INT(*(int32_t *)c.saved, 1);
    case_close(&c);
}
TEST(adaptive_avg_pool_gradient) {
    expect_gradient(&op_adaptive_avg_pool, &(AdaptiveAttr){1, 1}, SHAPES(SHAPE(2, 2, 5, 7)), NULL,
                    0, LINEAR);
    expect_gradient(&op_adaptive_avg_pool, &(AdaptiveAttr){3, 2}, SHAPES(SHAPE(2, 2, 5, 7)), NULL,
                    0, LINEAR);
    expect_gradient(&op_adaptive_avg_pool, &(AdaptiveAttr){6, 6}, SHAPES(SHAPE(1, 2, 4, 5)), NULL,
                    0, LINEAR);
    expect_shape(&op_adaptive_avg_pool, &(AdaptiveAttr){3, 20}, SHAPES(IMAGE), NULL,
                 SHAPE(2, 4, 3, 20));
    expect_refused(&op_adaptive_avg_pool, &(AdaptiveAttr){0, 2}, SHAPES(IMAGE), NULL, "0x2");
    expect_refused(&op_adaptive_avg_pool, &(AdaptiveAttr){1, 1}, SHAPES(SHAPE(2, 4)), NULL,
                   "N x C x H x W");
}
TEST(resize_gradient) {
    for (int align = 0; align < 2; align++) {
        const ResizeAttr a = {.align_corners = align, .out_h = 9, .out_w = 4};
        expect_gradient(&op_resize, &a, SHAPES(SHAPE(2, 2, 5, 7)), NULL, 0, LINEAR);
        expect_gradient(&op_resize, &a, SHAPES(SHAPE(1, 2, 1, 1), IMAGE), NULL, 0, LINEAR);
    }
    expect_shape(&op_resize, &(ResizeAttr){0}, SHAPES(SHAPE(2, 3, 1, 1), IMAGE), NULL,
                 SHAPE(2, 3, 7, 6));
    expect_refused(&op_resize, &(ResizeAttr){0}, SHAPES(IMAGE), NULL, "0x0");
    expect_refused(&op_resize, &(ResizeAttr){0}, SHAPES(IMAGE, SHAPE(3)), NULL, "no sides");
    expect_refused(&op_resize, &(ResizeAttr){.out_h = 2, .out_w = 2}, SHAPES(SHAPE(2, 4, 3)), NULL,
                   "N x C x H x W");
}
/* As ONNX Runtime 1.32 says: positions near an edge or a half, where the last bit of float32 decides. */
TEST(nearest_pixels_are_those_of_onnx_runtime) {
    static const struct { int in, out; float scale; ResizeAt at; ResizeRound round; int want[13];
    } cases[] = {
        {65, 5, 0, RESIZE_ASYMMETRIC, ROUND_FLOOR, {0, 12, 25, 39, 51}},
        {45, 12, 0, RESIZE_ASYMMETRIC, ROUND_HALF_UP, {0, 4, 8, 11, 15, 19, 22, 26, 30, 34, 37, 41}},
        {21, 6, 0.3f, RESIZE_HALF, ROUND_HALF_UP, {1, 5, 8, 11, 15, 18}},
        {45, 7, 1.0f / 6, RESIZE_HALF, ROUND_HALF_UP, {3, 9, 15, 21, 27, 33, 39}},
        {65, 13, 0.2f, RESIZE_HALF, ROUND_FLOOR, {2, 7, 12, 17, 22, 27, 32, 37, 42, 47, 52, 57, 62}},
        {16, 11, 0.7f, RESIZE_ASYMMETRIC, ROUND_CEIL, {0, 2, 3, 5, 6, 8, 9, 10, 12, 13, 15}},
        {16, 11, 0.7f, RESIZE_HALF_OR_ZERO, ROUND_HALF_DOWN, {0, 2, 3, 4, 6, 7, 9, 10, 12, 13, 14}},
        {8, 4, 0, RESIZE_HALF, ROUND_HALF_DOWN, {0, 2, 4, 6}},
        {8, 4, 0, RESIZE_HALF, ROUND_HALF_UP, {1, 3, 5, 7}},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const double step = cases[k].scale > 0 ? 1 / (double)cases[k].scale : 0;
        const ResizeAttr a = {.mode = RESIZE_NEAREST,
                              .at = cases[k].at,
                              .round = cases[k].round,
                              .step = {step, step}};
        for (int i = 0; i < cases[k].out; i++)
            EXPECT_INT(resize_tap(&a, 1, i, cases[k].in, cases[k].out).at[0], cases[k].want[i]);
    }
}
TEST(resize_to_the_same_size_changes_nothing) {
    for (int align = 0; align < 2; align++) {
        OpCase c = case_open(&op_resize, &(ResizeAttr){.align_corners = align},
                             SHAPES(IMAGE, IMAGE), NULL);
        case_forward(&c);
        EXPECT(!memcmp(c.dst, c.src[0], (size_t)shape_count(c.shape) * sizeof(float)));
        case_close(&c);
    }
}

/* ---- dropout and normalize ---------------------------------------------------------------------------- */

TEST(dropout_gradient) {
    expect_gradient(&op_dropout, &(DropoutAttr){0.4f}, SHAPES(SHAPE(3, 5, 4, 2)), NULL, 0, LINEAR);
    expect_refused(&op_dropout, &(DropoutAttr){1}, SHAPES(IMAGE), NULL, "probability 1");
    expect_refused(&op_dropout, &(DropoutAttr){0.5f}, SHAPES((Shape){0}), NULL, "no batch");
}
TEST(dropout_keeps_its_share_and_its_mean) {
    OpCase c = case_open(&op_dropout, &(DropoutAttr){0.3f}, SHAPES(SHAPE(2, 50, 50, 20)), NULL);
    const int64_t n = shape_count(c.shape);
    for (int64_t i = 0; i < n; i++) ((float *)c.src[0])[i] = 1;
    case_forward(&c);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += c.dst[i];
        if (c.dst[i] != 0) EXPECT_NEAR(c.dst[i], 1 / 0.7, 1e-6);
    }
    EXPECT_NEAR(sum / (double)n, 1, 0.01);               /* 100,000 draws: five deviations */
    case_close(&c);
}
TEST(dropout_depends_on_the_sample_not_on_the_batch) {
    OpCase whole = case_open(&op_dropout, &(DropoutAttr){0.5f}, SHAPES(SHAPE(4, 3, 5, 5)), NULL);
    OpCase half = case_open(&op_dropout, &(DropoutAttr){0.5f}, SHAPES(SHAPE(2, 3, 5, 5)), NULL);
    whole.run.first_sample = 8, half.run.first_sample = 10;
    half.src[0] = (float *)whole.src[0] + 2 * 75;
    case_forward(&whole);
    case_forward(&half);
    EXPECT(!memcmp(half.dst, whole.dst + 2 * 75, 150 * sizeof(float)));
    EXPECT(memcmp(whole.dst, whole.dst + 75, 75 * sizeof(float)));
    case_close(&whole), case_close(&half);
}
TEST(dropout_does_nothing_when_evaluating) {
    OpCase c = case_open(&op_dropout, &(DropoutAttr){0.5f}, SHAPES(IMAGE), NULL);
    c.run.training = false;
    case_forward(&c);
    EXPECT(!memcmp(c.dst, c.src[0], (size_t)shape_count(c.shape) * sizeof(float)));
    case_close(&c);
}
TEST(normalize_orders_scales_and_blanks) {
    const NormalizeAttr a = {.mean = {10, 20, 30}, .inv_std = {0.5f, 0.25f, 2}, .bgr = true};
    OpCase c = {.op = &op_normalize, .attr = &a, .n_src = 2, .src_type = {DT_U8, DT_I32},
                .src_shape = {SHAPE(1, 2, 3, 3), SHAPE(1, 4)}, .run = {0}};
    float dst[18];
    uint8_t px[18] = {100, 110, 120, 1, 2, 3};
    int32_t rect[4] = {0, 0, 2, 1};                      /* two pixels of the first row */
    const OpSite site = case_site(&c);
    EXPECT_OK(op_normalize.infer(&site, &c.shape));
    EXPECT(shape_equal(c.shape, SHAPE(1, 3, 2, 3)));
    c.dst = dst, c.src[0] = px, c.src[1] = rect;
    case_forward(&c);
    EXPECT_NEAR(dst[0], (120 - 10) * 0.5, 0);
    EXPECT_NEAR(dst[6], (110 - 20) * 0.25, 0);
    EXPECT_NEAR(dst[13], (1 - 30) * 2.0, 0);
    EXPECT(dst[2] == 0 && dst[3] == 0 && dst[17] == 0);
}
TEST(normalize_refuses_wrong_images) {
    expect_refused(&op_normalize, &(NormalizeAttr){0}, SHAPES(SHAPE(1, 2, 3, 3), SHAPE(1, 4)), NULL,
                   "must be u8");
    OpSite site = {.attr = &(NormalizeAttr){0},
                   .n_src = 2,
                   .src = SHAPES(SHAPE(2, 5, 5, 3), SHAPE(1, 4)),
                   .src_dtype = (Dtype[]){DT_U8, DT_I32}};
    Shape dst;
    EXPECT_ERR(op_normalize.infer(&site, &dst), E(4, 0));
    EXPECT_HAS(err_text(), "rectangles of shape 1x4");
}
/* Halves go to the even number; what 8 bits cannot hold goes to their end. */
TEST(quantize_rounds_and_saturates) {
    static const float FROM[6] = {0.25f, 0.75f, -0.25f, 200, -100, 0.6f},
                       TO[6] = {0, 1, 0, 122.5f, -5, 0.5f};
    OpCase c =
        case_open(&op_quantize, &(QuantizeAttr){.scale = 0.5f, .zero = 10, .lo = 0, .hi = 255},
                  SHAPES(SHAPE(2, 3)), NULL);
    memcpy((void *)(uintptr_t)c.src[0], FROM, sizeof FROM);
    case_forward(&c);
    for (int i = 0; i < 6; i++) EXPECT_NEAR(c.dst[i], TO[i], 0);
    case_close(&c);
    expect_refused(&op_quantize, &(QuantizeAttr){.scale = 0, .hi = 255}, SHAPES(IMAGE), NULL,
                   "scale 0");
    expect_refused(&op_quantize, &(QuantizeAttr){.scale = 1, .zero = 300, .hi = 255}, SHAPES(IMAGE),
                   NULL, "zero point 300");
}
TEST(every_op_is_found_by_its_name) {
    EXPECT(op_find("conv2d") == &op_conv2d && op_find("input") == &op_input &&
           op_find("normalize") == &op_normalize);
    EXPECT(!op_find("conv3d"));
}
TEST_MAIN(T(conv2d_shapes), T(conv2d_refuses_wrong_shapes), T(conv2d_gradient),
          T(conv2d_gradient_of_groups), T(conv2d_gradient_of_a_wide_row),
          T(conv2d_same_equals_explicit_zeros), T(gather_channels_gradient),
          T(gather_channels_takes_what_is_named), T(gate_gradient), T(gate_of_zero_halves),
          T(conv2d_fused_equals_composed), T(batch_norm_gradient),
          T(batch_norm_gradient_with_residual_and_relu), T(batch_norm_moves_its_running_statistics),
          T(batch_norm_of_one_value_gives_its_bias), T(batch_norm_evaluates_without_moving),
          T(batch_norm_refuses_wrong_shapes), T(relu_gradient), T(relu_passes_nothing_on_its_edges),
          T(relu_keeps_nan), T(add_gradient), T(concat_gradient), T(weighted_sum_gradient),
          T(max_pool_gradient), T(max_pool_takes_the_first_of_equals),
          T(adaptive_avg_pool_gradient), T(resize_gradient),
          T(nearest_pixels_are_those_of_onnx_runtime),
          T(resize_to_the_same_size_changes_nothing), T(dropout_gradient),
          T(dropout_keeps_its_share_and_its_mean),
          T(dropout_depends_on_the_sample_not_on_the_batch),
          T(dropout_does_nothing_when_evaluating), T(normalize_orders_scales_and_blanks),
          T(normalize_refuses_wrong_images), T(quantize_rounds_and_saturates),
          T(every_op_is_found_by_its_name))
