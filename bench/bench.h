/* The verbs of fathom-bench, and what their reports share. */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "latency.h"
#include "tool.h"

#define BENCH_SEARCH_NAME "fathom-bench search"
#define BENCH_LOAD_NAME   "fathom-bench load"

/* What --rerank takes, by the values of enum fathom_rerank and enum fathom_client_rerank. */
#define BENCH_RERANK_WORDS "auto off on"

int bench_search_main(int argc, char **argv);
int bench_load_main(int argc, char **argv);

/* {"mean": .., "p50": .., "p95": .., "p99": .., "p999": .., "max": ..} */
json_t *report_latency(const struct latency_summary *latency);
/* What stops of CPUs did to a tail: {"cpus": .., "count": .., "lost_ms": .., "max_us": ..,
 * "untouched": queries, "untouched_latency_us": of them}; null when none could be watched. */
json_t *report_stops(const struct stops_summary *stops, const struct latency_summary *untouched);
void report_print_stops(const struct stops_summary *stops, const struct latency_summary *untouched);
/* The word of BENCH_RERANK_WORDS with this value. */
const char *report_rerank(int rerank);
/* A number with the digits that a person wants, or null when it is negative (not known). */
json_t *report_real(double value);

#endif
