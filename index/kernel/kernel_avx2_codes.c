/* AVX2: bit-plane codes, 32 dimensions at a time.
 *
 * The 32 bits of a plane are spread to bytes (each byte picks the byte of its bit, keeps the bit,
 * compares) and become index bytes. The level table is looked up 16 entries at a time by vpshufb. A
 * dimension of b bits uses only every (64 >> b)th entry, so that the table is thinned out for each
 * number of planes that reach a block: 16 entries serve up to three planes, 32 four, 64 five; only
 * six need all 128. Codes are read by 4-byte loads. */
#include "kernel_avx2.h"

#include "le.h"

enum { BATCH = 4, TABLE_PARTS = 8 };

/* level[0], level[step], level[2 * step]..: 128 / step entries in parts of 16, each in both halves
 * of a register. */
struct thin_table {
    __m256i part[TABLE_PARTS];
};

struct code_tables {
    struct thin_table by_planes[4]; /* up to 3 planes, 4, 5, 6 */
};

/* Every second entry of 32. */
static __m256i thin_pair(__m256i a, __m256i b)
{
    const __m128i low = _mm_set1_epi16(255);
    __m128i packed = _mm_packus_epi16(_mm_and_si128(_mm256_castsi256_si128(a), low),
                                      _mm_and_si128(_mm256_castsi256_si128(b), low));
    return _mm256_broadcastsi128_si256(packed);
}

static void prepare_tables(struct code_tables *tables, const uint8_t *level)
{
    for (int i = 0; i < TABLE_PARTS; i++)
        tables->by_planes[3].part[i] = _mm256_broadcastsi128_si256(
            _mm_loadu_si128((const __m128i *)(const void *)(level + 16 * i)));
    for (int planes = 2; planes >= 0; planes--) {
        const struct thin_table *full = &tables->by_planes[planes + 1];
        for (int i = 0; i < 1 << planes; i++)
            tables->by_planes[planes].part[i] = thin_pair(full->part[2 * i], full->part[2 * i + 1]);
    }
}

/* Bit i of bits becomes byte i, `worth` or 0. */
KERNEL_INLINE __m256i spread_bits(uint32_t bits, int worth)
{
    const __m256i byte_of =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit_of = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    __m256i copies = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), byte_of);
    __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(copies, bit_of), bit_of);
    return _mm256_and_si256(set, _mm256_set1_epi8((char)worth));
}

/* a where bit `bit` of the index is clear, b where it is set. Shifts of 16 bits do: vpblendvb looks
 * at the top bit of each byte. */
KERNEL_INLINE __m256i choose(__m256i a, __m256i b, __m256i index, int bit)
{
    return _mm256_blendv_epi8(a, b, _mm256_slli_epi16(index, 7 - bit));
}

/* table[index] of a table of `parts`, a constant: 1, 2, 4 or 8. Each further bit of the index
 * halves what is left. */
KERNEL_INLINE __m256i look_up(const struct thin_table *table, __m256i index, int parts)
{
    __m256i low = _mm256_and_si256(index, _mm256_set1_epi8(15)), value[TABLE_PARTS];
    KERNEL_UNROLL
    for (int i = 0; i < parts; i++)
        value[i] = _mm256_shuffle_epi8(table->part[i], low);
    KERNEL_UNROLL
    for (int i = 0; i < parts / 2; i++)
        value[i] = choose(value[2 * i], value[2 * i + 1], index, 4);
    KERNEL_UNROLL
    for (int i = 0; i < parts / 4; i++)
        value[i] = choose(value[2 * i], value[2 * i + 1], index, 5);
    for (int i = 0; i < parts / 8; i++)
        value[i] = choose(value[2 * i], value[2 * i + 1], index, 6);
    return value[0];
}

/* Indexes fit 7 bits and those of a block with few planes end in zeros: shift those out. */
static __m256i levels_of(const struct code_tables *tables, __m256i index, uint32_t planes)
{
    if (planes <= 3)
        return look_up(&tables->by_planes[0], _mm256_srli_epi16(index, 3), 1);
    if (planes == 4)
        return look_up(&tables->by_planes[1], _mm256_srli_epi16(index, 2), 2);
    if (planes == 5)
        return look_up(&tables->by_planes[2], _mm256_srli_epi16(index, 1), 4);
    return look_up(&tables->by_planes[3], index, 8);
}

/* Where in a code the bits of a plane for dimensions d..d + 31 are: (load32(code + at) >> shift) &
 * mask. The load must not reach beyond the code, into a cache line that nobody asked for: it starts
 * before, if need be. */
struct plane_bits {
    uint32_t at, shift, mask;
};

static void locate_planes(struct plane_bits *bits, const struct kernel_codes *plan, uint32_t d,
                          uint32_t planes)
{
    uint32_t last = plan->code_bytes > 4 ? plan->code_bytes - 4 : 0;
    for (uint32_t p = 0; p < planes; p++) {
        uint32_t groups = plan->groups[p] - d / 8, start = plan->plane_start[p] + d / 8;
        bits[p].at = start < last ? start : last;
        bits[p].shift = 8 * (start - bits[p].at);
        bits[p].mask = groups < 4 ? (1u << groups * 8) - 1 : ~0u;
    }
}

KERNEL_INLINE __m256i index_of(const struct plane_bits *bits, const uint8_t *code, __m256i sentinel,
                               uint32_t planes)
{
    __m256i index = sentinel;
    for (uint32_t p = 0; p < planes; p++) {
        uint32_t word = le_load32(code + bits[p].at) >> bits[p].shift & bits[p].mask;
        index = _mm256_or_si256(index, spread_bits(word, 64 >> p));
    }
    return index;
}

/* What a trellis adds to the indexes of dimensions d..d + 31: a bit above the sentinel. */
KERNEL_INLINE __m256i bonus_of(const uint8_t *bonus, uint32_t d, __m256i sentinel)
{
    __m256i set = spread_bits(le_load32(bonus + d / 8), 255);
    return _mm256_and_si256(set, _mm256_add_epi8(sentinel, sentinel));
}

static void codes_batch(float *out, const struct kernel_codes *plan,
                        const struct kernel_query8 *query, const struct code_tables *tables,
                        const uint8_t *const *code)
{
    __m256i hi[BATCH] = {0}, lo[BATCH] = {0};
    uint8_t bonus[BATCH][KERNEL_TRELLIS_MAX];
    for (int j = 0; j < BATCH && plan->trellis; j++)
        kernel_bonus(bonus[j], plan, code[j]);
    for (uint32_t d = 0; d < plan->dim; d += STEP) {
        struct weights hi_weights = split_weights(load256(query->hi + d));
        struct weights lo_weights = split_weights(load256(query->lo + d));
        __m256i sentinel = load256(plan->sentinel + d);
        struct plane_bits bits[KERNEL_PLANES_MAX];
        uint32_t planes = kernel_planes_at(plan, d);
        locate_planes(bits, plan, d, planes);
        bool more = plan->trellis && planes;
        KERNEL_UNROLL
        for (int j = 0; j < BATCH; j++) {
            __m256i index = index_of(bits, code[j], sentinel, planes);
            if (more)
                index = _mm256_or_si256(index, bonus_of(bonus[j], d, sentinel));
            struct bytes levels = split_bytes(levels_of(tables, index, planes + more));
            hi[j] = add_products(hi[j], levels, hi_weights);
            lo[j] = add_products(lo[j], levels, lo_weights);
        }
    }
    __m128 high = _mm_cvtepi32_ps(sums4(hi)), low = _mm_cvtepi32_ps(sums4(lo));
    _mm_storeu_ps(out, _mm_add_ps(_mm_mul_ps(high, _mm_set1_ps(128.0f)), low));
}

static void codes_any(float *out, const struct kernel_codes *plan,
                      const struct kernel_query8 *query, const uint8_t *codes, const uint32_t *ids,
                      size_t count)
{
    struct code_tables tables;
    prepare_tables(&tables, plan->level);
    size_t code_bytes = plan->code_bytes, ahead = kernel_ahead(code_bytes);
    if (ids)
        kernel_prefetch(codes, code_bytes, code_bytes, ids, 0, ahead, count);
    for (size_t i = 0; i < count; i += BATCH) {
        if (ids)
            kernel_prefetch(codes, code_bytes, code_bytes, ids, i + ahead, i + ahead + BATCH,
                            count);
        const uint8_t *code[BATCH];
        float scores[BATCH];
        kernel_batch(code, BATCH, codes, code_bytes, ids, ids != NULL, i, count);
        codes_batch(scores, plan, query, &tables, code);
        for (size_t j = 0; j < BATCH && i + j < count; j++)
            out[i + j] = scores[j];
    }
}

void codes_rows_avx2(float *out, const struct kernel_codes *plan, const struct kernel_query8 *query,
                     const uint8_t *codes, size_t count)
{
    codes_any(out, plan, query, codes, NULL, count);
}

void codes_gather_avx2(float *out, const struct kernel_codes *plan,
                       const struct kernel_query8 *query, const uint8_t *codes, const uint32_t *ids,
                       size_t count)
{
    codes_any(out, plan, query, codes, ids, count);
}

/* ---- sliced codes ---- */

/* Two columns at once, one in each 128-bit lane (sums are kept as in the AVX-512 version). A last
 * odd column reads its upper half from itself, where the tables are zero. */
KERNEL_INLINE __m256i sliced_bytes(const uint8_t *at, bool pair)
{
    return pair ? load256(at)
                : _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)at));
}

void sliced_sums_avx2(float *out, const uint8_t *tables, const uint8_t *blocks, uint32_t columns,
                      size_t count)
{
    const uint8_t *high_tables = tables + (size_t)kernel_padded_columns(columns) * 16;
    const __m256i nibble = _mm256_set1_epi8(15);
    for (size_t b = 0; b < count; b++, blocks += (size_t)columns * KERNEL_LANES) {
        __m256i first = _mm256_setzero_si256(), second = first;
        for (uint32_t c = 0; c < columns;) {
            uint32_t end =
                columns - c < KERNEL_COLUMNS_AT_ONCE ? columns : c + KERNEL_COLUMNS_AT_ONCE;
            __m256i all = _mm256_setzero_si256(), odd = all;
            for (; c < end; c += 2) {
                __m256i bytes = sliced_bytes(blocks + c * KERNEL_LANES, c + 1 < columns);
                __m256i low =
                    _mm256_shuffle_epi8(load256(tables + c * 16), _mm256_and_si256(bytes, nibble));
                __m256i high =
                    _mm256_shuffle_epi8(load256(high_tables + c * 16),
                                        _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble));
                __m256i sum = _mm256_add_epi8(low, high);
                all = _mm256_add_epi16(all, sum);
                odd = _mm256_add_epi16(odd, _mm256_srli_epi16(sum, 8));
            }
            __m256i even = _mm256_sub_epi16(all, _mm256_slli_epi16(odd, 8));
            __m128i even1 =
                _mm_add_epi16(_mm256_castsi256_si128(even), _mm256_extracti128_si256(even, 1));
            __m128i odd1 =
                _mm_add_epi16(_mm256_castsi256_si128(odd), _mm256_extracti128_si256(odd, 1));
            first = _mm256_add_epi32(first, _mm256_cvtepu16_epi32(_mm_unpacklo_epi16(even1, odd1)));
            second =
                _mm256_add_epi32(second, _mm256_cvtepu16_epi32(_mm_unpackhi_epi16(even1, odd1)));
        }
        _mm256_storeu_ps(out + b * KERNEL_LANES, _mm256_cvtepi32_ps(first));
        _mm256_storeu_ps(out + b * KERNEL_LANES + 8, _mm256_cvtepi32_ps(second));
    }
}

/* ---- half a byte a dimension ---- */

/* kernel_step_weight of every dimension in two signed bytes, hi * 128 + lo, up to a multiple of 8.
 */
struct step_weights {
    int8_t hi[KERNEL_DIM_MAX + 16], lo[KERNEL_DIM_MAX + 16];
};

/* Sixteen: the product of a weight and a step times 2^11, rounded, is that of a rounding multiply.
 */
KERNEL_INLINE void weigh_steps(struct step_weights *out, const int16_t *weights, __m128i steps,
                               size_t at)
{
    __m256i step = _mm256_slli_epi16(_mm256_cvtepu8_epi16(steps), 11);
    __m256i weight = _mm256_mulhrs_epi16(load256(weights + at), step);
    __m256i hi = _mm256_srai_epi16(_mm256_add_epi16(weight, _mm256_set1_epi16(64)), 7);
    __m256i lo = _mm256_sub_epi16(weight, _mm256_slli_epi16(hi, 7));
    __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi16(hi, lo), 0xd8);
    _mm_storeu_si128((__m128i *)(void *)(out->hi + at), _mm256_castsi256_si128(both));
    _mm_storeu_si128((__m128i *)(void *)(out->lo + at), _mm256_extracti128_si256(both, 1));
}

static void weigh_all_steps(struct step_weights *out, const int16_t *weights, const uint8_t *steps,
                            uint32_t dim)
{
    size_t d = 0;
    for (; d + 16 <= dim; d += 16)
        weigh_steps(out, weights, _mm_loadu_si128((const __m128i *)(const void *)(steps + d)), d);
    if (d < dim) {
        uint8_t last[16] = {0};
        memcpy(last, steps + d, dim - d);
        weigh_steps(out, weights, _mm_loadu_si128((const __m128i *)(const void *)last), d);
    }
}

/* Sums of pairs of products: 15 * 127 * 2 at the most, so that 8 of them fit in 16 bits. */
struct nibble_pairs {
    __m256i hi, lo;
};

KERNEL_INLINE void nibble_step(struct nibble_pairs *pairs, __m256i values, const int8_t *hi,
                               const int8_t *lo)
{
    __m256i high = _mm256_set1_epi32((int32_t)le_load32(hi)),
            low = _mm256_set1_epi32((int32_t)le_load32(lo));
    pairs->hi = _mm256_add_epi16(pairs->hi, _mm256_maddubs_epi16(values, high));
    pairs->lo = _mm256_add_epi16(pairs->lo, _mm256_maddubs_epi16(values, low));
}

/* Eight rows of a block. */
KERNEL_INLINE __m256 nibble_rows(const struct step_weights *weights, const uint8_t *rows,
                                 const uint8_t *next, uint32_t groups)
{
    enum { GROUPS_AT_ONCE = 4, GROUP_BYTES = 4 * KERNEL_LANES };
    const __m256i nibble = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    __m256i hi = _mm256_setzero_si256(), lo = hi;
    for (uint32_t g = 0; g < groups;) {
        uint32_t end = groups - g < GROUPS_AT_ONCE ? groups : g + GROUPS_AT_ONCE;
        struct nibble_pairs pairs = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        for (; g < end; g++) {
            _mm_prefetch((const char *)next + (size_t)g * GROUP_BYTES, _MM_HINT_T0);
            __m256i bytes = load256(rows + (size_t)g * GROUP_BYTES);
            const int8_t *high = weights->hi + (size_t)g * 8, *low = weights->lo + (size_t)g * 8;
            nibble_step(&pairs, _mm256_and_si256(bytes, nibble), high, low);
            nibble_step(&pairs, _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble), high + 4,
                        low + 4);
        }
        hi = _mm256_add_epi32(hi, _mm256_madd_epi16(pairs.hi, ones));
        lo = _mm256_add_epi32(lo, _mm256_madd_epi16(pairs.lo, ones));
    }
    return _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_slli_epi32(hi, 7), lo));
}

void nibble_sums_avx2(float *out, const int16_t *weights, const uint8_t *steps,
                      const uint8_t *blocks, const uint8_t *next, uint32_t dim, size_t count)
{
    struct step_weights stepped;
    uint32_t groups = (dim + 7) / 8;
    weigh_all_steps(&stepped, weights, steps, dim);
    for (size_t b = 0; b < count; b++) {
        _mm256_storeu_ps(out + b * KERNEL_LANES, nibble_rows(&stepped, blocks, next, groups));
        _mm256_storeu_ps(out + b * KERNEL_LANES + 8,
                         nibble_rows(&stepped, blocks + STEP, next + STEP, groups));
        blocks += kernel_nibble_bytes(dim);
        next += kernel_nibble_bytes(dim);
    }
}
