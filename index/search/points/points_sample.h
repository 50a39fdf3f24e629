/* What operating points are measured with, rows of the index or queries that were given, and their
 * exact neighbours. Private to measuring (points.c, points_pick.c, points_seek.c,
 * points_stream.c, points_sums.c, points_truth.c, points_replay.c). */
#ifndef SEARCH_POINTS_SAMPLE_H
#define SEARCH_POINTS_SAMPLE_H

#include "index.h"
#include "query.h"

#define SAMPLE_ROWS    800 /* or queries, that points are measured with */
#define SAMPLE_LARGE_K 100 /* the largest k that is measured, */
#define SAMPLE_LARGE   32  /* and rows of the sample that suffice for it: each has many results */
#define POINTS_OFFERED 4   /* rows that are looked at for each of a sample */
_Static_assert(POINTS_OFFERED *SAMPLE_ROWS == POINTS_OFFERED_MAX, "queries are offered like rows");
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
    uint32_t offered;               /* rows or queries that it was picked from, */
    bool given;                     /* which were queries */
    uint32_t truth_count;           /* neighbours of each: SAMPLE_TRUTH, or all other rows */
    uint32_t *rows;                 /* count, the hardest to search for last (points_pick.c); of
                                       queries their places among those offered */
    float *vectors;                 /* count x dim, user space: as they were given */
    struct sample_neighbour *truth; /* count x SAMPLE_TRUTH, of each in the order of their rows */
    float *nearest_cells;           /* of each the distance of the nearest centroid, row units */
    struct usual usual;
};

/* Of every so many rows one is searched for with k: */
static inline uint32_t points_sample_step(const struct points_sample *sample, uint32_t k)
{
    return k == SAMPLE_LARGE_K && sample->count > SAMPLE_LARGE ? sample->count / SAMPLE_LARGE : 1;
}

/* that in their middle, which is neither easier nor harder than they are on average. */
static inline bool points_sample_has(const struct points_sample *sample, uint32_t k, uint32_t i)
{
    uint32_t step = points_sample_step(sample, k);
    return i % step == step / 2;
}

/* The row that one is and must not find, or ROW_NONE. */
static inline uint32_t points_sample_itself(const struct points_sample *sample, uint32_t i)
{
    return sample->given ? ROW_NONE : sample->rows[i];
}

/* Whoever waits for a sample. */
struct sample_watch {
    /* True: end soon with FATHOM_EINTERRUPTED. Called by several threads at a time. */
    bool (*stopped)(void *context);
    void (*advance)(void *context, uint64_t rows); /* so many more of SAMPLE_PASSES of all rows */
    void *context;
    const struct points_keeper *keeper; /* may be NULL */
};
#define SAMPLE_PASSES 2 /* over the records of the file */

struct sample_options {
    uint32_t count;                       /* at the most */
    unsigned threads;                     /* the result does not depend on them */
    const struct points_queries *queries; /* that are sampled; NULL: rows */
};

/* Makes a sample, with its neighbours. All comes from the file, so that what is resident does not
 * matter. points_sample_fini accepts what a failure leaves. index: opened for cells. */
int points_sample_make(struct points_sample *out, const struct fathom_index *index,
                       const struct sample_options *options, const struct sample_watch *watch,
                       struct fathom_error *err) FATHOM_MUST_USE;
/* The recall@k of a search that misses nothing but what 8-bit distances put in the wrong order; 1
 * where they are exact. */
float points_sample_reach(const struct points_sample *sample, uint32_t k);
void points_sample_fini(struct points_sample *sample);

/* What a sample is picked from. */
struct points_offer {
    const float *queries; /* count x dim; NULL: rows of the index, evenly spaced */
    uint32_t count;
    unsigned threads; /* to look at them with */
};

/* Picks count of what is offered, into picked: in the order of their hardness, the numbers of rows,
 * or the places of queries. */
int points_pick(const struct fathom_index *index, const struct points_offer *offer,
                uint32_t *picked, uint32_t count, const struct sample_watch *watch,
                struct fathom_error *err) FATHOM_MUST_USE;

/* Reads rows as they were given, and prepares them to be compared with records. */
struct points_reader {
    struct query query;
    struct navigator navigator;
    uint8_t *bytes; /* of a row */
};
int points_reader_init(struct points_reader *reader,
                       const struct fathom_index *index) FATHOM_MUST_USE;
void points_reader_fini(struct points_reader *reader);
/* A row as it was given, or what its 8-bit form says where that is all; out: dim, may be the
 * reader's query.vector. */
int points_reader_load(struct points_reader *reader, uint32_t row, float *out,
                       struct fathom_error *err) FATHOM_MUST_USE;
/* Prepares what is in the reader's query.vector. weights: 2 x work_dim, each half rounded up to
 * MEM_ALIGN; they belong to out. */
void points_reader_prepare(struct points_reader *reader, int8_t *weights, struct row8_query *out);

/* Some of a file's records: whole ones, one behind the other. */
struct record_piece {
    const uint8_t *rows;
    uint64_t first; /* its first row */
    uint32_t count;
};
/* A pass over the records of a file. */
struct points_pass {
    uint64_t first; /* row that it begins with; those before it were seen by an earlier run */
    /* Called for each piece, for all of so many workers at the same time. */
    void (*look)(void *context, const struct record_piece *piece, unsigned worker);
    /* All before row `next` were looked at: may be kept, when that is due. */
    int (*keep)(void *context, uint64_t next, struct fathom_error *err);
    void *context;
};
/* Whether one may begin there: pieces end with pages. */
bool points_pass_begins(const struct fathom_index *index, uint64_t row);
int points_stream(const struct fathom_index *index, unsigned threads,
                  const struct sample_watch *watch, const struct points_pass *pass,
                  struct fathom_error *err) FATHOM_MUST_USE;

/* ---- neighbours (points_seek.c) ---- */

struct points_seek;
/* -ENOMEM when there is no memory; *out is NULL then. The sample, with its truth as far as it is
 * known, and the index outlive it. */
int points_seek_create(struct points_seek **out, const struct points_sample *sample,
                       const struct fathom_index *index, unsigned threads) FATHOM_MUST_USE;
void points_seek_destroy(struct points_seek *seek); /* accepts NULL */
/* One of the sample, before anything is looked at. */
void points_seek_set(struct points_seek *seek, struct points_reader *reader, uint32_t i);
/* Enters the rows of a piece that are nearer than what the truth has (points_pass.look). */
void points_seek_look(struct points_seek *seek, const struct record_piece *piece, unsigned worker);

/* ---- what is kept (points_keep.c) ---- */

/* How far the pass has come that what is kept with it belongs to. */
struct points_kept {
    uint64_t generation; /* of the index */
    uint64_t next;       /* row; of points: how many residencies there are */
};
#define POINTS_KEPT_MOST 3 /* parts, with this one */
/* Saves the parts behind *kept when that is due. keeper may be NULL. */
int points_keep(const struct points_keeper *keeper, const char *name, struct points_kept *kept,
                const struct points_part *parts, unsigned count,
                struct fathom_error *err) FATHOM_MUST_USE;
/* 1: *kept and the parts are what was saved of this generation. 0: there is nothing; the parts hold
 * anything. */
int points_load_kept(const struct points_keeper *keeper, const char *name, uint64_t generation,
                     struct points_kept *kept, const struct points_part *parts, unsigned count,
                     struct fathom_error *err) FATHOM_MUST_USE;
/* Of what picking and the truth keep of an index of so many rows. */
uint64_t points_pick_bytes(uint64_t rows);
uint64_t points_sample_bytes(uint64_t rows);
/* Says so, and returns status. */
int points_failed(const struct fathom_index *index, int status, struct fathom_error *err);

/* What a search would come to that refines at a threshold. */
struct replay {
    float recall, reads;
    float reranked_recall,
        reranked_reads; /* and that is re-ranked then; 0 where 8 bits are exact */
};

/* Of the candidates of a query for sample row i, at each of at most REPLAYS_MAX thresholds, the
 * lowest first (points_replay.c). The query cannot go on afterwards. Returns whether all that it
 * should find are among them, so that a longer list would bring nothing but more to be mistaken. */
#define REPLAYS_MAX 7
bool points_replay(const struct points_sample *sample, uint32_t i, struct query *query,
                   struct navigator *navigator, const float *thresholds, uint32_t count,
                   struct replay *out);

/* ---- means (points_sums.c) ---- */

/* What a longer list changes for some rows, which stand for others that are not searched for with
 * it. Begins as zeros. */
struct points_change {
    struct replay sum;
    double squares, reranked_squares; /* of the changes of recall */
    uint32_t told, skipped;
};
/* A row that tells. */
void points_change_add(struct points_change *change, const struct replay *before,
                       const struct replay *after);
/* A row that was skipped, once all have told: it fares as these do on average. */
void points_change_apply(struct points_change *change, struct replay *replay);
/* How far sums of recall over the whole sample may be off by what was so taken to be: variances. */
struct points_doubt {
    double plain, reranked;
};
/* Adds what this list leaves to be in doubt. */
void points_change_doubt(const struct points_change *change, struct points_doubt *doubt);

/* Recalls and reads of rows in the order of their hardness. Begins as zeros. */
struct points_sums {
    double recall, squares, reads;
    double last, steps; /* recall of the last, and the squares of differences between neighbours */
    uint32_t count;
};
void points_sums_add(struct points_sums *sums, double recall, double reads);
/* doubt: variance of the sum of recalls besides what they show (points_doubt). */
struct attained points_attained(const struct points_sums *sums, const struct points_sample *sample,
                                uint32_t k, double doubt);

#endif
