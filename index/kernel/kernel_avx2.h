/* Private to the AVX2 level: exact products of unsigned and signed bytes, and sums of registers.
 * Everything here is compiled only with that level's flags. */
#ifndef KERNEL_KERNEL_AVX2_H
#define KERNEL_KERNEL_AVX2_H

#include <immintrin.h>

#include "kernel_levels.h"

enum { STEP = 32 }; /* bytes of a register */

void nibble_sums_avx2(float *out, const int16_t *weights, const uint8_t *steps,
                      const uint8_t *blocks, const uint8_t *next, uint32_t dim, size_t count);
void sliced_sums_avx2(float *out, const uint8_t *tables, const uint8_t *blocks, uint32_t columns,
                      size_t count);
void codes_rows_avx2(float *out, const struct kernel_codes *plan, const struct kernel_query8 *query,
                     const uint8_t *codes, size_t count);
void codes_gather_avx2(float *out, const struct kernel_codes *plan,
                       const struct kernel_query8 *query, const uint8_t *codes, const uint32_t *ids,
                       size_t count);

/* 32 bytes as two registers of 16-bit numbers, those at even and those at odd places. */
struct bytes {
    __m256i even, odd; /* 0..255 */
};

struct weights {
    __m256i even, odd; /* -128..127 */
};

KERNEL_INLINE __m256i load256(const void *p)
{
    return _mm256_loadu_si256(p);
}

KERNEL_INLINE struct bytes split_bytes(__m256i x)
{
    return (struct bytes){_mm256_and_si256(x, _mm256_set1_epi16(255)), _mm256_srli_epi16(x, 8)};
}

KERNEL_INLINE struct weights split_weights(__m256i x)
{
    return (struct weights){_mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8), _mm256_srai_epi16(x, 8)};
}

/* sum + the 32 products, four in each 32-bit lane. */
KERNEL_INLINE __m256i add_products(__m256i sum, struct bytes x, struct weights w)
{
    return _mm256_add_epi32(
        sum, _mm256_add_epi32(_mm256_madd_epi16(x.even, w.even), _mm256_madd_epi16(x.odd, w.odd)));
}

/* The sums of four registers. */
KERNEL_INLINE __m128i sums4(const __m256i *sum)
{
    __m256i four =
        _mm256_hadd_epi32(_mm256_hadd_epi32(sum[0], sum[1]), _mm256_hadd_epi32(sum[2], sum[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
}

#endif
