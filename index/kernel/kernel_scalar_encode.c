/* The reference of what the builder makes codes with: cells of a residual's dimensions, and the
 * sums that factors follow from. Doubles in eight lanes, in the one order that every level keeps.
 */
#include "kernel_encode.h"
#include "kernel_paths.h"

enum { LANES = 8 };

/* The join that registers do by halves. */
static double join(const double lane[LANES])
{
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static double norm(const float *x, size_t dim)
{
    double lane[LANES] = {0};
    for (size_t d = 0; d < dim; d++)
        lane[d % LANES] += (double)x[d] * x[d];
    return join(lane);
}

void quantise6_scalar(uint8_t *bits6, const float *y, const float *sigma, const float *edges,
                      size_t dim)
{
    float inverse = kernel_inverse_length(norm(y, dim), norm(sigma, dim));
    for (size_t d = 0; d < dim; d++) {
        float u = sigma[d] > 0 ? y[d] * inverse / sigma[d] : 0;
        unsigned cell = 0;
        for (unsigned step = 32; step; step >>= 1)
            cell += u >= edges[cell + step] ? step : 0;
        bits6[d] = (uint8_t)cell;
    }
}

struct lanes {
    double norm[LANES], square[LANES], product[LANES], centroid[LANES];
};

static void add_unit(struct lanes *lanes, const struct kernel_residual *residual, uint16_t packed)
{
    struct kernel_unit unit = kernel_unit(packed);
    for (unsigned lane = 0; lane < LANES; lane++) {
        size_t d = unit.first + lane;
        uint8_t index = (uint8_t)(2 * residual->bits6[d]);
        int before = residual->level[(index & unit.old_mask) | unit.old_sentinel];
        int after = residual->level[(index & unit.new_mask) | unit.new_sentinel];
        float sigma = residual->sigma[d], y = residual->y[d] * sigma;
        float centroid = residual->centroid[d] * sigma, square = sigma * sigma;
        double change = after - before;
        lanes->product[lane] += y * change;
        lanes->centroid[lane] += centroid * change;
        lanes->square[lane] += square * (change * (after + before - 256));
        if (unit.plane == 0)
            lanes->norm[lane] += (double)residual->y[d] * residual->y[d];
    }
}

void unit_sums_scalar(struct kernel_sums *out, const struct kernel_residual *residual,
                      const uint16_t *units, size_t count)
{
    struct lanes lanes = {0};
    for (size_t i = 0; i < count; i++)
        add_unit(&lanes, residual, units[i]);
    *out = (struct kernel_sums){.norm = join(lanes.norm),
                                .square = join(lanes.square),
                                .product = join(lanes.product),
                                .centroid = join(lanes.centroid)};
}

void trellis_encode_scalar(uint8_t *indexes, const struct kernel_path *path, const uint8_t *cells)
{
    paths_encode(indexes, path, cells);
}

/* ---- what was encoded ---- */

static void add_dimension(struct kernel_decoded *out, const struct kernel_decoding *how, uint32_t d,
                          const uint8_t *cells, const uint8_t *indexes, uint32_t first,
                          uint32_t end)
{
    size_t at = (size_t)how->step_of[d] * KERNEL_PATHS;
    unsigned drop = how->drop ? how->drop[d] : 0, middle = 1u << drop >> 1;
    float sigma = how->sigma[d], centroid = how->centroid[d];
    for (uint32_t row = first; row < end; row++) {
        unsigned index = (unsigned)indexes[at + row] >> drop << drop | middle;
        float x = sigma * how->cells[cells[at + row]], y = sigma * how->values[index];
        out->norm[row] += x * x;
        out->square[row] += y * y;
        out->product[row] += x * y;
        out->centroid[row] += centroid * y;
    }
}

void decoded_sums_scalar(struct kernel_decoded *out, const struct kernel_decoding *how,
                         const uint8_t *cells, const uint8_t *indexes, uint32_t first, uint32_t end)
{
    memset(out, 0, sizeof *out);
    for (uint32_t d = 0; d < how->dim; d++)
        add_dimension(out, how, d, cells, indexes, first, end);
}

void decoded_products_scalar(float *out, const struct kernel_decoding *how, const uint8_t *cells,
                             uint32_t first, uint32_t end)
{
    for (uint32_t row = first; row < end; row++)
        out[row] = 0;
    for (uint32_t d = 0; d < how->dim; d++) {
        const uint8_t *at = cells + (size_t)how->step_of[d] * KERNEL_PATHS;
        float factor = how->centroid[d] * how->sigma[d];
        for (uint32_t row = first; row < end; row++)
            out[row] += factor * how->cells[at[row]];
    }
}
