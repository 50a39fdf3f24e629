/* One step serves all dimensions. 127 of them reach from the mean to where clamping costs as much
 * as a coarser step would: with outliers, the largest value would waste most of the 256 levels on
 * hardly anything. */
#include "range8.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "mem.h"

#define BIN_SHIFT 17 /* keeps exponent and six bits of the fraction of a non-negative float */
#define BINS      (0x80000000u >> BIN_SHIFT)

static float bin_start(uint32_t bin)
{
    uint32_t bits = bin << BIN_SHIFT;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void column_means(const float *sample, uint32_t count, uint32_t dim, double *sums,
                         float *mean)
{
    memset(sums, 0, dim * sizeof *sums);
    for (size_t row = 0; row < count; row++)
        for (uint32_t d = 0; d < dim; d++)
            sums[d] += sample[row * dim + d];
    for (uint32_t d = 0; d < dim; d++)
        mean[d] = (float)(sums[d] / count);
}

/* How many scalars are how far from their column's mean; returns the farthest. */
static float deviations(const float *sample, uint32_t count, uint32_t dim, const float *mean,
                        uint64_t *bins)
{
    float most = 0;
    for (size_t row = 0; row < count; row++) {
        for (uint32_t d = 0; d < dim; d++) {
            float deviation = fabsf(sample[row * dim + d] - mean[d]);
            uint32_t bits;
            memcpy(&bits, &deviation, sizeof bits);
            bins[bits >> BIN_SHIFT]++;
            most = deviation > most ? deviation : most;
        }
    }
    return most;
}

/* The reach with the least squared error: rounding, step^2 / 12 a scalar, plus what clamping takes
 * off. */
static double best_reach(const uint64_t *bins, float most)
{
    uint32_t top;
    memcpy(&top, &most, sizeof top);
    top >>= BIN_SHIFT;
    uint64_t total = 0, beyond = 0;
    for (uint32_t bin = 0; bin <= top; bin++)
        total += bins[bin];
    double best = most, least = (double)total * most * most / (127.0 * 127 * 12);
    double sum = 0, sum_sq = 0; /* of what lies beyond the reach */
    for (uint32_t bin = top; bin > 0; bin--) {
        double reach = bin_start(bin), middle = 0.5 * (reach + fmin(bin_start(bin + 1), most));
        beyond += bins[bin];
        sum += (double)bins[bin] * middle;
        sum_sq += (double)bins[bin] * middle * middle;
        double clamped = sum_sq - 2 * reach * sum + (double)beyond * reach * reach;
        double error = clamped + (double)(total - beyond) * reach * reach / (127.0 * 127 * 12);
        if (error < least) {
            least = error;
            best = reach;
        }
    }
    return best;
}

int range8_choose(const float *sample, uint32_t count, uint32_t dim, float *mean, float *step)
{
    double *sums = mem_alloc_array(dim, sizeof *sums);
    uint64_t *bins = mem_alloc_array((size_t)BINS + 1, sizeof *bins);
    *step = 1;
    if (sums && bins) {
        column_means(sample, count, dim, sums, mean);
        float most = deviations(sample, count, dim, mean, bins);
        if (most > 0)
            *step = fmaxf((float)(best_reach(bins, most) / 127), 1e-30f);
    }
    int status = sums && bins ? 0 : -ENOMEM;
    mem_free(sums);
    mem_free(bins);
    return status;
}
