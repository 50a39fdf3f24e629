/* `fathom-bench load`: options and report of runs against a server, one for each rate. */
#include <string.h>

#include "bench.h"
#include "env.h"
#include "load_run.h"
#include "rates.h"

enum {
    OPTION_SERVER = 256,
    OPTION_INDEX,
    OPTION_QUERY,
    OPTION_GT,
    OPTION_IDS,
    OPTION_SEARCH_LIST,
    OPTION_TARGET_RECALL,
    OPTION_DRAM_BUDGET,
    OPTION_EXACT_DISTANCES,
    OPTION_RERANK,
    OPTION_RATE,
    OPTION_SECONDS,
    OPTION_CONNECTIONS,
    OPTION_DEADLINE,
    OPTION_TOKEN,
    OPTION_WATCH_CPUS,
    OPTION_JSON,
};

static const struct argp_option load_argp_options[] = {
    {"server", OPTION_SERVER, "ADDR", 0, "HOST:PORT or unix:PATH (default: 127.0.0.1:7117)", 0},
    {"index", OPTION_INDEX, "NAME", 0, "The index, as the server names it (required)", 0},
    {"query", OPTION_QUERY, "FILE", 0, "The queries: .npy .fbin .fvecs .hdf5 ... (required)", 0},
    {"gt", OPTION_GT, "FILE", 0,
     "The truth set of the queries (fathom-data gt); without it recall is null", 0},
    {"ids", OPTION_IDS, "FILE", 0,
     "For an index that was built with --ids: that file, to translate the row numbers of the truth "
     "set",
     0},
    {"k", 'k', "K", 0, "Results per query (default: 10)", 0},
    {"search-list", OPTION_SEARCH_LIST, "L", 0, "The search list (default: the index's)", 0},
    {"target-recall", OPTION_TARGET_RECALL, "R", 0,
     "Instead of a search list: the index's own operating point for this recall", 0},
    {"dram-budget", OPTION_DRAM_BUDGET, "SIZE|SHARE%", 0,
     "First have the server reload the index under this budget, in bytes or as a share of its "
     "vectors as f32, planned for --target-recall (default: leave it as it is)",
     0},
    {"exact-distances", OPTION_EXACT_DISTANCES, NULL, 0,
     "Have the full vector of every result read", 0},
    {"rerank", OPTION_RERANK, "auto|on|off", 0,
     "Have full vectors read to rank those results whose order 8 bits leave in doubt (default: "
     "auto, where that is the cheapest way to the target recall)",
     0},
    {"rate", OPTION_RATE, "QPS|SHARE%,...", 0,
     "Requests per second, sent at their appointed times (default: 1000); one run for each. A "
     "share (60%) is of the peak, which is measured first, with 16 requests in flight on each "
     "connection",
     0},
    {"seconds", OPTION_SECONDS, "S", 0, "Length of each run (default: 10)", 0},
    {"connections", OPTION_CONNECTIONS, "C", 0, "Connections, each pipelined (default: 8)", 0},
    {"deadline", OPTION_DEADLINE, "TIME", 0,
     "The deadline that each request asks for, such as 50ms (default: none)", 0},
    {"token", OPTION_TOKEN, "TEXT", 0, "The token, for a server that asks for one", 0},
    {"watch-cpus", OPTION_WATCH_CPUS, NULL, 0,
     "In open loops, report how much of the tail is due to CPUs that were taken away; needs "
     "real-time rights, and slows down threads that are not real-time",
     0},
    {"json", OPTION_JSON, NULL, 0, "One JSON document on stdout", 0},
    {0},
};

struct load_options {
    struct load_plan plan; /* rate: of the run at hand */
    struct bench_rates rates;
    const char *query, *truth, *ids;
    bool json;
};

static void check(struct argp_state *state, const struct load_options *options)
{
    if (!options->plan.index || !options->query)
        argp_error(state, "--index and --query are needed");
    if (options->plan.search_list && options->plan.target_recall > 0)
        argp_error(state, "--search-list and --target-recall exclude each other");
    if (options->ids && !options->truth)
        argp_error(state, "--ids translates the truth set: give --gt too");
    for (unsigned i = 0; i < options->rates.count; i++)
        if (!options->rates.items[i].is_share &&
            options->rates.items[i].value * options->plan.seconds < 1)
            argp_error(state, "--rate times --seconds is not one request");
}

static uint32_t parse_deadline_ms(struct argp_state *state, const char *text)
{
    uint64_t ns;
    if (!tool_parse_duration_ns(text, &ns) || ns < 1000000 || ns / 1000000 > UINT32_MAX)
        argp_error(state, "--deadline: '%s' is no time of at least 1ms, such as 50ms", text);
    return (uint32_t)(ns / 1000000);
}

/* The options that shape the searches; false when key is none of them. */
static bool parse_search(int key, char *arg, struct argp_state *state, struct load_plan *plan)
{
    switch (key) {
    case 'k':
        plan->k = (uint32_t)tool_arg_u64(state, "--k", arg, 1, FATHOM_K_MAX);
        return true;
    case OPTION_SEARCH_LIST:
        plan->search_list =
            (uint32_t)tool_arg_u64(state, "--search-list", arg, 1, FATHOM_SEARCH_LIST_MAX);
        return true;
    case OPTION_TARGET_RECALL:
        plan->target_recall = (float)tool_arg_f64(state, "--target-recall", arg, 0.01, 0.9999);
        return true;
    case OPTION_DRAM_BUDGET:
        (void)tool_arg_budget(state, "--dram-budget", arg);
        plan->dram_budget = arg;
        return true;
    case OPTION_EXACT_DISTANCES:
        plan->exact_distances = true;
        return true;
    case OPTION_RERANK:
        plan->rerank =
            (enum fathom_client_rerank)tool_arg_choice(state, "--rerank", arg, BENCH_RERANK_WORDS);
        return true;
    case OPTION_DEADLINE:
        plan->deadline_ms = parse_deadline_ms(state, arg);
        return true;
    case OPTION_SECONDS:
        plan->seconds = tool_arg_f64(state, "--seconds", arg, 0.001, 86400);
        return true;
    case OPTION_WATCH_CPUS:
        plan->watch_cpus = true;
        return true;
    case OPTION_CONNECTIONS:
        plan->connections =
            (unsigned)tool_arg_u64(state, "--connections", arg, 1, LOAD_CONNECTIONS_MAX);
        return true;
    default:
        return false;
    }
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct load_options *options = state->input;
    if (parse_search(key, arg, state, &options->plan))
        return 0;
    switch (key) {
    case OPTION_SERVER:
        options->plan.address = arg;
        return 0;
    case OPTION_INDEX:
        options->plan.index = arg;
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
    case OPTION_TOKEN:
        options->plan.token = arg;
        return 0;
    case OPTION_RATE:
        bench_rates_parse(&options->rates, state, arg);
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

static double answered_qps(const struct load_run *run)
{
    return run->wall_ns ? (double)run->answered * 1e9 / (double)run->wall_ns : 0;
}

static json_t *failures_json(const struct load_run *run)
{
    json_t *out = json_object();
    for (unsigned i = 0; i < run->failure_count; i++)
        json_object_set_new(out, run->failures[i].name,
                            json_integer((json_int_t)run->failures[i].count));
    return out;
}

static json_t *run_json(const struct load_plan *plan, const struct load_run *run)
{
    return json_pack(
        "{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:f, s:o, s:o, s:o, s:o, s:s, s:f}", "rate",
        plan->rate > 0 ? json_real(plan->rate) : json_null(), "due", (json_int_t)run->due, "sent",
        (json_int_t)run->sent, "answered", (json_int_t)run->answered, "incomplete",
        (json_int_t)run->incomplete, "failed", (json_int_t)run->failed, "unanswered",
        (json_int_t)run->unanswered, "errors", failures_json(run), "qps", answered_qps(run),
        "recall", report_real(run->recall), "latency_us", report_latency(&run->latency), "late_us",
        report_latency(&run->late), "stops", report_stops(&run->stops, &run->untouched),
        "client_urgency", env_urgency_name(run->urgency), "client_cpu_us_per_request",
        run->sent ? (double)run->cpu_ns / 1e3 / (double)run->sent : 0);
}

static json_t *document_json(const struct load_plan *plan, const struct load_run *run)
{
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:i, s:o, s:o, s:b, s:s, s:f, s:i, s:n, s:[]}", "program",
        BENCH_LOAD_NAME, "version", FATHOM_VERSION, "server", run->server, "address",
        tool_json_text(plan->address), "index", tool_json_text(plan->index), "k", (int)plan->k,
        "search_list", plan->search_list ? json_integer(plan->search_list) : json_null(),
        "target_recall",
        plan->target_recall > 0 ? json_real((double)plan->target_recall) : json_null(),
        "exact_distances", plan->exact_distances, "rerank", report_rerank(plan->rerank), "seconds",
        plan->seconds, "connections", (int)plan->connections, "peak", "runs");
}

static void print_report(const struct load_plan *plan, const struct load_run *run)
{
    char recall[16] = "-";
    if (run->recall >= 0)
        snprintf(recall, sizeof recall, "%.4f", run->recall);
    char rate[48] = "as many requests as are answered";
    if (plan->rate > 0)
        snprintf(rate, sizeof rate, "%.0f requests a second", plan->rate);
    printf("%s at %s, index %s: %s for %.1f s over %u connection%s\n", run->server, plan->address,
           plan->index, rate, plan->seconds, plan->connections, tool_plural(plan->connections));
    printf("%llu sent of %llu due, %llu answered, %llu failed, %llu without an answer; %.0f QPS, "
           "recall %s\n",
           (unsigned long long)run->sent, (unsigned long long)run->due,
           (unsigned long long)run->answered, (unsigned long long)run->failed,
           (unsigned long long)run->unanswered, answered_qps(run), recall);
    printf("%24s %9s %9s %9s %9s %9s %9s\n", "us", "mean", "p50", "p95", "p99", "p99.9", "max");
    const struct {
        const char *name;
        const struct latency_summary *latency;
    } rows[] = {{"answer after due time", &run->latency}, {"sent after due time", &run->late}};
    for (unsigned i = 0; i < (plan->rate > 0 ? 2 : 1); i++) {
        const struct latency_summary *l = rows[i].latency;
        printf("%24s %9.1f %9.1f %9.1f %9.1f %9.1f %9.1f\n", rows[i].name, l->mean_us, l->p50_us,
               l->p95_us, l->p99_us, l->p999_us, l->max_us);
    }
    report_print_stops(&run->stops, &run->untouched);
    printf("this client: %s, %.1f us of CPU a request\n", env_urgency_name(run->urgency),
           run->sent ? (double)run->cpu_ns / 1e3 / (double)run->sent : 0);
    for (unsigned i = 0; i < run->failure_count; i++)
        printf("%10llu %s: %s\n", (unsigned long long)run->failures[i].count, run->failures[i].name,
               run->failures[i].message);
}

/* What is measured so far, and of what. */
struct load_report {
    json_t *document; /* NULL when people read it */
    uint64_t answered;
};

/* One run at the plan's rate, told to people or kept in *record. */
static int run_one(const struct load_options *options, struct load_run *run,
                   struct load_report *report, json_t **record, struct fathom_error *err)
{
    const struct load_plan *plan = &options->plan;
    *record = NULL;
    int status = load_run(run, plan, err);
    if (status)
        return status;
    report->answered += run->answered;
    if (!options->json) {
        print_report(plan, run);
        fflush(stdout);
        return 0;
    }
    if (!report->document)
        report->document = document_json(plan, run);
    *record = run_json(plan, run);
    return 0;
}

/* The peak, if a rate is a share of it; then one run for each rate. With a single one, its fields
 * stand beside those of the setting too. */
static int run_all(struct load_options *options, struct load_report *report,
                   struct fathom_error *err)
{
    struct load_plan *plan = &options->plan;
    const struct bench_rates *rates = &options->rates;
    struct load_run run;
    json_t *record;
    double peak_qps = 0;
    if (bench_rates_need_peak(rates)) {
        plan->rate = 0;
        int status = run_one(options, &run, report, &record, err);
        if (status)
            return status;
        peak_qps = answered_qps(&run);
        if (record)
            json_object_set_new(report->document, "peak", record);
        if (peak_qps <= 0)
            return 0; /* no share of nothing can be sent */
    }
    for (unsigned i = 0; i < rates->count && !tool_interrupted(); i++) {
        plan->rate = bench_rates_qps(rates, i, peak_qps);
        int status = run_one(options, &run, report, &record, err);
        if (status)
            return status;
        if (!record)
            continue;
        if (rates->count == 1)
            json_object_update(report->document, record);
        json_array_append_new(json_object_get(report->document, "runs"), record);
    }
    return 0;
}

int bench_load_main(int argc, char **argv)
{
    static const struct argp argp = {
        .options = load_argp_options,
        .parser = parse_option,
        .doc = "Ask a server at a fixed rate and report its latency, counted from the time at "
               "which each request "
               "was due. Exits with 1 when none was answered.",
    };
    struct load_options options = {.plan = {.env = env_os(),
                                            .address = "127.0.0.1:7117",
                                            .k = 10,
                                            .seconds = 10,
                                            .connections = 8,
                                            .stop = tool_interrupted},
                                   .rates = {.items = {{.value = 1000}}, .count = 1}};
    struct workload workload;
    struct load_report report = {0};
    struct fathom_error err = {0};
    int exit_code = tool_parse(&argp, argc, argv, &options);
    if (exit_code)
        return exit_code;
    tool_catch_signals();
    options.plan.workload = &workload;
    if (workload_open(&workload, env_os(), options.query, options.truth, options.ids,
                      options.plan.k, &err))
        return tool_fail(BENCH_LOAD_NAME, &err);
    if (load_reload(&options.plan, &err) || run_all(&options, &report, &err))
        exit_code = tool_fail(BENCH_LOAD_NAME, &err);
    else if (report.document)
        exit_code = tool_print_json(json_incref(report.document));
    /* Refusals under overload are a result; no answer at all is not. */
    if (!exit_code && !report.answered)
        exit_code = TOOL_EXIT_CHECK_FAILED;
    if (exit_code <= TOOL_EXIT_CHECK_FAILED && tool_interrupted())
        exit_code = TOOL_EXIT_INTERRUPTED;
    json_decref(report.document);
    workload_close(&workload);
    return exit_code;
}
