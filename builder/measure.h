/* Operating points for the index that was written. */
#ifndef BUILDER_MEASURE_H
#define BUILDER_MEASURE_H

#include "checkpoint.h"

/* Measures the file as it will be published and adds the section of points, on from where a killed
 * build had come to. checkpoint: where what is measured is saved on the way; NULL: nowhere.
 * budget_bytes: of what is opened; 0: none. */
int measure_add_points(struct index_writer *writer, const struct env *env, const struct crew *crew,
                       struct checkpoint *checkpoint, uint64_t rows, uint64_t budget_bytes,
                       struct fathom_error *err) FATHOM_MUST_USE;

#endif
