/* The centroids of cells as they are stored: in four bits a dimension (codec/centroids.h). */
#ifndef BUILDER_CELLS_PACK_H
#define BUILDER_CELLS_PACK_H

#include "cells.h"

/* Packs the centroids of cells that are in their order, and puts in their place what a reader will
 * see: codes are made beside these. *packed receives centroids_bytes bytes (mem_free). */
int cells_pack(struct cells *cells, const struct crew *crew, uint8_t **packed,
               struct fathom_error *err) FATHOM_MUST_USE;

#endif
