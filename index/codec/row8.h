/* The 8-bit form of work-space vectors: one unsigned byte a dimension, row[d] = round((x[d] -
 * mean[d]) / step) + 128, clamped to 0..255. One step for all dimensions keeps squared distance a
 * scale away: |x - y|^2 = step^2 * |row_x - row_y|^2. u8 and i8 vectors under l2 are their own
 * 8-bit form, exactly (mean 128 and 0, step 1). It serves the build and centroids.
 *
 * Records, which refine reads and which navigate where the budget allows, are sharper: unless the
 * form is exact, each has a scale of its own behind its bytes (f32, in steps), x[d] ~ mean[d] +
 * step * scale * (row[d] - 128). One outlier in a million rows then costs precision in its row
 * alone (docs/adr/0006). */
#ifndef CODEC_ROW8_H
#define CODEC_ROW8_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "kernel.h"

struct row8_model {
    uint32_t dim;      /* of work space */
    float step;        /* > 0 */
    const float *mean; /* dim */
};

void row8_encode(const struct row8_model *model, const float *work, uint8_t *out);
/* Bytes of a record. */
static inline uint32_t row8_record_bytes(uint32_t dim, bool exact)
{
    return exact ? dim : dim + 4;
}

/* A record with its own scale: out has row8_record_bytes(dim, false). */
void row8_encode_record(const struct row8_model *model, const float *work, uint8_t *out);

/* A query prepared for kernel_score8. Its arrays are owned by the caller: padded = dim rounded up
 * to 64. */
struct row8_query {
    struct kernel_query8 weights; /* hi, lo over (query in row units - 128) / quantum */
    float quantum;                /* weight * quantum = (query - mean) / step; a power of two */
    double norm;                  /* squared norm of (query - mean) / step, as quantised */
    int64_t sum_hi, sum_lo;       /* to take the rows' offset of 128 out of the scores */
};

/* A weight of 15 bits. The quantum keeps every one within them, but for a query so far off that a
 * difference overflows to infinity: those are cut, for the conversion of what no int32_t holds is
 * undefined. */
#define ROW8_WEIGHT_MAX (127 * 128)
static inline int32_t row8_weight(float value)
{
    return (int32_t)nearbyintf(fminf(fmaxf(value, -ROW8_WEIGHT_MAX), ROW8_WEIGHT_MAX));
}

/* units: float[dim], receives (work - mean) / step. hi and lo: padded bytes each, zeroed behind
 * dim. */
void row8_query_init(struct row8_query *query, const struct row8_model *model, const float *work,
                     float *units, int8_t *hi, int8_t *lo);

/* Squared distance in row units (multiply by step^2 for work space). Exact when query and rows are
 * integers. */
static inline float row8_distance(const struct row8_query *query, const struct kernel_score8 *score)
{
    int64_t hi = score->hi - 128 * query->sum_hi, lo = score->lo - 128 * query->sum_lo;
    double dot = (double)(hi * 128 + lo) * query->quantum;
    return (float)(query->norm + score->norm - 2.0 * dot);
}

/* The scale of a record in steps; 1 when records are exact. */
static inline float row8_record_scale(const uint8_t *record, uint32_t dim, bool exact)
{
    float scale = 1;
    if (!exact)
        memcpy(&scale, record + dim, sizeof scale);
    return scale;
}

/* Squared distance to a record of that scale, in row units. */
static inline float row8_record_distance(const struct row8_query *query,
                                         const struct kernel_score8 *score, float scale)
{
    int64_t hi = score->hi - 128 * query->sum_hi, lo = score->lo - 128 * query->sum_lo;
    double dot = (double)(hi * 128 + lo) * query->quantum, s = scale;
    return (float)(query->norm + s * (s * score->norm - 2.0 * dot));
}

#endif
