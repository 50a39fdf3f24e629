/* K-means cells over the 8-bit rows: about CELLS_ROWS rows each, centroids in 8-bit form, so that
 * every comparison is between integers. They are packed later (cells_pack.h). */
#ifndef BUILDER_CELLS_H
#define BUILDER_CELLS_H

#include "crew.h"
#include "rows8.h"

#define CELLS_ROWS      64               /* rows of a cell, on average */
#define CELLS_ROWS_MAX  (8 * CELLS_ROWS) /* larger cells are split, as those of many equal rows */
#define CELLS_COUNT_MAX 65536
#define CELLS_ROUNDS    6 /* of k-means, each of which may be saved; then all is assigned for good */

struct cells {
    uint32_t count;
    struct rows8 centroids;
    uint32_t *first; /* count + 1: rows of cell c are rows[first[c]] .. rows[first[c + 1] - 1] */
    uint32_t *rows;  /* every row once, rising within a cell */
};

/* How far k-means is: all that the rest of it depends on, beside the rows and the seed. */
struct cells_state {
    uint32_t round; /* rounds that are done; 0: none */
    struct rows8 groups, centroids;
};

/* Where a killed build had come to, and what keeps that of this one; members may be NULL. */
struct cells_keeper {
    const struct cells_state *state;
    int (*save)(void *context, const struct cells_state *state, struct fathom_error *err);
    void *context;
};

/* keeper may be NULL. */
int cells_build(struct cells *out, const struct crew *crew, const struct rows8 *rows, uint64_t seed,
                const struct cells_keeper *keeper, struct fathom_error *err) FATHOM_MUST_USE;
void cells_state_fini(struct cells_state *state);
void cells_fini(struct cells *cells);

#endif
