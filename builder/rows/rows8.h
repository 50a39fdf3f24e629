/* The 8-bit rows that every stage after reading works on, and exact distances between them. */
#ifndef BUILDER_ROWS8_H
#define BUILDER_ROWS8_H

#include <stdint.h>
#include <string.h>

#include "fathom/error.h"
#include "kernel.h"
#include "mem.h"

/* With x = row - 128: |x - q|^2 = norm_x + bias_q - 2 * <row, q>, where bias_q = |q|^2 + 256 * sum
 * of q. */
struct row8_terms {
    int32_t norm, bias;
};

struct rows8 {
    uint32_t count, dim;
    size_t stride;            /* dim rounded up to 64; bytes behind dim are zero */
    uint8_t *bytes;           /* count x stride */
    struct row8_terms *terms; /* count */
};

/* Zeroed rows. -ENOMEM when there is no memory for them; rows8_fini accepts what is left. */
int rows8_init(struct rows8 *rows, uint32_t count, uint32_t dim) FATHOM_MUST_USE;
void rows8_fini(struct rows8 *rows);
/* Stores one row and its terms. row: dim bytes. */
void rows8_set(struct rows8 *rows, uint32_t at, const uint8_t *row);

/* Takes over all rows of another of the same count and dimension. */
void rows8_copy(struct rows8 *rows, const struct rows8 *from);

static inline const uint8_t *rows8_at(const struct rows8 *rows, uint32_t row)
{
    return rows->bytes + (size_t)row * rows->stride;
}

struct row8_terms rows8_terms_of(const uint8_t *row, uint32_t dim);

/* query = row - 128 in every byte; what lands in the padding meets zeros in the rows. stride bytes,
 * a multiple of 8. */
static inline void rows8_centre(const uint8_t *row, size_t stride, int8_t *query)
{
    for (size_t i = 0; i < stride; i += 8) {
        uint64_t bytes;
        memcpy(&bytes, row + i, sizeof bytes);
        bytes ^= 0x8080808080808080u;
        memcpy(query + i, &bytes, sizeof bytes);
    }
}

/* The panel of up to KERNEL_PANEL rows as queries, for dot_u8s8_panel: KERNEL_PANEL * stride bytes.
 * Places behind count repeat the first row. count >= 1. */
void rows8_panel(const struct rows8 *rows, const uint32_t *ids, uint32_t count, int8_t *panel);

static inline uint32_t rows8_distance_from_dot(const struct row8_terms *row, int32_t query_bias,
                                               int32_t dot)
{
    return (uint32_t)(row->norm + query_bias - 2 * dot);
}

/* Exact squared distance of two 8-bit rows. */
uint32_t rows8_distance(const uint8_t *a, const uint8_t *b, uint32_t dim);

/* Mean of chosen rows, rounded to 8 bits. sums: int64[dim]. */
void rows8_mean(const struct rows8 *rows, const uint32_t *ids, uint32_t count, int64_t *sums,
                uint8_t *out);

#endif
