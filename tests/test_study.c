/* test_study.c - `retort study`: killed and resumed it ends with the same report; what may change, what
 * may not, and what is wrong with what was asked for. Tiny, on drawn pictures. */
#include "cli/study_priv.h"
#include "data/data_priv.h"
#include "io/yaml.h"
#include "tiny_runs.h"

static const char study_text[] =
    "data: {kind: scenes, crop: 32x32, scenes: {size: 32x48, train: 8, val: 3, test: 5}}\n" STUDENT
    "train: {steps: 6, batch: 2, lr: 0.02, threads: 1}\ncheckpoint: {every: 2}\neval: {every: 2}\n"
    "report: {images: 1, metrics: 1}\ncheck: off\n"
    "arms:\n  base: {}\n  kd: {teacher: {model: study}, distill: {losses: [kd]}}\n"
    "study: {seeds: 2, teacher: {student: {width: 0.15}, train: {steps: 3}}}\n";

/* `retort COMMAND ARGS` in DIR; what it says is appended to DIR.said. */
static pid_t start_in(const char *dir, const char *command) {
    char said[RUN_PATH], *line = xprintf("exec '%s/retort' %s", BUILD_DIR, command);
    snprintf(said, sizeof said, "%s.said", dir);
    CHECK(!sys_mkdirs(dir));
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        int fd = open(said, O_WRONLY | O_CREAT | O_APPEND, 0666);
        dup2(fd, 1), dup2(fd, 2);
        setenv("OMP_NUM_THREADS", "1", 1);
        if (chdir(dir)) _exit(126);
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    free(line);
    return pid;
}
static int whole_in(const char *dir, const char *command) {
    return run_wait(start_in(dir, command));
}
static const char *study_dir(const char *name) {
    const char *dir = place(name);
    char file[64];
    CHECK(!sys_mkdirs(dir));
    snprintf(file, sizeof file, "%s/s.yaml", name);
    put(file, study_text);
    return dir;
}

/* ---- comparing ------------------------------------------------------------------------------ */
/* The page without what a clock decides: between its marks, and the last line. */
static char *timeless_page(const char *dir) {
    static const char open_mark[] = "<!--clock-->", close_mark[] = "<!--/clock-->";
    char *text = run_text(dir, "/study/study.html"), *from, *to;
    while ((from = strstr(text, open_mark)) && (to = strstr(from, close_mark)))
        memmove(from, to + sizeof close_mark - 1, strlen(to + sizeof close_mark - 1) + 1);
    if ((from = strstr(text, "<footer>"))) *from = 0;
    return text;
}
static char *timeless_json(const char *dir) {
    char *text = run_text(dir, "/study/study.json");
    json_t *o = json_loads(text, 0, NULL);
    free(text);
    json_object_del(o, "time");
    char *clean = json_dumps(o, JSON_INDENT(1));
    json_decref(o);
    return clean ? clean : xstrdup("");
}
static void expect_same_text(const char *what, char *a, char *b) { /* takes both */
    size_t i = 0;
    while (a[i] && a[i] == b[i]) i++;
    if (!*a || a[i] != b[i]) FAIL("%s: \"%.60s\" and \"%.60s\"", what, a + i, b + i);
    free(a), free(b);
}
static void expect_same_study(const char *reference, const char *other) {
    static const char *const runs[] = {"teacher", "base/seed-1", "base/seed-2", "kd/seed-1",
                                       "kd/seed-2"};
    expect_same_text("study.json", timeless_json(reference), timeless_json(other));
    expect_same_text("study.html", timeless_page(reference), timeless_page(other));
    for (int i = 0; i < 5; i++) {
        char a[RUN_PATH], b[RUN_PATH], why[256];
        snprintf(a, sizeof a, "%s/study/%s", reference, runs[i]);
        snprintf(b, sizeof b, "%s/study/%s", other, runs[i]);
        expect_same(a, b);
        if (!runs_same_tensors(a, b, "counts.test.safetensors", why)) FAIL("%s: %s", runs[i], why);
    }
}

/* ---- killed --------------------------------------------------------------------------------- */
/* A study that ended before the signal came is put back to where it was, and tried again. */
static void kill_when(const char *dir, const char *file, const char *what) {
    enum { TRIES = 10 };
    const char *before = place("before");
    copy_run(dir, before);
    for (int i = 0; i < TRIES; i++) {
        pid_t pid = start_in(dir, "study s.yaml out=study");
        if (!run_await(pid, dir, file, what)) FAIL("%s never said \"%s\"", file, what);
        kill(pid, SIGKILL);
        if (run_wait(pid) == 128 + SIGKILL) return;
        copy_run(before, dir);
    }
    FAIL("%d times the study had ended before it could be killed", TRIES);
}
TEST(a_study_killed_twice_ends_with_the_same_report) {
    const char *reference = study_dir("reference"), *killed = study_dir("killed");
    EXPECT_INT(whole_in(reference, "study s.yaml out=study"), 0);
    kill_when(killed, "/study/kd/seed-1/metrics.jsonl", "\"step\": 3,");
    EXPECT(!run_says(killed, "/study/log.txt", "seed 2"));           /* seed by seed */
    kill_when(killed, "/study/log.txt", "kd/seed-1: reading test");
    EXPECT_INT(whole_in(killed, "study s.yaml out=study"), 0);
    expect_same_study(reference, killed);
    EXPECT(run_says(killed, "/study/study.json", "\"complete\": true"));
    EXPECT_INT(whole_in(killed, "info study"), 0);
    EXPECT(run_says(killed, ".said", "runs            5 of 5\n"));
    EXPECT(run_says(killed, ".said", "not shown to differ: kd"));
}
TEST(a_study_stops_when_asked_and_goes_on) {
    const char *dir = study_dir("study");
    pid_t pid = start_in(dir, "study s.yaml out=study seeds=1 train.steps=100000 eval.every=0");
    EXPECT(run_await(pid, dir, "/study/base/seed-1/metrics.jsonl", "\"step\": 3,"));
    EXPECT_INT(whole_in(dir, "info study"), 0);
    EXPECT(run_says(dir, ".said", "run now         study/base/seed-1\n"));
    EXPECT(run_says(dir, ".said", " of 100000\n"));
    EXPECT_INT(whole_in(dir, "stop study"), 0);
    EXPECT_INT(run_wait(pid), 128 + SIGUSR1);
    EXPECT(run_says(dir, ".said", "stopped on request"));
    EXPECT(run_says(dir, "/study/study.json", "Nothing can be said yet: 1 of 3 runs are done"));
}

/* ---- how images are seen --------------------------------------------------------------------- */
static double miou_in(const char *dir, const char *file, bool study) {
    char *text = run_text(dir, file);
    json_t *o = json_loads(text, 0, NULL), *arm = NULL;
    for (size_t i = 0; study && i < json_array_size(json_object_get(o, "arms")); i++) {
        json_t *a = json_array_get(json_object_get(o, "arms"), i);
        if (!strcmp(json_string_value(json_object_get(a, "name")), "base")) arm = a;
    }
    json_t *x = study ? json_array_get(json_object_get(arm, "miou"), 0) : json_object_get(o, "miou");
    const double miou = json_number_value(x);
    json_decref(o);
    free(text);
    return miou;
}
TEST(a_study_scores_as_eval_does) {
    static const char *const ways[] = {"eval.mode=slide eval.window=16x16", "data.resize=64x40"};
    const char *dir = study_dir("study");
    for (int i = 0; i < 2; i++) {
        char *run = xprintf("study s.yaml out=%d seeds=1 arms=base train.steps=30 %s", i, ways[i]),
             *score = xprintf("eval %d/base/seed-1/last.safetensors split=test json=e%d %s", i, i, ways[i]),
             *whole = xprintf("eval %d/base/seed-1/last.safetensors split=test json=w%d eval.mode=whole data.resize=none", i, i);
        char of_study[32], of_eval[8], of_whole[8];
        snprintf(of_study, sizeof of_study, "/%d/study.json", i);
        snprintf(of_eval, sizeof of_eval, "/e%d", i), snprintf(of_whole, sizeof of_whole, "/w%d", i);
        EXPECT_INT(whole_in(dir, run), 0);
        EXPECT_INT(whole_in(dir, score), 0);
        EXPECT_INT(whole_in(dir, whole), 0);
        const double got = miou_in(dir, of_study, true);
        if (got != miou_in(dir, of_eval, false)) FAIL("%s: %.9g, eval says %.9g", ways[i], got, miou_in(dir, of_eval, false));
        EXPECT(got != miou_in(dir, of_whole, false));     /* otherwise nothing was shown */
        free(run), free(score), free(whole);
    }
}

/* ---- runs that fail -------------------------------------------------------------------------- */
/* A file where a run's folder would be stops one run, a learning rate that diverges a whole arm. */
TEST(a_failed_run_does_not_stop_the_others) {
    const char *reference = study_dir("reference"), *dir = study_dir("study");
    EXPECT_INT(whole_in(reference, "study s.yaml out=study"), 0);
    EXPECT_OK(sys_mkdirs(temp_path("study/study/kd")));
    put("study/study/kd/seed-1", "in the way");
    EXPECT_INT(whole_in(dir, "study s.yaml out=study"), 6);
    EXPECT(run_says(dir, ".said", "study: 1 of 5 runs failed, study/study.html names them; the first: study/kd/seed-1: "));
    EXPECT(run_says(dir, ".said", "not shown to differ: kd (one seed has no spread, by the 1 of 2 seeds that both have)"));
    EXPECT(run_says(dir, "/study/study.json", "\"complete\": true"));
    EXPECT(run_says(dir, "/study/study.json", "\"failed\": [\"E6"));
    EXPECT(run_says(dir, "/study/study.html", "<td>study/kd/seed-1<td class=note>E6"));
    EXPECT(run_says(dir, "/study/study.html", "study/kd/seed-2"));       /* its pictures and details */
    EXPECT_INT(whole_in(dir, "info study"), 0);
    EXPECT(run_says(dir, ".said", "failed          study/kd/seed-1: E6"));
    char *file = xprintf("%s/study/kd/seed-1", dir);
    EXPECT_INT(remove(file), 0);
    free(file);
    EXPECT_INT(whole_in(dir, "study s.yaml out=study"), 0);              /* tries it again */
    for (int i = 0; i < 2; i++) {
        char a[RUN_PATH], b[RUN_PATH];
        snprintf(a, sizeof a, "%s/study/kd/seed-%d", reference, i + 1);
        snprintf(b, sizeof b, "%s/study/kd/seed-%d", dir, i + 1);
        expect_same(a, b);
    }
    EXPECT(run_says(dir, "/study/study.html", "The test split was read 2 times, with 4, 5 runs"));
}
#define WILD "{lr: 1e6, optimizer: {weight_decay: 1e6}}"
TEST(an_arm_that_diverges_is_named) {
    const char *dir = study_dir("study");
    EXPECT_INT(whole_in(dir, "study s.yaml out=study seeds=1 arms='{base: {}, wild: {train: " WILD "}, late: {}}'"), 8);
    EXPECT(run_says(dir, ".said", "study: wild, seed 1 failed: E8062 "));
    EXPECT(run_says(dir, ".said", "wild (no seed has a run of both), late (one seed has no spread)"));
    EXPECT(run_says(dir, "/study/late/seed-1/run.status.json", "\"done\""));
    EXPECT_INT(whole_in(dir, "study s.yaml out=none seeds=1 arms=kd study.teacher='{train: " WILD "}'"), 8);
    EXPECT(!run_says(dir, "/none/kd/seed-1/run.status.json", "state"));  /* nothing without its teacher */
}

/* ---- what may change ------------------------------------------------------------------------- */
TEST(seeds_may_be_raised_and_arms_may_not_change) {
    const char *dir = study_dir("study");
    EXPECT_INT(whole_in(dir, "study s.yaml out=study seeds=1"), 0);
    char *before = run_text(dir, "/study/base/seed-1/metrics.jsonl");
    EXPECT_INT(whole_in(dir, "study s.yaml out=study seeds=1 train.lr=0.01"), 5);
    EXPECT(run_says(dir, ".said", "train.lr: 0.02 -> 0.01"));
    EXPECT(run_says(dir, ".said", "to start the study anew, remove study or give another out=DIR"));
    EXPECT_INT(whole_in(dir, "study s.yaml out=study seeds=2"), 0);
    char *after = run_text(dir, "/study/base/seed-1/metrics.jsonl");
    EXPECT_STR(after, before);
    EXPECT(run_says(dir, "/study/study.html", "The test split was read 2 times, with 3, 5 runs"));
    free(before), free(after);
}

TEST(time_chooses_equal_steps_and_a_resume_keeps_them) {
    const char *dir = study_dir("study");
    EXPECT_INT(whole_in(dir, "study s.yaml out=study seeds=1 time=0.001s"), 2);
    EXPECT(run_says(dir, ".said", "time=0.001 s is not enough"));
    EXPECT_INT(
        whole_in(dir,
                 "study s.yaml out=study seeds=1 time=12s eval.every=100000 checkpoint.every=1h"),
        0);
    EXPECT(run_says(dir, "/study/log.txt", "a step takes: teacher "));
    char *state = run_text(dir, "/study/study.state.json"), *a = run_text(dir, "/study/base.yaml"),
         *b = run_text(dir, "/study/kd.yaml");
    json_t *o = json_loads(state, 0, NULL);
    char steps[64];
    snprintf(steps, sizeof steps, "  steps: %lld ", (long long)number_of(o, "steps"));
    EXPECT(number_of(o, "steps") >= 1 && number_of(o, "time") == 12);
    EXPECT_HAS(a, steps);
    EXPECT_HAS(b, steps);
    EXPECT_INT(
        whole_in(dir,
                 "study s.yaml out=study seeds=1 time=12s eval.every=100000 checkpoint.every=1h"),
        0);
    EXPECT(run_says(dir, "/study/log.txt", "as chosen when the study began"));
    EXPECT_INT(
        whole_in(dir,
                 "study s.yaml out=study seeds=1 time=40s eval.every=100000 checkpoint.every=1h"),
        5);
    EXPECT_INT(whole_in(dir, "study s.yaml out=study seeds=1"), 5);
    json_decref(o);
    free(state), free(a), free(b);
}

/* ---- what is asked for ------------------------------------------------------------------------ */
TEST(wrong_arms_are_told) {
    static const struct { const char *args, *want; } rows[] = {
        {"arms=base,kdd", "kdd is neither a file nor an arm of CONFIG.yaml; did you mean kd?"},
        {"arms='{a/b: {}}'", "\"a/b\" cannot name an arm"},
        {"arms='{teacher: {}}'", "\"teacher\" cannot name an arm"},
        {"arms='{a: 3}'", "arm a is a group of options"},
        {"arms='{a: {}, b: {train: {steps: 7}}}'", "arm b takes 7 steps and a 6"},
        {"arms='{a: {}, b: {train: {stepss: 7}}}'", "did you mean train.steps?"},
        {"against=x", "against=x: is no arm"},
        {"split=nowhere", "nowhere"},
        {"study.seed=3", "study.seed is not an option; did you mean study.seeds?"},
        {"arms='{a: {teacher: {model: study}}}' seeds=0", "seeds"}};
    const char *dir = study_dir("study");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *command = xprintf("study s.yaml out=study%zu %s", i, rows[i].args);
        EXPECT_INT(whole_in(dir, command), strstr(rows[i].args, "nowhere") ? 3 : 2);
        if (!run_says(dir, ".said", rows[i].want)) FAIL("%s: not said: %s", command, rows[i].want);
        free(command);
    }
}

TEST(printing_the_configuration_starts_nothing) {
    const char *dir = study_dir("study");
    EXPECT_INT(whole_in(dir, "study s.yaml out=study --print-config study.seeds=3 threads=2"), 0);
    static const char *const said[] = {"# study: 3 seeds, compared with base on test, group auto\n",
                                       "# ---- teacher: the first of 1 run ----\n", "# ---- base: the first of 3 runs ----\n",
                                       "# ---- kd: the first of 3 runs ----\n", "  width: 0.15", "  steps: 3 ", "  threads: 2 ",
                                       "out: study/kd/seed-1 ", "  model: study/teacher/last.safetensors "};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        if (!run_says(dir, ".said", said[i])) FAIL("not said: %s", said[i]);
    char *out = xprintf("%s/study", dir);
    EXPECT(!sys_exists(out));
    free(out);
}

/* An arm of the shipped studies is the recipe of its name, but for how often it is evaluated. */
static void expect_recipe(const char *folder, const char *arm, const char *recipe, Arena *a) {
    YNode *arms, *own;
    ArgList args = {.n = 0};
    Config *is = NULL, *was = NULL;
    char *study = xprintf(SOURCE_DIR "/recipes/%s/study.yaml", folder),
         *file = xprintf(SOURCE_DIR "/recipes/%s/%s.yaml", folder, recipe);
    EXPECT_OK(config_part(study, "arms", a, &arms));
    own = yaml_get(arms, arm);
    EXPECT(own && own->kind == Y_MAP);
    EXPECT_OK(config_map_args(own, a, &args));
    EXPECT_OK(config_read("train", study, args.v, args.n, &is));
    EXPECT_OK(config_read("train", file, NULL, 0, &was));
    char *changes = config_changes(was, is);
    if (!str_starts(changes, "eval.every: ") || strchr(changes, ','))
        FAIL("%s, %s: %s", study, arm, changes);
    config_close(is), config_close(was);
    free(study), free(file), free(changes);
}
TEST(shipped_studies_compare_shipped_recipes) {
    static const char *const arms[][2] = {
        {"base", "student"}, {"kd", "kd"}, {"rdd", "rdd"}, {"ohem", "ohem"}, {"random", "random"}};
    Arena *a = arena_open();
    for (int i = 0; i < 5; i++) {
        expect_recipe("camvid", arms[i][0], arms[i][1], a);
        expect_recipe("camvid-short", arms[i][0], arms[i][1], a);
    }
    arena_close(a);
}

/* ---- units ----------------------------------------------------------------------------------- */
static Arena *units;                 /* what the last units_of told lies in it */
static void units_of(const char *own, const char *const *names, int n_images, const char *group,
                     int *unit, int *n, const char **what) {
    Dataset d = {.group = own, .n = n_images, .names = (const char **)(uintptr_t)names};
    if (units) arena_close(units);
    units = arena_open();
    *n = -1;
    EXPECT_OK(study_units(units, &d, group, unit, n, what));
}
#define FILM "^[^_]+"
TEST(images_of_a_sequence_are_drawn_together) {
    const char *names[40], *what;
    int unit[40], n;
    char text[40][32];
    for (int i = 0; i < 40; i++) {
        snprintf(text[i], sizeof text[i], "%s_%06d", i < 25 ? "0001TP" : "Seq05VD", 30 * i);
        names[i] = text[i];
    }
    units_of(FILM, names, 40, "none", unit, &n, &what);
    EXPECT_INT(n, 40);
    EXPECT_STR(what, "images");
    units_of(NULL, names, 40, "auto", unit, &n, &what);
    EXPECT_INT(n, 40);
    units_of(FILM, names, 40, "auto", unit, &n, &what);          /* two sequences: blocks of ten neighbours */
    EXPECT_INT(n, 5);
    EXPECT_HAS(what, "blocks of 10 neighbouring images (there are 2 groups alone)");
    EXPECT(unit[0] == 0 && unit[9] == 0 && unit[10] == 1 && unit[24] == 2 && unit[25] == 3 &&
           unit[34] == 3 && unit[39] == 4);
    for (int i = 0; i < 40; i++) snprintf(text[i], sizeof text[i], "drive%d-%d", i / 3, i % 3);
    for (int i = 0; i < 2; i++) { /* asked for; of data.split */
        units_of(i ? "^(drive\\d+)" : NULL, names, 40, i ? "auto" : "^(drive[0-9]+)-", unit, &n, &what);
        EXPECT_INT(n, 14);
        EXPECT_STR(what, "groups of images");
        EXPECT(unit[2] == 0 && unit[3] == 1 && unit[39] == 13);
    }
    arena_close(units);
}

TEST_MAIN(T(a_study_killed_twice_ends_with_the_same_report),
          T(a_study_stops_when_asked_and_goes_on), T(a_study_scores_as_eval_does), T(a_failed_run_does_not_stop_the_others),
          T(an_arm_that_diverges_is_named), T(printing_the_configuration_starts_nothing), T(seeds_may_be_raised_and_arms_may_not_change),
          T(time_chooses_equal_steps_and_a_resume_keeps_them), T(wrong_arms_are_told),
          T(shipped_studies_compare_shipped_recipes), T(images_of_a_sequence_are_drawn_together))
