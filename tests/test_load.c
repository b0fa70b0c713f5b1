/* Weights from files: strict matching and its report, NaN, the classifier of other classes. */
#include <inttypes.h>

#include "io/safetensors.h"
#include "models/model.h"
#include "test.h"

enum { TENSORS_MAX = 512 };
typedef struct { Net *net; ModelNodes at; Tensor t[TENSORS_MAX]; int n; char path[256]; } Case;

static Net *open_net(int classes, bool aux) {
    ModelOptions o = {.model = "deeplabv3_mobilenetv2", .classes = classes, .aux = aux, .width = 0.25};
    ModelNodes at;
    Net *n = NULL;
    if (model_open(&o, 33, 33, &n, &at)) FAIL("%s", err_text());
    return n;
}
/* The tensors of a network of formula weights; data is borrowed from the net. */
static void open_case(Case *c, int classes) {
    c->net = open_net(classes, false);
    net_init_formula(c->net, 3);
    CHECK(c->net->n_params < TENSORS_MAX - 1);
    for (c->n = 0; c->n < c->net->n_params; c->n++) {
        NetParam *p = &c->net->params[c->n];
        const bool count = p->kind == PARAM_COUNT;
        if (count) p->count = 7;
        c->t[c->n] = (Tensor){p->name, count ? DT_I64 : DT_F32, p->shape, count ? (void *)&p->count : p->data};
    }
    snprintf(c->path, sizeof c->path, BUILD_DIR "/test_load_%d.safetensors", (int)getpid());
}
static Err load_case(Case *c, Net *into) {
    Err rc = st_write(c->path, c->t, c->n, NULL, 0);
    if (!rc) rc = model_load_weights(into, c->path, 1);
    return rc;
}
static void close_case(Case *c, Net *into) {
    remove(c->path);
    net_close(into);
    net_close(c->net);
}
static Tensor *tensor_of(Case *c, const char *name) {
    for (int i = 0; i < c->n; i++)
        if (!strcmp(c->t[i].name, name)) return &c->t[i];
    CHECK(!"tensor of that name");
    return NULL;
}
static void expect_equal(const Net *a, const Net *b) {
    for (int i = 0; i < a->n_params; i++) {
        const NetParam *p = &a->params[i], *q = &b->params[i];
        if (p->kind == PARAM_COUNT) EXPECT_INT(p->count, q->count);
        else if (memcmp(p->data, q->data, (size_t)shape_count(p->shape) * sizeof(float))) FAIL("%s differs", p->name);
    }
}
TEST(a_file_of_all_tensors_loads) {
    Case c;
    open_case(&c, 5);
    Net *n = open_net(5, false);
    const uint64_t version = n->version;
    EXPECT_OK(load_case(&c, n));
    expect_equal(n, c.net);
    EXPECT(n->version > version);
    close_case(&c, n);
}
TEST(missing_extra_and_wrong_tensors_are_named) {
    Case c;
    open_case(&c, 5);
    Net *n = open_net(5, false);
    net_init_formula(n, 9);
    const float before = n->params[0].data[0];
    tensor_of(&c, "pretrained.net.features.0.0.weight")->name = "stem.weight";
    tensor_of(&c, "head.block.4.bias")->shape = SHAPE(5, 1);
    EXPECT_ERR(load_case(&c, n), E(4, 61));
    EXPECT_HAS(err_text(), "1 missing: pretrained.net.features.0.0.weight");
    EXPECT_HAS(err_text(), "1 extra: stem.weight");
    EXPECT_HAS(err_text(), "head.block.4.bias (float32 5x1, expected 5)");
    EXPECT(n->params[0].data[0] == before);
    close_case(&c, n);
}
TEST(the_prefix_module_is_recognised) {
    Case c;
    static char names[TENSORS_MAX][128];
    open_case(&c, 5);
    Net *n = open_net(5, false);
    for (int i = 0; i < c.n; i++) {
        snprintf(names[i], sizeof names[i], "module.%s", c.t[i].name);
        c.t[i].name = names[i];
    }
    EXPECT_ERR(load_case(&c, n), E(4, 61));
    EXPECT_HAS(err_text(), "remove the prefix module.");
    EXPECT_HAS(err_text(), "and 2");                     /* long lists are cut and counted */
    close_case(&c, n);
}
TEST(a_file_without_counts_loads) {
    Case c;
    open_case(&c, 5);
    Net *n = open_net(5, false);
    int kept = 0;
    for (int i = 0; i < c.n; i++)
        if (c.t[i].dtype != DT_I64) c.t[kept++] = c.t[i];
    c.n = kept;
    EXPECT_OK(load_case(&c, n));
    EXPECT_INT(n->params[net_find_param(n, "head.block.1.num_batches_tracked")].count, 0);
    close_case(&c, n);
}
TEST(a_checkpoints_own_tensors_are_passed_over) {
    Case c;
    open_case(&c, 5);
    Net *n = open_net(5, false);
    static float momentum[3];
    c.t[c.n++] = (Tensor){"optim/momentum.head.block.4.bias", DT_F32, SHAPE(3), momentum};
    EXPECT_OK(load_case(&c, n));
    close_case(&c, n);
}
TEST(nan_is_refused_with_its_place) {
    static const float BAD[] = {NAN, INFINITY};
    for (int i = 0; i < 2; i++) {
        Case c;
        open_case(&c, 5);
        Net *n = open_net(5, false);
        ((float *)tensor_of(&c, "head.block.0.weight")->data)[17] = BAD[i];
        EXPECT_ERR(load_case(&c, n), E(4, 17));
        EXPECT_HAS(err_text(), "head.block.0.weight");
        EXPECT_HAS(err_text(), "element 17");
        close_case(&c, n);
    }
}
TEST(other_number_formats_are_converted) {
    Case c;
    open_case(&c, 5);
    Net *n = open_net(5, false);
    static double d[5] = {1, -2, 0.5, 3, 4};
    static uint16_t bf[128], half[128];                  /* both hold 1.5 throughout, then a few others */
    for (int i = 0; i < 128; i++) bf[i] = 0x3FC0, half[i] = 0x3E00;
    half[1] = 0xC000, half[2] = 0x0001;                  /* -2 and the smallest subnormal */
    Tensor *bias = tensor_of(&c, "head.block.4.bias"), *w = tensor_of(&c, "head.block.1.weight"), *b = tensor_of(&c, "head.block.1.bias");
    bias->dtype = DT_F64, bias->data = d;
    w->dtype = DT_BF16, w->data = bf;
    b->dtype = DT_F16, b->data = half;
    EXPECT_OK(load_case(&c, n));
    EXPECT(n->params[net_find_param(n, "head.block.4.bias")].data[1] == -2);
    EXPECT(n->params[net_find_param(n, "head.block.1.weight")].data[99] == 1.5f);
    const float *h = n->params[net_find_param(n, "head.block.1.bias")].data;
    EXPECT(h[0] == 1.5f && h[1] == -2 && h[2] == ldexpf(1, -24));
    close_case(&c, n);
}
TEST(a_start_keeps_the_classifier_of_other_classes) {
    Case c;
    open_case(&c, 5);
    Net *n = open_net(8, false);
    EXPECT_ERR(load_case(&c, n), E(4, 61));
    EXPECT_OK(model_load_start(n, c.path, 1));
    Net *random = open_net(8, false);
    net_init_random(random, 1);
    const int w = net_find_param(n, "head.block.4.weight"), first = 0;
    EXPECT(!memcmp(n->params[w].data, random->params[w].data, (size_t)shape_count(n->params[w].shape) * sizeof(float)));
    EXPECT(n->params[first].data[5] == c.net->params[first].data[5]);
    net_close(random);
    close_case(&c, n);
}
TEST(a_missing_auxiliary_head_is_refused) {
    Case c;
    open_case(&c, 5);
    Net *n = open_net(5, true);
    EXPECT_ERR(load_case(&c, n), E(4, 61));
    EXPECT_HAS(err_text(), "auxlayer.block.0.weight");
    close_case(&c, n);
}
TEST(weights_by_rule_are_refused_when_misspelt) {
    Net *n = open_net(5, false);
    EXPECT_ERR(model_load_weights(n, "formula:x", 1), E(2, 76));
    EXPECT(model_load_weights(n, "/no/such/file", 1) / 1000 == EXIT_MODEL);
    net_close(n);
}
TEST_MAIN(T(a_file_of_all_tensors_loads), T(missing_extra_and_wrong_tensors_are_named), T(the_prefix_module_is_recognised),
          T(a_file_without_counts_loads), T(a_checkpoints_own_tensors_are_passed_over), T(nan_is_refused_with_its_place),
          T(other_number_formats_are_converted), T(a_start_keeps_the_classifier_of_other_classes),
          T(a_missing_auxiliary_head_is_refused), T(weights_by_rule_are_refused_when_misspelt))
