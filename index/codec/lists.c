/* Neighbour lists in bytes (see lists.h). Decoding is on the query path: SSE shuffles, and every
 * length is checked first. */
#include "lists.h"

#include <smmintrin.h>
#include <stdlib.h>

#include "le.h"

/* ---- the StreamVByte shuffle: for each control byte, where each of 16 output bytes comes from
 * ---- */

#define LENGTH(c, i) ((((c) >> (2 * (i))) & 3) + 1)
#define START(c, i)                                                                                \
    (((i) > 0 ? LENGTH(c, 0) : 0) + ((i) > 1 ? LENGTH(c, 1) : 0) + ((i) > 2 ? LENGTH(c, 2) : 0))
#define BYTE(c, i, j) ((j) < LENGTH(c, i) ? START(c, i) + (j) : 0xff)
#define LANE(c, i)    BYTE(c, i, 0), BYTE(c, i, 1), BYTE(c, i, 2), BYTE(c, i, 3)
#define ROW(c)                                                                                     \
    {                                                                                              \
        LANE(c, 0), LANE(c, 1), LANE(c, 2), LANE(c, 3)                                             \
    }
#define ROWS4(c)  ROW(c), ROW((c) + 1), ROW((c) + 2), ROW((c) + 3)
#define ROWS16(c) ROWS4(c), ROWS4((c) + 4), ROWS4((c) + 8), ROWS4((c) + 12)
#define ROWS64(c) ROWS16(c), ROWS16((c) + 16), ROWS16((c) + 32), ROWS16((c) + 48)

static const uint8_t shuffles[256][16] = {ROWS64(0), ROWS64(64), ROWS64(128), ROWS64(192)};

/* Data bytes of four values: the lengths are two bits each, plus one each. */
static inline unsigned control_bytes(uint8_t control)
{
    unsigned pairs = (control & 0x33u) + ((control >> 2) & 0x33u);
    return 4 + (pairs & 15) + (pairs >> 4);
}

/* ---- encoding ---- */

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t zigzag(uint32_t difference)
{
    return (difference << 1) ^ (uint32_t)((int32_t)difference >> 31);
}

static uint32_t unzigzag(uint32_t value)
{
    return (value >> 1) ^ -(value & 1);
}

size_t list_encode(uint32_t node, uint32_t *neighbours, uint32_t degree, uint8_t *out)
{
    qsort(neighbours, degree, sizeof *neighbours, compare_u32);
    uint8_t *control = out + 1, *data = control + (degree + 3) / 4;
    out[0] = (uint8_t)degree;
    for (uint32_t i = 0; i < degree; i++) {
        uint32_t value = i ? neighbours[i] - neighbours[i - 1] - 1 : zigzag(neighbours[0] - node);
        unsigned bytes = value < 1u << 8 ? 1 : value < 1u << 16 ? 2 : value < 1u << 24 ? 3 : 4;
        if (i % 4 == 0)
            control[i / 4] = 0;
        control[i / 4] |= (uint8_t)((bytes - 1) << (2 * (i % 4)));
        for (unsigned b = 0; b < bytes; b++)
            *data++ = (uint8_t)(value >> (8 * b));
    }
    /* The unused lengths of the last control byte stay "one byte": pad, so that decoding four at a
     * time is exact. */
    for (uint32_t i = degree; i % 4; i++)
        *data++ = 0;
    return (size_t)(data - out);
}

/* ---- decoding ---- */

int list_decode(uint32_t node, const uint8_t *in, size_t bytes, uint32_t rows, uint32_t degree_max,
                uint32_t *out)
{
    if (bytes == 0 || in[0] > degree_max)
        return FATHOM_ECORRUPT;
    uint32_t degree = in[0], quads = (degree + 3) / 4;
    const uint8_t *control = in + 1, *data = control + quads, *end = in + bytes;
    if (data > end)
        return FATHOM_ECORRUPT;
    __m128i carry = _mm_set1_epi32(0), largest = _mm_setzero_si128(), one = _mm_set1_epi32(1);
    for (uint32_t q = 0; q < quads; q++) {
        if (data >= end)
            return FATHOM_ECORRUPT;
        /* At most 16 bytes from data < end: inside the slack behind the array. */
        __m128i values = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)data),
                                          _mm_loadu_si128((const __m128i *)shuffles[control[q]]));
        data += control_bytes(control[q]);
        values = _mm_add_epi32(values, one);
        if (q == 0) {
            uint32_t first = node + unzigzag((uint32_t)_mm_cvtsi128_si32(values) - 1);
            values = _mm_insert_epi32(values, (int)first, 0);
        }
        values = _mm_add_epi32(values, _mm_slli_si128(values, 4));
        values = _mm_add_epi32(values, _mm_slli_si128(values, 8));
        values = _mm_add_epi32(values, carry);
        carry = _mm_shuffle_epi32(values, 0xff);
        _mm_storeu_si128((__m128i *)(out + 4 * q), values);
        if (q + 1 < quads || degree % 4 == 0)
            largest = _mm_max_epu32(largest, values);
    }
    for (uint32_t i = degree / 4 * 4; i < degree; i++)
        largest = _mm_max_epu32(largest, _mm_cvtsi32_si128((int)out[i]));
    largest = _mm_max_epu32(largest, _mm_shuffle_epi32(largest, 0x4e));
    largest = _mm_max_epu32(largest, _mm_shuffle_epi32(largest, 0xb1));
    if (data != end || (degree && (uint32_t)_mm_cvtsi128_si32(largest) >= rows))
        return FATHOM_ECORRUPT;
    return (int)degree;
}

/* ---- pages of lists ---- */

uint32_t list_page_fit(const uint16_t *lengths, uint64_t left, uint32_t length_bytes,
                       uint32_t page_bytes)
{
    uint32_t count = 0;
    for (uint64_t bytes = 0; count < left; count++) {
        bytes += length_bytes + lengths[count];
        if (bytes > page_bytes)
            break;
    }
    return count;
}

uint8_t *list_page_begin(uint8_t *page, const uint16_t *lengths, uint32_t count,
                         uint32_t length_bytes)
{
    for (uint32_t i = 0; i < count; i++) {
        if (length_bytes == 1)
            page[i] = (uint8_t)lengths[i];
        else
            le_store16(page + 2 * (size_t)i, lengths[i]);
    }
    return page + (size_t)count * length_bytes;
}

const uint8_t *list_page_find(const uint8_t *page, uint32_t page_bytes, uint32_t count,
                              uint32_t length_bytes, uint32_t slot, size_t *bytes)
{
    uint64_t at = (uint64_t)count * length_bytes;
    if (at > page_bytes)
        return NULL;
    for (uint32_t i = 0; i < slot; i++)
        at += length_bytes == 1 ? page[i] : le_load16(page + 2 * (size_t)i);
    *bytes = length_bytes == 1 ? page[slot] : le_load16(page + 2 * (size_t)slot);
    return *bytes && at + *bytes <= page_bytes ? page + at : NULL;
}
