/* memory.c - gives every arena value its place: one block, lives decide.
 *
 * First the steps' wishes to run in place are granted where the source is not needed afterwards; then
 * the remaining values are placed largest first, each at the lowest offset where no value of an
 * overlapping life lies. That greedy order is within a few percent of the largest live sum in practice;
 * plan_stats reports both (arena and peak). */
#include "backend/plan_priv.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };
static size_t aligned(size_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }

static ValueId root_of(const Plan *p, ValueId v) {
    while (p->values[v].root != v) v = p->values[v].root;
    return v;
}

static bool movable(const Value *v) { return v->place == VALUE_ARENA && v->first >= 0; }

/* The value that replaces another takes over its root, whose life grows to the newcomer's end. */
static void grant_in_place(Plan *p) {
    for (int i = 0; i < p->n_steps; i++) {
        Step *s = &p->steps[i];
        if (!s->in_place_src || !s->in_place_dst) continue;
        ValueId r = root_of(p, s->in_place_src);
        Value *src = &p->values[r], *dst = &p->values[s->in_place_dst];
        if (!movable(src) || dst->place == VALUE_BOUND || dst->place == VALUE_OWN ||
            dst->first != i)
            continue;
        if (src->last != i || dst->bytes > src->bytes || dst->root != s->in_place_dst) continue;
        dst->root = r;
        src->last = dst->last;
        if (dst->place == VALUE_KEPT) src->place = VALUE_KEPT;
    }
}

typedef struct { ValueId id; size_t bytes; int first; } Item;
static int larger_first(const void *a, const void *b) {
    const Item *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->first != y->first ? x->first - y->first : x->id - y->id;
}
static int by_offset(const void *a, const void *b) {
    size_t x = ((const Item *)a)->bytes, y = ((const Item *)b)->bytes;   /* bytes holds the offset here */
    return x < y ? -1 : x > y;
}

static bool lives_overlap(const Value *a, const Value *b) {
    return a->first <= b->last && b->first <= a->last;
}

/* Lowest offset for item k, given that items 0..k-1 are placed. */
static size_t lowest_gap(const Plan *p, const Item *items, int k, Item *scratch) {
    const Value *v = &p->values[items[k].id];
    int n = 0;
    for (int i = 0; i < k; i++)
        if (lives_overlap(v, &p->values[items[i].id]))
            scratch[n++] = (Item){.id = items[i].id, .bytes = p->values[items[i].id].offset};
    qsort(scratch, (size_t)n, sizeof *scratch, by_offset);
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        const Value *o = &p->values[scratch[i].id];
        if (o->offset >= at + aligned(v->bytes)) break;
        if (o->offset + aligned(o->bytes) > at) at = o->offset + aligned(o->bytes);
    }
    return at;
}

static void place_arena(Plan *p) {
    Item *items = xcalloc((size_t)p->n_values, 2 * sizeof *items), *scratch = items + p->n_values;
    int n = 0;
    for (ValueId v = 1; v < p->n_values; v++) {
        Value *val = &p->values[v];
        if (val->place == VALUE_KEPT && val->root == v) val->last = p->n_steps;
        bool placed = (val->place == VALUE_ARENA || val->place == VALUE_KEPT) && val->root == v &&
                      val->first >= 0;
        if (placed) items[n++] = (Item){v, aligned(val->bytes), val->first};
    }
    qsort(items, (size_t)n, sizeof *items, larger_first);
    for (int k = 0; k < n; k++) {
        Value *v = &p->values[items[k].id];
        v->offset = lowest_gap(p, items, k, scratch);
        if (v->offset + aligned(v->bytes) > p->arena_bytes)
            p->arena_bytes = v->offset + aligned(v->bytes);
    }
    free(items);
}

static void measure_peak(Plan *p) {
    size_t *live = xcalloc((size_t)p->n_steps + 2, sizeof *live);
    for (ValueId v = 1; v < p->n_values; v++) {
        const Value *val = &p->values[v];
        if (val->place == VALUE_BOUND || val->place == VALUE_OWN || val->root != v ||
            val->first < 0)
            continue;
        for (int i = val->first; i <= val->last; i++) live[i] += val->bytes;
    }
    for (int i = 0; i <= p->n_steps; i++)
        if (live[i] > p->peak_bytes) p->peak_bytes = live[i];
    free(live);
}

/* Kept values go into a block of their own, at the places that their sizes give them. */
static size_t kept_bytes(const Plan *p) {
    size_t sum = 0;
    for (ValueId v = 1; v < p->n_values; v++)
        if (p->values[v].place == VALUE_KEPT && p->values[v].root == v)
            sum += aligned(p->values[v].bytes);
    return sum;
}
bool plan_share_arena(Plan *p, const Plan *host) {
    void *kept = NULL;
    if (p->needs_bytes > host->arena_bytes || block_alloc(&kept, kept_bytes(p) + ALIGN, "outputs"))
        return false;
    size_t at = 0;
    for (ValueId v = 1; v < p->n_values; v++) {
        Value *val = &p->values[v];
        if (val->place != VALUE_KEPT || val->root != v) continue;
        val->ptr = (char *)kept + at, at += aligned(val->bytes);
    }
    for (ValueId v = 1; v < p->n_values; v++) {
        Value *val = &p->values[v];
        const Value *root = &p->values[root_of(p, v)];
        if (val->place == VALUE_BOUND || val->place == VALUE_OWN || val->first < 0) continue;
        val->ptr = root->place == VALUE_KEPT ? root->ptr : (char *)host->arena_block + root->offset;
    }
    block_free(p->arena_block);
    p->arena_block = kept, p->arena_bytes = at;
    return true;
}

static ValueId next_own(const Plan *p, ValueId v) {
    for (v++; v < p->n_values && p->values[v].place != VALUE_OWN; v++) {}
    return v;
}
static bool same_copy(const Value *a, const Value *b) {
    return a->bytes == b->bytes && !strcmp(a->name, b->name) && !memcmp(a->ptr, b->ptr, a->bytes);
}
/* The values are paired in the order of their layers; what differs goes into a block that is as large as it must be. */
void plan_share_copies(Plan *p, Plan *host) {
    CHECK(p->net == host->net && !p->borrows_copies);
    plan_refresh_copies(p), plan_refresh_copies(host);
    const Value **lender = xcalloc((size_t)p->n_values, sizeof(Value *));
    size_t rest = 0;
    ValueId h = next_own(host, 0);
    for (ValueId v = next_own(p, 0); v < p->n_values; v = next_own(p, v)) {
        if (h < host->n_values && same_copy(&p->values[v], &host->values[h]))
            lender[v] = &host->values[h];
        else rest += aligned(p->values[v].bytes);
        if (h < host->n_values) h = next_own(host, h);
    }
    void *block;
    if (!block_alloc(&block, rest + ALIGN, "parameter copies")) {
        size_t at = 0;
        for (ValueId v = next_own(p, 0); v < p->n_values; v = next_own(p, v)) {
            Value *x = &p->values[v];
            if (lender[v]) { x->ptr = lender[v]->ptr; continue; }
            x->ptr = memcpy((char *)block + at, x->ptr, x->bytes);
            at += aligned(x->bytes);
        }
        block_free(p->own_block);
        p->own_block = block, p->own_bytes = rest, p->borrows_copies = true;
    }
    free(lender);
}

Err plan_place_memory(Plan *p) {
    grant_in_place(p);
    place_arena(p);
    p->needs_bytes = p->arena_bytes;
    measure_peak(p);
    for (ValueId v = 1; v < p->n_values; v++)
        if (p->values[v].place == VALUE_OWN)
            p->values[v].offset = p->own_bytes, p->own_bytes += aligned(p->values[v].bytes);
    if (p->spec.dry) return OK;
    const bool shared = p->spec.host && plan_share_arena(p, p->spec.host);
    if (!shared) TRY(block_alloc(&p->arena_block, p->arena_bytes + ALIGN, "activations"));
    TRY(block_alloc(&p->own_block, p->own_bytes + ALIGN, "parameter copies"));
    for (ValueId v = 1; v < p->n_values; v++) {
        Value *val = &p->values[v];
        const Value *root = &p->values[root_of(p, v)];
        if (val->place == VALUE_BOUND || (val->first < 0 && val->place != VALUE_OWN)) continue;
        if (shared && val->place != VALUE_OWN) continue;
        val->ptr = (char *)(val->place == VALUE_OWN ? p->own_block : p->arena_block) + root->offset;
    }
    return OK;
}
