/* rng.c - Philox4x32-10: ten rounds of two 32 x 32 -> 64 bit multiplications over a 128-bit counter.
 * Reference: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. */
#include "base/rng.h"

#include <math.h>
#include <stddef.h>

enum { ROUNDS = 10 };

/* SplitMix64's finaliser: every output bit depends on every input bit. */
static uint64_t mix64(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

Rng rng_stream(uint64_t seed, RngUse use, uint64_t epoch, uint64_t sample) {
    uint64_t key = mix64(mix64(mix64(mix64(seed) + (uint64_t)use) + epoch) + sample);
    uint64_t hi = mix64(mix64(epoch ^ 0x6a09e667f3bcc908u) + sample);
    return (Rng){.key = {(uint32_t)key, (uint32_t)(key >> 32)},
                 .hi = {(uint32_t)hi, (uint32_t)(hi >> 32)}};
}

void rng_block(const Rng *r, uint64_t index, uint32_t out[4]) {
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = r->hi[0], c3 = r->hi[1];
    uint32_t k0 = r->key[0], k1 = r->key[1];
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t p0 = (uint64_t)0xd2511f53u * c0, p1 = (uint64_t)0xcd9e8d57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1, c3 = (uint32_t)p0, c0 = n0, c2 = n2;
        k0 += 0x9e3779b9u, k1 += 0xbb67ae85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

uint32_t rng_u32(const Rng *r, uint64_t i) {
    uint32_t block[4];
    rng_block(r, i / 4, block);
    return block[i % 4];
}

float rng_uniform(const Rng *r, uint64_t i) { return (float)(rng_u32(r, i) >> 8) * 0x1p-24f; }

/* Two normals per block, each from two 32-bit words; (u + 1) / 2^32 keeps the logarithm finite. */
float rng_normal(const Rng *r, uint64_t i) {
    uint32_t block[4];
    rng_block(r, i / 2, block);
    const uint32_t *u = block + 2 * (i % 2);
    double radius = sqrt(-2.0 * log(((double)u[0] + 1.0) * 0x1p-32));
    return (float)(radius * cos(6.283185307179586 * ((double)u[1] * 0x1p-32)));
}

/* Multiply and shift; the bias of at most n / 2^32 is far below what any use here could notice, and
 * a rejection loop would make element i depend on how many words others took. */
uint32_t rng_below(const Rng *r, uint64_t i, uint32_t n) {
    return (uint32_t)(((uint64_t)rng_u32(r, i) * n) >> 32);
}

void rng_permutation(const Rng *r, uint32_t *out, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) out[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = rng_below(r, i, i), t = out[i - 1];
        out[i - 1] = out[j], out[j] = t;
    }
}
