/* AVX-512: making codes. A group of 8 dimensions is a register of doubles; both halves of the level
 * table are held in registers, and vpermi2b looks up what a unit changes. Nothing is rounded but
 * the sums, in the lanes that kernel.h names, so fused products give what separate ones do. */
#include "kernel_avx512.h"
#include "kernel_encode.h"
#include "kernel_paths.h"

/* All states at once, in registers. */
#if defined(__clang__)
#define PATHS_UNROLL _Pragma("unroll")
#else
#define PATHS_UNROLL _Pragma("GCC unroll 16")
#endif

KERNEL_INLINE double join(__m512d lanes)
{
    __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(lanes), _mm512_extractf64x4_pd(lanes, 1));
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

static double norm(const float *x, size_t dim)
{
    __m512d sum = _mm512_setzero_pd();
    for (size_t d = 0; d < dim; d += 8) {
        __m512d wide = _mm512_cvtps_pd(_mm256_loadu_ps(x + d));
        sum = _mm512_fmadd_pd(wide, wide, sum);
    }
    return join(sum);
}

/* edges[at], of 64 in four registers. */
KERNEL_INLINE __m512 edge_at(const __m512 *edges, __m512i at)
{
    __m512 low = _mm512_permutex2var_ps(edges[0], at, edges[1]);
    __m512 high = _mm512_permutex2var_ps(edges[2], at, edges[3]);
    return _mm512_mask_blend_ps(_mm512_test_epi32_mask(at, _mm512_set1_epi32(32)), low, high);
}

void quantise6_avx512(uint8_t *bits6, const float *y, const float *sigma, const float *edges,
                      size_t dim)
{
    __m512 inverse = _mm512_set1_ps(kernel_inverse_length(norm(y, dim), norm(sigma, dim)));
    __m512 edge[4];
    for (int i = 0; i < 4; i++)
        edge[i] = _mm512_loadu_ps(edges + 16 * i);
    for (size_t d = 0; d < dim; d += 16) {
        __mmask16 lanes = dim - d < 16 ? 0xff : 0xffff;
        __m512 spread = _mm512_maskz_loadu_ps(lanes, sigma + d);
        __mmask16 some = _mm512_cmp_ps_mask(spread, _mm512_setzero_ps(), _CMP_GT_OQ);
        __m512 u = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, y + d), inverse);
        u = _mm512_maskz_div_ps(some, u, spread);
        __m512i cell = _mm512_setzero_si512();
        KERNEL_UNROLL
        for (int step = 32; step; step >>= 1) {
            __m512i next = _mm512_add_epi32(cell, _mm512_set1_epi32(step));
            __mmask16 beyond = _mm512_cmp_ps_mask(u, edge_at(edge, next), _CMP_GE_OQ);
            cell = _mm512_mask_mov_epi32(cell, beyond, next);
        }
        _mm_mask_storeu_epi8(bits6 + d, lanes, _mm512_cvtepi32_epi8(cell));
    }
}

struct lanes {
    __m512d norm, square, product, centroid;
};

/* The levels, 0..255, of the eight dimensions whose doubled cells are given. */
KERNEL_INLINE __m256i levels_of(const __m512i *level, __m512i doubled, uint8_t mask,
                                uint8_t sentinel)
{
    __m512i index = _mm512_or_si512(_mm512_and_si512(doubled, _mm512_set1_epi8((char)mask)),
                                    _mm512_set1_epi8((char)sentinel));
    __m512i found = _mm512_permutex2var_epi8(level[0], index, level[1]);
    return _mm256_cvtepu8_epi32(_mm512_castsi512_si128(found));
}

KERNEL_INLINE void add_unit(struct lanes *lanes, const struct kernel_residual *residual,
                            const __m512i *level, struct kernel_unit unit)
{
    size_t d = unit.first;
    __m512i cells = _mm512_castsi128_si512(
        _mm_loadl_epi64((const __m128i *)(const void *)(residual->bits6 + d)));
    __m512i doubled = _mm512_add_epi8(cells, cells);
    __m256i before = levels_of(level, doubled, unit.old_mask, unit.old_sentinel);
    __m256i after = levels_of(level, doubled, unit.new_mask, unit.new_sentinel);
    __m512d change = _mm512_cvtepi32_pd(_mm256_sub_epi32(after, before));
    __m512d both = _mm512_cvtepi32_pd(
        _mm256_sub_epi32(_mm256_add_epi32(after, before), _mm256_set1_epi32(256)));
    __m256 sigma = _mm256_loadu_ps(residual->sigma + d), y = _mm256_loadu_ps(residual->y + d);
    __m256 centroid = _mm256_loadu_ps(residual->centroid + d);
    lanes->product =
        _mm512_fmadd_pd(_mm512_cvtps_pd(_mm256_mul_ps(y, sigma)), change, lanes->product);
    lanes->centroid =
        _mm512_fmadd_pd(_mm512_cvtps_pd(_mm256_mul_ps(centroid, sigma)), change, lanes->centroid);
    lanes->square = _mm512_fmadd_pd(_mm512_cvtps_pd(_mm256_mul_ps(sigma, sigma)),
                                    _mm512_mul_pd(change, both), lanes->square);
    if (unit.plane == 0)
        lanes->norm = _mm512_fmadd_pd(_mm512_cvtps_pd(y), _mm512_cvtps_pd(y), lanes->norm);
}

void unit_sums_avx512(struct kernel_sums *out, const struct kernel_residual *residual,
                      const uint16_t *units, size_t count)
{
    struct lanes lanes = {_mm512_setzero_pd(), _mm512_setzero_pd(), _mm512_setzero_pd(),
                          _mm512_setzero_pd()};
    __m512i level[2] = {_mm512_loadu_si512(residual->level),
                        _mm512_loadu_si512(residual->level + 64)};
    for (size_t i = 0; i < count; i++)
        add_unit(&lanes, residual, level, kernel_unit(units[i]));
    *out = (struct kernel_sums){.norm = join(lanes.norm),
                                .square = join(lanes.square),
                                .product = join(lanes.product),
                                .centroid = join(lanes.centroid)};
}

/* ---- paths through trellises ---- */

enum { HALF = KERNEL_PATHS / 2 }; /* of the paths, whose sums fill a register */

/* error * weight / 256: the upper half of the product of 256 times the error. */
KERNEL_INLINE __m512i step_of(const uint8_t *errors, __m512i cells, __m512i weights)
{
    __m512i error = _mm512_permutexvar_epi8(cells, _mm512_loadu_si512(errors));
    __m512i wide = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(error));
    return _mm512_mulhi_epu16(_mm512_slli_epi16(wide, 8), weights);
}

KERNEL_INLINE void bring_down(__m512i *sums)
{
    __m512i least = sums[0];
    for (uint32_t s = 1; s < KERNEL_STATES; s++)
        least = _mm512_min_epu16(least, sums[s]);
    for (uint32_t s = 0; s < KERNEL_STATES; s++)
        sums[s] = _mm512_sub_epi16(sums[s], least);
}

/* Of half of the paths; from[2 * to] says of each step which ones come from the upper of the two
 * states that lead to `to`. */
KERNEL_INLINE void go_forward_half(__m512i *sums, uint32_t *from, const struct kernel_path *path,
                                   const uint8_t *cells)
{
    for (uint32_t t = 0; t < path->steps; t++, from += 2 * KERNEL_STATES) {
        __m512i some = _mm512_castsi256_si512(
            _mm256_loadu_si256((const void *)(cells + (size_t)t * KERNEL_PATHS)));
        __m512i weight = _mm512_set1_epi16((short)path->weights[t]);
        __m512i step[4], next[KERNEL_STATES];
        KERNEL_UNROLL
        for (uint32_t i = 0; i < 4; i++)
            step[i] = step_of(paths_table(path->errors, path->bits[t], i / 2, i % 2), some, weight);
        PATHS_UNROLL
        for (uint32_t to = 0; to < KERNEL_STATES; to++) {
            uint32_t s = to >> 1, kind = (to & 1) * 2 + paths_parity(s);
            __m512i a = _mm512_add_epi16(sums[s], step[kind]);
            __m512i b = _mm512_add_epi16(sums[s + PATHS_UPPER], step[kind ^ 1]);
            from[2 * to] = _mm512_cmplt_epu16_mask(b, a);
            next[to] = _mm512_min_epu16(a, b);
        }
        PATHS_UNROLL
        for (uint32_t s = 0; s < KERNEL_STATES; s++)
            sums[s] = next[s];
        if (t % PATHS_STEPS == PATHS_STEPS - 1)
            bring_down(sums);
    }
}

/* Sums of all paths: of each half the states. */
struct path_sums {
    __m512i half[2][KERNEL_STATES];
};

static void go_forward(struct path_sums *sums, const struct kernel_path *path, const uint8_t *cells)
{
    for (uint32_t h = 0; h < 2; h++) {
        __m512i now[KERNEL_STATES];
        memcpy(now, sums->half[h], sizeof now);
        go_forward_half(now, (uint32_t *)(void *)path->work + h, path, cells + (size_t)h * HALF);
        memcpy(sums->half[h], now, sizeof now);
    }
}

/* The states, a byte each, that those of a step come from. */
KERNEL_INLINE __m512i states_before(const uint64_t *from, __m512i states)
{
    __mmask64 upper = 0;
    PATHS_UNROLL
    for (uint32_t s = 0; s < KERNEL_STATES; s++)
        upper |= _mm512_mask_cmpeq_epi8_mask(from[s], states, _mm512_set1_epi8((char)s));
    const __m512i lower =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7));
    __m512i before = _mm512_shuffle_epi8(lower, states);
    return _mm512_mask_add_epi8(before, upper, before, _mm512_set1_epi8(PATHS_UPPER));
}

KERNEL_INLINE __m512i indexes_of(const uint8_t *tables, uint32_t bits, __m512i cells,
                                 __mmask64 last, __mmask64 bonus)
{
    __m512i found[4];
    KERNEL_UNROLL
    for (uint32_t i = 0; i < 4; i++)
        found[i] = _mm512_permutexvar_epi8(
            cells, _mm512_loadu_si512(paths_table(tables, bits, i / 2, i % 2)));
    return _mm512_mask_blend_epi8(last, _mm512_mask_blend_epi8(bonus, found[0], found[1]),
                                  _mm512_mask_blend_epi8(bonus, found[2], found[3]));
}

static __m512i go_back(uint8_t *indexes, const struct kernel_path *path, const uint8_t *cells,
                       __m512i states)
{
    const uint64_t *from = (const uint64_t *)(const void *)path->work;
    const __m512i parities =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 1));
    for (uint32_t t = path->steps; t-- > 0;) {
        __m512i before = states_before(from + (size_t)t * KERNEL_STATES, states);
        if (indexes) {
            __m512i bonus = _mm512_shuffle_epi8(parities, before);
            __mmask64 last = _mm512_test_epi8_mask(states, _mm512_set1_epi8(1));
            __m512i some = _mm512_loadu_si512(cells + (size_t)t * KERNEL_PATHS);
            _mm512_storeu_si512(indexes + (size_t)t * KERNEL_PATHS,
                                indexes_of(path->indexes, path->bits[t], some, last,
                                           _mm512_test_epi8_mask(bonus, bonus)));
        }
        states = before;
    }
    return states;
}

/* The first of the best states of half of the paths. */
static __m256i best_states(const __m512i *sums)
{
    __m512i least = sums[0], best = _mm512_setzero_si512();
    for (uint32_t s = 1; s < KERNEL_STATES; s++) {
        __mmask32 less = _mm512_cmplt_epu16_mask(sums[s], least);
        best = _mm512_mask_mov_epi16(best, less, _mm512_set1_epi16((short)s));
        least = _mm512_min_epu16(least, sums[s]);
    }
    return _mm512_cvtepi16_epi8(best);
}

static void begin_at(__m512i *sums, __m256i states)
{
    __m512i wide = _mm512_cvtepu8_epi16(states);
    for (uint32_t s = 0; s < KERNEL_STATES; s++) {
        __mmask32 here = _mm512_cmpeq_epi16_mask(wide, _mm512_set1_epi16((short)s));
        sums[s] = _mm512_maskz_set1_epi16(_knot_mask32(here), PATHS_AWAY);
    }
}

void trellis_encode_avx512(uint8_t *indexes, const struct kernel_path *path, const uint8_t *cells)
{
    struct path_sums sums;
    memset(&sums, 0, sizeof sums);
    go_forward(&sums, path, cells);
    bring_down(sums.half[0]);
    bring_down(sums.half[1]);
    go_forward(&sums, path, cells);
    __m512i states = _mm512_inserti64x4(_mm512_castsi256_si512(best_states(sums.half[0])),
                                        best_states(sums.half[1]), 1);
    states = go_back(NULL, path, cells, states);
    begin_at(sums.half[0], _mm512_castsi512_si256(states));
    begin_at(sums.half[1], _mm512_extracti64x4_epi64(states, 1));
    go_forward(&sums, path, cells);
    go_back(indexes, path, cells, states);
}

/* ---- what was encoded ---- */

enum { ROWS = 16 }; /* at a time: one register of floats, and all tables in registers */

/* table[at], of 64 in four registers. */
KERNEL_INLINE __m512 one_of_64(const __m512 *table, __m512i at)
{
    __m512 low = _mm512_permutex2var_ps(table[0], at, table[1]);
    __m512 high = _mm512_permutex2var_ps(table[2], at, table[3]);
    return _mm512_mask_blend_ps(_mm512_test_epi32_mask(at, _mm512_set1_epi32(32)), low, high);
}

KERNEL_INLINE __m512 one_of_128(const __m512 *table, __m512i at)
{
    __m512 low = one_of_64(table, at), high = one_of_64(table + 4, at);
    return _mm512_mask_blend_ps(_mm512_test_epi32_mask(at, _mm512_set1_epi32(64)), low, high);
}

KERNEL_INLINE __m512i bytes_of_rows(const uint8_t *bytes)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)bytes));
}

KERNEL_INLINE void sums_of_rows(struct kernel_decoded *out, const struct kernel_decoding *how,
                                const uint8_t *cells, const uint8_t *indexes, uint32_t row)
{
    __m512 by_cell[4], by_index[8], norm = _mm512_setzero_ps(), square = norm, product = norm,
                                    against = norm;
    for (int i = 0; i < 4; i++)
        by_cell[i] = _mm512_loadu_ps(how->cells + 16 * i);
    for (int i = 0; i < 8; i++)
        by_index[i] = _mm512_loadu_ps(how->values + 16 * i);
    for (uint32_t d = 0; d < how->dim; d++) {
        size_t at = (size_t)how->step_of[d] * KERNEL_PATHS + row;
        unsigned drop = how->drop ? how->drop[d] : 0;
        __m512i index = bytes_of_rows(indexes + at);
        index = _mm512_and_si512(index, _mm512_set1_epi32((int)(UINT32_MAX << drop)));
        index = _mm512_or_si512(index, _mm512_set1_epi32((int)(1u << drop >> 1)));
        __m512 sigma = _mm512_set1_ps(how->sigma[d]);
        __m512 x = _mm512_mul_ps(sigma, one_of_64(by_cell, bytes_of_rows(cells + at)));
        __m512 y = _mm512_mul_ps(sigma, one_of_128(by_index, index));
        norm = _mm512_add_ps(norm, _mm512_mul_ps(x, x));
        square = _mm512_add_ps(square, _mm512_mul_ps(y, y));
        product = _mm512_add_ps(product, _mm512_mul_ps(x, y));
        against = _mm512_add_ps(against, _mm512_mul_ps(_mm512_set1_ps(how->centroid[d]), y));
    }
    _mm512_storeu_ps(out->norm + row, norm);
    _mm512_storeu_ps(out->square + row, square);
    _mm512_storeu_ps(out->product + row, product);
    _mm512_storeu_ps(out->centroid + row, against);
}

void decoded_sums_avx512(struct kernel_decoded *out, const struct kernel_decoding *how,
                         const uint8_t *cells, const uint8_t *indexes, uint32_t first, uint32_t end)
{
    for (uint32_t row = first / ROWS * ROWS; row < end; row += ROWS)
        sums_of_rows(out, how, cells, indexes, row);
}

void decoded_products_avx512(float *out, const struct kernel_decoding *how, const uint8_t *cells,
                             uint32_t first, uint32_t end)
{
    __m512 by_cell[4];
    for (int i = 0; i < 4; i++)
        by_cell[i] = _mm512_loadu_ps(how->cells + 16 * i);
    for (uint32_t row = first / ROWS * ROWS; row < end; row += ROWS) {
        __m512 sum = _mm512_setzero_ps();
        for (uint32_t d = 0; d < how->dim; d++) {
            __m512 factor = _mm512_set1_ps(how->centroid[d] * how->sigma[d]);
            __m512i some = bytes_of_rows(cells + (size_t)how->step_of[d] * KERNEL_PATHS + row);
            sum = _mm512_add_ps(sum, _mm512_mul_ps(factor, one_of_64(by_cell, some)));
        }
        _mm512_storeu_ps(out + row, sum);
    }
}
