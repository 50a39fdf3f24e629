/* K-means cells over the 8-bit rows: about CELLS_ROWS rows each, centroids in 8-bit form, so that
 * every comparison is between integers. */
#ifndef BUILDER_CELLS_H
#define BUILDER_CELLS_H

#include "crew.h"
#include "rows8.h"

#define CELLS_ROWS      64               /* rows of a cell, on average */
#define CELLS_ROWS_MAX  (8 * CELLS_ROWS) /* larger cells are split, as those of many equal rows */
#define CELLS_COUNT_MAX 65536

struct cells {
    uint32_t count;
    struct rows8 centroids;
    uint32_t *first; /* count + 1: rows of cell c are rows[first[c]] .. rows[first[c + 1] - 1] */
    uint32_t *rows;  /* every row once, rising within a cell */
};

int cells_build(struct cells *out, const struct crew *crew, const struct rows8 *rows, uint64_t seed,
                struct fathom_error *err) FATHOM_MUST_USE;
void cells_fini(struct cells *cells);

#endif
