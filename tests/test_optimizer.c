/* test_optimizer.c - optimisers, schedules, clipping, groups and averages beside PyTorch's
 * (tools/golden_train.py), and the stages of the task loss.
 *
 * The goldens are torch's float64 arithmetic over float32 gradients; ours is float32, twelve steps
 * deep: a few units in the last place of numbers about 1, hence 2e-6. */
#include "base/parallel.h"
#include "io/safetensors.h"
#include "test.h"
#include "train/trainer_priv.h"

enum { STEPS = 12 };
static const double TOLERANCE = 2e-6;
static const struct {
    const char *name;
    ParamKind kind;
    int64_t d0, d1;
} params[] = {
    {"stem.weight", PARAM_WEIGHT, 4, 3},   {"stem.bias", PARAM_BIAS, 4, 0},
    {"bn.weight", PARAM_BN_WEIGHT, 4, 0},  {"bn.bias", PARAM_BN_BIAS, 4, 0},
    {"bn.running_mean", PARAM_MEAN, 4, 0}, {"bn.running_var", PARAM_VAR, 4, 0},
    {"head.weight", PARAM_WEIGHT, 2, 4},   {"head.bias", PARAM_BIAS, 2, 0},
};
enum { N_PARAMS = sizeof params / sizeof *params };

static Config *config(const char *args) {
    char text[1024], *word[32], *rest = text, *item;
    int n = 0;
    Config *c;
    snprintf(text, sizeof text, "train.steps=12 %s", args);
    while (n < 32 && (item = strtok_r(rest, " ", &rest))) {
        for (char *p = item; *p; p++)
            if (*p == '~') *p = ' ';
        word[n++] = item;
    }
    if (config_read("train", NULL, word, n, &c)) FAIL("%s: %s", args, err_text()), exit(1);
    return c;
}
static Net *open_net(void) {
    Net *n = net_open("test");
    for (int i = 0; i < N_PARAMS; i++)
        net_param(n, params[i].name, params[i].kind,
                  params[i].d1 ? SHAPE(params[i].d0, params[i].d1) : SHAPE(params[i].d0), 1, 1);
    CHECK(!net_finish(n));
    return n;
}

/* ---- beside PyTorch ------------------------------------------------------------------------- */
static const Tensor *golden(const SafeFile *f, const char *group, const char *name) {
    char key[96];
    snprintf(key, sizeof key, "%s/%s", group, name);
    const Tensor *t = tensor_find(f->tensors, key);
    if (!t) FAIL("%s is not in the golden file", key), exit(1);
    return t;
}
static double element(const Tensor *t, int64_t i) {
    return t->dtype == DT_F64 ? ((double *)t->data)[i] : (double)((float *)t->data)[i];
}

static void set_start(Net *n, const SafeFile *f) {
    for (int k = 0; k < n->n_params; k++)
        for (int64_t i = 0; i < shape_count(n->params[k].shape); i++)
            n->params[k].data[i] = (float)element(golden(f, "start", n->params[k].name), i);
}
/* Gradients of step t, `times` over; running statistics are given, as a forward pass would leave
 * them. */
static void set_step(Net *n, const SafeFile *f, int t, float times) {
    for (int k = 0; k < n->n_params; k++) {
        const NetParam *p = &n->params[k];
        const Tensor *g = golden(f, "grad", p->name);
        int64_t count = shape_count(p->shape);
        for (int64_t i = 0; i < count; i++) {
            float v = (float)element(g, t * count + i);
            if (p->grad) p->grad[i] = times * v;
            else p->data[i] = v;
        }
    }
}
static void expect_step(const Net *n, const Optimizer *o, const SafeFile *f, const char *name,
                        int t) {
    for (int k = 0; k < n->n_params; k++) {
        const NetParam *p = &n->params[k];
        if (!p->trainable && !o->ema) continue;
        const Tensor *want = golden(f, name, p->name);
        const float *got = o->ema ? o->ema + p->offset : p->data;
        int64_t count = shape_count(p->shape);
        for (int64_t i = 0; i < count; i++) {
            double b = element(want, t * count + i);
            if (!(fabs(got[i] - b) <= TOLERANCE * fmax(1, fabs(b))))
                FAIL("%s, step %d, %s[%d] = %.9g, expected %.9g", name, t, p->name, (int)i, got[i],
                     b);
        }
    }
}
static void agree(const char *name, const char *args, int accumulate) {
    SafeFile f;
    EXPECT_OK(st_read(SOURCE_DIR "/tests/golden/train.safetensors", EXIT_MODEL, &f));
    Config *c = config(args);
    Net *n = open_net();
    Optimizer *o;
    set_start(n, &f);
    EXPECT_OK(optimizer_open(c, n, &o));
    for (int t = 0; t < STEPS; t++) {
        set_step(n, &f, t, (float)accumulate);
        EXPECT_NEAR(optimizer_lr(c, t), element(golden(&f, name, "lr"), t), 1e-12);
        double norm = optimizer_step(o, t);
        if (c->clip > 0) EXPECT_NEAR(norm, element(golden(&f, name, "norm"), t), 1e-6);
        expect_step(n, o, &f, name, t);
    }
    optimizer_close(o);
    net_close(n);
    config_close(c);
    st_close(&f);
}
#define SGD "train.lr=0.1 train.optimizer.momentum=0.9 "
TEST(sgd_agrees_with_torch) {
    agree("sgd", SGD "train.schedule=constant train.optimizer.weight_decay=0.01", 1);
    agree("plain",
          "train.lr=0.1 train.optimizer.momentum=0 train.schedule=constant "
          "train.optimizer.weight_decay=0",
          1);
}
TEST(nesterov_agrees_with_torch) {
    agree("nesterov",
          "train.lr=0.1 train.optimizer.momentum=0.8 train.optimizer.nesterov=true "
          "train.schedule=constant "
          "train.optimizer.weight_decay=0.01",
          1);
}
TEST(adamw_agrees_with_torch) {
    agree("adamw",
          "train.lr=0.05 train.optimizer=adamw train.optimizer.betas=[0.8,0.95] "
          "train.optimizer.weight_decay=0.1 "
          "train.optimizer.eps=1e-6 train.schedule=constant",
          1);
}
TEST(poly_agrees_with_torch) {
    agree("poly", SGD "train.optimizer.weight_decay=0", 1);
}
TEST(warm_up_agrees_with_torch) {
    agree("warmup", SGD "train.lr_warmup=4 train.optimizer.weight_decay=0", 1);
}
TEST(cosine_agrees_with_torch) {
    agree("cosine",
          "train.lr=0.02 train.optimizer=adamw train.schedule=cosine "
          "train.optimizer.weight_decay=0.01",
          1);
}
TEST(clipping_agrees_with_torch) {
    agree("clip", SGD "train.clip=2 train.schedule=constant train.optimizer.weight_decay=0.01", 1);
}
TEST(groups_agree_with_torch) {
    agree("groups",
          "train.lr=0.01 train.optimizer=adamw train.optimizer.weight_decay=0.1 "
          "train.lr_groups={head:~10,~head.bias:~0.5}",
          1);
}
TEST(averages_agree_with_torch) {
    agree("ema", SGD "train.schedule=constant train.optimizer.weight_decay=0.01 train.ema=0.75", 1);
}
TEST(accumulated_gradients_are_averaged) { /* what micro-batches add up to is divided by their
                                              number */
    agree("sgd", SGD "train.schedule=constant train.optimizer.weight_decay=0.01 train.accumulate=4",
          4);
    agree(
        "clip",
        SGD
        "train.clip=2 train.schedule=constant train.optimizer.weight_decay=0.01 train.accumulate=4",
        4);
}

/* ---- what PyTorch does not have ------------------------------------------------------------- */
TEST(lr_batch_scales_the_rate) {
    Config *c = config(
        "train.lr=0.02 train.lr_batch=16 train.batch=4 train.accumulate=2 train.schedule=constant");
    EXPECT_NEAR(optimizer_lr(c, 5), 0.01, 1e-15);
    config_close(c);
}
TEST(a_group_without_parameters_is_refused) {
    Config *c = config("train.lr_groups={haed:~10}");
    Net *n = open_net();
    Optimizer *o;
    EXPECT_ERR(optimizer_open(c, n, &o), E(2, 76));
    EXPECT_HAS(err_text(), "no trainable parameter starts with \"haed\"");
    net_close(n);
    config_close(c);
}
TEST(nothing_is_updated_by_a_gradient_that_is_not_finite) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    Config *c = config("train.optimizer=adamw train.ema=0.5 train.clip=1");
    Net *n = open_net();
    Optimizer *o;
    net_init_random(n, 1);
    EXPECT_OK(optimizer_open(c, n, &o));
    const size_t bytes = (size_t)n->n_values * sizeof(float);
    float *before = xcalloc(1, bytes), *average = xcalloc(1, bytes);
    memcpy(before, n->values, bytes), memcpy(average, o->ema, bytes);
    for (int i = 0; i < 3; i++) {
        n->params[0].grad[i] = bad[i];
        EXPECT(isnan(optimizer_step(o, i)));
        EXPECT(!memcmp(before, n->values, bytes) && !memcmp(average, o->ema, bytes) &&
               o->m[0] == 0 && o->v[0] == 0);
        n->params[0].grad[i] = 0;
    }
    EXPECT(!isnan(optimizer_step(o, 0)));
    free(before), free(average);
    optimizer_close(o);
    net_close(n);
    config_close(c);
}
/* More elements than a chunk holds: the same as element by element, and the same bits for any
 * threads. */
TEST(chunks_and_threads_do_not_show) {
    enum { COUNT = 40001 };
    float *first = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        parallel_set_threads(threads);
        Config *c = config("train.lr=0.1 train.optimizer.momentum=0.5 train.clip=3 "
                           "train.schedule=constant train.optimizer.weight_decay=0");
        Net *n = net_open("test");
        Optimizer *o;
        net_param(n, "w.weight", PARAM_WEIGHT, SHAPE(COUNT), 1, 1);
        EXPECT_OK(net_finish(n));
        EXPECT_OK(optimizer_open(c, n, &o));
        double norm = 0, sum = 0;
        for (int i = 0; i < COUNT; i++)
            n->grads[i] = sinf((float)i), sum += (double)n->grads[i] * n->grads[i];
        for (int t = 0; t < 2; t++) norm = optimizer_step(o, t);
        EXPECT_NEAR(norm, sqrt(sum), 1e-12);
        for (int i = 0; i < COUNT; i++) {
            double g = n->grads[i] * (3 / (sqrt(sum) + 1e-6));
            if (fabs(n->values[i] + 0.1 * 2.5 * g) > 1e-8)
                FAIL("element %d: %.9g, expected %.9g", i, n->values[i], -0.25 * g);
        }
        if (!first) first = memcpy(xcalloc(COUNT, sizeof(float)), n->values, COUNT * sizeof(float));
        EXPECT(!memcmp(first, n->values, COUNT * sizeof(float)));
        optimizer_close(o);
        net_close(n);
        config_close(c);
    }
    free(first);
}

/* ---- stages --------------------------------------------------------------------------------- */
/* The weight of the first stage at every step of 10, as text: "1" and "0", or with two decimals. */
static void expect_stages(const char *args, const char *expected) {
    char text[128] = "", one[16];
    Config *c = config(args);
    for (int64_t t = 0; t < c->steps; t++) {
        float stage[2];
        stage_weights(c, t, NULL, stage);
        EXPECT_NEAR(stage[0] + stage[1], 1, 1e-6);
        snprintf(one, sizeof one, stage[0] == 0 || stage[0] == 1 ? "%g " : "%.2f ", stage[0]);
        strcat(text, one);
    }
    if (strcmp(text, expected)) FAIL("%s: %s, expected %s", args, text, expected);
    config_close(c);
}
#define RDD "train.steps=10 distill.task=rdd distill.task.warmup="
TEST(the_hard_switch_counts_steps_or_a_fraction) {
    expect_stages(RDD "4", "1 1 1 1 0 0 0 0 0 0 ");
    expect_stages(RDD "0.4", "1 1 1 1 0 0 0 0 0 0 ");
    expect_stages(RDD "0.49", "1 1 1 1 0 0 0 0 0 0 ");
    expect_stages(RDD "0", "0 0 0 0 0 0 0 0 0 0 ");
    expect_stages(RDD "1", "1 0 0 0 0 0 0 0 0 0 ");
    expect_stages(RDD "10", "1 1 1 1 1 1 1 1 1 1 ");
    expect_stages(RDD "99", "1 1 1 1 1 1 1 1 1 1 ");
}
TEST(a_fraction_is_not_lost_to_rounding) { /* 0.29 x 100 is below 29 in binary */
    Config *c = config("train.steps=100 distill.task=rdd distill.task.warmup=0.29");
    float last[2], first[2];
    stage_weights(c, 28, NULL, last), stage_weights(c, 29, NULL, first);
    EXPECT(last[0] == 1 && first[0] == 0);
    config_close(c);
}
TEST(the_cosine_fade_begins_and_ends_gently) {
    expect_stages(RDD "4 distill.task.schedule=cosine", "1 1 1 1 1 0.93 0.75 0.50 0.25 0.07 ");
}
TEST(the_linear_fade_falls_from_one_at_the_warm_up_to_zero_at_the_end) {
    expect_stages(RDD "4 distill.task.schedule=linear", "1 1 1 1 1 0.83 0.67 0.50 0.33 0.17 ");
    expect_stages(RDD "0 distill.task.schedule=linear",
                  "1 0.90 0.80 0.70 0.60 0.50 0.40 0.30 0.20 0.10 ");
    expect_stages(RDD "10 distill.task.schedule=linear", "1 1 1 1 1 1 1 1 1 1 ");
}
/* The step after which the first stage ends, when its loss falls by `fall` a step until step `flat`. */
static int64_t ends_at(const char *args, double fall, int flat) {
    Config *c = config(args);
    StageSwitch w = {.at = -1, .before = NAN}, copy;
    double loss = 3;
    for (int64_t step = 1; step <= c->steps; step++) {
        float stage[2];
        stage_weights(c, step - 1, &w, stage);
        EXPECT(!c->task_auto || (stage[0] == (w.at < 0) && stage[1] == (w.at >= 0)));
        if (step < flat) loss *= 1 - fall;
        copy = w;                                /* what a checkpoint keeps */
        const bool over = stage_watch(c, &w, step, loss * (step % 2 ? 1.05 : 0.95));
        EXPECT(stage_watch(c, &copy, step, loss * (step % 2 ? 1.05 : 0.95)) == over &&
               copy.at == w.at);
        EXPECT(over == (w.at == step));
    }
    config_close(c);
    return w.at;
}
#define AUTO "train.steps=1000 distill.task=rdd distill.task.switch=auto "
TEST(the_automatic_switch_waits_until_the_loss_is_flat) {
    EXPECT_INT(ends_at(AUTO, 0.01, 210), 250);   /* 201..225 still fell, 226..250 is 1.4 % below */
    EXPECT_INT(ends_at(AUTO, 0.01, 0), 50);      /* two stretches are the least */
    EXPECT_INT(ends_at(AUTO, 0.01, 2000), 500);  /* half of the steps the most */
    EXPECT_INT(ends_at(AUTO "distill.task.switch_window=40", 0.01, 0), 80);
    EXPECT_INT(ends_at(AUTO "distill.task.switch_drop=0.3", 0.01, 2000), 50);
    EXPECT_INT(ends_at("train.steps=1000 distill.task=rdd", 0.01, 0), -1);
}
TEST(a_fade_begins_at_the_automatic_switch) {
    Config *c = config(AUTO "distill.task.schedule=linear");
    const StageSwitch w = {.at = 200};
    float stage[2];
    stage_weights(c, 600, &w, stage);
    EXPECT_NEAR(stage[0], 0.5, 1e-6);
    config_close(c);
}
TEST(compat_counts_from_one) {
    expect_stages(RDD "4 distill.task.compat=rdd2023", "1 1 1 0 0 0 0 0 0 0 ");
    expect_stages(RDD "1 distill.task.compat=rdd2023", "0 0 0 0 0 0 0 0 0 0 ");
    expect_stages(RDD "4 distill.task.compat=rdd2023 distill.task.schedule=linear",
                  "1 1 1 1 0.83 0.67 0.50 0.33 0.17 0 ");
}

TEST_MAIN(T(the_automatic_switch_waits_until_the_loss_is_flat),
          T(a_fade_begins_at_the_automatic_switch), T(the_cosine_fade_begins_and_ends_gently),
          T(sgd_agrees_with_torch), T(nesterov_agrees_with_torch), T(adamw_agrees_with_torch),
          T(poly_agrees_with_torch), T(warm_up_agrees_with_torch), T(cosine_agrees_with_torch),
          T(clipping_agrees_with_torch), T(groups_agree_with_torch), T(averages_agree_with_torch),
          T(accumulated_gradients_are_averaged), T(lr_batch_scales_the_rate),
          T(a_group_without_parameters_is_refused),
          T(nothing_is_updated_by_a_gradient_that_is_not_finite), T(chunks_and_threads_do_not_show),
          T(the_hard_switch_counts_steps_or_a_fraction), T(a_fraction_is_not_lost_to_rounding),
          T(the_linear_fade_falls_from_one_at_the_warm_up_to_zero_at_the_end),
          T(compat_counts_from_one))
