/* AVX-512: making codes. A group of 8 dimensions is a register of doubles; both halves of the level
 * table are held in registers, and vpermi2b looks up what a unit changes. Nothing is rounded but
 * the sums, in the lanes that kernel.h names, so fused products give what separate ones do. */
#include "kernel_avx512.h"
#include "kernel_encode.h"

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
