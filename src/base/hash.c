/* hash.c - FNV-1a (64 bit), seeded XXH3 for names in tables, XXH3-128 for the contents of files and tensors. */
#include "base/hash.h"

#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/mem.h"

uint64_t hash_fnv1a(const char *s) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    return h;
}

static Digest digest_of(XXH128_hash_t h) {
    Digest d;
    snprintf(d.hex, sizeof d.hex, "%016llx%016llx", (unsigned long long)h.high64,
             (unsigned long long)h.low64);
    return d;
}

/* The seed is where the system put the program this time. */
uint64_t hash_name(const char *s) {
    static const char somewhere;
    return XXH3_64bits_withSeed(s, strlen(s), (XXH64_hash_t)(uintptr_t)&somewhere);
}

Digest hash_digest(const void *data, size_t bytes) { return digest_of(XXH3_128bits(data, bytes)); }

struct Hasher { XXH3_state_t *state; };

Hasher *hasher_open(void) {
    Hasher *h = xcalloc(1, sizeof *h);
    h->state = XXH3_createState();
    CHECK(h->state && XXH3_128bits_reset(h->state) == XXH_OK);
    return h;
}

void hasher_add(Hasher *h, const void *data, size_t bytes) {
    CHECK(XXH3_128bits_update(h->state, data, bytes) == XXH_OK);
}

Digest hasher_close(Hasher *h) {
    const Digest d = digest_of(XXH3_128bits_digest(h->state));
    XXH3_freeState(h->state);
    free(h);
    return d;
}
