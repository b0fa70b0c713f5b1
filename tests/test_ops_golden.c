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
    run_case("max_pool", &op_max_pool, &(PoolAttr){3, 2, 1}, true);
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
            run_case(name, &op_resize, &(ResizeAttr){align, SIZES[i].h, SIZES[i].w}, true);
        }
}
TEST_MAIN(T(conv2d_equals_torch), T(batch_norm_equals_torch), T(elementwise_equals_torch), T(pools_equal_torch),
          T(resize_equals_torch))
