/* A small index made by the real builder from clustered random vectors, in a folder of its own, and
 * the vectors that went into it: so that answers can be compared with what a naive computation
 * says. */
#ifndef SUPPORT_SMALL_INDEX_H
#define SUPPORT_SMALL_INDEX_H

#include "fathom/fathom.h"
#include "folder.h"

struct small_options {
    uint32_t rows, dim;
    enum fathom_metric metric;
    enum fathom_dtype dtype;
    uint32_t queries; /* 0: 20 */
    float spread; /* of the rows of a cluster round their centre, centres being about 1 apart; 0:
                     0.5 */
    uint64_t seed;
    bool in_memory; /* on a file system in memory where there is one: for tests that read a great
                       deal */
    bool no_points; /* operating points are not measured: for tests that have no use for them */
};

/* f32 rows under l2, the rest as by default. */
static inline struct small_options small_f32(uint32_t rows, uint32_t dim, uint32_t queries,
                                             uint64_t seed)
{
    return (struct small_options){.rows = rows,
                                  .dim = dim,
                                  .metric = FATHOM_METRIC_L2,
                                  .dtype = FATHOM_F32,
                                  .queries = queries,
                                  .seed = seed};
}

struct small_index {
    char folder[FOLDER_PATH_MAX], dir[FOLDER_PATH_MAX]; /* dir: the index */
    struct small_options options;
    float *rows, *queries; /* exactly the values of the file; dim each */
    void *raw_queries;     /* the queries as dtype */
    double **sorted; /* of each query that was asked about, the distances of all rows, rising */
};

/* Fails the test when the build does. Ids are row numbers. */
void small_index_make(struct small_index *small, const struct small_options *options);
void small_index_remove(struct small_index *small);

/* A query as dtype, ready for fathom_query.vector. */
const void *small_query(const struct small_index *small, uint32_t query);
/* The default query with that vector, and a search list of middling length. */
struct fathom_query small_request(const struct small_index *small, uint32_t query);
/* The distance as users see it, in double precision. */
double small_distance(const struct small_index *small, uint32_t query, uint64_t row);
/* How many of count ids are as near as the count-th nearest row: a tie is as good as any. */
uint32_t small_right(const struct small_index *small, uint32_t query, const uint64_t *ids,
                     uint32_t count);

#endif
