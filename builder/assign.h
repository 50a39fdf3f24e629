/* Which centroid is nearest to each row: blocks of rows against panels of candidates, by matrix
 * product. */
#ifndef BUILDER_ASSIGN_H
#define BUILDER_ASSIGN_H

#include "fathom/error.h"
#include "rows8.h"

#define ASSIGN_BLOCK 256 /* rows of one product */

/* One thread's scratch, for up to candidates_max centroids. */
struct assign {
    uint32_t dim, candidates_max;
    float *rows;       /* ASSIGN_BLOCK x dim, minus 128 */
    float *candidates; /* candidates_max x dim, minus 128 */
    float *half_norms; /* candidates_max: |c|^2 / 2 */
    float *products;   /* ASSIGN_BLOCK x candidates_max */
    uint32_t *indices; /* candidates_max: which centroids these are */
    uint32_t count;    /* candidates set */
};

int assign_init(struct assign *assign, uint32_t dim, uint32_t candidates_max) FATHOM_MUST_USE;
void assign_fini(struct assign *assign);

/* Starts a new panel, and adds centroids first..first+count-1 to it. */
void assign_clear(struct assign *assign);
void assign_add(struct assign *assign, const struct rows8 *centroids, uint32_t first,
                uint32_t count);

/* nearest[i] = index of the candidate nearest to row ids[i]; the one added first wins ties. Any
 * count of rows. */
void assign_rows(struct assign *assign, const struct rows8 *rows, const uint32_t *ids,
                 uint32_t count, uint32_t *nearest);

#endif
