/* test_predict.c - what `retort predict` and `retort eval` write: files and their names, one bad image
 * among good ones, ids of the data set, windows, and the scores as JSON, CSV and a page. */
#include <jansson.h>
#include <sys/resource.h>

#include "base/str.h"
#include "io/safetensors.h"
#include "program.h"
#include "small_camvid.h"
#include "test.h"

#define NET "deeplabv3_mobilenetv2"
#define MODEL NET, "width=0.1", "weights=formula:1", "classes=11"

static bool there(const char *name) { return sys_exists(temp_path(name)); }

/* ---- predict --------------------------------------------------------------------------------- */
static void make_photos(void) {
    EXPECT_OK(sys_mkdirs(temp_path("in/a/deep")));
    EXPECT_OK(sys_mkdirs(temp_path("in/b")));
    EXPECT_OK(put_image("in/a/one.png", 20, 30));
    EXPECT_OK(put_image("in/a/deep/two.png", 20, 30));
    EXPECT_OK(put_image("in/b/three.png", 33, 17));
}
TEST(sub_folders_are_kept_of_folders_and_patterns) {
    make_photos();
    EXPECT_RUNS("predict", MODEL, "in", "out=p");
    EXPECT(there("p/a/one.label.png") && there("p/a/deep/two.overlay.png") &&
           there("p/b/three.label.png"));
    EXPECT_RUNS("predict", MODEL, "in/*/t*.png", "out=q", "write=[label]");
    EXPECT(there("q/b/three.label.png") && !there("q/b/three.overlay.png") &&
           !there("q/a/one.label.png"));
    EXPECT_RUNS("predict", MODEL, "in/[ab]", "out=r", "write=ids");
    EXPECT(there("r/a/deep/two.ids.png") && there("r/b/three.ids.png") &&
           !there("r/b/three.label.png"));
    EXPECT_INT(RETORT("predict", MODEL, "in/*.gif", "out=s")->code, 3);
    EXPECT_HAS(ran.err, "error E3030 in/*.gif: no file fits this pattern");
}
TEST(one_bad_image_does_not_stop_the_others) {
    make_photos();
    EXPECT_OK(put_text("in/a/broken.png", "GIF89a"));
    EXPECT_OK(put_text("in/b/empty.jpg", ""));
    EXPECT_INT(RETORT("predict", MODEL, "in", "out=p")->code, 3);
    EXPECT(there("p/a/one.label.png") && there("p/a/deep/two.label.png") &&
           there("p/b/three.label.png"));
    EXPECT_HAS(ran.err, "passed over: in/b/empty.jpg: the file is empty");
    EXPECT_HAS(ran.err, "wrote 3 images to p");
    EXPECT_HAS(
        ran.err,
        "error E3043 2 of 5 images could not be predicted; the first: in/a/broken.png: is a GIF image");
}
TEST(ids_are_those_of_the_data_sets_labels) {
    make_photos();
    EXPECT_OK(sys_mkdirs(temp_path("cs/leftImg8bit/val/x")));
    EXPECT_OK(sys_mkdirs(temp_path("cs/gtFine/val/x")));
    EXPECT_OK(put_image("cs/leftImg8bit/val/x/x_000000_000019_leftImg8bit.png", 20, 30));
    EXPECT_OK(put_label("cs/gtFine/val/x/x_000000_000019_gtFine_labelIds.png", 20, 30, 3, 3, 7));
    EXPECT_RUNS("predict", NET, "width=0.1", "weights=formula:1", "classes=19",
                "data=cityscapes:cs", "in/a/one.png", "out=p", "write=[label, ids]");
    static const int ids[] = {7,  8,  11, 12, 13, 17, 19, 20, 21, 22,
                              23, 24, 25, 26, 27, 28, 31, 32, 33};
    Image label, id;
    EXPECT_OK(image_read_labels(temp_path("p/one.label.png"), &label));
    EXPECT_OK(image_read_labels(temp_path("p/one.ids.png"), &id));
    EXPECT_INT(id.h * id.w, 600);
    for (int i = 0; i < 600; i++) EXPECT_INT(id.px[i], ids[label.px[i]]);
    free(label.px), free(id.px);
}
TEST(a_legend_stands_beside_the_picture) {
    make_photos();
    EXPECT_RUNS("predict", MODEL, "in/a/one.png", "out=p");
    EXPECT_RUNS("predict", MODEL, "in/a/one.png", "out=q", "--legend");
    Image plain, with;
    EXPECT_OK(image_read_rgb(temp_path("p/one.overlay.png"), &plain));
    EXPECT_OK(image_read_rgb(temp_path("q/one.overlay.png"), &with));
    EXPECT(with.w > plain.w + 20 && with.h == plain.h);
    for (int y = 0; y < plain.h; y++)
        EXPECT(!memcmp(plain.px + y * plain.w * 3, with.px + y * with.w * 3, (size_t)plain.w * 3));
    free(plain.px), free(with.px);
}
/* Probabilities of each pixel sum to 1, and the largest is that of its class. */
static void expect_probs_fit(const char *probs, const char *classes, int h, int w) {
    SafeFile f;
    Image label;
    EXPECT_OK(st_read(temp_path(probs), EXIT_DATA, &f));
    EXPECT_OK(image_read_labels(temp_path(classes), &label));
    const Tensor *t = tensor_find(f.tensors, "probs");
    EXPECT(t && shape_equal(t->shape, SHAPE(11, h, w)) && label.h == h && label.w == w);
    int64_t wrong = 0;
    for (int64_t i = 0, n = (int64_t)h * w; t && i < n; i++) {
        const float *v = (const float *)t->data + i, chosen = v[label.px[i] * n];
        double sum = 0;
        for (int k = 0; k < 11; k++) sum += v[k * n], wrong += v[k * n] > chosen;
        wrong += fabs(sum - 1) > 1e-5;
    }
    EXPECT_INT(wrong, 0);
    free(label.px);
    st_close(&f);
}
/* Probabilities by windows are those of predictor_fill, and sum to 1. */
TEST(windows_and_probabilities_reach_the_files) {
    make_photos();
    EXPECT_RUNS("predict", MODEL, "in/b/three.png", "out=p", "--probs", "write=label",
                "eval.mode=slide", "eval.window=16x16", "eval.mirror=true");
    expect_probs_fit("p/three.probs.safetensors", "p/three.label.png", 33, 17);
}
/* 4.2 Mpx take 45 MB in windows, 125 MB whole; their probabilities are 185 MB. */
TEST(large_images_go_through_in_bounded_memory) {
    enum { H = 2000, W = 2100, LIMIT_MB = 80 };
    struct rusage used;
    if (SANITIZED) SKIP("a sanitizer takes memory of its own");
    uint8_t *px = xcalloc((size_t)H * W, 3);
    for (int64_t i = 0; i < (int64_t)H * W * 3; i++)
        px[i] = (uint8_t)(i / 3 % W / 9 + i / (3 * W) / 9);
    EXPECT_OK(image_write_png_rgb(temp_path("large.png"), px, H, W));
    free(px);
    EXPECT_RUNS("predict", "lraspp_mobilenetv2", "width=0.1", "weights=formula:1", "classes=11",
                "large.png", "out=p", "window=257x257", "write=[label, probs]");
    EXPECT(!getrusage(RUSAGE_CHILDREN, &used));
    if (used.ru_maxrss > LIMIT_MB * 1024)
        FAIL("%ld kB, expected at most %d MB", used.ru_maxrss, LIMIT_MB);
    expect_probs_fit("p/large.probs.safetensors", "p/large.label.png", H, W);
}
/* Seven sizes of an image, but parameters, their copies and values of one: 63 MB of copies each otherwise. */
TEST(many_scales_take_the_memory_of_one) {
    struct rusage used;
    if (SANITIZED) SKIP("a sanitizer takes memory of its own");
    EXPECT_RUNS("eval", "deeplabv3_resnet18", "weights=formula:1", "classes=11", "data=scenes",
                "data.scenes.size=64x96", "images=1", "eval.mirror=true",
                "eval.scales=[0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]");
    EXPECT(!getrusage(RUSAGE_CHILDREN, &used));
    if (used.ru_maxrss > 380 * 1024) FAIL("%ld kB, expected at most 380 MB", used.ru_maxrss);
}
TEST(what_cannot_be_meant_is_refused) {
    make_photos();
    static const struct { const char *option, *text; } cases[] = {
        {"write=[lable]", "write: there is no lable; choose of label, ids, probs, overlay"},
        {"write=[]", "nothing would be written"},
        {"eval.stride=40x40", "eval.stride=40x40 is larger than a window of 32x32"},
        {"scales=[0]", "eval.scales=[0] is no list of 1 to 8 numbers from 0.05 to 8"},
        {"eval.mode=slid", "eval.mode=slid is not one of auto|whole|slide"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        EXPECT_INT(
            RETORT("predict", MODEL, "in", "out=p", "eval.window=32x32", cases[i].option)->code, 2);
        EXPECT_HAS(ran.err, cases[i].text);
    }
    EXPECT_INT(RETORT("eval", MODEL, "data=scenes", "metrics=[bondary]")->code, 2);
    EXPECT_HAS(ran.err, "metrics: there is no bondary; choose of boundary, calibration, instances");
    EXPECT_INT(
        RETORT("eval", MODEL, "data=scenes", "data.scenes.size=32x32", "metrics=instances")->code,
        2);
    EXPECT_HAS(ran.err, "instances are known of Cityscapes' own label files alone");
    EXPECT_INT(RETORT("eval", MODEL, "data=scenes", "protocol=cityscape")->code, 2);
    EXPECT_HAS(ran.err, "protocol: there is no cityscape; choose of none, cityscapes, voc, ade20k");
    EXPECT_INT(RETORT("eval", MODEL, "data=scenes", "data.scenes.size=32x32", "protocol=voc")->code,
               2);
    EXPECT_HAS(ran.err, "protocol=voc is made for 21 classes, data set scenes has 11");
}

/* ---- eval ------------------------------------------------------------------------------------ */
static json_t *json_of(const char *name) {
    json_error_t e;
    json_t *o = json_load_file(temp_path(name), 0, &e);
    if (!o) FAIL("%s: %s", name, e.text);
    return o;
}
static double number(const json_t *o, const char *key) {
    return json_number_value(json_object_get(o, key));
}
TEST(scores_are_written_as_json_csv_and_a_page) {
    EXPECT_OK(make_camvid(3));
    EXPECT_RUNS("eval", MODEL, "data=camvid:.", "split=train", "json=e.json", "csv=e.csv",
                "html=e.html", "metrics=[boundary, calibration]", "worst=1");
    json_t *o = json_of("e.json");
    static const char *const numbers[] = {
        "miou",      "miou_present", "miou_all",     "pixel_accuracy", "mean_accuracy",
        "mean_dice", "weighted_iou", "boundary_iou", "boundary_f1",    "ece"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!json_is_number(json_object_get(o, numbers[i]))) FAIL("no %s", numbers[i]);
    EXPECT_NEAR(number(o, "images"), 2, 0);
    EXPECT_STR(json_string_value(json_object_get(o, "mode")), "whole");
    EXPECT_STR(json_string_value(json_object_get(o, "protocol")), "none");
    EXPECT_INT(json_array_size(json_object_get(o, "calibration")), 15);
    EXPECT_INT(json_array_size(json_object_get(o, "worst")), 1);
    const json_t *sky = json_array_get(json_object_get(o, "classes"), 0);
    EXPECT(json_is_number(json_object_get(sky, "iou")) &&
           json_is_number(json_object_get(sky, "boundary_f1")));
    json_decref(o);
    Bytes b;
    EXPECT_OK(sys_read_file(temp_path("e.csv"), 1 << 20, EXIT_DATA, &b));
    EXPECT(!strncmp((char *)b.data,
                    "kind,name,iou,accuracy,dice,pixels,boundary_iou,boundary_f1,ece\nclass,sky,",
                    70));
    EXPECT_HAS((char *)b.data, "\nimage,a,");
    free(b.data);
    EXPECT_OK(sys_read_file(temp_path("e.html"), 1 << 22, EXIT_DATA, &b));
    EXPECT_HAS((char *)b.data, "expected calibration error");
    EXPECT_HAS((char *)b.data, "data:image/png;base64,");
    EXPECT(!strstr((char *)b.data, "http:") && !strstr((char *)b.data, "https:") &&
           !strstr((char *)b.data, "<script"));
    free(b.data);
}
TEST(one_data_set_brings_its_protocol) {
    EXPECT_OK(sys_mkdirs(temp_path("ade/images/validation")));
    EXPECT_OK(sys_mkdirs(temp_path("ade/annotations/validation")));
    EXPECT_OK(put_image("ade/images/validation/ADE_val_1.png", 20, 30));
    EXPECT_OK(put_label("ade/annotations/validation/ADE_val_1.png", 20, 30, 3, 3, 7));
    EXPECT_RUNS("eval", NET, "width=0.1", "weights=formula:1", "classes=150", "data=ade20k:ade",
                "data.images=images/{split}/{id}.png", "json=e.json");
    json_t *o = json_of("e.json"), *official = json_object_get(o, "official");
    EXPECT_STR(json_string_value(json_object_get(o, "protocol")), "ade20k");
    EXPECT_NEAR(number(official, "final_score"),
                (number(o, "miou_all") + number(o, "pixel_accuracy")) / 2, 1e-12);
    EXPECT_HAS(ran.out, "as ade20k counts:");
    json_decref(o);
}

TEST_MAIN(T(sub_folders_are_kept_of_folders_and_patterns),
          T(one_bad_image_does_not_stop_the_others), T(ids_are_those_of_the_data_sets_labels),
          T(a_legend_stands_beside_the_picture), T(windows_and_probabilities_reach_the_files),
          T(large_images_go_through_in_bounded_memory),
          T(many_scales_take_the_memory_of_one), T(what_cannot_be_meant_is_refused),
          T(scores_are_written_as_json_csv_and_a_page), T(one_data_set_brings_its_protocol))
