/* Counts of values by size, in the manner of HdrHistogram: 16 buckets per power of two, so that a
 * quantile is within 6%. One thread records; any thread may read at any time (relaxed atomics: a
 * reader sees each bucket at some recent moment, which is all that statistics need). */
#ifndef SERVER_HISTOGRAM_H
#define SERVER_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#define HISTOGRAM_BUCKETS 464 /* values below 2^32; larger ones count as the largest */

struct histogram {
    atomic_uint_least64_t counts[HISTOGRAM_BUCKETS];
    atomic_uint_least64_t sum;
};

/* A sum of histograms, read at one moment by one thread. */
struct histogram_sum {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t count, sum;
};

/* Adds without a locked instruction: the recording thread is the only writer. */
static inline void counter_add(atomic_uint_least64_t *counter, uint64_t value)
{
    uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, now + value, memory_order_relaxed);
}

static inline uint64_t counter_read(const atomic_uint_least64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void histogram_record(struct histogram *histogram, uint64_t value);
/* Adds the histogram to sum (which starts zeroed). */
void histogram_collect(const struct histogram *histogram, struct histogram_sum *sum);
/* The value below which a share q (0..1) of the recorded ones lie; 0 when there are none. */
uint64_t histogram_quantile(const struct histogram_sum *sum, double q);
/* How many values were below 2^power (power >= 4). */
uint64_t histogram_below(const struct histogram_sum *sum, unsigned power);

#endif
