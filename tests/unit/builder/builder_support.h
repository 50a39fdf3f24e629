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
/* A file of what floats_make makes. */
void floats_file(const char *path, uint64_t rows, uint32_t dim, uint64_t seed);

/* Where a whole build of a test reads and writes, in its scratch. */
struct place {
    char input[SCRATCH_PATH_MAX], out[SCRATCH_PATH_MAX], index[SCRATCH_PATH_MAX];
};

/* The input is base.fbin, which is not written yet; the index goes to the folder out. */
struct place place_of(const struct scratch *scratch, const char *out);

/* The bytes of a file, from malloc. */
uint8_t *file_slurp(const char *path, size_t *bytes);

#endif
