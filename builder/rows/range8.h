/* The range of the 8-bit form: from a sample of work-space rows to a mean and a step. */
#ifndef BUILDER_RANGE8_H
#define BUILDER_RANGE8_H

#include <stdint.h>

#include "fathom/error.h"

/* sample: count rows of dim floats. Fills mean and *step > 0. */
int range8_choose(const float *sample, uint32_t count, uint32_t dim, float *mean,
                  float *step) FATHOM_MUST_USE;

#endif
