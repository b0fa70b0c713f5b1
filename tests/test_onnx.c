/* ONNX files: what the reader and the importer take, and that damage and malice are errors with a name (rows 46
 * and 60 of the failure table), never a crash. Whole networks: test_onnx_nets.c. */
#include "base/rng.h"
#include "base/str.h"
#include "base/sys.h"
#include "io/onnx.h"
#include "models/model.h"
#include "onnx_writer.h"
#include "tempdir.h"
#include "test.h"

#define GOLDEN SOURCE_DIR "/tests/golden/onnx/"
enum { FLOATS = 1, BYTES = 2, WHOLE = 7 };
static const int64_t FREE[] = {-1, 3, -1, -1};

TEST(espnet_is_read) {
    const char *root = sys_test_data();
    if (!root) SKIP("no RETORT_TEST_DATA");
    char path[512];
    snprintf(path, sizeof path, "%s/onnx/espnetv2_city_512x1024.onnx", root);
    if (!sys_exists(path)) SKIP("%s is not there", path);
    OnnxModel *m;
    EXPECT_OK(onnx_read(path, &m));
    EXPECT_INT(m->n_node, 500);
    EXPECT_INT(m->opset, 13);
    EXPECT_INT(m->n_input, 1);
    EXPECT_STR(m->value[m->input[0]].name, "image");
    onnx_close(m);
}

/* ---- small files ------------------------------------------------------------------------------------------ */

static void write_file(const char *path, const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    EXPECT(f && fwrite(data, 1, n, f) == n);
    if (f) fclose(f);
}
/* Opens the model (takes it) as a network for 16 x 16 images. */
static Err open_written(Proto *model, const ModelOptions *o, Net **n, ModelNodes *at) {
    ModelOptions with = o ? *o : (ModelOptions){0};
    with.model = temp_path("m.onnx");
    write_file(with.model, model->data, model->n);
    free(model->data);
    return model_open(&with, 16, 16, n, at);
}
static void put_floats(Proto *graph, const char *name, const int64_t *dims, int rank, int64_t n) {
    Proto t = onnx_tensor_of(name, FLOATS, dims, rank);
    float *v = xcalloc((size_t)n + 1, sizeof *v);
    for (int64_t i = 0; i < n; i++) v[i] = 0.1f * (float)(i % 5);
    pb_block(&t, 9, v, (size_t)n * sizeof *v);
    free(v);
    pb_message(graph, 5, &t);
}
static void put_whole(Proto *graph, const char *name, const int64_t *v, int n) {
    Proto t = onnx_tensor_of(name, WHOLE, (const int64_t[]){n}, 1);
    pb_block(&t, 9, v, (size_t)n * sizeof *v);
    pb_message(graph, 5, &t);
}
static void put_node(Proto *graph, const char *op, const char *in, const char *out) {
    Proto n = onnx_node_of(op, in, out);
    pb_text(&n, 3, op);
    pb_message(graph, 1, &n);
}
static void put_ends(Proto *graph, const char *output) {
    Proto in = onnx_value_of("image", FLOATS, FREE, 4), out = {0};
    pb_text(&out, 1, output);
    pb_message(graph, 11, &in), pb_message(graph, 12, &out);
}
/* The network of a graph whose result is "logits". */
static Err open_graph(Proto *g, int opset, Net **n, ModelNodes *at) {
    put_ends(g, "logits");
    Proto m = onnx_model_of(g, opset);
    return open_written(&m, NULL, n, at);
}
/* image -> 1x1 convolution to 4 channels: "logits". */
static Proto conv_graph(void) {
    Proto g = {0};
    put_floats(&g, "w", (const int64_t[]){4, 3, 1, 1}, 4, 12);
    put_node(&g, "Conv", "image w", "logits");
    return g;
}
TEST(a_written_file_is_a_network) {
    Proto g = conv_graph();
    Net *n;
    ModelNodes at;
    EXPECT_OK(open_graph(&g, 17, &n, &at));
    EXPECT(shape_equal(net_shape(n, at.logits), SHAPE(1, 4, 16, 16)));
    EXPECT(n->params[0].data[7] == 0.1f * 2);
    net_close(n);
}

TEST(weights_that_are_not_numbers_are_refused) {
    const float v[12] = {[5] = NAN};
    Proto g = {0}, t = onnx_tensor_of("w", FLOATS, (const int64_t[]){4, 3, 1, 1}, 4);
    pb_block(&t, 9, v, sizeof v), pb_message(&g, 5, &t);
    put_node(&g, "Conv", "image w", "logits");
    put_ends(&g, "logits");
    Proto m = onnx_model_of(&g, 17);
    Net *n;
    ModelNodes at;
    EXPECT_ERR(open_written(&m, NULL, &n, &at), E(4, 17));
    EXPECT_HAS(err_text(), "tensor w has the value nan at element 5");
}

/* ---- what is around a network ------------------------------------------------------------------------------ */

static const NormalizeAttr *norm_of(const Net *n) {
    for (int i = 1; i < n->n_nodes; i++)
        if (n->nodes[i].op == &op_normalize) return n->nodes[i].attr;
    return NULL;
}
/* A file that begins with (image op c1) op2 c2: the factor its pixels get before it. */
static void expect_scale(const char *op1, float c1, const char *op2, float c2, float want) {
    Proto g = {0};
    const float c[] = {c1, c2};
    for (int i = 0; i < 2; i++) {
        Proto t = onnx_tensor_of(i ? "c2" : "c1", FLOATS, (const int64_t[]){1}, 1);
        pb_block(&t, 9, &c[i], sizeof c[i]);
        pb_message(&g, 5, &t);
    }
    put_floats(&g, "w", (const int64_t[]){4, 3, 1, 1}, 4, 12);
    put_node(&g, op1, "image c1", "a"), put_node(&g, op2, "a c2", "b"),
        put_node(&g, "Conv", "b w", "logits");
    Net *n;
    ModelNodes at;
    EXPECT_OK(open_graph(&g, 17, &n, &at));
    EXPECT_NEAR(norm_of(n)->inv_std[0], want, 1e-7);
    EXPECT(norm_of(n)->mean[0] == 0 && !norm_of(n)->bgr);
    net_close(n);
}
TEST(a_file_that_normalises_gets_plain_pixels) {
    expect_scale("Sub", 0.45f, "Div", 0.22f, 1.0f / 255);
    expect_scale("Mul", 2, "Sub", 1, 1.0f / 255);
    expect_scale("Sub", 117.5f, "Div", 58, 1);
    expect_scale("Div", 255, "Sub", 0.45f, 1);
    expect_scale("Mul", 1.0f / 255, "Sub", 0.45f, 1);
    Proto g = conv_graph();
    Net *n;
    ModelNodes at;
    EXPECT_OK(open_graph(&g, 17, &n, &at));
    EXPECT_NEAR(norm_of(n)->mean[0], 255 * 0.485, 1e-4);
    net_close(n);
}
TEST(bytes_with_channels_last_are_an_image) {
    Proto g = {0}, cast = onnx_node_of("Cast", "image", "f"),
          turn = onnx_node_of("Transpose", "f", "x");
    put_floats(&g, "w", (const int64_t[]){4, 3, 1, 1}, 4, 12);
    onnx_attr_int(&cast, "to", 1), onnx_attr_ints(&turn, "perm", (const int64_t[]){0, 3, 1, 2}, 4);
    pb_message(&g, 1, &cast), pb_message(&g, 1, &turn);
    put_node(&g, "Conv", "x w", "logits");
    Proto in = onnx_value_of("image", BYTES, (const int64_t[]){1, 24, 32, 3}, 4), out = {0};
    pb_text(&out, 1, "logits");
    pb_message(&g, 11, &in), pb_message(&g, 12, &out);
    Proto m = onnx_model_of(&g, 17);
    Net *n;
    ModelNodes at;
    EXPECT_OK(open_written(&m, NULL, &n, &at));
    EXPECT(shape_equal(net_shape(n, at.logits), SHAPE(1, 4, 24, 32)));
    EXPECT(norm_of(n)->inv_std[0] == 1);
    net_close(n);
}
TEST(a_file_of_one_size_refuses_others_or_resizes) {
    for (int exact = 0; exact < 2; exact++) {
        Proto g = conv_graph(),
              in = onnx_value_of("image", FLOATS, (const int64_t[]){1, 3, 24, 32}, 4), out = {0};
        pb_text(&out, 1, "logits");
        pb_message(&g, 11, &in), pb_message(&g, 12, &out);
        Proto m = onnx_model_of(&g, 17);
        Net *n = NULL;
        ModelNodes at;
        Err rc = open_written(&m, &(ModelOptions){.exact_size = exact}, &n, &at);
        EXPECT_INT(rc, exact ? E(2, 76) : OK);
        if (exact)
            EXPECT_HAS(
                err_text(),
                "takes images of 24x32, not 16x16; give data.crop=24x32 or teacher.input=resize");
        else if (!rc) EXPECT(shape_equal(net_shape(n, at.logits), SHAPE(1, 4, 24, 32)));
        net_close(n);
    }
}
/* conv -> op [-> Resize by 2] */
static Err open_ended(const char *op, bool resized, const ModelOptions *o, Net **n,
                      ModelNodes *at) {
    Proto g = conv_graph(), end = onnx_node_of(op, "logits", "end");
    static const float twice[] = {1, 1, 2, 2};
    Proto t = onnx_tensor_of("scales", FLOATS, (const int64_t[]){4}, 1);
    pb_block(&t, 9, twice, sizeof twice);
    pb_message(&g, 5, &t);
    onnx_attr_int(&end, "axis", 1);
    pb_message(&g, 1, &end);
    if (resized) {
        Proto r = {0};
        pb_text(&r, 1, "end"), pb_text(&r, 1, ""), pb_text(&r, 1, "scales"), pb_text(&r, 2, "big"),
            pb_text(&r, 4, "Resize");
        pb_message(&g, 1, &r);
    }
    put_ends(&g, resized ? "big" : "end");
    Proto m = onnx_model_of(&g, 17);
    *n = NULL;
    return open_written(&m, o, n, at);
}
TEST(what_only_turns_logits_into_something_else_is_left_out) {
    Net *n;
    ModelNodes at;
    static const char *const LAST[] = {"Softmax", "LogSoftmax", "Sigmoid", "ArgMax"};
    for (int i = 0; i < 4; i++) {
        EXPECT_OK(open_ended(LAST[i], false, NULL, &n, &at));
        EXPECT(net_node(n, at.logits)->op == &op_conv2d);
        net_close(n);
    }
    EXPECT_OK(open_ended("Softmax", true, NULL, &n, &at));
    EXPECT(shape_equal(net_shape(n, at.logits), SHAPE(1, 4, 32, 32)));
    EXPECT(net_node(n, at.logits)->op == &op_unary &&
           ((const UnaryAttr *)net_node(n, at.logits)->attr)->kind == UNARY_LOG);
    net_close(n);
}
/* A map that was turned to channels last is turned back: 16 rows are no 16 classes. */
TEST(logits_may_come_with_channels_last) {
    static const char *const END[] = {NULL, "Softmax", "ArgMax"};
    for (int i = 0; i < 3; i++) {
        Proto g = conv_graph(), turn = onnx_node_of("Transpose", "logits", "turned");
        onnx_attr_ints(&turn, "perm", (const int64_t[]){0, 2, 3, 1}, 4);
        pb_message(&g, 1, &turn);
        if (END[i]) {
            Proto end = onnx_node_of(END[i], "turned", "end");
            onnx_attr_int(&end, "axis", -1);
            pb_message(&g, 1, &end);
        }
        put_ends(&g, END[i] ? "end" : "turned");
        Proto m = onnx_model_of(&g, 17);
        Net *n;
        ModelNodes at;
        EXPECT_OK(open_written(&m, NULL, &n, &at));
        EXPECT(net_node(n, at.logits)->op == &op_conv2d);
        net_close(n);
    }
}
/* Starts and ends beyond the side are held inside, as by ONNX: 16 rows from 100 back to -1, in constants and nodes. */
TEST(slices_beyond_a_side_are_held_inside) {
    static const struct { int64_t start, end, step, want, first; } cases[] = {
        {100, -100, -1, 16, 15}, {-100, -200, -1, 1, 0}, {-100, 100, 1, 16, 0}, {3, -100, -2, 2, 3},
        {-2, INT64_MAX, 1, 2, 14}, {INT64_MAX, INT64_MIN, -5, 4, 15},
        {2, INT64_MAX, -1, 3, 2}, {2, INT32_MAX, -1, 3, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Proto g = {0};
        int64_t row[16];
        for (int k = 0; k < 16; k++) row[k] = k;
        put_whole(&g, "row", row, 16);
        put_whole(&g, "start", &cases[i].start, 1), put_whole(&g, "end", &cases[i].end, 1);
        put_whole(&g, "step", &cases[i].step, 1), put_whole(&g, "rows", (int64_t[]){2}, 1);
        put_whole(&g, "first", (int64_t[]){0}, 1);
        put_node(&g, "Slice", "image start end rows step", "part");
        put_node(&g, "Slice", "row start end first step", "which");
        Proto take = onnx_node_of("Gather", "image which", "same");
        onnx_attr_int(&take, "axis", 2), pb_message(&g, 1, &take);
        put_node(&g, "Add", "part same", "logits");
        put_ends(&g, "logits");
        Proto m = onnx_model_of(&g, 17);
        Net *n = NULL;
        ModelNodes at;
        EXPECT_OK(open_written(&m, NULL, &n, &at));
        if (!n) return;
        EXPECT_INT(net_shape(n, at.logits).d[2], cases[i].want);
        const SliceAttr *a = net_node(n, net_find(n, "part"))->attr;
        EXPECT_INT(a->start[2], cases[i].first);
        net_close(n);
    }
}
/* image -> op, its attribute `key` = v (or its second input, when key is NULL) -> Reshape to 1 x 3 x 16 x 16 -> Conv:
 * for one sample, built for two. */
static Err build_for_two(const char *op, const char *key, int64_t v) {
    Proto g = {0}, n = onnx_node_of(op, key ? "image" : "image v", "x");
    put_floats(&g, "w", (const int64_t[]){4, 3, 1, 1}, 4, 12);
    put_whole(&g, "v", &v, 1), put_whole(&g, "shape", (int64_t[]){1, 3, 16, 16}, 4);
    if (key) onnx_attr_int(&n, key, v);
    pb_message(&g, 1, &n);
    put_node(&g, "Reshape", "x shape", "y"), put_node(&g, "Conv", "y w", "logits");
    Proto in = onnx_value_of("image", FLOATS, (const int64_t[]){1, 3, 16, 16}, 4), out = {0};
    pb_text(&out, 1, "logits");
    pb_message(&g, 11, &in), pb_message(&g, 12, &out);
    Proto m = onnx_model_of(&g, 18);
    Net *net, *two = NULL;
    ModelNodes at;
    Err rc = open_written(&m, NULL, &net, &at);
    if (rc) return rc;
    rc = net->rebuild(net, SHAPE(2, 3, 16, 16), &two);
    net_close(two), net_close(net);
    return rc;
}
TEST(samples_are_not_mixed_in_a_file_for_one) {
    static const struct { const char *op, *key; int64_t v; bool fine;
    } cases[] = {{"Softmax", "axis", 1, true},     {"Softmax", "axis", 0, false},
                 {"LogSoftmax", "axis", -4, false}, {"ReduceMean", NULL, 0, false},
                 {"Unsqueeze", NULL, 4, true},      {"Unsqueeze", NULL, 0, false},
                 {"Flatten", "axis", 1, true},      {"Flatten", "axis", 0, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        EXPECT_INT(build_for_two(cases[i].op, cases[i].key, cases[i].v),
                   cases[i].fine ? OK : E(4, 60));
        if (!cases[i].fine) EXPECT_HAS(err_text(), "mixes samples when the batch is 2");
    }
}
TEST(slopes_may_have_a_dimension_for_the_batch) {
    Proto g = {0};
    put_floats(&g, "slopes", (const int64_t[]){1, 3, 1, 1}, 4, 3);
    put_node(&g, "PRelu", "image slopes", "logits");
    Net *n;
    ModelNodes at;
    EXPECT_OK(open_graph(&g, 17, &n, &at));
    EXPECT_INT(((const PreluAttr *)net_node(n, at.logits)->attr)->slopes, 3);
    net_close(n);
}
TEST(a_norm_along_no_axes_is_the_magnitude) {
    Proto g = {0}, l2 = onnx_node_of("ReduceL2", "image", "logits");
    onnx_attr_int(&l2, "noop_with_empty_axes", 1), pb_message(&g, 1, &l2);
    Net *n;
    ModelNodes at;
    EXPECT_OK(open_graph(&g, 18, &n, &at));
    EXPECT(net_node(n, at.logits)->op == &op_unary);
    EXPECT_INT(((const UnaryAttr *)net_node(n, at.logits)->attr)->kind, UNARY_ABS);
    net_close(n);
}
TEST(parts_of_a_split_have_their_own_names) {
    Proto g = {0}, split = onnx_node_of("Split", "image sizes", "a b c");
    put_whole(&g, "sizes", (int64_t[]){2, 4, 10}, 3);
    onnx_attr_int(&split, "axis", 3), pb_message(&g, 1, &split);
    put_node(&g, "Relu", "a", "logits");
    Net *n;
    ModelNodes at;
    EXPECT_OK(open_graph(&g, 17, &n, &at));
    EXPECT_INT(net_shape(n, net_find(n, "a")).d[3], 2);
    EXPECT_INT(net_shape(n, net_find(n, "b")).d[3], 4);
    EXPECT_INT(net_shape(n, net_find(n, "c")).d[3], 10);
    EXPECT_INT(net_shape(n, at.logits).d[3], 2);
    net_close(n);
}
/* By PyTorch and ONNX Runtime 16 * 0.7 and 16 * 2.3 are 11 and 36; 10 * 0.7 is 7, though 0.7f is below 0.7. */
TEST(sides_are_scaled_in_float32) {
    static const struct { int side; float scale; int want; } cases[] = {
        {16, 0.7f, 11}, {16, 2.3f, 36}, {10, 0.7f, 7}, {10, 2.3f, 23}, {10, 1.9f, 19}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const float scales[] = {1, 1, cases[i].scale, cases[i].scale};
        Proto g = conv_graph(), r = {0},
              t = onnx_tensor_of("scales", FLOATS, (const int64_t[]){4}, 1);
        pb_block(&t, 9, scales, sizeof scales), pb_message(&g, 5, &t);
        pb_text(&r, 1, "logits"), pb_text(&r, 1, ""), pb_text(&r, 1, "scales");
        pb_text(&r, 2, "big"), pb_text(&r, 4, "Resize");
        pb_message(&g, 1, &r);
        put_ends(&g, "big");
        Proto m = onnx_model_of(&g, 17);
        ModelOptions o = {.model = temp_path("m.onnx")};
        write_file(o.model, m.data, m.n), free(m.data);
        Net *n;
        ModelNodes at;
        EXPECT_OK(model_open(&o, cases[i].side, cases[i].side, &n, &at));
        EXPECT_INT(net_shape(n, at.logits).d[2], cases[i].want);
        net_close(n);
    }
}
static bool is_log(const Net *n, Node x) {
    return net_node(n, x)->op == &op_unary &&
           ((const UnaryAttr *)net_node(n, x)->attr)->kind == UNARY_LOG;
}
TEST(of_a_class_map_what_its_argmax_reads_is_taken) {
    Net *n;
    ModelNodes at;
    for (int said = 0; said < 2; said++)
        for (int resized = 0; resized < 2; resized++) {
            EXPECT_OK(open_ended("ArgMax", resized,
                                 &(ModelOptions){.output = said ? OUTPUT_CLASSMAP : OUTPUT_LOGITS},
                                 &n, &at));
            EXPECT(net_node(n, at.logits)->op == &op_conv2d);
            net_close(n);
        }
    EXPECT_OK(open_ended("ArgMax", true, &(ModelOptions){.output = OUTPUT_CLASSMAP, .tap = {"end"}},
                         &n, &at));
    EXPECT(net_node(n, at.logits)->op == &op_conv2d);
    net_close(n);
    EXPECT_ERR(open_ended("Softmax", false, &(ModelOptions){.output = OUTPUT_CLASSMAP}, &n, &at),
               E(4, 60));
    EXPECT_HAS(err_text(), "output end is no argmax, resized or not; name the logits instead");
}
/* A softmax at the end is cut off; what nobody can see to be probabilities is by the user's word. */
TEST(of_probabilities_the_logarithm_is_taken) {
    Net *n;
    ModelNodes at;
    const ModelOptions said = {.output = OUTPUT_PROBABILITIES},
                       tapped = {.output = OUTPUT_PROBABILITIES, .tap = {"end"}};
    EXPECT_OK(open_ended("Softmax", false, &said, &n, &at));
    EXPECT(net_node(n, at.logits)->op == &op_conv2d);
    net_close(n);
    EXPECT_OK(open_ended("Abs", false, &said, &n, &at));
    EXPECT(is_log(n, at.logits));
    net_close(n);
    EXPECT_OK(open_ended("Abs", false, &tapped, &n, &at));
    EXPECT(is_log(n, at.logits));
    net_close(n);
    EXPECT_OK(open_ended("Softmax", true, &said, &n, &at));
    EXPECT(is_log(n, at.logits) && shape_equal(net_shape(n, at.logits), SHAPE(1, 4, 32, 32)));
    net_close(n);
}
TEST(of_another_output_the_tensor_to_tap_is_named) {
    Net *n;
    ModelNodes at;
    EXPECT_ERR(open_ended("Flatten", false, NULL, &n, &at), E(4, 60));
    EXPECT_HAS(err_text(), "the tensor to tap instead may be logits");
    EXPECT_ERR(open_ended("ArgMax", true, &(ModelOptions){.tap = {"logit"}}, &n, &at), E(2, 76));
    EXPECT_HAS(err_text(), "holds no value logit; did you mean logits");
}
TEST(classes_come_in_the_order_that_is_asked_for) {
    static const int map[] = {3, 1}, wrong[] = {0, 4};
    Proto g[2];
    for (int i = 0; i < 2; i++) {
        g[i] = conv_graph();
        put_ends(&g[i], "logits");
        g[i] = onnx_model_of(&g[i], 17);
    }
    Net *n;
    ModelNodes at;
    EXPECT_OK(open_written(&g[0], &(ModelOptions){.class_map = map, .n_class_map = 2}, &n, &at));
    EXPECT(shape_equal(net_shape(n, at.logits), SHAPE(1, 2, 16, 16)));
    net_close(n);
    EXPECT_ERR(open_written(&g[1], &(ModelOptions){.class_map = wrong, .n_class_map = 2}, &n, &at),
               E(2, 37));
    EXPECT_HAS(err_text(), "asks for class 4, m.onnx has 0 to 3");
}

/* ---- malice ------------------------------------------------------------------------------------------------ */

/* A graph with one node of op over the image and constants, and what the error must hold. */
typedef struct {
    const char *op, *in;
    int64_t whole[6];
    int n_whole;
    const char *attr;
    int64_t value[6];
    int n_value;
    const char *says;
} Bad;
static const Bad BAD[] = {
    {"Frobnicate",
     "image",
     {0},
     0,
     NULL,
     {0},
     0,
     "node Frobnicate (Frobnicate): operator Frobnicate is not supported"},
    {"Relu",
     "nothing",
     {0},
     0,
     NULL,
     {0},
     0,
     "node Relu: reads a value that nothing before it makes"},
    {"Relu", "logits", {0}, 0, NULL, {0}, 0, "nothing before it makes"},
    {"Relu", "", {0}, 0, NULL, {0}, 0, "an input is missing"},
    {"Reshape", "image k", {1, 5, 7}, 3, NULL, {0}, 0, "does not fit into"},
    {"Reshape", "image k", {1ll << 40, 1ll << 40}, 2, NULL, {0}, 0, "target shape holds"},
    {"Reshape", "image image", {0}, 0, NULL, {0}, 0, "depends on the image's content"},
    {"Expand", "image k", {1, 3, 1ll << 40, 1ll << 40}, 4, NULL, {0}, 0, "does not fill"},
    {"Tile", "image k", {1, 1, 1ll << 29, 1ll << 29}, 4, NULL, {0}, 0, "repeats"},
    {"Tile", "image k", {1, 1, 1 << 15, 1 << 15}, 4, NULL, {0}, 0, "too big"},
    {"Gather", "image k", {3}, 1, "axis", {1}, -1, "index 3 of a dimension of 3"},
    {"Gather", "image k", {0}, 1, "axis", {9}, -1, "axis 9 of 4 dimensions"},
    {"Slice", "image k k k k", {0}, 1, NULL, {0}, 0, "step 0"},
    {"Slice", "image k k", {2}, 1, NULL, {0}, 0, "slice"},
    {"Pad", "image k", {0, 0, 0, 0, 1 << 20, 0}, 6, NULL, {0}, 0, "with 6 numbers"},
    {"Transpose", "image", {0}, 0, "perm", {0, 1, 1, 3}, 4, "no permutation"},
    {"Transpose", "image", {0}, 0, "perm", {0, 1}, 2, "perm does not fit"},
    {"Transpose", "w", {0}, 0, "perm", {0, 0, 0, 0}, 4, "no permutation"},
    {"Unsqueeze", "v k", {0, 0}, 2, NULL, {0}, 0, "names an axis twice"},
    {"Conv", "image w", {0}, 0, "group", {0}, -1, "0 groups"},
    {"Conv", "image w", {0}, 0, "strides", {0, 0}, 2, "below 1"},
    {"Conv", "image w", {0}, 0, "strides", {1, 1, 1}, 3, "must hold 2 numbers"},
    {"Conv", "image w", {0}, 0, "pads", {0, 0, 1 << 20, 0}, 4, "pads holds 1048576"},
    {"Conv", "image w", {0}, 0, "pads", {-1, 0, 0, 0}, 4, "pads below 0"},
    {"Conv", "image image", {0}, 0, NULL, {0}, 0, "its weights are not constants"},
    {"Conv", "image v", {0}, 0, NULL, {0}, 0, "its weights are not constants"},
    {"ConvTranspose", "image t", {0}, 0, "strides", {32767, 32767}, 2, "too big"},
    {"MaxPool", "image", {0}, 0, "kernel_shape", {99, 99}, 2, "larger than its input"},
    {"MaxPool", "image", {0}, 0, NULL, {0}, 0, "below 1"},
    {"Split", "image k", {1, 9}, 2, "axis", {1}, -1, "2 sizes for 1 parts"},
    {"DepthToSpace", "image", {0}, 0, "blocksize", {2}, -1, "blocks of 2"},
    {"MatMul", "image w", {0}, 0, NULL, {0}, 0, "do not multiply"},
    {"Add", "image v", {0}, 0, NULL, {0}, 0, "do not broadcast"},
    {"BatchNormalization", "image v v v v", {0}, 0, NULL, {0}, 0, "is no constant of 3 channels"},
    {"ConstantOfShape", "k", {1 << 20, 1 << 20}, 2, NULL, {0}, 0, "too big"},
    {"ConstantOfShape", "k", {-4}, 1, NULL, {0}, 0, "negative"},
    {"Resize", "image", {0}, 0, NULL, {0}, 0, "wants 4 sizes or scales"},
    {"Resize", "image k k k", {1, 3, 1ll << 33, 4}, 4, NULL, {0}, 0, "a side of"},
    {"Flatten", "image", {0}, 0, "axis", {99}, -1, "axis 99"},
    {"CastLike", "image k", {1}, 1, NULL, {0}, 0, "to whole numbers"},
    {"DequantizeLinear", "image s", {0}, 0, NULL, {0}, 0, "is not behind a QuantizeLinear"},
    {"QuantizeLinear", "image z", {0}, 0, NULL, {0}, 0, "not one constant above 0"},
    {"DequantizeLinear", "w s", {0}, 0, "block_size", {2}, -1, "of blocks"},
    {"DequantizeLinear", "q v", {0}, 0, NULL, {0}, 0, "scale or zero point differ"},
};
static Proto bad_graph(const Bad *b) {
    Proto g = {0}, n = onnx_node_of(b->op, b->in, "logits");
    put_floats(&g, "w", (const int64_t[]){4, 3, 1, 1}, 4, 12);
    put_floats(&g, "t", (const int64_t[]){3, 4, 2, 2}, 4, 48);
    put_floats(&g, "v", (const int64_t[]){7}, 1, 7);
    Proto s = onnx_tensor_of("s", FLOATS, NULL, 0);
    pb_block(&s, 9, &(float){0.5f}, sizeof(float)), pb_message(&g, 5, &s);
    put_floats(&g, "z", (const int64_t[]){1}, 1, 1);
    if (strstr(b->in, "q ")) put_node(&g, "QuantizeLinear", "image s", "q");
    put_whole(&g, "k", b->whole, b->n_whole);
    pb_text(&n, 3, b->op);
    if (b->attr && b->n_value < 0) onnx_attr_int(&n, b->attr, b->value[0]);
    else if (b->attr) onnx_attr_ints(&n, b->attr, b->value, b->n_value);
    pb_message(&g, 1, &n);
    put_ends(&g, "logits");
    return g;
}
TEST(nodes_that_cannot_be_are_named) {
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        Proto g = bad_graph(&BAD[i]), m = onnx_model_of(&g, 17);
        Net *n = NULL;
        ModelNodes at;
        Err rc = open_written(&m, NULL, &n, &at);
        if ((rc != E(4, 60) && rc != E(7, 60)) || !strstr(err_text(), BAD[i].says))
            FAIL("%s: E%d %s, expected \"%s\"", BAD[i].op, rc, rc ? err_text() : "", BAD[i].says);
        net_close(n);
    }
}
/* The tensor "w" of a convolution is as given. */
static void expect_tensor_refused(Proto *w, const char *says) {
    Proto g = {0};
    pb_message(&g, 5, w);
    put_node(&g, "Conv", "image w", "logits");
    put_ends(&g, "logits");
    Proto m = onnx_model_of(&g, 17);
    OnnxModel *read = NULL;
    EXPECT_ERR(onnx_parse(m.data, m.n, "m.onnx", NULL, &read), E(4, 60));
    EXPECT_HAS(err_text(), says);
    free(m.data);
}
TEST(tensors_that_cannot_be_are_named) {
    static const struct {
        int64_t dims[8];
        int rank, type;
        size_t bytes;
        const char *says;
    } cases[] = {
        {{4, -3, 1, 1}, 4, FLOATS, 48, "tensor w: negative dimension"},
        {{1ll << 40, 1ll << 40}, 2, FLOATS, 48, "more elements than memory can hold"},
        {{INT64_MAX}, 1, FLOATS, 48, "more elements than memory can hold"},
        {{4, 3, 1, 1}, 4, FLOATS, 47, "raw data do not fill its shape"},
        {{4, 3, 1, 1}, 4, FLOATS, 0, "raw data do not fill its shape"},
        {{1, 1, 1, 1, 1, 1, 1}, 7, FLOATS, 4, "more than 6 dimensions"},
        {{4, 3, 1, 1}, 4, 8, 48, "element type 8 is not read"},
        {{4, 3, 1, 1}, 4, 99, 48, "element type 99 is not read"},
    };
    static const char zeros[64];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Proto w = onnx_tensor_of("w", cases[i].type, cases[i].dims, cases[i].rank);
        pb_block(&w, 9, zeros, cases[i].bytes);
        expect_tensor_refused(&w, cases[i].says);
    }
}
static void expect_file_refused(Proto *m, Err rc, const char *says) {
    OnnxModel *read = NULL;
    EXPECT_ERR(onnx_parse(m->data, m->n, "m.onnx", NULL, &read), rc);
    EXPECT_HAS(err_text(), says);
    free(m->data);
}
TEST(files_that_cannot_be_are_refused) {
    Proto g = conv_graph(), m = onnx_model_of(&g, 9);
    expect_file_refused(&m, E(4, 60), "opset 9; export the model with opset_version=11 or newer");
    m = (Proto){0};
    pb_int(&m, 1, 8);
    expect_file_refused(&m, E(4, 60), "holds no graph");
    for (int i = 0; i < 1000000; i++) pb_block(&g, 1, "", 0);            /* nodes of two bytes */
    m = onnx_model_of(&g, 17);
    expect_file_refused(&m, E(4, 60), "would unpack to more than");
    Proto inner = {0};
    for (int i = 0; i < 200; i++) {                                     /* a graph within a node within a graph ... */
        Proto attr = {0}, node = {0};
        pb_message(&attr, 6, &inner), pb_message(&node, 5, &attr), pb_message(&inner, 1, &node);
    }
    m = onnx_model_of(&inner, 17);
    expect_file_refused(&m, E(4, 60), "nested more than 100 deep");
    g = conv_graph();
    put_node(&g, "Relu", "image", "logits");
    put_ends(&g, "logits");
    m = onnx_model_of(&g, 17);
    expect_file_refused(&m, E(4, 60), "makes a value that exists already");
    g = conv_graph();
    put_ends(&g, "nothing");
    m = onnx_model_of(&g, 17);
    expect_file_refused(&m, E(4, 60), "is made by no node");
}
TEST(growth_is_stopped_before_memory_is) {
    Proto g = conv_graph();
    for (int i = 0; i < 60; i++) {
        char in[64], out[32];
        snprintf(in, sizeof in, i ? "c%d c%d" : "logits logits", i - 1, i - 1),
            snprintf(out, sizeof out, "c%d", i);
        Proto n = onnx_node_of("Concat", in, out);
        onnx_attr_int(&n, "axis", 1);
        pb_message(&g, 1, &n);
    }
    put_ends(&g, "c59");
    Proto m = onnx_model_of(&g, 17);
    Net *n = NULL;
    ModelNodes at;
    EXPECT_ERR(open_written(&m, NULL, &n, &at), E(4, 60));
    EXPECT_HAS(err_text(), "too big");

    g = conv_graph();                                    /* 255 MB five times, all of it zeros that nobody touches */
    put_whole(&g, "k", (const int64_t[]){255, 1 << 18}, 2);
    for (int i = 0; i < 5; i++) {
        char out[32];
        snprintf(out, sizeof out, "f%d", i);
        put_node(&g, "ConstantOfShape", "k", out);
    }
    put_node(&g, "Sum", "logits f0 f1 f2 f3 f4", "end");
    put_ends(&g, "end");
    m = onnx_model_of(&g, 17);
    EXPECT_ERR(open_written(&m, NULL, &n, &at), E(4, 60));
    EXPECT_HAS(err_text(), "node ConstantOfShape (ConstantOfShape): constants of 1275 MB are too many");
}

/* ---- data beside the file (row 46) -------------------------------------------------------------------------- */

static Err open_beside(const char *location, int64_t offset, int64_t length) {
    Proto w = onnx_tensor_of("w", FLOATS, (const int64_t[]){4, 3, 1, 1}, 4), g = {0};
    char number[32];
    const char *const key[] = {"location", "offset", "length"};
    for (int i = 0; i < 3; i++) {
        Proto e = {0};
        snprintf(number, sizeof number, "%lld", (long long)(i == 1 ? offset : length));
        pb_text(&e, 1, key[i]), pb_text(&e, 2, i ? number : location);
        pb_message(&w, 13, &e);
    }
    pb_int(&w, 14, 1);
    pb_message(&g, 5, &w);
    put_node(&g, "Conv", "image w", "logits");
    put_ends(&g, "logits");
    Proto m = onnx_model_of(&g, 17);
    Net *n = NULL;
    ModelNodes at;
    Err rc = open_written(&m, NULL, &n, &at);
    net_close(n);
    return rc;
}
TEST(data_files_stay_beside_the_model) {
    static const float data[16];
    char path[600];
    write_file(temp_path("w.bin"), data, sizeof data);
    write_file(temp_path("other.bin"), data, sizeof data);
    EXPECT(!symlink("w.bin", temp_path("link.bin")));
    EXPECT(!link(temp_path("other.bin"), temp_path("hard.bin")));
    EXPECT_OK(open_beside("w.bin", 8, 48));
    EXPECT_ERR(open_beside("link.bin", 0, 48), E(4, 46));
    EXPECT_ERR(open_beside("hard.bin", 0, 48), E(4, 46));
    EXPECT_ERR(open_beside("/etc/passwd", 0, 48), E(4, 46));
    snprintf(path, sizeof path, "../%s/w.bin", strrchr(temp_path(""), '/') + 1);
    EXPECT_ERR(open_beside(path, 0, 48), E(4, 46));
    EXPECT(open_beside("w.bin", 32, 48) != OK);
    EXPECT(open_beside("w.bin", -8, 48) != OK);
    EXPECT(open_beside("w.bin", 0, 47) != OK);
    EXPECT(open_beside("absent.bin", 0, 48) != OK);
}

/* ---- damage --------------------------------------------------------------------------------------------------- */

static Bytes golden(const char *name) {
    char path[512];
    Bytes b = {0};
    snprintf(path, sizeof path, GOLDEN "%s", name);
    if (sys_read_file(path, 1 << 24, EXIT_MODEL, &b)) FAIL("%s", err_text()), exit(1);
    return b;
}
/* A net or one line; whatever else happens, the sanitisers and the process tell. */
static void open_damaged(const uint8_t *data, size_t n) {
    Proto m = {0};
    Net *net = NULL;
    ModelNodes at;
    pb_bytes(&m, data, n);
    Err rc = open_written(&m, NULL, &net, &at);
    if (rc) EXPECT(*err_text() && !strchr(err_text(), '\n'));
    net_close(net);
}
TEST(every_truncation_is_an_error_or_a_whole_network) {
    static const char *const FILES[] = {"bisenet.dy.onnx", "unet.ts.onnx"};
    for (int f = 0; f < 2; f++) {
        Bytes b = golden(FILES[f]);
        int good = 0;
        for (size_t n = 0; n < b.bytes; n++) {
            uint8_t *cut = xcalloc(n + 1, 1);            /* of its own, so that reading past its end is found */
            memcpy(cut, b.data, n);
            OnnxModel *m = NULL;
            if (!onnx_parse(cut, n, "cut.onnx", NULL, &m)) good++, open_damaged(cut, n);
            onnx_close(m);
            free(cut);
        }
        EXPECT(good < 8);                                /* between the fields of the outermost message */
        free(b.data);
    }
}
TEST(changed_bytes_do_no_harm) {
    static const char *const FILES[] = {"odd.ts.onnx", "segformer.dy.onnx", "mobile.ts.onnx"};
    for (int f = 0; f < 3; f++) {
        Bytes b = golden(FILES[f]);
        const Rng r = rng_stream(9, RNG_METHOD, (uint64_t)f, 0);
        for (uint64_t i = 0; i < 400; i++) {
            uint8_t was[4];
            size_t at[4];
            for (uint64_t k = 0; k < 1 + i % 4; k++) {
                at[k] = rng_below(&r, 16 * i + k, (uint32_t)b.bytes), was[k] = b.data[at[k]];
                b.data[at[k]] = (uint8_t)rng_below(&r, 16 * i + 8 + k, 256);
            }
            open_damaged(b.data, b.bytes);
            for (uint64_t k = i % 4 + 1; k-- > 0;) b.data[at[k]] = was[k];
        }
        free(b.data);
    }
}
TEST_MAIN(T(espnet_is_read), T(a_written_file_is_a_network),
          T(weights_that_are_not_numbers_are_refused),
          T(a_file_that_normalises_gets_plain_pixels), T(bytes_with_channels_last_are_an_image),
          T(a_file_of_one_size_refuses_others_or_resizes),
          T(what_only_turns_logits_into_something_else_is_left_out),
          T(logits_may_come_with_channels_last),
          T(slices_beyond_a_side_are_held_inside),
          T(samples_are_not_mixed_in_a_file_for_one),
          T(slopes_may_have_a_dimension_for_the_batch), T(a_norm_along_no_axes_is_the_magnitude),
          T(parts_of_a_split_have_their_own_names), T(sides_are_scaled_in_float32),
          T(of_a_class_map_what_its_argmax_reads_is_taken),
          T(of_probabilities_the_logarithm_is_taken),
          T(of_another_output_the_tensor_to_tap_is_named),
          T(classes_come_in_the_order_that_is_asked_for), T(nodes_that_cannot_be_are_named),
          T(tensors_that_cannot_be_are_named), T(files_that_cannot_be_are_refused),
          T(growth_is_stopped_before_memory_is), T(data_files_stay_beside_the_model),
          T(every_truncation_is_an_error_or_a_whole_network), T(changed_bytes_do_no_harm))
