/* runs.h - starting, killing and comparing runs of the program that lies beside the test program.
 * Shared by test_train, test_resume and tools/torture.c. */
#ifndef RETORT_TESTS_RUNS_H
#define RETORT_TESTS_RUNS_H
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"
#include "base/sys.h"
#include "io/safetensors.h"

enum { RUN_WORDS_MAX = 48, RUN_PATH = 640 };

static inline void pause_ms(double ms) {
    nanosleep(&(struct timespec){(time_t)(ms / 1000), (long)(ms * 1e6) % 1000000000}, NULL);
}

/* `retort train CONFIG out=OUT ARGS...`, args separated by spaces; what it says is appended to
 * OUT.said. */
static inline pid_t run_start(const char *config, const char *out, const char *args) {
    char program[RUN_PATH], said[RUN_PATH], out_arg[RUN_PATH], text[2048], *word[RUN_WORDS_MAX],
        *rest = text, *item;
    int n = 0;
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 16);
    CHECK(len > 0);
    program[len] = 0;
    strcpy(strrchr(program, '/'), "/retort");
    snprintf(said, sizeof said, "%s.said", out);
    snprintf(out_arg, sizeof out_arg, "out=%s", out);
    snprintf(text, sizeof text, "%s", args);
    word[n++] = program, word[n++] = "train", word[n++] = (char *)(uintptr_t)config,
    word[n++] = out_arg, word[n++] = "check=off"; /* each run is looked at once, by test_check */
    while (n < RUN_WORDS_MAX - 1 && (item = strtok_r(rest, " ", &rest))) word[n++] = item;
    word[n] = NULL;
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid) return pid;
    int fd = open(said, O_WRONLY | O_CREAT | O_APPEND, 0666), null = open("/dev/null", O_RDWR);
    dup2(null, 0), dup2(null, 1), dup2(fd, 2);
    setenv("OMP_WAIT_POLICY", "passive",
           1); /* tiny loops on a busy machine: spinning is all they would do */
    execv(program, word);
    _exit(127);
}

/* Exit code, or 128 + N when killed by signal N. */
static inline int run_wait(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
static inline int run_whole(const char *config, const char *out, const char *args) {
    return run_wait(run_start(config, out, args));
}

/* Content of DIR NAME ("/log.txt", ".said") as text, "" when there is none; caller frees. */
static inline char *run_text(const char *dir, const char *name) {
    char path[RUN_PATH];
    Bytes b = {0};
    snprintf(path, sizeof path, "%s%s", dir, name);
    if (!sys_exists(path) || sys_read_file(path, 1 << 28, EXIT_OUTPUT, &b)) return xstrdup("");
    char *text = xprintf("%.*s", (int)b.bytes, (const char *)b.data);
    free(b.data);
    return text;
}
static inline bool run_says(const char *dir, const char *name, const char *what) {
    char *text = run_text(dir, name);
    bool found = strstr(text, what) != NULL;
    free(text);
    return found;
}
/* Wait until a file of the run holds `what`; false when the run ended before, or after ten minutes.
 */
static inline bool run_await(pid_t pid, const char *dir, const char *name, const char *what) {
    const double end = sys_now() + 600;
    for (bool ended = false; sys_now() < end; pause_ms(2)) {
        if (run_says(dir, name, what)) return true;
        if (ended) return false;
        siginfo_t info = {0};
        ended = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid == pid;
    }
    return false;
}

static inline int run_remove_one(const char *path, const struct stat *st, int type,
                                 struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}
static inline void remove_run(const char *dir) {
    nftw(dir, run_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- comparing ------------------------------------------------------------------------------ */
/* Are all tensors of DIR NAME the same to the bit? Says in why which is not. */
static inline bool runs_same_tensors(const char *a, const char *b, const char *name,
                                     char why[256]) {
    SafeFile f[2];
    const char *const dir[] = {a, b};
    for (int i = 0; i < 2; i++) {
        char path[RUN_PATH];
        snprintf(path, sizeof path, "%s/%s", dir[i], name);
        if (st_read(path, EXIT_MODEL, &f[i])) {
            snprintf(why, 256, "%.200s", err_text());
            if (i) st_close(&f[0]);
            return false;
        }
    }
    bool same = f[0].tensors->n == f[1].tensors->n;
    snprintf(why, 256, same ? "" : "%d and %d tensors", f[0].tensors->n, f[1].tensors->n);
    for (int i = 0; i < f[0].tensors->n && same; i++) {
        const Tensor *x = &f[0].tensors->v[i], *y = tensor_find(f[1].tensors, x->name);
        same = y && shape_equal(x->shape, y->shape) && x->dtype == y->dtype &&
               !memcmp(x->data, y->data, (size_t)shape_count(x->shape) * dtype_bytes(x->dtype));
        if (!same) snprintf(why, 256, "%s: %.100s differs", name, x->name);
    }
    st_close(&f[0]), st_close(&f[1]);
    return same;
}

/* metrics.jsonl without the fields that a clock fills, keys sorted; "" when a line is no JSON.
 * Caller frees. */
static inline char *run_metrics(const char *dir) {
    char *text = run_text(dir, "/metrics.jsonl"), *rest = text;
    Str s = {0};
    str_add(&s, "");
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (!*line && !rest) break; /* behind the last newline */
        json_t *o = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        if (!o) {
            str_free(&s);
            str_add(&s, "");
            break;
        }
        json_object_del(o, "time"), json_object_del(o, "images_per_s"), json_object_del(o, "stall");
        json_object_del(json_object_get(o, "eval"), "seconds");
        char *clean = json_dumps(o, JSON_SORT_KEYS | JSON_COMPACT);
        str_addf(&s, "%s\n", clean);
        free(clean);
        json_decref(o);
    }
    free(text);
    return s.s;
}
static inline bool runs_same_metrics(const char *a, const char *b, char why[256]) {
    char *x = run_metrics(a), *y = run_metrics(b), *p = x, *q = y;
    int line = 1;
    for (; *p && *p == *q; p++, q++) line += *p == '\n';
    bool same = *x && *p == *q;
    if (!same)
        snprintf(why, 256, "metrics.jsonl differs at line %d: %.80s", line, q > y ? q - 1 : q);
    free(x), free(y);
    return same;
}
/* A run that was interrupted must end as one that was not. */
static inline bool runs_same(const char *reference, const char *run, char why[256]) {
    return runs_same_tensors(reference, run, "last.safetensors", why) &&
           runs_same_tensors(reference, run, "best.safetensors", why) &&
           runs_same_metrics(reference, run, why);
}

/* The newest checkpoint's path in `out`; its step, or -1. */
static inline int64_t run_newest(const char *dir, char out[RUN_PATH]) {
    char folder[RUN_PATH], **names;
    int n;
    int64_t newest = -1, step;
    snprintf(folder, sizeof folder, "%s/checkpoints", dir);
    if (sys_list(folder, EXIT_OUTPUT, &names, &n)) return -1;
    for (int i = 0; i < n; i++) {
        size_t len = strlen(names[i]);
        char number[32];
        if (len < 18 || len > 40 || !str_starts(names[i], "step-") ||
            !str_ends(names[i], ".safetensors"))
            continue;
        snprintf(number, sizeof number, "%.*s", (int)(len - 17), names[i] + 5);
        if (parse_i64(number, &step) && step > newest) newest = step;
    }
    sys_free_names(names, n);
    snprintf(out, RUN_PATH, "%.500s/checkpoints/step-%lld.safetensors", dir, (long long)newest);
    return newest;
}
#endif
