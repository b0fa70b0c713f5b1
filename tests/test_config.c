/* test_config.c - the configuration: files, base chains, arguments, what is refused and how it is
 * told, printing and reading back, what a resumed run may change. */
#include "backend/plan.h"
#include "base/str.h"
#include "base/sys.h"
#include "tempdir.h"
#include "test.h"
#include "train/config.h"

/* Write a file into the test's folder; returns its path. */
static const char *put(const char *name, const char *text) {
    const char *path = temp_path(name);
    CHECK(!durable_write_all(path, text, strlen(text)));
    return path;
}

/* Read a file (or NULL) and arguments separated by spaces, as `retort COMMAND` would; ~ is a space
 * within one. */
static Err read_as(const char *command, const char *file, const char *args, Config **out) {
    static char text[4][2048];
    static int turn;
    char *word[64], *rest = text[turn % 4], *item;
    int n = 0;
    snprintf(text[turn++ % 4], sizeof text[0], "%s", args);
    while (n < 64 && (item = strtok_r(rest, " ", &rest))) {
        for (char *p = item; *p; p++)
            if (*p == '~') *p = ' ';
        word[n++] = item;
    }
    return config_read(command, file, word, n, out);
}
static Err read_args(const char *args, Config **out) {
    return read_as("train", NULL, args, out);
}
static Err read_text(const char *text, Config **out) {
    return read_as("train", put("c.yaml", text), "", out);
}
static void expect_refused(Err rc, Config *c, const char *what, const char *expected) {
    if (rc != E(2, 76))
        FAIL("%s: E%d (%s), expected E2076", what, rc, rc ? err_text() : "accepted");
    else if (!strstr(err_text(), expected))
        FAIL("%s: \"%s\" does not contain \"%s\"", what, err_text(), expected);
    if (!rc) config_close(c);
}

/* ---- files ---------------------------------------------------------------------------------- */
TEST(values_come_from_the_file) {
    Config *c;
    EXPECT_OK(read_text(
        "seed: 7\n"
        "data: {kind: scenes, crop: 64x96, scale: [0.5, 2.0], workers: 3}\n"
        "student: {model: deeplabv3_resnet18, aux: true, width: 0.25}\n"
        "train:\n  steps: 500\n  lr: 1e-3\n  optimizer: {kind: adamw, betas: [0.8, 0.95]}\n"
        "checkpoint: {every: 90s}\neval: {every: 50}\n",
        &c));
    EXPECT_INT(c->seed, 7);
    EXPECT_STR(c->data.kind, "scenes");
    EXPECT_INT(c->data.crop_h, 64);
    EXPECT_INT(c->data.crop_w, 96);
    EXPECT_NEAR(c->data.scale_min, 0.5, 0);
    EXPECT_NEAR(c->data.scale_max, 2, 0);
    EXPECT_INT(c->data.workers, 3);
    EXPECT(c->student.aux);
    EXPECT_NEAR(c->student.width, 0.25, 0);
    EXPECT(c->teacher.model == NULL);
    EXPECT_INT(c->steps, 500);
    EXPECT_NEAR(c->lr, 1e-3, 0);
    EXPECT_INT(c->optimizer, 1);
    EXPECT_NEAR(c->beta1, 0.8, 0);
    EXPECT_NEAR(c->beta2, 0.95, 0);
    EXPECT_NEAR(c->checkpoint_every.seconds, 90, 0);
    EXPECT_INT(c->eval_every.steps, 50);
    EXPECT_INT(c->batch, 4); /* a default */
    config_close(c);
}
TEST(out_defaults_to_the_name_of_the_file) {
    Config *c;
    EXPECT_OK(read_as("train", put("yard.yaml", "seed: 1\n"), "", &c));
    EXPECT_STR(c->out, "runs/yard");
    config_close(c);
    EXPECT_OK(read_as("train", put("yard.yaml", "out: here\n"), "", &c));
    EXPECT_STR(c->out, "here");
    config_close(c);
}
TEST(an_empty_file_means_defaults) {
    Config *c, *d;
    EXPECT_OK(read_text("# nothing\n", &c));
    EXPECT_OK(read_args("out=runs/c", &d));
    EXPECT_INT(c->steps, d->steps);
    EXPECT_NEAR(c->lr, 0.02, 0);
    config_close(c), config_close(d);
}

/* ---- base files ----------------------------------------------------------------------------- */
TEST(base_files_are_inherited_in_a_chain) {
    Config *c;
    put("grand.yaml", "train: {steps: 1, batch: 8, lr: 0.5}\ndata: scenes\n");
    put("parent.yaml", "base: grand.yaml\ntrain: {batch: 9, lr: 0.25}\n");
    EXPECT_OK(read_as("train", put("child.yaml", "base: parent.yaml\ntrain: {lr: 0.125}\n"),
                      "seed=3", &c));
    EXPECT_INT(c->steps, 1);
    EXPECT_INT(c->batch, 9);
    EXPECT_NEAR(c->lr, 0.125, 0);
    EXPECT_STR(c->data.kind, "scenes");
    char *text = config_text(c);
    EXPECT_HAS(text, "grand.yaml:1; was 40000 (default)\n");
    EXPECT_HAS(text, "parent.yaml:2; was 8 (/");      /* what it took the place of, and where that was set */
    EXPECT_HAS(text, "child.yaml:2; was 0.25 (/");
    EXPECT_HAS(text, "# command line; was 1 (default)\n");
    EXPECT(str_starts(text, "# base: /") && strstr(text, "/parent.yaml\n# base: /"));
    EXPECT_HAS(text, "# default\n");
    free(text);
    config_close(c);
}
TEST(base_is_looked_for_beside_the_file_first) {
    Config *c;
    EXPECT_OK(sys_mkdirs(temp_path("sub")));
    put("b.yaml", "seed: 1\n");
    put("sub/b.yaml", "seed: 2\n");
    EXPECT_OK(read_as("train", put("sub/c.yaml", "base: b.yaml\n"), "", &c));
    EXPECT_INT(c->seed, 2);
    config_close(c);
}
TEST(a_circle_of_bases_is_refused) {
    Config *c = NULL;
    put("one.yaml", "base: two.yaml\n");
    put("two.yaml", "base: three.yaml\n");
    expect_refused(read_as("train", put("three.yaml", "base: one.yaml\n"), "", &c), c, "circle",
                   "circle");
    expect_refused(read_as("train", put("self.yaml", "base: ./self.yaml\n"), "", &c), c, "itself",
                   "self.yaml: base goes round");
}
TEST(a_long_chain_of_bases_is_refused) {
    Config *c = NULL;
    char name[32], text[64];
    for (int i = 0; i < 17; i++) {
        snprintf(name, sizeof name, "b%d.yaml", i);
        snprintf(text, sizeof text, i < 16 ? "base: b%d.yaml\n" : "seed: 1\n", i + 1);
        put(name, text);
    }
    expect_refused(read_as("train", temp_path("b0.yaml"), "", &c), c, "17 files",
                   "more than 16 base files");
    EXPECT_OK(read_as("train", temp_path("b1.yaml"), "", &c));
    config_close(c);
}
TEST(a_missing_base_is_named) {
    Config *c;
    Err rc = read_text("base: nowhere.yaml\n", &c);
    EXPECT_INT(err_exit_code(rc), 2);
    EXPECT_HAS(err_text(), "nowhere.yaml");
    expect_refused(read_text("base: [a, b]\n", &c), c, "two bases",
                   "c.yaml:1: base is the path of one file");
    expect_refused(read_args("base=x.yaml", &c), c, "base as an argument",
                   "base belongs into the file");
}

/* ---- arguments ------------------------------------------------------------------------------ */
TEST(arguments_win_over_files) {
    Config *c;
    EXPECT_OK(read_as("train", put("a.yaml", "train: {steps: 10, lr: 1}\nstudent: {aux: false}\n"),
                      "train.steps=20 --train.lr 0.5 --student.aux --checkpoint.every=5min", &c));
    EXPECT_INT(c->steps, 20);
    EXPECT_NEAR(c->lr, 0.5, 0);
    EXPECT(c->student.aux);
    EXPECT_NEAR(c->checkpoint_every.seconds, 300, 0);
    config_close(c);
}
TEST(short_forms) {
    Config *c;
    EXPECT_OK(read_args("data=camvid:/some/dir distill.task=ohem teacher=deeplabv3_resnet50 "
                        "student=pspnet_resnet18 "
                        "train.optimizer=adamw train.schedule=cosine",
                        &c));
    EXPECT_STR(c->data.kind, "camvid");
    EXPECT_STR(c->data.root, "/some/dir");
    EXPECT_STR(c->task.method->name, "ohem");
    EXPECT_STR(c->teacher.model, "deeplabv3_resnet50");
    EXPECT_STR(c->student.model, "pspnet_resnet18");
    EXPECT_INT(c->optimizer, 1);
    EXPECT_INT(c->schedule, 2);
    config_close(c);
    EXPECT_OK(read_text("data: scenes\nteacher: none\ndistill: {task: rdd, losses: [kd]}\n", &c));
    EXPECT_STR(c->data.kind, "scenes");
    EXPECT(c->teacher.model == NULL);
    EXPECT_STR(c->task.method->name, "rdd");
    EXPECT_INT(c->n_losses, 1);
    config_close(c);
}
TEST(short_names_belong_to_commands_with_one_model) {
    Config *c = NULL;
    EXPECT_OK(read_as("info", NULL, "model=deeplabv3_resnet18 classes=5 width=0.5 --aux", &c));
    EXPECT_STR(c->student.model, "deeplabv3_resnet18");
    EXPECT_INT(c->student.classes, 5);
    EXPECT(c->student.aux);
    config_close(c);
    expect_refused(read_args("model=deeplabv3_resnet18", &c), c, "model in train",
                   "unknown option model");
    for (int i = 0; i < 2; i++) { /* what training takes, its check takes, and means the same */
        const char *command = i ? "check" : "train";
        EXPECT_OK(read_as(command, NULL, "threads=3 batch=5 steps=7 memory=lean crop=64x96", &c));
        EXPECT_INT(c->threads, 3);
        EXPECT_INT(c->batch, 5);
        EXPECT_INT(c->steps, 7);
        EXPECT(c->lean && c->data.crop_h == 64);
        config_close(c);
        expect_refused(read_as(command, NULL, "mirror=true", &c), c, "mirror: data's or eval's?",
                       "unknown option mirror");
    }
    expect_refused(read_as("eval", NULL, "train.lr=1", &c), c, "lr in eval",
                   "train.lr is no option of `retort eval`");
    expect_refused(read_args("steps", &c), c, "no value",
                   "steps is no option; options are key=value");
}
TEST(words_and_options_are_told_apart) {
    char *argv[] = {"RUN",        "data=scenes",    "--json",     "out.json",
                    "a=b/c.png=", "--print-config", "im age.png", "-x=1"};
    char *pos[8], *args[8];
    int n_pos, n_args;
    config_split_args(8, argv, pos, &n_pos, args, &n_args);
    EXPECT_INT(n_pos, 2);
    EXPECT_INT(n_args, 6);
    EXPECT_STR(pos[0], "RUN");
    EXPECT_STR(pos[1], "im age.png");
    EXPECT_STR(args[2], "out.json");
}

/* ---- terms of the loss ---------------------------------------------------------------------- */
typedef struct KdOptions {
    double tau;
    int mask;
} KdOptions; /* as in kd.c */
static double tau_of(const Config *c, int i) {
    return ((const KdOptions *)c->losses[i].opt)->tau;
}

TEST(a_method_may_come_twice) {
    Config *c;
    EXPECT_OK(read_text("distill:\n  losses:\n    - kd: {weight: 2, tau: 3}\n    - kd\n", &c));
    EXPECT_INT(c->n_losses, 2);
    EXPECT_STR(c->losses[0].label, "kd");
    EXPECT_STR(c->losses[1].label, "kd.2");
    EXPECT_NEAR(c->losses[0].weight, 2, 0);
    EXPECT_NEAR(tau_of(c, 0), 3, 0);
    EXPECT_NEAR(tau_of(c, 1), 1, 0);
    config_close(c);
}
TEST(options_of_terms_are_overridden_by_label) {
    Config *c = NULL;
    const char *file = put("l.yaml", "distill: {losses: [kd: {tau: 3}, kd]}\n");
    EXPECT_OK(read_as("train", file, "distill.losses.kd.tau=5 distill.losses.kd.2.weight=0.5", &c));
    EXPECT_NEAR(tau_of(c, 0), 5, 0);
    EXPECT_NEAR(c->losses[1].weight, 0.5, 0);
    config_close(c);
    EXPECT_OK(read_as("train", file, "distill.losses=none", &c));
    EXPECT_INT(c->n_losses, 0);
    config_close(c);
    expect_refused(read_args("distill.losses.kd.tau=5", &c), c, "no kd",
                   "distill.losses holds no such term");
    expect_refused(
        read_as("train", file, "distill.losses.kd.tua=5", &c), c, "tua",
        "command line: unknown option distill.losses.kd.tua; did you mean distill.losses.kd.tau?");
}
TEST(order_within_one_source_does_not_matter) {
    Config *c;
    EXPECT_OK(read_args(
        "distill.losses.kd.tau=5 distill.losses=[kd] distill.task.theta=0.5 distill.task=ohem",
        &c));
    EXPECT_NEAR(tau_of(c, 0), 5, 0);
    char *text = config_text(c);
    EXPECT_HAS(text, "theta: 0.5");
    free(text);
    config_close(c);
}
TEST(another_method_drops_the_options_of_the_first) {
    Config *c;
    put("rdd.yaml",
        "distill: {task: {kind: rdd, warmup: 5, theta: 0.6}, losses: [kd: {tau: 4}]}\n");
    EXPECT_OK(read_as("train",
                      put("ohem.yaml", "base: rdd.yaml\ndistill: {task: ohem, losses: [kd]}\n"), "",
                      &c));
    char *text = config_text(c);
    EXPECT_HAS(text, "theta: 0.7");
    EXPECT_NEAR(tau_of(c, 0), 1, 0);
    free(text);
    config_close(c);
}
TEST(methods_are_checked) {
    static const char *const cases[][2] = {
        {"distill: {task: rddd}\n", "c.yaml:1: unknown loss rddd; did you mean rdd?"},
        {"distill:\n  losses: [kdd]\n", "c.yaml:2: unknown loss kdd; did you mean kd?"},
        {"distill: {losses: [rdd]}\n", "rdd is a task loss; put it into distill.task"},
        {"distill: {task: kd}\n", "kd is not a task loss; put it into distill.losses"},
        {"distill: {losses: [kd: {weight: nan}]}\n", "weight=nan is no number"},
        {"distill: {losses: [kd: {weight: x}]}\n", "weight=x is no number"},
        {"distill: {losses: [kd: 3]}\n", "the options of kd must be a group"},
        {"distill: {losses: [[kd]]}\n", "a loss is `name` or `name: {option: value}`"},
        {"distill: {losses: [kd, kd, kd, kd, kd, kd, kd, kd, kd]}\n", "more than 8 losses"},
        {"distill: {task: {kind: rdd, rule: nor}}\n", "rule=nor is not one of xor|or|and"},
        {"distill: {task: {kind: ce, theta: 1}}\n", "unknown option distill.task.theta"},
    };
    Config *c = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refused(read_text(cases[i][0], &c), c, cases[i][0], cases[i][1]);
}

/* ---- what is refused ------------------------------------------------------------------------ */
TEST(unknown_keys_name_the_nearest) {
    static const char *const cases[][2] = {
        {"train:\n  steps: 5\n  lrr: 1\n",
         "c.yaml:3: unknown option train.lrr; did you mean train.lr?"},
        {"trian: {lr: 1}\n", "c.yaml:1: unknown option trian"},
        {"seed: 1\n\nstudent: {modle: x}\n",
         "c.yaml:3: unknown option student.modle; did you mean student.model?"},
        {"checkpoint: {evry: 1}\n", "did you mean checkpoint.every?"},
        {"zzzzzzzz: 1\n", "unknown option zzzzzzzz; see retort train --help"},
    };
    Config *c = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refused(read_text(cases[i][0], &c), c, cases[i][0], cases[i][1]);
    expect_refused(read_args("train.stpes=1", &c), c, "argument",
                   "command line: unknown option train.stpes; did you mean train.steps?");
}
TEST(duplicate_keys_are_refused) {
    Config *c = NULL;
    expect_refused(read_text("train:\n  lr: 1\n  steps: 2\n  lr: 3\n", &c), c, "lr twice",
                   "c.yaml:4: lr is given twice, before at");
    EXPECT_HAS(err_text(), "c.yaml:2; remove one");
    expect_refused(read_text("seed: 1\nseed: 1\n", &c), c, "seed twice",
                   "c.yaml:2: seed is given twice");
}
TEST(values_are_checked) {
    static const char *const cases[][2] = {
        {"train.lr=nan", "command line: train.lr=nan is not a number"},
        {"train.lr=inf", "train.lr=inf is not a number"},
        {"train.lr=-1", "from 0 to"},
        {"train.lr=1,5", "train.lr=1,5 is not a number"},
        {"train.batch=0", "train.batch=0 is not a whole number from 1 to 65536"},
        {"train.batch=1.5", "train.batch=1.5 is not a whole number"},
        {"train.steps=9223372036854775808",
         "train.steps=9223372036854775808 is not a whole number"},
        {"train.steps=-1", "train.steps=-1"},
        {"train.steps=1e3", "train.steps=1e3 is not a whole number"},
        {"train.steps=", "train.steps= is not a whole number"},
        {"seed=18446744073709551617", "seed="},
        {"data.crop=360", "data.crop=360 is not HEIGHTxWIDTH"},
        {"data.crop=0x4", "data.crop=0x4 is not HEIGHTxWIDTH"},
        {"data.crop=70000x4", "at most 65535 px"},
        {"data.scale=[2,1]", "data.scale="},
        {"data.scale=[0.5,17]", "to <= 16"},
        {"data.mirror=2", "data.mirror=2 is not a number from 0 to 1"},
        {"student.aux=maybe", "student.aux=maybe is not true or false"},
        {"train.optimizer=adam", "train.optimizer.kind=adam is not one of sgd|adamw"},
        {"train.schedule.kind=step", "is not one of poly|constant|cosine"},
        {"train.optimizer.momentum=1", "must lie in [0, 1)"},
        {"train.optimizer.betas=[0.9,1]", "must lie in [0, 1)"},
        {"train.ema=1", "must lie in [0, 1)"},
        {"checkpoint.every=10parsecs", "a number of steps such as 2000, or a time such as 10min"},
        {"checkpoint.keep=1", "checkpoint.keep=1"},
        {"report.every=soon", "a time such as 60s"},
        {"train.lr_groups=[1]", "is a map"},
        {"train.lr_groups={head:~-1}",
         "train.lr_groups: head must be a factor >= 0, as in {head: 10}"},
        {"train.lr_groups={head:1}", "head:1 must be a factor >= 0, as in {head: 10}"},
        {"train.steps=1000000000000000 train.batch=65536 train.accumulate=65536",
         "too many images"},
    };
    Config *c = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refused(read_args(cases[i][0], &c), c, cases[i][0], cases[i][1]);
}
TEST(groups_and_values_are_not_mixed_up) {
    Config *c = NULL;
    expect_refused(read_text("train: 5\n", &c), c, "a value for a group",
                   "c.yaml:1: unknown option train");
    expect_refused(read_text("seed: {a: 1}\n", &c), c, "a group for a value",
                   "c.yaml:1: seed takes a value, not a group");
    expect_refused(read_text("- seed\n", &c), c, "a list", "a configuration is a map of options");
    expect_refused(read_text("? [a]\n: 1\n", &c), c, "a list as key", "a key must be a word");
    EXPECT_OK(read_text("train:\nseed: 2\n", &c)); /* an empty group says nothing */
    EXPECT_INT(c->seed, 2);
    config_close(c);
}
TEST(what_is_not_yaml_is_refused_with_its_place) {
    char deep[128] = "";
    for (int i = 0; i < 20; i++) strcat(deep, "{a: ");
    const char *cases[][2] = {
        {"train: {lr: 1\nseed: 2\n", "c.yaml:"},
        {"seed: \"open\n", "not YAML"},
        {"\ttab: 1\n", "c.yaml:1:1: not YAML"},
        {"a: &x 1\n", "anchors and aliases are not supported"},
        {"a: *x\n", "anchors and aliases"},
        {"seed: 1\n---\nseed: 2\n", "a second document"},
        {deep, "nested deeper than 16"},
        {"seed: \"1\\0\"\n", "NUL byte"},
        {"seed: 1\nname: \xff\n", "c.yaml:2:7: not YAML"},
    };
    Config *c = NULL;
    Str many = {0};
    for (int i = 0; i < 10001; i++) str_addf(&many, "key%d:\n", i);
    expect_refused(read_text(many.s, &c), c, "many keys", "more than 20000 values");
    str_free(&many);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refused(read_text(cases[i][0], &c), c, cases[i][0], cases[i][1]);
}
TEST(every_truncation_is_read_or_refused) {
    static const char good[] = "base: b.yaml\ndata: {kind: scenes, scale: [0.5, 2], crop: "
                               "64x96}\nteacher: deeplabv3_resnet18\n"
                               "distill:\n  task: {kind: rdd, warmup: 0.1}\n  losses:\n    - kd: "
                               "{weight: 1, tau: 2}\n    - kd\n"
                               "train: {lr_groups: {head: 10, \"a b\": 2}, lr: 1e-2}\n";
    int read = 0, refused = 0;
    put("b.yaml", "seed: 1\n");
    for (size_t n = 0; n <= sizeof good - 1; n++) {
        Config *c;
        CHECK(!durable_write_all(temp_path("t.yaml"), good, n));
        Err rc = read_as("train", temp_path("t.yaml"), "", &c);
        if (rc) EXPECT_INT(err_exit_code(rc), 2);
        else config_close(c);
        rc ? refused++ : read++;
    }
    EXPECT(read > 10 && refused > 50);
}
TEST(a_teacher_has_its_own_classes_and_taps) {
    Config *c;
    EXPECT_OK(read_text(
        "teacher:\n  model: t.onnx\n  classes: [2, 0, 1]\n  taps: {features: /a/b.c_0}\n  input: resize\n",
        &c));
    EXPECT_INT(c->teacher.n_class_map, 3);
    for (int i = 0; i < 3; i++) EXPECT_INT(c->teacher.class_map[i], (i + 2) % 3);
    EXPECT_STR(c->teacher.tap[2], "/a/b.c_0");
    EXPECT(!c->teacher.tap[0] && !c->teacher.norm && !c->teacher.exact_size);
    config_close(c);
    EXPECT_OK(read_args("teacher.model=deeplabv3_resnet18 teacher.classes=19", &c));
    EXPECT_INT(c->teacher.classes, 19);
    EXPECT(!c->teacher.class_map && c->teacher.exact_size);
    EXPECT_STR(c->teacher.norm, "bgr-caffe");
    EXPECT_STR(c->student.norm, "rgb-imagenet");
    config_close(c);
    static const char *const bad[] = {"teacher.classes=[]", "teacher.classes=[1,-1]",
                                      "teacher.classes=[1,x]", "teacher.classes=0",
                                      "teacher.classes=257"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_refused(read_args(bad[i], &c), c, bad[i],
                       "is neither same, a number from 1 to 256 nor a list");
}
TEST(later_features_say_so) {
    static const char *const cases[][2] = {
        {"checkpoint.require_exact=true", "comes with a later version; here it can only be false"},
        {"extend=stretch", "extend=stretch comes with a later version"},
        {"exact=shards", "comes with a later version"},
        {"checkpoint.partial_load=true", "comes with a later version"},
        {"checkpoint.on_nan=rewind", "comes with a later version"},
    };
    Config *c = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refused(read_args(cases[i][0], &c), c, cases[i][0], cases[i][1]);
    expect_refused(read_text("\ncheckpoint:\n  require_exact: {a: 1}\n", &c), c, "require_exact",
                   "c.yaml:3: checkpoint.require_exact={a: 1} comes with");
    EXPECT_OK(
        read_args("teacher.output=logits train.precision=f32 train.memory=normal extend=none", &c));
    config_close(c);
}

TEST(maps_and_lists_stay_yaml) {
    Config *c, *again;
    EXPECT_OK(
        read_text("data:\n  ignore: [255, Void]\n  split: {val: 0.1, group: '^(d\\d+)'}\n", &c));
    char *text = config_text(c);
    EXPECT_OK(config_read_text(text, "again", &again));
    EXPECT_STR(again->data.ignore, c->data.ignore);
    EXPECT_STR(again->data.split, c->data.split);
    EXPECT_HAS(c->data.split, "group: \"^(d\\\\d+)\"");
    free(text), config_close(c), config_close(again);
    expect_refused(read_text("data: {root: {a: 1}}", &c), c, "root",
                   "takes a value, not a group");
}

TEST(precision_is_settled_when_training) {
    Config *c = NULL;
    const Dtype fast = backend_fast(DT_BF16) ? DT_BF16 : DT_F32;
    EXPECT_OK(config_read("train", NULL, NULL, 0, &c));
    EXPECT(c->precision == fast && c->teacher_precision == fast);
    char *text = config_text(c), *want = xprintf("precision: %s", fast == DT_BF16 ? "bf16" : "f32");
    EXPECT_HAS(text, want);                  /* a resumed run must not settle it anew */
    free(text), free(want), config_close(c);
    EXPECT_OK(config_read("train", NULL, (char *[]){"train.precision=f32"}, 1, &c));
    EXPECT(c->precision == DT_F32 && c->teacher_precision == DT_F32);
    config_close(c);
    EXPECT_OK(config_read("eval", NULL, NULL, 0, &c));
    EXPECT(c->precision == DT_F32);
    config_close(c);
}

/* ---- printing and reading back -------------------------------------------------------------- */
/* The text without its comments, which are the origins. */
static char *bare(const Config *c) {
    char *text = config_text(c), *to = text;
    for (const char *from = text; *from;) {
        const char *end = strchr(from, '\n'), *mark = end;
        for (const char *p = from; p < end; p++)
            if (!strncmp(p, " # ", 3)) mark = p; /* the last one: values may hold such text */
        while (mark > from && mark[-1] == ' ') mark--;
        memmove(to, from, (size_t)(mark - from));
        to += mark - from;
        *to++ = '\n';
        from = end + 1;
    }
    *to = 0;
    return text;
}
static void expect_round_trip(const Config *c) {
    char *text = config_text(c), *before = bare(c);
    Config *again;
    EXPECT_OK(config_read_text(text, "printed", &again));
    char *after = bare(again);
    EXPECT_STR(after, before);
    EXPECT_OK(config_check_resume(again, text, "printed"));
    free(text), free(before), free(after);
    config_close(again);
}
TEST(what_is_printed_reads_back_the_same) {
    static const char *const args[] = {
        "",
        "out=a/b data=camvid:dir distill.task=rdd distill.losses=[kd,kd] "
        "distill.losses.kd.2.tau=0.1 teacher=deeplabv3_resnet18",
        "train.lr=0.1 train.optimizer.eps=1e-30 train.clip=0.30000000000000004 "
        "seed=9000000000000000 train.lr_groups={head:~10,~\"a~b\":~0.1}",
        "data.crop=65x513 data.scale=[0.5,2] checkpoint.every=90s eval.every=2h report.every=1.5s "
        "train.optimizer.betas=[0.1,0.2]",
        "checkpoint.every=7 eval.every=30min student.bn=frozen student.dropout=false "
        "train.optimizer=adamw train.schedule=constant",
        "distill.task=rdd distill.task.compat=rdd2023 distill.task.class_weights=1,2,3 "
        "distill.task.warmup=12",
    };
    for (size_t i = 0; i < sizeof args / sizeof *args; i++) {
        Config *c;
        EXPECT_OK(read_args(args[i], &c));
        expect_round_trip(c);
        config_close(c);
    }
}
TEST(any_text_survives_printing) {
    static const char *const texts[] = {
        "with space", "#hash",       "a # b",     "{brace",    "[x",
        "-",          "- a",         "a: b",      "a:",        "'q'",
        "\"q\"",      "back\\slash", "tab\there", "new\nline", "\xc3\xbc\xe2\x82\xac",
        "true",       "0x10",        "1e5",       "~",         "none",
        "*a",         "&a",          "!t",        "%p",        "@a",
        "`b`",        "?",           "|",         ">",         "\x1b[31m"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        Config *c, *again;
        Str file = {0};
        str_add(&file, "out: ");
        str_json(&file, texts[i]);
        EXPECT_OK(read_text(file.s, &c));
        EXPECT_STR(c->out, texts[i]);
        char *text = config_text(c);
        EXPECT_OK(config_read_text(text, "printed", &again));
        EXPECT_STR(again->out, texts[i]);
        free(text), str_free(&file);
        config_close(c), config_close(again);
    }
}
TEST(the_written_file_is_the_printed_text) {
    Config *c, *again;
    EXPECT_OK(read_args("out=x train.steps=3", &c));
    EXPECT_OK(config_write(c, temp_path("config.yaml")));
    EXPECT_OK(read_as("train", temp_path("config.yaml"), "", &again));
    EXPECT_INT(again->steps, 3);
    EXPECT_STR(again->out, "x");
    config_close(c), config_close(again);
}

/* ---- resuming ------------------------------------------------------------------------------- */
static Err resume_with(const char *before, const char *after) {
    Config *was, *is;
    CHECK(!read_args(before, &was) && !read_args(after, &is));
    char *text = config_text(was);
    Err rc = config_check_resume(is, text, "step-5.safetensors");
    free(text);
    config_close(was), config_close(is);
    return rc;
}
TEST(a_resume_may_change_what_cannot_change_the_result) {
    EXPECT_OK(resume_with(
        "out=a", "out=b data.root=/elsewhere data.workers=7 checkpoint.every=5 checkpoint.keep=9 "
                 "report.every=1s report.images=3 deterministic=true"));
}
TEST(a_resume_lists_what_it_may_not_change) {
    static const char *const cases[][3] = {
        {"", "train.lr=0.5",
         "step-5.safetensors: changed options would change the result: train.lr: 0.02 -> 0.5; give "
         "the old values"},
        {"train.batch=2 seed=4", "train.batch=3 seed=5", "seed: 4 -> 5, train.batch: 2 -> 3"},
        {"distill.losses=[kd]", "distill.losses=[kd] distill.losses.kd.tau=2",
         "distill.losses.kd.tau: 1 -> 2"},
        {"distill.losses=[kd]", "", "distill.losses.kd.weight: 1 -> absent"},
        {"", "distill.losses=[kd]",
         "distill.losses: [] -> [kd], distill.losses.kd.weight: absent -> 1"},
        {"distill.task=rdd", "distill.task=ohem", "distill.task.kind: rdd -> ohem"},
        {"distill.task=rdd", "distill.task=rdd distill.task.theta=0.5",
         "distill.task.theta: 0.7 -> 0.5"},
        {"", "student.width=0.5", "student.width: 1 -> 0.5"},
        {"", "train.steps=9", "train.steps: 40000 -> 9"},
        {"train.threads=1", "train.threads=2", "train.threads: 1 -> 2"},
        {"", "train.lr_groups={head:~2.0}", "train.lr_groups: {} -> {head: 2.0}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        EXPECT_ERR(resume_with(cases[i][0], cases[i][1]), E(5, 0));
        EXPECT_HAS(err_text(), cases[i][2]);
    }
}
TEST(a_configuration_of_another_version_is_told) {
    Config *c;
    EXPECT_OK(read_args("", &c));
    EXPECT_ERR(config_check_resume(c, "train: {flux: 3}\n", "step-5"), E(5, 15));
    EXPECT_HAS(err_text(), "another version: step-5:1: unknown option train.flux");
    config_close(c);
}

/* Every shipped recipe is a configuration without unknown options, and its losses can be had. */
TEST(every_recipe_can_be_read) {
    static const char *const folders[] = {"camvid", "camvid-short", "cityscapes"};
    for (int f = 0; f < 3; f++) {
        char **names, *dir = xprintf("%s/recipes/%s", SOURCE_DIR, folders[f]);
        int n = 0;
        EXPECT_OK(sys_list(dir, EXIT_USAGE, &names, &n));
        EXPECT(n >= 14);
        for (int i = 0; i < n; i++) {
            Config *c;
            char *path = path_join(dir, names[i]);
            const Err rc = config_read("train", path, NULL, 0, &c);
            if (rc) FAIL("%s: %s", path, err_text());
            else config_close(c);
            free(path);
        }
        sys_free_names(names, n);
        free(dir);
    }
}

TEST_MAIN(T(every_recipe_can_be_read), T(values_come_from_the_file),
          T(out_defaults_to_the_name_of_the_file), T(an_empty_file_means_defaults),
          T(base_files_are_inherited_in_a_chain), T(base_is_looked_for_beside_the_file_first),
          T(a_circle_of_bases_is_refused), T(a_long_chain_of_bases_is_refused),
          T(a_missing_base_is_named), T(arguments_win_over_files), T(short_forms),
          T(short_names_belong_to_commands_with_one_model), T(words_and_options_are_told_apart),
          T(a_method_may_come_twice), T(options_of_terms_are_overridden_by_label),
          T(order_within_one_source_does_not_matter),
          T(another_method_drops_the_options_of_the_first), T(methods_are_checked),
          T(unknown_keys_name_the_nearest), T(duplicate_keys_are_refused), T(values_are_checked),
          T(groups_and_values_are_not_mixed_up), T(what_is_not_yaml_is_refused_with_its_place),
          T(every_truncation_is_read_or_refused), T(a_teacher_has_its_own_classes_and_taps),
          T(later_features_say_so), T(maps_and_lists_stay_yaml),
          T(precision_is_settled_when_training), T(what_is_printed_reads_back_the_same),
          T(any_text_survives_printing), T(the_written_file_is_the_printed_text),
          T(a_resume_may_change_what_cannot_change_the_result),
          T(a_resume_lists_what_it_may_not_change), T(a_configuration_of_another_version_is_told))
