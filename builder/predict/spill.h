/* What the work files of a build take at their most, by arithmetic: which are there at the same
 * time, and which are written at all, which hangs on how long the stages before them take. */
#ifndef BUILDER_SPILL_H
#define BUILDER_SPILL_H

#include "builder.h"

struct spill_shape {
    uint64_t rows, dim; /* dim: of the work space */
    uint32_t degree, parts;
    bool stored; /* rows are in a file until the graph */
    double mean_degree;
    uint64_t code_bytes; /* of a row, with factors */
    uint64_t list_bytes; /* of all lists, encoded */
    uint32_t piece_rows; /* build_options.piece_rows */
    uint64_t measured;   /* bytes that measuring keeps; 0: nothing is measured */
};

/* How far a build has come that begins its graph. */
struct spill_progress {
    bool begun, rows_saved;
    uint64_t since_ns; /* the last checkpoint, or the start */
};

struct spill {
    uint64_t bytes; /* at their most */
    bool graph;     /* whether rows and lists are saved */
};

/* stage_seconds: predicted, those of the graph from now on where there is progress (NULL: nothing
 * is done yet); spacing_ns: build_options.checkpoint_ns. */
struct spill spill_predict(const struct spill_shape *shape,
                           const double stage_seconds[BUILD_STAGES],
                           const struct spill_progress *progress, uint64_t spacing_ns);

#endif
