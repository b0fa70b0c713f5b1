/* sys_durable.c - the one writer of durable files, and append-only text.
 *
 * Commit order: write PATH.tmp-HOST-PID, fsync, drop it from the page cache, verify by reading it
 * back, rename over PATH, fsync the folder. A crash at any point leaves the old PATH or the new one,
 * never a mixture. After a failed write, fsync or close the file counts as lost: the kernel may have
 * dropped the dirty pages, so a second fsync would lie. It is unlinked and never retried. */
#include "base/sys.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/sys_priv.h"

struct DurableFile {
    int      fd;
    char    *path, *tmp;                /* path: links resolved */
    uint64_t written, reserved;
    Err      err;                       /* the first failure; sticky */
};

static atomic_int n_open;               /* of this process: durable_sweep must not touch these */

enum { AT_END = -1 };

/* All bytes, at an offset or at the file's end; the errno. */
static Err write_fully(int fd, int64_t offset, const void *data, size_t bytes) {
    for (const uint8_t *p = data; bytes;) {
        const size_t want = bytes < 1u << 30 ? bytes : 1u << 30;
        const ssize_t n = offset == AT_END ? write(fd, p, want) : pwrite(fd, p, want, (off_t)offset);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n < 0) return errno;
        p += n, bytes -= (size_t)n, offset += offset == AT_END ? 0 : n;
    }
    return OK;
}

/* The errno as E6xxx; a full disk also says how much was needed and is free. */
static Err durable_error(DurableFile *f, int error, uint64_t wanted) {
    struct statvfs vfs;
    if (error != ENOSPC || statvfs(f->tmp, &vfs)) return f->err = sys_output_error(f->path, error);
    uint64_t left = (uint64_t)vfs.f_bavail * vfs.f_frsize,
             need = f->reserved > f->written + wanted ? f->reserved : f->written + wanted;
    return f->err = err_set(E(EXIT_OUTPUT, 3),
                            "%s: no space left on the disk, %" PRIu64 " bytes needed, %" PRIu64
                            " free; free some, or set out to another disk",
                            f->path, need, left);
}

static Err durable_free(DurableFile *f, bool unlink_tmp) {
    Err rc = f->err;
    if (f->fd >= 0) close(f->fd);
    if (unlink_tmp) unlink(f->tmp);
    free(f->path);
    free(f->tmp);
    free(f);
    atomic_fetch_sub(&n_open, 1);
    return rc;
}

/* The file `path` stands for: links are followed so that the target is replaced, not the link.
 * Anything there that is not a regular file is refused. Returns (caller frees) in *out. */
static Err durable_target(const char *path, char **out) {
    struct stat st;
    *out = NULL;
    if (lstat(path, &st)) {
        if (errno != ENOENT) return sys_output_error(path, errno);
        *out = xstrdup(path);
        return OK;
    }
    if (stat(path, &st))
        return err_set(E(EXIT_OUTPUT, 9),
                       "%s: is a dangling link; remove it or choose another path", path);
    if (!S_ISREG(st.st_mode))
        return err_set(E(EXIT_OUTPUT, 9),
                       "%s: exists and is not a regular file; choose another path", path);
    if (!(*out = realpath(path, NULL))) return sys_output_error(path, errno);
    return OK;
}

Err durable_open(const char *path, uint64_t expected_bytes, DurableFile **out) {
    *out = NULL;
    char *target;
    TRY(durable_target(path, &target));
    DurableFile *f = xcalloc(1, sizeof *f);
    *f = (DurableFile){.fd = -1, .path = target, .tmp = xprintf("%s.tmp-%s-%d", target, sys_hostname(), sys_pid())};
    atomic_fetch_add(&n_open, 1);
    unlink(f->tmp);                     /* left by an earlier process that had our number */
    f->fd = open(f->tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (f->fd < 0) {
        f->err =
            errno == ENOENT
                ? err_set(E(EXIT_OUTPUT, 9),
                          "%s: its folder does not exist; create it or choose another path", path)
                : sys_output_error(path, errno);
        return durable_free(f, false);
    }
    f->reserved = expected_bytes;
    int error = 0;
    if (expected_bytes)
        while (fallocate(f->fd, 0, 0, (off_t)expected_bytes)) {
            if (errno == EINTR) continue;
            error = errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL ? 0 : errno;   /* some file systems cannot */
            break;
        }
    if (error) {
        durable_error(f, error, expected_bytes);
        return durable_free(f, true);
    }
    *out = f;
    return OK;
}

Err durable_write_at(DurableFile *f, uint64_t offset, const void *data, size_t bytes) {
    if (f->err) return f->err;
    int error = write_fully(f->fd, (int64_t)offset, data, bytes);
    if (error) return durable_error(f, error, bytes);
    if (f->written < offset + bytes) f->written = offset + bytes;
    return OK;
}

Err durable_write(DurableFile *f, const void *data, size_t bytes) {
    return durable_write_at(f, f->written, data, bytes);
}

Err durable_read_at(DurableFile *f, uint64_t offset, void *data, size_t bytes) {
    if (!f->err) f->err = sys_read_fd(f->fd, f->tmp, offset, data, bytes, EXIT_OUTPUT);
    return f->err;
}

/* fsync the folder that holds path, so that the rename itself is on the disk. */
static Err sync_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    char *dir = slash == path ? xstrdup("/")
                : slash       ? xprintf("%.*s", (int)(slash - path), path)
                              : xstrdup(".");
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error = fd < 0 ? errno : 0;
    if (fd >= 0 && fsync(fd) && errno != EINVAL) error = errno;    /* EINVAL: this file system needs none */
    if (fd >= 0) close(fd);
    Err rc = error ? sys_output_error(dir, error) : OK;
    free(dir);
    return rc;
}

Err durable_commit(DurableFile *f, Err (*verify)(const char *tmp_path)) {
    if (!f->err && f->reserved > f->written && ftruncate(f->fd, (off_t)f->written))
        durable_error(f, errno, 0);
    if (!f->err && fsync(f->fd)) durable_error(f, errno, 0);
    if (!f->err) posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED);  /* verify what the disk has, as far as we can */
    int fd = f->fd;
    f->fd = -1;
    if (close(fd) && errno != EINTR && !f->err) durable_error(f, errno, 0);
    if (!f->err && verify) f->err = verify(f->tmp);
    if (!f->err && rename(f->tmp, f->path)) durable_error(f, errno, 0);
    if (f->err) return durable_free(f, true);
    f->err = sync_folder(f->path);
    return durable_free(f, false);
}

void durable_abort(DurableFile *f) {
    if (f) durable_free(f, true);
}

Err durable_write_all(const char *path, const void *data, size_t bytes) {
    DurableFile *f;
    TRY(durable_open(path, bytes, &f));
    durable_write(f, data, bytes);      /* a failure is kept in f and returned by the commit */
    return durable_commit(f, NULL);
}

/* Is NAME's writer gone? NAME ends in .tmp-HOST-PID. Of other hosts we cannot know; a file of theirs
 * that nobody wrote to for an hour is taken for left over. */
static bool is_stale_tmp(const char *dir, const char *name) {
    enum { FOREIGN_AGE_S = 3600 };
    const char *mark = NULL, *dash = strrchr(name, '-');
    for (const char *p = name; (p = strstr(p, ".tmp-")); p++) mark = p;
    if (!mark || dash < mark + 5) return false;
    int64_t pid;
    if (!isdigit((unsigned char)dash[1]) || !parse_i64(dash + 1, &pid) || pid <= 0 ||
        pid > INT32_MAX)
        return false;
    size_t host = (size_t)(dash - (mark + 5));
    if (host == strlen(sys_hostname()) && !memcmp(mark + 5, sys_hostname(), host)) {
        if (pid == sys_pid()) return atomic_load(&n_open) == 0;
        return kill((pid_t)pid, 0) && errno == ESRCH;
    }
    char *path = path_join(dir, name);
    struct stat st;
    bool stale =
        !lstat(path, &st) && S_ISREG(st.st_mode) && time(NULL) - st.st_mtime > FOREIGN_AGE_S;
    free(path);
    return stale;
}

void durable_sweep(const char *dir) {
    char **names;
    int n;
    if (sys_list(dir, EXIT_OUTPUT, &names, &n)) return;
    for (int i = 0; i < n; i++) {
        if (!is_stale_tmp(dir, names[i])) continue;
        char *path = path_join(dir, names[i]);
        unlink(path);
        free(path);
    }
    sys_free_names(names, n);
}

/* ---- append-only text ------------------------------------------------------------------------ */
struct Appender {
    int      fd;
    char    *path;
    uint64_t bytes;
    bool     torn;                      /* the file ends within a line: begin the next with a newline */
    bool     reported;                  /* the caller knows of a failure */
};

Err append_open(const char *path, Appender **out) {
    *out = NULL;
    int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
    if (fd < 0) return sys_output_error(path, errno);
    struct stat st;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        close(fd);
        return err_set(E(EXIT_OUTPUT, 9),
                       "%s: exists and is not a regular file; choose another path", path);
    }
    char last = '\n';
    if (st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) != 1) last = '\n';
    Appender *a = xcalloc(1, sizeof *a);
    *a = (Appender){.fd = fd, .path = xstrdup(path), .bytes = (uint64_t)st.st_size, .torn = last != '\n'};
    *out = a;
    return OK;
}

Err append_line(Appender *a, const char *line) {
    Str s = {0};
    str_addf(&s, "%s%s\n", a->torn ? "\n" : "", line);
    int error = write_fully(a->fd, AT_END, s.s, s.n);
    off_t end = lseek(a->fd, 0, SEEK_END);
    uint64_t before = a->bytes;
    if (end >= 0) a->bytes = (uint64_t)end;
    a->torn = error ? a->torn || a->bytes != before : false;
    str_free(&s);
    if (!error || a->reported) return OK;
    a->reported = true;
    sys_output_error(a->path, error);
    return err_wrap(E(EXIT_OUTPUT, 4), "lines are missing from here on");
}

Err append_data(Appender *a, const void *data, size_t bytes) {
    const int error = write_fully(a->fd, AT_END, data, bytes);
    const off_t end = lseek(a->fd, 0, SEEK_END);
    if (end >= 0) a->bytes = (uint64_t)end;
    return error ? sys_output_error(a->path, error) : OK;
}

uint64_t append_bytes(const Appender *a) { return a->bytes; }

Err append_sync(Appender *a) { return fsync(a->fd) ? sys_output_error(a->path, errno) : OK; }

void append_close(Appender *a) {
    if (!a) return;
    close(a->fd);
    free(a->path);
    free(a);
}
