/* test_cli.c - the program as its user meets it: bad input ends with one line and the right exit
 * code, hostile names harm nothing, and a run goes from training to its report. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "base/str.h"
#include "io/safetensors.h"
#include "program.h"
#include "small_camvid.h"
#include "test.h"

enum { PARTS_MAX = 4 };
#define NET "deeplabv3_mobilenetv2"
#define MODEL NET, "width=0.1", "weights=formula:1"
#define EVAL "eval", MODEL, "data=camvid:.", "split=train"

/* One failure: its code, the words, and what the line must say beside where and what. */
typedef struct Case {
    Err code;
    const char *args[ARGS_MAX], *parts[PARTS_MAX];
} Case;

/* The last line, and no other, is `error Exxxx ...`; it holds all parts and no control byte. */
static void expect_failure(const Case *c) {
    char start[32];
    retort_to(NULL, c->args);
    snprintf(start, sizeof start, "error E%04d ", c->code);
    const char *line = strstr(ran.err, "error E");
    if (ran.code != err_exit_code(c->code))
        FAIL("%s %s: exit code %d, expected %d: %s", c->args[0], c->args[1], ran.code,
             err_exit_code(c->code), ran.err);
    if (!line || strncmp(line, start, strlen(start)) ||
        strchr(line, '\n') != line + strlen(line) - 1)
        FAIL("%s %s: expected one line %s..., got: %s", c->args[0], c->args[1], start, ran.err);
    for (int i = 0; i < PARTS_MAX && c->parts[i]; i++) EXPECT_HAS(ran.err, c->parts[i]);
    for (const char *p = ran.err; *p; p++)
        if ((unsigned char)*p < 0x20 && *p != '\n') FAIL("a control byte in: %s", ran.err);
}
#define EXPECT_FAILURES(cases)                                                                     \
    do {                                                                                           \
        for (size_t i_ = 0; i_ < sizeof(cases) / sizeof *(cases); i_++)                            \
            expect_failure(&(cases)[i_]);                                                          \
    } while (0)

/* ---- words and options ----------------------------------------------------------------------- */
TEST(wrong_words_name_the_right_ones) {
    static const Case cases[] = {
        {E(2, 76), {"trian"}, {"trian: there is no such command; did you mean train?"}},
        {E(2, 76), {"help", "xyzzy"}, {"xyzzy: there is no such command", "retort --help"}},
        {E(2, 76), {"eval"}, {"eval: MODEL is missing", "usage: retort eval MODEL"}},
        {E(2, 76), {"predict", NET}, {"predict: IMAGE... is missing"}},
        {E(2, 76),
         {"report", "a", "b"},
         {"\"b\" is one word too many", "usage: retort report RUN"}},
        {E(2, 76), {"eval", NET, "-images", "2"}, {"-images is no option", "key=value"}},
        {E(2, 76),
         {"eval", "deeplabv3_resnet81", "weights=formula:1"},
         {"deeplabv3_resnet81", "did you mean deeplabv3_resnet18?"}},
        {E(2, 76),
         {"eval", "runs/none"},
         {"runs/none: no network, run directory or file", "check the path"}},
        {E(2, 76), {"eval", NET}, {"without weights", "weights=formula:SEED"}},
        {E(2, 76), {"eval", NET, "weights=formula:x"}, {"formula:x", "write formula:1"}},
        {E(2, 76), {"eval", MODEL}, {"no data set is named", "data=camvid:DIR"}},
        {E(2, 76),
         {"eval", MODEL, "data=camvit:."},
         {"no data set camvit", "did you mean camvid?"}},
        {E(2, 76),
         {"eval", MODEL, "data=xyzzy"},
         {"choose one of folder, camvid, cityscapes, voc, ade20k, scenes"}},
        {E(2, 76), {"predict", MODEL, "a.png"}, {"nowhere to write to", "out=DIR"}},
        {E(2, 76), {"info", "."}, {".: holds no config.yaml"}},
        {E(2, 76), {"report", "."}, {".: holds no config.yaml"}},
        {E(2, 76), {"maps", "."}, {".: holds no config.yaml"}},
        {E(2, 76), {"loss", "kdd", "a", "b"}, {"there is no loss kdd", "did you mean"}},
        {E(2, 76), {"loss", "rdd", "a", "b"}, {"rdd-tfe or rdd-tse"}},
        {E(2, 0), {"train", "none.yaml"}, {"none.yaml", "No such file", "check the path"}},
        {E(2, 76), {"train"}, {"nothing to train", "usage: retort train"}}};
    EXPECT_FAILURES(cases);
}
TEST(wrong_options_name_the_right_ones) {
    static const Case cases[] = {
        {E(2, 76),
         {"train", "lr=3"},
         {"command line: unknown option lr", "did you mean train.lr?"}},
        {E(2, 76), {"train", "train.lrr=3"}, {"did you mean train.lr?"}},
        {E(2, 76), {"train", "train.lr=fast"}, {"train.lr=fast is not a number from 0 to"}},
        {E(2, 76), {"train", "train.lr=nan"}, {"train.lr=nan"}},
        {E(2, 76), {"train", "train.batch=0"}, {"train.batch=0 is not a whole number from 1"}},
        {E(2, 76),
         {"train", "train.steps=9223372036854775808"},
         {"train.steps=9223372036854775808"}},
        {E(2, 76), {"train", "checkpoint.every=10parsecs"}, {"10parsecs", "10min"}},
        {E(2, 76),
         {"train", "distill.task.thta=1"},
         {"unknown option distill.task.thta", "train --help"}},
        {E(2, 76),
         {"train", "distill.task=rdd", "distill.task.thta=1"},
         {"did you mean distill.task.theta?"}},
        {E(2, 76), {"train", "exact=shards"}, {"comes with a later version"}},
        {E(2, 76),
         {"train", "data.unlabelled=a/*.jpg", "distill.losses=[ifvd]"},
         {"works without labels"}},
        {E(2, 76),
         {"train", "data.unlabelled=a/*.jpg", "distill.losses=[kd]", "train.batch=1"},
         {"train.batch=2"}},
        {E(2, 76), {"eval", MODEL, "--json"}, {"--json needs a value", "json=VALUE"}},
        {E(2, 76), {"eval", MODEL, "--json", "--probs"}, {"--json needs a value"}},
        {E(2, 76),
         {"eval", MODEL, "--probs"},
         {"probs is no option of `retort eval`", "retort eval --help"}},
        {E(2, 76), {"eval", MODEL, "train.lr=1"}, {"train.lr is no option of `retort eval`"}},
        {E(2, 76),
         {"predict", MODEL, "a.png", "out=p", "json=x"},
         {"json is no option of `retort predict`"}},
        {E(2, 76), {"report", ".", "json=x"}, {"json=x is no option"}},
        {E(2, 76), {"info", NET, "size=wide"}, {"size=wide", "size=360x480"}},
        {E(2, 76), {"info", NET, "--plan", "mode=dream"}, {"mode=dream", "eval or train"}},
        {E(2, 76), {"info", NET, "mode=train"}, {"add --plan"}},
        {E(2, 76), {"info", NET, "classes=-1"}, {"classes=-1", "0 to 256"}}};
    EXPECT_FAILURES(cases);
}
TEST(a_configuration_is_refused_with_its_line) {
    static const struct {
        const char *text;
        Case c;
    } cases[] = {
        {"data: scenes\nstudent: " NET "\ndistill:\n  task: {kind: rdd, waramup: 0.1}\n",
         {E(2, 76),
          {"train", "c.yaml"},
          {"c.yaml:4: unknown option distill.task.waramup", "did you mean distill.task.warmup?"}}},
        {"seed: 1\ntrain:\n  lr: 1\n  stps: 4\n",
         {E(2, 76),
          {"train", "c.yaml"},
          {"c.yaml:4: unknown option train.stps", "did you mean train.steps?"}}},
        {"seed: 1\ntrain: {lr: fast}\n",
         {E(2, 76), {"train", "c.yaml"}, {"c.yaml:2: train.lr=fast"}}},
        {"seed: 1\nseed: 2\n",
         {E(2, 76), {"train", "c.yaml"}, {"c.yaml:2: seed is given twice", "c.yaml:1"}}},
        {"seed: [1\n", {E(2, 76), {"train", "c.yaml"}, {"c.yaml:2:", "not YAML"}}},
        {"base: c.yaml\n", {E(2, 76), {"train", "c.yaml"}, {"base goes round in a circle"}}},
        {"distill: {losses: [kdd]}\n",
         {E(2, 76), {"train", "c.yaml"}, {"c.yaml:1: unknown loss kdd", "did you mean"}}},
        {"student: " NET "\n",
         {E(2, 76), {"train", "c.yaml"}, {"data.kind is not set", "data=camvid:DIR"}}},
        {"data: scenes\n", {E(2, 76), {"train", "c.yaml"}, {"student.model is not set"}}},
        {"data: scenes\nstudent: {model: " NET ", classes: 5}\n",
         {E(2, 37), {"train", "c.yaml"}, {"scenes has 11", "the student 5"}}},
        {"data: scenes\nstudent: " NET "\nteacher: {model: " NET ", classes: 19}\n",
         {E(2, 37), {"train", "c.yaml"}, {"scenes has 11", "the student 11", "the teacher 19"}}},
        {"data: scenes\nstudent: " NET "\nteacher: runs/none\n",
         {E(2, 76), {"train", "c.yaml"}, {"runs/none: no network, run directory or file"}}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        EXPECT_OK(put_text("c.yaml", cases[i].text));
        expect_failure(&cases[i].c);
    }
}
TEST(every_command_explains_itself) {
    static const char *const commands[] = {"train", "eval", "predict", "maps", "report", "info",
                                           "loss",  "run",  "bench",   "stop", "study",  "demo"};
    char usage[64];
    EXPECT_RUNS("--help");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        snprintf(usage, sizeof usage, "retort %s", commands[i]);
        EXPECT_RUNS("--help");
        EXPECT_HAS(ran.out, usage);
        EXPECT_RUNS(commands[i], "--help");
        EXPECT_HAS(ran.out, usage);
        EXPECT(!strstr(ran.out, "(null)") && !*ran.err);
        EXPECT_RUNS("help", commands[i]);
        EXPECT_HAS(ran.out, usage);
    }
    EXPECT_RUNS("--version");
    EXPECT_HAS(ran.out, "retort ");
}
/* No terminal: 80 columns. One word may be longer than a line. */
TEST(help_keeps_to_the_width_of_the_screen) {
    static const char *const commands[] = {"train", "eval", "predict", "loss", "study", "export"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        EXPECT_RUNS(commands[i], "--help");
        for (const char *line = ran.out; *line; line += strcspn(line, "\n") + 1) {
            const int n = (int)strcspn(line, "\n");
            const size_t word = strspn(line, " ") + strcspn(line + strspn(line, " "), " |\n");
            if (n > 80 && (int)word < n) FAIL("%s: %.*s", commands[i], n, line);
        }
    }
}
TEST(lost_output_is_a_failure) {
    retort_to("/dev/full", (const char *const[]){"info", NULL});
    EXPECT_INT(ran.code, 6);
    EXPECT_HAS(ran.err, "error E6005 standard output: No space left on device");
}

/* ---- data ------------------------------------------------------------------------------------ */
static void expect_failure_of(Err code, const char *const *parts, const char *const *args) {
    Case c = {.code = code};
    for (int i = 0; args[i]; i++) c.args[i] = args[i];
    for (int i = 0; parts[i]; i++) c.parts[i] = parts[i];
    expect_failure(&c);
}
#define PARTS(...)                                                                                 \
    (const char *const[]) {                                                                        \
        __VA_ARGS__, NULL                                                                          \
    }
#define EXPECT_EVAL_FAILS(code, ...) expect_failure_of(code, PARTS(__VA_ARGS__), PARTS(EVAL))

TEST(lists_that_do_not_hold_are_refused) {
    EXPECT_OK(make_camvid(0));
    expect_failure_of(E(3, 30), PARTS("nowhere: no such folder", "data.root"),
                      PARTS("eval", MODEL, "data=camvid:nowhere"));
    expect_failure_of(E(3, 30), PARTS("./val.txt: no such list file", "lines: image label"),
                      PARTS("eval", MODEL, "data=camvid:."));
    EXPECT_OK(put_text("train.txt", "\n \n"));
    EXPECT_EVAL_FAILS(E(3, 30), "./train.txt: 0 pairs found", "looked for");
    EXPECT_OK(put_text("train.txt", "train/a.png trainannot/a.png\ntrain/b.png\n"));
    EXPECT_EVAL_FAILS(E(3, 31), "./train.txt:2: image train/b.png without a label",
                      "write it behind the image");
    EXPECT_OK(
        put_text("train.txt", "train/a.png trainannot/a.png\ntrain/c.png trainannot/b.png\n"));
    EXPECT_EVAL_FAILS(E(3, 31), "1 of 2 images", "./train/c.png", "data.skip_unpaired=true");
    EXPECT_OK(
        put_text("train.txt", "train/a.png trainannot/a.png\ntrain/A.PNG trainannot/b.png\n"));
    EXPECT_EVAL_FAILS(E(3, 32), "./train/a.png", "./train/A.PNG", "same name");
    EXPECT_OK(put_text("train.txt", "train/a.png ../etc/passwd\n"));
    EXPECT_EVAL_FAILS(E(3, 31),
                      "./etc/passwd"); /* two components: beneath the root, where there is none */
    EXPECT_OK(put_text("train.txt", "train/a.png x/../../passwd\n"));
    EXPECT_EVAL_FAILS(E(3, 46), "./train.txt:1", "leaves the data root");
}
TEST(labels_that_do_not_hold_are_refused) {
    EXPECT_OK(make_camvid(34));
    EXPECT_EVAL_FAILS(E(3, 34), "./trainannot/b.png: label id 34 at (3,2) is outside 0..10",
                      "not ignored (11, 255); add it to data.ignore");
    EXPECT_OK(put_label("trainannot/b.png", 9, 13, 0, 0, 0));
    EXPECT_EVAL_FAILS(E(3, 33), "./trainannot/b.png", "13x9", "12x10", "./train/b.png");
    EXPECT_OK(put_image("trainannot/b.png", 10, 12));
    EXPECT_EVAL_FAILS(E(3, 36), "./trainannot/b.png", "RGB colour", "one index per pixel");
    EXPECT_OK(put_label("trainannot/b.png", 10, 12, 0, 0, 0));
    expect_failure_of(E(2, 37), PARTS(NET " has 5 classes", "camvid has 11"),
                      PARTS(EVAL, "classes=5"));
}
/* What stands in the place of train/b.png. */
TEST(images_that_are_none_are_refused) {
    EXPECT_OK(make_camvid(0));
    char image[512]; /* temp_path's buffers go round */
    Bytes good;
    snprintf(image, sizeof image, "%s", temp_path("train/b.png"));
    EXPECT_OK(sys_read_file(image, 1 << 20, EXIT_DATA, &good));
    EXPECT_OK(durable_write_all(image, good.data, good.bytes / 2));
    EXPECT_EVAL_FAILS(E(3, 38), "./train/b.png: the PNG is cut short", "replace it");
    good.data[good.bytes / 2] ^= 1;
    EXPECT_OK(durable_write_all(image, good.data, good.bytes));
    EXPECT_EVAL_FAILS(E(3, 39), "./train/b.png: the PNG is damaged");
    EXPECT_OK(put_text("train/b.png", ""));
    EXPECT_EVAL_FAILS(E(3, 38), "./train/b.png: the file is empty");
    EXPECT_OK(put_text("train/b.png", "<!doctype html><p>404"));
    EXPECT_EVAL_FAILS(E(3, 43), "./train/b.png: is an HTML or XML page");
    EXPECT(!unlink(image) && !mkfifo(image, 0666));
    EXPECT_EVAL_FAILS(E(3, 44), "./train/b.png: is a pipe (fifo)");
    EXPECT(!unlink(image) && !mkdir(image, 0777));
    EXPECT_EVAL_FAILS(E(3, 44), "./train/b.png: is a folder");
    EXPECT(!rmdir(image) && !symlink("/dev/zero", image));
    EXPECT_EVAL_FAILS(E(3, 45), "./train/b.png: is a link to /dev/zero", "data.follow_links=true");
    expect_failure_of(E(3, 44), PARTS("./train/b.png: is a device"),
                      PARTS(EVAL, "data.follow_links=true"));
    EXPECT(!unlink(image) && !symlink("b.png", image));
    EXPECT_EVAL_FAILS(E(3, 45), "./train/b.png: symbolic links go round in a circle");
    free(good.data);
}
TEST(images_to_predict_are_checked) {
    EXPECT_OK(make_camvid(0));
    EXPECT_OK(sys_mkdirs(temp_path("empty")));
    static const Case cases[] = {
        {E(3, 0),
         {"predict", MODEL, "none.png", "out=p"},
         {"none.png: No such file", "check the path"}},
        {E(3, 30), {"predict", MODEL, "empty", "out=p"}, {"no image was found", "folders of them"}},
        {E(3, 43),
         {"predict", MODEL, "train.txt", "out=p"},
         {"train.txt: is a text file, not a PNG or JPEG"}},
        {E(3, 44), {"predict", MODEL, "/dev/zero", "out=p"}, {"/dev/zero: is a device"}},
        {E(3, 32),
         {"predict", MODEL, "train/a.png", "trainannot/a.png", "out=p"},
         {"train/a.png", "trainannot/a.png", "two folders"}}};
    EXPECT_FAILURES(cases);
}

/* ---- weights --------------------------------------------------------------------------------- */
TEST(weights_of_another_network_are_reported) {
    EXPECT_OK(make_camvid(0));
    float one[4] = {1, 2, 3, 4};
    Tensor t = {"head.block.0.weight", DT_F32, SHAPE(2, 2), one};
    EXPECT_OK(st_write(temp_path("w.st"), &t, 1, NULL, 0));
    EXPECT_OK(put_text("text.st", "these are no weights, whatever the name says"));
    static const Case cases[] = {
        {E(4, 61),
         {"eval", NET, "width=0.1", "weights=w.st", "data=camvid:.", "split=train"},
         {"w.st: none of its 1 tensors is one of " NET, "torch.onnx.export"}},
        {E(4, 61),
         {"eval", "w.st", "model=" NET, "width=0.1", "data=camvid:.", "split=train"},
         {"w.st: none of its 1 tensors is one of " NET}},
        {E(2, 76),
         {"eval", "w.st", "data=camvid:."},
         {"w.st: the file does not say which network it is", "model=NAME"}},
        {E(4, 50), {"eval", "text.st", "model=" NET}, {"text.st", "not a safetensors file"}},
        {E(4, 0), {"eval", NET, "weights=none.st"}, {"none.st: No such file"}},
        {E(4, 0),
         {"eval", "train"},
         {"train: this folder holds no weights", "is it a run directory?"}},
        {E(4, 50), {"run", MODEL, "text.st", "o.st"}, {"text.st"}},
        {E(4, 51), {"run", MODEL, "w.st", "o.st"}, {"w.st: needs a tensor `image`"}},
        {E(4, 51), {"loss", "kd", "w.st", "o.st"}, {"w.st: needs a tensor `student.logits`"}}};
    EXPECT_FAILURES(cases);
}

/* ---- outputs --------------------------------------------------------------------------------- */
TEST(outputs_over_something_else_are_refused) {
    EXPECT_OK(make_camvid(0));
    EXPECT_OK(put_text("file", "mine"));
    EXPECT(!mkfifo(temp_path("fifo"), 0666) && !symlink("gone/away", temp_path("dangling")));
    static const Case cases[] = {
        {E(6, 9),
         {"predict", MODEL, "train/a.png", "out=file"},
         {"file: exists and is not a folder"}},
        {E(6, 9), {"predict", MODEL, "train/a.png", "out=dangling"}, {"dangling"}},
        {E(6, 7),
         {"predict", MODEL, "train/a.png", "out=/proc/p"},
         {"/proc/p", "choose a folder you may write to"}},
        {E(6, 9), {EVAL, "json=train"}, {"train"}},
        {E(6, 9), {EVAL, "json=fifo"}, {"fifo"}},
        {E(6, 9), {EVAL, "json=nowhere/x.json"}, {"nowhere/x.json: its folder does not exist"}},
        {E(6, 9),
         {"train", "data=scenes", "student=" NET, "out=file"},
         {"file: exists and is not a folder"}},
        {E(6, 9),
         {"train", "data=scenes", "student=" NET, "out=fifo"},
         {"fifo: exists and is not a folder"}}};
    EXPECT_FAILURES(cases);
    char text[TEXT_MAX];
    read_text("file", text);
    EXPECT_STR(text, "mine");
}

/* ---- names ----------------------------------------------------------------------------------- */
#define X10 "xxxxxxxxxx"
#define X80 X10 X10 X10 X10 X10 X10 X10 X10
#define E10 "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
static const char *const nasty[] = {"plain.png",
                                    "with space.png",
                                    "new\nline.png",
                                    "tab\there.png",
                                    "return\rhere.png",
                                    "quote\".png",
                                    "apostrophe'.png",
                                    "back\\slash.png",
                                    "<script>alert(1)<script>.png",
                                    "\"><img src=x onerror=alert(1)>.png",
                                    "&amp;.png",
                                    "&#60;b&#62;.png",
                                    "]]>.png",
                                    "<!--.png",
                                    "-leading.png",
                                    "--out=x.png",
                                    "-rf.png",
                                    "$HOME.png",
                                    "`id`.png",
                                    "$(id).png",
                                    "%s%n%d.png",
                                    "\x1b[31mred.png",
                                    "\x1b]0;title\x07.png",
                                    "\x7f.png",
                                    "\xff\xfe.png",
                                    "latin\xe9.png",
                                    "\xc3\xbc"
                                    "ber.png",
                                    "\xe6\x97\xa5\xe6\x9c\xac.png",
                                    "\xf0\x9f\x9a\x97.png",
                                    "e\xcc\x81.png",
                                    "\xe2\x80\xaegnp.png",
                                    "zero\xe2\x80\x8bwidth.png",
                                    "\xc2\x9b"
                                    "31m.png",
                                    ".hidden.png",
                                    "...png",
                                    "a.b.c.png",
                                    "semi;colon|pipe&.png",
                                    "star*question?.png",
                                    X80 X80 X80 X10 "y.png",
                                    E10 E10 E10 E10 E10 E10 E10 E10 E10 E10 E10 E10 ".png"};
enum { NASTY = sizeof nasty / sizeof *nasty };
_Static_assert(NASTY == 40, "forty names");

static int count_files(const char *dir, const char *suffix) {
    char **names;
    int n, found = 0;
    if (sys_list(temp_path(dir), EXIT_DATA, &names, &n)) return -1;
    for (int i = 0; i < n; i++) found += str_ends(names[i], suffix);
    sys_free_names(names, n);
    return found;
}
static void put_nasty(const char *dir, const char *insert) {
    EXPECT_OK(sys_mkdirs(temp_path(dir)));
    uint8_t px[8 * 8 * 3] = {0}, *png;
    size_t bytes;
    EXPECT_OK(image_encode_png_rgb(px, 8, 8, &png, &bytes));
    for (int i = 0; i < NASTY; i++) {
        char *path =
            xprintf("%s/%.*s%s.png", temp_path(dir),
                    (int)(strlen(nasty[i]) - 4) < 200 || !*insert ? (int)strlen(nasty[i]) - 4 : 200,
                    nasty[i], insert);
        FILE *f = fopen(path, "wb");
        if (!f || fwrite(png, 1, bytes, f) != bytes) FAIL("%s: cannot be made", path);
        if (f) fclose(f);
        free(path);
    }
    free(png);
}
TEST(forty_nasty_names_are_predicted) {
    put_nasty("tree/in", "");
    EXPECT_RUNS("predict", MODEL, "tree", "out=out");
    EXPECT_INT(count_files("out/in", ".label.png"), NASTY);
    EXPECT_INT(count_files("out/in", ".overlay.png"), NASTY);
    EXPECT_INT(count_files("out", ""), 1);
    for (const char *p = ran.err; *p; p++)
        if ((unsigned char)*p < 0x20 && *p != '\n') FAIL("a control byte in: %s", ran.err);
    EXPECT_RUNS("predict", MODEL, "tree",
                "out=tree"); /* beside the images; again, they are no images */
    EXPECT_RUNS("predict", MODEL, "tree", "out=tree");
    EXPECT_INT(count_files("tree/in", ".png"), 3 * NASTY);
}
TEST(a_bad_image_of_a_nasty_name_is_one_clean_line) {
    EXPECT_OK(sys_mkdirs(temp_path("tree")));
    EXPECT_OK(put_text("tree/a\x1b[2J\n\"<b>\xff.png", "GIF89a"));
    static const Case c = {E(3, 43),
                           {"predict", MODEL, "tree", "out=p"},
                           {"tree/a\\x1b[2J\\x0a\"<b>\\xff.png: is a GIF image"}};
    expect_failure(&c);
}
TEST(nasty_names_in_a_report_are_text) {
    put_nasty("<img src=x>\x1b[2J/maps", ".image");
    EXPECT_OK(put_text("<img src=x>\x1b[2J/config.yaml", "seed: 1 # <script>alert(2)</script>\n"));
    EXPECT_RUNS("report", "<img src=x>\x1b[2J");
    EXPECT_HAS(ran.err, "\\x1b[2J/report.html");
    Bytes b;
    EXPECT_OK(sys_read_file(temp_path("<img src=x>\x1b[2J/report.html"), 1 << 24, EXIT_DATA, &b));
    const char *page = (const char *)b.data;
    EXPECT(!strstr(page, "<script>alert") && !strstr(page, "<img src=x") && !strchr(page, '\x1b') &&
           !strchr(page, '\x07'));
    EXPECT(strstr(page, "data:image/png;base64,") != NULL);
    free(b.data);
}
TEST(nasty_tensor_names_are_printed_as_text) {
    float one = 1;
    Tensor t = {"<b>\x1b[2J\nx", DT_F32, SHAPE(1), &one};
    MetaPair note = {"key\x1b[2J", "value\x07\n"};
    EXPECT_OK(st_write(temp_path("w.st"), &t, 1, &note, 1));
    EXPECT_RUNS("info", "w.st");
    EXPECT_HAS(ran.out, "<b>\\x1b[2J\\x0ax\tfloat32\t1\n");
    EXPECT_HAS(ran.out, "key\\x1b[2J: value\\x07\\x0a\n");
}

/* ---- a run, from training to its report ------------------------------------------------------ */
TEST(a_run_goes_all_the_way) {
    EXPECT_RUNS("train", "data=scenes", "data.scenes.size=32x40", "data.scenes.train=4",
                "data.scenes.val=3", "student=" NET, "student.width=0.1", "student.aux=true",
                "train.steps=2", "train.batch=2", "eval.images=1", "report.images=1", "out=runs/a");
    EXPECT_HAS(ran.err, "warning: the backbone starts from random weights");
    EXPECT_RUNS("info", "runs/a");
    EXPECT_HAS(ran.out, "done");
    EXPECT_HAS(ran.out, "2 of 2");
    EXPECT_RUNS("eval", "runs/a", "--json", "scores.json");
    EXPECT_HAS(ran.out, "3 of 3 images"); /* eval.images of the run is the training's own */
    char json[TEXT_MAX];
    read_text("scores.json", json);
    EXPECT_HAS(json, "\"images\": 3");
    EXPECT_HAS(json, "\"confusion\": [[");
    EXPECT(!rename(temp_path("runs/a"), temp_path("moved")));
    EXPECT(!rename(temp_path("moved/last.safetensors"), temp_path("alone.safetensors")));
    EXPECT_RUNS("eval", "alone.safetensors", "images=1"); /* the file knows its network and data */
    EXPECT_HAS(ran.out, "1 of 3 images");
    EXPECT_RUNS("maps", "moved", "images=2");
    EXPECT_INT(count_files("moved/maps", ".student.png"), 2);
    EXPECT_RUNS("predict", "moved", "moved/maps", "out=p", "--probs");
    EXPECT_INT(count_files("p", ".probs.safetensors"),
               count_files("moved/maps", ".png") - count_files("moved/maps", ".label.png"));
    EXPECT(!unlink(temp_path("moved/report.html")));
    EXPECT_RUNS("report", "moved");
    EXPECT_INT(count_files("moved", "report.html"), 1);
    expect_failure_of(E(2, 76), PARTS("split"),
                      PARTS("predict", "moved", "moved/maps", "out=p", "split=val"));
}
TEST(plans_are_shown_for_both_modes) {
    EXPECT_RUNS("info", NET, "width=0.1", "size=32x40", "--plan");
    EXPECT_HAS(ran.out, "inference on 1 x 32x40");
    EXPECT_HAS(ran.out, "arena ");
    EXPECT_HAS(ran.out, "alive there:");
    EXPECT_RUNS("info", NET, "width=0.1", "size=32x40", "--plan", "mode=train", "--batch", "2");
    EXPECT_HAS(ran.out, "a training step on 2 x 32x40");
    EXPECT_HAS(ran.out, "backward");
}

TEST_MAIN(T(wrong_words_name_the_right_ones), T(wrong_options_name_the_right_ones),
          T(a_configuration_is_refused_with_its_line), T(every_command_explains_itself),
          T(help_keeps_to_the_width_of_the_screen),
          T(lost_output_is_a_failure), T(lists_that_do_not_hold_are_refused),
          T(labels_that_do_not_hold_are_refused), T(images_that_are_none_are_refused),
          T(images_to_predict_are_checked), T(weights_of_another_network_are_reported),
          T(outputs_over_something_else_are_refused), T(forty_nasty_names_are_predicted),
          T(a_bad_image_of_a_nasty_name_is_one_clean_line), T(nasty_names_in_a_report_are_text),
          T(nasty_tensor_names_are_printed_as_text), T(a_run_goes_all_the_way),
          T(plans_are_shown_for_both_modes))
