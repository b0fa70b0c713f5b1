/* test_resume.c - runs that are stopped, killed or find their checkpoints damaged, and go on: they
 * must end with the same bits and the same metrics as one that was left alone. The runs are
 * processes of the program. The long form of the kill test: tools/torture.c. */
#include "backend/plan.h"
#include "base/rng.h"
#include "small_camvid.h"
#include "tiny_runs.h"

static void flip_bit(const char *path, uint64_t bit) {
    Bytes b;
    CHECK(!sys_read_file(path, 1 << 28, EXIT_OUTPUT, &b));
    b.data[bit / 8 % b.bytes] ^= (uint8_t)(1u << bit % 8);
    CHECK(!durable_write_all(path, b.data, b.bytes));
    free(b.data);
}
/* ---- stopped and killed --------------------------------------------------------------------- */
/* Start a run and signal it once its metrics hold `when`. On a busy machine a run may be over
 * before the signal comes; then it is done again. */
static void interrupt(const char *config, const char *run, int sig, const char *when) {
    int code = 0;
    for (int i = 0; i < 10 && code == 0; i++) {
        if (i) remove_run(run);
        pid_t pid = run_start(config, run, "");
        EXPECT(run_await(pid, run, "/metrics.jsonl", when));
        kill(pid, sig);
        code = run_wait(pid);
    }
    EXPECT_INT(code, 128 + sig);
}
static void stop_and_resume(const char *text, int sig, const char *when) {
    const char *config = put("c.yaml", text), *reference = reference_run(config),
               *run = place("run");
    interrupt(config, run, sig, when);
    expect_said(run, "everything is saved: the same command goes on from here");
    json_t *o = status_of(run);
    EXPECT_STR(text_of(o, "state"), "stopped");
    EXPECT_INT(number_of(o, "exit_code"), 128 + sig);
    json_decref(o);
    EXPECT_INT(run_whole(config, run, ""), 0);
    expect_said(run, "resuming from ");
    expect_same(reference, run);
}
TEST(a_stopped_run_goes_on) {
    stop_and_resume(plain, SIGTERM, "\"step\": 7,");
}
TEST(an_interrupted_run_with_everything_on_goes_on) {
    stop_and_resume(all, SIGINT, "\"step\": 3,");
}
TEST(a_run_told_to_save_by_usr1_goes_on) {
    stop_and_resume(linear, SIGUSR1, "\"step\": 6,");
}

/* The mean loss of steps 3 and 4 is no nine tenths below that of 1 and 2: the stage ends after step 4. */
TEST(a_run_stopped_before_its_automatic_switch_goes_on) {
    char *text =
        xprintf(SCENES STUDENT TEACHER
                "distill: {task: {kind: rdd, switch: auto, switch_window: 2, switch_drop: 0.9}}\n"
                "train: {steps: 12, batch: 2, threads: 1}\n" REST);
    stop_and_resume(text, SIGTERM, "\"step\": 3,");
    const char *run = place("run");
    expect_said(run, "step 4: the first stage ends here (switch=auto");
    free(text);
}

/* Half of each batch without labels: five images, so that their epochs end within the run. */
TEST(a_stopped_run_with_unlabelled_images_goes_on) {
    for (int i = 0; i < 5; i++) {
        char name[16];
        snprintf(name, sizeof name, "u%d.png", i);
        EXPECT_OK(put_image(name, 40 + i, 50));
    }
    char *text = xprintf(
        "data: {kind: scenes, crop: 32x32, unlabelled: '%s', scenes: {size: 32x48, train: 10, val: 3}}\n" STUDENT
            TEACHER "distill: {task: rdd, losses: [kd]}\n"
        "train: {steps: 9, batch: 4, threads: 1}\n" REST,
        temp_path("u*.png"));
    stop_and_resume(text, SIGTERM, "\"step\": 3,");
    const char *config = put("d.yaml", text), *run = place("run");
    EXPECT_OK(put_image("u3.png", 60, 60));
    EXPECT_INT(run_whole(config, run, ""), 5);
    expect_said(run, "1 changed (");
    free(text);
}

/* Killed twice at seeded moments of the time that a whole run takes. */
static void kill_and_resume(const char *text, uint64_t seed) {
    const char *config = put("c.yaml", text), *run = place("run");
    double start = sys_now();
    const char *reference = reference_run(config);
    const double whole_ms = 1000 * (sys_now() - start);
    Rng r = rng_stream(seed, RNG_METHOD, 0, 0);
    for (uint64_t i = 0; i < 2; i++) {
        pid_t pid = run_start(config, run, "");
        pause_ms(whole_ms * (0.1 + 0.7 * (double)rng_uniform(&r, i)));
        kill(pid, SIGKILL);
        int code = run_wait(pid);
        EXPECT(code == 128 + SIGKILL || code == 0); /* it may have been faster this time */
    }
    EXPECT_INT(run_whole(config, run, ""), 0);
    char why[256];
    if (!runs_same(reference, run, why)) FAIL("seed %d: %s", (int)seed, why);
}
TEST(a_killed_run_goes_on) {
    kill_and_resume(plain, 1);
}
TEST(a_killed_run_with_everything_on_goes_on) {
    kill_and_resume(all, 2);
}
TEST(a_killed_run_in_its_cross_fade_goes_on) {
    kill_and_resume(linear, 3);
}

static void kill_at(const char *text, const char *when) {
    const char *config = put("c.yaml", text), *reference = reference_run(config),
               *run = place("run");
    interrupt(config, run, SIGKILL, when);
    EXPECT_INT(run_whole(config, run, ""), 0);
    expect_same(reference, run);
}
TEST(terms_that_remember_go_on) {
    kill_at(remembering, "\"step\": 3,");
}
/* Also with a damaged memory of the calibration: what it holds follows from the teacher and the images. */
TEST(a_teacher_in_8_bit_integers_goes_on) {
    if (!backend_has(DT_I8))
        SKIP("this processor (%s) has no products of 8-bit integers", backend_isa());
    const char *cache = place("cache");
    setenv("RETORT_CACHE", cache, 1);
    char *text = xprintf("%s", all), *at = strstr(text, "weights: \"formula:1\"}");
    char *int8 = xprintf("%.*sweights: \"formula:1\", precision: int8}%s", (int)(at - text), text,
                         at + strlen("weights: \"formula:1\"}"));
    const char *config = put("c.yaml", int8), *reference = reference_run(config),
               *run = place("run");
    interrupt(config, run, SIGTERM, "\"step\": 3,");
    char **names;
    int n, damaged = 0;
    EXPECT_OK(sys_list(cache, EXIT_OUTPUT, &names, &n));
    for (int i = 0; i < n; i++) {
        if (!str_starts(names[i], "ranges-")) continue;
        char *file = path_join(cache, names[i]);
        flip_bit(file, 8 * 40), damaged++;
        free(file);
    }
    sys_free_names(names, n);
    EXPECT(damaged > 0);
    EXPECT_INT(run_whole(config, run, ""), 0);
    expect_same(reference, run);
    free(text), free(int8);
}
TEST(killed_at_the_switch_of_stages) {
    kill_at(all, "\"step\": 5,");
}
TEST(killed_in_an_evaluation) {
    kill_at(all, "\"step\": 4,");
}
TEST(killed_before_its_first_checkpoint) {
    kill_at(plain, "\"step\": 1,");
}

TEST(a_finished_run_started_again_changes_nothing) {
    const char *config = put("c.yaml", plain), *reference = reference_run(config),
               *run = place("run");
    copy_run(reference, run);
    EXPECT_INT(run_whole(config, run, ""), 0);
    expect_same(reference, run);
}
TEST(a_refused_change_leaves_a_finished_run_finished) {
    const char *config = put("c.yaml", plain), *reference = reference_run(config),
               *run = place("run");
    copy_run(reference, run);
    EXPECT_INT(run_whole(config, run, "train.lr=0.5"), 5);
    expect_said(run, "error E5000 ");
    json_t *o = status_of(run);
    EXPECT_STR(text_of(o, "state"), "done");
    EXPECT_INT(number_of(o, "exit_code"), 0);
    json_decref(o);
}
TEST(the_same_threads_give_the_same_bits) {
    static const char args[] = "train.threads=2 train.steps=6 checkpoint.every=";
    char why[256], *more = xprintf("%s5 data.workers=3 report.every=1s", args),
                   *base = xprintf("%s2", args); /* none of these show */
    const char *config = put("c.yaml", linear), *reference = place("reference"),
               *run = place("run");
    EXPECT_INT(run_whole(config, reference, base), 0);
    EXPECT_INT(run_whole(config, run, more), 0);
    if (!runs_same(reference, run, why)) FAIL("%s", why);
    free(more), free(base);
}
TEST(what_a_killed_writer_left_is_removed) {
    const char *config = put("c.yaml", plain), *run = place("run");
    char path[3][RUN_PATH];
    pid_t gone = fork();
    if (!gone) _exit(0);
    run_wait(gone);
    EXPECT_OK(sys_mkdirs(temp_path("run/checkpoints")));
    snprintf(path[0], RUN_PATH, "%s/checkpoints/step-4.safetensors.tmp-%s-%d", run, sys_hostname(),
             (int)gone);
    snprintf(path[1], RUN_PATH, "%s/best.safetensors.tmp-%s-%d", run, sys_hostname(), (int)gone);
    snprintf(path[2], RUN_PATH, "%s/checkpoints/notes.txt", run);
    for (int i = 0; i < 3; i++) EXPECT_OK(durable_write_all(path[i], "x", 1));
    EXPECT_INT(run_whole(config, run, "train.steps=1"), 0);
    EXPECT(!sys_exists(path[0]) && !sys_exists(path[1]) && sys_exists(path[2]));
}
/* Steps and samples beyond 2^31 and 2^32: a checkpoint is made to say that it is there. */
static void count_beyond(const char *base, const char *steps) {
    char path[RUN_PATH], to[RUN_PATH], text[256];
    const char *run = place("run"), *config = put("c.yaml", plain);
    snprintf(text, sizeof text, "train.steps=%s eval.every=0 eval.images=1 checkpoint.every=1",
             steps);
    pid_t pid = run_start(config, run, text);
    EXPECT(run_await(pid, run, "/metrics.jsonl", "\"step\": 2,"));
    kill(pid, SIGTERM);
    EXPECT_INT(run_wait(pid), 128 + SIGTERM);
    SafeFile f;
    EXPECT(run_newest(run, path) >= 2);
    EXPECT_OK(st_read(path, EXIT_CHECKPOINT, &f));
    for (int i = 0; i < f.n_meta; i++)
        if (!strcmp(f.meta[i].key, "step")) f.meta[i].value = base;
    snprintf(to, sizeof to, "%s/checkpoints/step-%s.safetensors", run, base);
    EXPECT_OK(st_write(to, f.tensors->v, f.tensors->n, f.meta, f.n_meta));
    st_close(&f);
    EXPECT_INT(run_whole(config, run, text), 0);
    snprintf(text, sizeof text, "\"step\": %s, \"eval\"", steps);
    EXPECT(run_says(run, "/metrics.jsonl", text));
}
TEST(steps_beyond_two_to_the_31) {
    count_beyond("2147483638", "2147483658");
}
TEST(steps_beyond_two_to_the_32) {
    count_beyond("4294967286", "4294967306");
}

/* ---- damaged checkpoints -------------------------------------------------------------------- */
TEST(a_damaged_checkpoint_falls_back_to_the_one_before) {
    const char *config = put("c.yaml", plain), *reference = reference_run(config),
               *run = place("run");
    char path[RUN_PATH], older[RUN_PATH];
    uint64_t bytes;
    Rng r = rng_stream(11, RNG_METHOD, 0, 0);
    for (uint64_t i = 0; i < 6; i++) {
        copy_run(reference, run);
        EXPECT_INT(run_newest(run, path), 16);
        EXPECT_OK(sys_file_size(path, EXIT_OUTPUT, &bytes));
        if (i < 3) EXPECT_OK(sys_truncate(path, i ? rng_below(&r, i, (uint32_t)bytes) : 0));
        else flip_bit(path, rng_below(&r, i, (uint32_t)bytes) * 8 + i);
        expect_refused(config, run, "", 0, "warning: checkpoint not usable: ");
        expect_said(run, "; going back to the one before");
        expect_said(run, "resuming from ");
        expect_same(reference, run);
        snprintf(older, sizeof older, "%s/checkpoints/step-14.safetensors", run);
        EXPECT(sys_exists(older)); /* two good ones stay; the bad one does not count */
        strcat(path, ".bad");
        EXPECT(sys_exists(path));
    }
}
TEST(no_good_checkpoint_is_an_error) {
    const char *config = put("c.yaml", plain), *run = reference_run(config);
    char path[RUN_PATH], **names;
    int n;
    snprintf(path, sizeof path, "%s/checkpoints", run);
    EXPECT_OK(sys_list(path, EXIT_OUTPUT, &names, &n));
    for (int i = 0; i < n; i++) {
        char *file = path_join(path, names[i]);
        flip_bit(file, 8 * 5000);
        free(file);
    }
    sys_free_names(names, n);
    for (int i = 0; i < 2; i++) EXPECT_INT(run_whole(config, run, ""), 5); /* and it stays one */
    expect_said(run, "error E5011 ");
    expect_said(run, "none of 2 is usable");
    json_t *o = status_of(run);
    EXPECT_STR(text_of(o, "state"), "failed");
    EXPECT_INT(number_of(o, "exit_code"), 5);
    json_decref(o);
}
/* Rewrite the newest checkpoint with one entry of its metadata changed, or one tensor left out. */
static void forge(const char *run, const char *key, const char *value, int leave_out) {
    char path[RUN_PATH];
    SafeFile f;
    run_newest(run, path);
    CHECK(!st_read(path, EXIT_CHECKPOINT, &f));
    for (int i = 0; i < f.n_meta; i++)
        if (!strcmp(f.meta[i].key, key)) f.meta[i].value = value;
    CHECK(!st_write(path, f.tensors->v + leave_out, f.tensors->n - leave_out, f.meta, f.n_meta));
    st_close(&f);
}
TEST(a_checkpoint_of_something_else_is_an_error) {
    const char *config = put("c.yaml", plain), *reference = reference_run(config),
               *run = place("run");
    copy_run(reference, run), forge(run, "format_version", "2", 0);
    expect_refused(config, run, "", 5, "error E5015 ");
    expect_said(run, "written by version 0.1.0, which is newer");
    copy_run(reference, run), forge(run, "", "", 6);
    expect_refused(config, run, "", 5, "error E5013 ");
    expect_said(run, "6 tensors differ");
    copy_run(reference, run), forge(run, "fingerprint", "0", 0);
    expect_refused(config, run, "", 5, "error E5047 ");
    copy_run(reference, run), forge(run, "metrics_bytes", "-1", 0);
    expect_refused(config, run, "", 5, "its metadata is not complete");
    copy_run(reference, run), forge(run, "threads", "64", 0);
    expect_refused(config, run, "", 0, "warning: not bit-exact from here on: threads: 64 -> 1");
}

TEST_MAIN(T(a_stopped_run_goes_on), T(an_interrupted_run_with_everything_on_goes_on),
          T(a_run_told_to_save_by_usr1_goes_on), T(a_stopped_run_with_unlabelled_images_goes_on),
          T(a_run_stopped_before_its_automatic_switch_goes_on), T(a_killed_run_goes_on),
          T(a_killed_run_with_everything_on_goes_on), T(a_killed_run_in_its_cross_fade_goes_on),
          T(terms_that_remember_go_on), T(a_teacher_in_8_bit_integers_goes_on),
          T(killed_at_the_switch_of_stages), T(killed_in_an_evaluation),
          T(killed_before_its_first_checkpoint), T(a_finished_run_started_again_changes_nothing),
          T(a_refused_change_leaves_a_finished_run_finished),
          T(the_same_threads_give_the_same_bits), T(what_a_killed_writer_left_is_removed),
          T(steps_beyond_two_to_the_31), T(steps_beyond_two_to_the_32),
          T(a_damaged_checkpoint_falls_back_to_the_one_before), T(no_good_checkpoint_is_an_error),
          T(a_checkpoint_of_something_else_is_an_error))
