/* Seeded pseudo-random numbers: xoshiro256** (Blackman and Vigna, 2018) seeded by SplitMix64. The
 * sequence of a seed is part of our determinism promise: builds and synthetic data depend on it.
 * Not for secrets. */
#ifndef BASE_PRNG_H
#define BASE_PRNG_H

#include <stdint.h>

struct prng {
    uint64_t state[4];
};

/* stream separates independent sequences of one seed (a thread's, a block's, a purpose's). */
void prng_init(struct prng *prng, uint64_t seed, uint64_t stream);
uint64_t prng_next(struct prng *prng);
/* Uniform in [0, bound), bound >= 1, without modulo bias (Lemire's multiply and reject). */
uint32_t prng_below(struct prng *prng, uint32_t bound);

#endif
