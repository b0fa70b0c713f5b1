/* Every op's values and gradients against torch in float64 (tools/golden_ops.py). */
#include "gradcheck.h"
#include "io/safetensors.h"

/* Results are float32: one rounding of sums of products below 10. */
static const double TOL = 1e-6;

static Tensor *part(const SafeFile *f, const char *name, const char *what, int i) {
    char path[128];
    snprintf(path, sizeof path, i < 0 ? "%s/%s" : "%s/%s%d", name, what, i);
    return tensor_find(f->tensors, path);
}
static void compare(const char *name, const char *what, int index, const float *got, double start, const Tensor *want) {
    for (int64_t i = 0; i < shape_count(want->shape) && test_failures < 5; i++) {
        const double w = ((const double *)want->data)[i], g = (double)got[i] - start;
        if (!(fabs(g - w) <= TOL * fmax(1, fabs(w))))
            FAIL("%s/%s%d[%lld] = %.9g, torch has %.9g", name, what, index, (long long)i, g, w);
    }
}
static const SafeFile *golden(void) {
    static SafeFile f;
    if (!f.tensors && st_read(SOURCE_DIR "/tests/golden/ops.safetensors", EXIT_MODEL, &f)) {
        FAIL("%s", err_text());
        exit(1);
    }
    return &f;
}
static int shapes_of(const SafeFile *f, const char *name, const char *what, Shape *out) {
    int n = 0;
    for (const Tensor *t; (t = part(f, name, what, n)); n++) out[n] = t->shape;
    out[n] = NONE;
    return n;
}
static void copy_floats(float *to, const Tensor *t) {
    EXPECT(t->dtype == DT_F32);
    memcpy(to, t->data, (size_t)shape_count(t->shape) * sizeof(float));
}
static void run_case(const char *name, const OpDef *op, const void *attr, bool training) {
    const SafeFile *f = golden();
    Shape src[NODE_SRC_MAX + 1], param[NODE_PARAM_MAX + 2];
    if (!shapes_of(f, name, "src", src)) FAIL("%s: no such case", name);
    int n_param = shapes_of(f, name, "param", param);
    if (op == &op_batch_norm) param[n_param] = (Shape){0}, param[n_param + 1] = NONE;     /* the count */
    OpCase c = case_open(op, attr, src, param);
    if (c.rc || !shape_equal(c.shape, part(f, name, "dst", -1)->shape)) {
        FAIL("%s: shape %s: %s", name, shape_text(c.shape).s, c.rc ? err_text() : "not torch's");
        return;
    }
    c.run.training = training;
    for (int i = 0; i < c.n_src; i++) copy_floats(c.src[i], part(f, name, "src", i));
    for (int i = 0; i < n_param; i++) copy_floats(c.param[i], part(f, name, "param", i));
    copy_floats(c.ddst, part(f, name, "ddst", -1));
    case_forward(&c);
    compare(name, "dst", 0, c.dst, 0, part(f, name, "dst", -1));
    case_backward(&c);
    for (int i = 0; i < c.n_src; i++) compare(name, "dsrc", i, c.dsrc[i], GRAD_START, part(f, name, "dsrc", i));
    for (int i = 0; i < n_param; i++)
        if (part(f, name, "dparam", i)) compare(name, "dparam", i, c.dparam[i], GRAD_START, part(f, name, "dparam", i));
    for (int i = 2; i < 4 && part(f, name, "after", i); i++) compare(name, "after", i, c.param[i], 0, part(f, name, "after", i));
    case_close(&c);
}
#define CONV(name, ...) run_case(name, &op_conv2d, &(ConvAttr){__VA_ARGS__}, true)
TEST(conv2d_equals_torch) {
    CONV("conv3", .out = 6, .kh = 3, .kw = 3, .pad = 1);
    CONV("conv3_s2", .out = 6, .kh = 3, .kw = 3, .pad = 1, .stride = 2);
    CONV("conv3_dilated", .out = 3, .kh = 3, .kw = 3, .pad = 2, .dilation = 2, .bias = true);
    CONV("conv1_bias", .out = 5, .kh = 1, .kw = 1, .bias = true);
    CONV("conv7_s2", .out = 3, .kh = 7, .kw = 7, .pad = 3, .stride = 2);
    CONV("conv3_depthwise_s2", .out = 4, .kh = 3, .kw = 3, .pad = 1, .stride = 2, .groups = 4);
    CONV("conv3_groups", .out = 6, .kh = 3, .kw = 3, .pad = 1, .groups = 2);
    CONV("conv3_wide", .out = 2, .kh = 3, .kw = 3, .pad = 1);
}
TEST(batch_norm_equals_torch) {
    run_case("bn_train", &op_batch_norm, &(BnAttr){0}, true);
    run_case("bn_eval", &op_batch_norm, &(BnAttr){0}, false);
    run_case("bn_eval", &op_batch_norm, &(BnAttr){.frozen = true}, true);
    run_case("bn_train_relu", &op_batch_norm, &(BnAttr){.act = ACT_RELU}, true);
    run_case("bn_train_residual_relu", &op_batch_norm, &(BnAttr){.act = ACT_RELU, .residual = true}, true);
    run_case("bn_eval_residual_relu6", &op_batch_norm, &(BnAttr){.act = ACT_RELU6, .residual = true}, false);
}
TEST(elementwise_equals_torch) {
    run_case("relu", &op_relu, &(ActAttr){ACT_RELU}, true);
    run_case("relu6", &op_relu, &(ActAttr){ACT_RELU6}, true);
    run_case("add", &op_add, NULL, true);
    run_case("concat", &op_concat, NULL, true);
}
TEST(pools_equal_torch) {
    run_case("max_pool", &op_max_pool, &(PoolAttr){.k = 3, .stride = 2, .pad = 1}, true);
    run_case("max_pool2", &op_max_pool, &(PoolAttr){.k = 2}, true);
    run_case("pool_1", &op_adaptive_avg_pool, &(AdaptiveAttr){1, 1}, true);
    run_case("pool_3x2", &op_adaptive_avg_pool, &(AdaptiveAttr){3, 2}, true);
    run_case("pool_6", &op_adaptive_avg_pool, &(AdaptiveAttr){6, 6}, true);
}
TEST(resize_equals_torch) {
    static const struct { const char *name; int h, w; } SIZES[] = {{"up", 11, 13}, {"down", 3, 2}, {"one", 1, 1}, {"from_one", 4, 3}};
    for (int i = 0; i < 4; i++)
        for (int align = 0; align < 2; align++) {
            char name[64];
            snprintf(name, sizeof name, "resize_%s%s", SIZES[i].name, align ? "_aligned" : "");
            run_case(name, &op_resize, &(ResizeAttr){.align_corners = align, .out_h = SIZES[i].h, .out_w = SIZES[i].w}, true);
        }
}
#define RESIZE(name, ...) run_case(name, &op_resize, &(ResizeAttr){__VA_ARGS__}, true)
TEST(other_resizes_equal_torch) {
    RESIZE("resize_nearest", .out_h = 7, .out_w = 9, .mode = RESIZE_NEAREST, .at = RESIZE_ASYMMETRIC, .round = ROUND_FLOOR);
    RESIZE("resize_nearest_down", .out_h = 3, .out_w = 2, .mode = RESIZE_NEAREST, .at = RESIZE_ASYMMETRIC, .round = ROUND_FLOOR);
    RESIZE("resize_nearest_exact", .out_h = 7, .out_w = 9, .mode = RESIZE_NEAREST, .round = ROUND_HALF_UP);
    RESIZE("resize_cubic", .out_h = 7, .out_w = 3, .mode = RESIZE_CUBIC);
    RESIZE("resize_cubic_aligned", .out_h = 7, .out_w = 3, .mode = RESIZE_CUBIC, .align_corners = true);
    RESIZE("resize_step", .out_h = 6, .out_w = 11, .step = {1 / 1.7, 1 / 2.3});
}
TEST(uneven_windows_equal_torch) {
    run_case("max_pool_3x2_ceil", &op_max_pool, &(PoolAttr){.k = 3, .kw = 2, .stride = 2, .extra = {1, 0, 1, 0}, .ceil = true}, true);
    CONV("conv_1x5", .out = 3, .kh = 1, .kw = 5, .extra = {0, 2, 0, 2});
    CONV("conv_asymmetric", .out = 3, .kh = 3, .kw = 3, .stride = 2, .extra = {2, 0, 1, 1}, .bias = true);
    run_case("avg_pool_padded", &op_avg_pool, &(AvgPoolAttr){3, 3, 2, 2, 1, 1, 0, 0, false, true}, true);
    run_case("avg_pool_bare", &op_avg_pool, &(AvgPoolAttr){2, 3, 2, 2, 1, 1, 0, 0, true, false}, true);
}
#define TRANSPOSED(name, ...) run_case(name, &op_conv_transpose, &(ConvTransposeAttr){.dilation = 1, .groups = 1, __VA_ARGS__}, true)
TEST(conv_transpose_equals_torch) {
    TRANSPOSED("transposed2", .out = 2, .kh = 2, .kw = 2, .stride = 2, .bias = true);
    TRANSPOSED("transposed3", .out = 2, .kh = 3, .kw = 3, .stride = 2, .pad = 1, .extra = {1, 1});
    run_case("transposed_groups", &op_conv_transpose,
             &(ConvTransposeAttr){.out = 6, .kh = 3, .kw = 3, .stride = 1, .pad = 2, .dilation = 2, .groups = 2}, true);
}
TEST(moving_elements_equals_torch) {
    run_case("slice", &op_slice, &(SliceAttr){{0, 1, 4, 0}, {1, 1, -2, 3}, SHAPE(2, 2, 3, 3)}, true);
    run_case("pad_constant", &op_pad, &(PadAttr){{0, 0, 0, 1}, {0, 0, 3, 2}, PAD_CONSTANT, 0.5f}, true);
    run_case("pad_negative", &op_pad, &(PadAttr){{0, 0, 1, -1}, {0, 0, -1, 2}, PAD_CONSTANT, 0}, true);
    run_case("pad_reflect", &op_pad, &(PadAttr){{0, 0, 1, 2}, {0, 0, 2, 1}, PAD_REFLECT, 0}, true);
    run_case("pad_edge", &op_pad, &(PadAttr){{0, 0, 1, 2}, {0, 0, 2, 1}, PAD_EDGE, 0}, true);
    run_case("expand", &op_expand, &(ExpandAttr){SHAPE(2, 3, 4, 5)}, true);
    run_case("transpose", &op_transpose, &(TransposeAttr){{2, 0, 3, 1}}, true);
    run_case("reshape", &op_reshape, &(ReshapeAttr){SHAPE(4, 15)}, true);
}
TEST(along_dimensions_equals_torch) {
    run_case("softmax1", &op_softmax, &(SoftmaxAttr){1, false}, true);
    run_case("softmax_last", &op_softmax, &(SoftmaxAttr){2, false}, true);
    run_case("log_softmax", &op_softmax, &(SoftmaxAttr){1, true}, true);
    run_case("reduce_sum", &op_reduce, &(ReduceAttr){REDUCE_SUM, 1 | 4}, true);
    run_case("reduce_mean", &op_reduce, &(ReduceAttr){REDUCE_MEAN, 4 | 8}, true);
    run_case("reduce_max", &op_reduce, &(ReduceAttr){REDUCE_MAX, 2}, true);
    run_case("reduce_min", &op_reduce, &(ReduceAttr){REDUCE_MIN, 1 | 2}, true);
    run_case("reduce_l2", &op_reduce, &(ReduceAttr){REDUCE_L2, 2}, true);
    run_case("layer_norm", &op_layer_norm, &(LayerNormAttr){1, 1e-5f}, true);
    run_case("layer_norm3", &op_layer_norm, &(LayerNormAttr){3, 1e-3f}, true);
    run_case("matmul", &op_matmul, &(MatmulAttr){false, false}, true);
    run_case("matmul_turned", &op_matmul, &(MatmulAttr){true, true}, true);
    run_case("prelu", &op_prelu, &(PreluAttr){.slopes = 3}, true);
    run_case("prelu_one", &op_prelu, &(PreluAttr){.slopes = 1}, true);
}
TEST(functions_equal_torch) {
    static const struct { const char *name; UnaryAttr a; } UNARY[] = {
        {"affine", {UNARY_AFFINE, 1.5f, -0.25f}}, {"clip", {UNARY_CLIP, -0.5f, 0.75f}}, {"leaky_relu", {UNARY_LEAKY_RELU, 0.1f, 0}},
        {"elu", {UNARY_ELU, 0.8f, 0}}, {"selu", {UNARY_SELU, 1.6732632423543772f, 1.0507009873554805f}}, {"sigmoid", {UNARY_SIGMOID, 0, 0}},
        {"hard_sigmoid", {UNARY_HARD_SIGMOID, 1.0f / 6, 0.5f}}, {"hard_swish", {UNARY_HARD_SWISH, 0, 0}}, {"silu", {UNARY_SILU, 1, 0}},
        {"tanh", {UNARY_TANH, 0, 0}}, {"erf", {UNARY_ERF, 0, 0}}, {"gelu", {UNARY_GELU, 0, 0}}, {"gelu_tanh", {UNARY_GELU_TANH, 0, 0}},
        {"softplus", {UNARY_SOFTPLUS, 0, 0}}, {"mish", {UNARY_MISH, 0, 0}}, {"exp", {UNARY_EXP, 0, 0}}, {"abs", {UNARY_ABS, 0, 0}},
        {"log", {UNARY_LOG, 0, 0}}, {"sqrt", {UNARY_SQRT, 0, 0}}, {"pow", {UNARY_POW, 1.7f, 0}}, {"reciprocal", {UNARY_RECIPROCAL, 0, 0}}};
    static const struct { const char *name; BinaryKind kind; } BINARY[] = {
        {"add", BINARY_ADD}, {"sub", BINARY_SUB}, {"mul", BINARY_MUL}, {"div", BINARY_DIV}, {"min", BINARY_MIN}, {"max", BINARY_MAX}, {"pow", BINARY_POW}};
    _Static_assert(sizeof UNARY / sizeof *UNARY == UNARY_KINDS && sizeof BINARY / sizeof *BINARY == BINARY_KINDS, "all kinds");
    char name[64];
    for (int i = 0; i < UNARY_KINDS; i++) {
        snprintf(name, sizeof name, "unary_%s", UNARY[i].name);
        run_case(name, &op_unary, &UNARY[i].a, true);
    }
    for (int i = 0; i < BINARY_KINDS; i++) {
        snprintf(name, sizeof name, "binary_%s", BINARY[i].name);
        run_case(name, &op_binary, &(BinaryAttr){BINARY[i].kind}, true);
    }
}
TEST_MAIN(T(conv2d_equals_torch), T(batch_norm_equals_torch), T(elementwise_equals_torch), T(pools_equal_torch),
          T(resize_equals_torch), T(other_resizes_equal_torch), T(uneven_windows_equal_torch), T(conv_transpose_equals_torch),
          T(moving_elements_equals_torch), T(along_dimensions_equals_torch), T(functions_equal_torch))
