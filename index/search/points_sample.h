/* The rows of an index that operating points are measured with, and their exact neighbours. Private
 * to measuring (points.c, points_truth.c). */
#ifndef SEARCH_POINTS_SAMPLE_H
#define SEARCH_POINTS_SAMPLE_H

#include "index.h"

#define SAMPLE_LARGE_K 100 /* the largest k that is measured, */
#define SAMPLE_LARGE   48  /* and rows of the sample that suffice for it: each has many results */
/* Neighbours of the truth. Those that rounding to 8 bits moves across the k-th place are within,
 * and whatever is re-ranked. */
#define SAMPLE_TRUTH 136

/* One of the neighbours of a row that are nearest by their 8-bit form. */
struct sample_neighbour {
    uint32_t row;   /* UINT32_MAX: there are no more */
    uint32_t rank;  /* by exact distances, near the places that are asked for */
    float distance; /* row units, of the 8-bit form: what searches rank by */
    float sigma;    /* its standard error; 0 where it is exact */
    float exact;    /* by the full vector, as users see it; NaN where it has no exact rank */
};

struct points_sample {
    uint32_t count, dim;
    uint32_t truth_count;           /* neighbours of each: SAMPLE_TRUTH, or all other rows */
    uint32_t *rows;                 /* count */
    float *vectors;                 /* count x dim, user space: as they were given */
    struct sample_neighbour *truth; /* count x SAMPLE_TRUTH, of each in the order of their rows */
};

/* How far the search for the truth is; called from the thread that called. */
struct sample_watch {
    bool (*stopped)(void *context); /* true: end soon with FATHOM_EINTERRUPTED */
    void (*advance)(void *context, uint64_t rows);
    void *context;
};

/* At most count rows, evenly spaced over the file in an order of which every prefix is spread
 * evenly too, more or less. Their neighbours come from one pass over the records in the file, so
 * that what is resident does not matter. The result does not depend on threads; points_sample_fini
 * accepts what a failure leaves. */
int points_sample_make(struct points_sample *out, const struct fathom_index *index, uint32_t count,
                       unsigned threads, const struct sample_watch *watch,
                       struct fathom_error *err) FATHOM_MUST_USE;
/* The recall@k of a search, for the first count rows, that misses nothing but what 8-bit distances
 * put in the wrong order; 1 where they are exact. */
float points_sample_reach(const struct points_sample *sample, uint32_t count, uint32_t k);
void points_sample_fini(struct points_sample *sample);

/* What a search would come to that refines at a threshold. */
struct replay {
    float recall, reads;
    float reranked_recall,
        reranked_reads; /* and that is re-ranked then; 0 where 8 bits are exact */
};

/* Of the candidates of a query for sample row i, at each of at most REPLAYS_MAX thresholds
 * (points_replay.c). The query cannot go on afterwards. */
#define REPLAYS_MAX 6
void points_replay(const struct points_sample *sample, uint32_t i, struct query *query,
                   struct navigator *navigator, const float *thresholds, uint32_t count,
                   struct replay *out);

#endif
