/* Cells and order of rows that stay in a work file, for builds that may not hold all of them: the
 * same as of rows in memory, in as many passes through the file. */
#ifndef BUILDER_CELLS_STORED_H
#define BUILDER_CELLS_STORED_H

#include "cells.h"
#include "stored.h"

/* As cells_build, with `held` rows in memory at a time. */
int cells_build_stored(struct cells *out, const struct crew *crew, struct stored_rows *stored,
                       uint32_t held, uint64_t seed, const struct cells_keeper *keeper,
                       struct fathom_error *err) FATHOM_MUST_USE;

/* Bytes that this takes beside the rows that it holds, and of each of those. */
uint64_t cells_stored_bytes(uint64_t rows, uint32_t dim);
uint64_t cells_held_bytes(uint32_t dim);

#endif
