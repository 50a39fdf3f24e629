/* The command line of `fathom-bench search`: what to search, and the axes of the sweep. */
#ifndef BENCH_SEARCH_OPTIONS_H
#define BENCH_SEARCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "bench.h"
#include "env.h"
#include "fathom/fathom.h"
#include "rates.h"

#define BENCH_LIST_MAX 64

/* Each budget, number of threads and number of queries in flight is an opening of the index; in
 * each, every search list is a run. Every target recall is a run too, in an opening that is planned
 * for it, or for plan_recall. */
struct search_options {
    const char *index, *query, *truth, *ids;
    struct tool_budget budgets[BENCH_LIST_MAX];
    uint64_t threads[BENCH_LIST_MAX];
    uint64_t inflights[BENCH_LIST_MAX];
    uint64_t search_lists[BENCH_LIST_MAX];
    double targets[BENCH_LIST_MAX]; /* of recall; when there is any, search_lists has none */
    unsigned budget_count, thread_count, inflight_count, search_list_count, target_count;
    double refine_threshold;
    uint32_t k;
    struct fathom_open_options open; /* threads, inflight, budget, plan_recall: of the opening at
                                        hand */
    double plan_recall; /* of all openings; negative: each target recall has one of its own */
    enum fathom_io io;
    bool exact_distances, wait, watch_cpus, json;
    enum fathom_rerank rerank;
    struct bench_rates rates; /* of the open loops after each run */
    enum env_urgency urgency; /* and of their threads */
    unsigned passes, repeats;
    double seconds;
    uint64_t warm_up_ns;
};

/* 0, or an exit code. */
int search_options_parse(struct search_options *out, int argc, char **argv);
/* Runs for each budget, number of threads and of queries in flight. */
unsigned search_options_runs(const struct search_options *options);
/* How many runs of them share an opening. */
unsigned search_options_runs_together(const struct search_options *options);

#endif
