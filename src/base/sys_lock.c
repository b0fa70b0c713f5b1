/* sys_lock.c - the lock of a run folder, who holds it, and how to ask the holder to end.
 *
 * The request is a file, DIR/.stop, not a signal: a process number may have been given anew, belongs
 * to another user, or means nothing on another host or in another container. Who may write into the
 * folder may ask. It is looked for where signals are looked for, at most every POLL_NS. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/sys_priv.h"

static const uint64_t POLL_NS = 100000000;
enum { BUSY_TRIES = 5 };             /* lock_look holds a lock for a moment: a start must not fail by it */
static const double BUSY_S = 0.02;

struct DirLock {
    int fd;
    char *stop;                      /* path of the request */
    struct DirLock *next;
};
/* The locks of this process, which its polls for signals must look after. */
static struct {
    pthread_mutex_t mutex;
    DirLock *first;
} mine = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* ---- the text of a lock: "PID HOST BOOT" ----------------------------------------------------- */
/* The boot id tells a live process from one whose number was given anew. */
static void boot_id(char out[64]) {
    out[0] = 0;
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (f && !fgets(out, 64, f)) out[0] = 0;
    if (f) fclose(f);
    out[strcspn(out, "\n")] = 0;
}

static void read_holder(int fd, LockHolder *out, char boot[64]) {
    char text[512];
    ssize_t got = pread(fd, text, sizeof text - 1, 0);
    text[got > 0 ? got : 0] = 0;
    out->pid = 0, boot[0] = 0;
    strcpy(out->host, "an unknown host");
    if (sscanf(text, "%d %255s %63s", &out->pid, out->host, boot) < 1) out->pid = 0;
}

/* Where flock does not work (some network file systems) the text of the lock file decides. */
static bool holder_alive(const LockHolder *h, const char *boot) {
    char ours[64];
    if (h->pid <= 0 || !*boot) return false;
    boot_id(ours);
    if (strcmp(h->host, sys_hostname())) return true;     /* cannot know: the careful answer */
    return !strcmp(boot, ours) && h->pid != sys_pid() && (!kill(h->pid, 0) || errno == EPERM);
}

/* Lock fd if it is free. Is it held by another? */
static bool is_held(int fd, int how, LockHolder *out) {
    char boot[64];
    int busy;
    read_holder(fd, out, boot);
    do busy = flock(fd, how | LOCK_NB);
    while (busy && errno == EINTR);
    return busy && (errno == EWOULDBLOCK || holder_alive(out, boot));
}

/* ---- taking it ------------------------------------------------------------------------------- */
static void watch(DirLock *l) {
    pthread_mutex_lock(&mine.mutex);
    l->next = mine.first, mine.first = l;
    pthread_mutex_unlock(&mine.mutex);
}

static void unwatch(DirLock *l) {
    pthread_mutex_lock(&mine.mutex);
    for (DirLock **p = &mine.first; *p; p = &(*p)->next)
        if (*p == l) {
            *p = l->next;
            break;
        }
    pthread_mutex_unlock(&mine.mutex);
}

Err lock_open(const char *dir, DirLock **out) {
    *out = NULL;
    LockHolder other;
    char *path = path_join(dir, ".lock"), text[512], boot[64];
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666),
        error = errno;
    free(path);
    if (fd < 0) return sys_output_error(dir, error);
    bool busy = is_held(fd, LOCK_EX, &other);
    for (int i = 0; i < BUSY_TRIES && busy; i++)
        sys_sleep(BUSY_S), busy = is_held(fd, LOCK_EX, &other);
    if (busy) {
        close(fd);
        return err_set(
            E(EXIT_USAGE, 10),
            "%s: in use by process %d on %s; wait for it, stop it (retort stop %s), or choose another out=",
            dir, other.pid, other.host, dir);
    }
    boot_id(boot);
    snprintf(text, sizeof text, "%d %s %s\n", sys_pid(), sys_hostname(), boot);
    if (ftruncate(fd, 0) || pwrite(fd, text, strlen(text), 0) < 0) {
        error = errno;
        close(fd);
        return sys_output_error(dir, error);
    }
    DirLock *l = *out = xcalloc(1, sizeof *l);
    *l = (DirLock){.fd = fd, .stop = path_join(dir, ".stop")};
    unlink(l->stop);                    /* it was meant for whoever held the lock before */
    watch(l);
    return OK;
}

void lock_close(DirLock *l) {
    if (!l) return;
    unwatch(l);
    unlink(l->stop);
    if (ftruncate(l->fd, 0)) {}         /* the text is a courtesy; closing is what releases */
    close(l->fd);
    free(l->stop);
    free(l);
}

/* ---- asking ---------------------------------------------------------------------------------- */
bool sys_any_stop_asked(void) {
    static _Atomic uint64_t looked_at;
    const uint64_t now = sys_now_ns();
    bool asked = false;
    if (now - atomic_load(&looked_at) < POLL_NS) return false;
    atomic_store(&looked_at, now);
    pthread_mutex_lock(&mine.mutex);
    for (const DirLock *l = mine.first; l && !asked; l = l->next) asked = sys_exists(l->stop);
    pthread_mutex_unlock(&mine.mutex);
    return asked;
}

Err lock_look(const char *dir, LockHolder *out) {
    char *path = path_join(dir, ".lock");
    *out = (LockHolder){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), error = errno;
    Err rc = fd >= 0 || error == ENOENT
                 ? OK
                 : err_set(E(EXIT_USAGE, 0), "%s: %s", path, strerror(error));
    free(path);
    if (fd < 0) return rc;
    out->held = is_held(fd, LOCK_SH, out);
    close(fd);
    return OK;
}

Err lock_ask_stop(const char *dir) {
    char *path = path_join(dir, ".stop");
    Err rc = durable_write_all(path, "", 0);
    free(path);
    return rc;
}
