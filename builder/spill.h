/* What the work files of a build take at their most, by arithmetic: which are there at the same
 * time, and which are written at all, which hangs on how long the stages before them take. */
#ifndef BUILDER_SPILL_H
#define BUILDER_SPILL_H

#include "builder.h"

struct spill_shape {
    uint64_t rows, dim; /* dim: of the work space */
    uint32_t degree, parts;
    double mean_degree;
    uint64_t code_bytes; /* of a row, with factors */
    uint64_t list_bytes; /* of all lists, encoded */
};

/* stage_seconds: predicted; spacing_ns: build_options.checkpoint_ns. */
uint64_t spill_most(const struct spill_shape *shape, const double stage_seconds[BUILD_STAGES],
                    uint64_t spacing_ns);

#endif
