/* Queries that are given with an input: what its operating points are measured on, instead of rows
 * of the index. They are never in memory whole, and read twice: when the build begins, to refuse
 * what is wrong and to know which they are, and when a sample of them is wanted. */
#ifndef BUILDER_QUERIES_H
#define BUILDER_QUERIES_H

#include "crew.h"
#include "points.h"
#include "row8.h"
#include "rows8.h"
#include "vectors.h"

struct queries {
    struct vector_file *file; /* NULL: none are given */
    struct vector_info info;
    enum fathom_metric metric;
    const struct crew *crew;
    uint64_t hash[2];    /* XXH3-128 of all scalars as they lie in the file: low, high */
    uint64_t zero_count; /* of zeros, where cosine is undefined: they are left out */
};

/* Opens options->query, when there is one, as queries for vectors of dim. Of an HDF5 file that
 * names no data set, "test". */
int queries_open(struct queries *queries, const struct build_options *options,
                 const struct crew *crew, uint32_t dim, struct fathom_error *err) FATHOM_MUST_USE;
/* Streams them: checks every scalar, hashes. */
int queries_check(struct queries *queries, bool skip_zero_rows,
                  struct fathom_error *err) FATHOM_MUST_USE;
/* Those of a checked file that a sample is picked from, evenly spaced; loading them checks that the
 * file is still the same. For as long as *queries stays where it is. */
struct points_queries queries_offer(struct queries *queries);
/* The same in 8-bit form, as the graph is searched while it is built; none when none are given. */
int queries_rows8(struct queries *queries, const struct row8_model *model, struct rows8 *out,
                  struct fathom_error *err) FATHOM_MUST_USE;
void queries_close(struct queries *queries);

#endif
