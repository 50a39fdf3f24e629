/* Built with -O3 (datasets/CMakeLists.txt). Sums run in LANES independent parts, so that they
 * vectorise without being reordered by the compiler. */
#include "exact_scan.h"

#include <stdbool.h>

#define LANES 8
#define PIECE 32 /* rows that are dismissed together: after the first blocks nearly all are */

static bool any_within(const float *dots, const float *offsets, float factor, float limit)
{
    int within = 0;
    for (size_t i = 0; i < PIECE; i++)
        within |= offsets[i] - factor * dots[i] <= limit;
    return within;
}

size_t exact_scan(const float *dots, const float *offsets, float factor, float limit, size_t count,
                  uint32_t *hits)
{
    size_t found = 0;
    for (size_t start = 0; start < count; start += PIECE) {
        size_t end = count - start < PIECE ? count : start + PIECE;
        if (end - start == PIECE && !any_within(dots + start, offsets + start, factor, limit))
            continue;
        for (size_t i = start; i < end; i++) {
            hits[found] = (uint32_t)i;
            found += offsets[i] - factor * dots[i] <= limit;
        }
    }
    return found;
}

static double sum_lanes(const double lanes[LANES])
{
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
           ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

double exact_l2sq(const float *a, const float *b, size_t dim)
{
    double lanes[LANES] = {0}, rest = 0;
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES) {
        for (size_t j = 0; j < LANES; j++) {
            double difference = (double)a[i + j] - (double)b[i + j];
            lanes[j] += difference * difference;
        }
    }
    for (; i < dim; i++)
        rest += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sum_lanes(lanes) + rest;
}

double exact_dot(const float *a, const float *b, size_t dim)
{
    double lanes[LANES] = {0}, rest = 0;
    size_t i = 0;
    for (; i + LANES <= dim; i += LANES) {
        for (size_t j = 0; j < LANES; j++)
            lanes[j] += (double)a[i + j] * (double)b[i + j];
    }
    for (; i < dim; i++)
        rest += (double)a[i] * (double)b[i];
    return sum_lanes(lanes) + rest;
}
