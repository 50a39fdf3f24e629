/* Private to the AVX-512 level (F, BW, DQ, VL, VNNI, VBMI, GFNI): sums of registers, and what its
 * two files owe each other. Everything here is compiled only with those flags. */
#ifndef KERNEL_KERNEL_AVX512_H
#define KERNEL_KERNEL_AVX512_H

#include <immintrin.h>

#include "kernel_levels.h"

void codes_rows_avx512(float *out, const struct kernel_codes *plan,
                       const struct kernel_query8 *query, const uint8_t *codes, size_t count);
void codes_gather_avx512(float *out, const struct kernel_codes *plan,
                         const struct kernel_query8 *query, const uint8_t *codes,
                         const uint32_t *ids, size_t count);
void nibble_sums_avx512(float *out, const int16_t *weights, const uint8_t *steps,
                        const uint8_t *blocks, const uint8_t *next, uint32_t dim, size_t count);
void sliced_sums_avx512(float *out, const uint8_t *tables, const uint8_t *blocks, uint32_t columns,
                        size_t count);

/* a0 b0 a1 b1 in each 128-bit lane: half the sums of two registers in one. */
KERNEL_INLINE __m512i fold32(__m512i a, __m512i b)
{
    return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}

/* The same for pairs of them: of (a b a b) and (c d c d), a b c d. */
KERNEL_INLINE __m512i fold64(__m512i ab, __m512i cd)
{
    return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

/* Four registers to one whose lanes, added up, are their four sums. */
KERNEL_INLINE __m512i fold4(const __m512i *sum)
{
    return fold64(fold32(sum[0], sum[1]), fold32(sum[2], sum[3]));
}

/* The sums of four registers. */
KERNEL_INLINE __m128i sums4(const __m512i *sum)
{
    __m512i lanes = fold4(sum);
    __m256i half =
        _mm256_add_epi32(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64(lanes, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* The sums of two groups of four registers. */
KERNEL_INLINE __m256i sums4x2(const __m512i *first, const __m512i *second)
{
    __m512i a = fold4(first), b = fold4(second);
    /* a0+a1 a2+a3 b0+b1 b2+b3, then both halves of each */
    __m512i pairs =
        _mm512_add_epi32(_mm512_shuffle_i64x2(a, b, 0x88), _mm512_shuffle_i64x2(a, b, 0xdd));
    __m256i low = _mm512_castsi512_si256(pairs), high = _mm512_extracti64x4_epi64(pairs, 1);
    return _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20),
                            _mm256_permute2x128_si256(low, high, 0x31));
}

/* A mask of the first n lanes, n in 0..64. */
KERNEL_INLINE __mmask64 first_lanes(size_t n)
{
    return _bzhi_u64(~0ull, (unsigned)n);
}

#endif
