/* test_resume.c - runs that are stopped, killed, short of space or damaged, and go on: they must end with
 * the same bits and the same metrics as one that was left alone. The runs are processes of the program.
 *
 * What needs mounts (a small or read-only file system) makes them in a mount namespace of its own, and is
 * skipped where that is not allowed. The long form of the kill test: tools/torture.c. */
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/rng.h"
#include "io/image.h"
#include "models/model.h"
#include "runs.h"
#include "tempdir.h"
#include "test.h"

#define STUDENT "student: {model: deeplabv3_mobilenetv2, width: 0.1, aux: true}\n"
#define TEACHER "teacher: {model: deeplabv3_mobilenetv2, width: 0.1, aux: true, weights: \"formula:1\"}\n"
#define SCENES "data: {kind: scenes, crop: 32x32, scale: [0.5, 1.5], scenes: {size: 32x48, train: 10, val: 3}}\n"
#define REST "checkpoint: {every: 2}\neval: {every: 5}\nreport: {images: 0, metrics: 1, every: 50ms}\n"
static const char plain[] = SCENES STUDENT "train: {steps: 24, batch: 2, lr: 0.02, threads: 1}\n" REST;
static const char all[] = SCENES STUDENT TEACHER
    "distill: {task: {kind: rdd, warmup: 0.5}, losses: [kd]}\n"
    "train: {steps: 16, batch: 2, accumulate: 2, ema: 0.9, optimizer: adamw, lr: 1e-3, clip: 1, threads: 1}\n" REST;
static const char linear[] = SCENES STUDENT TEACHER
    "distill: {task: {kind: rdd, warmup: 4, schedule: linear, tfe: entropy}}\n"
    "train: {steps: 16, batch: 2, lr: 0.02, lr_warmup: 5, lr_groups: {head: 2}, threads: 1}\n" REST;

/* temp_path that stays. */
static const char *place(const char *name) {
    static char path[64][RUN_PATH];
    static int n;
    CHECK(n < 64);
    return strcpy(path[n++], temp_path(name));
}
static const char *put(const char *name, const char *text) {
    const char *path = place(name);
    CHECK(!durable_write_all(path, text, strlen(text)));
    return path;
}
static void expect_said(const char *run, const char *what) {
    char *text = run_text(run, ".said");
    if (!strstr(text, what)) FAIL("\"%s\" was not said, but:\n%s", what, text);
    free(text);
}
static void expect_same(const char *reference, const char *run) {
    char why[256];
    if (!runs_same(reference, run, why)) FAIL("%s", why);
}
/* A whole run of the configuration, to compare with. */
static const char *reference_run(const char *config) {
    const char *run = place("reference");
    EXPECT_INT(run_whole(config, run, ""), 0);
    return run;
}
static json_t *status_of(const char *run) {
    char *text = run_text(run, "/run.status.json");
    json_t *o = json_loads(text, 0, NULL);
    free(text);
    return o;
}
static const char *text_of(json_t *o, const char *key) { return json_string_value(json_object_get(o, key)); }
static double number_of(json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }
static void copy_run(const char *from, const char *to) {
    char *command = xprintf("rm -rf '%s' && cp -a '%s' '%s'", to, from, to);
    EXPECT_INT(system(command), 0);
    free(command);
}

/* ---- stopped and killed ------------------------------------------------------------------------ */
static void stop_and_resume(const char *text, int sig, const char *when) {
    const char *config = put("c.yaml", text), *reference = reference_run(config), *run = place("run");
    pid_t pid = run_start(config, run, "");
    EXPECT(run_await(pid, run, "/metrics.jsonl", when));
    kill(pid, sig);
    EXPECT_INT(run_wait(pid), 128 + sig);
    expect_said(run, "everything is saved: the same command goes on from here");
    json_t *o = status_of(run);
    EXPECT_STR(text_of(o, "state"), "stopped");
    EXPECT_INT(number_of(o, "exit_code"), 128 + sig);
    json_decref(o);
    EXPECT_INT(run_whole(config, run, ""), 0);
    expect_said(run, "resuming from ");
    expect_same(reference, run);
}
TEST(a_stopped_run_goes_on) { stop_and_resume(plain, SIGTERM, "\"step\": 7,"); }
TEST(an_interrupted_run_with_everything_on_goes_on) { stop_and_resume(all, SIGINT, "\"step\": 3,"); }
TEST(a_run_told_to_save_by_usr1_goes_on) { stop_and_resume(linear, SIGUSR1, "\"step\": 9,"); }

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
        EXPECT(code == 128 + SIGKILL || code == 0);      /* it may have been faster this time */
    }
    EXPECT_INT(run_whole(config, run, ""), 0);
    char why[256];
    if (!runs_same(reference, run, why)) FAIL("seed %d: %s", (int)seed, why);
}
TEST(a_killed_run_goes_on) { kill_and_resume(plain, 1); }
TEST(a_killed_run_with_everything_on_goes_on) { kill_and_resume(all, 2); }
TEST(a_killed_run_in_its_cross_fade_goes_on) { kill_and_resume(linear, 3); }

/* Killed as soon as the moment has come: the file or line that marks it is there. */
static void kill_at(const char *text, const char *name, const char *what) {
    const char *config = put("c.yaml", text), *reference = reference_run(config), *run = place("run");
    pid_t pid = run_start(config, run, "");
    EXPECT(run_await(pid, run, name, what));
    kill(pid, SIGKILL);
    EXPECT_INT(run_wait(pid), 128 + SIGKILL);
    EXPECT_INT(run_whole(config, run, ""), 0);
    expect_same(reference, run);
}
TEST(killed_at_the_switch_of_stages) { kill_at(all, "/metrics.jsonl", "\"step\": 8,"); }
TEST(killed_in_an_evaluation) { kill_at(all, "/metrics.jsonl", "\"step\": 5,"); }
TEST(killed_before_its_first_checkpoint) { kill_at(plain, "/metrics.jsonl", "\"step\": 1,"); }

TEST(a_finished_run_started_again_changes_nothing) {
    const char *config = put("c.yaml", plain), *reference = reference_run(config), *run = place("run");
    copy_run(reference, run);
    EXPECT_INT(run_whole(config, run, ""), 0);
    expect_same(reference, run);
}
TEST(the_same_threads_give_the_same_bits) {
    static const char args[] = "train.threads=2 train.steps=6 checkpoint.every=";
    char why[256], *more = xprintf("%s5 data.workers=3 report.every=1s", args), *base = xprintf("%s2", args);    /* none of these show */
    const char *config = put("c.yaml", linear), *reference = place("reference"), *run = place("run");
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
    snprintf(path[0], RUN_PATH, "%s/checkpoints/step-4.safetensors.tmp-%s-%d", run, sys_hostname(), (int)gone);
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
    snprintf(text, sizeof text, "train.steps=%s eval.every=0 eval.images=1 checkpoint.every=1", steps);
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
TEST(steps_beyond_two_to_the_31) { count_beyond("2147483638", "2147483658"); }
TEST(steps_beyond_two_to_the_32) { count_beyond("4294967286", "4294967306"); }

/* ---- damaged checkpoints ----------------------------------------------------------------------- */
static void flip_bit(const char *path, uint64_t bit) {
    Bytes b;
    CHECK(!sys_read_file(path, 1 << 28, EXIT_OUTPUT, &b));
    b.data[bit / 8 % b.bytes] ^= (uint8_t)(1u << bit % 8);
    CHECK(!durable_write_all(path, b.data, b.bytes));
    free(b.data);
}
TEST(a_damaged_checkpoint_falls_back_to_the_one_before) {
    const char *config = put("c.yaml", plain), *reference = reference_run(config), *run = place("run");
    char path[RUN_PATH], older[RUN_PATH];
    uint64_t bytes;
    Rng r = rng_stream(11, RNG_METHOD, 0, 0);
    for (uint64_t i = 0; i < 6; i++) {
        copy_run(reference, run);
        remove(temp_path("run.said"));
        EXPECT_INT(run_newest(run, path), 24);
        EXPECT_OK(sys_file_size(path, EXIT_OUTPUT, &bytes));
        if (i < 3) EXPECT_OK(sys_truncate(path, i ? rng_below(&r, i, (uint32_t)bytes) : 0));
        else flip_bit(path, rng_below(&r, i, (uint32_t)bytes) * 8 + i);
        EXPECT_INT(run_whole(config, run, ""), 0);
        expect_said(run, "warning: checkpoint not usable: ");
        expect_said(run, "; going back to the one before");
        expect_said(run, "resuming from ");
        expect_same(reference, run);
        snprintf(older, sizeof older, "%s/checkpoints/step-22.safetensors", run);
        EXPECT(sys_exists(older));                       /* two good ones stay; the bad one does not count */
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
    for (int i = 0; i < 2; i++) EXPECT_INT(run_whole(config, run, ""), 5);       /* and it stays one */
    expect_said(run, "error E5011 ");
    expect_said(run, "none of 2 is usable");
    json_t *o = status_of(run);
    EXPECT_STR(text_of(o, "state"), "failed");
    EXPECT_INT(number_of(o, "exit_code"), 5);
    json_decref(o);
}
static void expect_refused(const char *config, const char *run, const char *args, int code, const char *text) {
    remove(temp_path("run.said"));
    EXPECT_INT(run_whole(config, run, args), code);
    expect_said(run, text);
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
    const char *config = put("c.yaml", plain), *reference = reference_run(config), *run = place("run");
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

/* ---- what may not change ----------------------------------------------------------------------- */
TEST(changed_options_are_listed) {
    const char *config = put("c.yaml", all), *run = place("run");
    EXPECT_INT(run_whole(config, run, "train.steps=2"), 0);
    expect_refused(config, run, "train.steps=2 train.lr=0.5 distill.losses.kd.tau=3", 5, "error E5000 ");
    expect_said(run, "train.lr: 0.001 -> 0.5, distill.losses.kd.tau: 1 -> 3");
    EXPECT_OK(sys_remove(temp_path("run/config.yaml")));         /* the checkpoint knows all the same */
    expect_refused(config, run, "train.steps=3", 5, "train.steps: 2 -> 3");
    expect_refused(config, run, "train.steps=2 checkpoint.keep=5 data.workers=2", 0, "done: 2 steps");
}
static void write_pair(const char *root, int i, uint8_t shade) {
    uint8_t rgb[32 * 32 * 3], label[32 * 32], colours[12][3] = {{0}};
    char path[RUN_PATH];
    for (int p = 0; p < 32 * 32; p++) label[p] = (uint8_t)(p / 64 % 11), memset(rgb + 3 * p, label[p] * 20 + shade * (p % 7), 3);
    snprintf(path, sizeof path, "%s/train/p%d.png", root, i);
    CHECK(!image_write_png_rgb(path, rgb, 32, 32));
    snprintf(path, sizeof path, "%s/trainannot/p%d.png", root, i);
    CHECK(!image_write_png_palette(path, label, 32, 32, colours, 12));
}
/* Lists of pairs from..to for train, pair 0 for val. */
static void write_lists(const char *root, int from, int to) {
    Str s = {0};
    char path[RUN_PATH];
    for (int i = from; i < to; i++) str_addf(&s, "/SegNet/CamVid/train/p%d.png /SegNet/CamVid/trainannot/p%d.png\n", i, i);
    snprintf(path, sizeof path, "%s/train.txt", root);
    CHECK(!durable_write_all(path, s.s, s.n));
    snprintf(path, sizeof path, "%s/val.txt", root);
    CHECK(!durable_write_all(path, s.s, strcspn(s.s, "\n") + 1));
    str_free(&s);
}
TEST(changed_data_are_listed) {
    const char *root = place("data"), *run = place("run");
    char *text = xprintf("data: {kind: camvid, root: %s, crop: 32x32}\n%strain: {steps: 2, batch: 2, threads: 1}\nreport: {images: 0}\n", root, STUDENT);
    const char *config = put("c.yaml", text);
    EXPECT_OK(sys_mkdirs(temp_path("data/train")));
    EXPECT_OK(sys_mkdirs(temp_path("data/trainannot")));
    for (int i = 0; i < 9; i++) write_pair(root, i, 0);
    write_lists(root, 0, 6);
    EXPECT_INT(run_whole(config, run, ""), 0);
    EXPECT(run_says(run, "/lists/train.txt", "\"p0\"\t"));
    expect_refused(config, run, "", 0, "done: 2 steps");
    write_pair(root, 3, 9);                              /* another picture, of other size */
    expect_refused(config, run, "", 5, "the train data changed since this run began: 1 changed (\"p3\"); restore them");
    write_pair(root, 3, 0);
    write_lists(root, 1, 9);
    expect_refused(config, run, "", 5, "error E5047 ");
    expect_said(run, "3 added (\"p6\", \"p7\", \"p8\"), 1 removed (\"p0\")");
    write_lists(root, 0, 6);
    expect_refused(config, run, "", 0, "done: 2 steps");
    free(text);
}
static void write_weights(const char *path, uint64_t seed) {
    ModelOptions o = {.model = "deeplabv3_mobilenetv2", .classes = 11, .width = 0.1, .aux = true, .norm = "bgr-caffe"};
    Net *n;
    ModelNodes at;
    Tensor t[512];
    CHECK(!model_open(&o, 32, 32, &n, &at));
    net_init_formula(n, seed);
    for (int i = 0; i < n->n_params; i++) {
        NetParam *p = &n->params[i];
        t[i] = (Tensor){p->name, p->kind == PARAM_COUNT ? DT_I64 : DT_F32, p->shape, p->kind == PARAM_COUNT ? (void *)&p->count : p->data};
    }
    CHECK(!st_write(path, t, n->n_params, NULL, 0));
    net_close(n);
}
TEST(a_changed_teacher_is_an_error) {
    const char *config = put("c.yaml", all), *run = place("run"), *weights = place("teacher.safetensors");
    char *args = xprintf("train.steps=2 teacher.weights=%s", weights);
    write_weights(weights, 1);
    EXPECT_INT(run_whole(config, run, args), 0);
    write_weights(weights, 2);
    expect_refused(config, run, args, 5, "error E5079 ");
    expect_said(run, "the teacher's weights changed since this run began");
    write_weights(weights, 1);
    expect_refused(config, run, args, 0, "done: 2 steps");
    free(args);
}

/* ---- the run directory ------------------------------------------------------------------------- */
TEST(the_status_tells_of_a_live_run) {
    const char *config = put("c.yaml", all), *run = place("run");
    pid_t pid = run_start(config, run, "train.steps=500 train.schedule=constant");
    EXPECT(run_await(pid, run, "/metrics.jsonl", "\"step\": 5, \"eval\""));
    EXPECT(run_await(pid, run, "/metrics.jsonl", "\"step\": 9,"));
    pause_ms(60);                                        /* report.every is 50 ms; written at the edge of a step */
    EXPECT(run_await(pid, run, "/metrics.jsonl", "\"step\": 11,"));
    json_t *o = status_of(run), *eval = json_object_get(o, "eval");
    EXPECT_STR(text_of(o, "state"), "running");
    EXPECT_INT(number_of(o, "pid"), pid);
    EXPECT_INT(number_of(o, "steps"), 500);
    EXPECT(number_of(o, "step") >= 5);
    EXPECT(number_of(o, "eta_s") > 0);
    EXPECT(number_of(json_object_get(o, "loss"), "kd") > 0);
    EXPECT_INT((int)number_of(eval, "step") % 5, 0);
    EXPECT(json_is_number(json_object_get(eval, "miou")) && json_is_number(json_object_get(eval, "best")));
    json_decref(o);
    kill(pid, SIGKILL);
    run_wait(pid);
}
TEST(two_runs_in_one_folder_are_refused) {
    const char *config = put("c.yaml", plain), *run = place("run");
    char expected[96];
    pid_t first = run_start(config, run, "train.steps=100000");
    EXPECT(run_await(first, run, "/metrics.jsonl", "\"step\": 5, \"eval\""));
    snprintf(expected, sizeof expected, "in use by process %d on %s", (int)first, sys_hostname());
    EXPECT_INT(run_whole(config, run, "train.steps=100000"), 2);
    expect_said(run, "error E2010 ");
    expect_said(run, expected);
    EXPECT_INT(kill(first, 0), 0);
    json_t *o = status_of(run);
    EXPECT_STR(text_of(o, "state"), "running");          /* of the first: the second wrote nothing */
    json_decref(o);
    kill(first, SIGKILL);
    run_wait(first);
    pid_t third = run_start(config, run, "train.steps=100000");  /* a dead one's lock holds nobody up */
    EXPECT(run_await(third, run, ".said", "resuming from "));
    kill(third, SIGTERM);
    EXPECT_INT(run_wait(third), 128 + SIGTERM);
}
TEST(a_second_signal_stops_at_once) {
    const char *config = put("c.yaml", plain), *run = place("run");
    pid_t pid = run_start(config, run, "train.steps=100000 train.batch=16");
    EXPECT(run_await(pid, run, "/metrics.jsonl", "\"step\": 1,"));
    kill(pid, SIGTERM), kill(pid, SIGINT);               /* two of one kind may become one */
    int code = run_wait(pid);
    if (code != 128 + SIGTERM && code != 128 + SIGINT) FAIL("exit code %d", code);
    EXPECT(!run_says(run, ".said", "everything is saved"));
}
TEST(places_that_cannot_be_written_are_refused) {
    const char *config = put("c.yaml", plain), *file = put("file", "x"), *fifo = place("fifo"), *link = place("link");
    EXPECT_INT(mkfifo(fifo, 0600), 0);
    EXPECT_INT(symlink("/nowhere/at/all", link), 0);
    const char *const bad[] = {file, fifo, link};
    for (int i = 0; i < 3; i++) {
        EXPECT_INT(run_whole(config, bad[i], ""), 6);
        EXPECT(run_says(bad[i], ".said", "error E6009 "));
        EXPECT(!run_says(bad[i], ".said", "images to train on"));
    }
    Bytes b;
    EXPECT_OK(sys_read_file(file, 10, EXIT_DATA, &b));
    EXPECT_INT(b.bytes, 1);
    free(b.data);
}

/* ---- mounts ------------------------------------------------------------------------------------ */
/* A file system of `size` (as of mount -o size=) at DIR, seen by this test and its runs alone. */
static void mount_small(const char *dir, const char *size) {
    char option[64];
    snprintf(option, sizeof option, "size=%s", size);
    EXPECT_OK(sys_mkdirs(dir));
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("tmpfs", dir, "tmpfs", 0, option))
        SKIP("mounting is not allowed here (%s)", strerror(errno));
}
static void remount(const char *dir, unsigned long flags, const char *option) {
    if (mount("none", dir, NULL, MS_REMOUNT | flags, option)) FAIL("remount %s: %s", dir, strerror(errno));
}
TEST(a_full_disk_is_waited_out_for_three_misses) {
    const char *config = put("c.yaml", plain), *reference = reference_run(config), *disk = place("disk"), *run = place("disk/run");
    char path[RUN_PATH];
    mount_small(disk, "8m");                             /* two checkpoints of 3 MB and a best of 1.6 MB */
    EXPECT_INT(run_whole(config, run, ""), 6);
    expect_said(run, "not written: ");
    expect_said(run, "training goes on, next try at the next interval (1 of 3)");
    expect_said(run, "(2 of 3)");
    expect_said(run, "error E6003 the checkpoint of step 10 could not be written");
    expect_said(run, "no space left on the disk, ");
    expect_said(run, " bytes needed, ");
    EXPECT_INT(run_newest(run, path), 4);                /* what was there before stays, and is good */
    EXPECT_OK(st_verify(path));
    json_t *o = status_of(run);
    EXPECT_STR(text_of(o, "state"), "failed");
    EXPECT_INT(number_of(o, "exit_code"), 6);
    json_decref(o);
    remount(disk, 0, "size=64m");
    EXPECT_INT(run_whole(config, run, ""), 0);
    expect_same(reference, run);
    char **names;
    int n;
    EXPECT_OK(sys_list(temp_path("disk/run/checkpoints"), EXIT_OUTPUT, &names, &n));
    EXPECT_INT(n, 2);                                    /* no temporary file was left */
    sys_free_names(names, n);
}
TEST(a_disk_that_is_full_for_a_while_costs_a_warning) {
    const char *config = put("c.yaml", plain), *disk = place("disk"), *run = place("disk/run"), *ballast = place("disk/ballast");
    mount_small(disk, "20m");
    int fd = open(ballast, O_WRONLY | O_CREAT, 0600);
    EXPECT_INT(posix_fallocate(fd, 0, 18 << 20), 0);
    close(fd);
    pid_t pid = run_start(config, run, "train.steps=100000 eval.every=0 checkpoint.every=500ms");
    EXPECT(run_await(pid, run, ".said", "(1 of 3)"));
    EXPECT_OK(sys_remove(ballast));
    char path[RUN_PATH];
    for (int i = 0; i < 500 && run_newest(run, path) < 0; i++) pause_ms(10);
    EXPECT(run_newest(run, path) > 0);
    kill(pid, SIGTERM);
    EXPECT_INT(run_wait(pid), 128 + SIGTERM);
}
TEST(a_log_that_cannot_grow_costs_a_warning) {
    const char *config = put("c.yaml", plain), *reference = reference_run(config), *disk = place("disk"), *run = place("run");
    char why[256];
    mount_small(disk, "4k");
    int fd = open(temp_path("disk/ballast"), O_WRONLY | O_CREAT, 0600);
    EXPECT_INT(posix_fallocate(fd, 0, 4096), 0);
    close(fd);
    EXPECT_OK(sys_mkdirs(run));
    EXPECT_INT(symlink(temp_path("disk/metrics"), temp_path("run/metrics.jsonl")), 0);
    EXPECT_INT(open(temp_path("disk/metrics"), O_WRONLY | O_CREAT, 0600) < 0, 0);
    EXPECT_INT(run_whole(config, run, ""), 0);
    expect_said(run, "training goes on, the log is incomplete");
    EXPECT(runs_same_tensors(reference, run, "last.safetensors", why));
    json_t *o = status_of(run);
    EXPECT_STR(text_of(o, "log"), "incomplete");
    json_decref(o);
}
TEST(a_read_only_folder_is_refused_before_any_work) {
    const char *config = put("c.yaml", plain), *disk = place("disk"), *said = place("said");
    mount_small(disk, "16m");
    EXPECT_OK(sys_mkdirs(temp_path("disk/run")));
    EXPECT_OK(sys_mkdirs(said));
    remount(disk, MS_RDONLY, NULL);
    char *link = path_join(said, "run");                 /* so that its words can be written beside it */
    EXPECT_INT(symlink(temp_path("disk/run"), link), 0);
    EXPECT_INT(run_whole(config, link, ""), 6);
    expect_said(link, "error E6007 ");
    EXPECT(!run_says(link, ".said", "images to train on"));
    free(link);
}

TEST_MAIN(T(a_stopped_run_goes_on), T(an_interrupted_run_with_everything_on_goes_on), T(a_run_told_to_save_by_usr1_goes_on),
          T(a_killed_run_goes_on), T(a_killed_run_with_everything_on_goes_on), T(a_killed_run_in_its_cross_fade_goes_on),
          T(killed_at_the_switch_of_stages), T(killed_in_an_evaluation), T(killed_before_its_first_checkpoint),
          T(a_finished_run_started_again_changes_nothing), T(the_same_threads_give_the_same_bits), T(what_a_killed_writer_left_is_removed),
          T(steps_beyond_two_to_the_31), T(steps_beyond_two_to_the_32), T(a_damaged_checkpoint_falls_back_to_the_one_before),
          T(no_good_checkpoint_is_an_error), T(a_checkpoint_of_something_else_is_an_error), T(changed_options_are_listed),
          T(changed_data_are_listed), T(a_changed_teacher_is_an_error), T(the_status_tells_of_a_live_run),
          T(two_runs_in_one_folder_are_refused), T(a_second_signal_stops_at_once), T(places_that_cannot_be_written_are_refused),
          T(a_full_disk_is_waited_out_for_three_misses), T(a_disk_that_is_full_for_a_while_costs_a_warning),
          T(a_log_that_cannot_grow_costs_a_warning), T(a_read_only_folder_is_refused_before_any_work))
