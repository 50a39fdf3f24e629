/* Private to index/kernel: how the level files hand over their functions, and the small things that
 * they share. A level overwrites what it has in a table that already holds the level below, so that
 * nothing is ever missing. */
#ifndef KERNEL_KERNEL_LEVELS_H
#define KERNEL_KERNEL_LEVELS_H

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "kernel.h"
#include "le.h"

#define KERNEL_BLOCK      64 /* dimensions that the padding promises, and bytes of a cache line */
#define KERNEL_BLOCKS_MAX (KERNEL_DIM_MAX / KERNEL_BLOCK)

/* Every sum of a kernel is exact in int32. */
_Static_assert(255ll * 128 * KERNEL_DIM_MAX < INT32_MAX, "a sum of u8 * s8 fits int32");
_Static_assert(128ll * 128 * KERNEL_DIM_MAX < INT32_MAX, "a norm fits int32");

/* Rows that a gather has asked the memory for beyond the one it works on, and bytes of them at the
 * most. Measured on Zen 4 with rows all over 512 MiB: 16 rows ahead cost up to a sixth more time,
 * 64 gain nothing. */
#define KERNEL_AHEAD_ROWS  32
#define KERNEL_AHEAD_BYTES 8192

/* Columns of a sliced code whose table entries are added up in 16 bits. */
#define KERNEL_COLUMNS_AT_ONCE 256
_Static_assert(2 * KERNEL_COLUMNS_AT_ONCE * KERNEL_TABLE_MAX <= UINT16_MAX,
               "a sliced sum fits uint16");
_Static_assert(2 * KERNEL_TABLE_MAX <= UINT8_MAX, "two entries of tables fit a byte");

#define KERNEL_INLINE static inline __attribute__((always_inline))

/* Before a loop over the few rows of a batch: without it gcc keeps their sums in memory at -O2. */
#if defined(__clang__)
#define KERNEL_UNROLL _Pragma("unroll")
#else
#define KERNEL_UNROLL _Pragma("GCC unroll 8")
#endif

/* What a matrix gives for a vector that is not finite. */
void kernel_matvec_nan(float *out, size_t rows);

void kernels_fill_scalar(struct kernels *table);
void kernels_fill_avx2(struct kernels *table);
void kernels_fill_avx512(struct kernels *table);

/* One conversion at a time, exact; the vector levels use them for what is left of an array. */
float kernel_f16_decode(uint16_t half);
uint16_t kernel_f16_encode(float value);

/* Columns of sliced codes come in fours, the last ones padded with zeros in tables only. */
KERNEL_INLINE uint32_t kernel_padded_columns(uint32_t columns)
{
    return (columns + 3) & ~3u;
}

/* The one order in which a score becomes a float, the same at every level. */
KERNEL_INLINE float kernel_join(int32_t hi, int32_t lo)
{
    return (float)hi * 128.0f + (float)lo;
}

/* What a value of nibble_sums is multiplied with. */
KERNEL_INLINE int32_t kernel_step_weight(int32_t weight, int32_t step)
{
    return (weight * step + 8) >> 4;
}

/* How a vector of floats becomes integers of at most 2^22 for matvec_i8. */
struct kernel_fixed {
    float
        inverse; /* integer = round to nearest even (value * inverse), exact but for the rounding */
    double quantum; /* value = integer * quantum */
};

/* largest is the largest of the vector's bit patterns without sign, which sort like their
 * magnitudes, infinity and NaN last. Below 2^-100 the inverse stops growing, or it would leave the
 * range of float; what is lost there is below 2^-122. */
KERNEL_INLINE bool kernel_fix(uint32_t largest, struct kernel_fixed *fixed)
{
    if (largest >= 0x7f800000)
        return false;
    int above = (int)(largest >> 23) - 126; /* every magnitude is below 2^above */
    if (above < -100)
        above = -100;
    uint32_t inverse = (uint32_t)(22 - above + 127) << 23;
    uint64_t quantum = (uint64_t)(above - 22 + 1023) << 52;
    memcpy(&fixed->inverse, &inverse, sizeof inverse);
    memcpy(&fixed->quantum, &quantum, sizeof quantum);
    return true;
}

/* A row of matvec_i8 from its integer sum. */
KERNEL_INLINE float kernel_unfix(const struct kernel_fixed *fixed, int64_t sum, float scale)
{
    return scale * (float)((double)sum * fixed->quantum);
}

/* What takes a residual to the length of sigma; norms are squared. */
KERNEL_INLINE float kernel_inverse_length(double norm, double sigma_norm)
{
    return norm > 0 ? (float)sqrt(sigma_norm / norm) : 0;
}

/* A unit as unit_sums takes it. The index of a dimension with b bits is 2 * bits6, cut to its first
 * b bits, and the sentinel. */
struct kernel_unit {
    size_t first; /* dimension */
    unsigned plane;
    uint8_t old_mask, old_sentinel, new_mask, new_sentinel;
};

KERNEL_INLINE struct kernel_unit kernel_unit(uint16_t unit)
{
    unsigned plane = unit >> 12;
    return (struct kernel_unit){.first = 8 * (size_t)(unit & 0xfff),
                                .plane = plane,
                                .old_mask = (uint8_t)(128u - (128u >> plane)),
                                .old_sentinel = (uint8_t)(64u >> plane),
                                .new_mask = (uint8_t)(128u - (64u >> plane)),
                                .new_sentinel = (uint8_t)(32u >> plane)};
}

/* Rows to run ahead. */
KERNEL_INLINE size_t kernel_ahead(size_t row_bytes)
{
    size_t rows = KERNEL_AHEAD_BYTES / (row_bytes + 1);
    return rows > KERNEL_AHEAD_ROWS ? KERNEL_AHEAD_ROWS : rows < 4 ? 4 : rows;
}

/* Asks for the lines of the first `bytes` of rows[ids[from..to)], cut at count. Into the second
 * level cache: it has many more misses under way at once than the first, which is what counts here
 * (fetching into the first took half as long again). */
KERNEL_INLINE void kernel_prefetch(const uint8_t *rows, size_t row_bytes, size_t bytes,
                                   const uint32_t *ids, size_t from, size_t to, size_t count)
{
    if (to > count)
        to = count;
    for (size_t i = from; i < to; i++) {
        const uint8_t *row = rows + ids[i] * row_bytes;
        for (size_t at = 0; at < bytes; at += KERNEL_BLOCK)
            __builtin_prefetch(row + at, 0, 2);
        __builtin_prefetch(row + bytes - 1, 0, 2); /* the line more that an unaligned row touches */
    }
}

/* The next batch of rows: rows[ids[first + j]] when scattered, else rows[first + j]. Beyond count
 * the last row is repeated, so that batches need no tail of their own; the caller drops those
 * results. count > first; batch_rows is a constant. */
KERNEL_INLINE void kernel_batch(const uint8_t **batch, size_t batch_rows, const uint8_t *rows,
                                size_t row_bytes, const uint32_t *ids, bool scattered, size_t first,
                                size_t count)
{
    if (count - first >= batch_rows) {
        KERNEL_UNROLL
        for (size_t j = 0; j < batch_rows; j++)
            batch[j] = rows + (scattered ? ids[first + j] : first + j) * row_bytes;
        return;
    }
    for (size_t j = 0; j < batch_rows; j++) {
        size_t i = first + j < count ? first + j : count - 1;
        batch[j] = rows + (scattered ? ids[i] : i) * row_bytes;
    }
}

/* Planes that reach dimension d. */
KERNEL_INLINE uint32_t kernel_planes_at(const struct kernel_codes *plan, uint32_t d)
{
    uint32_t planes = 0;
    while (planes < KERNEL_PLANES_MAX && plan->groups[planes] * 8 > d)
        planes++;
    return planes;
}

/* Does a trellis give a group with so many planes a bit more? */
KERNEL_INLINE bool kernel_has_bonus(uint32_t planes)
{
    return planes > 0 && planes < KERNEL_PLANES_MAX;
}

/* The bits that a trellis adds, a byte for each group up to a multiple of eight, 0 where it adds
 * none. */
KERNEL_INLINE void kernel_bonus(uint8_t bonus[KERNEL_TRELLIS_MAX], const struct kernel_codes *plan,
                                const uint8_t *code)
{
    enum { BACK = KERNEL_MEMORY };
    const struct kernel_trellis *trellis = plan->trellis;
    uint8_t
        last[BACK + KERNEL_TRELLIS_MAX + 8]; /* the last groups, turned, stand before the first */
    for (uint32_t g = 0; g < trellis->groups; g++)
        last[BACK + g] = code[trellis->last[g]];
    for (uint32_t i = 0; i < BACK; i++)
        last[i] = (uint8_t)(last[trellis->groups + i] << 1 | last[trellis->groups + i] >> 7);
    for (uint32_t g = 0; g < trellis->groups; g += 8)
        le_store64(bonus + g, (le_load64(last + BACK + g - 1) ^ le_load64(last + BACK + g - 3) ^
                               le_load64(last + BACK + g - 4)) &
                                  le_load64(trellis->added + g));
}

#endif
