/* Operating points for the index that was written. */
#ifndef BUILDER_MEASURE_H
#define BUILDER_MEASURE_H

#include "checkpoint.h"
#include "crew.h"
#include "format.h"
#include "queries.h"

struct measure_options {
    const struct env *env;
    uint64_t rows;                 /* of the index */
    uint64_t budget_bytes;         /* of what is opened; 0: none */
    struct queries *queries;       /* that points are measured on; NULL: rows */
    uint32_t sample;               /* as build_options.measured */
    struct checkpoint *checkpoint; /* where what is measured is saved on the way; NULL: nowhere */
    struct build_measuring shares; /* for progress; 0: not known */
};

/* Measures the file as it will be published and adds the section of points, on from where a killed
 * build had come to. */
int measure_add_points(struct index_writer *writer, const struct crew *crew,
                       const struct measure_options *options,
                       struct fathom_error *err) FATHOM_MUST_USE;

#endif
