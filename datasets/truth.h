/* Truth sets: for each query the ids of its nearest rows, nearest first, and their distances.
 *
 *     .bin, any other name  u32 query_count, u32 k, ids[query_count][k], f32 distances likewise
 *     .ivecs                ids alone
 *     .hdf5 .h5             the data sets "neighbors" and, where present, "distances"
 *
 * In the first, which is that of big-ann-benchmarks, ids are u32 or u64: the size of the file says.
 * Rows with fewer than k results end in FATHOM_ID_NONE (all ones in the file) and distance
 * +infinity. The same layout is what fathom-cli writes as res.bin. */
#ifndef DATASETS_TRUTH_H
#define DATASETS_TRUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "env.h"
#include "fathom/error.h"
#include "fathom/fathom.h"

struct truth {
    uint32_t query_count, k;
    uint64_t *ids;    /* [query_count][k] */
    float *distances; /* [query_count][k]; NULL when the file has none */
    bool ids64;       /* the file's ids were u64 */
};

/* Reads a whole truth set. rows bounds the ids (0: not checked). */
int truth_read(struct truth **out, const struct env *env, const char *path, uint64_t rows,
               struct fathom_error *err) FATHOM_MUST_USE;
/* An empty one to fill: all ids FATHOM_ID_NONE, all distances +infinity. */
int truth_create(struct truth **out, uint32_t query_count, uint32_t k,
                 struct fathom_error *err) FATHOM_MUST_USE;
void truth_destroy(struct truth *truth); /* accepts NULL */

/* Writes the .bin layout, with u64 ids where truth->ids64 says so; published by one rename. */
int truth_write(const struct truth *truth, const struct env *env, const char *path,
                struct fathom_error *err) FATHOM_MUST_USE;
/* Whether truth_write can create its file, asked before what is to be written takes long to make.
 */
int truth_check_path(const struct env *env, const char *path,
                     struct fathom_error *err) FATHOM_MUST_USE;

#endif
