/* tempdir.h - a folder for one test, removed when its process ends. */
#ifndef RETORT_TESTS_TEMPDIR_H
#define RETORT_TESTS_TEMPDIR_H
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char temp_root[64];
static pid_t temp_owner;
static int temp_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}
static void temp_remove(void) {
    if (getpid() == temp_owner) nftw(temp_root, temp_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
/* Path of `name` in the folder; one of eight buffers in turn. */
static inline const char *temp_path(const char *name) {
    static char path[8][512];
    static unsigned next;
    if (!temp_root[0]) {
        snprintf(temp_root, sizeof temp_root, "/tmp/retort-test-XXXXXX");
        if (!mkdtemp(temp_root)) perror("mkdtemp"), exit(1);
        temp_owner = getpid();
        atexit(temp_remove);
    }
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "%s%s%.400s", temp_root, *name ? "/" : "", name);
    return p;
}
#endif
