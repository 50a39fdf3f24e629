/* What a build takes, by arithmetic. */
#ifndef BUILDER_PREDICT_H
#define BUILDER_PREDICT_H

#include "builder.h"

/* Degrees and lists must be chosen already. */
void predict_shape(const struct build_options *options, struct build_estimate *estimate);

#define PREDICT_BUDGET_THREADS 4 /* that a memory budget is planned for; a build uses no more */

/* Into how many parts the graph must be cut to keep the budget; 1: all fits in memory. Does not
 * depend on the threads. */
uint32_t predict_parts(const struct build_options *options, uint64_t rows, uint32_t work_dim,
                       bool exact);
/* The least budget that any build of these rows keeps. */
uint64_t predict_least(const struct build_options *options, uint64_t rows, uint32_t work_dim);
/* What measuring operating points takes, with so many threads. */
uint64_t predict_measuring(const struct build_options *options, uint64_t rows, uint32_t work_dim,
                           uint64_t list_bytes, unsigned threads);

#endif
