/* Reads and checks the command line of `fathom-bench search`. */
#include "search_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "env.h"

enum {
    OPTION_INDEX = 256,
    OPTION_QUERY,
    OPTION_GT,
    OPTION_IDS,
    OPTION_SEARCH_LIST,
    OPTION_TARGET_RECALL,
    OPTION_DRAM_BUDGET,
    OPTION_THREADS,
    OPTION_INFLIGHT,
    OPTION_EXACT_DISTANCES,
    OPTION_IO,
    OPTION_NAVIGATOR,
    OPTION_CODE_BYTES,
    OPTION_REFINE_THRESHOLD,
    OPTION_SECONDS,
    OPTION_REPEAT,
    OPTION_JSON,
};

static const struct argp_option search_argp_options[] = {
    {"index", OPTION_INDEX, "DIR", 0, "The index", 0},
    {"query", OPTION_QUERY, "FILE", 0, "The queries: .npy .fbin .fvecs .hdf5 ...", 0},
    {"gt", OPTION_GT, "FILE", 0, "Their truth set (fathom-data gt); without it recall is null", 0},
    {"ids", OPTION_IDS, "FILE", 0,
     "The ids that the index was built with (.npy), for the truth set's row numbers", 0},
    {"k", 'k', "K", 0, "Results per query (10)", 0},
    {"search-list", OPTION_SEARCH_LIST, "L,L,...", 0, "One run for each search list (40)", 0},
    {"target-recall", OPTION_TARGET_RECALL, "R", 0,
     "Instead: the index's own operating point for this recall", 0},
    {"dram-budget", OPTION_DRAM_BUDGET, "SIZE", 0,
     "Bound of all that is kept in memory for the index (none)", 0},
    {"threads", OPTION_THREADS, "T", 0, "Threads (the CPUs there are)", 0},
    {"inflight", OPTION_INFLIGHT, "I", 0, "Queries in flight per thread (16)", 0},
    {"exact-distances", OPTION_EXACT_DISTANCES, NULL, 0, "Read the full vector of every result", 0},
    {"io", OPTION_IO, "uring|pread", 0,
     "How to read (auto: io_uring, or pread where that is refused)", 0},
    {"navigator", OPTION_NAVIGATOR, "graph|cells", 0,
     "Force the navigator (auto: the planner chooses)", 0},
    {"code-bytes", OPTION_CODE_BYTES, "N", 0,
     "Force the navigation code's bytes per row (the planner chooses)", 0},
    {"refine-threshold", OPTION_REFINE_THRESHOLD, "P", 0,
     "Read a page when this much of a result hangs on it (the default)", 0},
    {"seconds", OPTION_SECONDS, "S", 0,
     "Measure each run for this long, and each query once at least (2)", 0},
    {"repeat", OPTION_REPEAT, "N", 0, "Instead: exactly N passes over the queries", 0},
    {"json", OPTION_JSON, NULL, 0, "One JSON document on stdout", 0},
    {0},
};

/* "10,20,40" */
static void parse_search_lists(struct argp_state *state, const char *text,
                               struct search_options *options)
{
    char item[16];
    options->search_list_count = 0;
    for (;;) {
        size_t length = strcspn(text, ",");
        if (options->search_list_count == BENCH_RUNS_MAX)
            argp_error(state, "--search-list: at most %d runs", BENCH_RUNS_MAX);
        snprintf(item, sizeof item, "%.*s", (int)(length < sizeof item ? length : sizeof item),
                 text);
        options->search_lists[options->search_list_count++] =
            (uint32_t)tool_arg_u64(state, "--search-list", item, 1, FATHOM_SEARCH_LIST_MAX);
        if (!text[length])
            return;
        text += length + 1;
    }
}

static int parse_choice(struct argp_state *state, const char *option, const char *text,
                        const char *(*name)(int), int last)
{
    for (int value = 0; value <= last; value++)
        if (!strcmp(text, name(value)))
            return value;
    argp_error(state, "%s: '%s' is none of its choices (see --help)", option, text);
    return 0;
}

static const char *io_name(int value)
{
    return fathom_io_name((enum fathom_io)value);
}

static const char *navigator_name(int value)
{
    return fathom_navigator_name((enum fathom_navigator)value);
}

static void check(struct argp_state *state, const struct search_options *options)
{
    if (!options->index || !options->query)
        argp_error(state, "--index and --query are needed");
    if (options->target_recall > 0 && options->search_list_count)
        argp_error(state, "--search-list and --target-recall exclude each other");
    if (options->ids && !options->truth)
        argp_error(state, "--ids translates the truth set: give --gt too");
}

/* The options that say how to open and how to read; false when key is none of them. */
static bool parse_open(int key, char *arg, struct argp_state *state, struct search_options *options)
{
    struct fathom_open_options *open = &options->open;
    switch (key) {
    case OPTION_DRAM_BUDGET:
        open->dram_budget_bytes = tool_arg_bytes(state, "--dram-budget", arg);
        return true;
    case OPTION_THREADS:
        open->threads = (unsigned)tool_arg_u64(state, "--threads", arg, 1, 256);
        return true;
    case OPTION_INFLIGHT:
        open->inflight = (unsigned)tool_arg_u64(state, "--inflight", arg, 1, 256);
        return true;
    case OPTION_IO:
        options->io = (enum fathom_io)parse_choice(state, "--io", arg, io_name, FATHOM_IO_PREAD);
        return true;
    case OPTION_NAVIGATOR:
        open->navigator = (enum fathom_navigator)parse_choice(
            state, "--navigator", arg, navigator_name, FATHOM_NAVIGATOR_CELLS);
        return true;
    case OPTION_CODE_BYTES:
        open->code_bytes =
            (uint32_t)tool_arg_u64(state, "--code-bytes", arg, 1, 8 * FATHOM_DIM_MAX);
        return true;
    default:
        return false;
    }
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct search_options *options = state->input;
    if (parse_open(key, arg, state, options))
        return 0;
    switch (key) {
    case OPTION_INDEX:
        options->index = arg;
        return 0;
    case OPTION_QUERY:
        options->query = arg;
        return 0;
    case OPTION_GT:
        options->truth = arg;
        return 0;
    case OPTION_IDS:
        options->ids = arg;
        return 0;
    case 'k':
        options->k = (uint32_t)tool_arg_u64(state, "--k", arg, 1, FATHOM_K_MAX);
        return 0;
    case OPTION_SEARCH_LIST:
        parse_search_lists(state, arg, options);
        return 0;
    case OPTION_TARGET_RECALL:
        options->target_recall = tool_arg_f64(state, "--target-recall", arg, 0.01, 0.9999);
        return 0;
    case OPTION_REFINE_THRESHOLD:
        options->refine_threshold = tool_arg_f64(state, "--refine-threshold", arg, 0.0001, 0.4999);
        return 0;
    case OPTION_EXACT_DISTANCES:
        options->exact_distances = true;
        return 0;
    case OPTION_SECONDS:
        options->seconds = tool_arg_f64(state, "--seconds", arg, 0, 86400);
        return 0;
    case OPTION_REPEAT:
        options->passes = (unsigned)tool_arg_u64(state, "--repeat", arg, 1, 1000000);
        return 0;
    case OPTION_JSON:
        options->json = true;
        return 0;
    case ARGP_KEY_END:
        check(state, options);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int search_options_parse(struct search_options *out, int argc, char **argv)
{
    static const struct argp argp = {
        .options = search_argp_options,
        .parser = parse_option,
        .doc =
            "Search an index in this process with every query, again and again, and report recall, "
            "speed and cost.",
    };
    *out = (struct search_options){.k = 10, .seconds = 2, .open = fathom_open_options_default()};
    out->open.threads = env_cpu_count();
    out->open.inflight = 16;
    int status = tool_parse(&argp, argc, argv, out);
    if (status)
        return status;
    if (!out->search_list_count) {
        out->search_lists[0] = out->target_recall > 0 ? 0 : 40;
        out->search_list_count = 1;
    }
    return 0;
}
