/* test_rundir.c - what a run may not be resumed with, and the run directory: its status, its lock,
 * places that cannot be written, disks that are full or read-only. The runs are processes of the
 * program.
 *
 * What needs mounts makes them in a mount namespace of its own, and is skipped where that is not
 * allowed. */
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "io/image.h"
#include "models/model.h"
#include "tiny_runs.h"

/* ---- what may not change -------------------------------------------------------------------- */
TEST(changed_options_are_listed) {
    const char *config = put("c.yaml", all), *run = place("run");
    EXPECT_INT(run_whole(config, run, "train.steps=2"), 0);
    expect_refused(config, run, "train.steps=2 train.lr=0.5 distill.losses.kd.tau=3", 5,
                   "error E5000 ");
    expect_said(run, "train.lr: 0.001 -> 0.5, distill.losses.kd.tau: 1 -> 3");
    EXPECT_OK(sys_remove(temp_path("run/config.yaml"))); /* the checkpoint knows all the same */
    expect_refused(config, run, "train.steps=3", 5, "train.steps: 2 -> 3");
    expect_refused(config, run, "train.steps=2 checkpoint.keep=5 data.workers=2", 0,
                   "done: 2 steps");
}
static void write_pair(const char *root, int i, uint8_t shade) {
    uint8_t rgb[32 * 32 * 3], label[32 * 32], colours[12][3] = {{0}};
    char path[RUN_PATH];
    for (int p = 0; p < 32 * 32; p++)
        label[p] = (uint8_t)(p / 64 % 11), memset(rgb + 3 * p, label[p] * 20 + shade * (p % 7), 3);
    snprintf(path, sizeof path, "%s/train/p%d.png", root, i);
    CHECK(!image_write_png_rgb(path, rgb, 32, 32));
    snprintf(path, sizeof path, "%s/trainannot/p%d.png", root, i);
    CHECK(!image_write_png_palette(path, label, 32, 32, colours, 12));
}
/* Lists of pairs from..to for train, pair 0 for val. */
static void write_lists(const char *root, int from, int to) {
    Str s = {0};
    char path[RUN_PATH];
    for (int i = from; i < to; i++)
        str_addf(&s, "/SegNet/CamVid/train/p%d.png /SegNet/CamVid/trainannot/p%d.png\n", i, i);
    snprintf(path, sizeof path, "%s/train.txt", root);
    CHECK(!durable_write_all(path, s.s, s.n));
    snprintf(path, sizeof path, "%s/val.txt", root);
    CHECK(!durable_write_all(path, s.s, strcspn(s.s, "\n") + 1));
    str_free(&s);
}
TEST(changed_data_are_listed) {
    const char *root = place("data"), *run = place("run");
    char *text = xprintf("data: {kind: camvid, root: %s, crop: 32x32}\n%strain: {steps: 2, batch: "
                         "2, threads: 1}\nreport: {images: 0}\n",
                         root, STUDENT);
    const char *config = put("c.yaml", text);
    EXPECT_OK(sys_mkdirs(temp_path("data/train")));
    EXPECT_OK(sys_mkdirs(temp_path("data/trainannot")));
    for (int i = 0; i < 9; i++) write_pair(root, i, 0);
    write_lists(root, 0, 6);
    EXPECT_INT(run_whole(config, run, ""), 0);
    EXPECT(run_says(run, "/lists/train.txt", "\"p0\"\t"));
    expect_refused(config, run, "", 0, "done: 2 steps");
    write_pair(root, 3, 9); /* another picture, of other size */
    expect_refused(config, run, "", 5,
                   "the train data changed since this run began: 1 changed (\"p3\"); restore them");
    write_pair(root, 3, 0);
    write_lists(root, 1, 9);
    expect_refused(config, run, "", 5, "error E5047 ");
    expect_said(run, "3 added (\"p6\", \"p7\", \"p8\"), 1 removed (\"p0\")");
    write_lists(root, 0, 6);
    expect_refused(config, run, "", 0, "done: 2 steps");
    free(text);
}
static void write_weights(const char *path, uint64_t seed) {
    ModelOptions o = {.model = "deeplabv3_mobilenetv2",
                      .classes = 11,
                      .width = 0.1,
                      .aux = true,
                      .norm = "bgr-caffe"};
    Net *n;
    ModelNodes at;
    Tensor t[512];
    CHECK(!model_open(&o, 32, 32, &n, &at));
    net_init_formula(n, seed);
    for (int i = 0; i < n->n_params; i++) {
        NetParam *p = &n->params[i];
        t[i] = (Tensor){p->name, p->kind == PARAM_COUNT ? DT_I64 : DT_F32, p->shape,
                        p->kind == PARAM_COUNT ? (void *)&p->count : p->data};
    }
    CHECK(!st_write(path, t, n->n_params, NULL, 0));
    net_close(n);
}
TEST(a_changed_teacher_is_an_error) {
    const char *config = put("c.yaml", all), *run = place("run"),
               *weights = place("teacher.safetensors");
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

/* ---- the run directory ---------------------------------------------------------------------- */
TEST(the_status_tells_of_a_live_run) {
    const char *config = put("c.yaml", all), *run = place("run");
    pid_t pid = run_start(config, run, "train.steps=500 train.schedule=constant");
    EXPECT(run_await(pid, run, "/metrics.jsonl", "\"step\": 4, \"eval\""));
    EXPECT(run_await(pid, run, "/metrics.jsonl", "\"step\": 9,"));
    pause_ms(60); /* report.every is 50 ms; written at the edge of a step */
    EXPECT(run_await(pid, run, "/metrics.jsonl", "\"step\": 11,"));
    json_t *o = status_of(run), *eval = json_object_get(o, "eval");
    EXPECT_STR(text_of(o, "state"), "running");
    EXPECT_INT(number_of(o, "pid"), pid);
    EXPECT_INT(number_of(o, "steps"), 500);
    EXPECT(number_of(o, "step") >= 4);
    EXPECT(number_of(o, "eta_s") > 0);
    EXPECT(number_of(json_object_get(o, "loss"), "kd") > 0);
    EXPECT_INT((int)number_of(eval, "step") % 4, 0);
    EXPECT(json_is_number(json_object_get(eval, "miou")) &&
           json_is_number(json_object_get(eval, "best")));
    json_decref(o);
    kill(pid, SIGKILL);
    run_wait(pid);
}
TEST(two_runs_in_one_folder_are_refused) {
    const char *config = put("c.yaml", plain), *run = place("run");
    char expected[96];
    pid_t first = run_start(config, run, "train.steps=100000");
    EXPECT(run_await(first, run, "/metrics.jsonl", "\"step\": 4, \"eval\""));
    snprintf(expected, sizeof expected, "in use by process %d on %s", (int)first, sys_hostname());
    EXPECT_INT(run_whole(config, run, "train.steps=100000"), 2);
    expect_said(run, "error E2010 ");
    expect_said(run, expected);
    EXPECT_INT(kill(first, 0), 0);
    json_t *o = status_of(run);
    EXPECT_STR(text_of(o, "state"), "running"); /* of the first: the second wrote nothing */
    json_decref(o);
    kill(first, SIGKILL);
    run_wait(first);
    pid_t third =
        run_start(config, run, "train.steps=100000"); /* a dead one's lock holds nobody up */
    EXPECT(run_await(third, run, ".said", "resuming from "));
    kill(third, SIGTERM);
    EXPECT_INT(run_wait(third), 128 + SIGTERM);
}
TEST(a_second_signal_stops_at_once) {
    const char *config = put("c.yaml", plain), *run = place("run");
    pid_t pid = run_start(config, run, "train.steps=100000 train.batch=16");
    EXPECT(run_await(pid, run, "/metrics.jsonl", "\"step\": 1,"));
    kill(pid, SIGTERM), kill(pid, SIGINT); /* two of one kind may become one */
    int code = run_wait(pid);
    if (code != 128 + SIGTERM && code != 128 + SIGINT) FAIL("exit code %d", code);
    EXPECT(!run_says(run, ".said", "everything is saved"));
}
TEST(places_that_cannot_be_written_are_refused) {
    const char *config = put("c.yaml", plain), *file = put("file", "x"), *fifo = place("fifo"),
               *link = place("link");
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

/* ---- mounts --------------------------------------------------------------------------------- */
/* A file system of `size` (as of mount -o size=) at DIR, seen by this test and its runs alone. */
static void mount_small(const char *dir, const char *size) {
    char option[64];
    snprintf(option, sizeof option, "size=%s", size);
    EXPECT_OK(sys_mkdirs(dir));
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("tmpfs", dir, "tmpfs", 0, option))
        SKIP("mounting is not allowed here (%s)", strerror(errno));
}
static void remount(const char *dir, unsigned long flags, const char *option) {
    if (mount("none", dir, NULL, MS_REMOUNT | flags, option))
        FAIL("remount %s: %s", dir, strerror(errno));
}
TEST(a_full_disk_is_waited_out_for_three_misses) {
    const char *config = put("c.yaml", plain), *reference = reference_run(config),
               *disk = place("disk"), *run = place("disk/run");
    char path[RUN_PATH];
    mount_small(disk, "8m"); /* two checkpoints of 3 MB and a best of 1.6 MB */
    EXPECT_INT(run_whole(config, run, ""), 6);
    expect_said(run, "not written: ");
    expect_said(run, "training goes on, next try at the next interval (1 of 3)");
    expect_said(run, "(2 of 3)");
    expect_said(run, "error E6003 the checkpoint of step 10 could not be written");
    expect_said(run, "no space left on the disk, ");
    expect_said(run, " bytes needed, ");
    EXPECT_INT(run_newest(run, path), 4); /* what was there before stays, and is good */
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
    EXPECT_INT(n, 2); /* no temporary file was left */
    sys_free_names(names, n);
}
TEST(a_disk_that_is_full_for_a_while_costs_a_warning) {
    const char *config = put("c.yaml", plain), *disk = place("disk"), *run = place("disk/run"),
               *ballast = place("disk/ballast");
    mount_small(disk, "20m");
    int fd = open(ballast, O_WRONLY | O_CREAT, 0600);
    EXPECT_INT(posix_fallocate(fd, 0, 18 << 20), 0);
    close(fd);
    pid_t pid = run_start(config, run, "train.steps=100000 eval.every=0 checkpoint.every=1s");
    EXPECT(run_await(pid, run, ".said", "(1 of 3)"));
    EXPECT_OK(sys_remove(ballast));
    char path[RUN_PATH];
    for (int i = 0; i < 500 && run_newest(run, path) < 0; i++) pause_ms(10);
    EXPECT(run_newest(run, path) > 0);
    kill(pid, SIGTERM);
    EXPECT_INT(run_wait(pid), 128 + SIGTERM);
}
TEST(a_log_that_cannot_grow_costs_a_warning) {
    const char *config = put("c.yaml", plain), *reference = reference_run(config),
               *disk = place("disk"), *run = place("run");
    char why[256];
    mount_small(disk, "4k");
    int fd = open(temp_path("disk/ballast"), O_WRONLY | O_CREAT, 0600);
    EXPECT_INT(posix_fallocate(fd, 0, 4096), 0);
    close(fd);
    EXPECT_OK(sys_mkdirs(run));
    EXPECT_INT(symlink(temp_path("disk/metrics"), temp_path("run/metrics.jsonl")), 0);
    close(
        open(temp_path("disk/metrics"), O_WRONLY | O_CREAT, 0600)); /* there, and empty for ever */
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
    char *link = path_join(said, "run"); /* so that its words can be written beside it */
    EXPECT_INT(symlink(temp_path("disk/run"), link), 0);
    EXPECT_INT(run_whole(config, link, ""), 6);
    expect_said(link, "error E6007 ");
    EXPECT(!run_says(link, ".said", "images to train on"));
    free(link);
}

TEST_MAIN(T(changed_options_are_listed), T(changed_data_are_listed),
          T(a_changed_teacher_is_an_error), T(the_status_tells_of_a_live_run),
          T(two_runs_in_one_folder_are_refused), T(a_second_signal_stops_at_once),
          T(places_that_cannot_be_written_are_refused),
          T(a_full_disk_is_waited_out_for_three_misses),
          T(a_disk_that_is_full_for_a_while_costs_a_warning),
          T(a_log_that_cannot_grow_costs_a_warning),
          T(a_read_only_folder_is_refused_before_any_work))
