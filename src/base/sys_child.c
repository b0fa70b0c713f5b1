/* sys_child.c - another program at the other end of two pipes. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/sys.h"

extern char **environ;
struct Child {
    pid_t pid;
    int   in, out;                   /* our ends: of its standard input, of its standard output */
};

/* Ends that it must not inherit are closed by O_CLOEXEC. */
static int start(char *const argv[], const int to[2], const int from[2], pid_t *pid) {
    posix_spawn_file_actions_t a;
    posix_spawn_file_actions_init(&a);
    posix_spawn_file_actions_adddup2(&a, to[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&a, from[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&a, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    const int error = posix_spawnp(pid, argv[0], &a, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&a);
    return error;
}
Err child_open(char *const argv[], Child **out) {
    int to[2], from[2];
    pid_t pid;
    if (pipe2(to, O_CLOEXEC))
        return err_set(E(EXIT_LIMIT, 75), "%s: no pipe: %s", argv[0], strerror(errno));
    int error = pipe2(from, O_CLOEXEC) ? errno : 0;
    if (!error) {
        error = start(argv, to, from, &pid);
        close(from[1]);
        if (error) close(from[0]);
    }
    close(to[0]);
    if (error) {
        close(to[1]);
        return err_set(E(EXIT_USAGE, 0), "%s: cannot be started: %s", argv[0], strerror(error));
    }
    *out = xcalloc(1, sizeof **out);
    **out = (Child){pid, to[1], from[0]};
    return OK;
}
bool child_write(Child *c, const void *data, size_t bytes) {
    for (const char *p = data; bytes;) {
        const ssize_t n = write(c->in, p, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        p += n, bytes -= (size_t)n;
    }
    return true;
}
bool child_read(Child *c, void *data, size_t bytes) {
    for (char *p = data; bytes;) {
        const ssize_t n = read(c->out, p, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        p += n, bytes -= (size_t)n;
    }
    return true;
}
void child_close(Child *c) {
    if (!c) return;
    close(c->in), close(c->out);
    while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR) {}
    free(c);
}
