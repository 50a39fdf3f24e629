/* What the server counts. Each worker (and the admin thread) writes a block of its own without
 * locked instructions; who wants to know sums the blocks. Counters only grow; gauges are stored by
 * their owner. */
#ifndef SERVER_STATS_H
#define SERVER_STATS_H

#include "conn.h"
#include "histogram.h"
#include "request.h"

/* Names of error codes on the wire, counted by place in this list. */
#define STATS_CODES 13 /* "ok" first */

struct index_stats {
    atomic_uint_least64_t searches, rows;    /* requests answered, and the queries in them */
    atomic_uint_least64_t failed;            /* requests answered with an error after admission */
    atomic_uint_least64_t widened;           /* queries that got longer lists */
    atomic_uint_least64_t reads, read_bytes; /* of the index's files */
    atomic_uint_least64_t incomplete;        /* requests with complete = false */
    struct histogram latency_us;             /* of a request, from its last byte to its reply */
    struct histogram queue_us;               /* of a query, before it got a slot */
    struct histogram reads_per_query;
};

struct thread_stats {
    atomic_uint_least64_t requests[METHOD_COUNT + 1];
    atomic_uint_least64_t replies[STATS_CODES];
    atomic_uint_least64_t rejected[4]; /* by reason: rate, memory, disk, queue */
    atomic_uint_least64_t bytes_in, bytes_out;
    atomic_uint_least64_t opened, ended[CONN_END_COUNT];
    atomic_uint_least64_t connections, running, waiting; /* gauges */
    struct index_stats *indexes;                         /* one per registered index */
};

struct stats {
    struct thread_stats *threads; /* workers, then the admin thread */
    unsigned thread_count, index_count;
    uint64_t started_ns;
    atomic_uint_least64_t accepted, refused_connections; /* by the listener's thread */
};

/* The same, summed at one moment. */
struct index_sum {
    uint64_t searches, rows, failed, widened, reads, read_bytes, incomplete;
    struct histogram_sum latency_us, queue_us, reads_per_query;
};

struct stats_sum {
    uint64_t requests[METHOD_COUNT + 1];
    uint64_t replies[STATS_CODES];
    uint64_t rejected[4];
    uint64_t bytes_in, bytes_out, opened, ended[CONN_END_COUNT];
    uint64_t connections, running, waiting;
};

int stats_create(struct stats **out, unsigned threads, unsigned indexes,
                 uint64_t now_ns) FATHOM_MUST_USE;
void stats_destroy(struct stats *stats); /* accepts NULL */
/* Counts a reply: code NULL for a result, or the error's code and, when exhausted, its reason. */
void stats_count_reply(struct thread_stats *stats, const struct rpc_error *err);
void stats_sum(const struct stats *stats, struct stats_sum *out);
/* Large (three histograms): keep it off small stacks. */
void stats_sum_index(const struct stats *stats, unsigned index, struct index_sum *out);
const char *stats_code_name(unsigned code);
const char *stats_reason_name(unsigned reason);

#endif
