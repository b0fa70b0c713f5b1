/* test_stop.c - `retort stop` and `retort info` of runs that live, ended, or were killed. */
#include "tiny_runs.h"

/* `retort COMMAND DIR`; what it says in either stream lies in said. Returns its exit code. */
static char said[8192];
static int retort(const char *command, const char *dir) {
    char *line = xprintf("OMP_NUM_THREADS=1 '%s/retort' %s '%s' 2>&1", BUILD_DIR, command, dir);
    FILE *f = popen(line, "r");
    free(line);
    if (!f) return -1;
    said[fread(said, 1, sizeof said - 1, f)] = 0;
    int status = pclose(f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
static bool has_request(const char *run) {
    char path[RUN_PATH];
    snprintf(path, sizeof path, "%s/.stop", run);
    return sys_exists(path);
}
/* A run of many steps, past its third. */
static pid_t live_run(const char *config, const char *run, const char *args) {
    pid_t pid = run_start(config, run, args);
    EXPECT(run_await(pid, run, "/metrics.jsonl", "\"step\": 3,"));
    return pid;
}

TEST(a_live_run_stops_when_asked_and_goes_on_exactly) {
    static const char many[] = "train.steps=400 eval.every=0 eval.images=1";
    const char *config = put("c.yaml", plain), *reference = place("reference"), *run = place("run");
    EXPECT_INT(run_whole(config, reference, many), 0);
    pid_t pid = live_run(config, run, many);
    EXPECT_INT(retort("stop", run), 0);
    EXPECT_HAS(said, "asked");
    EXPECT_HAS(said, "stopped after step ");
    EXPECT_INT(run_wait(pid), 128 + SIGUSR1);
    EXPECT(run_says(run, "/log.txt", "stopped on request after step "));
    EXPECT(!has_request(run));
    json_t *o = status_of(run);
    EXPECT_STR(text_of(o, "state"), "stopped");
    json_decref(o);
    EXPECT_INT(retort("stop", run), 0);
    EXPECT_HAS(said, "is not running, it was stopped after step ");
    EXPECT_INT(run_whole(config, run, many), 0);
    expect_same(reference, run);
}

TEST(info_tells_a_live_run_from_a_killed_one) {
    const char *config = put("c.yaml", plain), *run = place("run");
    pid_t pid = live_run(config, run, "train.steps=100000 eval.every=2");
    char process[64];
    snprintf(process, sizeof process, "running, process %d on ", (int)pid);
    EXPECT_INT(retort("info", run), 0);
    EXPECT_HAS(said, process);
    EXPECT_HAS(said, " of 100000\n");
    EXPECT_HAS(said, "time left");
    EXPECT_HAS(said, "loss.total");
    EXPECT_HAS(said, "% last (step ");
    kill(pid, SIGKILL);
    EXPECT_INT(run_wait(pid), 128 + SIGKILL);
    EXPECT_INT(retort("info", run), 0);
    EXPECT_HAS(said, "state           killed\n");
    EXPECT_HAS(said, "goes on from the newest checkpoint");
    EXPECT(!strstr(said, "time left") && !strstr(said, "exit code"));
    EXPECT_INT(retort("stop", run), 0);
    EXPECT_HAS(said, "is not running, it was killed");
}

TEST(a_finished_run_and_no_run_are_told_apart) {
    const char *config = put("c.yaml", plain), *run = reference_run(config);
    EXPECT_INT(retort("stop", run), 0);
    EXPECT_HAS(said, "already finished after step 16 of 16");
    EXPECT_INT(retort("stop", temp_path("")), 2);
    EXPECT_HAS(said, "error E2076 ");
    EXPECT_HAS(said, "was never a run directory");
}

TEST(an_old_request_stops_nobody) {
    const char *config = put("c.yaml", plain), *run = place("run");
    EXPECT_OK(sys_mkdirs(run));
    EXPECT_OK(lock_ask_stop(run));
    EXPECT_INT(run_whole(config, run, "train.steps=2"), 0);
    EXPECT(!has_request(run));
}

/* The reader of a lock must not look like a second run to one that starts. */
TEST(looking_at_a_lock_disturbs_no_start) {
    const char *dir = place("run");
    DirLock *l;
    LockHolder h;
    EXPECT_OK(sys_mkdirs(dir));
    EXPECT_OK(lock_look(dir, &h));
    EXPECT(!h.held);
    pid_t looker = fork();
    if (!looker) {
        for (;;) lock_look(dir, &h), sys_sleep(0.0005);
    }
    for (int i = 0; i < 200; i++) {
        EXPECT_OK(lock_open(dir, &l));
        lock_close(l);
    }
    kill(looker, SIGKILL);
    run_wait(looker);
    EXPECT_OK(lock_open(dir, &l));
    EXPECT_OK(lock_look(dir, &h));
    EXPECT(h.held);
    EXPECT_INT(h.pid, getpid());
    lock_close(l);
    EXPECT_OK(lock_look(dir, &h));
    EXPECT(!h.held);
}

TEST_MAIN(T(a_live_run_stops_when_asked_and_goes_on_exactly),
          T(info_tells_a_live_run_from_a_killed_one), T(a_finished_run_and_no_run_are_told_apart),
          T(an_old_request_stops_nobody), T(looking_at_a_lock_disturbs_no_start))
