/* Navigators: from a query to candidates with estimated distances and error bounds, touching memory
 * only. A navigator's scratch belongs to an engine, not to a query: navigation runs from start to
 * end without waiting. */
#ifndef SEARCH_NAVIGATE_H
#define SEARCH_NAVIGATE_H

#include "index.h"

struct candidate {
    float estimate; /* squared distance, row units */
    float sigma;    /* its standard error */
    uint32_t row;
};

struct pool_entry {
    float estimate;
    uint32_t row;
    bool expanded;
};

#define BASE_CACHE        1024 /* cells whose |q - c|^2 is remembered while the graph is walked */
#define SCORE_BATCH       512
#define NAVIGATOR_BUCKETS 512 /* of the sort of cells by distance */

struct navigator {
    /* the query, prepared */
    float *work, *units, *rotated;
    int8_t *code_hi, *code_lo;
    struct planes_query planes;
    /* the graph */
    struct pool_entry *pool;
    uint32_t *visited; /* open addressing, row + 1; 0 is empty */
    uint32_t visited_mask, visited_count;
    uint32_t *ids; /* a batch of rows, their cells, and those of which the base is not known yet */
    uint32_t *cells, *missing;
    float *scores, *estimates;
    struct kernel_score8 *row_scores;
    struct {
        uint32_t cell;
        float base;
    } * base_cache;
    /* the cells */
    float *cell_distance;
    uint32_t *cell_order, *cell_spare, *bucket;
    float *kept_estimates; /* of the scan */
    uint32_t *kept_rows;
    /* refine: pages by hash */
    struct page_slot {
        uint64_t page;
        float gain;
        uint32_t chosen;
    } * page_slots;
    uint32_t page_mask;
    float tail[80]; /* upper tail of the Gaussian at i / 16 */

    void *memory;
    uint64_t memory_bytes;
    struct navigator_capacity {
        uint32_t work_dim, cells, degree, search_list, candidates;
    } capacity;
};

struct query;

/* Entries of the visited set for a search list; a power of two. */
uint32_t navigator_visited_slots(uint32_t search_list, uint32_t degree);
uint64_t navigator_memory_bytes(struct navigator_capacity capacity);
/* Replaces the scratch by one of this capacity. 0 or -ENOMEM (then the old one stays). */
int navigator_reserve(struct navigator *navigator,
                      struct navigator_capacity capacity) FATHOM_MUST_USE;
void navigator_fini(struct navigator *navigator);

/* Prepares the query's forms for this index: work space, row units, rotated weights. */
void navigator_prepare(struct navigator *navigator, struct query *query);

/* Estimates for count (<= SCORE_BATCH) rows into estimates. */
void navigate_estimate(struct navigator *navigator, const struct query *query, const uint32_t *rows,
                       uint32_t count, float *estimates);
/* A record's distance from its score. */
static inline float record_distance(const struct row8_query *query,
                                    const struct fathom_index *index,
                                    const struct kernel_score8 *score, const uint8_t *record)
{
    bool exact = index->properties.records_exact;
    if (exact)
        return row8_distance(query, score);
    return row8_record_distance(query, score,
                                row8_record_scale(record, index->properties.work_dim, exact));
}

/* The standard error of a row's estimate. */
float navigate_row_sigma(const struct fathom_index *index, uint32_t row,
                         float estimate); /* from resident 8-bit rows */
float navigate_sigma(struct navigator *navigator, const struct query *query, uint32_t row,
                     float estimate);

/* Fill query->candidates (unordered) and the navigation part of its stats. */
void graph_navigate(struct navigator *navigator, struct query *query);
void cells_navigate(struct navigator *navigator, struct query *query);

#endif
