/* One measured run of searches in process: threads, each with an engine of its own and a number of
 * queries in flight, cycle through the workload; first a warm-up, then the part that counts: a
 * closed loop, which finds out how much can be done, or an open one, in which queries come at their
 * appointed times. Never prints. */
#ifndef BENCH_SEARCH_RUN_H
#define BENCH_SEARCH_RUN_H

#include "env.h"
#include "latency.h"
#include "workload.h"

struct search_plan {
    const struct env *env;
    const struct fathom_index *index;
    const struct workload *workload;
    unsigned threads, inflight;
    enum fathom_io io;
    uint32_t k, search_list; /* search_list 0: by target_recall */
    float target_recall;
    float refine_threshold; /* 0: the default */
    bool exact_distances;
    enum fathom_rerank rerank;
    unsigned passes; /* over the queries; 0: as many queries as begin within seconds */
    double seconds;
    bool whole;               /* and, when there are no passes, each query once at least */
    double rate;              /* queries a second, of all threads together; 0: a closed loop */
    enum env_urgency urgency; /* in an open loop, as far as it is allowed */
    bool watch_cpus;          /* in an open loop */
    uint64_t warm_up_ns;      /* at most one pass of it */
    bool (*stop)(void);       /* asked now and then; true ends the run early */
};

/* Sums over all measured queries, and what follows from them. */
struct search_run {
    uint64_t queries;
    uint64_t wall_ns, cpu_ns; /* cpu_ns: of all threads together */
    uint64_t hops, rounds, reads, bytes, code_distances, full_distances, resident_lists, list_reads,
        code_reads, widened;
    uint64_t queue_ns, io_ns, compute_ns;
    struct latency_summary latency;   /* to the result, as the caller sees it: from submit, or in an
                                         open loop from the appointed time */
    struct latency_summary late;      /* in an open loop: from the appointed time to submit */
    enum env_urgency urgency;         /* in an open loop: as far as it was allowed */
    struct latency_summary untouched; /* in an open loop: latency, without what stops touched */
    struct stops_summary stops;       /* of CPUs, in an open loop */
    double recall;                    /* negative: no truth set */
    enum fathom_io io;                /* what AUTO chose */
    char io_note[256];                /* why it fell back; empty when it did not */
    bool stopped;
};

int search_run(struct search_run *out, const struct search_plan *plan,
               struct fathom_error *err) FATHOM_MUST_USE;

#endif
