/* Reads and checks the command line of `fathom-bench search`. */
#include "search_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPTION_INDEX = 256,
    OPTION_QUERY,
    OPTION_GT,
    OPTION_IDS,
    OPTION_SEARCH_LIST,
    OPTION_TARGET_RECALL,
    OPTION_DRAM_BUDGET,
    OPTION_PLAN_RECALL,
    OPTION_THREADS,
    OPTION_INFLIGHT,
    OPTION_EXACT_DISTANCES,
    OPTION_RERANK,
    OPTION_IO,
    OPTION_NAVIGATOR,
    OPTION_CODE_BYTES,
    OPTION_LIST_SHARE,
    OPTION_CODE_SHARE,
    OPTION_REFINE_THRESHOLD,
    OPTION_RATE,
    OPTION_URGENCY,
    OPTION_SECONDS,
    OPTION_PASSES,
    OPTION_REPEAT,
    OPTION_WARM_UP,
    OPTION_WAIT,
    OPTION_WATCH_CPUS,
    OPTION_JSON,
};

static const struct argp_option search_argp_options[] = {
    {"index", OPTION_INDEX, "DIR", 0, "The index (required)", 0},
    {"query", OPTION_QUERY, "FILE", 0, "The queries: .npy .fbin .fvecs .hdf5 ... (required)", 0},
    {"gt", OPTION_GT, "FILE", 0,
     "The truth set of the queries (fathom-data gt); without it recall is null", 0},
    {"ids", OPTION_IDS, "FILE", 0,
     "For an index that was built with --ids: that file, to translate the row numbers of the truth "
     "set",
     0},
    {"k", 'k', "K", 0, "Results per query (default: 10)", 0},
    {"search-list", OPTION_SEARCH_LIST, "L,L,...", 0, "One run for each search list (default: 40)",
     0},
    {"target-recall", OPTION_TARGET_RECALL, "R,R,...", 0,
     "Instead of search lists: one run for each of these recalls, by the index's own operating "
     "points",
     0},
    {"dram-budget", OPTION_DRAM_BUDGET, "SIZE|SHARE%,...", 0,
     "Bound of all that is kept in memory for the index, in bytes or as a share of its vectors as "
     "f32 (default: none); the index is opened anew for each, with fewer page buffers per thread "
     "where that is all that fits",
     0},
    {"plan-recall", OPTION_PLAN_RECALL, "R", 0,
     "Choose what is kept in memory for this target recall, or for no particular one (0), in all "
     "runs (default: for each run's own --target-recall, for which the index is opened anew)",
     0},
    {"threads", OPTION_THREADS, "T,...", 0, "Threads (default: one for each CPU)", 0},
    {"inflight", OPTION_INFLIGHT, "I,...", 0,
     "Queries in flight per thread (default: 16, or fewer where a small budget is better spent "
     "otherwise)",
     0},
    {"exact-distances", OPTION_EXACT_DISTANCES, NULL, 0, "Read the full vector of every result", 0},
    {"rerank", OPTION_RERANK, "auto|on|off", 0,
     "Read full vectors to rank those results whose order 8 bits leave in doubt (default: auto, "
     "where that is the cheapest way to the target recall)",
     0},
    {"io", OPTION_IO, "auto|uring|pread", 0,
     "How to read (default: auto: io_uring, or pread where that is refused)", 0},
    {"navigator", OPTION_NAVIGATOR, "auto|graph|cells", 0,
     "Force the navigator (default: auto, the planner chooses)", 0},
    {"code-bytes", OPTION_CODE_BYTES, "N", 0,
     "Force so many bytes of navigation code per row (default: the planner chooses)", 0},
    {"list-share", OPTION_LIST_SHARE, "S", 0,
     "Force the graph, with this share of its lists in memory and the others on SSD, above 0 and "
     "up to 1 (default: the planner chooses)",
     0},
    {"code-share", OPTION_CODE_SHARE, "S", 0,
     "Force the cells, with this share of their codes in memory and the others on SSD, above 0 and "
     "up to 1 (default: the planner chooses)",
     0},
    {"refine-threshold", OPTION_REFINE_THRESHOLD, "P", 0,
     "Read a page when at least this much of a result depends on it (default: the operating "
     "point's)",
     0},
    {"rate", OPTION_RATE, "QPS|SHARE%,...", 0,
     "After each run, an open loop at each of these rates: queries per second, or a share of the "
     "run's QPS. Queries are sent at their appointed times, and latency is counted from those",
     0},
    {"urgency", OPTION_URGENCY, "normal|slice|realtime", 0,
     "How soon a thread of an open loop gets a CPU when it wakes up, as of fathom-server's "
     "workers; realtime needs rights (default: slice)",
     0},
    {"seconds", OPTION_SECONDS, "S", 0,
     "Measure each run for this long, but ask each query at least once (default: 2)", 0},
    {"passes", OPTION_PASSES, "N", 0, "Instead of --seconds: exactly N passes over the queries", 0},
    {"repeat", OPTION_REPEAT, "N", 0,
     "Measure each run N times, and report the speed of the median one and the spread (default: "
     "1); from the second time on --seconds alone says for how long",
     0},
    {"warm-up", OPTION_WARM_UP, "TIME", 0,
     "Search before a run is measured, for this long or for one pass, whichever is shorter "
     "(default: 1s)",
     0},
    {"wait", OPTION_WAIT, NULL, 0,
     "Before the index is opened, say \"ready\" on stderr and wait for a line on stdin; for "
     "programs that measure this one from outside",
     0},
    {"watch-cpus", OPTION_WATCH_CPUS, NULL, 0,
     "In open loops, report how much of the tail is due to CPUs that were taken away; needs "
     "real-time rights, and slows down threads that are not real-time",
     0},
    {"json", OPTION_JSON, NULL, 0, "One JSON document on stdout", 0},
    {0},
};

/* The next item of "10,20,40", copied; false when there is none left. */
static bool next_item(struct argp_state *state, const char *option, const char **text,
                      char item[32], unsigned count)
{
    if (!*text)
        return false;
    size_t length = strcspn(*text, ",");
    if (count == BENCH_LIST_MAX || length >= 32)
        argp_error(state, "%s: at most %d items of 31 characters", option, BENCH_LIST_MAX);
    snprintf(item, 32, "%.*s", (int)length, *text);
    *text = (*text)[length] ? *text + length + 1 : NULL;
    return true;
}

static unsigned parse_numbers(struct argp_state *state, const char *option, const char *text,
                              uint64_t max, uint64_t *out)
{
    char item[32];
    unsigned count = 0;
    while (next_item(state, option, &text, item, count))
        out[count++] = tool_arg_u64(state, option, item, 1, max);
    return count;
}

static unsigned parse_budgets(struct argp_state *state, const char *option, const char *text,
                              struct tool_budget *out)
{
    char item[32];
    unsigned count = 0;
    while (next_item(state, option, &text, item, count))
        out[count++] = tool_arg_budget(state, option, item);
    return count;
}

static unsigned parse_shares(struct argp_state *state, const char *option, const char *text,
                             double *out)
{
    char item[32];
    unsigned count = 0;
    while (next_item(state, option, &text, item, count))
        out[count++] = tool_arg_f64(state, option, item, 0.01, 0.9999);
    return count;
}

static uint64_t parse_warm_up_ns(struct argp_state *state, const char *text)
{
    uint64_t ns;
    if (!tool_parse_duration_ns(text, &ns))
        argp_error(state, "--warm-up: '%s' is no time, such as 500ms", text);
    return ns;
}

static void check(struct argp_state *state, const struct search_options *options)
{
    if (!options->index || !options->query)
        argp_error(state, "--index and --query are needed");
    if (options->target_count && options->search_list_count)
        argp_error(state, "--search-list and --target-recall exclude each other");
    if (options->ids && !options->truth)
        argp_error(state, "--ids translates the truth set: give --gt too");
}

/* The axes of the sweep; false when key is none of them. */
static bool parse_axis(int key, const char *arg, struct argp_state *state,
                       struct search_options *options)
{
    switch (key) {
    case OPTION_DRAM_BUDGET:
        options->budget_count = parse_budgets(state, "--dram-budget", arg, options->budgets);
        return true;
    case OPTION_THREADS:
        options->thread_count = parse_numbers(state, "--threads", arg, 256, options->threads);
        return true;
    case OPTION_INFLIGHT:
        options->inflight_count = parse_numbers(state, "--inflight", arg, 256, options->inflights);
        return true;
    case OPTION_SEARCH_LIST:
        options->search_list_count = parse_numbers(state, "--search-list", arg,
                                                   FATHOM_SEARCH_LIST_MAX, options->search_lists);
        return true;
    case OPTION_TARGET_RECALL:
        options->target_count = parse_shares(state, "--target-recall", arg, options->targets);
        return true;
    default:
        return false;
    }
}

/* How long to measure; false when key is none of these. */
static bool parse_measure(int key, const char *arg, struct argp_state *state,
                          struct search_options *options)
{
    switch (key) {
    case OPTION_RATE:
        bench_rates_parse(&options->rates, state, arg);
        return true;
    case OPTION_URGENCY:
        options->urgency =
            (enum env_urgency)tool_arg_choice(state, "--urgency", arg, "normal slice realtime");
        return true;
    case OPTION_SECONDS:
        options->seconds = tool_arg_f64(state, "--seconds", arg, 0, 86400);
        return true;
    case OPTION_PASSES:
        options->passes = (unsigned)tool_arg_u64(state, "--passes", arg, 1, 1000000);
        return true;
    case OPTION_REPEAT:
        options->repeats = (unsigned)tool_arg_u64(state, "--repeat", arg, 1, BENCH_LIST_MAX);
        return true;
    case OPTION_WARM_UP:
        options->warm_up_ns = parse_warm_up_ns(state, arg);
        return true;
    default:
        return false;
    }
}

/* The options that say how to open and how to read; false when key is none of them. */
static bool parse_open(int key, char *arg, struct argp_state *state, struct search_options *options)
{
    struct fathom_open_options *open = &options->open;
    switch (key) {
    case OPTION_IO:
        options->io = (enum fathom_io)tool_arg_choice(state, "--io", arg, "auto uring pread");
        return true;
    case OPTION_NAVIGATOR:
        open->navigator =
            (enum fathom_navigator)tool_arg_choice(state, "--navigator", arg, "auto graph cells");
        return true;
    case OPTION_PLAN_RECALL:
        options->plan_recall =
            strcmp(arg, "0") == 0 ? 0 : tool_arg_f64(state, "--plan-recall", arg, 0.01, 0.9999);
        return true;
    case OPTION_CODE_BYTES:
        open->code_bytes =
            (uint32_t)tool_arg_u64(state, "--code-bytes", arg, 1, 8 * FATHOM_DIM_MAX);
        return true;
    case OPTION_LIST_SHARE:
        open->list_share = (float)tool_arg_f64(state, "--list-share", arg, 1e-6, 1);
        return true;
    case OPTION_CODE_SHARE:
        open->code_share = (float)tool_arg_f64(state, "--code-share", arg, 1e-6, 1);
        return true;
    default:
        return false;
    }
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct search_options *options = state->input;
    if (parse_open(key, arg, state, options) || parse_axis(key, arg, state, options) ||
        parse_measure(key, arg, state, options))
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
    case OPTION_REFINE_THRESHOLD:
        options->refine_threshold = tool_arg_f64(state, "--refine-threshold", arg, 0.0001, 0.4999);
        return 0;
    case OPTION_EXACT_DISTANCES:
        options->exact_distances = true;
        return 0;
    case OPTION_RERANK:
        options->rerank =
            (enum fathom_rerank)tool_arg_choice(state, "--rerank", arg, BENCH_RERANK_WORDS);
        return 0;
    case OPTION_WAIT:
        options->wait = true;
        return 0;
    case OPTION_WATCH_CPUS:
        options->watch_cpus = true;
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
    *out = (struct search_options){.k = 10,
                                   .seconds = 2,
                                   .repeats = 1,
                                   .urgency = ENV_URGENCY_SLICE,
                                   .warm_up_ns = 1000000000,
                                   .open = fathom_open_options_default(),
                                   .plan_recall = -1,
                                   .budget_count = 1, /* of 0: none */
                                   .threads = {env_cpu_count()},
                                   .thread_count = 1,
                                   .inflights = {0}, /* the index's choice */
                                   .inflight_count = 1};
    int status = tool_parse(&argp, argc, argv, out);
    if (status)
        return status;
    if (!out->search_list_count && !out->target_count) {
        out->search_lists[0] = 40;
        out->search_list_count = 1;
    }
    return 0;
}

unsigned search_options_runs(const struct search_options *options)
{
    return options->target_count ? options->target_count : options->search_list_count;
}

unsigned search_options_runs_together(const struct search_options *options)
{
    return options->target_count && options->plan_recall < 0 ? 1 : search_options_runs(options);
}
