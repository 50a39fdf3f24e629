/* libfathom: open, verify and search an on-disk vector index. No sockets, no BLAS, no builder.
 *
 *     struct fathom_index *index;
 *     struct fathom_engine *engine;
 *     struct fathom_error err;
 *     struct fathom_open_options open = fathom_open_options_default();
 *     open.dram_budget_bytes = 256 << 20;
 *     if (fathom_index_open(&index, "wordnet.fathom", &open, &err))
 *         return complain(err.msg);   // what, where and what to do
 *     struct fathom_engine_options options = fathom_engine_options_default();
 *     options.index = index;
 *     if (fathom_engine_create(&engine, &options, &err))
 *         return complain(err.msg);
 *     uint64_t ids[10];
 *     float distances[10];
 *     struct fathom_query query = fathom_query_default();
 *     query.vector = floats;          // of the index's dimension
 *     int found = fathom_search(engine, index, &query, ids, distances, NULL, &err);
 *     if (found < 0)
 *         return complain(err.msg);
 *     fathom_engine_destroy(engine);
 *     fathom_index_close(index);
 *
 * Threads: an opened index is immutable and may be shared (const pointers). An engine belongs to
 * one thread: the one that created it. Ids are u64; distances are f32 and smaller is nearer:
 * squared Euclidean for l2, 1 - cosine for cos, minus the inner product for ip. */
#ifndef FATHOM_FATHOM_H
#define FATHOM_FATHOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FATHOM_DIM_MAX         4096
#define FATHOM_K_MAX           4096
#define FATHOM_SEARCH_LIST_MAX 16384
#define FATHOM_ID_NONE                                                                             \
    UINT64_MAX /* pads rows with fewer than k results; their distance is +inf                      \
                */

/* Values are on disk and pinned. */
enum fathom_dtype { FATHOM_F32 = 1, FATHOM_F16 = 2, FATHOM_I8 = 3, FATHOM_U8 = 4 };
enum fathom_metric { FATHOM_METRIC_L2 = 1, FATHOM_METRIC_IP = 2, FATHOM_METRIC_COS = 3 };
enum fathom_io { FATHOM_IO_AUTO, FATHOM_IO_URING, FATHOM_IO_PREAD };
enum fathom_navigator { FATHOM_NAVIGATOR_AUTO, FATHOM_NAVIGATOR_GRAPH, FATHOM_NAVIGATOR_CELLS };

FATHOM_API const char *fathom_version(void);
FATHOM_API const char *fathom_dtype_name(enum fathom_dtype dtype); /* "f32"...; "?" when unknown */
FATHOM_API const char *fathom_metric_name(enum fathom_metric metric); /* "l2", "ip", "cos" */
FATHOM_API const char *
fathom_navigator_name(enum fathom_navigator navigator);        /* "auto", "graph", "cells" */
FATHOM_API const char *fathom_io_name(enum fathom_io io);      /* "auto", "uring", "pread" */
FATHOM_API size_t fathom_dtype_bytes(enum fathom_dtype dtype); /* of one scalar; 0 when unknown */
FATHOM_API const char *fathom_cpu_level(void);                 /* "scalar", "avx2", "avx512" */

/* ---- an index ---- */

struct fathom_index;

struct fathom_open_options {
    /* Bounds all that is kept in memory for this index, including the scratch of threads * inflight
     * queries (0: everything that helps is made resident). Too small is FATHOM_EBUDGET, with the
     * least that would do in the message. */
    uint64_t dram_budget_bytes;
    double dram_budget_share; /* instead: this part of the vectors as f32 (rows * dim * 4) of what
                                 is opened, above 0 and finite; 0: dram_budget_bytes counts */
    unsigned threads;         /* engines that will search it, at least 1 */
    unsigned inflight;        /* queries in flight in each; 0: 16, or as many of them as a smaller
                                 budget is well spent on, or has room for */
    unsigned page_buffers;    /* of each, as they will be created; 0: as many as usual (8 a query in
                                 flight, 32 at least), or as a smaller budget is well spent on, or
                                 has room for */
    enum fathom_navigator navigator; /* AUTO: the planner's choice for this budget and size */
    uint32_t code_bytes; /* force the bytes of navigation code per row (for experiments); 0: the
                            planner's choice */
    float list_share;    /* force the graph, with this part of the neighbour lists in memory and the
                            others on SSD, in (0, 1] and rounded down to 256ths; 0: the planner's
                            choice */
    float code_share;    /* force the cells, with this part of their codes in memory and the others
                            read from SSD, in (0, 1] and rounded down to pages; 0: the planner's
                            choice */
    float plan_recall;   /* the target_recall that queries will ask for, in (0, 1): residency and
                            navigator are then what reaches it most cheaply within the budget. 0:
                            unknown; then what reaches, up to .98, all that can be reached within
                            the budget, and of that what is cheapest at .97 */
    const struct fathom_index *engines_of; /* the engines that will search it are there already,
                                              created for this index, which is open until this call
                                              returns: page buffers are theirs, and their number of
                                              queries in flight unless one is given. NULL: they will
                                              be created for the index that is opened */
};

FATHOM_API struct fathom_open_options fathom_open_options_default(void);

/* Opens the current generation in dir, verifies what it loads, decides residency. On failure *out
 * is NULL. */
FATHOM_API int fathom_index_open(struct fathom_index **out, const char *dir,
                                 const struct fathom_open_options *options,
                                 struct fathom_error *err) FATHOM_MUST_USE;
/* What an open would come to, from the file's header and model alone: nothing is made resident.
 * With it the budget of an index that is in use can be changed without being exceeded by a second
 * copy: see docs/OPERATIONS.md for how the server does it. */
struct fathom_outlook {
    uint64_t total_bytes; /* what fathom_index_open would keep, at the most, with scratch_bytes */
    uint64_t scratch_bytes;
    uint64_t least_bytes;  /* the smallest budget that it would accept: of what the options leave
                              open, with the fewest queries in flight and page buffers */
    uint64_t budget_bytes; /* that of the options; 0: none */
    unsigned inflight;     /* of each engine, under that budget */
    unsigned page_buffers;
    uint64_t raw_bytes;
};

/* FATHOM_EBUDGET when the options' budget is too small; then all but total_bytes is filled in. */
FATHOM_API int fathom_index_outlook(const char *dir, const struct fathom_open_options *options,
                                    struct fathom_outlook *out,
                                    struct fathom_error *err) FATHOM_MUST_USE;

/* Another reference; readers hold one each. */
FATHOM_API struct fathom_index *fathom_index_retain(struct fathom_index *index);
/* Drops a reference; the last one closes. No query on it may be in flight. Accepts NULL. */
FATHOM_API void fathom_index_close(struct fathom_index *index);

struct fathom_index_info {
    uint64_t rows;
    uint64_t generation; /* identifies the content: equal builds have equal generations */
    uint32_t dim;
    enum fathom_dtype dtype;
    enum fathom_metric metric;
    enum fathom_navigator navigator; /* chosen at open */
    uint32_t code_bits; /* of navigation code per row at this residency; 8 * dim when 8-bit rows are
                           resident */
    uint32_t degree_max;
    uint64_t resident_lists; /* rows whose neighbour list is in memory; the graph reads others */
    uint32_t cells;
    uint32_t rows_per_page; /* of the record pages that refine reads */
    uint64_t index_bytes;   /* on disk */
    uint64_t raw_bytes;     /* rows * dim * bytes of a scalar */
    uint32_t format_version;
    bool direct_io; /* reads bypass the page cache */
    bool has_external_ids;
    bool large_buffers; /* engines created for this index read into memory that lies together, into
                           which several pages are read at once for less; otherwise the system gave
                           none, or the budget has no room for making it (docs/OPERATIONS.md) */
    unsigned inflight;  /* queries, in each engine that is created for it */
    unsigned page_buffers; /* of each of them */
    float plan_recall;     /* as in fathom_open_options */
    float recall_reached;  /* the highest target_recall, for k of 10, that queries may count on at
                              this residency without full vectors; 0: the index does not know */
};

FATHOM_API void fathom_index_get_info(const struct fathom_index *index,
                                      struct fathom_index_info *out);

/* The ledger: what is kept in memory for an index, by part, to the byte. */
#define FATHOM_LEDGER_PARTS_MAX 24
struct fathom_ledger {
    struct {
        const char *name; /* "codes", "lists", "directory", "ids", "cells", "entries", "model",
                             "fixed" (the rest) */
        uint64_t bytes;
    } parts[FATHOM_LEDGER_PARTS_MAX];
    unsigned part_count;
    uint64_t index_bytes;   /* the sum of the parts: what grows with the rows */
    uint64_t scratch_bytes; /* query slots and ring buffers of threads * inflight queries */
    uint64_t total_bytes;   /* index_bytes + scratch_bytes */
    uint64_t budget_bytes;  /* 0: none */
};

FATHOM_API void fathom_index_get_ledger(const struct fathom_index *index,
                                        struct fathom_ledger *out);

/* The provenance manifest (JSON text, NUL-terminated): input hash, options, seed, version. Free
 * with free(). */
FATHOM_API int fathom_index_read_manifest(const struct fathom_index *index, char **out,
                                          struct fathom_error *err) FATHOM_MUST_USE;

/* ---- searching ---- */

/* Results that 8-bit rows leave in doubt may be ranked by their full vectors, for a few reads more.
 * AUTO: where the index's operating points say that a target recall is reached so at less cost, or
 * only so; never with a search list of one's own. OFF and ON leave the choice of the list. Changes
 * nothing where 8 bits are exact. Values are pinned. */
enum fathom_rerank { FATHOM_RERANK_AUTO, FATHOM_RERANK_OFF, FATHOM_RERANK_ON };

struct fathom_query {
    const void
        *vector; /* dim scalars of dtype; must stay valid until fathom_engine_submit returns */
    enum fathom_dtype dtype; /* may differ from the index's */
    uint32_t dim;            /* 0: trust the caller; otherwise must equal the index's */
    uint32_t k;              /* 1..FATHOM_K_MAX */
    uint32_t search_list;    /* L, 1..FATHOM_SEARCH_LIST_MAX; raised to 1.5 k (cells: 1.5 k / 4); 0:
                                from target_recall or the default */
    float target_recall;  /* in (0, 1): picks a calibrated operating point, and a longer list for a
                             query unlike those it was measured on; 0: not used */
    bool exact_distances; /* read the full vector of every result, so that each distance is exact */
    enum fathom_rerank rerank;
    uint64_t deadline_ns;   /* on the monotonic clock; 0: none */
    float refine_threshold; /* expert: read a page when this much of a result hangs on it, in (0,
                               0.5); 0: the default */
    void *user;             /* given back with the result */
};

FATHOM_API struct fathom_query fathom_query_default(void);

/* What one query did. Counted always (plain increments); times only cost two clock reads. */
struct fathom_query_stats {
    enum fathom_navigator navigator;
    uint32_t hops;           /* nodes expanded, or cells scanned */
    uint32_t rounds;         /* waves of reads */
    uint32_t reads;          /* of all kinds; each brings up to 16 pages that lie near each other */
    uint32_t list_reads;     /* those of them that brought pages of neighbour lists */
    uint32_t code_reads;     /* and those that brought codes */
    uint32_t resident_lists; /* neighbour lists served from memory */
    uint32_t code_distances, full_distances;
    uint32_t widened;  /* 1: the search list of target_recall was made longer, since the query is
                          unlike those that the index's operating points were measured on */
    uint32_t reranked; /* 1: results were ranked by full vectors where 8 bits left them in doubt */
    uint64_t bytes;    /* read from the index file: 4,096 for each page */
    uint64_t queue_ns, io_ns, compute_ns, total_ns;
    const char *stop_reason; /* "converged", "exhausted", "limit" */
};

struct fathom_result {
    void *user;         /* of the query */
    int status;         /* 0, or a negative code; then no ids are valid */
    const char *detail; /* of a failure: what and where (file, page); NULL otherwise. Valid as long
                           as ids */
    uint32_t count;     /* valid results, at most k */
    uint64_t
        *ids; /* k entries, nearest first, padded with FATHOM_ID_NONE; valid until the slot is used
                 again, that is until the next fathom_engine_submit or _poll on this engine */
    float *distances;
    struct fathom_query_stats stats;
};

struct fathom_engine;

#define FATHOM_PAGE_BUFFERS_MIN 16

struct fathom_engine_options {
    enum fathom_io io;
    unsigned inflight;     /* query slots, 1..256; 0: as many as the index has for it, or 16 */
    unsigned page_buffers; /* of 4 KiB, FATHOM_PAGE_BUFFERS_MIN to 2,048; 0: as many as usual, 8 for
                              each slot and 32 at least, but no more than the index has for it. With
                              fewer, queries wait for each other's reads. */
    const struct fathom_index *index; /* for which the engine is one of the threads it was opened
                                         for: page buffers come from what its budget set aside, and
                                         may be large pages. NULL: buffers of its own. It searches
                                         any index, and does not keep this one open */
};

FATHOM_API struct fathom_engine_options fathom_engine_options_default(void);
/* Belongs to the calling thread from here on. */
FATHOM_API int fathom_engine_create(struct fathom_engine **out,
                                    const struct fathom_engine_options *options,
                                    struct fathom_error *err) FATHOM_MUST_USE;
/* Waits for reads in flight; unfinished queries vanish. Accepts NULL. */
FATHOM_API void fathom_engine_destroy(struct fathom_engine *engine);

/* Starts a query. 0, FATHOM_EBUSY when every slot is taken, or what is wrong with the query. The
 * index must stay referenced by the caller until the result has been polled. */
FATHOM_API int fathom_engine_submit(struct fathom_engine *engine, const struct fathom_index *index,
                                    const struct fathom_query *query,
                                    struct fathom_error *err) FATHOM_MUST_USE;
/* Steps every query that can go on, submits their reads in one call and fills up to max finished
 * results; returns how many, or a negative code. wait: block until at least one is finished (when
 * any is running). */
FATHOM_API int fathom_engine_poll(struct fathom_engine *engine, struct fathom_result *out,
                                  unsigned max, bool wait) FATHOM_MUST_USE;
/* The same, but blocks until until_ns (of CLOCK_MONOTONIC) at the latest, and then returns 0. A
 * loop that waits for nothing else but its next query is woken less often by this than by the
 * event fd. */
FATHOM_API int fathom_engine_poll_until(struct fathom_engine *engine, struct fathom_result *out,
                                        unsigned max, uint64_t until_ns) FATHOM_MUST_USE;
/* Marks the queries with this user pointer cancelled: they finish with FATHOM_ECANCELLED once their
 * reads are back. */
FATHOM_API void fathom_engine_cancel(struct fathom_engine *engine, void *user);
FATHOM_API unsigned fathom_engine_running(const struct fathom_engine *engine);
/* For an event loop: readable when fathom_engine_poll has something to do. -1: poll after every
 * submit. */
FATHOM_API int fathom_engine_event_fd(const struct fathom_engine *engine);
FATHOM_API enum fathom_io fathom_engine_io(const struct fathom_engine *engine);
/* Why AUTO fell back to pread, with the remedy; NULL when it did not. */
FATHOM_API const char *fathom_engine_io_note(const struct fathom_engine *engine);

/* One query, start to end, on an otherwise idle engine. ids and distances have room for query->k;
 * stats may be NULL. Returns the number of valid results or a negative code. */
FATHOM_API int fathom_search(struct fathom_engine *engine, const struct fathom_index *index,
                             const struct fathom_query *query, uint64_t *ids, float *distances,
                             struct fathom_query_stats *stats,
                             struct fathom_error *err) FATHOM_MUST_USE;

/* ---- checking ---- */

struct fathom_verify_report {
    uint64_t pages, bad_pages;
    uint64_t references, bad_references; /* deep: neighbour ids, list lengths, cells, ids */
    uint64_t unreachable_rows;           /* deep: rows that no entry point reaches */
};

/* Reads every page of the current generation in dir and checks it; deep checks every reference too.
 * 0 when sound, FATHOM_ECHECKSUM or FATHOM_ECORRUPT when not; damage (may be NULL) is called once
 * for each thing found. */
FATHOM_API int fathom_verify(const char *dir, bool deep, struct fathom_verify_report *out,
                             void (*damage)(void *context, const char *what), void *context,
                             struct fathom_error *err) FATHOM_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
