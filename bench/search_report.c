/* Reports of `fathom-bench search`. Never measures. */
#include "search_report.h"

#include <inttypes.h>
#include <math.h>

#include "machine.h"

#define WIDENED_MANY    0.05   /* of the queries: worth a word */
#define FILE_PAGE_BYTES 4096.0 /* docs/FORMAT.md */

static double per_query(const struct search_run *run, uint64_t sum)
{
    return run->queries ? (double)sum / (double)run->queries : 0;
}

double search_run_qps(const struct search_run *run)
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

static json_t *recall_json(float recall)
{
    return recall > 0 ? json_real(tool_recall(recall)) : json_null();
}

/* What was run. */
static json_t *run_setting_json(const struct search_session *session,
                                const struct search_plan *plan)
{
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:i, s:b, s:s, s:i, s:i, s:i, s:I, s:s, s:s, s:s, s:i, s:I, s:b, "
        "s:b}",
        "search_list", plan->search_list ? json_integer(plan->search_list) : json_null(),
        "target_recall", recall_json(plan->target_recall), "plan_recall",
        recall_json(session->info.plan_recall), "recall_reached",
        recall_json(session->info.recall_reached), "k", (int)plan->k, "exact_distances",
        plan->exact_distances, "rerank", report_rerank(plan->rerank), "threads", (int)plan->threads,
        "inflight", (int)plan->inflight, "page_buffers", (int)session->info.page_buffers,
        "dram_budget", (json_int_t)session->ledger.budget_bytes, "cpu_level", fathom_cpu_level(),
        "device", session->device, "navigator", fathom_navigator_name(session->info.navigator),
        "code_bits", (int)session->info.code_bits, "resident_lists",
        (json_int_t)session->info.resident_lists, "direct_io", session->info.direct_io,
        "large_buffers", session->info.large_buffers);
}

/* What one repetition took. */
static json_t *speed_json(const struct search_run *run)
{
    return json_pack("{s:f, s:o, s:I, s:f, s:f, s:f, s:s}", "qps", search_run_qps(run),
                     "latency_us", report_latency(&run->latency), "queries",
                     (json_int_t)run->queries, "seconds", (double)run->wall_ns / 1e9,
                     "cpu_us_per_query", per_query(run, run->cpu_ns) / 1e3, "io_us_per_query",
                     per_query(run, run->io_ns) / 1e3, "io_engine", fathom_io_name(run->io));
}

/* What its queries found and did. */
static json_t *work_json(const struct search_run *run)
{
    return json_pack("{s:o, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "recall",
                     report_real(run->recall), "reads_per_query", per_query(run, run->reads),
                     "list_reads_per_query", per_query(run, run->list_reads),
                     "code_reads_per_query", per_query(run, run->code_reads), "pages_per_query",
                     per_query(run, run->bytes) / FILE_PAGE_BYTES, "widened_per_query",
                     per_query(run, run->widened), "bytes_per_query", per_query(run, run->bytes),
                     "hops_per_query", per_query(run, run->hops), "rounds_per_query",
                     per_query(run, run->rounds), "distances_per_query",
                     per_query(run, run->code_distances + run->full_distances),
                     "full_distances_per_query", per_query(run, run->full_distances));
}

/* What it cost in memory and on disk. */
static json_t *cost_json(const struct search_session *session)
{
    int64_t cached = env_cached_bytes(session->options.index);
    return json_pack(
        "{s:o, s:f, s:I, s:o, s:I, s:I}", "dram_bytes", ledger_json(&session->ledger),
        "dram_bytes_per_vector", (double)session->ledger.index_bytes / (double)session->info.rows,
        "peak_rss_bytes", (json_int_t)env_peak_rss_bytes(), "page_cache_bytes",
        cached < 0 ? json_null() : json_integer(cached), "index_bytes",
        (json_int_t)session->info.index_bytes, "raw_bytes", (json_int_t)session->info.raw_bytes);
}

/* ---- repetitions ---- */

static double run_cpu_us(const struct search_run *run)
{
    return per_query(run, run->cpu_ns) / 1e3;
}

static double run_p50_us(const struct search_run *run)
{
    return run->latency.p50_us;
}

static double run_p99_us(const struct search_run *run)
{
    return run->latency.p99_us;
}

static json_t *range_json(const struct search_repeats *repeats,
                          double (*figure)(const struct search_run *))
{
    double least = figure(&repeats->runs[0]), most = least;
    for (unsigned i = 1; i < repeats->count; i++) {
        double value = figure(&repeats->runs[i]);
        least = value < least ? value : least;
        most = value > most ? value : most;
    }
    return json_pack("{s:f, s:f}", "min", least, "max", most);
}

static json_t *spread_json(const struct search_repeats *repeats)
{
    return json_pack("{s:i, s:o, s:o, s:o, s:o}", "repeats", (int)repeats->count, "qps",
                     range_json(repeats, search_run_qps), "p50_us", range_json(repeats, run_p50_us),
                     "p99_us", range_json(repeats, run_p99_us), "cpu_us_per_query",
                     range_json(repeats, run_cpu_us));
}

static bool is_slower(const struct search_run *a, const struct search_run *b)
{
    return search_run_qps(a) < search_run_qps(b);
}

static bool has_longer_tail(const struct search_run *a, const struct search_run *b)
{
    return run_p99_us(a) > run_p99_us(b);
}

/* Of an even number, the worse of the two in the middle. */
static const struct search_run *median_run(const struct search_repeats *repeats,
                                           bool (*is_worse)(const struct search_run *a,
                                                            const struct search_run *b))
{
    const struct search_run *runs = repeats->runs;
    for (unsigned i = 0; i < repeats->count; i++) {
        unsigned worse = 0;
        for (unsigned j = 0; j < repeats->count; j++)
            worse += is_worse(&runs[j], &runs[i]) || (j < i && !is_worse(&runs[i], &runs[j]));
        if (worse == (repeats->count - 1) / 2)
            return &runs[i];
    }
    return &runs[0];
}

const struct search_run *search_repeats_median(const struct search_repeats *repeats)
{
    return median_run(repeats, is_slower);
}

static json_t *machine_json(void)
{
    struct env_machine machine;
    env_machine_describe(&machine);
    return json_pack("{s:s, s:i, s:I, s:s}", "cpu", machine.cpu, "cpus", (int)machine.cpus,
                     "memory_bytes", (json_int_t)machine.memory_bytes, "kernel", machine.kernel);
}

static json_t *document_json(const struct search_session *session)
{
    char generation[24];
    const struct fathom_index_info *info = &session->info;
    snprintf(generation, sizeof generation, "%016" PRIx64, info->generation);
    return json_pack(
        "{s:s, s:s, s:o, s:s, s:I, s:i, s:s, s:s, s:i, s:o, s:[]}", "program", BENCH_SEARCH_NAME,
        "version", fathom_version(), "index", tool_json_text(session->options.index), "generation",
        generation, "rows", (json_int_t)info->rows, "dim", (int)info->dim, "dtype",
        fathom_dtype_name(info->dtype), "metric", fathom_metric_name(info->metric), "queries",
        (int)session->workload.query_count, "machine", machine_json(), "runs");
}

/* Openings for several target recalls are often the same. */
static bool is_shown(const struct search_session *session)
{
    const struct fathom_open_options *now = &session->options.open, *shown = &session->shown;
    return session->opened && now->threads == shown->threads && now->inflight == shown->inflight &&
           now->dram_budget_bytes == shown->dram_budget_bytes &&
           now->dram_budget_share == shown->dram_budget_share &&
           session->ledger.total_bytes == session->shown_bytes;
}

static void print_head(const struct search_session *session)
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
    if (!info->large_buffers)
        printf("Page buffers in small pages: the system gave no large ones, or the budget is less "
               "than one\n");
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
    const unsigned threads = session->options.open.threads, each = info->inflight;
    printf("%u thread%s, %u %s in flight each\n\n", threads, tool_plural(threads), each,
           each == 1 ? "query" : "queries");
    printf("%5s %9s %9s %9s %9s %9s %9s %8s %8s %8s\n", "L", "recall", "QPS", "mean us", "p50 us",
           "p99 us", "p99.9 us", "reads", "KiB", "CPU us");
}

static void print_run(const struct search_plan *plan, const struct search_run *run,
                      const struct search_run *whole)
{
    char list[16] = "auto", recall[16] = "-";
    if (plan->search_list)
        snprintf(list, sizeof list, "%u", plan->search_list);
    else if (plan->target_recall > 0)
        snprintf(list, sizeof list, "%g", (double)plan->target_recall);
    if (whole->recall >= 0)
        snprintf(recall, sizeof recall, "%.4f", whole->recall);
    printf("%5s %9s %9.0f %9.1f %9.1f %9.1f %9.1f %8.2f %8.1f %8.1f\n", list, recall,
           search_run_qps(run), run->latency.mean_us, run->latency.p50_us, run->latency.p99_us,
           run->latency.p999_us, per_query(whole, whole->reads),
           per_query(whole, whole->bytes) / 1024, run_cpu_us(run));
    if (per_query(whole, whole->widened) > WIDENED_MANY)
        printf("      %.0f%% of the queries are unlike what target recall was measured on, and got "
               "longer lists; fathom-build points --query FILE measures it on such as these\n",
               100 * per_query(whole, whole->widened));
    fflush(stdout);
}

void search_report_opening(struct search_session *session)
{
    if (!session->options.json && !is_shown(session)) {
        print_head(session);
        session->shown = session->options.open;
        session->shown_bytes = session->ledger.total_bytes;
    }
    if (session->options.json && !session->opened)
        session->document = document_json(session);
}

void search_report_refused(struct search_session *session, const char *why)
{
    const struct fathom_open_options *open = &session->options.open;
    fprintf(stderr, "%s: %s\n", BENCH_SEARCH_NAME, why);
    if (!session->refused)
        session->refused = json_array();
    json_array_append_new(session->refused,
                          json_pack("{s:I, s:f, s:o}", "dram_budget",
                                    (json_int_t)open->dram_budget_bytes, "dram_budget_share",
                                    open->dram_budget_share, "message", tool_json_text(why)));
}

void search_report_run(struct search_session *session, const struct search_plan *plan,
                       const struct search_repeats *repeats)
{
    /* The first asked every query, so what it found and did is that of all. */
    const struct search_run *run = search_repeats_median(repeats), *whole = &repeats->runs[0];
    if (!session->document) {
        print_run(plan, run, whole);
        return;
    }
    json_t *record = run_setting_json(session, plan);
    json_t *speed = speed_json(run), *work = work_json(whole), *cost = cost_json(session);
    json_object_update(record, speed);
    json_object_update(record, work);
    json_object_update(record, cost);
    json_object_set_new(record, "spread", spread_json(repeats));
    json_object_set_new(record, "open_loop", json_array());
    json_array_append_new(json_object_get(session->document, "runs"), record);
    json_decref(speed);
    json_decref(work);
    json_decref(cost);
}

static json_t *open_loop_json(const struct search_plan *plan, const struct search_repeats *repeats,
                              const struct search_run *run)
{
    return json_pack("{s:f, s:s, s:I, s:f, s:o, s:o, s:o, s:o, s:f, s:f, s:i, s:o}", "rate",
                     plan->rate, "urgency", env_urgency_name(run->urgency), "queries",
                     (json_int_t)run->queries, "qps", search_run_qps(run), "recall",
                     report_real(run->recall), "latency_us", report_latency(&run->latency),
                     "late_us", report_latency(&run->late), "stops",
                     report_stops(&run->stops, &run->untouched), "cpu_us_per_query",
                     run_cpu_us(run), "io_us_per_query", per_query(run, run->io_ns) / 1e3,
                     "repeats", (int)repeats->count, "p99_us", range_json(repeats, run_p99_us));
}

static void print_open_loop(const struct search_plan *plan, const struct search_run *run)
{
    printf("%15s %9.0f %9.1f %9.1f %9.1f %9.1f    submitted after %.1f, p99 %.1f us\n",
           "at this rate", plan->rate, run->latency.mean_us, run->latency.p50_us,
           run->latency.p99_us, run->latency.p999_us, run->late.mean_us, run->late.p99_us);
    report_print_stops(&run->stops, &run->untouched);
    fflush(stdout);
}

void search_report_open_loop(struct search_session *session, const struct search_plan *plan,
                             const struct search_repeats *repeats)
{
    const struct search_run *run = median_run(repeats, has_longer_tail);
    if (!session->document) {
        print_open_loop(plan, run);
        return;
    }
    json_t *runs = json_object_get(session->document, "runs");
    json_t *record = json_array_get(runs, json_array_size(runs) - 1);
    json_array_append_new(json_object_get(record, "open_loop"), open_loop_json(plan, repeats, run));
}

int search_report_print(struct search_session *session)
{
    if (!session->document)
        return TOOL_EXIT_OK;
    json_object_set_new(session->document, "refused",
                        session->refused ? json_incref(session->refused) : json_array());
    return tool_print_json(json_incref(session->document));
}
