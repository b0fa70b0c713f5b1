/* test_tune.c - which way a layer is computed: measured, kept per machine, replayed by a resumed run. Times differ
 * from run to run; what is held here does not depend on them. That every way is right: test_ops_backend.c. */
#include <inttypes.h>

#include "backend/choices.h"
#include "backend/plan.h"
#include "models/model.h"
#include "tiny_runs.h"

/* ---- the table ------------------------------------------------------------------------------ */
TEST(choices_are_lines_of_text) {
    Choices *c = choices_replay(
        "b two\tlast\nnot a line\n\tno key\nno way\t\na one\tany\nb two\tany\nunused\town\nx\ty\tz\n");
    EXPECT_STR(choices_find(c, "b two"), "last"); /* the first line of a key counts */
    EXPECT_STR(choices_find(c, "a one"), "any");
    EXPECT(!choices_find(c, "no way") && !choices_find(c, "") && !choices_find(c, "x"));
    EXPECT(!choices_measure(c));
    char *text = choices_text(c);
    EXPECT_STR(text, "a one\tany\nb two\tlast\n"); /* those asked for, sorted */
    free(text);
    choices_close(c);
}

/* ---- the cache ------------------------------------------------------------------------------ */
static void use_cache(const char *dir) { /* before anything asks for it */
    setenv("RETORT_CACHE", dir, 1);
}

/* Plans a small network with the choices of this machine, made in so many seconds; returns their text. */
static char *plan_within(double limit_s, ChoiceStats *stats, bool *kept) {
    Net *n;
    ModelNodes m;
    Plan *p;
    char *why;
    Choices *c = choices_of_machine(limit_s);
    ModelOptions o = {.model = "deeplabv3_mobilenetv2",
                      .classes = 11,
                      .width = 0.1,
                      .norm = "none",
                      .frozen = true};
    CHECK(!model_open(&o, 32, 32, &n, &m));
    net_init_formula(n, 1);
    EXPECT_INT(plan_make(n, &(PlanSpec){.outputs = &m.logits, .n_outputs = 1, .choices = c}, &p),
               OK);
    choices_save(c, &why);
    *kept = !why, *stats = choices_stats(c);
    char *text = choices_text(c);
    free(why);
    plan_close(p);
    net_close(n);
    choices_close(c);
    return text;
}
static char *plan_once(int *measured, bool *kept) {
    ChoiceStats s;
    char *text = plan_within(0, &s, kept);
    EXPECT_INT(s.left, 0);
    *measured = s.measured;
    return text;
}
static char *cache_file(const char *dir) {
    char **names, *path = NULL;
    int n;
    CHECK(!sys_list(dir, EXIT_OUTPUT, &names, &n));
    for (int i = 0; i < n; i++)
        if (str_starts(names[i], "choices-")) path = path_join(dir, names[i]);
    sys_free_names(names, n);
    return path;
}
/* All that was asked for the second time was told the first time. */
static void expect_lines_of(char *first, char *second) {
    char *copy = xstrdup(second), *rest = copy, *line;
    for (int n = 0; (line = strsep(&rest, "\n")) && *line; n++)
        EXPECT(n < 1000 && strstr(first, line));
    free(copy);
}
TEST(what_was_measured_is_found_again) {
    int first, second;
    bool kept;
    const char *dir = place("cache/deep");
    use_cache(dir);
    char *a = plan_once(&first, &kept), *b = plan_once(&second, &kept);
    EXPECT(first > 10 && kept);
    EXPECT_INT(second, 0);
    expect_lines_of(a, b);
    free(a), free(b);
}
/* Multiplications of a layer, from its key: "... SRC * WEIGHTS > DST stride ...". */
static double operations(const char *key) {
    double product = 1;
    const char *weights = strstr(key, " * "), *dst = weights ? strstr(weights, " > ") : NULL;
    if (!dst) return 0;
    for (const char *p = weights + 3; p < dst; p += strcspn(p, "x >") + 1) product *= atof(p);
    int64_t n, c, h, w;
    CHECK(sscanf(dst, " > %" SCNd64 "x%" SCNd64 "x%" SCNd64 "x%" SCNd64, &n, &c, &h, &w) == 4);
    return product * (double)(n * h * w);
}
/* The time is up after the first layer: it is one of those that make up the first half of the arithmetic, the others are
 * as usual, and stay so. */
TEST(measuring_ends_when_its_time_is_up) {
    ChoiceStats s;
    bool kept;
    use_cache(place("cache"));
    char *a = plan_within(1e-9, &s, &kept), *lines = xstrdup(a), *rest = lines, *line;
    EXPECT(kept && s.left > 10);
    EXPECT_INT(s.measured, 2);                   /* a layer, and the plan as a whole */
    char *layer[256], *first = NULL;
    double sum = 0, more = 0;
    int n = 0, usual = 0;
    while ((line = strsep(&rest, "\n")) && *line) {
        if (str_starts(line, "plan ")) continue;
        CHECK(n < 256);
        layer[n++] = line;
        sum += operations(line);
        if (str_ends(line, "\tusual")) usual++;
        else first = line;
    }
    EXPECT(n > 10 && usual == n - 1 && first);
    for (int i = 0; i < n && first; i++)
        if (operations(layer[i]) > operations(first)) more += operations(layer[i]);
    EXPECT(more <= sum / 2);
    char *b = plan_within(0, &s, &kept);
    EXPECT(s.measured == 0 && s.left == 0);
    expect_lines_of(a, b);
    free(a), free(b), free(lines);
}
TEST(a_damaged_cache_is_measured_again) {
    int measured;
    bool kept;
    const char *dir = place("cache");
    use_cache(dir);
    free(plan_once(&measured, &kept));
    char *path = cache_file(dir);
    Bytes good;
    EXPECT_OK(sys_read_file(path, 1 << 20, EXIT_OUTPUT, &good));
    for (size_t i = 0; i < 12; i++) { /* cut short, and a byte changed, here and there */
        const size_t at = good.bytes * i / 12;
        uint8_t *copy = memcpy(xcalloc(good.bytes + 1, 1), good.data, good.bytes);
        copy[at] ^= 0xff;
        EXPECT_OK(durable_write_all(path, copy, i % 2 ? good.bytes : at));
        free(copy);
        free(plan_once(&measured, &kept));
        EXPECT(kept);
        if (!i) EXPECT(measured > 10); /* nothing was left */
        free(plan_once(&measured, &kept));
        EXPECT_INT(measured, 0);
    }
    free(good.data), free(path);
}
TEST(a_cache_that_cannot_be_written_is_no_failure) {
    int measured;
    bool kept;
    use_cache(put("file", "in the way"));
    free(plan_once(&measured, &kept));
    EXPECT(measured > 10 && !kept);
}

/* ---- runs ----------------------------------------------------------------------------------- */
/* All choices become others. */
static void poison(const char *dir) {
    char *path = cache_file(dir), *text = run_text(path, "");
    CHECK(strstr(text, "\tany\n") || strstr(text, "\tlast\n"));
    Str s = {0};
    for (const char *p = text; *p;) {
        static const char *const from[] = {"\tany\n", "\tlast\n", "\tusual\n"}, *const to[] = {
                                                                                    "\tlast\n",
                                                                                    "\tany\n",
                                                                                    "\tchosen\n"};
        int k = 0;
        while (k < 3 && !str_starts(p, from[k])) k++;
        if (k < 3) str_add(&s, to[k]), p += strlen(from[k]);
        else str_addn(&s, p++, 1);
    }
    CHECK(!durable_write_all(path, s.s, s.n));
    str_free(&s);
    free(text), free(path);
}
static void stop_at(const char *config, const char *run, const char *when) {
    int code = 0;
    for (int i = 0; i < 10 && code == 0; i++) { /* it may be over before the signal comes */
        if (i) remove_run(run);
        pid_t pid = run_start(config, run, "");
        EXPECT(run_await(pid, run, "/metrics.jsonl", when));
        kill(pid, SIGTERM);
        code = run_wait(pid);
    }
    EXPECT_INT(code, 128 + SIGTERM);
}
TEST(a_resumed_run_computes_as_it_began_whatever_the_cache_says) {
    const char *config = put("c.yaml", all), *dir = place("cache"), *run = place("run"),
               *other = place("other");
    char why[256];
    use_cache(dir);
    const char *reference = reference_run(config);
    expect_said(reference, "measured in");
    stop_at(config, run, "\"step\": 3,");
    poison(dir);
    EXPECT_INT(run_whole(config, run, ""), 0);
    expect_same(reference, run);
    EXPECT_INT(run_whole(config, other, ""), 0); /* the other ways do give other bits */
    EXPECT(!runs_same(reference, other, why));
}
/* Memory may change under a run: the values are the same, and so are the choices. */
TEST(a_run_goes_on_lean_with_the_same_bits) {
    const char *config = put("c.yaml", all), *run = place("run");
    use_cache(place("cache"));
    const char *reference = reference_run(config);
    stop_at(config, run, "\"step\": 3,");
    EXPECT_INT(run_whole(config, run, "train.memory=lean"), 0);
    expect_said(run, "train.memory=lean: a step's values take ");
    expect_same(reference, run);
}
TEST(a_run_without_tuning_measures_and_keeps_nothing) {
    const char *config = put("c.yaml", plain), *dir = place("cache"), *a = place("a");
    char path[RUN_PATH];
    SafeFile f;
    use_cache(dir);
    EXPECT_INT(run_whole(config, a, "train.tune=false train.steps=2"), 0);
    EXPECT(!sys_exists(dir));
    EXPECT(run_newest(a, path) == 2);
    EXPECT_OK(st_read(path, EXIT_CHECKPOINT, &f));
    EXPECT(!st_meta(&f, "choices"));
    st_close(&f);
    expect_refused(config, a, "train.steps=2", 5, "train.tune: false -> true");
}
/* One measures, the other waits and takes what it finds. */
TEST(two_runs_that_start_at_once_choose_alike) {
    const char *config = put("c.yaml", plain), *dir = place("cache"), *a = place("a"),
               *b = place("b");
    use_cache(dir);
    pid_t one = run_start(config, a, "train.steps=4"), two = run_start(config, b, "train.steps=4");
    EXPECT_INT(run_wait(one), 0);
    EXPECT_INT(run_wait(two), 0);
    expect_same(a, b);
}

TEST_MAIN(T(choices_are_lines_of_text), T(what_was_measured_is_found_again),
          T(measuring_ends_when_its_time_is_up),
          T(a_damaged_cache_is_measured_again), T(a_cache_that_cannot_be_written_is_no_failure),
          T(a_resumed_run_computes_as_it_began_whatever_the_cache_says),
          T(a_run_goes_on_lean_with_the_same_bits),
          T(a_run_without_tuning_measures_and_keeps_nothing),
          T(two_runs_that_start_at_once_choose_alike))
