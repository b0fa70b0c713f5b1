/* zip.c - libzip behind the checks that it leaves to its caller; see zip.h.
 *
 * libzip itself refuses archives of several disks, sizes that lie, and (ZIP_CHECKCONS) local headers that
 * differ from the directory. Left to us: encryption, other methods than stored and deflate, names that
 * leave the folder, duplicates, ratios above 200 : 1 (and 2 : 1 over all, beyond 64 MB), and entries that overlap, which is told by their
 * sizes: together they would not fit into the file. It reads through `source`, so base/sys.h stays the only
 * place that opens files and the same code runs over bytes in memory. */
#include "io/zip.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

#include "base/mem.h"
#include "base/sys.h"

enum {
    ENTRIES_MAX = 65535,
    RATIO_MAX = 200,
    LOCAL_HEADER = 30,
    DIRECTORY_ENTRY = 46,
    SLACK = 32 << 20
};
struct IoZip {
    IoBytes     src;
    uint64_t    at;                     /* where the next read begins */
    zip_error_t source_error;
    zip_t      *zip;
    int         n;
    Err         read_error;             /* of base/sys.h, with its text still in place */
};

static Err refuse(const IoZip *z, int row, const char *entry, const char *what) {
    return err_set(E(EXIT_MODEL, row),
                   "%s: zip archive%s%s: %s; the file is damaged or made to do harm", z->src.name,
                   entry ? ", entry " : "", entry ? entry : "", what);
}

/* ---- the source of bytes ------------------------------------------------------------------------- */
static zip_int64_t source_read(IoZip *z, void *dst, zip_uint64_t n) {
    if (n > z->src.bytes - z->at) n = z->src.bytes - z->at;
    if (z->src.data) {
        if (n) memcpy(dst, z->src.data + z->at, (size_t)n);
    } else if ((z->read_error = sys_read_at(z->src.name, z->at, dst, (size_t)n, EXIT_MODEL))) {
        zip_error_set(&z->source_error, ZIP_ER_READ, 0);
        return -1;
    }
    z->at += n;
    return (zip_int64_t)n;
}
static zip_int64_t source(void *self, void *data, zip_uint64_t n, zip_source_cmd_t cmd) {
    IoZip *z = self;
    switch (cmd) {
    case ZIP_SOURCE_OPEN: z->at = 0; return 0;
    case ZIP_SOURCE_READ: return source_read(z, data, n);
    case ZIP_SOURCE_CLOSE:
    case ZIP_SOURCE_FREE: return 0;
    case ZIP_SOURCE_ERROR: return zip_error_to_data(&z->source_error, data, n);
    case ZIP_SOURCE_TELL: return (zip_int64_t)z->at;
    case ZIP_SOURCE_SEEK: {
        zip_int64_t at =
            zip_source_seek_compute_offset(z->at, z->src.bytes, data, n, &z->source_error);
        if (at < 0) return -1;
        z->at = (uint64_t)at;
        return 0;
    }
    case ZIP_SOURCE_STAT: {
        zip_stat_t *st = data;
        zip_stat_init(st);
        st->valid = ZIP_STAT_SIZE, st->size = z->src.bytes;
        return sizeof *st;
    }
    case ZIP_SOURCE_SUPPORTS:
        return zip_source_make_command_bitmap(
            ZIP_SOURCE_OPEN, ZIP_SOURCE_READ, ZIP_SOURCE_CLOSE, ZIP_SOURCE_STAT, ZIP_SOURCE_ERROR,
            ZIP_SOURCE_FREE, ZIP_SOURCE_SEEK, ZIP_SOURCE_TELL, ZIP_SOURCE_SUPPORTS, -1);
    default:
        zip_error_set(&z->source_error, ZIP_ER_OPNOTSUPP, 0);
        return -1;
    }
}

/* ---- checks before anything is read -------------------------------------------------------------- */
static bool leaves_the_folder(const char *name) {
    if (*name == '/' || *name == '\\' || !*name) return true;
    for (const char *p = name; p; p = strpbrk(p, "/\\"), p = p ? p + 1 : NULL)
        if (p[0] == '.' && p[1] == '.' && (!p[2] || p[2] == '/' || p[2] == '\\')) return true;
    return false;
}
static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static Err check_duplicates(const IoZip *z) {
    const char **names = xcalloc((size_t)z->n + 1, sizeof *names);
    Err rc = OK;
    for (int i = 0; i < z->n; i++) names[i] = io_zip_name(z, i);
    qsort(names, (size_t)z->n, sizeof *names, compare_names);
    for (int i = 1; i < z->n && !rc; i++)
        if (!strcmp(names[i - 1], names[i])) rc = refuse(z, 55, names[i], "stands twice");
    free(names);
    return rc;
}
static Err check_entry(const IoZip *z, const zip_stat_t *st) {
    const zip_uint64_t all = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE |
                             ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    if ((st->valid & all) != all) return refuse(z, 55, NULL, "an entry without name or size");
    if (leaves_the_folder(st->name)) return refuse(z, 46, st->name, "its name leaves the folder");
    if (st->encryption_method != ZIP_EM_NONE) return refuse(z, 55, st->name, "is encrypted");
    if (st->comp_method != ZIP_CM_STORE && st->comp_method != ZIP_CM_DEFLATE)
        return refuse(z, 55, st->name, "is compressed in a way that is not read here");
    if (st->comp_method == ZIP_CM_STORE && st->size != st->comp_size)
        return refuse(z, 55, st->name, "is stored, yet of two sizes");
    if (st->size / RATIO_MAX + (st->size % RATIO_MAX > 0) > st->comp_size)
        return refuse(z, 54, st->name, "would grow more than 200 times on inflating");
    return OK;
}
static Err check_entries(const IoZip *z) {
    uint64_t needed = 0, sum = 0;                        /* bytes of the file that the entries take up; inflated */
    for (int i = 0; i < z->n; i++) {
        zip_stat_t st;
        if (zip_stat_index(z->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW, &st))
            return refuse(z, 55, NULL, zip_strerror(z->zip));
        TRY(check_entry(z, &st));
        const uint64_t headers = LOCAL_HEADER + DIRECTORY_ENTRY + 2 * strlen(st.name);
        if (__builtin_add_overflow(needed, st.comp_size, &needed) ||
            __builtin_add_overflow(needed, headers, &needed) || needed > z->src.bytes)
            return refuse(z, 54, st.name, "entries overlap");
        if (__builtin_add_overflow(sum, st.size, &sum) || sum / 2 > z->src.bytes + SLACK)
            return refuse(z, 54, st.name, "all entries together would grow out of bounds");
    }
    return check_duplicates(z);
}

/* ---- opening and reading ------------------------------------------------------------------------- */
static Err open_archive(IoZip *z) {
    uint8_t first[4] = {0};
    zip_error_t error;
    if (z->src.bytes >= sizeof first && source_read(z, first, sizeof first) < 0)
        return z->read_error;
    if (memcmp(first, "PK\3\4", sizeof first))
        return refuse(z, 55, NULL, "something stands before its first entry");
    zip_error_init(&error);
    zip_source_t *s = zip_source_function_create(source, z, &error);
    z->zip = s ? zip_open_from_source(s, ZIP_RDONLY | ZIP_CHECKCONS, &error) : NULL;
    Err rc = OK;
    if (!z->zip) {
        rc = z->read_error ? z->read_error : refuse(z, 55, NULL, zip_error_strerror(&error));
        zip_source_free(s);
    }
    zip_error_fini(&error);
    if (rc) return rc;
    const zip_int64_t n = zip_get_num_entries(z->zip, 0);
    if (n < 0 || n > ENTRIES_MAX)
        return err_set(E(EXIT_LIMIT, 54),
                       "%s: zip archive of %" PRId64 " entries, at most 65,535 are read",
                       z->src.name, (int64_t)n);
    z->n = (int)n;
    return check_entries(z);
}
Err io_zip_open(const IoBytes *src, IoZip **out) {
    IoZip *z = xcalloc(1, sizeof *z);
    z->src = *src;
    zip_error_init(&z->source_error);
    Err rc = open_archive(z);
    if (rc) io_zip_close(z), z = NULL;
    *out = z;
    return rc;
}
void io_zip_close(IoZip *z) {
    if (!z) return;
    if (z->zip) zip_discard(z->zip);
    zip_error_fini(&z->source_error);
    free(z);
}

int io_zip_count(const IoZip *z) { return z->n; }
const char *io_zip_name(const IoZip *z, int entry) {
    return zip_get_name(z->zip, (zip_uint64_t)entry, ZIP_FL_ENC_RAW);
}
uint64_t io_zip_bytes(const IoZip *z, int entry) {
    zip_stat_t st;
    CHECK(!zip_stat_index(z->zip, (zip_uint64_t)entry, ZIP_FL_ENC_RAW, &st));
    return st.size;
}
int io_zip_find(const IoZip *z, const char *name) {
    return (int)zip_name_locate(z->zip, name, ZIP_FL_ENC_RAW);
}

/* The extra byte asked for at the end makes libzip meet the end of the entry and compare the checksum. */
Err io_zip_read(IoZip *z, int entry, void *dst) {
    const uint64_t bytes = io_zip_bytes(z, entry);
    uint64_t done = 0;
    uint8_t extra;
    Err rc = OK;
    zip_file_t *f = zip_fopen_index(z->zip, (zip_uint64_t)entry, 0);
    if (!f)
        return z->read_error ? z->read_error
                             : refuse(z, 55, io_zip_name(z, entry), zip_strerror(z->zip));
    while (done < bytes) {
        const zip_int64_t n = zip_fread(f, (uint8_t *)dst + done, bytes - done);
        if (n <= 0) break;
        done += (uint64_t)n;
    }
    if (done != bytes || zip_fread(f, &extra, 1) != 0)
        rc = z->read_error ? z->read_error
                           : refuse(z, 55, io_zip_name(z, entry), zip_file_strerror(f));
    zip_fclose(f);
    return rc;
}
