/* test_export.c - `retort export`: the written files' contents, and, where a Python on the PATH has
 * onnxruntime, its class maps of every network beside ours. */
#include <jansson.h>

#include "base/str.h"
#include "io/onnx.h"
#include "io/weights.h"
#include "models/export_priv.h"
#include "models/model.h"
#include "onnx_writer.h"
#include "program.h"

#define FORMULA "weights=formula:1", "classes=11"
#define SMALL "data.scenes.size=97x129"

static int count_ops(const OnnxModel *m, const char *op) {
    int n = 0;
    for (int i = 0; i < m->n_node; i++) n += !strcmp(m->node[i].op, op);
    return n;
}
static OnnxModel *read_model(const char *name) {
    OnnxModel *m = NULL;
    Err rc = onnx_read(temp_path(name), &m);
    if (rc) FAIL("%s: %s", name, err_text());
    return m;
}
static json_t *read_json(const char *name) {
    json_error_t why;
    json_t *j = json_load_file(temp_path(name), JSON_REJECT_DUPLICATES, &why);
    if (!j) FAIL("%s: %s", name, why.text);
    return j;
}

/* ---- what the file holds ---------------------------------------------------------------------- */

TEST(batch_norm_is_folded) {
    EXPECT_RUNS("export", "deeplabv3_resnet18", "m.onnx", FORMULA, "aux=true");
    OnnxModel *m = read_model("m.onnx");
    if (!m) return;
    EXPECT_INT(m->opset, 17);
    EXPECT_INT(count_ops(m, "BatchNormalization"), 0);
    EXPECT_INT(count_ops(m, "Conv"), 23 + 8);            /* backbone, head; no auxiliary one */
    const OnnxValue *x = &m->value[m->input[0]], *y = &m->value[m->output[0]];
    EXPECT_INT(m->n_input, 1);
    EXPECT_STR(x->name, "image");
    EXPECT(x->dtype == DT_F32 && shape_equal(x->shape, (Shape){4, {-1, 3, -1, -1}}));
    EXPECT_STR(y->name, "logits");
    EXPECT(shape_equal(y->shape, (Shape){4, {-1, 11, -1, -1}}));
    onnx_close(m);
}
TEST(a_fixed_size_leaves_no_arithmetic_of_shapes) {
    static const char *const GONE[] = {"Shape", "Range", "Slice", "Concat", "Less"};
    EXPECT_RUNS("export", "pspnet_mobilenetv2", "m.onnx", FORMULA, "size=97x131", "batch=2",
                "output=logits_full", "opset=11");
    OnnxModel *m = read_model("m.onnx");
    if (!m) return;
    for (int i = 0; i < 5; i++) EXPECT_INT(count_ops(m, GONE[i]), strcmp(GONE[i], "Concat") ? 0 : 1);   /* of the pyramid's levels */
    EXPECT_INT(m->opset, 11);
    EXPECT(shape_equal(m->value[m->input[0]].shape, SHAPE(2, 3, 97, 131)));
    EXPECT(shape_equal(m->value[m->output[0]].shape, SHAPE(2, 11, 97, 131)));
    onnx_close(m);
}
TEST(bytes_in_classes_out) {
    EXPECT_RUNS("export", "fcn_mobilenetv2", "m.onnx", FORMULA, "input=u8-nhwc", "output=argmax");
    OnnxModel *m = read_model("m.onnx");
    if (!m) return;
    const OnnxValue *x = &m->value[m->input[0]], *y = &m->value[m->output[0]];
    EXPECT(x->dtype == DT_U8 && shape_equal(x->shape, (Shape){4, {-1, -1, -1, 3}}));
    EXPECT(y->dtype == DT_I64 && y->shape.rank == 3);
    EXPECT_STR(y->name, "labels");
    EXPECT_INT(count_ops(m, "Cast"), 1);
    onnx_close(m);
}
TEST(refusals) {
    EXPECT_INT(RETORT("export", "fcn_mobilenetv2", "m.bin", FORMULA)->code, EXIT_USAGE);
    EXPECT_HAS(ran.err, "E2076");
    EXPECT_INT(RETORT("export", "fcn_mobilenetv2", "m.onnx", FORMULA, "opset=10")->code,
               EXIT_USAGE);
    EXPECT_INT(RETORT("export", "fcn_mobilenetv2", "m.onnx", FORMULA, "--int8")->code, EXIT_USAGE);
    EXPECT_HAS(ran.err, "training images");
    EXPECT_INT(
        RETORT("export", "fcn_mobilenetv2", "m.onnx", FORMULA, "--check", "python=no-such-python")
            ->code,
        EXIT_USAGE);
    EXPECT_HAS(ran.err, "no-such-python");
    EXPECT_INT(RETORT("export", "fcn_mobilenetv2", "no/such/folder/m.onnx", FORMULA)->code,
               EXIT_OUTPUT);
}

/* ---- what stands beside it ---------------------------------------------------------------------- */

TEST(the_json_file_tells_how_to_use_the_network) {
    EXPECT_RUNS("export", "fcn_mobilenetv2", "m.onnx", FORMULA, "norm=bgr-caffe");
    json_t *j = read_json("m.json"), *norm = json_object_get(j, "normalisation"),
           *reference = json_object_get(j, "reference");
    EXPECT_STR(json_string_value(json_object_get(j, "onnx")), "m.onnx");
    EXPECT_STR(json_string_value(json_object_get(norm, "channel_order")), "bgr");
    EXPECT_NEAR(json_number_value(json_array_get(json_object_get(norm, "mean"), 0)), 104.00698793,
                1e-6);
    EXPECT_INT(json_array_size(json_object_get(norm, "std")), 3);
    EXPECT_INT(json_array_size(json_object_get(j, "classes")), 11);
    EXPECT_INT(json_array_size(json_object_get(j, "palette")), 11);
    EXPECT(json_is_object(json_object_get(j, "resize")));
    EXPECT_INT(
        strlen(json_string_value(json_object_get(json_object_get(reference, "input"), "base64"))),
        3 * 64 * 96 * 4 / 3);
    EXPECT_INT(
        strlen(json_string_value(json_object_get(json_object_get(reference, "output"), "base64"))),
        11 * 8 * 12 * 4 * 4 / 3);
    json_decref(j);
}
TEST(the_classes_are_the_data_sets) {
    EXPECT_RUNS("export", "fcn_mobilenetv2", "m.onnx", FORMULA, "data=scenes");
    json_t *j = read_json("m.json");
    EXPECT_STR(json_string_value(json_array_get(json_object_get(j, "classes"), 0)), "sky");
    EXPECT_INT(
        json_integer_value(json_array_get(json_array_get(json_object_get(j, "palette"), 0), 2)),
        128);
    json_decref(j);
}

/* ---- safetensors ------------------------------------------------------------------------------- */

TEST(safetensors_hold_the_network_and_what_it_needs) {
    EXPECT_RUNS("export", "fcn_mobilenetv2", "m.safetensors", FORMULA, "width=0.5");
    SafeFile f;
    EXPECT_OK(st_read(temp_path("m.safetensors"), EXIT_MODEL, &f));
    EXPECT_STR(st_meta(&f, "format"), "pt");
    EXPECT_STR(st_meta(&f, "model"), "fcn_mobilenetv2");
    EXPECT_HAS(st_meta(&f, "classes"), "\"class 10\"");
    EXPECT_HAS(st_meta(&f, "palette"), "[0, 0, 0]");
    EXPECT_HAS(st_meta(&f, "normalisation"), "\"channel_order\": \"rgb\"");
    EXPECT_STR(st_meta(&f, "n_classes"), "11");
    const Tensor *w = tensor_find(f.tensors, "pretrained.net.features.0.0.weight"),
                 *count = tensor_find(f.tensors, "pretrained.net.features.0.1.num_batches_tracked");
    EXPECT(w && shape_equal(w->shape, SHAPE(16, 3, 3, 3)));
    EXPECT(count && count->dtype == DT_I64);
    st_close(&f);
    /* Without being told which network it is, and to the bit what it came from. */
    EXPECT_RUNS("export", "m.safetensors", "again.safetensors");
    EXPECT_OK(st_read(temp_path("again.safetensors"), EXIT_MODEL, &f));
    EXPECT_INT(strlen(st_meta(&f, "training_state")), 32);
    EXPECT_STR(st_meta(&f, "model"), "fcn_mobilenetv2");
    st_close(&f);
}

/* ---- the same outputs ---------------------------------------------------------------------------- */

static void need_onnxruntime(void) {
    if (system("python3 -c 'import onnxruntime' >/dev/null 2>&1"))
        SKIP("python3 on the PATH has no onnxruntime (pip install onnxruntime)");
}
/* The share in "99.98 % of pixels equal" of what the program printed; -1: no such line. */
static double share_told(void) {
    const char *at = strstr(ran.out, " % of pixels equal"), *start = at;
    double v = -1;
    while (start && start > ran.out && strchr("0123456789.", start[-1])) start--;
    if (at && sscanf(start, "%lf", &v) != 1) v = -1;
    return v;
}
/* `python=none` among `more` is our own reader. */
static void expect_agrees(const char *name, const char *const *more, int n_more) {
    const char *args[ARGS_MAX + 1] = {"export", name, "m.onnx", SMALL, "--check", "images=1"},
                                *by = "by ONNX Runtime";
    int n = 6;
    if (!strchr(name, '/')) args[n++] = "weights=formula:1", args[n++] = "classes=11";
    for (int i = 0; i < n_more; i++) {
        args[n++] = more[i];
        if (!strcmp(more[i], "python=none")) by = "by retort's own reader";
    }
    if (retort_to(NULL, args)->code) FAIL("%s: exit %d: %s", name, ran.code, ran.err);
    EXPECT_HAS(ran.out, by);
    if (!(share_told() >= 99.9)) FAIL("%s: %s", name, ran.out);
}
static void every_backbone(const char *head) {
    const char *names[64];
    const int n = model_names(names, 64);
    int tried = 0;
    need_onnxruntime();
    for (int i = 0; i < n; i++)
        if (str_starts(names[i], head)) expect_agrees(names[i], NULL, 0), tried++;
    EXPECT_INT(tried, 8);
}
TEST(deeplabv3_in_onnxruntime) { every_backbone("deeplabv3_"); }
TEST(pspnet_in_onnxruntime) { every_backbone("pspnet_"); }
TEST(fcn_in_onnxruntime) { every_backbone("fcn_"); }
TEST(lraspp_in_onnxruntime) { every_backbone("lraspp_"); }
TEST(options_in_onnxruntime) {
    static const char *const NETS[] = {"deeplabv3_resnet18", "pspnet_efficientnet_lite0",
                                       "lraspp_mobilenetv2"};
    static const char *const OPTIONS[][4] = {
        {"opset=11", "output=argmax", "input=u8-nhwc", "norm=bgr-caffe"},
        {"opset=12", "output=logits_full", "batch=2", "size=65x97"},
        {"opset=23", "output=argmax", "size=80x128", "input=u8-nhwc"},
        {"opset=14", "output=logits", "size=97x129", "batch=1"}};
    need_onnxruntime();
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 4; k++) expect_agrees(NETS[i], OPTIONS[k], 4);
}
TEST(our_own_reader_agrees) {
    static const char *const NETS[] = {"deeplabv3_resnet18", "pspnet_efficientnet_lite0",
                                       "lraspp_mobilenetv2", "fcn_resnet50"};
    static const char *const OPTIONS[][5] = {
        {"python=none", "opset=11", "output=argmax", "input=u8-nhwc", "norm=bgr-caffe"},
        {"python=none", "opset=20", "output=logits_full", "size=65x97", "batch=1"}};
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 2; k++) expect_agrees(NETS[i], OPTIONS[k], 5);
}
/* Networks of others, imported and written again; their size is fixed then. */
static void imported(const char *const *more, int n_more) {
    static const char *const FILES[] = {"bisenet", "ddrnet", "mobile", "odd", "segformer", "unet"};
    for (int i = 0; i < 6; i++) {
        char path[512];
        snprintf(path, sizeof path, SOURCE_DIR "/tests/golden/onnx/%s.ts.onnx", FILES[i]);
        expect_agrees(path, more, n_more);
    }
}
TEST(imported_networks_in_onnxruntime) {
    need_onnxruntime();
    imported((const char *const[]){"size=96x128"}, 1);
    imported((const char *const[]){"size=96x128", "opset=23", "input=u8-nhwc", "output=argmax"}, 4);
}
/* A file whose values bear the names of ours, and a transposed convolution with more padding behind than before. */
static void write_named_like_ours(const char *path) {
    Proto g = {0}, up = onnx_node_of("ConvTranspose", "image_2 t", "logits"),
          conv = onnx_node_of("Conv", "image labels", "image_2"),
          image = onnx_value_of("image", 1, (const int64_t[]){-1, 3, -1, -1}, 4), out = {0};
    const struct { const char *name; int64_t d[4]; } W[] = {{"labels", {4, 3, 1, 1}}, {"t", {4, 5, 3, 3}}};
    for (int k = 0; k < 2; k++) {
        Proto t = onnx_tensor_of(W[k].name, 1, W[k].d, 4);
        float v[180];
        const size_t n = (size_t)(W[k].d[0] * W[k].d[1] * W[k].d[2] * W[k].d[3]);
        for (size_t i = 0; i < n; i++) v[i] = (float)((i * 37 + 11) % 23) / 23 - 0.5f;
        pb_block(&t, 9, v, n * sizeof *v), pb_message(&g, 5, &t);
    }
    onnx_attr_ints(&up, "strides", (const int64_t[]){2, 2}, 2);
    onnx_attr_ints(&up, "pads", (const int64_t[]){0, 0, 1, 1}, 4);
    pb_message(&g, 1, &conv), pb_message(&g, 1, &up);
    pb_text(&out, 1, "logits"), pb_message(&g, 11, &image), pb_message(&g, 12, &out);
    Proto m = onnx_model_of(&g, 17);
    FILE *f = fopen(path, "wb");
    EXPECT(f && fwrite(m.data, 1, m.n, f) == m.n);
    if (f) fclose(f);
    free(m.data);
}
TEST(a_file_with_names_of_ours_is_written_again) {
    char path[512];
    snprintf(path, sizeof path, "%s", temp_path("named.onnx"));
    write_named_like_ours(path);
    expect_agrees(path, (const char *const[]){"size=33x40", "python=none"}, 2);
    need_onnxruntime();
    expect_agrees(path, (const char *const[]){"size=33x40"}, 1);
    expect_agrees(path, (const char *const[]){"size=33x40", "output=argmax"}, 2);
}
TEST(imported_networks_by_our_own_reader) {
    imported((const char *const[]){"size=96x128", "python=none"}, 2);
}
TEST(strides_and_stems_in_onnxruntime) {
    static const char *const OPTIONS[][2] = {{"output_stride=16", "stem=plain"},
                                             {"output_stride=32", "stem=deep"}};
    need_onnxruntime();
    for (int k = 0; k < 2; k++) expect_agrees("pspnet_resnet50", OPTIONS[k], 2);
    expect_agrees("deeplabv3_efficientnet_lite1", &OPTIONS[0][0], 1);
}
TEST(eight_bits_in_onnxruntime) {
    need_onnxruntime();
    EXPECT_RUNS("export", "fcn_resnet18", "m.onnx", FORMULA, "--int8", "data=scenes", SMALL,
                "data.scenes.train=4", "calibrate=4", "images=2");
    EXPECT_HAS(ran.out, "ONNX Runtime");
    EXPECT_HAS(ran.out, "mIoU");
    if (!(share_told() >= 90)) FAIL("%s", ran.out);      /* random weights are all borders; a wrong zero point leaves a half at most */
    OnnxModel *m = read_model("m.onnx");
    if (!m) return;
    EXPECT_INT(count_ops(m, "Relu"), 0);
    EXPECT(count_ops(m, "QuantizeLinear") > 20 && count_ops(m, "DequantizeLinear") > 60);
    for (int i = 0; i < m->n_value; i++)
        EXPECT(!m->value[i].tensor || m->value[i].tensor->dtype != DT_F32 ||
               shape_count(m->value[i].tensor->shape) < 4096);
    onnx_close(m);
}
/* The same file read by ourselves: the same rounding, so the same classes but for sums in another order. */
TEST(eight_bits_by_our_own_reader) {
    static const char *const INT8[] = {
        "export", "fcn_resnet18",        "m.onnx",      FORMULA,    "--int8",      "data=scenes",
        SMALL,    "data.scenes.train=4", "calibrate=4", "images=2", "python=none", NULL};
    if (retort_to(NULL, INT8)->code) FAIL("%s", ran.err);
    EXPECT_HAS(ran.out, "own reader");
    if (!(share_told() >= 90)) FAIL("%s", ran.out);
    EXPECT_RUNS("export", "m.onnx", "again.onnx", "size=97x129", SMALL, "--check", "images=1",
                "python=none");
    if (!(share_told() >= 99.9)) FAIL("%s", ran.out);    /* written again from what was read */
}
/* A dead channel: 32 bits of its weights' own step would not reach its bias. */
TEST(eight_bits_keep_the_bias_of_a_dead_channel) {
    static const float weight[] = {1e-9f, -2e-9f, 1e-42f, 2e-43f, 0, 0, 0.5f, 0.25f},
                       bias[] = {0.3f, -0.2f, 0.1f, 2};
    Export e = {.w = onnx_write_open("net", 17, "out")};
    const char *out[2];
    uint8_t *data;
    size_t bytes;
    OnnxModel *m;
    export_int8_weights(&e, "conv", (ExportRange){0, 6}, SHAPE(4, 2, 1, 1), weight, bias, out);
    EXPECT_OK(onnx_write_pack(e.w, &data, &bytes));
    EXPECT_OK(onnx_parse(data, bytes, "m.onnx", NULL, &m));
    EXPECT_INT(m->n_node, 2);
    for (int part = 0; part < 2; part++) {
        const OnnxNode *n = &m->node[part];
        const Tensor *q = m->value[n->in[0]].tensor, *scale = m->value[n->in[1]].tensor;
        const int per = part ? 1 : 2;
        for (int i = 0; i < 4 * per; i++) {
            const float step = ((const float *)scale->data)[i / per], want = part ? bias[i] : weight[i];
            const double got =
                (double)step * (part ? ((const int32_t *)q->data)[i] : ((const int8_t *)q->data)[i]);
            EXPECT(step > 0);
            EXPECT_NEAR(got, want, part ? 1e-6 : 0.002);
        }
    }
    onnx_close(m), free(data), onnx_write_close(e.w);
}
TEST_MAIN(T(batch_norm_is_folded), T(a_fixed_size_leaves_no_arithmetic_of_shapes),
          T(bytes_in_classes_out), T(refusals), T(the_json_file_tells_how_to_use_the_network),
          T(the_classes_are_the_data_sets), T(safetensors_hold_the_network_and_what_it_needs),
          T(deeplabv3_in_onnxruntime), T(pspnet_in_onnxruntime), T(fcn_in_onnxruntime),
          T(lraspp_in_onnxruntime), T(options_in_onnxruntime), T(strides_and_stems_in_onnxruntime),
          T(our_own_reader_agrees), T(imported_networks_in_onnxruntime),
          T(a_file_with_names_of_ours_is_written_again),
          T(imported_networks_by_our_own_reader), T(eight_bits_in_onnxruntime),
          T(eight_bits_by_our_own_reader), T(eight_bits_keep_the_bias_of_a_dead_channel))
