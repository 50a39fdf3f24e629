/* The best rows that a walk has found, in the order of their estimates. Estimates lie by
 * themselves, so that the place of a new one is found by comparing it with all of them, four at a
 * time: for lists of up to some hundred rows that is faster than a binary search, half of whose
 * branches are guessed wrong (docs/adr/0042). */
#ifndef SEARCH_POOL_H
#define SEARCH_POOL_H

#include <emmintrin.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define POOL_LANES 4

struct pool_row {
    uint32_t row;
    bool expanded;
};

struct pool {
    float *estimates; /* rising; INFINITY from count on, up to pool_room(limit) */
    struct pool_row *rows;
    uint32_t count, limit;
    uint32_t cursor; /* the first that may be unexpanded */
};

/* Estimates to make room for. */
static inline uint64_t pool_room(uint32_t limit)
{
    return ((uint64_t)limit + POOL_LANES - 1) / POOL_LANES * POOL_LANES;
}

static inline void pool_clear(struct pool *pool, uint32_t limit)
{
    pool->count = pool->cursor = 0;
    pool->limit = limit;
    for (uint64_t i = 0; i < pool_room(limit); i++)
        pool->estimates[i] = INFINITY;
}

/* How many are not beyond the estimate. */
static inline uint32_t pool_rank(const struct pool *pool, float estimate)
{
    const __m128 key = _mm_set1_ps(estimate);
    __m128i sum = _mm_setzero_si128();
    for (uint32_t i = 0; i < pool->count; i += POOL_LANES)
        sum = _mm_sub_epi32(sum,
                            _mm_castps_si128(_mm_cmple_ps(_mm_load_ps(pool->estimates + i), key)));
    sum = _mm_add_epi32(sum, _mm_srli_si128(sum, 8));
    uint32_t rank = (uint32_t)_mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_srli_si128(sum, 4)));
    return rank < pool->count ? rank : pool->count;
}

/* Inserts behind those of the same estimate; a full pool drops its last. */
static inline void pool_insert(struct pool *pool, float estimate, uint32_t row)
{
    bool full = pool->count == pool->limit;
    if (full && estimate >= pool->estimates[pool->limit - 1])
        return;
    uint32_t at = pool_rank(pool, estimate);
    uint32_t moved = pool->count - full - at;
    memmove(pool->estimates + at + 1, pool->estimates + at, moved * sizeof *pool->estimates);
    memmove(pool->rows + at + 1, pool->rows + at, moved * sizeof *pool->rows);
    pool->estimates[at] = estimate;
    pool->rows[at] = (struct pool_row){.row = row};
    pool->cursor = at < pool->cursor ? at : pool->cursor;
    pool->count += !full;
}

#endif
