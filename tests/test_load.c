/* Weights from files: strict matching and its report, published layouts, starts, parts, NaN, other classes. */
#include <inttypes.h>

#include "base/sys.h"
#include "io/weights.h"
#include "models/model.h"
#include "test.h"

enum { TENSORS_MAX = 512 };
typedef struct {
    Net *net;
    ModelNodes at;
    Tensor t[TENSORS_MAX];
    int n;
    char name[TENSORS_MAX][160], path[256];
} Case;

static Net *open_named(const char *model, int classes, bool aux) {
    ModelOptions o = {.model = model,
                      .classes = classes,
                      .aux = aux,
                      .width = strstr(model, "mobilenet") ? 0.25 : 0};
    ModelNodes at;
    Net *n = NULL;
    if (model_open(&o, 33, 33, &n, &at)) FAIL("%s", err_text());
    return n;
}
static Net *open_net(int classes, bool aux) {
    return open_named("deeplabv3_mobilenetv2", classes, aux);
}

/* The tensors of a network of formula weights; data is borrowed from the net. */
static void open_case_of(Case *c, Net *net) {
    c->net = net;
    net_init_formula(c->net, 3);
    CHECK(c->net->n_params < TENSORS_MAX - 1);
    for (c->n = 0; c->n < c->net->n_params; c->n++) {
        NetParam *p = &c->net->params[c->n];
        const bool count = p->kind == PARAM_COUNT;
        if (count) p->count = 7;
        c->t[c->n] = (Tensor){p->name, count ? DT_I64 : DT_F32, p->shape,
                              count ? (void *)&p->count : p->data};
    }
    snprintf(c->path, sizeof c->path, BUILD_DIR "/test_load_%d.safetensors", (int)getpid());
}
static void open_case(Case *c, int classes) { open_case_of(c, open_net(classes, false)); }

static Err load_case_as(Case *c, Net *into, unsigned flags) {
    Err rc = st_write(c->path, c->t, c->n, NULL, 0);
    if (!rc) rc = model_load_weights(into, c->path, 1, flags);
    return rc;
}
static Err load_case(Case *c, Net *into) { return load_case_as(c, into, 0); }
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
        else if (memcmp(p->data, q->data, (size_t)shape_count(p->shape) * sizeof(float)))
            FAIL("%s differs", p->name);
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
static void rename_tensor(Case *c, int i, const char *prefix, const char *name) {
    snprintf(c->name[i], sizeof c->name[i], "%s%s", prefix, name);
    c->t[i].name = c->name[i];
}
TEST(wrapped_names_load) {
    static const char *const wrappers[] = {"module.", "module.model.", "net._orig_mod."};
    for (int w = 0; w < 3; w++) {
        Case c;
        open_case(&c, 5);
        Net *n = open_net(5, false);
        for (int i = 0; i < c.n; i++) rename_tensor(&c, i, wrappers[w], c.net->params[i].name);
        EXPECT_OK(load_case(&c, n));
        expect_equal(n, c.net);
        rename_tensor(&c, 0, "", c.net->params[0].name); /* not all of them: so it is no wrapper */
        EXPECT_ERR(load_case(&c, n), E(4, 61));
        EXPECT_HAS(err_text(), " more");                 /* long lists are cut and counted */
        close_case(&c, n);
    }
}

/* ---- layouts of others ----------------------------------------------------------------------------- */
/* The first row whose `from` begins a name puts `to` in its place; NULL: such tensors are left out. */
typedef struct Renaming { const char *from, *to; } Renaming;
static void write_as(Case *c, const Renaming *r, int n) {
    int kept = 0;
    for (int i = 0; i < c->n; i++) {
        const char *name = c->net->params[i].name;
        int k = 0;
        while (k < n && strncmp(name, r[k].from, strlen(r[k].from))) k++;
        if (k < n && !r[k].to) continue;
        c->t[kept] = c->t[i];
        rename_tensor(c, kept, k < n ? r[k].to : "", name + (k < n ? strlen(r[k].from) : 0));
        kept++;
    }
    c->n = kept;
}
static void add_extra(Case *c, const char *name) {
    static float one[1];
    c->t[c->n] = (Tensor){.dtype = DT_F32, .shape = SHAPE(1), .data = one};
    rename_tensor(c, c->n, "", name);
    c->n++;
}
/* All of the backbone is the case's, the head is as random ones are. */
static void expect_backbone(const Net *n, const Case *c) {
    Net *random = open_named(n->name, 5, false);
    net_init_random(random, 1);
    for (int i = 0; i < n->n_params; i++) {
        const NetParam *p = &n->params[i], *q = strncmp(p->name, "pretrained.", 11)
                                                    ? &random->params[i]
                                                    : &c->net->params[i];
        if (p->kind != PARAM_COUNT &&
            memcmp(p->data, q->data, (size_t)shape_count(p->shape) * sizeof(float)))
            FAIL("%s differs", p->name);
    }
    net_close(random);
}
/* A student starts from the renamed backbone; a whole network is not to be had from it. */
static void check_backbone(const char *model, const Renaming *r, int n_r, const char *const *extra,
                           int n_extra) {
    Case c;
    open_case_of(&c, open_named(model, 5, false));
    Net *n = open_named(model, 5, false);
    write_as(&c, r, n_r);
    for (int i = 0; i < n_extra; i++) add_extra(&c, extra[i]);
    EXPECT_ERR(load_case(&c, n), E(4, 61));
    EXPECT_HAS(err_text(), "a backbone alone");
    EXPECT_OK(load_case_as(&c, n, LOAD_START));
    expect_backbone(n, &c);
    add_extra(&c, "not.of.this.network");
    EXPECT_ERR(load_case_as(&c, n, LOAD_START), E(4, 61));
    EXPECT_HAS(err_text(), "1 extra: not.of.this.network");
    close_case(&c, n);
}
#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))
TEST(backbones_in_published_layouts_start_a_student) {
    static const Renaming own[] = {{"head", NULL}}, plain[] = {{"head", NULL}, {"pretrained.", ""}},
                          sequence[] = {{"head", NULL},
                                        {"pretrained.conv1", "conv1.0"},
                                        {"pretrained.bn1", "conv1.1"},
                                        {"pretrained.conv2", "conv1.3"},
                                        {"pretrained.bn2", "conv1.4"},
                                        {"pretrained.conv3", "conv1.6"},
                                        {"pretrained.bn3", "bn1"},
                                        {"pretrained.", ""}},
                          flat[] = {{"head", NULL}, {"pretrained.net.", ""}};
    static const char *const fc[] = {"fc.weight", "fc.bias"},
                             *const last[] = {"features.18.0.weight", "classifier.1.weight",
                                              "conv.0.weight"},
                             *const lite[] = {"_conv_head.weight", "_bn1.weight", "_fc.bias"};
    check_backbone("pspnet_resnet18", own, COUNT(own), NULL, 0);
    check_backbone("pspnet_resnet18", plain, COUNT(plain), fc, 2);
    check_backbone("pspnet_resnet18", sequence, COUNT(sequence), fc, 2);
    check_backbone("deeplabv3_mobilenetv2", flat, COUNT(flat), last, 3);
    check_backbone("lraspp_efficientnet_lite0", plain, COUNT(plain), lite, 3);      /* not taken for a ResNet's, which fits as well */
}
/* features.N.conv: 0 1 (2) 3 4 (5) 6 7 here, 0.0 0.1 1.0 1.1 2 3 there; the first block lacks its first pair. */
TEST(torchvisions_mobilenetv2_starts_a_student) {
    static const char *const WHOLE[] = {"0.0", "0.1", NULL, "1.0", "1.1", NULL, "2", "3"},
                             *const FIRST[] = {"0.0", "0.1", NULL, "1", "2"};
    Case c;
    open_case(&c, 5);
    Net *n = open_net(5, false);
    int kept = 0;
    for (int i = 0; i < c.n; i++) {
        const char *name = c.net->params[i].name, *prefix = "pretrained.net.";
        int block, layer, end = 0;
        char there[160];
        if (strncmp(name, prefix, strlen(prefix))) continue;
        name += strlen(prefix);
        c.t[kept] = c.t[i];
        if (sscanf(name, "features.%d.conv.%d%n", &block, &layer, &end) == 2) {
            snprintf(there, sizeof there, "features.%d.conv.%s%s", block,
                     block == 1 ? FIRST[layer] : WHOLE[layer], name + end);
            rename_tensor(&c, kept, "", there);
        } else rename_tensor(&c, kept, "", name);
        kept++;
    }
    c.n = kept;
    add_extra(&c, "features.18.0.weight"), add_extra(&c, "features.18.1.num_batches_tracked"),
        add_extra(&c, "classifier.1.bias");
    EXPECT_OK(load_case_as(&c, n, LOAD_START));
    expect_backbone(n, &c);
    close_case(&c, n);
}
TEST(torchvisions_segmentation_networks_load_whole) {
    static const Renaming deeplab[] = {{"pretrained", "backbone"},
                                       {"head.aspp.b0", "classifier.0.convs.0"},
                                       {"head.aspp.b1.block", "classifier.0.convs.1"},
                                       {"head.aspp.b2.block", "classifier.0.convs.2"},
                                       {"head.aspp.b3.block", "classifier.0.convs.3"},
                                       {"head.aspp.b4.gap", "classifier.0.convs.4"},
                                       {"head.aspp.project", "classifier.0.project"},
                                       {"head.block.0", "classifier.1"},
                                       {"head.block.1", "classifier.2"},
                                       {"head.block.4", "classifier.4"},
                                       {"auxlayer.block", "aux_classifier"}};
    Case c;
    open_case_of(&c, open_named("deeplabv3_resnet18", 5, true));
    Net *n = open_named("deeplabv3_resnet18", 5, true);
    write_as(&c, deeplab, COUNT(deeplab));
    EXPECT_OK(load_case(&c, n));
    expect_equal(n, c.net);
    close_case(&c, n);
}

/* ---- parts and strangers --------------------------------------------------------------------------- */
TEST(in_part_what_fits_is_loaded) {
    Case c;
    open_case_of(&c, open_named("pspnet_resnet18", 5, true));
    Net *n = open_named("deeplabv3_resnet18", 5, false);
    EXPECT_ERR(load_case_as(&c, n, LOAD_START), E(4, 61));
    EXPECT_HAS(err_text(), "student.partial=true");
    ((float *)tensor_of(&c, "head.psp.conv1.0.weight")->data)[0] = NAN;                 /* not wanted, so it does no harm */
    EXPECT_OK(load_case_as(&c, n, LOAD_PARTIAL));
    const int w = net_find_param(n, "pretrained.conv1.weight"),
              head = net_find_param(n, "head.block.0.weight"),
              shared = net_find_param(n, "head.block.1.weight");
    EXPECT(n->params[w].data[7] ==
           c.net->params[net_find_param(c.net, "pretrained.conv1.weight")].data[7]);
    EXPECT(n->params[shared].data[7] ==
           c.net->params[net_find_param(c.net, "head.block.1.weight")].data[7]);
    Net *random = open_named("deeplabv3_resnet18", 5, false);
    net_init_random(random, 1);
    EXPECT(n->params[head].data[7] == random->params[head].data[7]);
    net_close(random);
    close_case(&c, n);
}
TEST(strangers_are_told_the_nearest_network_and_the_way_out) {
    Case c;
    open_case_of(&c, open_named("pspnet_resnet18", 19, false));
    Net *n = open_named("deeplabv3_mobilenetv2", 19, false);
    EXPECT_ERR(load_case(&c, n), E(4, 61));
    EXPECT_HAS(err_text(), "the nearest known network is pspnet_resnet18 (170 of its 178 tensors)");
    for (int i = 0; i < c.n; i++) rename_tensor(&c, i, "encoder.", c.net->params[i].name);
    for (unsigned flags = 0; flags <= LOAD_PARTIAL; flags++) {
        EXPECT_ERR(load_case_as(&c, n, flags), E(4, 61));
        EXPECT_HAS(
            err_text(),
            "none of its 170 tensors is one of deeplabv3_mobilenetv2; they are those of no network that is known here");
        EXPECT_HAS(err_text(),
                   "model = YourNet(); model.load_state_dict(safetensors.torch.load_file('");
        EXPECT_HAS(
            err_text(),
            "torch.onnx.export(model.eval(), torch.zeros(1, 3, 512, 1024), 'model.onnx', opset_version=17, ");
        EXPECT_HAS(err_text(), "then give model.onnx");
    }
    EXPECT_ERR(model_load_weights(n, SOURCE_DIR "/tests/golden/pth/checkpoint.pth", 1, 0),
               E(4, 61));
    EXPECT_HAS(err_text(),
               "checkpoint.pth', map_location='cpu')['state_dict']); torch.onnx.export(");
    close_case(&c, n);
}
TEST(a_published_network_that_is_none_of_ours_is_refused) {
    const char *data = sys_test_data();
    char path[512];
    if (!data) SKIP("no test data; set RETORT_TEST_DATA");
    snprintf(path, sizeof path, "%s/weights/espnet_p_2_q_8_city.pth", data);
    if (!sys_exists(path)) SKIP("%s is not there", path);
    Net *n = open_net(5, false);
    EXPECT_ERR(model_load_weights(n, path, 1, LOAD_START), E(4, 61));
    EXPECT_HAS(err_text(), "none of its 189 tensors");
    net_close(n);
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
TEST(a_variance_below_zero_is_refused) {
    Case c;
    open_case(&c, 5);
    Net *n = open_net(5, false);
    ((float *)tensor_of(&c, "head.block.1.running_var")->data)[3] = -0.5f;
    EXPECT_ERR(load_case(&c, n), E(4, 17));
    EXPECT_HAS(err_text(), "head.block.1.running_var has the value -0.5 at element 3, and is a variance");
    close_case(&c, n);
}
TEST(other_number_formats_are_converted) {
    Case c;
    open_case(&c, 5);
    Net *n = open_net(5, false);
    static double d[5] = {1, -2, 0.5, 3, 4};
    static uint16_t bf[128], half[128];                  /* both hold 1.5 throughout, then a few others */
    for (int i = 0; i < 128; i++) bf[i] = 0x3FC0, half[i] = 0x3E00;
    half[1] = 0xC000, half[2] = 0x0001;                  /* -2 and the smallest subnormal */
    Tensor *bias = tensor_of(&c, "head.block.4.bias"), *w = tensor_of(&c, "head.block.1.weight"),
           *b = tensor_of(&c, "head.block.1.bias");
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
    EXPECT_OK(load_case_as(&c, n, LOAD_START));
    Net *random = open_net(8, false);
    net_init_random(random, 1);
    const int w = net_find_param(n, "head.block.4.weight"), first = 0;
    EXPECT(!memcmp(n->params[w].data, random->params[w].data,
                   (size_t)shape_count(n->params[w].shape) * sizeof(float)));
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
    EXPECT_ERR(model_load_weights(n, "formula:x", 1, 0), E(2, 76));
    EXPECT(model_load_weights(n, "/no/such/file", 1, 0) / 1000 == EXIT_MODEL);
    net_close(n);
}
TEST_MAIN(T(a_file_of_all_tensors_loads), T(missing_extra_and_wrong_tensors_are_named),
          T(wrapped_names_load), T(backbones_in_published_layouts_start_a_student),
          T(torchvisions_mobilenetv2_starts_a_student),
          T(torchvisions_segmentation_networks_load_whole), T(in_part_what_fits_is_loaded),
          T(strangers_are_told_the_nearest_network_and_the_way_out),
          T(a_published_network_that_is_none_of_ours_is_refused), T(a_file_without_counts_loads),
          T(a_checkpoints_own_tensors_are_passed_over), T(nan_is_refused_with_its_place),
          T(a_variance_below_zero_is_refused),
          T(other_number_formats_are_converted), T(a_start_keeps_the_classifier_of_other_classes),
          T(a_missing_auxiliary_head_is_refused), T(weights_by_rule_are_refused_when_misspelt))
