/* sys_file.c - reading files and folders, making and removing them.
 *
 * Files are opened with O_NONBLOCK so that a fifo cannot hang us, then refused by fstat unless they
 * are regular. Reads loop over EINTR and short counts (NFS). */
#include "base/sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/sys_priv.h"

/* Errors of paths we only read: ELOOP is a row of its own, everything else has no row. */
static Err input_error(int exit_code, const char *path, int error) {
    if (error == ELOOP)
        return err_set(E(exit_code, 45),
                       "%s: symbolic links go round in a circle; point them at a file", path);
    const char *advice = error == ENOENT   ? "check the path"
                         : error == EACCES ? "make it readable"
                                           : "check the disk and the path";
    return err_set(E(exit_code, 0), "%s: %s; %s", path, strerror(error), advice);
}

static const char *kind_name(mode_t mode) {
    return S_ISDIR(mode)    ? "a folder"
           : S_ISFIFO(mode) ? "a pipe (fifo)"
           : S_ISSOCK(mode) ? "a socket"
                            : "a device";
}

/* Open a regular file for reading; its size is as of now. */
static Err open_regular(const char *path, int exit_code, int *fd, uint64_t *bytes) {
    int f;
    do f = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    while (f < 0 && errno == EINTR);
    if (f < 0 && errno == ENXIO)
        return err_set(E(exit_code, 44), "%s: is a socket, not a file; give a regular file", path);
    if (f < 0) return input_error(exit_code, path, errno);
    struct stat st;
    Err rc = OK;
    if (fstat(f, &st)) rc = input_error(exit_code, path, errno);
    else if (!S_ISREG(st.st_mode))
        rc = err_set(E(exit_code, 44), "%s: is %s, not a file; give a regular file", path,
                     kind_name(st.st_mode));
    if (rc) {
        close(f);
        return rc;
    }
    *fd = f, *bytes = (uint64_t)st.st_size;
    return OK;
}

/* Read exactly `bytes` at offset; a file that ends before was changed under us. */
Err sys_read_fd(int fd, const char *path, uint64_t offset, void *dst, size_t bytes, int exit_code) {
    for (size_t done = 0; done < bytes;) {
        size_t want = bytes - done < 1u << 30 ? bytes - done : 1u << 30;
        ssize_t n = pread(fd, (uint8_t *)dst + done, want, (off_t)(offset + done));
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n < 0) return input_error(exit_code, path, errno);
        if (n == 0)
            return err_set(E(exit_code, 48),
                           "%s: ends at byte %" PRIu64
                           ", %zu more expected; it is cut short or was changed while being read",
                           path, offset + done, bytes - done);
        done += (size_t)n;
    }
    return OK;
}

Err sys_read_file(const char *path, size_t max_bytes, int exit_code, Bytes *out) {
    int fd;
    uint64_t size;
    *out = (Bytes){0};
    TRY(open_regular(path, exit_code, &fd, &size));
    Err rc = OK;
    uint8_t *data = NULL;
    if (size > max_bytes) {
        rc = err_set(E(exit_code, 0),
                     "%s: %" PRIu64 " bytes, more than the limit of %zu; use a smaller file", path,
                     size, max_bytes);
        goto done;
    }
    data = malloc((size_t)size + 1);
    if (!data) {
        rc = err_set(E(EXIT_LIMIT, 23), "%s: out of memory, %" PRIu64 " bytes wanted to read it",
                     path, size);
        goto done;
    }
    if ((rc = sys_read_fd(fd, path, 0, data, (size_t)size, exit_code))) goto done;
    data[size] = 0;                     /* a text can be used as a string */
    *out = (Bytes){data, (size_t)size}, data = NULL;
done:
    free(data);
    close(fd);
    return rc;
}

Err sys_read_at(const char *path, uint64_t offset, void *dst, size_t bytes, int exit_code) {
    int fd;
    uint64_t size;
    TRY(open_regular(path, exit_code, &fd, &size));
    Err rc = sys_read_fd(fd, path, offset, dst, bytes, exit_code);
    close(fd);
    return rc;
}

/* ---- a file that another file names ------------------------------------------------------------- */
static Err leaves_folder(int exit_code, const char *name, const char *why) {
    return err_set(E(exit_code, 46), "%s: %s; put the file itself beside the one that names it",
                   name, why);
}

/* Opens name beneath dir one path element at a time, so that no link is ever followed. */
static Err open_beneath(const char *dir, const char *name, int exit_code, int *out) {
    if (*name == '/')
        return leaves_folder(exit_code, name, "an absolute path in a file is not followed");
    int at = open(*dir ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (at < 0) return input_error(exit_code, dir, errno);
    char *path = xstrdup(name), *save = NULL;
    Err rc = OK;
    for (char *part = strtok_r(path, "/", &save); part && !rc; part = strtok_r(NULL, "/", &save)) {
        const bool last = !*save;
        int next = -1;
        if (!strcmp(part, ".."))
            rc = leaves_folder(exit_code, name, "the path leads out of its folder");
        else if ((next = openat(at, part,
                                O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY |
                                    (last ? 0 : O_DIRECTORY))) < 0)
            rc = errno == ELOOP || (errno == ENOTDIR && !last)
                     ? leaves_folder(exit_code, name, "a symbolic link is not followed")
                     : input_error(exit_code, name, errno);
        close(at);
        at = next;
    }
    free(path);
    if (!rc) *out = at;
    return rc;
}

Err sys_read_beneath(const char *dir, const char *name, uint64_t offset, size_t bytes,
                     int exit_code, void **out) {
    int fd = -1;
    struct stat st;
    void *data = NULL;
    TRY(open_beneath(dir, name, exit_code, &fd));
    Err rc = OK;
    if (fstat(fd, &st)) rc = input_error(exit_code, name, errno);
    else if (!S_ISREG(st.st_mode))
        rc = err_set(E(exit_code, 44), "%s: is %s, not a file; give a regular file", name,
                     kind_name(st.st_mode));
    else if (st.st_nlink > 1)
        rc = leaves_folder(exit_code, name, "a file of several hard links is not read");
    else if (offset > (uint64_t)st.st_size || bytes > (uint64_t)st.st_size - offset)
        rc = err_set(E(exit_code, 48),
                     "%s: has %lld bytes, %" PRIu64 " + %zu wanted; it is cut short", name,
                     (long long)st.st_size, offset, bytes);
    else if (!(data = malloc(bytes + 1)))
        rc = err_set(E(EXIT_LIMIT, 23), "%s: out of memory, %zu bytes wanted to read it", name,
                     bytes);
    if (!rc) rc = sys_read_fd(fd, name, offset, data, bytes, exit_code);
    close(fd);
    if (rc) free(data);
    else *out = data;
    return rc;
}

Err sys_file_size(const char *path, int exit_code, uint64_t *out) {
    int fd;
    TRY(open_regular(path, exit_code, &fd, out));
    close(fd);
    return OK;
}

bool sys_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

bool sys_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}
bool sys_is_link(const char *path) {
    struct stat st;
    return !lstat(path, &st) && S_ISLNK(st.st_mode);
}

Err sys_check_beneath(const char *root, const char *path, int exit_code) {
    char *base = realpath(root, NULL);
    if (!base) return input_error(exit_code, root, errno);
    char *real = realpath(path, NULL);
    size_t n = strlen(base);
    Err rc = OK;
    if (!real && errno == ELOOP) rc = input_error(exit_code, path, ELOOP);
    if (real && strcmp(base, "/") && (strncmp(real, base, n) || real[n] != '/'))
        rc = err_set(
            E(exit_code, 45),
            "%s: is a link to %s, outside of %s; copy the file, or set data.follow_links=true",
            path, real, base);
    free(real);
    free(base);
    return rc;
}

/* ---- writing side ---------------------------------------------------------------------------- */
Err sys_output_error(const char *path, int error) {
    switch (error) {
    case ENOSPC:
        return err_set(E(EXIT_OUTPUT, 3),
                       "%s: no space left on the disk; free some, or set out to another disk",
                       path);
    case EDQUOT:
        return err_set(E(EXIT_OUTPUT, 6),
                       "%s: the disk quota is used up; free some space or have it raised", path);
    case EFBIG:
        return err_set(E(EXIT_OUTPUT, 6),
                       "%s: the file size limit is reached; raise it (ulimit -f)", path);
    case EROFS:
    case EACCES:
    case EPERM:
        return err_set(E(EXIT_OUTPUT, 7), "%s: %s; choose a folder you may write to", path,
                       strerror(error));
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
    case EEXIST:
    case ENXIO:
        return err_set(E(EXIT_OUTPUT, 9), "%s: %s; choose another path", path, strerror(error));
    default:
        return err_set(E(EXIT_OUTPUT, 5), "%s: %s; check the disk and the path", path,
                       strerror(error));
    }
}

Err sys_mkdirs(const char *path) {
    char *part = xstrdup(path);
    Err rc = OK;
    size_t n = strlen(part);
    for (size_t i = 1; i <= n && !rc; i++) {
        if (part[i] != '/' && part[i] != 0) continue;
        part[i] = 0;
        if (mkdir(part, 0777) && errno != EEXIST && !sys_is_dir(part))
            rc = sys_output_error(part, errno == ENOENT ? EACCES : errno);
        if (i < n) part[i] = '/';
    }
    if (!rc && !sys_is_dir(path))
        rc =
            err_set(E(EXIT_OUTPUT, 9), "%s: exists and is not a folder; choose another path", path);
    free(part);
    return rc;
}

Err sys_remove(const char *path) {
    return remove(path) && errno != ENOENT ? sys_output_error(path, errno) : OK;
}

Err sys_rename(const char *from, const char *to) {
    return rename(from, to) ? sys_output_error(from, errno) : OK;
}

Err sys_truncate(const char *path, uint64_t bytes) {
    int rc;
    do rc = truncate(path, (off_t)bytes);
    while (rc && errno == EINTR);
    return rc ? sys_output_error(path, errno) : OK;
}

Err sys_probe_writable(const char *dir) {
    if (sys_exists(dir) && !sys_is_dir(dir))
        return err_set(E(EXIT_OUTPUT, 9), "%s: exists and is not a folder; choose another path",
                       dir);
    char *probe = xprintf("%s/.probe.tmp-%s-%d", dir, sys_hostname(), sys_pid());
    Err rc = OK;
    int fd = open(probe, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) {
        rc = sys_output_error(dir, errno);
    } else {
        if (write(fd, "probe", 5) != 5) rc = sys_output_error(dir, errno ? errno : ENOSPC);
        if (close(fd) && !rc) rc = sys_output_error(dir, errno);
        unlink(probe);
    }
    free(probe);
    return rc;
}

/* ---- folders --------------------------------------------------------------------------------- */
static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

Err sys_list(const char *dir, int exit_code, char ***names, int *n) {
    *names = NULL, *n = 0;
    DIR *d = opendir(dir);
    if (!d) return input_error(exit_code, dir, errno);
    char **v = NULL;
    int used = 0, cap = 0;
    errno = 0;
    for (struct dirent *e; (e = readdir(d)); errno = 0) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        GROW(v, used, cap);
        v[used++] = xstrdup(e->d_name);
    }
    int error = errno;
    closedir(d);
    if (error) {
        sys_free_names(v, used);
        return input_error(exit_code, dir, error);
    }
    if (used) qsort(v, (size_t)used, sizeof *v, compare_names);
    *names = v, *n = used;
    return OK;
}

Err sys_glob(const char *pattern, int exit_code, char ***paths, int *n) {
    glob_t g;
    *paths = NULL, *n = 0;
    const int rc = glob(pattern, GLOB_ERR | GLOB_NOSORT, NULL, &g);
    if (rc == GLOB_NOMATCH || (rc == GLOB_ABORTED && errno == ENOENT)) return OK;
    if (rc) return input_error(exit_code, pattern, rc == GLOB_NOSPACE ? ENOMEM : errno);
    *n = (int)g.gl_pathc;
    *paths = xcalloc(g.gl_pathc + 1, sizeof **paths);
    for (int i = 0; i < *n; i++) (*paths)[i] = xstrdup(g.gl_pathv[i]);
    globfree(&g);
    qsort(*paths, (size_t)*n, sizeof **paths, compare_names);
    return OK;
}

void sys_free_names(char **names, int n) {
    for (int i = 0; i < n; i++) free(names[i]);
    free(names);
}
