/* Each clump of cells and each dimension by itself: the step and the low that leave the least
 * error.
 */
#include "cells_pack.h"

#include <errno.h>

#include "centroids.h"
#include "error.h"

#define VALUE_MOST (CENTROIDS_VALUES - 1)

struct packing {
    struct cells *cells;
    uint8_t *clumps, *blocks; /* as in struct centroids */
};

/* How the numbers of one dimension of a clump become low + step * value. */
struct grid {
    int low, step;
};

static int nearest_value(int number, struct grid grid)
{
    int above = number - grid.low;
    int value = above > 0 ? (2 * above + grid.step) / (2 * grid.step) : 0;
    value = value < VALUE_MOST ? value : VALUE_MOST;
    return grid.low + grid.step * value > 255 ? value - 1 : value;
}

/* Or more than least, when it is. */
static uint32_t grid_error(const uint8_t *column, uint32_t count, struct grid grid, uint32_t least)
{
    uint32_t error = 0;
    for (uint32_t i = 0; i < count && error <= least; i++) {
        int off = column[i] - grid.low - grid.step * nearest_value(column[i], grid);
        error += (uint32_t)(off * off);
    }
    return error;
}

/* Of the grids of a step those within a step of where the middle of the range is in the middle. */
static void try_step(const uint8_t *column, uint32_t count, int step, int twice_middle,
                     struct grid *best, uint32_t *least)
{
    int first = (twice_middle - VALUE_MOST * step) / 2 - step / 2;
    first = first > 0 ? first : 0;
    for (int low = first; low < first + step; low++) {
        struct grid grid = {.low = low, .step = step};
        uint32_t error = grid_error(column, count, grid, *least);
        *best = error < *least ? grid : *best;
        *least = error < *least ? error : *least;
    }
}

/* Steps that would leave half of the values unused, or half of the range beyond them, are not
 * tried. */
static struct grid best_grid(const uint8_t *column, uint32_t count)
{
    int low = 255, high = 0;
    for (uint32_t i = 0; i < count; i++) {
        low = column[i] < low ? column[i] : low;
        high = column[i] > high ? column[i] : high;
    }
    int from = (high - low) / 30, end = (high - low) / 10 + 1;
    struct grid best = {.low = low, .step = 1};
    uint32_t least = grid_error(column, count, best, UINT32_MAX);
    for (int step = from > 1 ? from : 1; step <= end && step <= CENTROIDS_STEP; step++)
        try_step(column, count, step, low + high, &best, &least);
    return best;
}

static uint32_t clump_size(uint32_t cells, uint32_t first)
{
    return cells - first < CENTROIDS_CLUMP ? cells - first : CENTROIDS_CLUMP;
}

/* Centroids keep what a reader will see. */
static void pack_dim(const struct packing *p, const uint8_t *column, uint32_t first, uint32_t d)
{
    const struct rows8 *centroids = &p->cells->centroids;
    uint32_t count = clump_size(p->cells->count, first), dim = centroids->dim;
    struct grid grid = best_grid(column, count);
    uint8_t *clump = p->clumps + (size_t)(first / CENTROIDS_CLUMP) * 2 * dim;
    clump[d] = (uint8_t)grid.low;
    clump[dim + d] = (uint8_t)grid.step;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t c = first + i;
        int value = nearest_value(column[i], grid);
        uint8_t *block = p->blocks + c / KERNEL_LANES * centroids_block_bytes(dim);
        block[centroids_byte(c % KERNEL_LANES, d)] |= (uint8_t)(value << centroids_shift(d));
        centroids->bytes[c * centroids->stride + d] = (uint8_t)(grid.low + grid.step * value);
    }
}

/* One clump. */
static int pack_block(void *context, uint64_t block, unsigned worker)
{
    (void)worker;
    const struct packing *p = context;
    struct rows8 *centroids = &p->cells->centroids;
    uint32_t first = (uint32_t)block * CENTROIDS_CLUMP, count = clump_size(p->cells->count, first);
    for (uint32_t d = 0; d < centroids->dim; d++) {
        uint8_t column[CENTROIDS_CLUMP];
        for (uint32_t i = 0; i < count; i++)
            column[i] = rows8_at(centroids, first + i)[d];
        pack_dim(p, column, first, d);
    }
    for (uint32_t c = first; c < first + count; c++)
        centroids->terms[c] = rows8_terms_of(rows8_at(centroids, c), centroids->dim);
    return 0;
}

int cells_pack(struct cells *cells, const struct crew *crew, uint8_t **packed,
               struct fathom_error *err)
{
    uint32_t dim = cells->centroids.dim;
    uint8_t *memory = mem_alloc(centroids_bytes(cells->count, dim));
    if (!memory)
        return error_set(err, -ENOMEM, "cells: no memory for centroids");
    struct packing p = {.cells = cells,
                        .clumps = memory,
                        .blocks = memory + 2 * (size_t)dim * centroids_clumps(cells->count)};
    int status = crew_run(crew, crew_blocks(cells->count, CENTROIDS_CLUMP), pack_block, &p);
    if (status != 0) {
        mem_free(memory);
        return error_set(err, status, "cells: %s", fathom_strerror(status));
    }
    *packed = memory;
    return 0;
}
