/* init.c - first values of parameters: PyTorch's distributions, or a formula anyone can repeat.
 *
 * Random: convolutions normal(0, 2 / fan_out) where the backbone's rule is on, otherwise uniform
 * +-1 / sqrt(fan_in), biases too; batch norm 1 and 0, statistics 0 and 1. Each tensor's numbers are
 * keyed by (seed, its name, element), so they depend on no other tensor.
 * Formula: weights=formula:SEED, docs/formats.md. */
#include <math.h>

#include "base/hash.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "graph/net.h"

typedef struct { Net *net; int first; uint64_t seed; } InitJob;

static void fill(NetParam *p, float v) {
    for (int64_t i = 0, n = shape_count(p->shape); i < n; i++) p->data[i] = v;
}
static void init_uniform(NetParam *p, const Rng *r) {
    const double bound = p->fan_in > 0 ? 1 / sqrt(p->fan_in) : 0;
    for (int64_t i = 0, n = shape_count(p->shape); i < n; i++)
        p->data[i] = (float)((2.0 * rng_uniform(r, (uint64_t)i) - 1) * bound);
}
static void init_normal(NetParam *p, const Rng *r) {
    const double sd = sqrt(2.0 / p->fan_out);
    for (int64_t i = 0, n = shape_count(p->shape); i < n; i++)
        p->data[i] = (float)(sd * rng_normal(r, (uint64_t)i));
}
static void init_one(void *arg, int64_t i) {
    const InitJob *j = arg;
    NetParam *p = &j->net->params[j->first + i];
    const Rng r = rng_stream(j->seed, RNG_INIT, hash_fnv1a(p->name), 0);
    switch (p->kind) {
    case PARAM_WEIGHT: p->fan_out_init ? init_normal(p, &r) : init_uniform(p, &r); break;
    case PARAM_BIAS: init_uniform(p, &r); break;
    case PARAM_BN_WEIGHT: case PARAM_VAR: fill(p, 1); break;
    case PARAM_BN_BIAS: case PARAM_MEAN: fill(p, 0); break;
    case PARAM_COUNT: p->count = 0; break;
    }
}
void net_init_params(Net *n, int first, uint64_t seed) {
    InitJob j = {n, first, seed};
    parallel_for(n->n_params - first, init_one, &j);
    n->version++;
}
void net_init_random(Net *n, uint64_t seed) { net_init_params(n, 0, seed); }

/* Uniform in [0, 1) with 24 bits: SplitMix64's finaliser over name, element and seed. */
static double formula_uniform(uint64_t h, int64_t i, uint64_t seed) {
    uint64_t z = h + ((uint64_t)i + 1) * 0x9E3779B97F4A7C15u + seed * 0xD1B54A32D192ED03u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (double)(z >> 40) / 16777216.0;
}
static void formula_one(void *arg, int64_t index) {
    const InitJob *j = arg;
    NetParam *p = &j->net->params[index];
    const uint64_t h = hash_fnv1a(p->name);
    double scale = 0.1, base = -1, slope = 2;            /* value = (base + slope u) scale */
    if (p->kind == PARAM_COUNT) {
        p->count = 0;
        return;
    }
    if (p->kind == PARAM_WEIGHT) {
        int64_t reads = 1;                               /* in_per_group * kh * kw */
        for (int k = 1; k < p->shape.rank; k++) reads *= p->shape.d[k];
        scale = sqrt(3.0 / (double)reads);
    }
    if (p->kind == PARAM_BN_WEIGHT || p->kind == PARAM_VAR) base = 0.5, slope = 1, scale = 1;
    for (int64_t i = 0, n = shape_count(p->shape); i < n; i++)
        p->data[i] = (float)((base + slope * formula_uniform(h, i, j->seed)) * scale);
}
void net_init_formula(Net *n, uint64_t seed) {
    InitJob j = {n, 0, seed};
    parallel_for(n->n_params, formula_one, &j);
    n->version++;
}
