/* The rows that a walk has met: open addressing over buckets of four, filled from the first place
 * on. One load shows whether a bucket holds a row or where it has room for it, without a branch:
 * half of the rows that a walk comes to are known and half are not, which no processor guesses
 * (a fifth of a walk's time, docs/adr/0042). Never grows: whoever walks stops before it is full. */
#ifndef SEARCH_VISITED_H
#define SEARCH_VISITED_H

#include <emmintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define VISITED_BUCKET 4

struct visited {
    uint32_t *entries; /* mask + 1 of them, aligned to a bucket: row + 1; 0 is empty */
    uint32_t mask;     /* a power of two, less one */
    uint32_t count;
};

static inline void visited_clear(struct visited *visited, uint32_t entries)
{
    visited->mask = entries - 1;
    visited->count = 0;
    memset(visited->entries, 0, entries * sizeof *visited->entries);
}

/* Fuller than this, one bucket after another is full. */
static inline bool visited_full(const struct visited *visited)
{
    return visited->count > visited->mask / 8 * 7;
}

/* True when the row was not there before. There must be an empty entry. */
static inline bool visited_add(struct visited *visited, uint32_t row)
{
    uint32_t at = (row * 0x9e3779b1u) >> 7 & visited->mask & ~(VISITED_BUCKET - 1u);
    const __m128i key = _mm_set1_epi32((int32_t)(row + 1)), zero = _mm_setzero_si128();
    for (;; at = (at + VISITED_BUCKET) & visited->mask) {
        uint32_t *bucket = visited->entries + at;
        __m128i entries = _mm_load_si128((const __m128i *)(const void *)bucket);
        int known = _mm_movemask_epi8(_mm_cmpeq_epi32(entries, key));
        int places = known | _mm_movemask_epi8(_mm_cmpeq_epi32(entries, zero));
        if (__builtin_expect(places == 0, 0))
            continue;
        bucket[__builtin_ctz((unsigned)places) / 4] = row + 1;
        visited->count += known == 0;
        return known == 0;
    }
}

#endif
