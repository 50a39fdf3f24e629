/* Searches on their way through an engine: a bounded queue, the engine's slots, deadlines and
 * cancelling. Used by each worker and by the admin thread; belongs to one thread, as its engine
 * does.
 *
 * A search is a request of n queries (rows). Its rows are submitted one at a time, in turn with
 * those of other searches, so that a large batch does not hold up single queries. It is answered
 * once, by the done callback: with results when every row has them, otherwise with the first error.
 * A search that is answered early (deadline, cancel) or whose owner is gone stays here until its
 * last read is back, because its slots and its edition are still in use. */
#ifndef SERVER_DISPATCH_H
#define SERVER_DISPATCH_H

#include "buffer.h"
#include "registry.h"
#include "rpc_error.h"
#include "stats.h"

struct dispatch;

/* The counts of one query, or their sum over the rows of a request. */
struct search_counts {
    uint64_t hops, rounds, reads, list_reads, code_reads, bytes, resident_lists, code_distances,
        full_distances, reranked, widened;
    uint64_t queue_ns, io_ns, compute_ns, total_ns;
    const char *stop_reason;
};

struct search_row {
    struct search *search; /* the engine gives back a pointer to this */
    bool running;
};

struct search {
    /* The owner's. */
    void *owner;
    struct search *owner_next, **owner_prev; /* in the owner's list, when it keeps one */
    uint32_t msgid;
    /* The question; set before dispatch_start. */
    struct edition *edition;   /* a reference, dropped when the search is over */
    struct fathom_query query; /* but for vector and user, the same for all rows */
    bool explain;
    uint32_t n;
    void *vectors; /* n * dim scalars, aligned; filled by the owner */
    uint64_t arrived_ns;
    /* The answer; valid in the done callback. */
    struct rpc_error err; /* code NULL: there are results */
    uint64_t *ids;        /* n * k */
    float *distances;
    bool complete;                    /* no row has fewer than min(k, rows of the index) results */
    struct search_counts counts;      /* over all rows */
    struct search_counts *row_counts; /* n, when explain; else NULL */
    /* dispatch's own. */
    struct search *live_next, **live_prev;
    struct search *queue_next;
    struct search_row *rows;
    uint32_t next_row, rows_running, rows_done;
    bool queued, answered;
    size_t block_bytes;
    void *block;
};

/* Answers a search; called once for each that was started and not abandoned, from dispatch_pump,
 * _expire, _cancel or _fail_all. */
typedef void search_done_fn(void *context, struct search *search, uint64_t now_ns);

struct dispatch_options {
    enum fathom_io io;
    const struct fathom_index *index; /* as in fathom_engine_options */
    unsigned inflight;                /* query slots */
    unsigned queue_rows; /* waiting for one, at the most; an empty queue takes any one request */
    struct buffer_allowance *allowance; /* for the memory of searches */
    struct thread_stats *stats;
    search_done_fn *done;
    void *context;
};

/* The calling thread owns it, engine included. */
int dispatch_create(struct dispatch **out, const struct dispatch_options *options,
                    struct fathom_error *err) FATHOM_MUST_USE;
/* Waits for reads in flight. Searches that are not answered are dropped. Accepts NULL. */
void dispatch_destroy(struct dispatch *dispatch);

/* A search with room for n rows, or NULL with resource_exhausted (queue, memory) in err. Give it to
 * dispatch_start or dispatch_drop. */
struct search *dispatch_take(struct dispatch *dispatch, struct edition *edition, uint32_t n,
                             uint32_t k, size_t vector_bytes, bool explain, struct rpc_error *err);
/* The queue is so long that a search with this much time would be answered too late: better told
 * now than after it has taken the place of one that could be in time. */
bool dispatch_is_hopeless(const struct dispatch *dispatch, uint64_t allowed_ms,
                          struct rpc_error *err);
void dispatch_drop(struct dispatch *dispatch, struct search *search);
void dispatch_start(struct dispatch *dispatch, struct search *search);
/* Answers it with the error now. */
void dispatch_fail(struct dispatch *dispatch, struct search *search, const struct rpc_error *err,
                   uint64_t now_ns);
/* The owner is gone: no answer. */
void dispatch_abandon(struct dispatch *dispatch, struct search *search);
void dispatch_fail_all(struct dispatch *dispatch, const struct rpc_error *err, uint64_t now_ns);

/* Submits what waits, steps the engine, answers what is finished. Once something is answered it
 * goes on for no longer than batch_ns from its start, so that the answer is sent. True when it
 * should be called again without waiting for an event. */
bool dispatch_pump(struct dispatch *dispatch, uint64_t now_ns, uint64_t batch_ns);
/* Answers searches whose deadline has passed, however long their reads take. */
void dispatch_expire(struct dispatch *dispatch, uint64_t now_ns);
/* dispatch_expire must be called every few milliseconds. */
bool dispatch_has_deadlines(const struct dispatch *dispatch);

int dispatch_event_fd(const struct dispatch *dispatch); /* the engine's; -1: none */
enum fathom_io dispatch_io(const struct dispatch *dispatch);
const char *dispatch_io_note(const struct dispatch *dispatch);
/* For the tests: no search is live, answered or not. */
bool dispatch_is_empty(const struct dispatch *dispatch);

#endif
