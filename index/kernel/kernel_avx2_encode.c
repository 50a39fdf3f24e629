/* AVX2: making codes. A group of 8 dimensions is two registers of doubles. What a unit changes is
 * looked up by sixteen bytes at once, eight before and eight after, in the eight parts of the level
 * table. Nothing is rounded but the sums, in the lanes that kernel.h names. */
#include "kernel_avx2.h"
#include "kernel_encode.h"
#include "kernel_paths.h"

/* Lanes 0..3 and 4..7. */
struct wide {
    __m256d low, high;
};

KERNEL_INLINE struct wide widen(__m256 x)
{
    return (struct wide){_mm256_cvtps_pd(_mm256_castps256_ps128(x)),
                         _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))};
}

KERNEL_INLINE struct wide widen_integers(__m256i x)
{
    return (struct wide){_mm256_cvtepi32_pd(_mm256_castsi256_si128(x)),
                         _mm256_cvtepi32_pd(_mm256_extracti128_si256(x, 1))};
}

KERNEL_INLINE void add_product(struct wide *sum, struct wide a, struct wide b)
{
    sum->low = _mm256_fmadd_pd(a.low, b.low, sum->low);
    sum->high = _mm256_fmadd_pd(a.high, b.high, sum->high);
}

KERNEL_INLINE double join(struct wide lanes)
{
    __m256d four = _mm256_add_pd(lanes.low, lanes.high);
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

static double norm(const float *x, size_t dim)
{
    struct wide sum = {_mm256_setzero_pd(), _mm256_setzero_pd()};
    for (size_t d = 0; d < dim; d += 8) {
        struct wide wide = widen(_mm256_loadu_ps(x + d));
        add_product(&sum, wide, wide);
    }
    return join(sum);
}

/* The 64 cells as eight rows of eight: first the row, by the edges that rows begin with, then the
 * place in it, by those between, of which column k holds edge k of every row. Gathering the edges
 * of a binary search took five times as long. */
struct edges {
    __m256 first[8], column[8]; /* those of row and column 0 are not used */
};

static void edges_split(struct edges *out, const float *edges)
{
    for (int k = 1; k < 8; k++) {
        float column[8];
        for (int row = 0; row < 8; row++)
            column[row] = edges[8 * row + k];
        out->column[k] = _mm256_loadu_ps(column);
        out->first[k] = _mm256_set1_ps(edges[8 * k]);
    }
}

/* One less in count where u is at or beyond the edge: masks are -1. */
KERNEL_INLINE __m256i pass_edge(__m256i count, __m256 u, __m256 edge)
{
    return _mm256_add_epi32(count, _mm256_castps_si256(_mm256_cmp_ps(u, edge, _CMP_GE_OQ)));
}

KERNEL_INLINE __m256i cells_of(__m256 u, const struct edges *edges)
{
    __m256i row = _mm256_setzero_si256(), place = row;
    KERNEL_UNROLL
    for (int k = 1; k < 8; k++)
        row = pass_edge(row, u, edges->first[k]);
    row = _mm256_sub_epi32(_mm256_setzero_si256(), row);
    KERNEL_UNROLL
    for (int k = 1; k < 8; k++)
        place = pass_edge(place, u, _mm256_permutevar8x32_ps(edges->column[k], row));
    return _mm256_sub_epi32(_mm256_slli_epi32(row, 3), place);
}

void quantise6_avx2(uint8_t *bits6, const float *y, const float *sigma, const float *edges,
                    size_t dim)
{
    __m256 inverse = _mm256_set1_ps(kernel_inverse_length(norm(y, dim), norm(sigma, dim)));
    struct edges split;
    edges_split(&split, edges);
    for (size_t d = 0; d < dim; d += 8) {
        __m256 spread = _mm256_loadu_ps(sigma + d);
        __m256 some = _mm256_cmp_ps(spread, _mm256_setzero_ps(), _CMP_GT_OQ);
        __m256 u = _mm256_div_ps(_mm256_mul_ps(_mm256_loadu_ps(y + d), inverse), spread);
        __m256i cell = cells_of(_mm256_and_ps(u, some), &split);
        __m128i words =
            _mm_packus_epi32(_mm256_castsi256_si128(cell), _mm256_extracti128_si256(cell, 1));
        _mm_storel_epi64((__m128i *)(void *)(bits6 + d), _mm_packus_epi16(words, words));
    }
}

struct lanes {
    struct wide norm, square, product, centroid;
};

/* level[index] of sixteen indexes below 128: the part that holds one takes it, the others give 0.
 */
KERNEL_INLINE __m128i look_up(const uint8_t *level, __m128i index)
{
    __m128i found = _mm_setzero_si128();
    KERNEL_UNROLL
    for (int part = 0; part < 8; part++) {
        __m128i table = _mm_loadu_si128((const __m128i *)(const void *)(level + 16 * part));
        __m128i at = _mm_sub_epi8(index, _mm_set1_epi8((char)(16 * part)));
        /* beyond 15 the top bit is set, below 0 it was */
        at = _mm_adds_epu8(at, _mm_set1_epi8(0x70));
        found = _mm_or_si128(found, _mm_shuffle_epi8(table, at));
    }
    return found;
}

KERNEL_INLINE __m128i indexes(__m128i doubled, uint8_t mask, uint8_t sentinel)
{
    return _mm_or_si128(_mm_and_si128(doubled, _mm_set1_epi8((char)mask)),
                        _mm_set1_epi8((char)sentinel));
}

KERNEL_INLINE void add_unit(struct lanes *lanes, const struct kernel_residual *residual,
                            struct kernel_unit unit)
{
    size_t d = unit.first;
    __m128i cells = _mm_loadl_epi64((const __m128i *)(const void *)(residual->bits6 + d));
    __m128i doubled = _mm_add_epi8(cells, cells);
    __m128i found = look_up(residual->level,
                            _mm_unpacklo_epi64(indexes(doubled, unit.old_mask, unit.old_sentinel),
                                               indexes(doubled, unit.new_mask, unit.new_sentinel)));
    __m256i before = _mm256_cvtepu8_epi32(found);
    __m256i after = _mm256_cvtepu8_epi32(_mm_srli_si128(found, 8));
    __m256i change = _mm256_sub_epi32(after, before);
    __m256i both = _mm256_sub_epi32(_mm256_add_epi32(after, before), _mm256_set1_epi32(256));
    __m256 sigma = _mm256_loadu_ps(residual->sigma + d), y = _mm256_loadu_ps(residual->y + d);
    __m256 centroid = _mm256_loadu_ps(residual->centroid + d);
    struct wide changes = widen_integers(change);
    add_product(&lanes->product, widen(_mm256_mul_ps(y, sigma)), changes);
    add_product(&lanes->centroid, widen(_mm256_mul_ps(centroid, sigma)), changes);
    add_product(&lanes->square, widen(_mm256_mul_ps(sigma, sigma)),
                widen_integers(_mm256_mullo_epi32(change, both)));
    if (unit.plane == 0)
        add_product(&lanes->norm, widen(y), widen(y));
}

void unit_sums_avx2(struct kernel_sums *out, const struct kernel_residual *residual,
                    const uint16_t *units, size_t count)
{
    struct lanes lanes;
    memset(&lanes, 0, sizeof lanes);
    for (size_t i = 0; i < count; i++)
        add_unit(&lanes, residual, kernel_unit(units[i]));
    *out = (struct kernel_sums){.norm = join(lanes.norm),
                                .square = join(lanes.square),
                                .product = join(lanes.product),
                                .centroid = join(lanes.centroid)};
}

void trellis_encode_avx2(uint8_t *indexes, const struct kernel_path *path, const uint8_t *cells)
{
    paths_encode(indexes, path, cells);
}
