/* parts.c - see parts.h. */
#include "distill/parts.h"

PartStore *part_store(Net *n) {
    PartStore *s = arena_alloc(n->arena, sizeof *s);
    *s = (PartStore){.arena = n->arena};
    return s;
}
void *part_store_data(PartStore *s, size_t bytes) {
    if (!s->data) s->data = arena_alloc(s->arena, bytes), s->bytes = bytes;
    CHECK(s->bytes == bytes);
    return s->data;
}
