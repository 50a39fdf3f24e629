/* Packing replies. The keys are those of protocol.h; docs/PROTOCOL.md lists each map. */
#include "reply.h"

#include "protocol.h"
#include "tool.h"

#define SERVER_NAME "fathom-server/" FATHOM_VERSION

static void begin_result(struct wire_writer *writer, struct buffer *out, uint32_t msgid)
{
    wire_begin(writer, out);
    wire_put_array(writer, 4);
    wire_put_uint(writer, PROTOCOL_REPLY);
    wire_put_uint(writer, msgid);
    wire_put_nil(writer);
}

int reply_error(struct buffer *out, uint32_t msgid, const struct rpc_error *err)
{
    struct wire_writer writer;
    wire_begin(&writer, out);
    wire_put_array(&writer, 4);
    wire_put_uint(&writer, PROTOCOL_REPLY);
    wire_put_uint(&writer, msgid);
    rpc_error_put(&writer, err);
    wire_put_nil(&writer);
    return wire_end(&writer);
}

int reply_empty(struct buffer *out, uint32_t msgid)
{
    struct wire_writer writer;
    begin_result(&writer, out, msgid);
    wire_put_map(&writer, 0);
    return wire_end(&writer);
}

int reply_hello(struct buffer *out, uint32_t msgid, const struct service *service)
{
    struct wire_writer writer;
    begin_result(&writer, out, msgid);
    wire_put_map(&writer, 5);
    wire_pair_text(&writer, PROTOCOL_KEY_SERVER, SERVER_NAME);
    wire_pair_uint(&writer, PROTOCOL_KEY_PROTOCOL, PROTOCOL_VERSION);
    wire_pair_uint(&writer, PROTOCOL_KEY_MAX_MESSAGE_BYTES, service->limits.message_bytes_max);
    wire_put_text(&writer, PROTOCOL_KEY_METHODS);
    wire_put_array(&writer, METHOD_COUNT);
    for (unsigned i = 0; i < METHOD_COUNT; i++)
        wire_put_text(&writer, method_name((enum method)i));
    wire_put_text(&writer, PROTOCOL_KEY_INDEXES);
    wire_put_array(&writer, registry_count(service->registry));
    for (unsigned i = 0; i < registry_count(service->registry); i++)
        wire_put_text(&writer, registry_name(service->registry, i));
    return wire_end(&writer);
}

/* ---- search ---- */

#define COUNT_PAIRS     18
#define COUNT_BYTES_MAX 460

static void put_count_pairs(struct wire_writer *writer, const struct search_counts *counts,
                            const char *navigator, enum fathom_io io)
{
    wire_pair_text(writer, PROTOCOL_KEY_NAVIGATOR, navigator);
    wire_pair_text(writer, PROTOCOL_KEY_IO_ENGINE, fathom_io_name(io));
    wire_pair_uint(writer, PROTOCOL_KEY_HOPS, counts->hops);
    wire_pair_uint(writer, PROTOCOL_KEY_ROUNDS, counts->rounds);
    wire_pair_uint(writer, PROTOCOL_KEY_READS, counts->reads);
    wire_pair_uint(writer, PROTOCOL_KEY_BYTES, counts->bytes);
    wire_pair_uint(writer, PROTOCOL_KEY_LIST_READS, counts->list_reads);
    wire_pair_uint(writer, PROTOCOL_KEY_CODE_READS, counts->code_reads);
    wire_pair_uint(writer, PROTOCOL_KEY_RESIDENT_LISTS, counts->resident_lists);
    wire_pair_uint(writer, PROTOCOL_KEY_CODE_DISTANCES, counts->code_distances);
    wire_pair_uint(writer, PROTOCOL_KEY_FULL_DISTANCES, counts->full_distances);
    wire_pair_uint(writer, PROTOCOL_KEY_RERANKED, counts->reranked);
    wire_pair_uint(writer, PROTOCOL_KEY_WIDENED, counts->widened);
    wire_pair_uint(writer, PROTOCOL_KEY_QUEUE_US, counts->queue_ns / 1000);
    wire_pair_uint(writer, PROTOCOL_KEY_DEVICE_US, counts->io_ns / 1000);
    wire_pair_uint(writer, PROTOCOL_KEY_COMPUTE_US, counts->compute_ns / 1000);
    wire_pair_uint(writer, PROTOCOL_KEY_TOTAL_US, counts->total_ns / 1000);
    wire_pair_text(writer, PROTOCOL_KEY_STOP_REASON,
                   counts->stop_reason ? counts->stop_reason : "");
}

static void put_stats(struct wire_writer *writer, const struct search *search, enum fathom_io io)
{
    const char *navigator = fathom_navigator_name(search->edition->info.navigator);
    wire_put_text(writer, PROTOCOL_KEY_STATS);
    wire_put_map(writer, COUNT_PAIRS + (search->n > 1));
    put_count_pairs(writer, &search->counts, navigator, io);
    if (search->n == 1)
        return;
    wire_put_text(writer, PROTOCOL_KEY_QUERIES);
    wire_put_array(writer, search->n);
    for (uint32_t row = 0; row < search->n; row++) {
        wire_put_map(writer, COUNT_PAIRS);
        put_count_pairs(writer, &search->row_counts[row], navigator, io);
    }
}

int reply_search(struct buffer *out, uint32_t msgid, const struct search *search, enum fathom_io io)
{
    uint32_t n = search->n, k = search->query.k;
    struct wire_writer writer;
    begin_result(&writer, out, msgid);
    wire_put_map(&writer, 5 + search->explain);
    wire_put_text(&writer, PROTOCOL_KEY_IDS);
    wire_put_bin(&writer, search->ids, (size_t)n * k * sizeof *search->ids);
    wire_put_text(&writer, PROTOCOL_KEY_DISTANCES);
    wire_put_bin(&writer, search->distances, (size_t)n * k * sizeof *search->distances);
    wire_put_text(&writer, PROTOCOL_KEY_SHAPE);
    wire_put_array(&writer, 2);
    wire_put_uint(&writer, n);
    wire_put_uint(&writer, k);
    wire_pair_uint(&writer, PROTOCOL_KEY_GENERATION, search->edition->info.generation);
    wire_pair_bool(&writer, PROTOCOL_KEY_COMPLETE, search->complete);
    if (search->explain)
        put_stats(&writer, search, io);
    return wire_end(&writer);
}

size_t reply_search_bytes_max(uint32_t n, uint32_t k, bool explain)
{
    size_t counts = explain ? ((size_t)n + 1) * COUNT_BYTES_MAX : 0;
    return (size_t)n * k * (sizeof(uint64_t) + sizeof(float)) + counts + 256;
}

/* ---- info ---- */

static void put_ledger(struct wire_writer *writer, const struct fathom_ledger *ledger)
{
    wire_put_map(writer, 4 + ledger->part_count);
    wire_pair_uint(writer, "total", ledger->total_bytes);
    wire_pair_uint(writer, "index", ledger->index_bytes);
    wire_pair_uint(writer, "scratch", ledger->scratch_bytes);
    wire_pair_uint(writer, "budget", ledger->budget_bytes);
    for (unsigned i = 0; i < ledger->part_count; i++)
        wire_pair_uint(writer, ledger->parts[i].name, ledger->parts[i].bytes);
}

static void put_index_info(struct wire_writer *writer, const struct edition *edition)
{
    const struct fathom_index_info *info = &edition->info;
    wire_put_map(writer, 23);
    wire_pair_text(writer, PROTOCOL_KEY_NAME, edition->name);
    wire_pair_uint(writer, PROTOCOL_KEY_ROWS, info->rows);
    wire_pair_uint(writer, PROTOCOL_KEY_DIM, info->dim);
    wire_pair_text(writer, PROTOCOL_KEY_DTYPE, fathom_dtype_name(info->dtype));
    wire_pair_text(writer, PROTOCOL_KEY_METRIC, fathom_metric_name(info->metric));
    wire_pair_uint(writer, PROTOCOL_KEY_GENERATION, info->generation);
    wire_pair_text(writer, PROTOCOL_KEY_NAVIGATOR, fathom_navigator_name(info->navigator));
    wire_pair_uint(writer, "code_bits", info->code_bits);
    wire_pair_uint(writer, "degree_max", info->degree_max);
    wire_pair_uint(writer, PROTOCOL_KEY_RESIDENT_LISTS, info->resident_lists);
    wire_pair_uint(writer, "cells", info->cells);
    wire_pair_uint(writer, "rows_per_page", info->rows_per_page);
    wire_pair_uint(writer, "index_bytes", info->index_bytes);
    wire_pair_uint(writer, "raw_bytes", info->raw_bytes);
    wire_pair_uint(writer, "format_version", info->format_version);
    wire_pair_bool(writer, "direct_io", info->direct_io);
    wire_pair_bool(writer, "large_buffers", info->large_buffers);
    wire_pair_uint(writer, "inflight", info->inflight);
    wire_pair_uint(writer, "page_buffers", info->page_buffers);
    wire_pair_bool(writer, "has_external_ids", info->has_external_ids);
    wire_pair_float(writer, PROTOCOL_KEY_PLAN_RECALL, tool_recall(info->plan_recall));
    wire_pair_float(writer, "recall_reached", tool_recall(info->recall_reached));
    wire_put_text(writer, "dram_bytes");
    put_ledger(writer, &edition->ledger);
}

int reply_info(struct buffer *out, uint32_t msgid, const struct service *service,
               const struct registry_view *view, int slot)
{
    struct wire_writer writer;
    unsigned count = registry_count(service->registry);
    begin_result(&writer, out, msgid);
    if (slot >= 0) {
        put_index_info(&writer, view->editions[slot]);
        return wire_end(&writer);
    }
    wire_put_map(&writer, 5);
    wire_pair_text(&writer, PROTOCOL_KEY_SERVER, SERVER_NAME);
    wire_pair_uint(&writer, PROTOCOL_KEY_PROTOCOL, PROTOCOL_VERSION);
    wire_pair_text(&writer, "cpu_level", fathom_cpu_level());
    wire_pair_text(&writer, PROTOCOL_KEY_IO_ENGINE, service_io_name(service));
    wire_put_text(&writer, PROTOCOL_KEY_INDEXES);
    wire_put_array(&writer, count);
    for (unsigned i = 0; i < count; i++)
        put_index_info(&writer, view->editions[i]);
    return wire_end(&writer);
}

/* ---- stats ---- */

static void put_quantiles(struct wire_writer *writer, const char *key,
                          const struct histogram_sum *sum)
{
    double count = sum->count ? (double)sum->count : 1;
    wire_put_text(writer, key);
    wire_put_map(writer, 5);
    wire_pair_float(writer, "mean", (double)sum->sum / count);
    wire_pair_uint(writer, "p50", histogram_quantile(sum, 0.50));
    wire_pair_uint(writer, "p95", histogram_quantile(sum, 0.95));
    wire_pair_uint(writer, "p99", histogram_quantile(sum, 0.99));
    wire_pair_uint(writer, "p999", histogram_quantile(sum, 0.999));
}

static void put_index_stats(struct wire_writer *writer, const struct service *service,
                            const struct edition *edition)
{
    struct index_sum sum;
    struct reload_counts reloads;
    stats_sum_index(service->stats, edition->slot, &sum);
    registry_reload_counts(service->registry, edition->slot, &reloads);
    wire_put_map(writer, 15);
    wire_pair_text(writer, PROTOCOL_KEY_NAME, edition->name);
    wire_pair_uint(writer, PROTOCOL_KEY_GENERATION, edition->info.generation);
    wire_pair_uint(writer, "searches", sum.searches);
    wire_pair_uint(writer, "queries", sum.rows);
    wire_pair_uint(writer, PROTOCOL_KEY_WIDENED, sum.widened);
    wire_pair_uint(writer, "failed", sum.failed);
    wire_pair_uint(writer, "incomplete", sum.incomplete);
    wire_pair_uint(writer, "reads", sum.reads);
    wire_pair_uint(writer, "read_bytes", sum.read_bytes);
    wire_pair_uint(writer, "reloads", reloads.ok);
    wire_pair_uint(writer, "reload_failures", reloads.failed);
    put_quantiles(writer, "latency_us", &sum.latency_us);
    put_quantiles(writer, "queue_us", &sum.queue_us);
    put_quantiles(writer, "reads_per_query", &sum.reads_per_query);
    wire_put_text(writer, "dram_bytes");
    put_ledger(writer, &edition->ledger);
}

static void put_request_counts(struct wire_writer *writer, const struct stats_sum *sum)
{
    wire_put_text(writer, "requests");
    wire_put_map(writer, METHOD_COUNT + 1);
    for (unsigned i = 0; i <= METHOD_COUNT; i++)
        wire_pair_uint(writer, method_name((enum method)i), sum->requests[i]);
    wire_put_text(writer, "replies");
    wire_put_map(writer, STATS_CODES);
    for (unsigned i = 0; i < STATS_CODES; i++)
        wire_pair_uint(writer, stats_code_name(i), sum->replies[i]);
    wire_put_text(writer, "rejected");
    wire_put_map(writer, 4);
    for (unsigned i = 0; i < 4; i++)
        wire_pair_uint(writer, stats_reason_name(i), sum->rejected[i]);
}

int reply_stats(struct buffer *out, uint32_t msgid, const struct service *service,
                const struct registry_view *view, uint64_t now_ns)
{
    struct wire_writer writer;
    struct stats_sum sum;
    unsigned count = registry_count(service->registry);
    stats_sum(service->stats, &sum);
    begin_result(&writer, out, msgid);
    wire_put_map(&writer, 13);
    wire_pair_text(&writer, PROTOCOL_KEY_SERVER, SERVER_NAME);
    wire_pair_float(&writer, "uptime_s", (double)(now_ns - service->stats->started_ns) / 1e9);
    wire_pair_uint(&writer, "workers", service->config->workers);
    wire_pair_text(&writer, PROTOCOL_KEY_IO_ENGINE, service_io_name(service));
    wire_pair_uint(&writer, "connections", sum.connections);
    wire_pair_uint(&writer, "running", sum.running);
    wire_pair_uint(&writer, "waiting", sum.waiting);
    wire_pair_uint(&writer, "bytes_in", sum.bytes_in);
    wire_pair_uint(&writer, "bytes_out", sum.bytes_out);
    put_request_counts(&writer, &sum);
    wire_put_text(&writer, PROTOCOL_KEY_INDEXES);
    wire_put_array(&writer, count);
    for (unsigned i = 0; i < count; i++)
        put_index_stats(&writer, service, view->editions[i]);
    return wire_end(&writer);
}

/* ---- reload ---- */

int reply_reload(struct buffer *out, uint32_t msgid, const char *index,
                 const struct reload_result *result)
{
    struct wire_writer writer;
    begin_result(&writer, out, msgid);
    wire_put_map(&writer, 7);
    wire_pair_text(&writer, PROTOCOL_KEY_INDEX, index);
    wire_pair_uint(&writer, PROTOCOL_KEY_DRAM_BUDGET, result->budget_bytes);
    wire_pair_float(&writer, PROTOCOL_KEY_PLAN_RECALL, tool_recall(result->plan_recall));
    wire_pair_uint(&writer, PROTOCOL_KEY_GENERATION, result->generation);
    wire_pair_uint(&writer, "previous_generation", result->previous_generation);
    wire_pair_bool(&writer, "changed", result->generation != result->previous_generation);
    wire_pair_uint(&writer, "milliseconds", result->milliseconds);
    return wire_end(&writer);
}
