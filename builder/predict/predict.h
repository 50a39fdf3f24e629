/* What a build takes, by arithmetic. */
#ifndef BUILDER_PREDICT_H
#define BUILDER_PREDICT_H

#include "builder.h"
#include "degree.h"
#include "format.h"
#include "spill.h"

/* What is known of the data and the machine. */
struct predict_known {
    struct degree_probe probe; /* 0: nothing; cut alone may be 0 too */
    double slowness;           /* of this machine, 1 for the usual one */
    uint64_t queries;          /* that points are measured on; 0: on rows */
};

/* Degrees and lists must be chosen already. progress: of a build that begins its graph; NULL: there
 * is none yet. */
void predict_shape(const struct build_options *options, const struct predict_known *known,
                   const struct spill_progress *progress, struct build_estimate *estimate);
/* What measuring an index anew takes (remeasure.c), on a machine so slow. */
struct predict_points {
    double copying, measuring; /* seconds; reading back is of measuring */
    struct build_measuring shares;
};
struct predict_points predict_points(const struct build_options *options,
                                     const struct properties *properties,
                                     const struct predict_known *known);

/* What a build has timed of itself before its graph; 0: not in this run. */
struct predict_timed {
    double pace; /* as pace_measure has it */
    uint64_t probe_ns, cells_ns, order_ns;
    struct degree_probe probe; /* what it found */
};

/* Of this machine, by what a build of so many rows has timed. */
double predict_slowness(const struct build_options *options, uint64_t rows, uint32_t work_dim,
                        const struct predict_timed *timed);

#define PREDICT_BUDGET_THREADS 4 /* that a memory budget is planned for; a build uses no more */

/* Into how many parts the graph must be cut to keep the budget; 1: all fits in memory. Does not
 * depend on the threads. vector_bytes: of a row of the input; 0 when 8 bits hold it exactly. */
uint32_t predict_parts(const struct build_options *options, uint64_t rows, uint32_t work_dim,
                       uint64_t vector_bytes);
/* Rows that are in memory at a time until the graph is built, in parts, when the budget does not
 * hold all of them; 0: it does, or there is none. */
uint32_t predict_held(const struct build_options *options, uint64_t rows, uint32_t work_dim);
/* The least budget that any build of these rows keeps. */
uint64_t predict_least(const struct build_options *options, uint64_t rows, uint32_t work_dim,
                       uint64_t vector_bytes);
/* What there is in any stage, whatever the rows. */
uint64_t predict_program(uint32_t work_dim);

#endif
