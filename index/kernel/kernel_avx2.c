/* AVX2 (with FMA and F16C): rows of bytes and floats; codes are in kernel_avx2_codes.c.
 *
 * The 8-bit product of this level, vpmaddubsw, saturates at 16 bits, and we promise exact sums. So
 * unsigned bytes are split into even and odd ones as 16-bit numbers, the signed weights likewise,
 * and vpmaddwd adds their products in 32 bits. Tails of rows are loaded so that they end with the
 * row, the bytes that were already used masked away. */
#include "kernel_avx2.h"

#include <assert.h>
#include <string.h>

#include "kernel_encode.h"
#include "mem.h"

enum { BATCH = 4, SCORE_BATCH = 2 };

KERNEL_INLINE void dot_gather(int32_t *sums, const int8_t *query, const uint8_t *const *row,
                              size_t row_bytes)
{
    __m256i sum[BATCH] = {0};
    for (size_t at = 0; at < row_bytes; at += STEP) {
        struct weights weights = split_weights(load256(query + at));
        KERNEL_UNROLL
        for (int j = 0; j < BATCH; j++)
            sum[j] = add_products(sum[j], split_bytes(load256(row[j] + at)), weights);
    }
    _mm_storeu_si128((__m128i *)(void *)sums, sums4(sum));
}

static void dot_u8s8_gather_avx2(int32_t *out, const int8_t *query, const uint8_t *rows,
                                 size_t row_bytes, const uint32_t *ids, size_t count)
{
    size_t ahead = kernel_ahead(row_bytes);
    kernel_prefetch(rows, row_bytes, row_bytes, ids, 0, ahead, count);
    for (size_t i = 0; i < count; i += BATCH) {
        kernel_prefetch(rows, row_bytes, row_bytes, ids, i + ahead, i + ahead + BATCH, count);
        const uint8_t *row[BATCH];
        int32_t sums[BATCH];
        kernel_batch(row, BATCH, rows, row_bytes, ids, true, i, count);
        dot_gather(sums, query, row, row_bytes);
        for (size_t j = 0; j < BATCH && i + j < count; j++)
            out[i + j] = sums[j];
    }
}

/* Four bytes of a row meet four of every query: the sums of a row are the lanes of two registers,
 * and need no adding up at the end. */
KERNEL_INLINE void panel_rows(int32_t *out, const int8_t *panel, const uint8_t *const *row,
                              size_t row_bytes)
{
    __m256i sum[BATCH][2] = {0};
    for (size_t d = 0; d < row_bytes; d += 4) {
        struct weights left = split_weights(load256(panel + d * KERNEL_PANEL));
        struct weights right = split_weights(load256(panel + d * KERNEL_PANEL + STEP));
        KERNEL_UNROLL
        for (int j = 0; j < BATCH; j++) {
            int32_t four;
            memcpy(&four, row[j] + d, sizeof four);
            struct bytes bytes = split_bytes(_mm256_set1_epi32(four));
            sum[j][0] = add_products(sum[j][0], bytes, left);
            sum[j][1] = add_products(sum[j][1], bytes, right);
        }
    }
    KERNEL_UNROLL
    for (int j = 0; j < BATCH; j++) {
        __m256i *to = (__m256i *)(void *)(out + (size_t)j * KERNEL_PANEL);
        _mm256_storeu_si256(to, sum[j][0]);
        _mm256_storeu_si256(to + 1, sum[j][1]);
    }
}

static void dot_u8s8_panel_avx2(int32_t *out, const int8_t *panel, const uint8_t *rows,
                                size_t row_bytes, const uint32_t *ids, size_t count)
{
    size_t ahead = kernel_ahead(row_bytes);
    kernel_prefetch(rows, row_bytes, row_bytes, ids, 0, ahead, count);
    for (size_t i = 0; i < count; i += BATCH, out += BATCH * KERNEL_PANEL) {
        kernel_prefetch(rows, row_bytes, row_bytes, ids, i + ahead, i + ahead + BATCH, count);
        const uint8_t *row[BATCH];
        kernel_batch(row, BATCH, rows, row_bytes, ids, true, i, count);
        if (count - i >= BATCH) {
            panel_rows(out, panel, row, row_bytes);
        } else {
            int32_t sums[BATCH * KERNEL_PANEL];
            panel_rows(sums, panel, row, row_bytes);
            memcpy(out, sums, (count - i) * KERNEL_PANEL * sizeof *out);
        }
    }
}

/* Bit j of the result: distance j is not above limit j. */
KERNEL_INLINE unsigned near_half(int32_t *sums, __m256i norm, const int32_t *biases,
                                 const int32_t *limits)
{
    __m256i sum = load256(sums);
    __m256i distance =
        _mm256_sub_epi32(_mm256_add_epi32(norm, load256(biases)), _mm256_add_epi32(sum, sum));
    __m256i above = _mm256_cmpgt_epi32(distance, load256(limits));
    _mm256_storeu_si256((__m256i *)(void *)sums, distance);
    return ~(unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(above)) & 0xff;
}

static void panel_near_avx2(int32_t *sums, uint16_t *near, const int32_t *norms,
                            const int32_t *biases, const int32_t *limits, size_t count)
{
    const size_t half = KERNEL_PANEL / 2;
    for (size_t i = 0; i < count; i++, sums += KERNEL_PANEL) {
        __m256i norm = _mm256_set1_epi32(norms[i]);
        unsigned low = near_half(sums, norm, biases, limits);
        near[i] = (uint16_t)(low | near_half(sums + half, norm, biases + half, limits + half) << 8);
    }
}

struct score8_sums {
    __m256i hi, lo, norm;
};

KERNEL_INLINE void score8_step(struct score8_sums *sums, __m256i x, struct weights hi,
                               struct weights lo)
{
    const __m256i middle = _mm256_set1_epi16(128);
    struct bytes bytes = split_bytes(x);
    sums->hi = add_products(sums->hi, bytes, hi);
    sums->lo = add_products(sums->lo, bytes, lo);
    struct weights centred = {_mm256_sub_epi16(bytes.even, middle),
                              _mm256_sub_epi16(bytes.odd, middle)};
    sums->norm =
        _mm256_add_epi32(sums->norm, _mm256_add_epi32(_mm256_madd_epi16(centred.even, centred.even),
                                                      _mm256_madd_epi16(centred.odd, centred.odd)));
}

/* The tail of a row, 1 to 31 bytes: where it stands among the last 32 bytes of a row (or, in a row
 * shorter than that, in a copy). */
struct tail {
    size_t at; /* of the load in row and weights */
    size_t bytes;
    __m256i keep;
};

static struct tail tail_of(uint32_t dim)
{
    const __m256i place =
        _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
                         21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
    struct tail tail = {.bytes = dim % STEP};
    if (dim > STEP)
        tail.at = dim - STEP;
    tail.keep = _mm256_cmpgt_epi8(place, _mm256_set1_epi8((char)(STEP - 1 - tail.bytes)));
    return tail;
}

KERNEL_INLINE __m256i tail_load(const struct tail *tail, const uint8_t *row, uint32_t dim)
{
    if (dim > STEP)
        return _mm256_and_si256(load256(row + tail->at), tail->keep);
    uint8_t copy[STEP] = {0};
    memcpy(copy, row, dim);
    return load256(copy);
}

static void score8_pair(struct kernel_score8 *out, const struct kernel_query8 *query,
                        const uint8_t *const *row, const struct tail *tail)
{
    struct score8_sums sums[SCORE_BATCH] = {0};
    for (size_t at = 0; at + STEP <= query->dim; at += STEP) {
        struct weights hi = split_weights(load256(query->hi + at));
        struct weights lo = split_weights(load256(query->lo + at));
        KERNEL_UNROLL
        for (int j = 0; j < SCORE_BATCH; j++)
            score8_step(&sums[j], load256(row[j] + at), hi, lo);
    }
    int32_t padding = 0;
    if (tail->bytes) {
        struct weights hi = split_weights(load256(query->hi + tail->at));
        struct weights lo = split_weights(load256(query->lo + tail->at));
        KERNEL_UNROLL
        for (int j = 0; j < SCORE_BATCH; j++)
            score8_step(&sums[j], tail_load(tail, row[j], query->dim), hi, lo);
        padding = 128 * 128 * (int32_t)(STEP - tail->bytes); /* of the zeros in the norm */
    }
    KERNEL_UNROLL
    for (int j = 0; j < SCORE_BATCH; j++) {
        const __m256i all[4] = {sums[j].hi, sums[j].lo, sums[j].norm, _mm256_setzero_si256()};
        int32_t four[4];
        _mm_storeu_si128((__m128i *)(void *)four, sums4(all));
        out[j] = (struct kernel_score8){.hi = four[0], .lo = four[1], .norm = four[2] - padding};
    }
}

static void score8(struct kernel_score8 *out, const struct kernel_query8 *query,
                   const uint8_t *rows, size_t row_bytes, const uint32_t *ids, size_t count)
{
    struct tail tail = tail_of(query->dim);
    size_t ahead = kernel_ahead(row_bytes);
    if (ids)
        kernel_prefetch(rows, row_bytes, query->dim, ids, 0, ahead, count);
    for (size_t i = 0; i < count; i += SCORE_BATCH) {
        if (ids)
            kernel_prefetch(rows, row_bytes, query->dim, ids, i + ahead, i + ahead + SCORE_BATCH,
                            count);
        const uint8_t *row[SCORE_BATCH];
        struct kernel_score8 pair[SCORE_BATCH];
        kernel_batch(row, SCORE_BATCH, rows, row_bytes, ids, ids != NULL, i, count);
        score8_pair(pair, query, row, &tail);
        out[i] = pair[0];
        if (i + 1 < count)
            out[i + 1] = pair[1];
    }
}

static void score8_rows_avx2(struct kernel_score8 *out, const struct kernel_query8 *query,
                             const uint8_t *rows, size_t row_bytes, size_t count)
{
    score8(out, query, rows, row_bytes, NULL, count);
}

static void score8_gather_avx2(struct kernel_score8 *out, const struct kernel_query8 *query,
                               const uint8_t *rows, size_t row_bytes, const uint32_t *ids,
                               size_t count)
{
    score8(out, query, rows, row_bytes, ids, count);
}

/* The first n floats of eight, n in 0..8, for maskload. */
static __m256i float_lanes(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static float sum_floats(const __m256 *sum)
{
    __m256 all = _mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3]));
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

/* Few values are below, so most groups end at the test. */
static size_t below_f32_avx2(uint32_t *out, const float *values, size_t count, float limit)
{
    __m256 limits = _mm256_set1_ps(limit);
    size_t found = 0, i = 0;
    for (; i + 8 <= count; i += 8) {
        __m256 below = _mm256_cmp_ps(_mm256_loadu_ps(values + i), limits, _CMP_LT_OQ);
        for (uint32_t mask = (uint32_t)_mm256_movemask_ps(below); mask; mask &= mask - 1)
            out[found++] = (uint32_t)i + (uint32_t)__builtin_ctz(mask);
    }
    for (; i < count; i++)
        if (values[i] < limit)
            out[found++] = (uint32_t)i;
    return found;
}

static float l2sq_f32_avx2(const float *a, const float *b, size_t dim)
{
    __m256 sum[4] = {0};
    size_t d = 0;
    for (; d + 32 <= dim; d += 32) {
        KERNEL_UNROLL
        for (int k = 0; k < 4; k++) {
            __m256 gap =
                _mm256_sub_ps(_mm256_loadu_ps(a + d + 8 * k), _mm256_loadu_ps(b + d + 8 * k));
            sum[k] = _mm256_fmadd_ps(gap, gap, sum[k]);
        }
    }
    for (; d < dim; d += 8) {
        __m256i lanes = float_lanes(dim - d < 8 ? dim - d : 8);
        __m256 gap =
            _mm256_sub_ps(_mm256_maskload_ps(a + d, lanes), _mm256_maskload_ps(b + d, lanes));
        sum[0] = _mm256_fmadd_ps(gap, gap, sum[0]);
    }
    return sum_floats(sum);
}

static float dot_f32_avx2(const float *a, const float *b, size_t dim)
{
    __m256 sum[4] = {0};
    size_t d = 0;
    for (; d + 32 <= dim; d += 32) {
        KERNEL_UNROLL
        for (int k = 0; k < 4; k++)
            sum[k] = _mm256_fmadd_ps(_mm256_loadu_ps(a + d + 8 * k), _mm256_loadu_ps(b + d + 8 * k),
                                     sum[k]);
    }
    for (; d < dim; d += 8) {
        __m256i lanes = float_lanes(dim - d < 8 ? dim - d : 8);
        sum[0] = _mm256_fmadd_ps(_mm256_maskload_ps(a + d, lanes), _mm256_maskload_ps(b + d, lanes),
                                 sum[0]);
    }
    return sum_floats(sum);
}

/* A vector as integers of 22 bits and a sign in two numbers of 16, value = high * 2^11 + low, so
 * that vpmaddwd can take them. Zeros behind it up to a multiple of 16. */
struct digits {
    int16_t high[KERNEL_DIM_MAX], low[KERNEL_DIM_MAX];
};

_Static_assert(KERNEL_DIM_MAX % 16 == 0, "digits are padded to 16");
_Static_assert(2049ll * 128 * KERNEL_DIM_MAX < INT32_MAX, "a sum of digit * s8 fits int32");

static bool split_digits(struct digits *digits, struct kernel_fixed *fixed, const float *x,
                         size_t count)
{
    __m256i largest = _mm256_setzero_si256(), magnitude = _mm256_set1_epi32(0x7fffffff);
    for (size_t c = 0; c < count; c += 8) {
        __m256 values = _mm256_maskload_ps(x + c, float_lanes(count - c < 8 ? count - c : 8));
        largest =
            _mm256_max_epu32(largest, _mm256_and_si256(_mm256_castps_si256(values), magnitude));
    }
    uint32_t lanes[8], most = 0;
    _mm256_storeu_si256((__m256i *)(void *)lanes, largest);
    for (int k = 0; k < 8; k++)
        most = lanes[k] > most ? lanes[k] : most;
    if (!kernel_fix(most, fixed))
        return false;
    for (size_t c = 0; c < size_round_up(count, 16); c += 8) {
        size_t left = c < count ? count - c : 0;
        __m256 values = _mm256_maskload_ps(x + c, float_lanes(left < 8 ? left : 8));
        __m256i whole = _mm256_cvtps_epi32(_mm256_mul_ps(values, _mm256_set1_ps(fixed->inverse)));
        __m256i high = _mm256_srai_epi32(whole, 11);
        __m256i low = _mm256_and_si256(whole, _mm256_set1_epi32(2047));
        __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(high, low), 0xd8);
        _mm_storeu_si128((__m128i *)(void *)(digits->high + c), _mm256_castsi256_si128(both));
        _mm_storeu_si128((__m128i *)(void *)(digits->low + c), _mm256_extracti128_si256(both, 1));
    }
    return true;
}

/* Sixteen bytes of a row, those from count on zero. */
KERNEL_INLINE __m256i matvec_bytes(const int8_t *row, size_t count)
{
    int8_t copy[16] = {0};
    if (count < 16) {
        memcpy(copy, row, count);
        row = copy;
    }
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)row));
}

static int64_t matvec_row(const int8_t *row, const struct digits *digits, size_t columns)
{
    __m256i sum[4] = {0}; /* high and low, of even and odd steps */
    size_t c = 0;
    for (; c + 32 <= columns; c += 32) {
        KERNEL_UNROLL
        for (int k = 0; k < 2; k++) {
            __m256i bytes = matvec_bytes(row + c + 16 * k, 16);
            sum[k] = _mm256_add_epi32(sum[k],
                                      _mm256_madd_epi16(bytes, load256(digits->high + c + 16 * k)));
            sum[2 + k] = _mm256_add_epi32(
                sum[2 + k], _mm256_madd_epi16(bytes, load256(digits->low + c + 16 * k)));
        }
    }
    for (; c < columns; c += 16) {
        __m256i bytes = matvec_bytes(row + c, columns - c);
        sum[0] = _mm256_add_epi32(sum[0], _mm256_madd_epi16(bytes, load256(digits->high + c)));
        sum[2] = _mm256_add_epi32(sum[2], _mm256_madd_epi16(bytes, load256(digits->low + c)));
    }
    int32_t sums[4];
    _mm_storeu_si128((__m128i *)(void *)sums, sums4(sum));
    return ((int64_t)sums[0] + sums[1]) * 2048 + sums[2] + sums[3];
}

/* Integers rather than floats: two products of 16 bits for sixteen bytes, where floats take two
 * conversions and a product for eight, and no rounding depends on the order of the additions. */
static void matvec_i8_avx2(float *out, const int8_t *matrix, const float *scale, const float *x,
                           size_t rows, size_t columns)
{
    struct digits digits;
    struct kernel_fixed fixed;
    assert(columns <= KERNEL_DIM_MAX);
    if (!split_digits(&digits, &fixed, x, columns)) {
        kernel_matvec_nan(out, rows);
        return;
    }
    for (size_t r = 0; r < rows; r++)
        out[r] = kernel_unfix(&fixed, matvec_row(matrix + r * columns, &digits, columns), scale[r]);
}

static void f16_to_f32_avx2(float *out, const uint16_t *in, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(out + i,
                         _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(in + i))));
    for (; i < count; i++)
        out[i] = kernel_f16_decode(in[i]);
}

static void f32_to_f16_avx2(uint16_t *out, const float *in, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(out + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < count; i++)
        out[i] = kernel_f16_encode(in[i]);
}

void kernels_fill_avx2(struct kernels *table)
{
    table->name = "avx2";
    table->level = KERNEL_AVX2;
    table->dot_u8s8_gather = dot_u8s8_gather_avx2;
    table->dot_u8s8_panel = dot_u8s8_panel_avx2;
    table->panel_near = panel_near_avx2;
    table->score8_rows = score8_rows_avx2;
    table->score8_gather = score8_gather_avx2;
    table->sliced_sums = sliced_sums_avx2;
    table->nibble_sums = nibble_sums_avx2;
    table->codes_rows = codes_rows_avx2;
    table->codes_gather = codes_gather_avx2;
    table->quantise6 = quantise6_avx2;
    table->unit_sums = unit_sums_avx2;
    table->trellis_encode = trellis_encode_avx2;
    table->below_f32 = below_f32_avx2;
    table->l2sq_f32 = l2sq_f32_avx2;
    table->dot_f32 = dot_f32_avx2;
    table->matvec_i8 = matvec_i8_avx2;
    table->f16_to_f32 = f16_to_f32_avx2;
    table->f32_to_f16 = f32_to_f16_avx2;
}
