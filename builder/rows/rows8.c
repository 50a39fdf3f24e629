/* Plain arithmetic on 8-bit rows. Exact, so that no order of summing matters. */
#include "rows8.h"

#include <errno.h>

#include "large.h"

int rows8_init(struct rows8 *rows, uint32_t count, uint32_t dim)
{
    *rows = (struct rows8){.count = count, .dim = dim, .stride = size_round_up(dim, MEM_ALIGN)};
    rows->bytes = large_alloc_array(count, rows->stride);
    rows->terms = large_alloc_array(count, sizeof *rows->terms);
    return rows->bytes && rows->terms ? 0 : -ENOMEM;
}

void rows8_fini(struct rows8 *rows)
{
    mem_free(rows->bytes);
    mem_free(rows->terms);
    *rows = (struct rows8){0};
}

void rows8_set(struct rows8 *rows, uint32_t at, const uint8_t *row)
{
    memcpy(rows->bytes + (size_t)at * rows->stride, row, rows->dim);
    rows->terms[at] = rows8_terms_of(row, rows->dim);
}

void rows8_copy(struct rows8 *rows, const struct rows8 *from)
{
    memcpy(rows->bytes, from->bytes, rows->count * rows->stride);
    memcpy(rows->terms, from->terms, rows->count * sizeof *rows->terms);
}

struct row8_terms rows8_terms_of(const uint8_t *row, uint32_t dim)
{
    int32_t norm = 0, sum = 0;
    for (uint32_t d = 0; d < dim; d++) {
        int32_t x = (int32_t)row[d] - 128;
        norm += x * x;
        sum += x;
    }
    return (struct row8_terms){.norm = norm, .bias = norm + 256 * sum};
}

typedef uint32_t four __attribute__((vector_size(16)));

/* Sixteen bytes of four rows, to the four places of each of their four steps. */
static inline void panel_square(const uint8_t *const *row, size_t at, int8_t *panel)
{
    const four flip = {0x80808080u, 0x80808080u, 0x80808080u, 0x80808080u};
    four a, b, c, d;
    memcpy(&a, row[0] + at, sizeof a);
    memcpy(&b, row[1] + at, sizeof b);
    memcpy(&c, row[2] + at, sizeof c);
    memcpy(&d, row[3] + at, sizeof d);
    four ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5) ^ flip;
    four ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7) ^ flip;
    four cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5) ^ flip;
    four cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7) ^ flip;
    four step[4] = {__builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5),
                    __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7),
                    __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5),
                    __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7)};
    for (int i = 0; i < 4; i++)
        memcpy(panel + (at + 4 * (size_t)i) * KERNEL_PANEL, &step[i], sizeof step[i]);
}

void rows8_panel(const struct rows8 *rows, const uint32_t *ids, uint32_t count, int8_t *panel)
{
    for (uint32_t first = 0; first < KERNEL_PANEL; first += 4) {
        const uint8_t *row[4];
        for (uint32_t i = 0; i < 4; i++)
            row[i] = rows8_at(rows, ids[first + i < count ? first + i : 0]);
        for (size_t at = 0; at < rows->stride; at += sizeof(four))
            panel_square(row, at, panel + first * sizeof(uint32_t));
    }
}

uint32_t rows8_distance(const uint8_t *a, const uint8_t *b, uint32_t dim)
{
    uint32_t distance = 0;
    for (uint32_t d = 0; d < dim; d++) {
        int32_t difference = (int32_t)a[d] - b[d];
        distance += (uint32_t)(difference * difference);
    }
    return distance;
}

/* Dimensions that are added up together, of which strides are multiples, as vectors of the width
 * that every machine has; and rows whose bytes a sum of 16 bits holds, which is half the work of
 * sums of 32. */
#define MEAN_BLOCK 64
#define MEAN_ROWS  257
#define MEAN_LANES 8
/* So that sums stay in registers. */
#ifdef __clang__
#define MEAN_UNROLL _Pragma("unroll")
#else
#define MEAN_UNROLL _Pragma("GCC unroll 8")
#endif

typedef uint8_t lanes8 __attribute__((vector_size(MEAN_LANES)));
typedef uint16_t lanes16 __attribute__((vector_size(2 * MEAN_LANES)));

/* Into sums, from dimension first on. */
static void add_block(const struct rows8 *rows, const uint32_t *ids, uint32_t count, uint32_t first,
                      int64_t *sums)
{
    lanes16 block[MEAN_BLOCK / MEAN_LANES] = {0};
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *row = rows8_at(rows, ids[i]) + first;
        MEAN_UNROLL
        for (uint32_t d = 0; d < MEAN_BLOCK / MEAN_LANES; d++) {
            lanes8 bytes;
            memcpy(&bytes, row + (size_t)d * MEAN_LANES, sizeof bytes);
            block[d] += __builtin_convertvector(bytes, lanes16);
        }
    }
    for (uint32_t d = 0; d < MEAN_BLOCK && first + d < rows->dim; d++)
        sums[first + d] += block[d / MEAN_LANES][d % MEAN_LANES];
}

void rows8_mean(const struct rows8 *rows, const uint32_t *ids, uint32_t count, int64_t *sums,
                uint8_t *out)
{
    memset(sums, 0, rows->dim * sizeof *sums);
    for (uint32_t i = 0, take; i < count; i += take) {
        take = count - i < MEAN_ROWS ? count - i : MEAN_ROWS;
        for (uint32_t first = 0; first < rows->stride; first += MEAN_BLOCK)
            add_block(rows, ids + i, take, first, sums);
    }
    for (uint32_t d = 0; d < rows->dim; d++)
        out[d] = (uint8_t)((sums[d] + count / 2) / count);
}
