/* Statistics of a sample of a vector file: what a person wants to see before building an index of
 * it. */
#ifndef DATASETS_SAMPLE_H
#define DATASETS_SAMPLE_H

#include <stdint.h>

#include "fathom/error.h"
#include "vectors.h"

struct sample_stats {
    uint64_t rows;     /* looked at, in runs spread evenly over the file */
    uint64_t bad_rows; /* with NaN or infinity; they count nowhere else */
    uint64_t zero_rows;
    uint64_t duplicates; /* rows that equal an earlier one of the sample */
    double min, max;     /* of the scalars */
    double norm_mean, norm_min, norm_max;
    uint64_t first_bad_row; /* of the file; valid when bad_rows > 0 */
};

/* Looks at up to rows_max rows, fewer when they would take more than 64 MiB. */
int sample_measure(struct sample_stats *out, struct vector_file *file, uint64_t rows_max,
                   struct fathom_error *err) FATHOM_MUST_USE;

#endif
