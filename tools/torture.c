/* torture.c - does a run survive anything? Small recipes of both data sets are killed (kill -9) at
 * random moments, while a checkpoint is written, in an evaluation, at the switch of RDD's stages,
 * or lose the right to write (RLIMIT_FSIZE); each is then started again and must end with the bits
 * and the metrics of a run that was left alone. Before that, one checkpoint is cut at every 4 KB
 * and has bits flipped: none may be taken for good.
 *
 * A trial is a function of its seed, as far as moments can be: waiting is for files and lines, then
 * for a seeded number of milliseconds. A failure prints its seed and keeps its folder. Usage:
 * tool_torture [SECONDS] [SEED], see torture.sh. */
#include <sys/resource.h>

#include "../tests/runs.h"
#include "base/rng.h"

enum { KILLS_MAX = 100, WAIT_S = 120 };
#define STUDENT "student: {model: deeplabv3_mobilenetv2, width: 0.1, aux: true}\n"
#define TEACHER                                                                                    \
    "teacher: {model: deeplabv3_mobilenetv2, width: 0.1, aux: true, weights: \"formula:1\"}\n"
#define REST                                                                                       \
    "checkpoint: {every: 2}\neval: {every: 5, images: 2}\nreport: {images: 0, metrics: 1, every: " \
    "100ms}\n"
#define SCENES                                                                                     \
    "data: {kind: scenes, crop: 32x32, scale: [0.5, 1.5], scenes: {size: 32x48, train: 10, val: "  \
    "2}}\n"
#define CAMVID "data: {kind: camvid, root: %s/data/camvid, crop: 32x48, scale: [0.2, 0.5]}\n"
typedef struct Recipe {
    const char *name, *text; /* %s: the test data's folder */
    int steps, switch_step;  /* the step after which RDD's second stage begins; 0: none */
    double whole_ms;         /* what a run that is left alone takes */
    char config[RUN_PATH], reference[RUN_PATH];
} Recipe;
static Recipe recipes[] = {
    {.name = "scenes",
     .steps = 20,
     .text = SCENES STUDENT "train: {steps: 20, batch: 2, lr: 0.02, threads: 1}\n" REST},
    {.name = "camvid-rdd",
     .steps = 14,
     .switch_step = 7,
     .text = CAMVID STUDENT TEACHER
     "distill: {task: {kind: rdd, warmup: 0.5}, losses: [kd]}\n"
     "train: {steps: 14, batch: 2, lr: 0.02, lr_warmup: 4, threads: 1}\n" REST},
    {.name = "scenes-rdd",
     .steps = 14,
     .switch_step = 7,
     .text =
         SCENES STUDENT TEACHER "distill: {task: {kind: rdd, warmup: 7}, losses: [kd: {tau: 2}]}\n"
                                "train: {steps: 14, batch: 2, accumulate: 2, ema: 0.9, optimizer: "
                                "adamw, lr: 1e-3, clip: 1, threads: 1}\n" REST},
    {.name = "camvid",
     .steps = 16,
     .text = CAMVID STUDENT
     "distill: {task: ohem}\n"
     "train: {steps: 16, batch: 2, lr: 0.02, schedule: cosine, threads: 1}\n" REST},
};
enum { N_RECIPES = sizeof recipes / sizeof *recipes };
typedef enum { AT_RANDOM, IN_CHECKPOINT, IN_EVALUATION, AT_SWITCH, NO_WRITING, MOMENTS } Moment;
static const char *const moment_names[] = {"at random", "in a checkpoint", "in an evaluation",
                                           "at the switch", "not allowed to write"};
_Static_assert(sizeof moment_names / sizeof *moment_names == MOMENTS, "one name per moment");
typedef struct Count {
    int kills, of[MOMENTS], early, unfinished, trials, failures;
} Count; /* early: had ended before */

/* ---- files ---------------------------------------------------------------------------------- */
/* Is a checkpoint being written? */
static bool writing(const char *run) {
    char folder[RUN_PATH], **names;
    int n;
    bool found = false;
    snprintf(folder, sizeof folder, "%s/checkpoints", run);
    if (!sys_is_dir(folder) || sys_list(folder, EXIT_OUTPUT, &names, &n)) return false;
    for (int i = 0; i < n; i++) found |= strstr(names[i], ".tmp-") != NULL;
    sys_free_names(names, n);
    return found;
}

/* ---- one trial ------------------------------------------------------------------------------ */
static void await_checkpoint(pid_t pid, const char *run, int after_step) {
    char line[32];
    snprintf(line, sizeof line, "\"step\": %d,", after_step);
    if (!run_await(pid, run, "/metrics.jsonl", line)) return;
    for (double end = sys_now() + WAIT_S; sys_now() < end && !writing(run); pause_ms(0.2)) {
        siginfo_t info = {0};
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid == pid)
            return;
    }
}

/* Wait for the moment, then for a few milliseconds more. */
static void await_moment(const Recipe *r, Moment m, const Rng *g, uint64_t *draw, pid_t pid,
                         const char *run) {
    char line[32];
    double more = 12 * (double)rng_uniform(g, (*draw)++);
    const int step = 1 + (int)rng_below(g, (*draw)++, (uint32_t)r->steps - 1);
    if (m == AT_RANDOM || m == NO_WRITING) more = r->whole_ms * (double)rng_uniform(g, (*draw)++);
    if (m == IN_CHECKPOINT) await_checkpoint(pid, run, step);
    if (m == IN_EVALUATION || m == AT_SWITCH) {
        snprintf(line, sizeof line, "\"step\": %d,",
                 m == AT_SWITCH ? r->switch_step : 5 * (1 + step % (r->steps / 5)));
        run_await(pid, run, "/metrics.jsonl", line);
    }
    pause_ms(more);
}

/* Start, disturb, wait. Returns NULL when it ended as it may. */
static const char *disturb(const Recipe *r, Moment m, const Rng *g, uint64_t *draw, const char *run,
                           Count *count) {
    static char why[128];
    pid_t pid = run_start(r->config, run, "");
    await_moment(r, m, g, draw, pid, run);
    if (m == NO_WRITING) {
        const rlim_t bytes = 1 + rng_below(g, (*draw)++, 4 << 20);
        prlimit(pid, RLIMIT_FSIZE, &(struct rlimit){bytes, bytes}, NULL);
    } else kill(pid, SIGKILL);
    int code = run_wait(pid);
    if (code == 128 + SIGKILL && m != NO_WRITING)
        count->kills++, count->of[m]++, count->unfinished += writing(run);
    else if (code == 0) count->early++;
    else if (code == 6 && m == NO_WRITING) count->of[m]++;
    else return snprintf(why, sizeof why, "%s: exit code %d", moment_names[m], code), why;
    return NULL;
}

static bool trial(const char *root, uint64_t seed, Count *count) {
    const Rng g = rng_stream(seed, RNG_METHOD, 0, 0);
    uint64_t draw = 0;
    char run[RUN_PATH], why[256] = "";
    const Recipe *r = &recipes[seed % N_RECIPES];
    snprintf(run, sizeof run, "%.500s/run-%llu", root, (unsigned long long)seed);
    const char *bad = NULL;
    Moment m = AT_RANDOM;
    for (int again = 1; again && !bad;) { /* one in four is disturbed twice, and so on */
        m = (Moment)rng_below(&g, draw++, MOMENTS);
        if (m == AT_SWITCH && !r->switch_step) m = IN_CHECKPOINT;
        bad = disturb(r, m, &g, &draw, run, count);
        again = rng_below(&g, draw++, 4) == 0;
    }
    if (bad) snprintf(why, sizeof why, "%s", bad);
    int code = bad ? 0 : run_wait(run_start(r->config, run, ""));
    if (code)
        snprintf(why, sizeof why, "resumed after being stopped %s: exit code %d", moment_names[m],
                 code);
    const bool good = !bad && !code && runs_same(r->reference, run, why);
    count->trials++;
    if (good) remove_run(run);
    else
        count->failures++,
            printf("FAIL seed %llu, %s, %s: %s; see %s, replay: tools/torture.sh 0 %llu\n",
                   (unsigned long long)seed, r->name, moment_names[m], why, run,
                   (unsigned long long)seed);
    char said[RUN_PATH];
    snprintf(said, sizeof said, "%s.said", run);
    if (good) remove(said);
    return good;
}

/* ---- a checkpoint, damaged ------------------------------------------------------------------ */
/* Every cut at 4 KB, at every byte of the first 64, and seeded bits; returns how many were tried.
 */
static int damage(const char *path, double until, Count *count) {
    Bytes b;
    SafeFile f;
    CHECK(!sys_read_file(path, 1 << 28, EXIT_OUTPUT, &b) &&
          !st_parse(b.data, b.bytes, path, EXIT_CHECKPOINT, &f));
    st_close(&f);
    const Rng g = rng_stream(1, RNG_METHOD, 0, 0);
    int tried = 0;
    for (size_t n = 0; n < b.bytes; n += n < 64 ? 1 : 4096, tried++)
        if (!st_parse(b.data, n, path, EXIT_CHECKPOINT, &f))
            count->failures++, printf("FAIL %s cut to %zu bytes is taken for good\n", path, n),
                st_close(&f);
    for (uint64_t i = 0; i < 4000 && sys_now() < until; i++, tried++) {
        uint8_t *byte = &b.data[rng_below(&g, 2 * i, (uint32_t)(i % 2 ? b.bytes : 60000))],
                bit = (uint8_t)(1u << rng_below(&g, 2 * i + 1, 8));
        *byte ^= bit;
        if (!st_parse(b.data, b.bytes, path, EXIT_CHECKPOINT, &f))
            count->failures++,
                printf("FAIL %s with a flipped bit at %zu is taken for good\n", path,
                       (size_t)(byte - b.data)),
                st_close(&f);
        *byte ^= bit;
    }
    free(b.data);
    return tried;
}

/* ---- all ------------------------------------------------------------------------------------ */
static void make_references(const char *root) {
    for (int i = 0; i < N_RECIPES; i++) {
        Recipe *r = &recipes[i];
        char *text = xprintf(r->text, sys_test_data());
        snprintf(r->config, sizeof r->config, "%.500s/%s.yaml", root, r->name);
        snprintf(r->reference, sizeof r->reference, "%.500s/%s", root, r->name);
        CHECK(!durable_write_all(r->config, text, strlen(text)));
        double start = sys_now();
        int code = run_whole(r->config, r->reference, "");
        r->whole_ms = 1000 * (sys_now() - start);
        if (code)
            printf("FAIL %s, left alone: exit code %d; see %s.said\n", r->name, code, r->reference),
                exit(1);
        free(text);
    }
}

int main(int argc, char **argv) {
    int64_t seconds = 60, seed = 0;
    if ((argc > 1 && !parse_i64(argv[1], &seconds)) || (argc > 2 && !parse_i64(argv[2], &seed)) ||
        argc > 3)
        return fprintf(stderr, "usage: torture.sh [SECONDS] [SEED]\n"), 2;
    setvbuf(stdout, NULL, _IOLBF, 0); /* a failure is seen when it happens */
    char root[] = "/tmp/retort-torture-XXXXXX", newest[RUN_PATH];
    if (!mkdtemp(root)) return perror(root), 1;
    if (!sys_test_data()) {
        printf("skip: no test data (RETORT_TEST_DATA), so the recipes of camvid are left out\n");
        recipes[1] = recipes[2], recipes[3] = recipes[0];
    }
    const double start = sys_now(), end = start + (double)seconds;
    Count count = {0};
    make_references(root);
    run_newest(recipes[0].reference, newest);
    int damaged = argc > 2 ? 0 : damage(newest, sys_now() + 0.1 * (double)seconds, &count);
    if (argc > 2) trial(root, (uint64_t)seed, &count);
    else
        for (uint64_t i = (uint64_t)sys_now_ns() % 1000000000;
             sys_now() < end && count.kills < KILLS_MAX; i++)
            trial(root, i, &count);
    printf("torture: %d kills (", count.kills);
    for (int i = 0; i < NO_WRITING; i++)
        printf("%s%d %s", i ? ", " : "", count.of[i], moment_names[i]);
    printf("; %d left an unfinished checkpoint), %d not allowed to write, %d ended before; %d "
           "damaged checkpoints; %d trials, %d failed; %.0f s\n",
           count.unfinished, count.of[NO_WRITING], count.early, damaged, count.trials,
           count.failures, sys_now() - start);
    if (!count.failures) remove_run(root);
    return count.failures > 0;
}
