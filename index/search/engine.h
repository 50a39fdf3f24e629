/* Inside the engine: what its two halves share. engine.c has its life, submits and polls;
 * engine_reads.c has its traffic with the ring. Nobody else looks in here. */
#ifndef SEARCH_ENGINE_H
#define SEARCH_ENGINE_H

#include "pages.h"
#include "query.h"
#include "ring.h"
#include "scratch.h"

struct read_info {
    uint32_t slot, page; /* which query, and which of its wanted pages is the first of the run */
    uint16_t span;       /* pages of the run, those in gaps included */
    uint16_t wanted;     /* wanted pages of it */
    enum read_kind {
        READ_ROWS,
        READ_CODES,
        READ_LISTS /* page counts own.list_pages */
    } kind;
};

/* What a target recall came to, for an index of this generation under this plan (generation 0:
 * there is none yet): queries that follow each other mostly ask for the same, and to weigh all
 * operating points takes as long as some hops. */
struct chosen {
    uint64_t generation;
    struct plan plan;
    uint32_t k;
    float target;
    enum fathom_rerank rerank;
    struct operating_choice choice;
};

struct fathom_engine {
    const struct env *env;
    struct ring *ring;
    struct page_pool pool;
    struct read_info *reads; /* by first page of the run */
    struct query *slots;
    unsigned inflight, running;
    unsigned next_issue; /* slot to serve first, so that none starves */
    unsigned held_back;  /* pages wanted since reads were last issued, about */
    bool is_short;       /* of room: pages are wanted that could not be asked for */
    struct scratch scratch;
    struct chosen chosen; /* by the last query that had a target */
    struct kernel_score8 scores[QUERY_PAGE_BATCH];
};

/* Its answer depends on reads. */
static inline bool engine_is_reading(const struct query *query)
{
    return query->phase == QUERY_WALK || query->phase == QUERY_SCAN ||
           query->phase == QUERY_REFINE || query->phase == QUERY_EXACT || query->phase == QUERY_IDS;
}

/* How many pages a walk may have on their way. */
uint32_t engine_beam(const struct fathom_engine *engine);
/* A failed query answers at once; its reads in flight only return their buffers. */
void engine_fail(struct query *query, int status);
void engine_fail_walk(struct query *query, int status);

/* Queues what queries want, as far as there is room; the ring hands it over with its next submit or
 * reap. */
void engine_queue(struct fathom_engine *engine);
/* Hands it over after a query has begun, when enough is wanted. */
void engine_issue_early(struct fathom_engine *engine, const struct query *query);
/* Takes reads that have come, and steps their queries; waits until there are as many as wait_min,
 * or timeout_ns have passed (0: no limit). Returns how many, or -errno. */
int engine_reap(struct fathom_engine *engine, unsigned wait_min, uint64_t timeout_ns);
/* How many reads must come, whichever they are, before anything can be done with them. */
unsigned engine_reads_lacking(const struct fathom_engine *engine);

#endif
