/* The order of rows on disk: neighbours near each other. */
#ifndef BUILDER_ORDER_H
#define BUILDER_ORDER_H

#include "cells.h"
#include "stored.h"

/* Where a killed build had come to, and what keeps that of this one. NULL: there is neither. */
struct order_keeper {
    bool sorted;   /* cells are in their order already, */
    uint32_t done; /* and the rows of so many of them */
    int (*save)(void *context, uint32_t done, struct fathom_error *err);
    void *context;
};

/* Puts cells, and the rows within each, in 2-means order: a set is cut in two again and again, and
 * of two parts the one nearer to what comes before goes first. Afterwards cells->rows is the map
 * from new row numbers to old ones. */
int order_build(struct cells *cells, const struct crew *crew, const struct rows8 *rows,
                const struct order_keeper *keeper, struct fathom_error *err) FATHOM_MUST_USE;

/* The same of rows in a work file, with about `held` of them in memory at a time. The rows go to
 * out in their new order, behind those of the cells that are done. */
int order_build_stored(struct cells *cells, const struct crew *crew, struct stored_rows *stored,
                       uint32_t held, const struct order_keeper *keeper, struct work_writer *out,
                       struct fathom_error *err) FATHOM_MUST_USE;

/* Moves rows to their new places: row i becomes what row old_of_new[i] was. */
int order_apply(struct rows8 *rows, const uint32_t *old_of_new,
                struct fathom_error *err) FATHOM_MUST_USE;

#endif
