/* Centroids to 8-bit rows. Pure arithmetic. */
#include "centroids.h"

struct centroids centroids_of(const uint8_t *bytes, uint32_t cells, uint32_t dim)
{
    return (struct centroids){.dim = dim,
                              .cells = cells,
                              .clumps = bytes,
                              .blocks = bytes + 2 * (size_t)dim * centroids_clumps(cells)};
}

bool centroids_decode(const struct centroids *centroids, uint32_t cell, uint8_t *row)
{
    const uint8_t *low = centroids_low(centroids, cell), *step = low + centroids->dim,
                  *block = centroids_block(centroids, cell);
    bool right = true;
    for (uint32_t d = 0; d < centroids->dim; d++) {
        uint32_t value =
            low[d] + (uint32_t)step[d] * centroids_value(block, cell % KERNEL_LANES, d);
        row[d] = (uint8_t)value;
        right = right && value <= 255 && step[d] <= CENTROIDS_STEP;
    }
    return right;
}

float centroids_middle_excess(const struct centroids *centroids, uint32_t clump)
{
    const uint8_t *low = centroids_low(centroids, clump * CENTROIDS_CLUMP),
                  *step = low + centroids->dim;
    float sum = 0;
    for (uint32_t d = 0; d < centroids->dim; d++) {
        float above = CENTROIDS_HALFWAY * step[d];
        sum += above * (2 * ((float)low[d] - 128) + above);
    }
    return sum;
}
