/* hash.c - FNV-1a (64 bit) for names in tables, XXH3-128 for the contents of files and tensors. */
#include "base/hash.h"

#include <stdio.h>
#include <xxhash.h>

uint64_t hash_fnv1a(const char *s) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    return h;
}

Digest hash_digest(const void *data, size_t bytes) {
    XXH128_hash_t h = XXH3_128bits(data, bytes);
    Digest d;
    snprintf(d.hex, sizeof d.hex, "%016llx%016llx", (unsigned long long)h.high64,
             (unsigned long long)h.low64);
    return d;
}
