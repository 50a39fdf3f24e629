/* The two loops that exact ground truth spends its time in besides the matrix product: picking the
 * few rows that could still belong to a query's nearest, and their distances in double precision.
 * Pure functions. */
#ifndef DATASETS_EXACT_SCAN_H
#define DATASETS_EXACT_SCAN_H

#include <stddef.h>
#include <stdint.h>

/* Collects each i < count with offsets[i] - factor * dots[i] <= limit, rising, into hits (room for
 * count). Returns how many. */
size_t exact_scan(const float *dots, const float *offsets, float factor, float limit, size_t count,
                  uint32_t *hits);

/* Sums over a row in double, in one fixed order: the same bits on every machine, equal for equal
 * rows. */
double exact_l2sq(const float *a, const float *b, size_t dim);
double exact_dot(const float *a, const float *b, size_t dim);

#endif
