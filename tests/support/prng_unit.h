/* What tests make floats of. */
#ifndef TESTS_PRNG_UNIT_H
#define TESTS_PRNG_UNIT_H

#include "prng.h"

/* Uniform in [0, 1), 53 bits. */
static inline double prng_unit(struct prng *prng)
{
    return (double)(prng_next(prng) >> 11) * 0x1.0p-53;
}

#endif
