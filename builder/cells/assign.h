/* Which centroid is nearest to each row: sixteen rows at a time against a set of candidates. */
#ifndef BUILDER_ASSIGN_H
#define BUILDER_ASSIGN_H

#include "fathom/error.h"
#include "rows8.h"

#define ASSIGN_BLOCK KERNEL_PANEL /* rows that share the work */

/* One thread's scratch, for up to candidates_max centroids. */
struct assign {
    const struct rows8 *centroids;
    uint32_t *candidates; /* which of them are tried; candidates_max */
    uint32_t count;       /* candidates set */
    int8_t *panel;        /* a block of rows */
    int32_t *dots;        /* of a chunk of candidates with them */
};

int assign_init(struct assign *assign, uint32_t dim, uint32_t candidates_max) FATHOM_MUST_USE;
void assign_fini(struct assign *assign);

/* Starts a new set of candidates among these centroids, and adds first..first+count-1 to it. */
void assign_clear(struct assign *assign, const struct rows8 *centroids);
void assign_add(struct assign *assign, uint32_t first, uint32_t count);

/* nearest[i] = the candidate nearest to row ids[i]; the one added first wins ties. Any count of
 * rows; at least one candidate. */
void assign_rows(struct assign *assign, const struct rows8 *rows, const uint32_t *ids,
                 uint32_t count, uint32_t *nearest);

#endif
