/* mem.h - arenas by lifetime, checked sizes, and aligned blocks.
 *
 * Small host allocations abort in one place when memory is out (exit 7). Big blocks (activations,
 * parameters, image caches) come from block_alloc and return an Err with their purpose and bytes. */
#ifndef RETORT_BASE_MEM_H
#define RETORT_BASE_MEM_H
#include "base/err.h"

typedef struct Arena Arena;             /* bump allocator; freed as a whole */
Arena *arena_open(void);
void   arena_close(Arena *a);           /* NULL is fine */
void  *arena_alloc(Arena *a, size_t bytes);                  /* zeroed, 16-byte aligned */
void   arena_reset(Arena *a);                                /* debug builds fill with 0xaa */
char  *arena_strdup(Arena *a, const char *s);
char  *arena_printf(Arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void *xcalloc(size_t n, size_t bytes);  /* zeroed; caller frees; aborts with exit 7 when out */
void *xrealloc(void *p, size_t bytes);
char *xstrdup(const char *s);
char *xprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* 64-byte aligned zeroed block for tensors; free with block_free. purpose: "activations". */
Err  block_alloc(void **out, size_t bytes, const char *purpose);
void block_free(void *p);
uint64_t mem_alloc_count(void);         /* allocations made by this module so far (tests) */

/* Grow array `a` (pointer to elements of type T, n used, cap reserved) to hold one more. */
#define GROW(a, n, cap) \
    ((n) < (cap) ? (void)0 : (void)((cap) = (cap) ? 2 * (cap) : 8, (a) = xrealloc((a), (size_t)(cap) * sizeof *(a))))
#endif
