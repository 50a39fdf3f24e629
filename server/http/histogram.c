/* Bucket numbers: values below 16 have one each; above, the power of two and the four bits after
 * the leading one. */
#include "histogram.h"

#define SUB_BITS 4
#define SUB      (1u << SUB_BITS)

static unsigned bucket_of(uint64_t value)
{
    if (value > UINT32_MAX)
        value = UINT32_MAX;
    if (value < SUB)
        return (unsigned)value;
    unsigned power = 63u - (unsigned)__builtin_clzll(value);
    return (power - SUB_BITS + 1) * SUB + (unsigned)(value >> (power - SUB_BITS)) % SUB;
}

/* The largest value that the bucket holds. */
static uint64_t bucket_top(unsigned bucket)
{
    if (bucket < SUB)
        return bucket;
    unsigned shift = bucket / SUB - 1;
    return ((uint64_t)(SUB + bucket % SUB + 1) << shift) - 1;
}

void histogram_record(struct histogram *histogram, uint64_t value)
{
    counter_add(&histogram->counts[bucket_of(value)], 1);
    counter_add(&histogram->sum, value);
}

void histogram_collect(const struct histogram *histogram, struct histogram_sum *sum)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t count = counter_read(&histogram->counts[i]);
        sum->counts[i] += count;
        sum->count += count;
    }
    sum->sum += counter_read(&histogram->sum);
}

uint64_t histogram_quantile(const struct histogram_sum *sum, double q)
{
    uint64_t rank = (uint64_t)(q * (double)sum->count), seen = 0;
    if (sum->count == 0)
        return 0;
    if (rank >= sum->count)
        rank = sum->count - 1;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += sum->counts[i];
        if (seen > rank)
            return bucket_top(i);
    }
    return bucket_top(HISTOGRAM_BUCKETS - 1);
}

uint64_t histogram_below(const struct histogram_sum *sum, unsigned power)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < (power - SUB_BITS + 1) * SUB && i < HISTOGRAM_BUCKETS; i++)
        count += sum->counts[i];
    return count;
}
