/* AVX-512: rows of bytes and floats (codes are in kernel_avx512_codes.c).
 *
 * vpdpbusd multiplies 64 unsigned by 64 signed bytes and adds them up in fours, which is all that a
 * row needs. What is left to win is around it: rows are scored four at a time, so that the query is
 * loaded once for them and one tree of shuffles adds up all their sums, and gathers ask the memory
 * for rows well before they reach them. Tails are masked loads, which never touch a byte behind the
 * row. */
#include "kernel_avx512.h"

#include <assert.h>

#include "kernel_encode.h"
#include "mem.h"

enum { BATCH = 4, PANEL_BATCH = 8 };

/* blocks is a constant where the caller is a switch over the common sizes; then the query stays in
 * registers. */
KERNEL_INLINE void dot_gather(int32_t *out, const int8_t *query, const uint8_t *rows,
                              size_t row_bytes, const uint32_t *ids, size_t count, size_t blocks)
{
    size_t ahead = kernel_ahead(row_bytes);
    kernel_prefetch(rows, row_bytes, row_bytes, ids, 0, ahead, count);
    for (size_t i = 0; i < count; i += BATCH) {
        kernel_prefetch(rows, row_bytes, row_bytes, ids, i + ahead, i + ahead + BATCH, count);
        const uint8_t *row[BATCH];
        kernel_batch(row, BATCH, rows, row_bytes, ids, true, i, count);
        __m512i sum[BATCH] = {0};
        for (size_t b = 0; b < blocks; b++) {
            __m512i weights = _mm512_loadu_si512(query + b * KERNEL_BLOCK);
            KERNEL_UNROLL
            for (int j = 0; j < BATCH; j++)
                sum[j] = _mm512_dpbusd_epi32(sum[j], _mm512_loadu_si512(row[j] + b * KERNEL_BLOCK),
                                             weights);
        }
        __m128i sums = sums4(sum);
        if (count - i >= BATCH)
            _mm_storeu_si128((__m128i *)(void *)(out + i), sums);
        else
            _mm_mask_storeu_epi32(out + i, (__mmask8)first_lanes(count - i), sums);
    }
}

static void dot_u8s8_gather_avx512(int32_t *out, const int8_t *query, const uint8_t *rows,
                                   size_t row_bytes, const uint32_t *ids, size_t count)
{
    size_t blocks = row_bytes / KERNEL_BLOCK;
    if (blocks == 1)
        dot_gather(out, query, rows, row_bytes, ids, count, 1);
    else if (blocks == 2)
        dot_gather(out, query, rows, row_bytes, ids, count, 2);
    else
        dot_gather(out, query, rows, row_bytes, ids, count, blocks);
}

/* Four bytes of a row meet four of every query: the sums of a row are the lanes of one register,
 * and need no adding up at the end. */
static void dot_u8s8_panel_avx512(int32_t *out, const int8_t *panel, const uint8_t *rows,
                                  size_t row_bytes, const uint32_t *ids, size_t count)
{
    size_t ahead = kernel_ahead(row_bytes);
    kernel_prefetch(rows, row_bytes, row_bytes, ids, 0, ahead, count);
    for (size_t i = 0; i < count; i += PANEL_BATCH) {
        kernel_prefetch(rows, row_bytes, row_bytes, ids, i + ahead, i + ahead + PANEL_BATCH, count);
        const uint8_t *row[PANEL_BATCH];
        kernel_batch(row, PANEL_BATCH, rows, row_bytes, ids, true, i, count);
        __m512i sum[PANEL_BATCH] = {0};
        for (size_t d = 0; d < row_bytes; d += 4) {
            __m512i queries = _mm512_loadu_si512(panel + d * KERNEL_PANEL);
            KERNEL_UNROLL
            for (int j = 0; j < PANEL_BATCH; j++) {
                int32_t four;
                memcpy(&four, row[j] + d, sizeof four);
                sum[j] = _mm512_dpbusd_epi32(sum[j], _mm512_set1_epi32(four), queries);
            }
        }
        KERNEL_UNROLL
        for (size_t j = 0; j < PANEL_BATCH; j++)
            if (i + j < count)
                _mm512_storeu_si512(out + (i + j) * KERNEL_PANEL, sum[j]);
    }
}

static void panel_near_avx512(int32_t *sums, uint16_t *near, const int32_t *norms,
                              const int32_t *biases, const int32_t *limits, size_t count)
{
    const __m512i bias = _mm512_loadu_si512(biases), limit = _mm512_loadu_si512(limits);
    for (size_t i = 0; i < count; i++, sums += KERNEL_PANEL) {
        __m512i sum = _mm512_loadu_si512(sums);
        __m512i distance = _mm512_sub_epi32(_mm512_add_epi32(bias, _mm512_set1_epi32(norms[i])),
                                            _mm512_add_epi32(sum, sum));
        _mm512_storeu_si512(sums, distance);
        near[i] = _mm512_cmple_epi32_mask(distance, limit);
    }
}

struct score8_sums {
    __m512i hi[BATCH], lo[BATCH], norm[BATCH];
};

/* The norm without leaving 8 bits: with s = x - 128 as a signed byte (x with its top bit flipped),
 * (x - 128)^2 = x * s - 128 * s = x * s - 128 * x + 16384, two more products and a constant for the
 * whole row. Bytes that a mask turned to zero add nothing. */
KERNEL_INLINE void score8_step(struct score8_sums *sums, int j, __m512i x, __m512i hi, __m512i lo)
{
    const __m512i flip = _mm512_set1_epi8(-128); /* both the top bit and the factor */
    sums->hi[j] = _mm512_dpbusd_epi32(sums->hi[j], x, hi);
    sums->lo[j] = _mm512_dpbusd_epi32(sums->lo[j], x, lo);
    sums->norm[j] = _mm512_dpbusd_epi32(sums->norm[j], x, _mm512_xor_si512(x, flip));
    sums->norm[j] = _mm512_dpbusd_epi32(sums->norm[j], x, flip);
}

/* Adds up 12 registers and stores them as rows {hi, lo, norm}, the first `rows` of them. */
KERNEL_INLINE void score8_store(struct kernel_score8 *out, const struct score8_sums *sums,
                                uint32_t dim, size_t rows)
{
    const __m512i place = _mm512_setr_epi32(0, 1, 16, 2, 3, 17, 8, 9, 18, 10, 11, 19, 0, 0, 0, 0);
    __m512i a = fold64(fold32(sums->hi[0], sums->lo[0]), fold32(sums->hi[1], sums->lo[1]));
    __m512i b = fold64(fold32(sums->hi[2], sums->lo[2]), fold32(sums->hi[3], sums->lo[3]));
    __m512i weighted =
        _mm512_add_epi32(_mm512_shuffle_i64x2(a, b, 0x88), _mm512_shuffle_i64x2(a, b, 0xdd));
    weighted = _mm512_add_epi32(weighted, _mm512_shuffle_i64x2(weighted, weighted, 0xb1));
    __m128i norm = _mm_add_epi32(sums4(sums->norm), _mm_set1_epi32((int)(16384 * dim)));
    __m512i all = _mm512_permutex2var_epi32(weighted, place, _mm512_castsi128_si512(norm));
    if (rows >= BATCH) {
        _mm256_storeu_si256((__m256i *)(void *)out, _mm512_castsi512_si256(all));
        _mm_storeu_si128((__m128i *)(void *)((char *)out + 32), _mm512_extracti32x4_epi32(all, 2));
    } else {
        _mm512_mask_storeu_epi32(out, (__mmask16)first_lanes(3 * rows), all);
    }
}

/* The bytes of a row behind its whole blocks, as the end of the last 64 bytes of the row: a load
 * that began with them would run into a cache line that nobody asked for, masked or not. A shorter
 * row has only one beginning. */
struct score8_tail {
    size_t at;
    __mmask64 bytes;
};

KERNEL_INLINE struct score8_tail score8_tail_of(size_t dim, size_t last)
{
    if (dim < KERNEL_BLOCK)
        return (struct score8_tail){.at = 0, .bytes = first_lanes(dim)};
    return (struct score8_tail){.at = dim - KERNEL_BLOCK, .bytes = ~0ull << (64 - (dim - last))};
}

KERNEL_INLINE void score8(struct kernel_score8 *out, const struct kernel_query8 *query,
                          const uint8_t *rows, size_t row_bytes, const uint32_t *ids,
                          bool scattered, size_t count, size_t blocks)
{
    size_t ahead = kernel_ahead(row_bytes), last = (blocks - 1) * KERNEL_BLOCK;
    struct score8_tail tail = score8_tail_of(query->dim, last);
    __m512i tail_hi = _mm512_loadu_si512(query->hi + tail.at);
    __m512i tail_lo = _mm512_loadu_si512(query->lo + tail.at);
    if (scattered)
        kernel_prefetch(rows, row_bytes, query->dim, ids, 0, ahead, count);
    for (size_t i = 0; i < count; i += BATCH) {
        if (scattered)
            kernel_prefetch(rows, row_bytes, query->dim, ids, i + ahead, i + ahead + BATCH, count);
        const uint8_t *row[BATCH];
        kernel_batch(row, BATCH, rows, row_bytes, ids, scattered, i, count);
        struct score8_sums sums = {0};
        for (size_t at = 0; at < last; at += KERNEL_BLOCK) {
            __m512i hi = _mm512_loadu_si512(query->hi + at);
            __m512i lo = _mm512_loadu_si512(query->lo + at);
            KERNEL_UNROLL
            for (int j = 0; j < BATCH; j++)
                score8_step(&sums, j, _mm512_loadu_si512(row[j] + at), hi, lo);
        }
        KERNEL_UNROLL
        for (int j = 0; j < BATCH; j++)
            score8_step(&sums, j, _mm512_maskz_loadu_epi8(tail.bytes, row[j] + tail.at), tail_hi,
                        tail_lo);
        score8_store(out + i, &sums, query->dim, count - i);
    }
}

KERNEL_INLINE void score8_sized(struct kernel_score8 *out, const struct kernel_query8 *query,
                                const uint8_t *rows, size_t row_bytes, const uint32_t *ids,
                                bool scattered, size_t count)
{
    size_t blocks = (query->dim + KERNEL_BLOCK - 1) / KERNEL_BLOCK;
    if (blocks == 1)
        score8(out, query, rows, row_bytes, ids, scattered, count, 1);
    else if (blocks == 2)
        score8(out, query, rows, row_bytes, ids, scattered, count, 2);
    else if (blocks > 2)
        score8(out, query, rows, row_bytes, ids, scattered, count, blocks);
}

static void score8_rows_avx512(struct kernel_score8 *out, const struct kernel_query8 *query,
                               const uint8_t *rows, size_t row_bytes, size_t count)
{
    score8_sized(out, query, rows, row_bytes, NULL, false, count);
}

static void score8_gather_avx512(struct kernel_score8 *out, const struct kernel_query8 *query,
                                 const uint8_t *rows, size_t row_bytes, const uint32_t *ids,
                                 size_t count)
{
    score8_sized(out, query, rows, row_bytes, ids, true, count);
}

/* Compressed in a register and stored whole, into the room behind: a compressing store is
 * microcode on some processors. */
static size_t below_f32_avx512(uint32_t *out, const float *values, size_t count, float limit)
{
    __m512 limits = _mm512_set1_ps(limit);
    __m512i place = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    size_t found = 0;
    for (size_t i = 0; i < count; i += 16) {
        __mmask16 lanes = (__mmask16)first_lanes(count - i < 16 ? count - i : 16);
        __m512 value = _mm512_maskz_loadu_ps(lanes, values + i);
        __mmask16 below = _mm512_mask_cmp_ps_mask(lanes, value, limits, _CMP_LT_OQ);
        if (!below)
            continue;
        __m512i at = _mm512_add_epi32(place, _mm512_set1_epi32((int)i));
        _mm512_storeu_si512(out + found, _mm512_maskz_compress_epi32(below, at));
        found += (size_t)__builtin_popcount(below);
    }
    return found;
}

static float l2sq_f32_avx512(const float *a, const float *b, size_t dim)
{
    __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                     _mm512_setzero_ps()};
    size_t d = 0;
    for (; d + 64 <= dim; d += 64) {
        KERNEL_UNROLL
        for (int k = 0; k < 4; k++) {
            __m512 gap =
                _mm512_sub_ps(_mm512_loadu_ps(a + d + 16 * k), _mm512_loadu_ps(b + d + 16 * k));
            sum[k] = _mm512_fmadd_ps(gap, gap, sum[k]);
        }
    }
    for (; d < dim; d += 16) {
        __mmask16 lanes = (__mmask16)first_lanes(dim - d < 16 ? dim - d : 16);
        __m512 gap =
            _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, a + d), _mm512_maskz_loadu_ps(lanes, b + d));
        sum[0] = _mm512_fmadd_ps(gap, gap, sum[0]);
    }
    return _mm512_reduce_add_ps(
        _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}

static float dot_f32_avx512(const float *a, const float *b, size_t dim)
{
    __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                     _mm512_setzero_ps()};
    size_t d = 0;
    for (; d + 64 <= dim; d += 64) {
        KERNEL_UNROLL
        for (int k = 0; k < 4; k++)
            sum[k] = _mm512_fmadd_ps(_mm512_loadu_ps(a + d + 16 * k),
                                     _mm512_loadu_ps(b + d + 16 * k), sum[k]);
    }
    for (; d < dim; d += 16) {
        __mmask16 lanes = (__mmask16)first_lanes(dim - d < 16 ? dim - d : 16);
        sum[0] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(lanes, a + d),
                                 _mm512_maskz_loadu_ps(lanes, b + d), sum[0]);
    }
    return _mm512_reduce_add_ps(
        _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}

/* A vector as integers of 22 bits and a sign in three signed bytes, value = high * 2^16 + middle *
 * 2^8 + low, so that vpdpbusd can take them. Zeros behind it up to a whole block. */
struct digits {
    int8_t high[KERNEL_DIM_MAX], middle[KERNEL_DIM_MAX], low[KERNEL_DIM_MAX];
    int64_t sum; /* of the integers */
};

_Static_assert(KERNEL_DIM_MAX % KERNEL_BLOCK == 0, "digits are padded to a block");

KERNEL_INLINE __m512 load_floats(const float *x, size_t at, size_t count)
{
    size_t left = at < count ? count - at : 0;
    return _mm512_maskz_loadu_ps((__mmask16)first_lanes(left < 16 ? left : 16), x + at);
}

/* Adding 128 to each digit makes the digits of a sum plain bytes; flipping their top bits takes it
 * back. */
static bool split_digits(struct digits *digits, struct kernel_fixed *fixed, const float *x,
                         size_t count)
{
    const __m512i offset = _mm512_set1_epi32(0x808080), flip = _mm512_set1_epi32(0x808080);
    __m512i largest = _mm512_setzero_si512(), sum = _mm512_setzero_si512();
    for (size_t c = 0; c < count; c += 16) {
        __m512i bits = _mm512_castps_si512(load_floats(x, c, count));
        largest = _mm512_max_epu32(largest, _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)));
    }
    if (!kernel_fix(_mm512_reduce_max_epu32(largest), fixed))
        return false;
    for (size_t c = 0; c < size_round_up(count, KERNEL_BLOCK); c += 16) {
        __m512 scaled = _mm512_mul_ps(load_floats(x, c, count), _mm512_set1_ps(fixed->inverse));
        __m512i whole = _mm512_cvtps_epi32(scaled);
        sum = _mm512_add_epi64(sum, _mm512_cvtepi32_epi64(_mm512_castsi512_si256(whole)));
        sum = _mm512_add_epi64(sum, _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(whole, 1)));
        __m512i bytes = _mm512_xor_si512(_mm512_add_epi32(whole, offset), flip);
        _mm_storeu_si128((__m128i *)(void *)(digits->low + c), _mm512_cvtepi32_epi8(bytes));
        _mm_storeu_si128((__m128i *)(void *)(digits->middle + c),
                         _mm512_cvtepi32_epi8(_mm512_srli_epi32(bytes, 8)));
        _mm_storeu_si128((__m128i *)(void *)(digits->high + c),
                         _mm512_cvtepi32_epi8(_mm512_srli_epi32(bytes, 16)));
    }
    digits->sum = _mm512_reduce_add_epi64(sum);
    return true;
}

struct matvec_sums {
    __m512i high[BATCH], middle[BATCH], low[BATCH];
};

/* One block of four rows; vpdpbusd wants the matrix unsigned, so it gets 128 more, which the end
 * takes off again. */
KERNEL_INLINE void matvec_step(struct matvec_sums *sums, const int8_t *const *row,
                               const struct digits *digits, size_t at, __mmask64 lanes)
{
    __m512i high = _mm512_loadu_si512(digits->high + at);
    __m512i middle = _mm512_loadu_si512(digits->middle + at);
    __m512i low = _mm512_loadu_si512(digits->low + at);
    KERNEL_UNROLL
    for (int j = 0; j < BATCH; j++) {
        __m512i bytes = lanes == ~0ull ? _mm512_loadu_si512(row[j] + at)
                                       : _mm512_maskz_loadu_epi8(lanes, row[j] + at);
        bytes = _mm512_xor_si512(bytes, _mm512_set1_epi8(-128));
        sums->high[j] = _mm512_dpbusd_epi32(sums->high[j], bytes, high);
        sums->middle[j] = _mm512_dpbusd_epi32(sums->middle[j], bytes, middle);
        sums->low[j] = _mm512_dpbusd_epi32(sums->low[j], bytes, low);
    }
}

/* scale * (float)(sum * quantum), as kernel_unfix does it. */
KERNEL_INLINE __m128 matvec_join(const struct matvec_sums *sums, const struct digits *digits,
                                 const struct kernel_fixed *fixed, __m128 scale)
{
    __m256i total = _mm256_slli_epi64(_mm256_cvtepi32_epi64(sums4(sums->high)), 8);
    total = _mm256_add_epi64(total, _mm256_cvtepi32_epi64(sums4(sums->middle)));
    total = _mm256_slli_epi64(total, 8);
    total = _mm256_add_epi64(total, _mm256_cvtepi32_epi64(sums4(sums->low)));
    total = _mm256_sub_epi64(total, _mm256_set1_epi64x(128 * digits->sum));
    __m256d value = _mm256_mul_pd(_mm256_cvtepi64_pd(total), _mm256_set1_pd(fixed->quantum));
    return _mm_mul_ps(scale, _mm256_cvtpd_ps(value));
}

/* Integers rather than floats: three products for 64 bytes of matrix, where floats take four
 * expansions, four conversions and four products, and no rounding depends on the order of the
 * additions. */
static void matvec_i8_avx512(float *out, const int8_t *matrix, const float *scale, const float *x,
                             size_t rows, size_t columns)
{
    struct digits digits;
    struct kernel_fixed fixed;
    assert(columns <= KERNEL_DIM_MAX);
    if (!split_digits(&digits, &fixed, x, columns)) {
        kernel_matvec_nan(out, rows);
        return;
    }
    size_t whole = columns / KERNEL_BLOCK * KERNEL_BLOCK;
    for (size_t r = 0; r < rows; r += BATCH) {
        const int8_t *row[BATCH];
        for (size_t j = 0; j < BATCH; j++)
            row[j] = matrix + (r + j < rows ? r + j : rows - 1) * columns;
        struct matvec_sums sums = {0};
        for (size_t c = 0; c < whole; c += KERNEL_BLOCK)
            matvec_step(&sums, row, &digits, c, ~0ull);
        if (whole < columns)
            matvec_step(&sums, row, &digits, whole, first_lanes(columns - whole));
        __mmask8 lanes = (__mmask8)first_lanes(rows - r < BATCH ? rows - r : BATCH);
        __m128 scales = _mm_maskz_loadu_ps(lanes, scale + r);
        _mm_mask_storeu_ps(out + r, lanes, matvec_join(&sums, &digits, &fixed, scales));
    }
}

/* Conversions of half floats stay with AVX2, whose registers are as wide as the memory is fast. */
void kernels_fill_avx512(struct kernels *table)
{
    table->name = "avx512";
    table->level = KERNEL_AVX512;
    table->dot_u8s8_gather = dot_u8s8_gather_avx512;
    table->dot_u8s8_panel = dot_u8s8_panel_avx512;
    table->panel_near = panel_near_avx512;
    table->score8_rows = score8_rows_avx512;
    table->score8_gather = score8_gather_avx512;
    table->sliced_sums = sliced_sums_avx512;
    table->nibble_sums = nibble_sums_avx512;
    table->codes_rows = codes_rows_avx512;
    table->codes_gather = codes_gather_avx512;
    table->quantise6 = quantise6_avx512;
    table->unit_sums = unit_sums_avx512;
    table->trellis_encode = trellis_encode_avx512;
    table->decoded_sums = decoded_sums_avx512;
    table->decoded_products = decoded_products_avx512;
    table->below_f32 = below_f32_avx512;
    table->l2sq_f32 = l2sq_f32_avx512;
    table->dot_f32 = dot_f32_avx512;
    table->matvec_i8 = matvec_i8_avx512;
}
