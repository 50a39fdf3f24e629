/* Centroids in four bits a dimension: cells lie in the order of space, so that those of a clump are
 * alike, and what one is above the lowest of its clump is a few steps.
 *
 *     row[d] = low[clump][d] + step[clump][d] * value, value 0 to 15
 *
 * Codes describe rows beside these centroids, not beside those that k-means found, so that nothing
 * is lost but a little of what a code could have told. Steps are whole, and so are centroids: they
 * are 8-bit rows.
 *
 * The bytes are those of the file: low and step of each clump, then values in blocks of
 * KERNEL_LANES cells, as nibble_sums reads them. */
#ifndef CODEC_CENTROIDS_H
#define CODEC_CENTROIDS_H

#include <stdbool.h>

#include "kernel.h"
#include "mem.h"

#define CENTROIDS_CLUMP  32 /* cells; a multiple of KERNEL_LANES */
#define CENTROIDS_VALUES 16
#define CENTROIDS_STEP   KERNEL_STEP_MAX /* the largest */
#define CENTROIDS_HALFWAY                                                                          \
    ((CENTROIDS_VALUES - 1) / 2.0f) /* steps from the low of a clump to its middle */

struct centroids {
    uint32_t dim, cells;
    const uint8_t *clumps; /* of each low and step, dim bytes each */
    const uint8_t *blocks; /* blocks x centroids_block_bytes */
};

static inline uint64_t centroids_clumps(uint64_t cells)
{
    return (cells + CENTROIDS_CLUMP - 1) / CENTROIDS_CLUMP;
}

static inline uint64_t centroids_blocks(uint64_t cells)
{
    return (cells + KERNEL_LANES - 1) / KERNEL_LANES;
}

static inline size_t centroids_block_bytes(uint32_t dim)
{
    return kernel_nibble_bytes(dim);
}

static inline uint64_t centroids_bytes(uint64_t cells, uint32_t dim)
{
    return 2 * (uint64_t)dim * centroids_clumps(cells) +
           centroids_blocks(cells) * centroids_block_bytes(dim);
}

/* The parts of centroids_bytes bytes. */
struct centroids centroids_of(const uint8_t *bytes, uint32_t cells, uint32_t dim);

/* Where a value lies: the byte of a block, and by how many bits it is shifted there. */
static inline size_t centroids_byte(uint32_t lane, uint32_t d)
{
    return ((size_t)(d / 8) * KERNEL_LANES + lane) * 4 + d % 4;
}
static inline unsigned centroids_shift(uint32_t d)
{
    return d % 8 / 4 * 4;
}

static inline uint8_t centroids_value(const uint8_t *block, uint32_t lane, uint32_t d)
{
    return block[centroids_byte(lane, d)] >> centroids_shift(d) & (CENTROIDS_VALUES - 1);
}

/* Of the clump of a cell; its step follows. */
static inline const uint8_t *centroids_low(const struct centroids *centroids, uint32_t cell)
{
    return centroids->clumps + (size_t)(cell / CENTROIDS_CLUMP) * 2 * centroids->dim;
}

static inline const uint8_t *centroids_block(const struct centroids *centroids, uint32_t cell)
{
    return centroids->blocks + cell / KERNEL_LANES * centroids_block_bytes(centroids->dim);
}

/* |middle|^2 - |low|^2 of a clump, both less 128. */
float centroids_middle_excess(const struct centroids *centroids, uint32_t clump);

/* The row of a cell; false when it is none: above 255 somewhere, or by too large a step. */
bool centroids_decode(const struct centroids *centroids, uint32_t cell, uint8_t *row);

#endif
