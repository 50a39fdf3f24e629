/* Recording and summing up latencies. Never prints, never reads the clock. */
#include "latency.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"

#define CHUNK_SAMPLES 8192 /* small beside the memory of an index, which is measured too */

struct latency_chunk {
    struct latency_chunk *before;
    size_t count;
    uint64_t ns[CHUNK_SAMPLES];
};

int latency_add(struct latency *latency, uint64_t ns)
{
    if (!latency->last || latency->last->count == CHUNK_SAMPLES) {
        struct latency_chunk *chunk = mem_alloc(sizeof *chunk);
        if (!chunk)
            return -ENOMEM;
        chunk->before = latency->last;
        latency->last = chunk;
    }
    latency->last->ns[latency->last->count++] = ns;
    latency->count++;
    return 0;
}

void latency_clear(struct latency *latency)
{
    while (latency->last) {
        struct latency_chunk *before = latency->last->before;
        mem_free(latency->last);
        latency->last = before;
    }
    latency->count = 0;
}

static int compare_ns(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* permille of 500 is the median. In integers, since 0.999 * count is not exact in floating point.
 */
static double percentile_us(const uint64_t *sorted, size_t count, size_t permille)
{
    size_t rank = (count * permille + 999) / 1000;
    return (double)sorted[rank ? rank - 1 : 0] / 1e3;
}

int latency_summarize(struct latency_summary *out, const struct latency *const *recorders,
                      size_t count)
{
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < count; i++)
        out->count += recorders[i]->count;
    if (!out->count)
        return 0;
    uint64_t *all = mem_alloc_array(out->count, sizeof *all);
    if (!all)
        return -ENOMEM;

    size_t filled = 0;
    double sum_ns = 0;
    for (size_t i = 0; i < count; i++) {
        for (const struct latency_chunk *chunk = recorders[i]->last; chunk; chunk = chunk->before) {
            memcpy(all + filled, chunk->ns, chunk->count * sizeof *all);
            filled += chunk->count;
        }
    }
    for (size_t i = 0; i < filled; i++)
        sum_ns += (double)all[i];
    qsort(all, filled, sizeof *all, compare_ns);
    out->mean_us = sum_ns / (double)filled / 1e3;
    out->p50_us = percentile_us(all, filled, 500);
    out->p95_us = percentile_us(all, filled, 950);
    out->p99_us = percentile_us(all, filled, 990);
    out->p999_us = percentile_us(all, filled, 999);
    out->max_us = (double)all[filled - 1] / 1e3;
    mem_free(all);
    return 0;
}
