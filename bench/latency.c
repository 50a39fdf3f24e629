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
    uint64_t end_ns[]; /* as many, or none */
};

int latency_add(struct latency *latency, uint64_t end_ns, uint64_t ns)
{
    if (!latency->last || latency->last->count == CHUNK_SAMPLES) {
        size_t ends = latency->keeps_ends ? CHUNK_SAMPLES * sizeof end_ns : 0;
        struct latency_chunk *chunk = mem_alloc(sizeof *chunk + ends);
        if (!chunk)
            return -ENOMEM;
        chunk->before = latency->last;
        latency->last = chunk;
    }
    if (latency->keeps_ends)
        latency->last->end_ns[latency->last->count] = end_ns;
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

/* Those of a chunk that no stop touched; all without stops. */
static size_t take_chunk(uint64_t *out, const struct latency_chunk *chunk,
                         const struct stops *stops)
{
    size_t taken = 0;
    for (size_t i = 0; i < chunk->count; i++)
        if (!stops || !stops_touch(stops, chunk->end_ns[i] - chunk->ns[i], chunk->end_ns[i]))
            out[taken++] = chunk->ns[i];
    return taken;
}

int latency_summarize(struct latency_summary *out, const struct latency *const *recorders,
                      size_t count, const struct stops *stops)
{
    memset(out, 0, sizeof *out);
    size_t most = 0, filled = 0;
    for (size_t i = 0; i < count; i++)
        most += recorders[i]->count;
    if (!most)
        return 0;
    uint64_t *all = mem_alloc_array(most, sizeof *all);
    if (!all)
        return -ENOMEM;

    double sum_ns = 0;
    for (size_t i = 0; i < count; i++)
        for (const struct latency_chunk *chunk = recorders[i]->last; chunk; chunk = chunk->before)
            filled += take_chunk(all + filled, chunk, stops);
    for (size_t i = 0; i < filled; i++)
        sum_ns += (double)all[i];
    out->count = filled;
    if (filled) {
        qsort(all, filled, sizeof *all, compare_ns);
        out->mean_us = sum_ns / (double)filled / 1e3;
        out->p50_us = percentile_us(all, filled, 500);
        out->p95_us = percentile_us(all, filled, 950);
        out->p99_us = percentile_us(all, filled, 990);
        out->p999_us = percentile_us(all, filled, 999);
        out->max_us = (double)all[filled - 1] / 1e3;
    }
    mem_free(all);
    return 0;
}
