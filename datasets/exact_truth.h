/* Exact ground truth: for each query the k nearest rows of a base, by float64 distances, ties to
 * the smaller id.
 *
 * A single-precision matrix product (OpenBLAS) of a block of base rows with the queries only
 * dismisses rows: one that it shows to be farther than the k-th best so far, by more than the
 * product's proven error, is out. Every other row is measured in float64. So the result does not
 * depend on BLAS, its kernels or the number of threads. */
#ifndef DATASETS_EXACT_TRUTH_H
#define DATASETS_EXACT_TRUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/error.h"
#include "fathom/fathom.h"
#include "truth.h"
#include "vectors.h"

struct exact_options {
    enum fathom_metric metric;
    uint32_t k;            /* 1..FATHOM_K_MAX, at most the rows of the base */
    unsigned threads;      /* at least 1 */
    bool skip_zero_rows;   /* cos: leave them out (a zero query gets no neighbours) instead of
                              refusing */
    uint64_t memory_bytes; /* queries are taken in groups that fit; 0: 256 MiB */
    /* Called after each block with the pairs done so far of base rows x queries; false: stop with
     * FATHOM_EINTERRUPTED. May be NULL. */
    bool (*progress)(void *context, uint64_t done);
    void *context;
};

struct exact_options exact_options_default(void);

struct row_list {
    uint64_t *rows;
    size_t count, room;
};

struct exact_report {
    struct row_list zero_base, zero_queries; /* under cos with skip_zero_rows */
    uint64_t measured;                       /* distances computed in float64 */
};

/* Streams base once per group of queries. report (zeroed by the caller) may be NULL;
 * exact_report_fini frees its lists. */
int exact_truth(struct truth **out, struct vector_file *base, struct vector_file *queries,
                const struct exact_options *options, struct exact_report *report,
                struct fathom_error *err) FATHOM_MUST_USE;
void exact_report_fini(struct exact_report *report);

#endif
