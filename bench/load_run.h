/* One measured run against a server, over a number of connections: requests leave at their
 * appointed times whatever becomes of the earlier ones (an open loop), or, to find the peak,
 * whenever there are few enough without an answer (a closed loop). Never prints. */
#ifndef BENCH_LOAD_RUN_H
#define BENCH_LOAD_RUN_H

#include "fathom/client.h"
#include "latency.h"
#include "workload.h"

#define LOAD_CONNECTIONS_MAX 1024
#define LOAD_FAILURES_MAX    16
#define LOAD_PEAK_DEPTH      16 /* requests in flight on each connection of a closed loop */

struct load_plan {
    const struct env *env;
    const struct workload *workload;
    const char *address, *index, *token;
    unsigned connections;
    double rate;     /* requests a second; 0: a closed loop */
    bool watch_cpus; /* in an open loop */
    double seconds;
    uint32_t k, search_list, deadline_ms;
    float target_recall;
    const char *dram_budget; /* that load_reload asks for; NULL: none */
    bool exact_distances;
    enum fathom_client_rerank rerank;
    bool (*stop)(void); /* asked now and then; true ends the run early */
};

struct load_failure {
    char name[32]; /* of the protocol: "resource_exhausted"... */
    uint64_t count;
    char message[512]; /* of the first */
};

struct load_run {
    uint64_t due;        /* requests whose time came */
    uint64_t sent;       /* fewer than due when no connection took them before the end */
    uint64_t answered;   /* with results */
    uint64_t incomplete; /* of those, marked so by the server */
    uint64_t failed;     /* answered with an error, or lost with their connection */
    uint64_t unanswered; /* not yet answered when the run ended, a while after the last was sent */
    uint64_t wall_ns;    /* from the first appointed time to the last answer */
    uint64_t cpu_ns;     /* our own, which the server may have wanted */
    enum env_urgency urgency;       /* how soon we ran when a request was due */
    struct latency_summary latency; /* of the answered, from the appointed time */
    struct latency_summary
        late; /* how long after its time a request left: our own lateness, and backlog */
    struct latency_summary untouched; /* in an open loop: latency, without what stops touched */
    struct stops_summary stops;       /* of this machine's CPUs, in an open loop */
    double recall;                    /* negative: no truth set */
    char server[64];                  /* what it calls itself */
    struct load_failure failures[LOAD_FAILURES_MAX];
    unsigned failure_count;
    bool stopped;
};

/* Has the index reloaded under the plan's budget, for its target recall; nothing without a budget.
 */
int load_reload(const struct load_plan *plan, struct fathom_error *err) FATHOM_MUST_USE;
int load_run(struct load_run *out, const struct load_plan *plan,
             struct fathom_error *err) FATHOM_MUST_USE;

#endif
