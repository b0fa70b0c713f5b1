/* Every network's names and shapes against the dumped state_dicts, its parameters' rules, its taps. */
#include "base/str.h"
#include "base/sys.h"
#include "io/safetensors.h"
#include "models/model.h"
#include "test.h"

static Net *open_model(const char *name, int classes, bool aux, ModelNodes *nodes) {
    ModelOptions o = {.model = name, .classes = classes, .aux = aux};
    Net *n = NULL;
    Err rc = model_open(&o, 65, 129, &n, nodes);
    if (rc) FAIL("%s: E%d %s", name, rc, err_text());
    return n;
}
static void compare_line(const Net *n, int i, const char *line) {
    if (i >= n->n_params) {
        FAIL("line %d of the list, %s, has no parameter", i, line);
        return;
    }
    const NetParam *p = &n->params[i];
    char ours[512];
    snprintf(ours, sizeof ours, "%s\t%s\t%s", p->name, shape_text(p->shape).s,
             p->kind == PARAM_COUNT ? "int64" : "float32");
    EXPECT_STR(ours, line);
}
static void compare_names(const char *model, bool aux) {
    char path[1024], line[512];
    snprintf(path, sizeof path, "%s/models/%s.tsv", sys_test_data(), model);
    FILE *f = fopen(path, "r");
    if (!f) SKIP("no %s", path);
    ModelNodes nodes;
    Net *n = open_model(model, 19, aux, &nodes);
    int i = 0;
    while (n && fgets(line, sizeof line, f) && test_failures < 5) {
        line[strcspn(line, "\n")] = 0;
        if (*line && *line != '#') compare_line(n, i++, line);
    }
    if (n) EXPECT_INT(n->n_params, i);
    EXPECT(i > 100);
    fclose(f);
    net_close(n);
}
TEST(deeplabv3_resnet18_names) { compare_names("deeplabv3_resnet18", true); }
TEST(deeplabv3_resnet50_names) { compare_names("deeplabv3_resnet50", true); }
TEST(deeplabv3_resnet101_names) { compare_names("deeplabv3_resnet101", true); }
TEST(deeplabv3_mobilenetv2_names) { compare_names("deeplabv3_mobilenetv2", false); }
TEST(pspnet_resnet18_names) { compare_names("pspnet_resnet18", true); }
TEST(pspnet_resnet50_names) { compare_names("pspnet_resnet50", true); }
TEST(pspnet_resnet101_names) { compare_names("pspnet_resnet101", true); }
TEST(pspnet_mobilenetv2_names) { compare_names("pspnet_mobilenetv2", false); }

TEST(every_model_opens_at_every_stride) {
    const char *names[64];
    const int count = model_names(names, 64);
    EXPECT_INT(count, 4 * 8);
    for (int i = 0; i < count; i++)
        for (int stride = 8; stride <= 32; stride *= 2) {
            ModelOptions o = {
                .model = names[i], .classes = 11, .aux = true, .output_stride = stride};
            ModelNodes at;
            Net *n;
            EXPECT_OK(model_open(&o, 360, 480, &n, &at));
            EXPECT_INT(net_shape(n, at.logits).d[1], 11);
            const int grid = str_starts(names[i], "lraspp") ? 8 : stride;      /* its low branch has stride 8 */
            EXPECT_INT(net_shape(n, at.logits).d[2], (360 + grid - 1) / grid);
            EXPECT_INT(net_shape(n, at.logits).d[3], (480 + grid - 1) / grid);
            EXPECT_INT(net_shape(n, at.features).d[2], net_shape(n, at.logits).d[2]);
            EXPECT_INT(net_shape(n, at.aux).d[1], 11);
            EXPECT_INT(net_find(n, "features").id, at.features.id);
            EXPECT_INT(net_find(n, "logits").id, at.logits.id);
            net_close(n);
        }
}
/* Multiply-adds per 360 x 360 image, as published for these networks, padding taps counted. */
static double giga_macs(const char *model, bool aux) {
    ModelOptions o = {.model = model, .classes = 11, .aux = aux};
    ModelNodes at;
    Net *n;
    if (model_open(&o, 360, 360, &n, &at)) return -1;
    double macs = 0;
    for (int i = 1; i < n->n_nodes; i++) {
        const NetNode *node = &n->nodes[i];
        if (node->op != &op_conv2d) continue;
        const Shape w = n->params[node->param[0]].shape;
        macs += (double)shape_count(node->shape) * (double)(w.d[1] * w.d[2] * w.d[3]);
    }
    net_close(n);
    return macs / 1e9;
}
TEST(multiply_adds_are_the_published) {
    EXPECT_NEAR(giga_macs("deeplabv3_resnet101", true) / 127.5, 1, 0.0005);    /* given to four digits */
    EXPECT_NEAR(giga_macs("deeplabv3_resnet18", true) / 32.0, 1, 0.002);       /* given to three */
    EXPECT_NEAR(giga_macs("deeplabv3_mobilenetv2", false) / 6.6, 1, 0.008);    /* given to two */
}
TEST(dilation_of_mobilenetv2_at_stride_8) {
    static const int DEPTHWISE[18] = {0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 4, 4, 4};
    ModelNodes at;
    Net *n = open_model("deeplabv3_mobilenetv2", 19, false, &at);
    for (int b = 1; n && b < 18; b++) {
        char name[64];
        snprintf(name, sizeof name, "pretrained.net.features.%d.conv.%d", b, b == 1 ? 0 : 3);
        const ConvAttr *a = net_node(n, net_find(n, name))->attr;
        EXPECT_INT(a->dilation, DEPTHWISE[b]);
        EXPECT_INT(a->pad, DEPTHWISE[b]);
    }
    net_close(n);
}
static int dilation_of(const Net *n, const char *conv) {
    return ((const ConvAttr *)net_node(n, net_find(n, conv))->attr)->dilation;
}
TEST(dilation_of_resnets_at_stride_8) {
    ModelNodes at;
    Net *n = open_model("deeplabv3_resnet18", 19, false, &at);
    EXPECT_INT(dilation_of(n, "pretrained.layer3.0.conv1"), 1);
    EXPECT_INT(dilation_of(n, "pretrained.layer3.0.conv2"), 2);
    EXPECT_INT(dilation_of(n, "pretrained.layer4.0.conv1"), 2);
    EXPECT_INT(dilation_of(n, "pretrained.layer4.0.conv2"), 4);
    EXPECT_INT(dilation_of(n, "pretrained.layer4.1.conv1"), 4);
    net_close(n);
    n = open_model("deeplabv3_resnet50", 19, false, &at);
    EXPECT_INT(dilation_of(n, "pretrained.layer3.0.conv2"), 1);
    EXPECT_INT(dilation_of(n, "pretrained.layer3.1.conv2"), 2);
    EXPECT_INT(dilation_of(n, "pretrained.layer4.0.conv2"), 2);
    EXPECT_INT(dilation_of(n, "pretrained.layer4.2.conv2"), 4);
    net_close(n);
}
static int64_t out_of(const Net *n, const char *conv) {
    return n->params[net_find_param(n, conv)].shape.d[0];
}
/* Every block's channels are int(c w) and its inner ones six times the block before; names are those of width 1. */
TEST(width_scales_mobilenetv2) {
    static const int CHANNELS[18] = {32, 16, 24, 24, 32, 32,  32,  64,  64,
                                     64, 64, 96, 96, 96, 160, 160, 160, 320};
    static const double WIDTHS[] = {0.5, 0.35, 1.4};
    ModelNodes at;
    Net *full = open_model("deeplabv3_mobilenetv2", 19, true, &at);
    for (int i = 0; i < 3; i++) {
        ModelOptions o = {
            .model = "deeplabv3_mobilenetv2", .classes = 19, .aux = true, .width = WIDTHS[i]};
        Net *n;
        EXPECT_OK(model_open(&o, 65, 65, &n, &at));
        EXPECT_INT(n->n_params, full->n_params);
        for (int p = 0; p < n->n_params && p < full->n_params; p++)
            EXPECT_STR(n->params[p].name, full->params[p].name);
        EXPECT_INT(out_of(n, "pretrained.net.features.0.0.weight"), (int)(32 * WIDTHS[i]));
        for (int b = 1; b < 18; b++) {
            char conv[64];
            snprintf(conv, sizeof conv, "pretrained.net.features.%d.conv.%d.weight", b,
                     b == 1 ? 3 : 6);
            EXPECT_INT(out_of(n, conv), (int)(CHANNELS[b] * WIDTHS[i]));
            snprintf(conv, sizeof conv, "pretrained.net.features.%d.conv.0.weight", b);
            EXPECT_INT(out_of(n, conv), (b == 1 ? 1 : 6) * (int)(CHANNELS[b - 1] * WIDTHS[i]));
        }
        EXPECT_INT(out_of(n, "auxlayer.block.0.weight"), (int)(96 * WIDTHS[i]) / 4);
        net_close(n);
    }
    net_close(full);
}
static int dilation_and_kernel(const Net *n, int block) {                /* 10 dilation + kernel */
    char name[64];
    snprintf(name, sizeof name, "pretrained._blocks.%d._depthwise_conv", block);
    const ConvAttr *a = net_node(n, net_find(n, name))->attr;
    EXPECT(a->same);
    return 10 * a->dilation + a->kw;
}
TEST(dilation_of_efficientnet_lite0_at_stride_8) {
    static const int WANT[16] = {13, 13, 13, 15, 15, 13, 23, 23, 25, 25, 25, 25, 45, 45, 45, 43};
    ModelNodes at;
    Net *n = open_model("deeplabv3_efficientnet_lite0", 19, false, &at);
    for (int b = 0; n && b < 16; b++) EXPECT_INT(dilation_and_kernel(n, b), WANT[b]);
    net_close(n);
}
TEST(efficientnet_lite_has_its_own_batch_norm) {
    ModelNodes at;
    Net *n = open_model("deeplabv3_efficientnet_lite0", 19, false, &at);
    const BnAttr *mine = net_node(n, net_find(n, "pretrained._blocks.3._bn1"))->attr,
                 *head = net_node(n, net_find(n, "head.block.1"))->attr;
    EXPECT(mine->eps == 1e-3f && mine->momentum == 0.01f && head->eps == 1e-5f &&
           head->momentum == 0.1f);
    net_close(n);
}
/* The packages' files: all but the last convolution, its batch norm and the classifier. */
static void efficientnet_backbone_is(const char *model, int tensors, int64_t floats, int last_block,
                                     int last_channels) {
    ModelNodes at;
    char name[64];
    Net *n = open_model(model, 19, false, &at);
    int count = 0;
    int64_t sum = 0;
    for (int i = 0; n && i < n->n_params; i++)
        if (str_starts(n->params[i].name, "pretrained."))
            count++, sum += n->params[i].kind == PARAM_COUNT ? 0 : shape_count(n->params[i].shape);
    EXPECT_INT(count, tensors);
    EXPECT_INT(sum, floats);
    snprintf(name, sizeof name, "pretrained._blocks.%d", last_block);
    EXPECT_INT(net_shape(n, net_find(n, name)).d[1], last_channels);
    snprintf(name, sizeof name, "pretrained._blocks.%d", last_block + 1);
    EXPECT_INT(net_find(n, name).id, 0);
    net_close(n);
}
TEST(efficientnet_lite_has_the_files_tensors) {
    efficientnet_backbone_is("fcn_efficientnet_lite0", 288, 2998304, 15, 320);
    efficientnet_backbone_is("fcn_efficientnet_lite1", 378, 3774624, 20, 320);
    efficientnet_backbone_is("fcn_efficientnet_lite2", 378, 4413488, 20, 352);
}
TEST(a_plain_stem_is_one_convolution) {
    ModelOptions o = {.model = "fcn_resnet50", .classes = 19, .plain_stem = true};
    ModelNodes at;
    Net *n;
    EXPECT_OK(model_open(&o, 65, 65, &n, &at));
    EXPECT(shape_equal(n->params[net_find_param(n, "pretrained.conv1.weight")].shape,
                       SHAPE(64, 3, 7, 7)));
    EXPECT_INT(net_find_param(n, "pretrained.conv2.weight"), -1);
    EXPECT(shape_equal(n->params[net_find_param(n, "pretrained.layer1.0.conv1.weight")].shape,
                       SHAPE(64, 64, 1, 1)));
    net_close(n);
    o.model = "fcn_resnet18";                            /* its first block keeps the stem's 64 channels: no projection */
    EXPECT_OK(model_open(&o, 65, 65, &n, &at));
    EXPECT_INT(net_find_param(n, "pretrained.layer1.0.downsample.0.weight"), -1);
    net_close(n);
}
/* torchvision's: the backbone at stride 16, the low branch and the result at 8, in this order of names. */
TEST(lraspp_is_torchvisions) {
    static const char *const NAMES[] = {
        "cbr.0.weight",           "cbr.1.weight",          "cbr.1.bias",
        "cbr.1.running_mean",     "cbr.1.running_var",     "cbr.1.num_batches_tracked",
        "scale.1.weight",         "low_classifier.weight", "low_classifier.bias",
        "high_classifier.weight", "high_classifier.bias"};
    ModelNodes at;
    Net *n = open_model("lraspp_mobilenetv2", 19, false, &at);
    const int first = net_find_param(n, "head.cbr.0.weight");
    EXPECT_INT(n->n_params - first, 11);
    for (int i = 0; i < 11; i++) EXPECT_STR(n->params[first + i].name + 5, NAMES[i]);
    EXPECT(shape_equal(n->params[first].shape, SHAPE(128, 320, 1, 1)));
    EXPECT(shape_equal(n->params[first + 7].shape, SHAPE(19, 32, 1, 1)));
    EXPECT_INT(net_shape(n, net_find(n, "head.cbr.1")).d[2], 5);         /* 65 at stride 16 */
    EXPECT_INT(net_shape(n, at.logits).d[2], 9);
    net_close(n);
}
TEST(lraspp_starts_from_weights_of_other_classes) {
    ModelNodes at;
    Net *five = open_model("lraspp_mobilenetv2", 5, false, &at),
        *seven = open_model("lraspp_mobilenetv2", 7, false, &at);
    TensorList *list = tensor_list_open();
    net_init_formula(five, 1), net_init_random(seven, 1);
    for (int i = 0; i < five->n_params; i++) {
        const NetParam *p = &five->params[i];
        if (p->kind == PARAM_COUNT) continue;
        memcpy(tensor_add(list, p->name, DT_F32, p->shape)->data, p->data,
               (size_t)shape_count(p->shape) * sizeof(float));
    }
    const SafeFile file = {.tensors = list};
    EXPECT_ERR(model_load_file(seven, &file, "five", 1, 0), E(4, 61));
    EXPECT_HAS(err_text(), "4 of another shape");        /* low and high, weight and bias */
    EXPECT_OK(model_load_file(seven, &file, "five", 1, LOAD_START));
    const int cbr = net_find_param(seven, "head.cbr.0.weight");
    EXPECT(!memcmp(seven->params[cbr].data, five->params[cbr].data, 1000 * sizeof(float)));
    tensor_list_close(list), net_close(five), net_close(seven);
}
TEST(options_a_backbone_lacks_are_refused) {
    ModelNodes at;
    Net *n;
    EXPECT_ERR(model_open(&(ModelOptions){.model = "fcn_resnet18", .classes = 2, .width = 0.5}, 65,
                          65, &n, &at),
               E(2, 76));
    EXPECT_HAS(err_text(), "width 0.5");
    EXPECT_ERR(
        model_open(&(ModelOptions){.model = "fcn_mobilenetv2", .classes = 2, .plain_stem = true},
                   65, 65, &n, &at),
        E(2, 76));
    EXPECT_HAS(err_text(), "stem");
}
TEST(trainable_values_come_first) {
    ModelNodes at;
    Net *n = open_model("deeplabv3_resnet18", 11, true, &at);
    for (int i = 0; i < n->n_params; i++) {
        const NetParam *p = &n->params[i];
        if (p->kind == PARAM_COUNT) continue;
        EXPECT(p->trainable == (p->offset < n->n_trainable));
        EXPECT(p->data == n->values + p->offset && (p->grad != NULL) == p->trainable);
    }
    net_close(n);
}
TEST(a_frozen_net_has_no_gradients) {
    ModelOptions o = {.model = "deeplabv3_resnet18", .classes = 11, .frozen = true};
    ModelNodes at;
    Net *n;
    EXPECT_OK(model_open(&o, 65, 65, &n, &at));
    EXPECT_INT(n->n_trainable, 0);
    EXPECT(!net_node(n, at.logits)->needs_grad);
    EXPECT(net_count_params(n) > 10000000);
    net_close(n);
}
TEST(dropout_off_leaves_no_dropout) {
    for (int off = 0; off < 2; off++) {
        ModelOptions o = {
            .model = "deeplabv3_resnet18", .classes = 11, .aux = true, .dropout_off = off};
        ModelNodes at;
        Net *n;
        EXPECT_OK(model_open(&o, 65, 65, &n, &at));
        int found = 0;
        for (int i = 1; i < n->n_nodes; i++) found += n->nodes[i].op == &op_dropout;
        EXPECT_INT(found, off ? 0 : 3);
        net_close(n);
    }
}
TEST(a_block_is_found_by_its_name) {
    ModelNodes at;
    Net *n = open_model("deeplabv3_resnet18", 11, false, &at);
    const NetNode *block = net_node(n, net_find(n, "pretrained.layer4.1"));
    EXPECT(block->op == &op_relu);
    EXPECT_INT(block->shape.d[1], 512);
    EXPECT_INT(net_find(n, "pretrained.layer4.7").id, 0);
    net_close(n);
}
TEST(unknown_names_are_refused_with_the_nearest) {
    Net *n;
    ModelNodes at;
    EXPECT_ERR(
        model_open(&(ModelOptions){.model = "deeplabv3_resnet19", .classes = 2}, 65, 65, &n, &at),
        E(2, 76));
    EXPECT_HAS(err_text(), "deeplabv3_resnet1");
    EXPECT_ERR(
        model_open(
            &(ModelOptions){.model = "deeplabv3_resnet18", .classes = 2, .norm = "rgb-imagnet"}, 65,
            65, &n, &at),
        E(2, 76));
    EXPECT_HAS(err_text(), "rgb-imagenet");
    EXPECT_ERR(model_open(&(ModelOptions){.model = "deeplabv3_resnet18"}, 65, 65, &n, &at),
               E(2, 37));
}
TEST(formula_weights_are_the_documented) {
    /* Computed with Python integers from the rule of docs/formats.md. */
    ModelNodes at;
    Net *n = open_model("deeplabv3_resnet18", 11, true, &at);
    EXPECT_OK(model_load_weights(n, "formula:1", 0, 0));
    const NetParam *w = &n->params[net_find_param(n, "pretrained.conv1.weight")];
    const NetParam *v = &n->params[net_find_param(n, "pretrained.bn1.running_var")];
    const NetParam *b = &n->params[net_find_param(n, "head.block.4.bias")];
    EXPECT(w->data[0] == 0x1.fbfe160000000p-3f && w->data[100] == -0x1.91f5d60000000p-4f);
    EXPECT(v->data[3] == 0x1.29d99c0000000p+0f);
    EXPECT(b->data[10] == 0x1.b5bc5a0000000p-5f);
    net_close(n);
}
TEST(random_weights_have_the_stated_spread) {
    ModelNodes at;
    Net *n = open_model("deeplabv3_resnet18", 11, true, &at);
    EXPECT_OK(model_load_weights(n, "none", 7, 0));
    const NetParam *w = &n->params[net_find_param(n, "pretrained.layer4.1.conv2.weight")];   /* backbone: fan out */
    const NetParam *h = &n->params[net_find_param(n, "head.block.0.weight")];                /* head: uniform, fan in */
    double square = 0, largest = 0;
    for (int64_t i = 0; i < shape_count(w->shape); i++) square += (double)w->data[i] * w->data[i];
    EXPECT_NEAR(square / (double)shape_count(w->shape) / (2.0 / (9 * 512)), 1, 0.01);        /* 2.4 million draws */
    for (int64_t i = 0; i < shape_count(h->shape); i++) largest = fmax(largest, fabs(h->data[i]));
    EXPECT_NEAR(largest * sqrt(9 * 128), 1, 1e-3);
    EXPECT(largest * sqrt(9 * 128) <= 1);
    net_close(n);
}
TEST_MAIN(T(deeplabv3_resnet18_names), T(deeplabv3_resnet50_names), T(deeplabv3_resnet101_names),
          T(deeplabv3_mobilenetv2_names), T(pspnet_resnet18_names), T(pspnet_resnet50_names),
          T(pspnet_resnet101_names), T(pspnet_mobilenetv2_names),
          T(every_model_opens_at_every_stride), T(multiply_adds_are_the_published),
          T(dilation_of_mobilenetv2_at_stride_8), T(dilation_of_resnets_at_stride_8),
          T(dilation_of_efficientnet_lite0_at_stride_8),
          T(efficientnet_lite_has_its_own_batch_norm), T(efficientnet_lite_has_the_files_tensors),
          T(a_plain_stem_is_one_convolution), T(lraspp_is_torchvisions),
          T(lraspp_starts_from_weights_of_other_classes), T(options_a_backbone_lacks_are_refused),
          T(width_scales_mobilenetv2), T(trainable_values_come_first),
          T(a_frozen_net_has_no_gradients), T(dropout_off_leaves_no_dropout),
          T(a_block_is_found_by_its_name), T(unknown_names_are_refused_with_the_nearest),
          T(formula_weights_are_the_documented), T(random_weights_have_the_stated_spread))
