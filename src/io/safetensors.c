/* safetensors.c - reading, verifying and writing safetensors files.
 *
 * st_read and st_verify fetch the header, check all of it, and only then the tensors one by one:
 * peak memory is the tensors' own, or that of a piece. st_parse does the same over bytes, for tests and fuzzing. */
#include "io/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/sys.h"
#include "io/safetensors_priv.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "files are little-endian and read as they are");

enum { PIECE_BYTES = 1 << 20 };      /* read at a time where a tensor as a whole is not needed */

/* Where the bytes come from: memory, a file that is being written, or else the file of that name. */
typedef struct {
    const char *name;
    const uint8_t *data;
    DurableFile *open;
    uint64_t bytes;
    int exit_code;
} Source;

static Err fetch(const Source *s, uint64_t offset, void *dst, size_t n) {
    if (s->open) return durable_read_at(s->open, offset, dst, n);
    if (!s->data) return sys_read_at(s->name, offset, dst, n, s->exit_code);
    CHECK(offset <= s->bytes && n <= s->bytes - offset);
    if (n) memcpy(dst, s->data + offset, n);
    return OK;
}

static Err check_length(const Source *s, uint64_t n) {
    uint64_t room = s->bytes - ST_LENGTH_BYTES;
    if (n > 1 && n <= room && n <= ST_HEADER_MAX) return OK;
    uint64_t swapped = __builtin_bswap64(n);
    if (swapped > 1 && swapped <= room && swapped <= ST_HEADER_MAX)
        return err_set(
            E(s->exit_code, 16),
            "%s: the header length is byte-swapped; write the file in little-endian order",
            s->name);
    const char *why = n <= room && n > 1 ? "more than the limit of 100 MB"
                      : n <= 1           ? "too small"
                                         : "more than the file holds";
    return err_set(E(s->exit_code, 50),
                   "%s: a header of %" PRIu64
                   " bytes is %s; the file is cut short, damaged or not a safetensors file",
                   s->name, n, why);
}

/* Fetch and parse the header; *data_at is where the data begin. */
static Err open_header(const Source *s, Arena *arena, StHeader *h, uint64_t *data_at) {
    uint64_t n;
    *h = (StHeader){0};
    if (s->bytes < ST_LENGTH_BYTES)
        return err_set(E(s->exit_code, 50),
                       "%s: only %" PRIu64
                       " bytes; the file is cut short or not a safetensors file",
                       s->name, s->bytes);
    TRY(fetch(s, 0, &n, sizeof n));
    TRY(check_length(s, n));
    char *text = xcalloc((size_t)n + 1, 1);
    Err rc = fetch(s, ST_LENGTH_BYTES, text, (size_t)n);
    *data_at = ST_LENGTH_BYTES + n;
    if (!rc)
        rc = st_header_parse(text, (size_t)n, s->bytes - *data_at, s->name, s->exit_code, arena, h);
    bool ours = !strncmp(text, ST_SIGNATURE, ST_DIGEST_AT) && h->has_digests;
    free(text);
    if (!rc && s->exit_code == EXIT_CHECKPOINT && !ours) {
        st_header_free(h);
        rc = err_set(
            E(EXIT_CHECKPOINT, 12),
            "%s: has no digests, so it is not a checkpoint of this program or it is damaged",
            s->name);
    }
    return rc;
}

static Err check_digest(const Source *s, const StEntry *e, Digest found) {
    if (!strcmp(found.hex, e->digest)) return OK;
    return err_set(
        E(s->exit_code, 12),
        "%s: tensor %s does not match its digest; the file is damaged, take another copy", s->name,
        e->name);
}

static Err read_source(const Source *s, bool tensors, SafeFile *out) {
    StHeader h;
    uint64_t data_at;
    TensorList *l = tensor_list_open();
    *out = (SafeFile){0};
    Err rc = open_header(s, l->arena, &h, &data_at);
    for (int i = 0; tensors && i < h.n && !rc; i++) {
        const StEntry *e = &h.entries[i];
        Tensor *t = tensor_add(l, e->name, e->dtype, e->shape);
        rc = fetch(s, data_at + e->begin, t->data, (size_t)(e->end - e->begin));
        if (!rc && e->digest)
            rc = check_digest(s, e, hash_digest(t->data, (size_t)(e->end - e->begin)));
    }
    if (rc) tensor_list_close(l);
    else *out = (SafeFile){l, h.meta, h.n_meta};
    st_header_free(&h);
    return rc;
}

Err st_parse(const uint8_t *data, size_t bytes, const char *name, int exit_code, SafeFile *out) {
    static const uint8_t nothing; /* so that empty input is not taken for "read the file" */
    return read_source(&(Source){name, data ? data : &nothing, NULL, bytes, exit_code}, true, out);
}

static Err read_file(const char *path, int exit_code, bool tensors, SafeFile *out) {
    Source s = {.name = path, .exit_code = exit_code};
    *out = (SafeFile){0};
    TRY(sys_file_size(path, exit_code, &s.bytes));
    return read_source(&s, tensors, out);
}

Err st_read(const char *path, int exit_code, SafeFile *out) {
    return read_file(path, exit_code, true, out);
}
Err st_read_meta(const char *path, int exit_code, SafeFile *out) {
    return read_file(path, exit_code, false, out);
}

/* Of so many bytes, read piece by piece. */
static Err digest_fetched(const Source *s, uint64_t offset, uint64_t bytes, Digest *out) {
    Hasher *h = hasher_open();
    uint8_t *piece = xcalloc(1, PIECE_BYTES);
    Err rc = OK;
    for (uint64_t at = 0, n; at < bytes && !rc; at += n) {
        n = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
        if (!(rc = fetch(s, offset + at, piece, (size_t)n))) hasher_add(h, piece, (size_t)n);
    }
    *out = hasher_close(h);
    free(piece);
    return rc;
}

Err st_verify(const char *path) {
    Source s = {.name = path, .exit_code = EXIT_CHECKPOINT};
    StHeader h;
    uint64_t data_at;
    TRY(sys_file_size(path, EXIT_CHECKPOINT, &s.bytes));
    Arena *arena = arena_open();
    Err rc = open_header(&s, arena, &h, &data_at);
    for (int i = 0; i < h.n && !rc; i++) {
        const StEntry *e = &h.entries[i];
        Digest found;
        rc = digest_fetched(&s, data_at + e->begin, e->end - e->begin, &found);
        if (!rc && e->digest) rc = check_digest(&s, e, found);
    }
    st_header_free(&h);
    arena_close(arena);
    return rc;
}

const char *st_meta(const SafeFile *f, const char *key) {
    for (int i = 0; i < f->n_meta; i++)
        if (!strcmp(f->meta[i].key, key)) return f->meta[i].value;
    return NULL;
}

void st_close(SafeFile *f) {
    tensor_list_close(f->tensors);
    *f = (SafeFile){0};
}

/* ---- writing --------------------------------------------------------------------------------- */
typedef struct {
    const Tensor *t;
    int i;
    size_t bytes;
    uint64_t begin;
    Digest digest;
} Placed;

static int compare_placed(const void *a, const void *b) {
    const Placed *x = a, *y = b;
    size_t p = dtype_bytes(x->t->dtype), q = dtype_bytes(y->t->dtype);
    return p != q ? (p > q ? -1 : 1) : x->i < y->i ? -1 : 1;
}
static int compare_given(const void *a, const void *b) {
    return ((const Placed *)a)->i < ((const Placed *)b)->i ? -1 : 1;
}

/* Give every tensor its place: widest elements first, so that all are aligned. Returns the sum. */
static uint64_t place(Placed *v, const Tensor *t, int n) {
    uint64_t at = 0;
    for (int i = 0; i < n; i++) {
        v[i] = (Placed){.t = &t[i], .i = i};
        CHECK(shape_bytes(t[i].shape, t[i].dtype, &v[i].bytes));
    }
    qsort(v, (size_t)n, sizeof *v, compare_placed);
    for (int i = 0; i < n; at += v[i++].bytes) v[i].begin = at;
    return at;
}

static void add_meta(Str *s, const Placed *given, int n, const MetaPair *meta, int n_meta) {
    Str digests = {0};
    str_addf(&digests, "{\"__header__\":\"%0*d\"", ST_DIGEST_CHARS, 0);
    for (int i = 0; i < n; i++) {
        str_add(&digests, ",");
        str_json(&digests, given[i].t->name);
        str_addf(&digests, ":\"%s\"", given[i].digest.hex);
    }
    str_add(&digests, "}");
    str_add(s, "{\"__metadata__\":{\"digests\":");
    str_json(s, digests.s);
    for (int i = 0; i < n_meta; i++) {
        if (!strcmp(meta[i].key, "digests")) continue;
        str_add(s, ",");
        str_json(s, meta[i].key);
        str_add(s, ":");
        str_json(s, meta[i].value);
    }
    str_add(s, "}");
    str_free(&digests);
}

/* The header with length and padding, ready to be written; its own digest last of all. */
static void make_header(Str *s, const Placed *given, int n, const MetaPair *meta, int n_meta) {
    add_meta(s, given, n, meta, n_meta);
    for (int i = 0; i < n; i++) {
        const Placed *p = &given[i];
        str_add(s, ",");
        str_json(s, p->t->name);
        str_addf(s, ":{\"dtype\":\"%s\",\"shape\":[", st_dtype_name(p->t->dtype));
        for (int d = 0; d < p->t->shape.rank; d++)
            str_addf(s, "%s%" PRId64, d ? "," : "", p->t->shape.d[d]);
        str_addf(s, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", p->begin, p->begin + p->bytes);
    }
    str_add(s, "}");
    while (s->n % 8) str_add(s, " ");
    CHECK(!strncmp(s->s, ST_SIGNATURE, ST_DIGEST_AT) && s->n <= ST_HEADER_MAX);
    memcpy(s->s + ST_DIGEST_AT, st_header_digest(s->s, s->n).hex, ST_DIGEST_CHARS);
}

static Err verify_written(const char *tmp) {
    return st_verify(tmp) ? err_wrap(E(EXIT_OUTPUT, 5), "what was written does not read back") : OK;
}

Err st_write(const char *path, const Tensor *t, int n, const MetaPair *meta, int n_meta) {
    Str header = {0};
    DurableFile *f = NULL;
    Placed *placed = xcalloc((size_t)n + 1, sizeof *placed);
    uint64_t data_bytes = place(placed, t, n);
    for (int i = 0; i < n; i++)
        placed[i].digest = hash_digest(placed[i].t->data, placed[i].bytes);
    qsort(placed, (size_t)n, sizeof *placed, compare_given);
    make_header(&header, placed, n, meta, n_meta);
    uint64_t length = header.n;
    Err rc = durable_open(path, ST_LENGTH_BYTES + length + data_bytes, &f);
    if (!rc) rc = durable_write(f, &length, sizeof length);
    if (!rc) rc = durable_write(f, header.s, header.n);
    qsort(placed, (size_t)n, sizeof *placed, compare_placed);
    for (int i = 0; i < n && !rc; i++) rc = durable_write(f, placed[i].t->data, placed[i].bytes);
    if (rc) durable_abort(f);
    else rc = durable_commit(f, verify_written);
    free(placed);
    str_free(&header);
    return rc;
}

/* ---- in pieces ------------------------------------------------------------------------------- */
struct StPieces {
    DurableFile *file;
    Tensor tensor;                   /* no data */
    Placed placed;
    uint64_t data_at;
};

Err st_create(const char *path, const char *name, Dtype dtype, Shape shape, StPieces **out) {
    Str header = {0};
    StPieces *f = xcalloc(1, sizeof *f);
    *out = NULL;
    f->tensor = (Tensor){name, dtype, shape, NULL};
    place(&f->placed, &f->tensor, 1);
    f->placed.digest = hash_digest(NULL, 0);     /* as long as the one to come */
    make_header(&header, &f->placed, 1, NULL, 0);
    f->data_at = ST_LENGTH_BYTES + header.n;
    str_free(&header);
    Err rc = durable_open(path, f->data_at + f->placed.bytes, &f->file);
    if (rc) st_abort(f);
    else *out = f;
    return rc;
}

Err st_put(StPieces *f, uint64_t offset, const void *data, size_t bytes) {
    CHECK(offset <= f->placed.bytes && bytes <= f->placed.bytes - offset);
    return durable_write_at(f->file, f->data_at + offset, data, bytes);
}

Err st_finish(StPieces *f) {
    Str header = {0};
    const Source written = {.open = f->file};
    Err rc = digest_fetched(&written, f->data_at, f->placed.bytes, &f->placed.digest);
    make_header(&header, &f->placed, 1, NULL, 0);
    const uint64_t length = header.n;
    CHECK(f->data_at == ST_LENGTH_BYTES + length);
    if (!rc) rc = durable_write_at(f->file, 0, &length, sizeof length);
    if (!rc) rc = durable_write_at(f->file, sizeof length, header.s, header.n);
    str_free(&header);
    if (rc) return st_abort(f), rc;
    rc = durable_commit(f->file, verify_written);
    free(f);
    return rc;
}

void st_abort(StPieces *f) {
    if (f) durable_abort(f->file);
    free(f);
}
