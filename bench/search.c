/* `fathom-bench search`: opens an index as the options say, makes one run for each search list, and
 * reports them as a table for people or a JSON document for programs. The fields are those of
 * docs/BENCHMARKS.md's records. */
#include <inttypes.h>
#include <string.h>

#include "bench.h"
#include "env.h"
#include "search_options.h"
#include "search_run.h"

struct session {
    struct search_options options;
    struct fathom_index *index;
    struct fathom_index_info info;
    struct fathom_ledger ledger;
    struct workload workload;
    char device[256];
};

static double per_query(const struct search_run *run, uint64_t sum)
{
    return run->queries ? (double)sum / (double)run->queries : 0;
}

static double run_qps(const struct search_run *run)
{
    return run->wall_ns ? (double)run->queries * 1e9 / (double)run->wall_ns : 0;
}

static json_t *ledger_json(const struct fathom_ledger *ledger)
{
    json_t *out =
        json_pack("{s:I, s:I, s:I}", "total", (json_int_t)ledger->total_bytes, "index",
                  (json_int_t)ledger->index_bytes, "scratch", (json_int_t)ledger->scratch_bytes);
    for (unsigned i = 0; i < ledger->part_count; i++) {
        json_int_t before = json_integer_value(json_object_get(out, ledger->parts[i].name));
        json_object_set_new(out, ledger->parts[i].name,
                            json_integer(before + (json_int_t)ledger->parts[i].bytes));
    }
    return out;
}

/* What was run. */
static json_t *run_setting_json(const struct session *session, uint32_t search_list)
{
    const struct search_options *options = &session->options;
    return json_pack("{s:o, s:o, s:i, s:b, s:i, s:i, s:I, s:s, s:s, s:s, s:i, s:b}", "search_list",
                     search_list ? json_integer(search_list) : json_null(), "target_recall",
                     options->target_recall > 0 ? json_real(options->target_recall) : json_null(),
                     "k", (int)options->k, "exact_distances", options->exact_distances, "threads",
                     (int)options->open.threads, "inflight", (int)options->open.inflight,
                     "dram_budget", (json_int_t)options->open.dram_budget_bytes, "cpu_level",
                     fathom_cpu_level(), "device", session->device, "navigator",
                     fathom_navigator_name(session->info.navigator), "code_bits",
                     (int)session->info.code_bits, "direct_io", session->info.direct_io);
}

/* What it gave. */
static json_t *run_json(const struct session *session, const struct search_run *run,
                        uint32_t search_list)
{
    json_t *out = run_setting_json(session, search_list);
    double rows = (double)session->info.rows;
    json_t *measured = json_pack(
        "{s:o, s:f, s:o, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:s, s:o, s:f, s:I, "
        "s:I, s:I}",
        "recall", report_real(run->recall), "qps", run_qps(run), "latency_us",
        report_latency(&run->latency), "queries", (json_int_t)run->queries, "seconds",
        (double)run->wall_ns / 1e9, "reads_per_query", per_query(run, run->reads),
        "bytes_per_query", per_query(run, run->bytes), "hops_per_query", per_query(run, run->hops),
        "rounds_per_query", per_query(run, run->rounds), "distances_per_query",
        per_query(run, run->code_distances + run->full_distances), "full_distances_per_query",
        per_query(run, run->full_distances), "cpu_us_per_query", per_query(run, run->cpu_ns) / 1e3,
        "io_us_per_query", per_query(run, run->io_ns) / 1e3, "io_engine", fathom_io_name(run->io),
        "dram_bytes", ledger_json(&session->ledger), "dram_bytes_per_vector",
        (double)session->ledger.index_bytes / rows, "peak_rss_bytes",
        (json_int_t)env_peak_rss_bytes(), "index_bytes", (json_int_t)session->info.index_bytes,
        "raw_bytes", (json_int_t)session->info.raw_bytes);
    json_object_update(out, measured);
    json_decref(measured);
    return out;
}

static json_t *document_json(const struct session *session)
{
    char generation[24];
    const struct fathom_index_info *info = &session->info;
    snprintf(generation, sizeof generation, "%016" PRIx64, info->generation);
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:i, s:s, s:s, s:i, s:[]}", "program",
                     BENCH_SEARCH_NAME, "version", fathom_version(), "index",
                     session->options.index, "generation", generation, "rows",
                     (json_int_t)info->rows, "dim", (int)info->dim, "dtype",
                     fathom_dtype_name(info->dtype), "metric", fathom_metric_name(info->metric),
                     "queries", (int)session->workload.query_count, "runs");
}

static void print_head(const struct session *session)
{
    const struct fathom_index_info *info = &session->info;
    const struct fathom_ledger *ledger = &session->ledger;
    char a[32], b[32];
    printf("%s: %" PRIu64 " x %u %s, %s; %s on disk, %s raw\n", session->options.index, info->rows,
           info->dim, fathom_dtype_name(info->dtype), fathom_metric_name(info->metric),
           tool_format_bytes(info->index_bytes, a), tool_format_bytes(info->raw_bytes, b));
    printf("%s navigator, %u bits of code a row; %s, CPU level %s, reads %s the page cache\n",
           fathom_navigator_name(info->navigator), info->code_bits, session->device,
           fathom_cpu_level(), info->direct_io ? "bypass" : "GO THROUGH");
    printf("DRAM: %s, %.1f bytes a row and %s scratch", tool_format_bytes(ledger->total_bytes, a),
           (double)ledger->index_bytes / (double)info->rows,
           tool_format_bytes(ledger->scratch_bytes, b));
    const char *before = " (";
    for (unsigned i = 0; i < ledger->part_count; i++) {
        if (!ledger->parts[i].bytes)
            continue;
        printf("%s%s %s", before, ledger->parts[i].name,
               tool_format_bytes(ledger->parts[i].bytes, a));
        before = ", ";
    }
    printf(")\n");
    printf("%u threads, %u queries in flight each\n\n", session->options.open.threads,
           session->options.open.inflight);
    printf("%5s %9s %9s %9s %9s %9s %9s %8s %8s %8s\n", "L", "recall", "QPS", "mean us", "p50 us",
           "p99 us", "p99.9 us", "reads", "KiB", "CPU us");
}

static void print_run(const struct search_run *run, uint32_t search_list)
{
    char list[16] = "auto", recall[16] = "-";
    if (search_list)
        snprintf(list, sizeof list, "%u", search_list);
    if (run->recall >= 0)
        snprintf(recall, sizeof recall, "%.4f", run->recall);
    printf("%5s %9s %9.0f %9.1f %9.1f %9.1f %9.1f %8.2f %8.1f %8.1f\n", list, recall, run_qps(run),
           run->latency.mean_us, run->latency.p50_us, run->latency.p99_us, run->latency.p999_us,
           per_query(run, run->reads), per_query(run, run->bytes) / 1024,
           per_query(run, run->cpu_ns) / 1e3);
    fflush(stdout);
}

static int session_open(struct session *session, struct fathom_error *err)
{
    const struct search_options *options = &session->options;
    int status = fathom_index_open(&session->index, options->index, &options->open, err);
    if (status)
        return status;
    fathom_index_get_info(session->index, &session->info);
    fathom_index_get_ledger(session->index, &session->ledger);
    env_device_name(options->index, session->device, sizeof session->device);
    return workload_open(&session->workload, env_os(), options->query, options->truth, options->ids,
                         options->k, err);
}

static int session_run(struct session *session, json_t *document, struct fathom_error *err)
{
    const struct search_options *options = &session->options;
    struct search_plan plan = {
        .env = env_os(),
        .index = session->index,
        .workload = &session->workload,
        .threads = options->open.threads,
        .inflight = options->open.inflight,
        .io = options->io,
        .k = options->k,
        .target_recall = (float)options->target_recall,
        .refine_threshold = (float)options->refine_threshold,
        .exact_distances = options->exact_distances,
        .passes = options->passes,
        .seconds = options->seconds,
        .stop = tool_interrupted,
    };
    for (unsigned i = 0; i < options->search_list_count && !tool_interrupted(); i++) {
        struct search_run run;
        plan.search_list = options->search_lists[i];
        int status = search_run(&run, &plan, err);
        if (status)
            return status;
        if (!i && run.io_note[0])
            fprintf(stderr, "%s: %s\n", BENCH_SEARCH_NAME, run.io_note);
        if (document)
            json_array_append_new(json_object_get(document, "runs"),
                                  run_json(session, &run, plan.search_list));
        else
            print_run(&run, plan.search_list);
    }
    return 0;
}

int bench_search_main(int argc, char **argv)
{
    struct session session = {0};
    struct fathom_error err = {0};
    json_t *document = NULL;
    int exit_code = search_options_parse(&session.options, argc, argv);
    if (exit_code)
        return exit_code;
    tool_catch_signals();
    int status = session_open(&session, &err);
    if (!status && session.options.json)
        document = document_json(&session);
    else if (!status)
        print_head(&session);
    if (!status)
        status = session_run(&session, document, &err);

    if (status)
        exit_code = tool_fail(BENCH_SEARCH_NAME, &err);
    else if (document)
        exit_code = tool_print_json(json_incref(document));
    if (!exit_code && tool_interrupted())
        exit_code = TOOL_EXIT_INTERRUPTED;
    json_decref(document);
    workload_close(&session.workload);
    fathom_index_close(session.index);
    return exit_code;
}
