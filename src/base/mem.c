/* mem.c - arenas, checked allocation, big blocks.
 *
 * An arena is a list of chunks; an allocation that does not fit gets a chunk of its own size, so one
 * big tensor wastes nothing. Chunks are calloc'ed (the kernel's zero pages are not touched) and
 * cleared again only when a reset made them dirty. */
#include "base/mem.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "base/sys.h"

enum { CHUNK_BYTES = 64 * 1024, ALIGN = 16, BLOCK_ALIGN = 64, BLOCK_ASKS = 64 << 20 };   /* ASKS: from here on the system is asked first */
#ifdef NDEBUG
enum { POISON_ON_RESET = 0 };
#else
enum { POISON_ON_RESET = 1 };
#endif

typedef struct Chunk {
    struct Chunk *next;
    size_t used, cap;
    bool   dirty;                       /* was used before a reset: must be cleared when handed out */
    _Alignas(ALIGN) unsigned char data[];
} Chunk;
struct Arena { Chunk *first, *last; };  /* last: the chunk allocations come from */

static atomic_uint_fast64_t alloc_count;

static _Noreturn void out_of_memory(size_t bytes) {
    fprintf(
        stderr,
        "error E7023 out of memory: %zu bytes for small host data; free memory or use a smaller batch\n",
        bytes);
    fflush(stderr);
    _exit(EXIT_LIMIT);
}

void *xcalloc(size_t n, size_t bytes) {
    atomic_fetch_add_explicit(&alloc_count, 1, memory_order_relaxed);
    void *p = calloc(n ? n : 1, bytes ? bytes : 1);
    if (!p) out_of_memory(n * bytes);
    return p;
}

void *xrealloc(void *p, size_t bytes) {
    atomic_fetch_add_explicit(&alloc_count, 1, memory_order_relaxed);
    void *q = realloc(p, bytes ? bytes : 1);
    if (!q) out_of_memory(bytes);
    return q;
}

char *xstrdup(const char *s) {
    size_t n = strlen(s) + 1;
    return memcpy(xcalloc(n, 1), s, n);
}

/* Format into a fresh string; returns (caller frees). */
static char *format_alloc(const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    int n = str_vformat(NULL, 0, fmt, ap);
    CHECK(n >= 0);
    char *s = xcalloc((size_t)n + 1, 1);
    str_vformat(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}

char *xprintf(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    char *s = format_alloc(fmt, ap);
    va_end(ap);
    return s;
}

/* ---- arenas ---------------------------------------------------------------------------------- */
Arena *arena_open(void) { return xcalloc(1, sizeof(Arena)); }

void arena_close(Arena *a) {
    if (!a) return;
    for (Chunk *c = a->first, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(a);
}

/* Append a chunk of at least `bytes` and make it the current one. Chunks left over from before a
 * reset are skipped when too small; they serve again after the next reset. */
static Chunk *arena_grow(Arena *a, size_t bytes) {
    for (Chunk *c = a->last ? a->last->next : a->first; c; c = c->next)
        if (c->cap >= bytes) return a->last = c;
    size_t cap = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES, total;
    if (__builtin_add_overflow(cap, sizeof(Chunk), &total)) out_of_memory(bytes);
    Chunk *c = xcalloc(1, total);
    c->cap = cap;
    Chunk **tail = a->last ? &a->last->next : &a->first;
    while (*tail) tail = &(*tail)->next;
    *tail = c;
    return a->last = c;
}

void *arena_alloc(Arena *a, size_t bytes) {
    if (bytes > SIZE_MAX - ALIGN) out_of_memory(bytes);
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (!bytes) bytes = ALIGN;
    Chunk *c = a->last;
    if (!c || c->cap - c->used < bytes) c = arena_grow(a, bytes);
    void *p = c->data + c->used;
    c->used += bytes;
    return c->dirty ? memset(p, 0, bytes) : p;
}

void arena_reset(Arena *a) {
    for (Chunk *c = a->first; c; c = c->next) {
        if (POISON_ON_RESET) memset(c->data, 0xaa, c->used);
        c->dirty = c->dirty || c->used;
        c->used = 0;
    }
    a->last = NULL;
}

char *arena_strdup(Arena *a, const char *s) {
    size_t n = strlen(s) + 1;
    return memcpy(arena_alloc(a, n), s, n);
}

char *arena_printf(Arena *a, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    char *s = format_alloc(fmt, ap);
    va_end(ap);
    char *copy = arena_strdup(a, s);
    free(s);
    return copy;
}

/* ---- big blocks ------------------------------------------------------------------------------ */
Err block_alloc(void **out, size_t bytes, const char *purpose) {
    atomic_fetch_add_explicit(&alloc_count, 1, memory_order_relaxed);
    *out = NULL;
    size_t rounded;
    if (__builtin_add_overflow(bytes ? bytes : 1, (size_t)BLOCK_ALIGN - 1, &rounded))
        return err_set(E(EXIT_LIMIT, 23),
                       "%s: size overflows; use smaller images or a smaller batch", purpose);
    rounded = rounded / BLOCK_ALIGN * BLOCK_ALIGN;
    const uint64_t there = rounded < BLOCK_ASKS ? UINT64_MAX : sys_mem_available();
    void *p = rounded <= there ? aligned_alloc(BLOCK_ALIGN, rounded) : NULL;    /* the system grants what it has not, and kills later */
    if (!p)
        return err_set(E(EXIT_LIMIT, 23),
                       "%s: out of memory, %zu bytes wanted; use a smaller batch or crop", purpose,
                       bytes);
    *out = memset(p, 0, rounded);
    return OK;
}

void block_free(void *p) { free(p); }

uint64_t mem_alloc_count(void) { return atomic_load_explicit(&alloc_count, memory_order_relaxed); }
