/* program.h - running the program that lies in the build folder, and what it said. */
#ifndef RETORT_TESTS_PROGRAM_H
#define RETORT_TESTS_PROGRAM_H
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/sys.h"
#include "tempdir.h"
#include "test.h"

enum { ARGS_MAX = 24, TEXT_MAX = 1 << 16 };

typedef struct {
    int code;
    char out[TEXT_MAX], err[TEXT_MAX];
} Ran;
static Ran ran; /* of the last retort() */

static void read_text(const char *name, char *text) {
    Bytes b;
    if (sys_read_file(temp_path(name), TEXT_MAX - 1, EXIT_DATA, &b))
        snprintf(text, TEXT_MAX, "(%s)", err_text());
    else memcpy(text, b.data, b.bytes + 1), free(b.data);
}
static void redirect(const char *path, int flags, int to) {
    int fd = open(path, flags, 0666);
    if (fd < 0 || dup2(fd, to) < 0) _exit(126);
}
/* Runs the program in the test's folder; what it says goes to ran. stdout_path NULL: kept too. */
static const Ran *retort_to(const char *stdout_path, const char *const *args) {
    const char *argv[ARGS_MAX + 2] = {BUILD_DIR "/retort"};
    for (int i = 0; i < ARGS_MAX && args[i]; i++) argv[i + 1] = args[i];
    temp_path(""); /* the folder is there and belongs to this process */
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        if (chdir(temp_path("")) || setenv("OMP_NUM_THREADS", "1", 1))
            _exit(126); /* quick on a busy machine too */
        redirect("/dev/null", O_RDONLY, 0);
        redirect(stdout_path ? stdout_path : ".stdout", O_WRONLY | O_CREAT | O_TRUNC, 1);
        redirect(".stderr", O_WRONLY | O_CREAT | O_TRUNC, 2);
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    ran.code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    read_text(".stderr", ran.err);
    if (!stdout_path) read_text(".stdout", ran.out);
    return &ran;
}
#define RETORT(...) retort_to(NULL, (const char *const[]){__VA_ARGS__, NULL})
#define EXPECT_RUNS(...)                                                                           \
    do {                                                                                           \
        if (RETORT(__VA_ARGS__)->code) FAIL("exit %d: %s", ran.code, ran.err);                     \
    } while (0)
#endif
