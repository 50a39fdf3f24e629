/* Names: prefix fathom_, base units (seconds, bytes), counters end in _total. Label values need no
 * escaping: index names are letters, digits and ._-, everything else is ours. Histograms are folded
 * to powers of two. */
#include "metrics.h"

#include "env.h"

#include <inttypes.h>
#include <stdio.h>

static void head(struct evbuffer *out, const char *name, const char *type, const char *help)
{
    evbuffer_add_printf(out, "# HELP fathom_%s %s\n# TYPE fathom_%s %s\n", name, help, name, type);
}

static void single(struct evbuffer *out, const char *name, const char *type, const char *help,
                   uint64_t value)
{
    head(out, name, type, help);
    evbuffer_add_printf(out, "fathom_%s %" PRIu64 "\n", name, value);
}

static void labelled(struct evbuffer *out, const char *name, const char *label, const char *value,
                     uint64_t number)
{
    evbuffer_add_printf(out, "fathom_%s{%s=\"%s\"} %" PRIu64 "\n", name, label, value, number);
}

/* ---- the process ---- */

static void render_process(struct evbuffer *out, const struct service *service, uint64_t now_ns)
{
    head(out, "build_info", "gauge", "Always 1; what is running.");
    evbuffer_add_printf(out,
                        "fathom_build_info{version=\"%s\",cpu_level=\"%s\",io_engine=\"%s\"} 1\n",
                        fathom_version(), fathom_cpu_level(), service_io_name(service));
    head(out, "uptime_seconds", "gauge", "Since the server started.");
    evbuffer_add_printf(out, "fathom_uptime_seconds %.3f\n",
                        (double)(now_ns - service->stats->started_ns) / 1e9);
    single(out, "resident_memory_bytes", "gauge", "Resident set size of the process.",
           env_rss_bytes());
    single(out, "workers", "gauge", "Event loops.", service->config->workers);
    single(out, "draining", "gauge", "1 while the server is shutting down.",
           atomic_load_explicit(&service->draining, memory_order_relaxed));
    single(out, "log_lines_dropped_total", "counter", "Log lines lost because the log was blocked.",
           log_dropped(service->log));
}

static void render_connections(struct evbuffer *out, const struct service *service,
                               const struct stats_sum *sum)
{
    single(out, "connections", "gauge", "Open connections.", sum->connections);
    head(out, "worker_connections", "gauge", "Open connections of each worker.");
    for (unsigned i = 0; i < service->config->workers; i++) {
        char worker[16];
        snprintf(worker, sizeof worker, "%u", i);
        labelled(out, "worker_connections", "worker", worker,
                 counter_read(&service->stats->threads[i].connections));
    }
    single(out, "connections_opened_total", "counter", "Connections taken by a worker.",
           sum->opened);
    single(out, "connections_refused_total", "counter", "Connections above --max-connections.",
           counter_read(&service->stats->refused_connections));
    head(out, "connections_closed_total", "counter", "Connections by what ended them.");
    for (unsigned i = 0; i < CONN_END_COUNT; i++)
        labelled(out, "connections_closed_total", "reason", conn_end_name((enum conn_end)i),
                 sum->ended[i]);
    single(out, "received_bytes_total", "counter", "Bytes read from clients.", sum->bytes_in);
    single(out, "sent_bytes_total", "counter", "Bytes sent to clients.", sum->bytes_out);
}

static void render_requests(struct evbuffer *out, const struct stats_sum *sum)
{
    head(out, "requests_total", "counter", "Messages by method.");
    for (unsigned i = 0; i <= METHOD_COUNT; i++)
        labelled(out, "requests_total", "method", method_name((enum method)i), sum->requests[i]);
    head(out, "replies_total", "counter", "Replies by code.");
    for (unsigned i = 0; i < STATS_CODES; i++)
        labelled(out, "replies_total", "code", stats_code_name(i), sum->replies[i]);
    head(out, "rejected_total", "counter", "Replies of resource_exhausted by reason.");
    for (unsigned i = 0; i < 4; i++)
        labelled(out, "rejected_total", "reason", stats_reason_name(i), sum->rejected[i]);
    single(out, "queries_running", "gauge", "Queries in an engine's slot.", sum->running);
    single(out, "queries_waiting", "gauge", "Queries waiting for a slot.", sum->waiting);
}

/* ---- indexes ---- */

static void render_histogram(struct evbuffer *out, const char *name, const char *index,
                             const struct histogram_sum *sum, unsigned first_power,
                             unsigned last_power, double unit)
{
    for (unsigned power = first_power; power <= last_power; power++) {
        /* Integer values: "below 2^power" is "at most 2^power - 1" when the unit is one, and up to
         * 2^power when it is a time that was rounded down. */
        double bound = unit == 1 ? (double)(1ull << power) - 1 : (double)(1ull << power) * unit;
        evbuffer_add_printf(out, "fathom_%s_bucket{index=\"%s\",le=\"%.9g\"} %" PRIu64 "\n", name,
                            index, bound, histogram_below(sum, power));
    }
    evbuffer_add_printf(
        out,
        "fathom_%s_bucket{index=\"%s\",le=\"+Inf\"} %" PRIu64 "\n"
        "fathom_%s_sum{index=\"%s\"} %.9g\nfathom_%s_count{index=\"%s\"} %" PRIu64 "\n",
        name, index, sum->count, name, index, (double)sum->sum * unit, name, index, sum->count);
}

enum index_histogram { HISTOGRAM_LATENCY, HISTOGRAM_QUEUE, HISTOGRAM_READS };

/* A metric's lines must stand together, so each metric goes over all indexes in turn. */
static void render_histograms(struct evbuffer *out, const struct service *service,
                              const struct registry_view *view, enum index_histogram which)
{
    static const struct {
        const char *name, *help;
        double unit;
        unsigned first, last;
    } histograms[] = {
        {"search_duration_seconds", "From a request's last byte to its reply.", 1e-6, 5, 24},
        {"queue_duration_seconds", "Before a query got a slot.", 1e-6, 5, 24},
        {"query_reads", "Reads of the index's files per query.", 1, 4, 14},
    };
    head(out, histograms[which].name, "histogram", histograms[which].help);
    for (unsigned i = 0; i < service->stats->index_count; i++) {
        struct index_sum sum;
        stats_sum_index(service->stats, i, &sum);
        const struct histogram_sum *parts[] = {&sum.latency_us, &sum.queue_us,
                                               &sum.reads_per_query};
        render_histogram(out, histograms[which].name, view->editions[i]->name, parts[which],
                         histograms[which].first, histograms[which].last, histograms[which].unit);
    }
}

static void render_index_counters(struct evbuffer *out, const struct service *service,
                                  const struct registry_view *view)
{
    static const struct {
        const char *name, *help;
        size_t offset;
    } counters[] = {
        {"searches_total", "Search requests answered.", offsetof(struct index_sum, searches)},
        {"searches_failed_total", "Search requests answered with an error.",
         offsetof(struct index_sum, failed)},
        {"searches_incomplete_total", "Search requests with fewer results than asked for.",
         offsetof(struct index_sum, incomplete)},
        {"queries_total", "Queries run.", offsetof(struct index_sum, rows)},
        {"queries_widened_total",
         "Queries whose search list was widened, for they are unlike those that operating points "
         "were measured on.",
         offsetof(struct index_sum, widened)},
        {"index_reads_total", "Reads of index files.", offsetof(struct index_sum, reads)},
        {"index_read_bytes_total", "Bytes read from index files.",
         offsetof(struct index_sum, read_bytes)},
    };
    for (size_t c = 0; c < sizeof counters / sizeof counters[0]; c++) {
        head(out, counters[c].name, "counter", counters[c].help);
        for (unsigned i = 0; i < service->stats->index_count; i++) {
            struct index_sum sum;
            stats_sum_index(service->stats, i, &sum);
            labelled(out, counters[c].name, "index", view->editions[i]->name,
                     *(const uint64_t *)(const void *)((const char *)&sum + counters[c].offset));
        }
    }
    head(out, "index_reloads_total", "counter", "Reloads by result.");
    for (unsigned i = 0; i < service->stats->index_count; i++) {
        struct reload_counts counts;
        registry_reload_counts(service->registry, i, &counts);
        evbuffer_add_printf(
            out,
            "fathom_index_reloads_total{index=\"%s\",result=\"ok\"} %" PRIu64 "\n"
            "fathom_index_reloads_total{index=\"%s\",result=\"failed\"} %" PRIu64 "\n",
            view->editions[i]->name, counts.ok, view->editions[i]->name, counts.failed);
    }
}

static void render_ledger(struct evbuffer *out, const struct edition *edition)
{
    const struct fathom_ledger *ledger = &edition->ledger;
    for (unsigned p = 0; p < ledger->part_count; p++)
        evbuffer_add_printf(out, "fathom_index_dram_bytes{index=\"%s\",part=\"%s\"} %" PRIu64 "\n",
                            edition->name, ledger->parts[p].name, ledger->parts[p].bytes);
    evbuffer_add_printf(out, "fathom_index_dram_bytes{index=\"%s\",part=\"scratch\"} %" PRIu64 "\n",
                        edition->name, ledger->scratch_bytes);
}

static void render_index_state(struct evbuffer *out, const struct registry_view *view)
{
    unsigned count = registry_count(view->registry);
    head(out, "index_info", "gauge", "Always 1; the generation that is served.");
    for (unsigned i = 0; i < count; i++) {
        const struct edition *edition = view->editions[i];
        evbuffer_add_printf(out,
                            "fathom_index_info{index=\"%s\",generation=\"%016" PRIx64
                            "\",dim=\"%u\",dtype=\"%s\",metric=\"%s\",navigator=\"%s\"} 1\n",
                            edition->name, edition->info.generation, edition->info.dim,
                            fathom_dtype_name(edition->info.dtype),
                            fathom_metric_name(edition->info.metric),
                            fathom_navigator_name(edition->info.navigator));
    }
    head(out, "index_rows", "gauge", "Rows of the index.");
    for (unsigned i = 0; i < count; i++)
        labelled(out, "index_rows", "index", view->editions[i]->name, view->editions[i]->info.rows);
    head(out, "index_disk_bytes", "gauge", "Size of the index on disk.");
    for (unsigned i = 0; i < count; i++)
        labelled(out, "index_disk_bytes", "index", view->editions[i]->name,
                 view->editions[i]->info.index_bytes);
    head(out, "index_dram_bytes", "gauge", "Memory kept for the index, by part.");
    for (unsigned i = 0; i < count; i++)
        render_ledger(out, view->editions[i]);
    head(out, "index_dram_budget_bytes", "gauge", "Memory allowed for the index; 0: no bound.");
    for (unsigned i = 0; i < count; i++)
        labelled(out, "index_dram_budget_bytes", "index", view->editions[i]->name,
                 view->editions[i]->ledger.budget_bytes);
}

void metrics_render(struct evbuffer *out, const struct service *service,
                    const struct registry_view *view, uint64_t now_ns)
{
    struct stats_sum sum;
    stats_sum(service->stats, &sum);
    render_process(out, service, now_ns);
    render_connections(out, service, &sum);
    render_requests(out, &sum);
    render_index_state(out, view);
    render_index_counters(out, service, view);
    for (int i = HISTOGRAM_LATENCY; i <= HISTOGRAM_READS; i++)
        render_histograms(out, service, view, (enum index_histogram)i);
}
