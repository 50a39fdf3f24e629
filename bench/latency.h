/* Latencies, each one kept: percentiles are exact, not read off a histogram. Recording is one
 * store; room grows by whole chunks, so that nothing is copied while the clock runs. One recorder
 * belongs to one thread. */
#ifndef BENCH_LATENCY_H
#define BENCH_LATENCY_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/error.h"
#include "stops.h"

struct latency_chunk;

struct latency {     /* zeroed is empty */
    bool keeps_ends; /* set before the first: for who asks what stops touched */
    struct latency_chunk *last;
    size_t count;
};

struct latency_summary { /* all 0 when nothing was recorded */
    size_t count;
    double mean_us, p50_us, p95_us, p99_us, p999_us, max_us;
};

/* end_ns: when it was over; not kept as a rule. 0 or -ENOMEM. */
int latency_add(struct latency *latency, uint64_t end_ns, uint64_t ns) FATHOM_MUST_USE;
void latency_clear(struct latency *latency);

/* Of count recorders together. A percentile is the smallest recorded value that this share of all
 * does not exceed (nearest rank). With stops, of those that none touched, whose ends must have been
 * kept. 0 or -ENOMEM. */
int latency_summarize(struct latency_summary *out, const struct latency *const *recorders,
                      size_t count, const struct stops *stops) FATHOM_MUST_USE;

#endif
