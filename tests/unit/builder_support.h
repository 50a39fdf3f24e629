/* What the tests of builder/ share: rows that are known, and files of them. */
#ifndef UNIT_BUILDER_SUPPORT_H
#define UNIT_BUILDER_SUPPORT_H

#include "env_support.h"

#include "builder.h"
#include "crew.h"
#include "order.h"
#include "rows8.h"

/* count rows round clusters centres, row i round centre i % clusters; spread is about the standard
 * deviation. */
struct rows8 rows_clustered(uint32_t count, uint32_t dim, uint32_t clusters, double spread,
                            uint64_t seed);
struct rows8 rows_equal(uint32_t count, uint32_t dim);

struct crew crew_of(unsigned threads);

/* Rows in their final order, with their cells. */
struct ordered {
    struct rows8 rows;
    struct cells cells;
};

struct ordered ordered_make(struct rows8 rows, unsigned threads);
void ordered_fini(struct ordered *ordered);

/* Random floats around 0, with one of four offsets a row, so that there is some structure. */
float *floats_make(uint64_t rows, uint32_t dim, uint64_t seed);
void floats_write(const char *path, const float *values, uint64_t rows, uint32_t dim);

/* The bytes of a file, from malloc. */
uint8_t *file_slurp(const char *path, size_t *bytes);

#endif
