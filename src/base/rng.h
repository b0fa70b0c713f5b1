/* rng.h - counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011).
 *
 * There is no generator state. A stream is a key made from (seed, use, epoch, sample); element i of
 * a stream depends on nothing else, so data order, augmentation and dropout resume exactly. */
#ifndef RETORT_BASE_RNG_H
#define RETORT_BASE_RNG_H
#include <stdint.h>
typedef enum { RNG_SHUFFLE = 1, RNG_AUGMENT, RNG_DROPOUT, RNG_INIT, RNG_SCENES, RNG_METHOD } RngUse;
typedef struct { uint32_t key[2], hi[2]; } Rng;       /* hi: upper half of the counter */
Rng      rng_stream(uint64_t seed, RngUse use, uint64_t epoch, uint64_t sample);
void     rng_block(const Rng *r, uint64_t index, uint32_t out[4]);   /* one Philox block */
uint32_t rng_u32(const Rng *r, uint64_t i);           /* element i */
float    rng_uniform(const Rng *r, uint64_t i);       /* [0, 1), 24 bits */
float    rng_normal(const Rng *r, uint64_t i);        /* mean 0, variance 1 (Box-Muller) */
uint32_t rng_below(const Rng *r, uint64_t i, uint32_t n);            /* 0 .. n-1 */
void     rng_permutation(const Rng *r, uint32_t *out, uint32_t n);   /* Fisher-Yates */
#endif
