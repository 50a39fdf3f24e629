/* Creating, counting and summing the blocks. */
#include "stats.h"

#include "mem.h"
#include "protocol.h"

#include <errno.h>
#include <string.h>

static const char *const code_names[STATS_CODES] = {
    "ok",
    PROTOCOL_ERROR_CANCELLED,
    PROTOCOL_ERROR_INVALID_ARGUMENT,
    PROTOCOL_ERROR_DEADLINE_EXCEEDED,
    PROTOCOL_ERROR_NOT_FOUND,
    PROTOCOL_ERROR_PERMISSION_DENIED,
    PROTOCOL_ERROR_RESOURCE_EXHAUSTED,
    PROTOCOL_ERROR_FAILED_PRECONDITION,
    PROTOCOL_ERROR_UNIMPLEMENTED,
    PROTOCOL_ERROR_INTERNAL,
    PROTOCOL_ERROR_UNAVAILABLE,
    PROTOCOL_ERROR_DATA_LOSS,
    PROTOCOL_ERROR_UNAUTHENTICATED,
};

static const char *const reason_names[4] = {PROTOCOL_REASON_RATE, PROTOCOL_REASON_MEMORY,
                                            PROTOCOL_REASON_DISK, PROTOCOL_REASON_QUEUE};

const char *stats_code_name(unsigned code)
{
    return code_names[code];
}

const char *stats_reason_name(unsigned reason)
{
    return reason_names[reason];
}

int stats_create(struct stats **out, unsigned threads, unsigned indexes, uint64_t now_ns)
{
    *out = NULL;
    struct stats *stats = mem_alloc(sizeof *stats);
    if (!stats)
        return -ENOMEM;
    stats->thread_count = threads;
    stats->index_count = indexes;
    stats->started_ns = now_ns;
    stats->threads = mem_alloc_array(threads, sizeof *stats->threads);
    if (!stats->threads)
        goto fail;
    for (unsigned i = 0; i < threads; i++) {
        stats->threads[i].indexes = mem_alloc_array(indexes, sizeof(struct index_stats));
        if (!stats->threads[i].indexes)
            goto fail;
    }
    *out = stats;
    return 0;
fail:
    stats_destroy(stats);
    return -ENOMEM;
}

void stats_destroy(struct stats *stats)
{
    if (!stats)
        return;
    for (unsigned i = 0; stats->threads && i < stats->thread_count; i++)
        mem_free(stats->threads[i].indexes);
    mem_free(stats->threads);
    mem_free(stats);
}

void stats_count_reply(struct thread_stats *stats, const struct rpc_error *err)
{
    const char *code = err ? err->code : code_names[0];
    for (unsigned i = 0; i < STATS_CODES; i++) {
        if (strcmp(code, code_names[i]) == 0)
            counter_add(&stats->replies[i], 1);
    }
    for (unsigned i = 0; err && err->reason && i < 4; i++) {
        if (strcmp(err->reason, reason_names[i]) == 0)
            counter_add(&stats->rejected[i], 1);
    }
}

static void sum_array(uint64_t *out, const atomic_uint_least64_t *counters, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        out[i] += counter_read(&counters[i]);
}

void stats_sum(const struct stats *stats, struct stats_sum *out)
{
    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i < stats->thread_count; i++) {
        const struct thread_stats *thread = &stats->threads[i];
        sum_array(out->requests, thread->requests, METHOD_COUNT + 1);
        sum_array(out->replies, thread->replies, STATS_CODES);
        sum_array(out->rejected, thread->rejected, 4);
        sum_array(out->ended, thread->ended, CONN_END_COUNT);
        out->bytes_in += counter_read(&thread->bytes_in);
        out->bytes_out += counter_read(&thread->bytes_out);
        out->opened += counter_read(&thread->opened);
        out->connections += counter_read(&thread->connections);
        out->running += counter_read(&thread->running);
        out->waiting += counter_read(&thread->waiting);
    }
}

void stats_sum_index(const struct stats *stats, unsigned index, struct index_sum *out)
{
    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i < stats->thread_count; i++) {
        const struct index_stats *part = &stats->threads[i].indexes[index];
        out->searches += counter_read(&part->searches);
        out->rows += counter_read(&part->rows);
        out->failed += counter_read(&part->failed);
        out->widened += counter_read(&part->widened);
        out->reads += counter_read(&part->reads);
        out->read_bytes += counter_read(&part->read_bytes);
        out->incomplete += counter_read(&part->incomplete);
        histogram_collect(&part->latency_us, &out->latency_us);
        histogram_collect(&part->queue_us, &out->queue_us);
        histogram_collect(&part->reads_per_query, &out->reads_per_query);
    }
}
