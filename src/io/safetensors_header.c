/* safetensors_header.c - the header of a safetensors file: a JSON object of known form.
 *
 * The grammar is written out instead of using a JSON library: it nests three deep by construction,
 * names are kept in a hash table (no file costs the square of its tensors), and every number is an
 * unsigned integer, so that 1e30, -1 and 2.5 are refused where they stand. TENSORS_MAX bounds what is
 * made of a header: five times its size. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "io/safetensors_priv.h"

enum { TENSORS_MAX = 1 << 18 };
typedef struct {
    const char *p, *begin, *end; /* *end is NUL */
    const char *file;
    int exit_code;
    Arena *arena; /* of the strings */
} Parser;

static const char *const dtype_names[] = {
    [DT_F32] = "F32", [DT_BF16] = "BF16", [DT_F16] = "F16", [DT_F64] = "F64",   [DT_I32] = "I32",
    [DT_I64] = "I64", [DT_U8] = "U8",     [DT_I8] = "I8",   [DT_BOOL] = "BOOL",
};
_Static_assert(sizeof dtype_names / sizeof *dtype_names == DT_COUNT, "one name per element type");
const char *st_dtype_name(Dtype t) {
    return dtype_names[t];
}

/* ---- a set of names -------------------------------------------------------------------------- */
typedef struct {
    const char **name;
    int *value;
    size_t n, cap;
} NameSet; /* open addressing, cap a power of two */

static size_t name_slot(const NameSet *s, const char *name) {
    size_t i = hash_name(name) & (s->cap - 1);
    while (s->name[i] && strcmp(s->name[i], name)) i = (i + 1) & (s->cap - 1);
    return i;
}

static void names_grow(NameSet *s) {
    NameSet old = *s;
    s->cap = old.cap ? 2 * old.cap : 64;
    s->name = xcalloc(s->cap, sizeof *s->name);
    s->value = xcalloc(s->cap, sizeof *s->value);
    for (size_t i = 0; i < old.cap; i++)
        if (old.name[i]) {
            size_t at = name_slot(s, old.name[i]);
            s->name[at] = old.name[i], s->value[at] = old.value[i];
        }
    free(old.name);
    free(old.value);
}

/* False when the name is there already. Borrows name. */
static bool names_add(NameSet *s, const char *name, int value) {
    if (2 * (s->n + 1) > s->cap) names_grow(s);
    size_t i = name_slot(s, name);
    if (s->name[i]) return false;
    s->name[i] = name, s->value[i] = value, s->n++;
    return true;
}

static int names_find(const NameSet *s, const char *name) {
    if (!s->cap) return -1;
    size_t i = name_slot(s, name);
    return s->name[i] ? s->value[i] : -1;
}

static void names_free(NameSet *s) {
    free(s->name);
    free(s->value);
    *s = (NameSet){0};
}

/* ---- tokens ---------------------------------------------------------------------------------- */
static Err syntax_error(const Parser *q, const char *what) {
    return err_set(E(q->exit_code, 52),
                   "%s: header byte %td: %s; the file is damaged or not a safetensors file",
                   q->file, q->p - q->begin, what);
}

static void skip_blanks(Parser *q) {
    while (q->p < q->end && (*q->p == ' ' || *q->p == '\n' || *q->p == '\t' || *q->p == '\r'))
        q->p++;
}

static bool accept(Parser *q, char c) {
    skip_blanks(q);
    if (q->p >= q->end || *q->p != c) return false;
    q->p++;
    return true;
}

static Err expect(Parser *q, char c) {
    char what[] = "'?' expected";
    what[1] = c;
    return accept(q, c) ? OK : syntax_error(q, what);
}

/* The four digits of \uXXXX. */
static bool hex4(Parser *q, uint32_t *out) {
    if (q->end - q->p < 4) return false;
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = *q->p++;
        const char *digits = "0123456789abcdef",
                   *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c) : NULL;
        if (!at) return false;
        *out = *out * 16 + (uint32_t)(at - digits);
    }
    return true;
}

static char *put_utf8(char *dst, uint32_t c) {
    static const uint32_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    *dst++ = (char)(lead[more] | (c >> (6 * more)));
    while (more-- > 0) *dst++ = (char)(0x80 | ((c >> (6 * more)) & 0x3f));
    return dst;
}

/* What follows a backslash, decoded to *dst. NUL and lone surrogates have no place in a string. */
static Err read_escape(Parser *q, char **dst) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    uint32_t c, low;
    char e = *q->p++;
    const char *at = e ? strchr(from, e) : NULL;
    if (at) {
        *(*dst)++ = to[at - from];
        return OK;
    }
    if (e != 'u' || !hex4(q, &c) || c == 0) return syntax_error(q, "bad escape in a string");
    if (c >= 0xd800 && c < 0xe000) {
        bool pair = c < 0xdc00 && q->end - q->p >= 6 && q->p[0] == '\\' && q->p[1] == 'u';
        q->p += pair ? 2 : 0;
        if (!pair || !hex4(q, &low) || low < 0xdc00 || low > 0xdfff)
            return syntax_error(q, "half a surrogate pair in a string");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    *dst = put_utf8(*dst, c);
    return OK;
}

static Err read_string(Parser *q, const char **out) {
    TRY(expect(q, '"'));
    const char *close = q->p; /* the decoded text is never longer than its source */
    while (close < q->end && *close != '"') close += *close == '\\' ? 2 : 1;
    if (close >= q->end) return syntax_error(q, "string without end");
    char *dst = arena_alloc(q->arena, (size_t)(close - q->p) + 1);
    *out = dst;
    while (q->p < close) {
        uint32_t c;
        int n = str_utf8_next(q->p, &c);
        if (n == 0) return syntax_error(q, "a string is not UTF-8");
        if (c < 0x20) return syntax_error(q, "control character in a string");
        if (c == '\\') {
            q->p++;
            TRY(read_escape(q, &dst));
        } else {
            memcpy(dst, q->p, (size_t)n);
            dst += n, q->p += n;
        }
    }
    q->p = close + 1;
    return OK;
}

/* An unsigned decimal number; false for anything else, or above 2^63 - 1. */
static bool read_u63(Parser *q, uint64_t *out) {
    skip_blanks(q);
    const char *start = q->p;
    uint64_t v = 0;
    for (; q->p < q->end && *q->p >= '0' && *q->p <= '9'; q->p++) {
        if (v > (INT64_MAX - (uint64_t)(*q->p - '0')) / 10) return false;
        v = v * 10 + (uint64_t)(*q->p - '0');
    }
    *out = v;
    return q->p > start && !(*start == '0' && q->p > start + 1) &&
           !(q->p < q->end && strchr(".eE+-", *q->p));
}

/* ---- the parts of the header ----------------------------------------------------------------- */
static Err tensor_error(const Parser *q, const char *tensor, const char *what) {
    return err_set(E(q->exit_code, 51), "%s: tensor %s: %s; the file is damaged or made to do harm",
                   q->file, tensor, what);
}

/* [n, ...] with at most `max` numbers. */
static Err read_numbers(Parser *q, const char *tensor, const char *what, uint64_t *v, int max,
                        int *n) {
    *n = 0;
    TRY(expect(q, '['));
    if (accept(q, ']')) return OK;
    do {
        if (*n == max)
            return err_set(E(q->exit_code, 51),
                           "%s: tensor %s: %s has more than %d numbers; only so many are supported",
                           q->file, tensor, what, max);
        if (!read_u63(q, &v[*n]))
            return err_set(E(q->exit_code, 51),
                           "%s: tensor %s: %s holds something that is not a whole number from 0 to "
                           "2^63 - 1; the file is damaged",
                           q->file, tensor, what);
        ++*n;
    } while (accept(q, ','));
    return expect(q, ']');
}

static Err read_dtype(Parser *q, StEntry *e) {
    const char *s;
    TRY(read_string(q, &s));
    for (int t = 0; t < DT_COUNT; t++)
        if (!strcmp(s, dtype_names[t])) return e->dtype = (Dtype)t, OK;
    return err_set(E(q->exit_code, 51),
                   "%s: tensor %s: element type %s is not supported; convert it to F32", q->file,
                   e->name, s);
}

/* {"dtype":"F32","shape":[2,3],"data_offsets":[0,24]} in any order, each once, nothing else. */
static Err read_entry(Parser *q, StEntry *e) {
    enum { DTYPE = 1, SHAPE_KEY = 2, OFFSETS = 4, ALL = 7 };
    unsigned seen = 0;
    TRY(expect(q, '{'));
    do {
        const char *key;
        uint64_t v[RANK_MAX];
        int n = 0;
        TRY(read_string(q, &key));
        TRY(expect(q, ':'));
        unsigned bit = !strcmp(key, "dtype")          ? DTYPE
                       : !strcmp(key, "shape")        ? SHAPE_KEY
                       : !strcmp(key, "data_offsets") ? OFFSETS
                                                      : 0;
        if (!bit || (seen & bit))
            return syntax_error(q, bit ? "a key stands twice" : "unknown key in a tensor's entry");
        seen |= bit;
        if (bit == DTYPE) TRY(read_dtype(q, e));
        if (bit == SHAPE_KEY) {
            TRY(read_numbers(q, e->name, "shape", v, RANK_MAX, &n));
            e->shape.rank = n;
            for (int i = 0; i < n; i++) e->shape.d[i] = (int64_t)v[i];
        }
        if (bit == OFFSETS) {
            TRY(read_numbers(q, e->name, "data_offsets", v, 2, &n));
            if (n != 2) return tensor_error(q, e->name, "data_offsets needs two numbers");
            e->begin = v[0], e->end = v[1];
        }
    } while (accept(q, ','));
    TRY(expect(q, '}'));
    if (seen != ALL) return tensor_error(q, e->name, "dtype, shape or data_offsets is missing");
    size_t bytes;
    if (!shape_bytes(e->shape, e->dtype, &bytes))
        return tensor_error(q, e->name, "the product of its shape overflows");
    if (e->end < e->begin || e->end - e->begin != bytes)
        return tensor_error(q, e->name, "data_offsets do not fit shape and element type");
    return OK;
}

/* {"key":"value", ...}; *v lives in the parser's arena. */
static Err read_pairs(Parser *q, MetaPair **v, int *n) {
    MetaPair *pairs = NULL;
    NameSet names = {0};
    int used = 0, cap = 0;
    Err rc = expect(q, '{');
    if (rc || accept(q, '}')) return rc;
    do {
        GROW(pairs, used, cap);
        MetaPair *p = &pairs[used];
        if ((rc = read_string(q, &p->key)) || (rc = expect(q, ':')) ||
            (rc = read_string(q, &p->value)))
            break;
        if (!names_add(&names, p->key, used++))
            rc = err_set(E(q->exit_code, 52), "%s: key %s stands twice; the file is damaged",
                         q->file, p->key);
    } while (!rc && accept(q, ','));
    if (!rc) rc = expect(q, '}');
    if (!rc) {
        *v = memcpy(arena_alloc(q->arena, (size_t)used * sizeof *pairs), pairs,
                    (size_t)used * sizeof *pairs);
        *n = used;
    }
    names_free(&names);
    free(pairs);
    return rc;
}

static Err read_header(Parser *q, StHeader *h, NameSet *names) {
    bool meta_seen = false;
    TRY(expect(q, '{'));
    if (!accept(q, '}')) {
        do {
            const char *key;
            TRY(read_string(q, &key));
            TRY(expect(q, ':'));
            if (!strcmp(key, "__metadata__")) {
                if (meta_seen) return syntax_error(q, "__metadata__ stands twice");
                meta_seen = true;
                TRY(read_pairs(q, &h->meta, &h->n_meta));
                continue;
            }
            if (!names_add(names, key, h->n))
                return err_set(E(q->exit_code, 52),
                               "%s: tensor %s stands twice; the file is damaged", q->file, key);
            if (h->n == TENSORS_MAX)
                return err_set(E(EXIT_LIMIT, 53),
                               "%s: more than %d tensors; no network needs that, use another file",
                               q->file, TENSORS_MAX);
            GROW(h->entries, h->n, h->cap);
            h->entries[h->n] = (StEntry){.name = key};
            TRY(read_entry(q, &h->entries[h->n]));
            h->n++;
        } while (accept(q, ','));
        TRY(expect(q, '}'));
    }
    skip_blanks(q);
    return q->p == q->end ? OK : syntax_error(q, "something follows the header's end");
}

/* ---- checks over all entries ----------------------------------------------------------------- */
static int compare_offsets(const void *a, const void *b) {
    const StEntry *x = *(StEntry *const *)a, *y = *(StEntry *const *)b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* The tensors must tile the data: no hole, no overlap, nothing beyond. */
static Err check_tiling(const Parser *q, const StHeader *h, uint64_t data_bytes) {
    const StEntry **sorted = xcalloc((size_t)h->n + 1, sizeof *sorted);
    for (int i = 0; i < h->n; i++) sorted[i] = &h->entries[i];
    qsort(sorted, (size_t)h->n, sizeof *sorted, compare_offsets);
    uint64_t at = 0;
    Err rc = OK;
    for (int i = 0; i < h->n && !rc; i++) {
        if (sorted[i]->begin < at)
            rc = tensor_error(q, sorted[i]->name, "its data overlap another tensor's");
        else if (sorted[i]->begin > at)
            rc = tensor_error(q, sorted[i]->name, "there is a hole before its data");
        else if (sorted[i]->end > data_bytes)
            rc = tensor_error(q, sorted[i]->name,
                              "its data go past the end of the file (cut short?)");
        at = sorted[i]->end;
    }
    if (!rc && at != data_bytes)
        rc = err_set(E(q->exit_code, 52),
                     "%s: %" PRIu64 " bytes follow the last tensor; the file is damaged", q->file,
                     data_bytes - at);
    free(sorted);
    return rc;
}

/* Hand each tensor its digest from the metadata entry; all or none. */
static Err assign_digests(const Parser *q, StHeader *h, const NameSet *names) {
    const char *text = NULL;
    for (int i = 0; i < h->n_meta; i++)
        if (!strcmp(h->meta[i].key, "digests")) text = h->meta[i].value;
    if (!text) return OK;
    Parser sub = *q;
    sub.p = sub.begin = text, sub.end = text + strlen(text);
    MetaPair *pairs = NULL;
    int n = 0;
    TRY(read_pairs(&sub, &pairs, &n));
    for (int i = 0; i < n; i++) {
        int at = names_find(names, pairs[i].key);
        if (at >= 0) h->entries[at].digest = pairs[i].value;
        else if (strcmp(pairs[i].key, "__header__"))
            return err_set(E(q->exit_code, 12),
                           "%s: a digest names tensor %s, which is not there; the file is damaged",
                           q->file, pairs[i].key);
    }
    for (int i = 0; i < h->n; i++)
        if (!h->entries[i].digest)
            return err_set(E(q->exit_code, 12), "%s: tensor %s has no digest; the file is damaged",
                           q->file, h->entries[i].name);
    h->has_digests = true;
    return OK;
}

/* Headers of our own carry a digest of themselves. One that is a few bits away from the signature
 * was ours before it was damaged. */
static Err check_signature(const Parser *q, size_t n) {
    if (n <= ST_DIGEST_AT + ST_DIGEST_CHARS) return OK;
    int wrong = 0;
    for (int i = 0; i < ST_DIGEST_AT; i++) wrong += q->begin[i] != ST_SIGNATURE[i];
    if (wrong > 2) return OK;
    Digest d = st_header_digest(q->begin, n);
    if (wrong || memcmp(d.hex, q->begin + ST_DIGEST_AT, ST_DIGEST_CHARS))
        return err_set(
            E(q->exit_code, 12),
            "%s: the header does not match its digest; the file is damaged, take another copy",
            q->file);
    return OK;
}

Digest st_header_digest(const char *text, size_t n) {
    char *copy = xcalloc(n, 1);
    memcpy(copy, text, n);
    memset(copy + ST_DIGEST_AT, '0', ST_DIGEST_CHARS);
    Digest d = hash_digest(copy, n);
    free(copy);
    return d;
}

Err st_header_parse(const char *text, size_t n, uint64_t data_bytes, const char *file,
                    int exit_code, Arena *arena, StHeader *out) {
    Parser q = {text, text, text + n, file, exit_code, arena};
    NameSet names = {0};
    *out = (StHeader){0};
    Err rc = check_signature(&q, n);
    if (!rc) rc = read_header(&q, out, &names);
    if (!rc) rc = check_tiling(&q, out, data_bytes);
    if (!rc) rc = assign_digests(&q, out, &names);
    names_free(&names);
    if (rc) st_header_free(out);
    return rc;
}

void st_header_free(StHeader *h) {
    free(h->entries);
    *h = (StHeader){0};
}
