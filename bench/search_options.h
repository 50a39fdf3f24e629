/* The command line of `fathom-bench search`. */
#ifndef BENCH_SEARCH_OPTIONS_H
#define BENCH_SEARCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "bench.h"
#include "fathom/fathom.h"

struct search_options {
    const char *index, *query, *truth, *ids;
    uint32_t search_lists[BENCH_RUNS_MAX]; /* one run each */
    unsigned search_list_count;
    double target_recall; /* 0: search_lists says */
    double refine_threshold;
    uint32_t k;
    struct fathom_open_options open;
    enum fathom_io io;
    bool exact_distances, json;
    unsigned passes;
    double seconds;
};

/* 0, or an exit code. */
int search_options_parse(struct search_options *out, int argc, char **argv);

#endif
