/* The arithmetic of synth: normal variates, tanh and a small matrix product, made of + - * / and
 * sqrt alone. Those are exactly rounded by IEEE 754, and every sum has one fixed order, so that the
 * results are the same bits on every machine and compiler (given -ffp-contract=off, and no
 * -ffast-math). libm promises no such thing: its last bits differ between versions. The loops are
 * laid out so that the compiler can vectorise them: lanes are independent outputs. */
#ifndef DATASETS_SYNTH_MATH_H
#define DATASETS_SYNTH_MATH_H

#include <stddef.h>
#include <stdint.h>

#include "prng.h"

/* count independent N(0,1) variates, each from one number of prng. */
void synth_normals(struct prng *prng, float *out, size_t count);

/* out[r][j] += sum over i of in[r][i] * weights[i][j], i rising, one product after the other.
 * inputs is a multiple of 4. */
void synth_product(float *out, const float *in, const float *weights, size_t rows, size_t inputs,
                   size_t outputs);

/* tanh in place, to within 1e-6. */
void synth_tanh(float *values, size_t count);

/* For the tests: the inverse of the normal distribution function, 0 < p < 1. */
double synth_normal_quantile(double p);

#endif
