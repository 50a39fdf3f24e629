/* AVX-512: bit-plane codes, the inner loop of navigation.
 *
 * The bits of a dimension lie in different planes, a byte for each group of 8 dimensions and plane,
 * and must become one index byte a dimension. GF(2) algebra does it in one instruction: put the
 * bytes of a group's planes into one 64-bit lane, plane 0 in byte 1 to plane 5 in byte 6, and
 * vgf2p8affineqb with the unit matrix transposes that 8 x 8 square of bits; byte 1 + p lands on bit
 * 6 - p of the index, just as kernel.h defines it. The sentinel of a group is a row of ones behind
 * its last plane, so it costs nothing. Then two halves of the level table are looked up at once by
 * vpermi2b, and two vpdpbusd weigh the 64 levels. Rejected: a mask register per plane with a masked
 * add of its bit, which costs a mask load and an add for every plane.
 *
 * Codes of up to 128 bytes are loaded whole into a register or two, and every block of 64
 * dimensions takes its bytes from there: in straight code with everything in registers when there
 * are at most four blocks (short codes), in a loop over blocks otherwise (held codes). Longer codes
 * are loaded plane by plane for each block. A trellis (kernel.h) puts the three bytes whose
 * exclusive or it adds into free rows of the square, and a second product in GF(2) joins them; its
 * sentinels are set afterwards. The dimensions behind the last bit have the same level in every
 * code; their score is added up once a call. */
#include "kernel_avx512.h"

#include <assert.h>

#include "le.h"

enum {
    SHORT_BATCH = 8,
    SHORT_BLOCKS = 4,
    SHORT_DIM = 512, /* see short_codes */
    HELD_BYTES = 128,
    HELD_BLOCKS = HELD_BYTES / 8, /* a byte of plane 0 for each 8 dimensions at least */
    BATCH = 4,                    /* of held and long codes */
};

_Static_assert(KERNEL_TRELLIS_MAX <= HELD_BYTES, "a code with a trellis is held in registers");

#define ONES 0x0101010101010101u /* a byte in each */
#define TURN 0x8001020408102040u /* the square that turns a byte left by a bit */

/* Of the 64 rows of a block (byte 1 + p of lane g: plane p of group g), those that the code has. */
static uint64_t block_rows(const struct kernel_codes *plan, uint32_t block)
{
    uint64_t rows = 0;
    for (uint32_t p = 0; p < KERNEL_PLANES_MAX && plan->groups[p] > block * 8; p++) {
        uint32_t groups = plan->groups[p] - block * 8;
        rows |= (groups < 8 ? _bzhi_u64(ONES, groups * 8) : ONES) << (1 + p);
    }
    return rows;
}

/* The row behind the last plane of each lane: all ones, the sentinel. Byte 0, which no plane uses,
 * stands in for a plane before the first, so that a lane without planes has its sentinel in byte 1
 * (index 64). */
KERNEL_INLINE uint64_t sentinel_rows(uint64_t rows)
{
    return (rows | ONES) << 1 & ~(rows | ONES);
}

KERNEL_INLINE __m512i transpose(__m512i rows)
{
    return _mm512_gf2p8affine_epi64_epi8(_mm512_set1_epi64((int64_t)0x8040201008040201), rows, 0);
}

struct levels {
    __m512i low, high;
};

KERNEL_INLINE __m512i level_of(const struct levels *levels, __m512i index)
{
    return _mm512_permutex2var_epi8(levels->low, index, levels->high);
}

/* The score of the dimensions from block `first` on, none of which has a bit. */
struct rest {
    int32_t hi, lo;
};

KERNEL_INLINE struct rest score_rest(const struct kernel_codes *plan,
                                     const struct kernel_query8 *query, uint32_t first)
{
    if (first * KERNEL_BLOCK >= plan->dim)
        return (struct rest){0};
    __m512i level = _mm512_set1_epi8((char)plan->level[64]);
    __m512i hi = _mm512_setzero_si512(), lo = _mm512_setzero_si512();
    for (uint32_t d = first * KERNEL_BLOCK; d < plan->dim; d += KERNEL_BLOCK) {
        hi = _mm512_dpbusd_epi32(hi, level, _mm512_loadu_si512(query->hi + d));
        lo = _mm512_dpbusd_epi32(lo, level, _mm512_loadu_si512(query->lo + d));
    }
    return (struct rest){.hi = _mm512_reduce_add_epi32(hi), .lo = _mm512_reduce_add_epi32(lo)};
}

/* Where the rows of a block are in the register (or two) that holds a code: `pick` has the place of
 * a row that the code has, and elsewhere the row itself, sentinel or zeros. */
struct block {
    __m512i pick, hi, lo;
    __mmask64 rows;
    __m512i mix, sentinel; /* of a trellis */
};

/* The code is loaded as its first and its last `half` bytes, which overlap: exactly its own bytes,
 * so that no cache line is touched that the prefetch did not ask for. Byte i >= half is then found
 * 2 * half - code_bytes further on. */
KERNEL_INLINE size_t second_half(const struct kernel_codes *plan, size_t half)
{
    return plan->code_bytes > half ? plan->code_bytes - half : 0;
}

/* The six numbers of an array of planes, each < 256, as bytes 1 to 6 of every lane. */
KERNEL_INLINE __m512i by_plane(const uint32_t *numbers)
{
    __m128i bytes = _mm256_cvtepi32_epi8(_mm256_maskz_loadu_epi32(0x3f, numbers));
    return _mm512_broadcastq_epi64(_mm_slli_epi64(bytes, 8));
}

/* The number of a lane, in each of its bytes. */
KERNEL_INLINE __m512i lane_numbers(void)
{
    return _mm512_setr_epi64(0, ONES, 2 * ONES, 3 * ONES, 4 * ONES, 5 * ONES, 6 * ONES, 7 * ONES);
}

/* What all blocks of a plan have in common. */
struct layout {
    __m512i starts, groups, shift, half;
};

KERNEL_INLINE struct layout layout_of(const struct kernel_codes *plan, size_t half)
{
    return (struct layout){
        .starts = by_plane(plan->plane_start),
        .groups = by_plane(plan->groups),
        .shift = _mm512_set1_epi8((char)(half - second_half(plan, half))),
        .half = _mm512_set1_epi8((char)half),
    };
}

KERNEL_INLINE void prepare_block(struct block *block, const struct layout *layout,
                                 const struct kernel_query8 *query, uint32_t b)
{
    __m512i group = _mm512_add_epi8(lane_numbers(), _mm512_set1_epi8((char)(8 * b)));
    __m512i place = _mm512_add_epi8(layout->starts, group);
    __mmask64 second = _mm512_cmpge_epu8_mask(place, layout->half);
    place = _mm512_mask_add_epi8(place, second, place, layout->shift);
    block->rows = _mm512_cmplt_epu8_mask(group, layout->groups);
    __m512i sentinel = _mm512_movm_epi8(sentinel_rows(block->rows));
    block->pick = _mm512_mask_mov_epi8(sentinel, block->rows, place);
    block->hi = _mm512_loadu_si512(query->hi + b * KERNEL_BLOCK);
    block->lo = _mm512_loadu_si512(query->lo + b * KERNEL_BLOCK);
}

/* The same of a trellis, whose squares have up to eight rows of the code, and no sentinel. */
KERNEL_INLINE void prepare_trellis(struct block *block, const struct layout *layout,
                                   const struct kernel_codes *plan,
                                   const struct kernel_query8 *query, uint32_t b)
{
    const struct kernel_trellis *trellis = plan->trellis;
    __m512i place = _mm512_loadu_si512(trellis->places + b * KERNEL_BLOCK);
    __mmask64 second = _mm512_cmpge_epu8_mask(place, layout->half);
    block->pick = _mm512_mask_add_epi8(place, second, place, layout->shift);
    block->rows = trellis->rows[b];
    block->mix = _mm512_loadu_si512(trellis->mix + (size_t)b * 8);
    block->sentinel = _mm512_loadu_si512(plan->sentinel + b * KERNEL_BLOCK);
    block->hi = _mm512_loadu_si512(query->hi + b * KERNEL_BLOCK);
    block->lo = _mm512_loadu_si512(query->lo + b * KERNEL_BLOCK);
}

/* A code in registers; high is used when half is 64. half is always a constant: 16, 32 or 64. */
struct held {
    __m512i low, high;
};

KERNEL_INLINE struct held hold_code(const uint8_t *code, size_t second, size_t half)
{
    const void *last = code + second;
    if (half == 64)
        return (struct held){_mm512_loadu_si512(code), _mm512_loadu_si512(last)};
    __m512i whole;
    if (half == 32)
        whole = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const void *)code)),
                                   _mm256_loadu_si256(last), 1);
    else
        whole = _mm512_castsi256_si512(_mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_loadu_si128((const void *)code)), _mm_loadu_si128(last), 1));
    return (struct held){whole, whole};
}

/* The 64 levels of a block of a code. With a trellis, a second product of squares of bits joins
 * what is not stored. */
KERNEL_INLINE __m512i held_levels(const struct block *block, const struct levels *levels,
                                  struct held code, size_t half, bool trellis, __mmask64 turned)
{
    __m512i rows;
    if (trellis) {
        rows = half == 64
                   ? _mm512_maskz_permutex2var_epi8(block->rows, code.low, block->pick, code.high)
                   : _mm512_maskz_permutexvar_epi8(block->rows, block->pick, code.low);
        if (turned)
            rows = _mm512_mask_gf2p8affine_epi64_epi8(rows, turned, rows,
                                                      _mm512_set1_epi64((int64_t)TURN), 0);
        __m512i index = _mm512_gf2p8affine_epi64_epi8(transpose(rows), block->mix, 0);
        return level_of(levels, _mm512_or_si512(index, block->sentinel));
    }
    if (half == 64)
        rows = _mm512_mask2_permutex2var_epi8(code.low, block->pick, block->rows, code.high);
    else
        rows = _mm512_mask_permutexvar_epi8(block->pick, block->rows, block->pick, code.low);
    return level_of(levels, transpose(rows));
}

/* Up to SHORT_DIM dimensions |hi| * 128 + |lo| <= 255 * 512 * (127 * 128 + 64) < 2^31 and |hi| <
 * 2^24, so the two sums can be joined as integers, before the shuffles that add up a register, and
 * the conversion of the joined sum rounds the very number that kernel_join rounds. half and count
 * are constants. */
KERNEL_INLINE void short_codes(float *out, const struct kernel_codes *plan,
                               const struct kernel_query8 *query, const uint8_t *codes,
                               const uint32_t *ids, bool scattered, size_t count, uint32_t blocks,
                               size_t half, bool trellis)
{
    struct block block[SHORT_BLOCKS];
    __mmask64 turned = trellis ? plan->trellis->turned : 0;
    struct layout layout = layout_of(plan, half);
    KERNEL_UNROLL
    for (uint32_t b = 0; b < blocks; b++) {
        if (trellis)
            prepare_trellis(&block[b], &layout, plan, query, b);
        else
            prepare_block(&block[b], &layout, query, b);
    }
    struct rest rest = score_rest(plan, query, blocks);
    __m256i rest_sum = _mm256_set1_epi32(rest.hi * 128 + rest.lo);
    struct levels levels = {_mm512_loadu_si512(plan->level), _mm512_loadu_si512(plan->level + 64)};
    size_t code_bytes = plan->code_bytes, second = second_half(plan, half);
    size_t ahead = kernel_ahead(code_bytes);

    if (scattered)
        kernel_prefetch(codes, code_bytes, code_bytes, ids, 0, ahead, count);
    for (size_t i = 0; i < count; i += SHORT_BATCH) {
        if (scattered)
            kernel_prefetch(codes, code_bytes, code_bytes, ids, i + ahead, i + ahead + SHORT_BATCH,
                            count);
        const uint8_t *code[SHORT_BATCH];
        kernel_batch(code, SHORT_BATCH, codes, code_bytes, ids, scattered, i, count);
        __m512i sum[SHORT_BATCH];
        KERNEL_UNROLL
        for (int j = 0; j < SHORT_BATCH; j++) {
            struct held held = hold_code(code[j], second, half);
            __m512i value[SHORT_BLOCKS];
            sum[j] = _mm512_setzero_si512();
            KERNEL_UNROLL
            for (uint32_t b = 0; b < blocks; b++) {
                value[b] =
                    held_levels(&block[b], &levels, held, half, trellis, b == 0 ? turned : 0);
                sum[j] = _mm512_dpbusd_epi32(sum[j], value[b], block[b].hi);
            }
            sum[j] = _mm512_slli_epi32(sum[j], 7);
            KERNEL_UNROLL
            for (uint32_t b = 0; b < blocks; b++)
                sum[j] = _mm512_dpbusd_epi32(sum[j], value[b], block[b].lo);
        }
        __m256 scores = _mm256_cvtepi32_ps(_mm256_add_epi32(sums4x2(sum, sum + 4), rest_sum));
        if (count - i >= SHORT_BATCH)
            _mm256_storeu_ps(out + i, scores);
        else
            _mm256_mask_storeu_ps(out + i, (__mmask8)first_lanes(count - i), scores);
    }
}

/* The sums of a batch of held or long codes: hi of each, then lo. */
struct sums {
    __m512i all[2 * BATCH];
};

KERNEL_INLINE void weigh(struct sums *sums, int j, __m512i value, __m512i hi, __m512i lo)
{
    sums->all[j] = _mm512_dpbusd_epi32(sums->all[j], value, hi);
    sums->all[BATCH + j] = _mm512_dpbusd_epi32(sums->all[BATCH + j], value, lo);
}

/* Stores the scores of the first `count` codes of a batch; kernel_join's arithmetic. */
KERNEL_INLINE void store_scores(float *out, const struct sums *sums, struct rest rest, size_t count)
{
    __m256i both = sums4x2(sums->all, sums->all + BATCH);
    __m128i hi = _mm_add_epi32(_mm256_castsi256_si128(both), _mm_set1_epi32(rest.hi));
    __m128i lo = _mm_add_epi32(_mm256_extracti128_si256(both, 1), _mm_set1_epi32(rest.lo));
    __m128 scores =
        _mm_add_ps(_mm_mul_ps(_mm_cvtepi32_ps(hi), _mm_set1_ps(128.0f)), _mm_cvtepi32_ps(lo));
    if (count >= BATCH)
        _mm_storeu_ps(out, scores);
    else
        _mm_mask_storeu_ps(out, (__mmask8)first_lanes(count), scores);
}

KERNEL_INLINE void held_codes(float *out, const struct kernel_codes *plan,
                              const struct kernel_query8 *query, const uint8_t *codes,
                              const uint32_t *ids, bool scattered, size_t count, size_t half,
                              bool trellis)
{
    struct block block[HELD_BLOCKS];
    __mmask64 turned = trellis ? plan->trellis->turned : 0;
    struct layout layout = layout_of(plan, half);
    uint32_t blocks = (plan->groups[0] + 7) / 8;
    for (uint32_t b = 0; b < blocks; b++) {
        if (trellis)
            prepare_trellis(&block[b], &layout, plan, query, b);
        else
            prepare_block(&block[b], &layout, query, b);
    }
    struct rest rest = score_rest(plan, query, blocks);
    struct levels levels = {_mm512_loadu_si512(plan->level), _mm512_loadu_si512(plan->level + 64)};
    size_t code_bytes = plan->code_bytes, second = second_half(plan, half);
    size_t ahead = kernel_ahead(code_bytes);

    if (scattered)
        kernel_prefetch(codes, code_bytes, code_bytes, ids, 0, ahead, count);
    for (size_t i = 0; i < count; i += BATCH) {
        if (scattered)
            kernel_prefetch(codes, code_bytes, code_bytes, ids, i + ahead, i + ahead + BATCH,
                            count);
        const uint8_t *code[BATCH];
        kernel_batch(code, BATCH, codes, code_bytes, ids, scattered, i, count);
        struct held held[BATCH];
        KERNEL_UNROLL
        for (int j = 0; j < BATCH; j++)
            held[j] = hold_code(code[j], second, half);
        struct sums sums = {0};
        for (uint32_t b = 0; b < blocks; b++) {
            KERNEL_UNROLL
            for (int j = 0; j < BATCH; j++)
                weigh(&sums, j,
                      held_levels(&block[b], &levels, held[j], half, trellis, b == 0 ? turned : 0),
                      block[b].hi, block[b].lo);
        }
        store_scores(out + i, &sums, rest, count - i);
    }
}

/* What the blocks of a long code look like, and how many blocks at least p planes reach. */
struct long_plan {
    uint64_t rows[KERNEL_BLOCKS_MAX];
    uint32_t reach[KERNEL_PLANES_MAX + 2];
    struct levels levels;
};

/* Where to load the 8 bytes at `start` of a code so that they do not reach beyond its end, into a
 * cache line that nobody asked for: somewhat before, if need be. The bytes wanted are then `start -
 * at` further on. */
KERNEL_INLINE uint32_t load_at(const struct kernel_codes *plan, uint32_t start)
{
    uint32_t last = plan->code_bytes > 8 ? plan->code_bytes - 8 : 0;
    return start < last ? start : last;
}

/* Blocks that `planes` planes reach (a constant >= 2): plane p of all eight groups is one 8-byte
 * load, set into lane 1 + p; one byte shuffle turns lanes of planes into lanes of groups. */
KERNEL_INLINE void long_blocks(struct sums *sums, const struct kernel_codes *plan,
                               const struct kernel_query8 *query, const struct long_plan *shape,
                               const uint8_t *const *code, uint32_t planes)
{
    const __m512i by_group = _mm512_add_epi8(_mm512_set1_epi64(0x3830282018100800), lane_numbers());
    for (uint32_t b = shape->reach[planes + 1]; b < shape->reach[planes]; b++) {
        uint32_t at[KERNEL_PLANES_MAX];
        uint64_t shifts = 0;
        KERNEL_UNROLL
        for (uint32_t p = 0; p < planes; p++) {
            uint32_t start = plan->plane_start[p] + b * 8;
            at[p] = load_at(plan, start);
            shifts |= (uint64_t)(start - at[p]) << 8 * (1 + p);
        }
        __m512i pick = _mm512_add_epi8(by_group, _mm512_set1_epi64((int64_t)shifts));
        __m512i sentinel = _mm512_movm_epi8(sentinel_rows(shape->rows[b]));
        __m512i hi = _mm512_loadu_si512(query->hi + b * KERNEL_BLOCK);
        __m512i lo = _mm512_loadu_si512(query->lo + b * KERNEL_BLOCK);
        KERNEL_UNROLL
        for (int j = 0; j < BATCH; j++) {
            __m512i rows = _mm512_set1_epi64((int64_t)le_load64(code[j] + at[0]));
            KERNEL_UNROLL
            for (uint32_t p = 1; p < planes; p++)
                rows = _mm512_mask_set1_epi64(rows, (__mmask8)(2u << p),
                                              (int64_t)le_load64(code[j] + at[p]));
            rows = _mm512_mask_permutexvar_epi8(sentinel, shape->rows[b], pick, rows);
            weigh(sums, j, level_of(&shape->levels, transpose(rows)), hi, lo);
        }
    }
}

/* Blocks with one plane have but two levels to choose from, by a mask: index 96 or 32, and 64 where
 * the plane has ended. */
KERNEL_INLINE void long_single(struct sums *sums, const struct kernel_codes *plan,
                               const struct kernel_query8 *query, const struct long_plan *shape,
                               const uint8_t *const *code)
{
    __m512i none = _mm512_set1_epi8((char)plan->level[64]);
    for (uint32_t b = shape->reach[2]; b < shape->reach[1]; b++) {
        uint32_t groups = plan->groups[0] - b * 8, start = plan->plane_start[0] + b * 8;
        uint32_t at = load_at(plan, start), shift = 8 * (start - at);
        __mmask64 coded = first_lanes(groups < 8 ? groups * 8 : 64);
        __m512i clear = _mm512_mask_mov_epi8(none, coded, _mm512_set1_epi8((char)plan->level[32]));
        __m512i set = _mm512_mask_mov_epi8(none, coded, _mm512_set1_epi8((char)plan->level[96]));
        __m512i hi = _mm512_loadu_si512(query->hi + b * KERNEL_BLOCK);
        __m512i lo = _mm512_loadu_si512(query->lo + b * KERNEL_BLOCK);
        KERNEL_UNROLL
        for (int j = 0; j < BATCH; j++) {
            __mmask64 bits = le_load64(code[j] + at) >> shift;
            weigh(sums, j, _mm512_mask_blend_epi8(bits, clear, set), hi, lo);
        }
    }
}

static void long_prepare(struct long_plan *shape, const struct kernel_codes *plan)
{
    assert(plan->dim <= KERNEL_DIM_MAX);
    shape->reach[0] = (plan->dim + KERNEL_BLOCK - 1) / KERNEL_BLOCK;
    for (uint32_t p = 0; p < KERNEL_PLANES_MAX; p++)
        shape->reach[p + 1] = (plan->groups[p] + 7) / 8;
    shape->reach[KERNEL_PLANES_MAX + 1] = 0;
    for (uint32_t b = 0; b < shape->reach[2]; b++)
        shape->rows[b] = block_rows(plan, b);
    shape->levels.low = _mm512_loadu_si512(plan->level);
    shape->levels.high = _mm512_loadu_si512(plan->level + 64);
}

KERNEL_INLINE void long_codes(float *out, const struct kernel_codes *plan,
                              const struct kernel_query8 *query, const uint8_t *codes,
                              const uint32_t *ids, bool scattered, size_t count)
{
    struct long_plan shape;
    long_prepare(&shape, plan);
    struct rest rest = score_rest(plan, query, shape.reach[1]);
    size_t code_bytes = plan->code_bytes, ahead = kernel_ahead(code_bytes);
    if (scattered)
        kernel_prefetch(codes, code_bytes, code_bytes, ids, 0, ahead, count);
    for (size_t i = 0; i < count; i += BATCH) {
        if (scattered)
            kernel_prefetch(codes, code_bytes, code_bytes, ids, i + ahead, i + ahead + BATCH,
                            count);
        const uint8_t *code[BATCH];
        kernel_batch(code, BATCH, codes, code_bytes, ids, scattered, i, count);
        struct sums sums = {0};
        long_blocks(&sums, plan, query, &shape, code, 6);
        long_blocks(&sums, plan, query, &shape, code, 5);
        long_blocks(&sums, plan, query, &shape, code, 4);
        long_blocks(&sums, plan, query, &shape, code, 3);
        long_blocks(&sums, plan, query, &shape, code, 2);
        long_single(&sums, plan, query, &shape, code);
        store_scores(out + i, &sums, rest, count - i);
    }
}

/* One copy of the loop for each way to load, and number of blocks when they are few. */
KERNEL_INLINE void short_sized(float *out, const struct kernel_codes *plan,
                               const struct kernel_query8 *query, const uint8_t *codes,
                               const uint32_t *ids, bool scattered, size_t count, uint32_t blocks,
                               bool trellis)
{
    if (plan->code_bytes <= 32)
        short_codes(out, plan, query, codes, ids, scattered, count, blocks, 16, trellis);
    else if (plan->code_bytes <= 64)
        short_codes(out, plan, query, codes, ids, scattered, count, blocks, 32, trellis);
    else
        short_codes(out, plan, query, codes, ids, scattered, count, blocks, 64, trellis);
}

KERNEL_INLINE void held_sized(float *out, const struct kernel_codes *plan,
                              const struct kernel_query8 *query, const uint8_t *codes,
                              const uint32_t *ids, bool scattered, size_t count, bool trellis)
{
    if (plan->code_bytes <= 32)
        held_codes(out, plan, query, codes, ids, scattered, count, 16, trellis);
    else if (plan->code_bytes <= 64)
        held_codes(out, plan, query, codes, ids, scattered, count, 32, trellis);
    else
        held_codes(out, plan, query, codes, ids, scattered, count, 64, trellis);
}

KERNEL_INLINE void registers_codes(float *out, const struct kernel_codes *plan,
                                   const struct kernel_query8 *query, const uint8_t *codes,
                                   const uint32_t *ids, bool scattered, size_t count, bool trellis)
{
    uint32_t blocks = (plan->groups[0] + 7) / 8;
    if (blocks > SHORT_BLOCKS || plan->dim > SHORT_DIM)
        held_sized(out, plan, query, codes, ids, scattered, count, trellis);
    else if (blocks == 1)
        short_sized(out, plan, query, codes, ids, scattered, count, 1, trellis);
    else if (blocks == 2)
        short_sized(out, plan, query, codes, ids, scattered, count, 2, trellis);
    else if (blocks == 3)
        short_sized(out, plan, query, codes, ids, scattered, count, 3, trellis);
    else
        short_sized(out, plan, query, codes, ids, scattered, count, 4, trellis);
}

KERNEL_INLINE void codes_any(float *out, const struct kernel_codes *plan,
                             const struct kernel_query8 *query, const uint8_t *codes,
                             const uint32_t *ids, bool scattered, size_t count)
{
    if (plan->trellis)
        registers_codes(out, plan, query, codes, ids, scattered, count, true);
    else if (plan->groups[0] == 0 || plan->code_bytes > HELD_BYTES)
        long_codes(out, plan, query, codes, ids, scattered, count);
    else
        registers_codes(out, plan, query, codes, ids, scattered, count, false);
}

void codes_rows_avx512(float *out, const struct kernel_codes *plan,
                       const struct kernel_query8 *query, const uint8_t *codes, size_t count)
{
    codes_any(out, plan, query, codes, NULL, false, count);
}

void codes_gather_avx512(float *out, const struct kernel_codes *plan,
                         const struct kernel_query8 *query, const uint8_t *codes,
                         const uint32_t *ids, size_t count)
{
    codes_any(out, plan, query, codes, ids, true, count);
}

/* ---- sliced codes ---- */

/* Sums of 16-bit lanes, kept twice: of whole words, from which what odd bytes carry is taken off in
 * the end, and of odd bytes alone. */
struct sliced {
    __m512i all, odd;
};

/* The sums of 16 rows from those of their even and odd bytes in four columns each. */
KERNEL_INLINE __m512i sliced_rows(struct sliced sums)
{
    __m512i even = _mm512_sub_epi16(sums.all, _mm512_slli_epi16(sums.odd, 8));
    __m256i even2 =
        _mm256_add_epi16(_mm512_castsi512_si256(even), _mm512_extracti64x4_epi64(even, 1));
    __m256i odd2 =
        _mm256_add_epi16(_mm512_castsi512_si256(sums.odd), _mm512_extracti64x4_epi64(sums.odd, 1));
    __m128i even1 =
        _mm_add_epi16(_mm256_castsi256_si128(even2), _mm256_extracti128_si256(even2, 1));
    __m128i odd1 = _mm_add_epi16(_mm256_castsi256_si128(odd2), _mm256_extracti128_si256(odd2, 1));
    __m256i rows = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_unpacklo_epi16(even1, odd1)),
                                           _mm_unpackhi_epi16(even1, odd1), 1);
    return _mm512_cvtepu16_epi32(rows);
}

/* Four columns at once, one in each 128-bit lane, each with tables of its own. */
void sliced_sums_avx512(float *out, const uint8_t *tables, const uint8_t *blocks, uint32_t columns,
                        size_t count)
{
    enum { GROUPS_AT_ONCE = KERNEL_COLUMNS_AT_ONCE / 4 };
    uint32_t whole = columns / 4, groups = kernel_padded_columns(columns) / 4;
    __mmask64 rest = first_lanes(columns % 4 * KERNEL_LANES);
    const __m512i nibble = _mm512_set1_epi8(15);
    const uint8_t *high_tables = tables + (size_t)groups * 64;
    for (size_t b = 0; b < count; b++, blocks += (size_t)columns * KERNEL_LANES) {
        __m512i total = _mm512_setzero_si512();
        for (uint32_t g = 0; g < groups;) {
            uint32_t end = groups - g < GROUPS_AT_ONCE ? groups : g + GROUPS_AT_ONCE;
            struct sliced sums = {_mm512_setzero_si512(), _mm512_setzero_si512()};
            for (; g < end; g++) {
                __m512i bytes = g < whole ? _mm512_loadu_si512(blocks + g * 64)
                                          : _mm512_maskz_loadu_epi8(rest, blocks + g * 64);
                __m512i low = _mm512_shuffle_epi8(_mm512_loadu_si512(tables + g * 64),
                                                  _mm512_and_si512(bytes, nibble));
                __m512i high =
                    _mm512_shuffle_epi8(_mm512_loadu_si512(high_tables + g * 64),
                                        _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble));
                __m512i sum = _mm512_add_epi8(low, high);
                sums.all = _mm512_add_epi16(sums.all, sum);
                sums.odd = _mm512_add_epi16(sums.odd, _mm512_srli_epi16(sum, 8));
            }
            total = _mm512_add_epi32(total, sliced_rows(sums));
        }
        _mm512_storeu_ps(out + b * KERNEL_LANES, _mm512_cvtepi32_ps(total));
    }
}

/* ---- half a byte a dimension ---- */

/* kernel_step_weight of every dimension in two signed bytes, hi * 128 + lo, up to a multiple of 32.
 */
struct step_weights {
    int8_t hi[KERNEL_DIM_MAX + 32], lo[KERNEL_DIM_MAX + 32];
};

/* The product of a weight and a step times 2^11, rounded, is that of a rounding multiply. */
static void weigh_steps(struct step_weights *out, const int16_t *weights, const uint8_t *steps,
                        uint32_t dim)
{
    for (uint32_t d = 0; d < dim; d += 32) {
        __mmask32 there = (__mmask32)first_lanes(dim - d < 32 ? dim - d : 32);
        __m512i step =
            _mm512_slli_epi16(_mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(there, steps + d)), 11);
        __m512i weight = _mm512_mulhrs_epi16(_mm512_loadu_si512(weights + d), step);
        __m512i hi = _mm512_srai_epi16(_mm512_add_epi16(weight, _mm512_set1_epi16(64)), 7);
        __m512i lo = _mm512_sub_epi16(weight, _mm512_slli_epi16(hi, 7));
        _mm256_storeu_si256((__m256i *)(void *)(out->hi + d), _mm512_cvtepi16_epi8(hi));
        _mm256_storeu_si256((__m256i *)(void *)(out->lo + d), _mm512_cvtepi16_epi8(lo));
    }
}

struct nibbles {
    __m512i hi, lo;
};

KERNEL_INLINE void nibble_step(struct nibbles *sums, __m512i values, __m512i hi, __m512i lo)
{
    sums->hi = _mm512_dpbusd_epi32(sums->hi, values, hi);
    sums->lo = _mm512_dpbusd_epi32(sums->lo, values, lo);
}

KERNEL_INLINE __m512i same_four(const int8_t *weights)
{
    return _mm512_set1_epi32((int32_t)le_load32(weights));
}

/* Two blocks at once, which share the weights. Lower and upper halves are summed up by themselves:
 * more sums that wait for nothing but their own last addition. */
KERNEL_INLINE void nibble_pair(float *out, const struct step_weights *weights,
                               const uint8_t *const *block, const uint8_t *next, uint32_t dim,
                               size_t count)
{
    const __m512i nibble = _mm512_set1_epi8(15), zero = _mm512_setzero_si512();
    struct nibbles lower[2] = {{zero, zero}, {zero, zero}}, upper[2] = {{zero, zero}, {zero, zero}};
    for (size_t at = 0; at < dim; at += 8) {
        __m512i hi = same_four(weights->hi + at), hi4 = same_four(weights->hi + at + 4);
        __m512i lo = same_four(weights->lo + at), lo4 = same_four(weights->lo + at + 4);
        KERNEL_UNROLL
        for (size_t j = 0; j < 2; j++) {
            _mm_prefetch((const char *)next + (at + 4 * j) * KERNEL_LANES, _MM_HINT_T0);
            __m512i bytes = _mm512_loadu_si512(block[j] + at / 2 * KERNEL_LANES);
            nibble_step(&lower[j], _mm512_and_si512(bytes, nibble), hi, lo);
            nibble_step(&upper[j], _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble), hi4, lo4);
        }
    }
    for (size_t j = 0; j < count; j++) {
        __m512i hi = _mm512_add_epi32(lower[j].hi, upper[j].hi),
                lo = _mm512_add_epi32(lower[j].lo, upper[j].lo);
        _mm512_storeu_ps(out + j * KERNEL_LANES,
                         _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(hi, 7), lo)));
    }
}

void nibble_sums_avx512(float *out, const int16_t *weights, const uint8_t *steps,
                        const uint8_t *blocks, const uint8_t *next, uint32_t dim, size_t count)
{
    struct step_weights stepped;
    size_t block_bytes = kernel_nibble_bytes(dim);
    weigh_steps(&stepped, weights, steps, dim);
    for (size_t b = 0; b < count; b += 2) {
        const uint8_t *pair[2] = {blocks, b + 1 < count ? blocks + block_bytes : blocks};
        nibble_pair(out + b * KERNEL_LANES, &stepped, pair, next, dim, b + 1 < count ? 2 : 1);
        blocks += 2 * block_bytes;
        next += 2 * block_bytes;
    }
}
