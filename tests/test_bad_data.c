/* test_bad_data.c - prepared bad data sets: `retort check` names the fault, the file and the remedy of
 * each, within a minute, and finds nothing wrong with what only looks unusual.
 *
 * Each case starts from a sound set of six drawn pictures and spoils it in one way. No student is named,
 * so that no step is tried: that is the one further problem each case has. */
#include <sys/stat.h>

#include "make_images.h"
#include "measure.h"
#include "program.h"
#include "small_camvid.h"

enum { H = 10, W = 12, IDS = 3, PAIRS = 6, OPTIONS_MAX = 4, SAYS_MAX = 5 };

/* A path in the case's own folder. */
static char root[64];
static const char *in_case(const char *name) {
    static char path[8][256];
    static unsigned next;
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "%s/%.180s", root, name);
    return p;
}
static Err put_bytes(const char *name, const Str *s) {
    return durable_write_all(temp_path(in_case(name)), s->s, s->n);
}
static Err put_kind(const char *name, int colour, int depth, uint16_t value) {
    uint16_t v[H * W * 4];
    for (int i = 0; i < H * W * 4; i++) v[i] = value;
    Str s = make_png((PngKind){colour, depth, 0, H, W}, v);
    Err rc = put_bytes(name, &s);
    str_free(&s);
    return rc;
}
/* Ids 0, 1, 2 in three stripes, so that every label shows every class; one more at (3,2). */
static Err put_ids(const char *name, uint8_t extra) {
    uint8_t px[H * W], grey[256][3];
    for (int i = 0; i < 256; i++) memset(grey[i], i, 3);
    for (int i = 0; i < H * W; i++) px[i] = (uint8_t)(i % W * IDS / W);
    px[2 * W + 3] = extra;
    return image_write_png_palette(temp_path(in_case(name)), px, H, W, (const uint8_t(*)[3])grey,
                                   256);
}
/* Pictures that all differ. */
static Err put_picture(const char *name, int number) {
    uint8_t px[H * W * 3];
    for (int i = 0; i < H * W * 3; i++) px[i] = (uint8_t)(i * 7 + number * 31);
    return image_write_png_rgb(temp_path(in_case(name)), px, H, W);
}
static Err make_sound(void) {
    TRY(sys_mkdirs(temp_path(in_case("img"))));
    TRY(sys_mkdirs(temp_path(in_case("gt"))));
    TRY(put_text(in_case("classes.yaml"), "[road, car, tree]\n"));
    TRY(put_text(in_case("train.txt"), "a0\na1\na2\na3\n"));
    TRY(put_text(in_case("val.txt"), "a4\na5\n"));
    for (int i = 0; i < PAIRS; i++) {
        char image[32], label[32];
        snprintf(image, sizeof image, "img/a%d.png", i);
        snprintf(label, sizeof label, "gt/a%d.png", i);
        TRY(put_picture(image, i));
        TRY(put_ids(label, 1));
    }
    return OK;
}

/* ---- how each is spoilt ------------------------------------------------------------------------ */
static Err cut(const char *name, size_t bytes) {
    Bytes b;
    TRY(sys_read_file(temp_path(in_case(name)), 1 << 20, EXIT_DATA, &b));
    Err rc = durable_write_all(temp_path(in_case(name)), b.data, bytes < b.bytes ? bytes : b.bytes);
    free(b.data);
    return rc;
}
static Err put_jpeg(const char *name, int components, J_COLOR_SPACE space, bool turned) {
    Str plain = make_jpeg(H, W, components, space, 0),
        s = turned ? with_exif(&plain, true, 32) : plain;
    Err rc = put_bytes(name, &s);
    if (turned) str_free(&s);
    str_free(&plain);
    return rc;
}
static Err colour_classes(void) {
    return put_text(in_case("map.txt"), "road:1,2,3::\ncar:0,0,142::\ntree:9,9,9::\n");
}

static Err nothing(void) { return OK; }
static Err size_differs(void) { return put_label(in_case("gt/a2.png"), H - 1, W + 1, 0, 0, 1); }
static Err id_out_of_range(void) { return put_ids("gt/a3.png", 34); }
static Err ids_from_one(void) { return put_ids("gt/a3.png", IDS); }
static Err rgb_mask(void) { return put_picture("gt/a1.png", 1); }
static Err unknown_colour(void) { TRY(colour_classes()); return put_picture("gt/a1.png", 1); }
static Err all_void(void) {
    for (int i = 0; i < PAIRS; i++) {
        char name[32];
        snprintf(name, sizeof name, "gt/a%d.png", i);
        TRY(put_kind(name, PNG_COLOR_TYPE_GRAY, 8, 255));
    }
    return OK;
}
static Err one_void(void) { return put_kind("gt/a2.png", PNG_COLOR_TYPE_GRAY, 8, 255); }
static Err unseen_class(void) {
    return put_text(in_case("classes.yaml"), "[road, car, tree, moose]\n");
}
static Err cut_png(void) { return cut("img/a0.png", 60); }
static Err cut_jpeg(void) {
    TRY(put_jpeg("img/a0.png", 3, JCS_RGB, false));
    return cut("img/a0.png", 400);
}
static Err no_bytes(void) { return durable_write_all(temp_path(in_case("img/a1.png")), "", 0); }
static Err sixteen_bits(void) { return put_kind("gt/a2.png", PNG_COLOR_TYPE_GRAY, 16, 26001); }
static Err alpha_label(void) { return put_kind("gt/a2.png", PNG_COLOR_TYPE_GRAY_ALPHA, 8, 1); }
static Err cmyk(void) { return put_jpeg("img/a1.png", 4, JCS_CMYK, false); }
static Err turned(void) { return put_jpeg("img/a1.png", 3, JCS_RGB, true); }
static Err jpeg_label(void) { return put_jpeg("gt/a1.png", 1, JCS_GRAYSCALE, false); }
static Err html(void) { return put_text(in_case("img/a2.png"), "<html>404 Not Found</html>"); }
static Err pipe_for_file(void) {
    TRY(sys_remove(temp_path(in_case("img/a2.png"))));
    return mkfifo(temp_path(in_case("img/a2.png")), 0600) ? err_set(E(1, 0), "mkfifo") : OK;
}
static Err unreadable(void) {
    return chmod(temp_path(in_case("img/a2.png")), 0) ? err_set(E(1, 0), "chmod") : OK;
}
static Err dangling(void) {
    TRY(sys_remove(temp_path(in_case("gt/a2.png"))));
    return symlink("moved_away.png", temp_path(in_case("gt/a2.png"))) ? err_set(E(1, 0), "symlink")
                                                                      : OK;
}
static Err link_outside(void) {
    TRY(sys_rename(temp_path(in_case("gt/a2.png")), temp_path("outside.png")));
    return symlink("../../outside.png", temp_path(in_case("gt/a2.png")))
               ? err_set(E(1, 0), "symlink")
               : OK;
}
static Err foreign_list(void) {
    return put_text(in_case("train.txt"), "/home/anna/img/a0.png /home/anna/gt/a0.png\n");
}
static Err upward_list(void) { return put_text(in_case("val.txt"), "../../a4\n"); }
static Err crlf(void) { return put_text(in_case("train.txt"), "a0\r\na1\r\n\r\na2\r\na3\r\n"); }
static Err odd_names(void) {
    TRY(put_picture("img/Straße 7.png", 9));
    TRY(put_ids("gt/Straße 7.png", 1));
    return put_text(in_case("train.txt"), "a0\na1\nimg/Straße 7.png\tgt/Straße 7.png\n");
}
static Err duplicates(void) { return put_picture("img/a1.jpg", 7); }
static Err two_cases(void) {
    TRY(put_picture("img/A1.png", 7));
    TRY(put_ids("gt/A1.png", 1));
    return put_text(in_case("train.txt"), "a1\nA1\n");
}
static Err overlap(void) { return put_text(in_case("val.txt"), "a4\na1\n"); }
static Err same_picture(void) { return put_picture("img/a5.png", 2); }
static Err empty_split(void) { return put_text(in_case("val.txt"), "\n"); }
static Err no_list(void) { return sys_remove(temp_path(in_case("val.txt"))); }
static Err half_ids(void) {
    return put_text(in_case("classes.yaml"), "[{name: road, id: 0}, {name: car}]\n");
}
static Err lost_label(void) { return sys_remove(temp_path(in_case("gt/a3.png"))); }

#define LISTS "data.split={train: train.txt, val: val.txt}"
static const struct {
    const char *name;
    Err (*spoil)(void);
    int code;                        /* of the program; 2: nothing but the student is missing */
    const char *says[SAYS_MAX];      /* fault, file, remedy */
    const char *options[OPTIONS_MAX];
} cases[] = {
    {"sound", nothing, 2, {"train: 4 of 4 samples looked at, 0 cannot be used"}, {0}},
    {"wrong pairing",
     nothing,
     3,
     {"E3030", "gt/{id}_seg.png", "which 0 fit", "correct data.images and data.labels"},
     {"data.labels=gt/{id}_seg.png", "data.split={val: 0.3}"}},
    {"label without a file", lost_label, 3, {"E3031", "gt/a3.png", "data.skip_unpaired=true"}, {0}},
    {"sizes differ",
     size_differs,
     3,
     {"E3033", "gt/a2.png", "13x9", "12x10", "make them equal"},
     {0}},
    {"id out of range",
     id_out_of_range,
     3,
     {"E3034", "gt/a3.png", "label id 34 at (3,2)", "data.ignore"},
     {0}},
    {"ids from 1",
     ids_from_one,
     3,
     {"E3034", "gt/a3.png", "label id 3 at (3,2)", "where ids start at 1, write NAME: 1"},
     {0}},
    {"RGB mask",
     rgb_mask,
     3,
     {"E3036", "gt/a1.png", "RGB colour", "give a palette or grey PNG", "data.classes"},
     {0}},
    {"unknown colour",
     unknown_colour,
     3,
     {"E3034", "gt/a1.png", "#1f262d (1 pixels, the first at (0,0))", "data.classes"},
     {"data.classes=map.txt"}},
    {"palette read as colours",
     colour_classes,
     3,
     {"E3034", "gt/a", "#000000", "give the classes ids"},
     {"data.classes=map.txt"}},
    {"labels void all over",
     all_void,
     3,
     {"E3035", "all 4 labels are void all over", "gt/a0.png", "data.ignore"},
     {0}},
    {"one label void",
     one_void,
     2,
     {"note: folder/train: 1 of 4 labels are void all over", "gt/a2.png", "take them out"},
     {0}},
    {"class never seen",
     unseen_class,
     2,
     {"note: folder/train: 1 of 4 classes never seen in 4 labels: moose", "data.classes"},
     {0}},
    {"PNG cut short",
     cut_png,
     3,
     {"E3038", "img/a0.png", "cut short after 60 bytes", "replace it"},
     {0}},
    {"JPEG cut short",
     cut_jpeg,
     3,
     {"E3038", "img/a0.png", "the JPEG is cut short", "replace it"},
     {0}},
    {"no bytes", no_bytes, 3, {"img/a1.png", "empty", "replace it"}, {0}},
    {"16-bit labels",
     sixteen_bits,
     3,
     {"E3036", "gt/a2.png", "16-bit label 26001 at (0,0)", "class indices"},
     {0}},
    {"alpha in labels",
     alpha_label,
     3,
     {"E3036", "gt/a2.png", "grey with alpha", "give a palette or grey PNG"},
     {0}},
    {"JPEG labels",
     jpeg_label,
     3,
     {"E3036", "gt/a1.png", "blurred by its compression", "PNG"},
     {0}},
    {"CMYK", cmyk, 3, {"E3041", "img/a1.png", "CMYK", "save it as RGB"}, {0}},
    {"EXIF",
     turned,
     2,
     {"note: folder/train: 1 of 4 images ask for a rotation (EXIF)", "img/a1.png",
      "turn the files"},
     {0}},
    {"HTML", html, 3, {"E3043", "img/a2.png", "HTML"}, {0}},
    {"a pipe", pipe_for_file, 3, {"E3044", "img/a2.png"}, {0}},
    {"unreadable", unreadable, 3, {"img/a2.png", "ermission"}, {0}},
    {"link to nowhere",
     dangling,
     3,
     {"E3031", "gt/a2.png", "link to nowhere", "data.skip_unpaired=true"},
     {0}},
    {"link outside", link_outside, 3, {"E3045", "gt/a2.png", "data.follow_links=true"}, {0}},
    {"another machine's list",
     foreign_list,
     3,
     {"E3046", "train.txt:1", "/home/anna/img/a0.png", "name files beneath it"},
     {0}},
    {"upward list",
     upward_list,
     3,
     {"E3046", "val.txt:1", "../../a4", "name files beneath it"},
     {0}},
    {"CRLF", crlf, 2, {"train: 4 of 4 samples looked at, 0 cannot be used"}, {0}},
    {"odd names", odd_names, 2, {"train: 3 of 3 samples looked at, 0 cannot be used"}, {0}},
    {"duplicate ids",
     duplicates,
     3,
     {"E3032", "img/a1.jpg", "img/a1.png", "rename or remove one"},
     {"data.images=img/{id}.*", "data.split={val: 0.3}"}},
    {"two cases of one name",
     two_cases,
     3,
     {"E3032", "img/A1.png", "img/a1.png", "rename or remove one"},
     {0}},
    {"image in two splits",
     overlap,
     3,
     {"E3000 1 of 2 images of val are in train too", "img/a1.png", "data.split"},
     {0}},
    {"picture in two splits",
     same_picture,
     2,
     {"note: 1 images of val equal one of train", "img/a5.png", "img/a2.png", "remove one"},
     {0}},
    {"empty split", empty_split, 3, {"E3030", "val.txt", "0 pairs found"}, {0}},
    {"no list", no_list, 3, {"E3030", "val.txt", "no such list", "data.split"}, {0}},
    {"coarse groups",
     nothing,
     2,
     {"val has 5 of 6 images, 83 % where data.split wants 20 %", "data.split.group makes 3 groups"},
     {"data.split={val: 0.2, group: '^a[2-5]()'}"}},
    {"a number for shares",
     nothing,
     2,
     {"E2076", "data.split=0.1 is no list", "data.split={val: 0.1}"},
     {"data.split=0.1"}},
    {"no table of classes",
     nothing,
     3,
     {"E3030", "no.yaml and no no.yaml", "correct the path"},
     {"data.classes=no.yaml"}},
    {"no folder", nothing, 3, {"E3030", "nowhere", "data.root"}, {"data.root=nowhere"}},
    {"half the ids",
     half_ids,
     2,
     {"E2076", "classes.yaml", "only 1 of 2 classes have an id", "give all or none"},
     {0}},
    {"other classes",
     nothing,
     2,
     {"E2037", "folder has 3", "the student 5"},
     {"student.classes=5", "student.model=fcn_mobilenetv2"}},
    {"void that is not there",
     nothing,
     2,
     {"E2076", "data.ignore:1: moss", "is no id"},
     {"data.ignore=[255, moss]"}},
};
enum { CASES = sizeof cases / sizeof *cases };

static void run_case(int i) {
    const char *args[ARGS_MAX] = {"check",
                                  "data.kind=folder",
                                  "data.images=img/{id}.png",
                                  "data.labels=gt/{id}.png",
                                  "data.classes=classes.yaml",
                                  LISTS};
    int n = 6;
    char at[80];
    snprintf(root, sizeof root, "case%d", i);
    snprintf(at, sizeof at, "data.root=%s", root);
    args[n++] = at;
    for (int k = 0; k < OPTIONS_MAX && cases[i].options[k]; k++) args[n++] = cases[i].options[k];
    if (make_sound() || cases[i].spoil()) {
        FAIL("%s: %s", cases[i].name, err_text());
        return;
    }
    const double before = children_cpu_s();
    retort_to(NULL, args);
    const double took = children_cpu_s() - before;
    if (!(took <= 60)) FAIL("%s: took %.0f s of processor time", cases[i].name, took);
    if (ran.code != cases[i].code)
        FAIL("%s: exit %d, expected %d", cases[i].name, ran.code, cases[i].code);
    for (int k = 0; k < SAYS_MAX && cases[i].says[k]; k++)
        if (!strstr(ran.out, cases[i].says[k]) && !strstr(ran.err, cases[i].says[k]))
            FAIL("%s: \"%s\" is not in\n%s%s", cases[i].name, cases[i].says[k], ran.out, ran.err);
}

TEST(every_fault_is_named_with_file_and_remedy) {
    for (int i = 0; i < CASES; i++)
        if (cases[i].spoil != unreadable) run_case(i);
}
TEST(a_file_without_permission_is_named) {
    if (!geteuid()) SKIP("root may read everything");
    for (int i = 0; i < CASES; i++)
        if (cases[i].spoil == unreadable) run_case(i);
}

TEST_MAIN(T(every_fault_is_named_with_file_and_remedy), T(a_file_without_permission_is_named))
