/* What is asked and what is right: the queries, whole in memory, and the truth set that answers are
 * held against. */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include <stdint.h>

#include "env.h"
#include "fathom/fathom.h"
#include "truth.h"

struct workload {
    uint32_t query_count, dim, k;
    enum fathom_dtype dtype;
    size_t row_bytes;
    uint8_t *vectors;    /* query_count x row_bytes */
    struct truth *truth; /* NULL: recall is not measured */
    /* Room for the answers of a run. It is in memory before any index is, so that who looks at the
     * process from outside does not take it for the index's. */
    uint64_t *ids;     /* query_count x k */
    uint8_t *answered; /* query_count */
};

/* truth_path may be NULL. ids_path may be NULL; otherwise the file of ids that the index was built
 * with (datasets/ids.h), through which the truth set's row numbers are translated. */
int workload_open(struct workload *out, const struct env *env, const char *query_path,
                  const char *truth_path, const char *ids_path, uint32_t k,
                  struct fathom_error *err) FATHOM_MUST_USE;
void workload_close(struct workload *workload); /* accepts a zeroed one */

const void *workload_vector(const struct workload *workload, uint32_t query);

/* recall@k, the mean over the queries whose answered[] is set: of the k right answers, the share
 * that was found.
 *
 * Ties are right too: an id counts when the truth set lists it, even behind place k, at the
 * distance of its k-th entry (within one part in a million, for what float rounding does); ties
 * only fill the places that nearer entries leave. So an index is not blamed for choosing another of
 * two equally near rows. Truth rows with fewer than k entries are held to what they have. Truth
 * sets without distances (.ivecs) know no ties: the first k ids are right.
 *
 * ids is [query_count][k], as searched; unused places hold FATHOM_ID_NONE. Negative when there is
 * nothing to say. */
double workload_recall(const struct workload *workload, const uint64_t *ids,
                       const uint8_t *answered);

#endif
