/* pth.c - the two containers of PyTorch's files, and their storages as tensors; see pth.h.
 *
 * Zip (torch 1.6 and later): PREFIX/data.pkl, PREFIX/data/KEY for each storage, PREFIX/byteorder, PREFIX/version.
 * Stream (before): five pickles - magic number, protocol 1001, a description of the machine, the objects, the
 * list of keys - and then for each key a count of elements (int64) and its elements.
 * Storages are loaded one at a time, when their first tensor is made, and dropped after the last; equal views of
 * one storage share their data. So the peak is the tensors plus one storage (zip) or plus the file (stream). */
#include "io/pth.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"
#include "io/pth_priv.h"

#define MAGIC "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" /* 0x1950a86a20f9469cfc6c, little-endian */
enum { PROTOCOL = 1001, MAGIC_BYTES = 10, VERSION_MAX = 10, COPIES_SLACK = 32 << 20 };
static const char REMEDY[] = "in PyTorch: torch.save(model.state_dict(), FILE)";

typedef struct Block {
    PthStorage s;
    uint64_t   bytes;
    const uint8_t *data;                /* stream: within the file; zip: owned, once loaded */
    uint8_t   *owned;
    int        uses;                    /* views still to be made */
    const PthView *last; void *last_data;   /* the tensor made last from it */
} Block;
typedef struct Reader {
    const IoBytes *src;
    Arena   *arena;                     /* of the pickle's nodes and of names */
    Block   *block; int n;              /* every storage that the pickle names, sorted by key */
    IoZip   *zip;                       /* NULL: stream */
    const char *prefix;                 /* zip: "archive/" */
    uint64_t copied, held;              /* bytes of tensors made; of data in the file, whatever the pickle says */
} Reader;

static Err damaged(const Reader *r, const char *kind, const char *name, size_t n,
                   const char *what) {
    char text[200];
    snprintf(text, sizeof text, "%.*s", (int)(n < sizeof text ? n : sizeof text - 1), name);
    return err_set(E(EXIT_MODEL, 58), "%s: %s %s: %s; the file is damaged or made to do harm",
                   r->src->name, kind, text, what);
}

/* ---- storages ------------------------------------------------------------------------------------ */
static int compare_keys(const void *a, const void *b) {
    const PthStorage *x = &((const Block *)a)->s, *y = &((const Block *)b)->s;
    const size_t n = x->n_key < y->n_key ? x->n_key : y->n_key;
    const int order = n ? memcmp(x->key, y->key, n) : 0;
    return order ? order : x->n_key < y->n_key ? -1 : x->n_key > y->n_key;
}
static Block *find_block(const Reader *r, const char *key, size_t n_key) {
    const Block wanted = {.s = {.key = key, .n_key = n_key}};
    return r->n ? bsearch(&wanted, r->block, (size_t)r->n, sizeof wanted, compare_keys) : NULL;
}
/* One block per key; what is said of a key must agree. */
static Err list_storages(Reader *r, const Pickle *p) {
    r->block = xcalloc((size_t)p->n_persistent + 1, sizeof *r->block);
    int n = 0;
    for (int i = 0; i < p->n_persistent; i++) n += pth_storage(p->persistent[i], &r->block[n].s);
    qsort(r->block, (size_t)n, sizeof *r->block, compare_keys);
    for (int i = 0; i < n; i++) {
        const PthStorage *s = &r->block[i].s, *before = r->n ? &r->block[r->n - 1].s : NULL;
        uint64_t bytes;
        if (before && !compare_keys(&r->block[i], &r->block[r->n - 1])) {
            if (before->element == s->element && before->dtype == s->dtype &&
                before->numel == s->numel)
                continue;
            return damaged(r, "storage", s->key, s->n_key, "is described in two ways");
        }
        if (__builtin_mul_overflow((uint64_t)s->numel, s->element, &bytes))
            return damaged(r, "storage", s->key, s->n_key, "its size overflows");
        r->block[r->n] = r->block[i];
        r->block[r->n++].bytes = bytes;
    }
    return OK;
}
static Err load_block(Reader *r, Block *b) {
    if (b->data) return OK;
    const PthStorage *s = &b->s;
    char *name =
        arena_printf(r->arena, "%sdata/%.*s", r->prefix, (int)s->n_key, s->n_key ? s->key : "");
    const int entry =
        r->zip && strlen(name) == strlen(r->prefix) + 5 + s->n_key ? io_zip_find(r->zip, name) : -1;
    if (entry < 0) return damaged(r, "storage", s->key, s->n_key, "is not in the file");
    if (io_zip_bytes(r->zip, entry) != b->bytes)
        return damaged(r, "storage", s->key, s->n_key, "has another size than the file says");
    void *data;
    TRY(block_alloc(&data, (size_t)b->bytes, r->src->name));
    b->data = b->owned = data;
    return io_zip_read(r->zip, entry, data);
}
static void drop_block(Block *b) {
    block_free(b->owned);
    if (b->owned) b->data = b->owned = NULL;
}

/* ---- tensors ------------------------------------------------------------------------------------- */
static bool is_contiguous(const PthView *v) {
    int64_t expected = 1;
    for (int d = v->rank - 1; d >= 0; d--) {
        if (v->shape.d[d] != 1 && v->stride[d] != expected) return false;
        expected *= v->shape.d[d];
    }
    return true;
}
/* dst: row-major. pth_view has shown that every element lies inside. */
static void gather(uint8_t *dst, const uint8_t *src, const PthView *v) {
    const size_t e = dtype_bytes(v->dtype);
    const int64_t n = shape_count(v->shape);
    int64_t index[RANK_MAX] = {0}, at = 0;
    if (n && is_contiguous(v)) {
        memcpy(dst, src, (size_t)n * e);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        memcpy(dst + (size_t)i * e, src + (size_t)at * e, e);
        for (int d = v->rank - 1; d >= 0; d--) {
            at += v->stride[d];
            if (++index[d] < v->shape.d[d]) break;
            at -= v->stride[d] * v->shape.d[d];
            index[d] = 0;
        }
    }
}
static bool same_view(const PthView *a, const PthView *b) {
    return a && a->dtype == b->dtype && a->at == b->at &&
           a->storage.view_at == b->storage.view_at && shape_equal(a->shape, b->shape) &&
           !memcmp(a->stride, b->stride, sizeof a->stride);
}
static Err add_tensor(Reader *r, TensorList *l, const char *name, const PthView *v) {
    Block *b = find_block(r, v->storage.key, v->storage.n_key);
    CHECK(b);                                            /* the view's storage is among the persistent ids */
    size_t bytes = 0;
    CHECK(shape_bytes(v->shape, v->dtype, &bytes));
    TRY(load_block(r, b));
    void *data = b->last_data;
    if (!same_view(b->last, v)) {
        if ((r->copied += bytes) > r->held + COPIES_SLACK)
            return damaged(
                r, "tensor", name, strlen(name),
                "its storage is shared so often that the tensors would be far larger than the file");
        data = arena_alloc(l->arena, bytes);
        gather(data,
               b->data + (size_t)v->storage.view_at * v->storage.element +
                   (size_t)v->at * dtype_bytes(v->dtype),
               v);
        b->last = v, b->last_data = data;
    }
    GROW(l->v, l->n, l->cap);
    l->v[l->n++] = (Tensor){arena_strdup(l->arena, name), v->dtype, v->shape, data};
    if (--b->uses == 0) drop_block(b);
    return OK;
}
/* Views of all that was found. Those of element types or ranks that are not known here are left out, aloud. */
static Err parse_views(Reader *r, const PthFound *found, PthView *view, bool *known) {
    int left_out = 0, first = 0;
    for (int i = 0; i < found->n; i++) {
        const char *name = found->v[i].name, *why;
        if (!pth_view(found->v[i].tensor, &view[i], &why))
            return damaged(r, "tensor", name, strlen(name), why);
        known[i] = view[i].dtype != DT_COUNT && view[i].rank <= RANK_MAX;
        if (known[i]) {
            Block *b = find_block(r, view[i].storage.key, view[i].storage.n_key);
            if (b) b->uses++;
        } else if (!left_out++) first = i;
    }
    if (left_out)
        log_warn(
            "%s: %d of %d tensors are left out: %s (%s, %d dimensions) and its like are not read here",
            r->src->name, left_out, found->n, found->v[first].name, view[first].type,
            view[first].rank);
    return left_out < found->n
               ? OK
               : err_set(
                     E(EXIT_MODEL, 58),
                     "%s: no tensor is of an element type that is read here; convert it to float32, %s",
                     r->src->name, REMEDY);
}
static Err make_tensors(Reader *r, const PthFound *found, TensorList *l) {
    PthView *view = xcalloc((size_t)found->n, sizeof *view);
    bool *known = xcalloc((size_t)found->n, sizeof *known);
    Err rc = parse_views(r, found, view, known);
    for (int i = 0; i < found->n && !rc; i++)
        if (known[i]) rc = add_tensor(r, l, found->v[i].name, &view[i]);
    free(view), free(known);
    return rc;
}
/* The objects are read: find the tensors among them and make them. */
static Err finish(Reader *r, PkNode *root, const char *format, SafeFile *out) {
    PthFound found;
    TRY(pth_search(r->src->name, root, r->arena, &found));
    TensorList *l = tensor_list_open();
    Err rc = make_tensors(r, &found, l);
    if (rc) tensor_list_close(l);
    else {
        MetaPair *meta = arena_alloc(l->arena, 2 * sizeof *meta);
        meta[0] = (MetaPair){"format", format};
        meta[1] = (MetaPair){"path", arena_strdup(l->arena, found.path)};
        *out = (SafeFile){l, meta, *found.path ? 2 : 1};
    }
    free(found.v);
    return rc;
}

/* ---- the zip format ------------------------------------------------------------------------------ */
static Err find_prefix(Reader *r, int *pickle) {
    int n = 0;
    for (int i = 0; i < io_zip_count(r->zip); i++) {
        const char *name = io_zip_name(r->zip, i), *slash = strchr(name, '/');
        if (strcmp(slash ? slash + 1 : name, "data.pkl")) continue;
        r->prefix = arena_printf(r->arena, "%.*s", slash ? (int)(slash - name) + 1 : 0, name);
        *pickle = i, n++;
    }
    if (n == 1 && io_zip_find(r->zip, arena_printf(r->arena, "%sconstants.pkl", r->prefix)) < 0)
        return OK;
    return err_set(E(EXIT_MODEL, 59), "%s: is %s; save its weights, %s", r->src->name,
                   n == 1 ? "a TorchScript program"
                          : "a zip archive, but not one of torch.save (it needs one data.pkl)",
                   REMEDY);
}
/* A small text of the archive, "" where it has none. */
static Err read_record(const Reader *r, const char *name, char text[16]) {
    const int entry = io_zip_find(r->zip, arena_printf(r->arena, "%s%s", r->prefix, name));
    memset(text, 0, 16);
    if (entry < 0) return OK;
    if (io_zip_bytes(r->zip, entry) >= 16)
        return damaged(r, "record", name, strlen(name), "is longer than any");
    return io_zip_read(r->zip, entry, text);
}
static Err check_records(const Reader *r) {
    char order[16], version[16];
    int64_t number = 0;
    TRY(read_record(r, "byteorder", order));
    TRY(read_record(r, "version", version));
    if (*order && strcmp(order, "little"))
        return err_set(
            E(EXIT_MODEL, 16),
            "%s: was written on a big-endian machine; save it again on a little-endian one",
            r->src->name);
    version[strcspn(version, "\n")] = 0;
    if (*version && (!parse_i64(version, &number) || number < 1 || number > VERSION_MAX))
        return err_set(
            E(EXIT_MODEL, 59),
            "%s: is of version %s of PyTorch's format, at most %d is read; save it with an older PyTorch",
            r->src->name, version, VERSION_MAX);
    return OK;
}
static Err read_zip(Reader *r, SafeFile *out) {
    int entry = -1;
    void *text = NULL;
    Pickle p;
    TRY(io_zip_open(r->src, &r->zip));
    TRY(find_prefix(r, &entry));
    TRY(check_records(r));
    for (int i = 0; i < io_zip_count(r->zip); i++) r->held += io_zip_bytes(r->zip, i);
    const uint64_t bytes = io_zip_bytes(r->zip, entry);
    TRY(block_alloc(&text, (size_t)bytes, r->src->name));
    Err rc = io_zip_read(r->zip, entry, text);
    if (!rc) rc = pickle_run(&(PkStream){text, (size_t)bytes, r->src->name, 0}, r->arena, &p);
    if (!rc) rc = list_storages(r, &p);
    if (!rc) rc = finish(r, p.root, "PyTorch, zip", out);
    block_free(text);
    return rc;
}

/* ---- the stream ---------------------------------------------------------------------------------- */
static Err next_pickle(const Reader *r, uint64_t *at, Pickle *out) {
    TRY(pickle_run(
        &(PkStream){r->src->data + *at, (size_t)(r->src->bytes - *at), r->src->name, *at}, r->arena,
        out));
    *at += out->bytes;
    return OK;
}
static Err check_machine(const Reader *r, uint64_t *at) {
    Pickle p;
    TRY(next_pickle(r, at, &p));
    if (p.root->kind != PK_LONG || p.root->n != MAGIC_BYTES ||
        memcmp(p.root->text, MAGIC, MAGIC_BYTES))
        return err_set(E(EXIT_MODEL, 59),
                       "%s: is a pickle, but not one of torch.save; save its weights, %s",
                       r->src->name, REMEDY);
    TRY(next_pickle(r, at, &p));
    if (p.root->kind != PK_INT || p.root->i != PROTOCOL)
        return err_set(E(EXIT_MODEL, 59), "%s: is of another protocol than 1001; save it again, %s",
                       r->src->name, REMEDY);
    TRY(next_pickle(r, at, &p));
    const PkNode *little = pickle_get(pickle_dict(p.root), "little_endian");
    if (!little || little->kind != PK_BOOL || !little->i)
        return err_set(
            E(EXIT_MODEL, 16),
            "%s: was written on a big-endian machine; save it again on a little-endian one",
            r->src->name);
    return OK;
}
/* The storages follow in the order of the keys. */
static Err place_storages(Reader *r, const PkNode *keys, uint64_t at) {
    if (keys->kind != PK_LIST) return damaged(r, "the list of storages", "", 0, "is none");
    for (uint32_t i = 0; i < keys->n; i++) {
        const PkNode *key = keys->item[i];
        Block *b = key->kind == PK_TEXT ? find_block(r, key->text, key->n) : NULL;
        int64_t numel = -1;
        if (!b || !b->s.element)
            return damaged(r, "storage", key->kind == PK_TEXT ? key->text : "",
                           key->kind == PK_TEXT ? key->n : 0, "nothing says what it holds");
        if (b->data) return damaged(r, "storage", key->text, key->n, "stands twice");
        if (r->src->bytes - at < sizeof numel)
            return damaged(r, "storage", key->text, key->n, "is cut short");
        memcpy(&numel, r->src->data + at, sizeof numel);
        at += sizeof numel;
        if (numel != b->s.numel)
            return damaged(r, "storage", key->text, key->n, "has another size than the file says");
        if (b->bytes > r->src->bytes - at)
            return damaged(r, "storage", key->text, key->n, "is cut short");
        b->data = r->src->data + at;
        at += b->bytes;
    }
    if (at == r->src->bytes) return OK;
    return err_set(E(EXIT_MODEL, 58),
                   "%s: %" PRIu64 " bytes follow the last storage; the file is damaged",
                   r->src->name, r->src->bytes - at);
}
static Err read_stream(Reader *r, SafeFile *out) {
    uint64_t at = 0;
    Pickle objects, keys;
    r->held = r->src->bytes;
    TRY(check_machine(r, &at));
    arena_reset(r->arena);
    TRY(next_pickle(r, &at, &objects));
    TRY(next_pickle(r, &at, &keys));
    TRY(list_storages(r, &objects));
    TRY(place_storages(r, keys.root, at));
    return finish(r, objects.root, "PyTorch, before 1.6", out);
}

/* ---- the front ----------------------------------------------------------------------------------- */
static bool is_zip(const uint8_t *head, size_t n) { return n >= 4 && !memcmp(head, "PK\3\4", 4); }

bool pth_is(const uint8_t *head, size_t n) {
    for (size_t i = 0; i + MAGIC_BYTES <= n && i < 20; i++)  /* behind the opcodes of any protocol */
        if (!memcmp(head + i, MAGIC, MAGIC_BYTES)) return true;
    return is_zip(head, n);
}
static Err read_whole(Reader *r, SafeFile *out) {
    Bytes file;
    TRY(sys_read_file(r->src->name, SIZE_MAX, EXIT_MODEL, &file));
    const IoBytes bytes = {r->src->name, file.data, file.bytes};
    r->src = &bytes;
    Err rc = read_stream(r, out);
    free(file.data);
    return rc;
}
Err pth_read(const IoBytes *src, SafeFile *out) {
    uint8_t head[4] = {0};
    *out = (SafeFile){0};
    if (src->bytes < sizeof head)
        return err_set(E(EXIT_MODEL, 59),
                       "%s: only %" PRIu64 " bytes, which is no file of weights; take another copy",
                       src->name, src->bytes);
    if (src->data) memcpy(head, src->data, sizeof head);
    else TRY(sys_read_at(src->name, 0, head, sizeof head, EXIT_MODEL));
    Reader r = {.src = src, .arena = arena_open(), .prefix = ""};
    Err rc = is_zip(head, sizeof head) ? read_zip(&r, out)
             : src->data               ? read_stream(&r, out)
                                       : read_whole(&r, out);
    for (int i = 0; i < r.n; i++) drop_block(&r.block[i]);
    free(r.block);
    io_zip_close(r.zip);
    arena_close(r.arena);
    return rc;
}
