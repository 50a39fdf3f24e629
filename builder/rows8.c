/* Plain arithmetic on 8-bit rows. Exact, so that no order of summing matters. */
#include "rows8.h"

#include <errno.h>

int rows8_init(struct rows8 *rows, uint32_t count, uint32_t dim)
{
    *rows = (struct rows8){.count = count, .dim = dim, .stride = size_round_up(dim, MEM_ALIGN)};
    rows->bytes = mem_alloc_array(count, rows->stride);
    rows->terms = mem_alloc_array(count, sizeof *rows->terms);
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

uint32_t rows8_distance(const uint8_t *a, const uint8_t *b, uint32_t dim)
{
    uint32_t distance = 0;
    for (uint32_t d = 0; d < dim; d++) {
        int32_t difference = (int32_t)a[d] - b[d];
        distance += (uint32_t)(difference * difference);
    }
    return distance;
}

void rows8_mean(const struct rows8 *rows, const uint32_t *ids, uint32_t count, int64_t *sums,
                uint8_t *out)
{
    memset(sums, 0, rows->dim * sizeof *sums);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *row = rows8_at(rows, ids[i]);
        for (uint32_t d = 0; d < rows->dim; d++)
            sums[d] += row[d];
    }
    for (uint32_t d = 0; d < rows->dim; d++)
        out[d] = (uint8_t)((sums[d] + count / 2) / count);
}
