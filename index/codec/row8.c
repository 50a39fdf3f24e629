/* The 8-bit form of rows, and 15-bit queries against it. Pure arithmetic. */
#include "row8.h"

#include <math.h>
#include <string.h>

#include "mem.h"

void row8_encode(const struct row8_model *model, const float *work, uint8_t *out)
{
    float inverse = 1 / model->step;
    for (uint32_t d = 0; d < model->dim; d++) {
        float value = nearbyintf((work[d] - model->mean[d]) * inverse) + 128;
        out[d] = value <= 0 ? 0 : value >= 255 ? 255 : (uint8_t)value;
    }
}

void row8_encode_record(const struct row8_model *model, const float *work, uint8_t *out)
{
    uint32_t dim = model->dim;
    float max = 0;
    for (uint32_t d = 0; d < dim; d++)
        max = fmaxf(max, fabsf(work[d] - model->mean[d]));
    float scale = max / model->step / 127, inverse = max > 0 ? 127 / max : 0;
    for (uint32_t d = 0; d < dim; d++)
        out[d] = (uint8_t)(nearbyintf((work[d] - model->mean[d]) * inverse) + 128);
    memcpy(out + dim, &scale, sizeof scale);
}

/* The smallest power of two with max / quantum <= 127 * 128, at which integers up to 127 stay
 * exact. */
static float weight_quantum(float max)
{
    int exponent;
    if (!(max > 0) || isinf(max))
        return 1;
    float fraction = frexpf(max / ROW8_WEIGHT_MAX, &exponent);
    return ldexpf(1, fraction == 0.5f ? exponent - 1 : exponent);
}

void row8_query_init(struct row8_query *query, const struct row8_model *model, const float *work,
                     float *units, int8_t *hi, int8_t *lo)
{
    uint32_t dim = model->dim, padded = size_round_up(dim, 64);
    float max = 0;
    for (uint32_t d = 0; d < dim; d++) {
        units[d] = (work[d] - model->mean[d]) / model->step;
        max = fmaxf(max, fabsf(units[d]));
    }
    *query = (struct row8_query){.weights = {.hi = hi, .lo = lo, .dim = dim},
                                 .quantum = weight_quantum(max)};
    float inverse = 1 / query->quantum;
    int64_t norm = 0;
    for (uint32_t d = 0; d < dim; d++) {
        int32_t weight = row8_weight(units[d] * inverse);
        int32_t high = (weight + 64) >> 7;
        hi[d] = (int8_t)high;
        lo[d] = (int8_t)(weight - high * 128);
        query->sum_hi += hi[d];
        query->sum_lo += lo[d];
        norm += (int64_t)weight * weight;
    }
    for (uint32_t d = dim; d < padded; d++)
        hi[d] = lo[d] = 0;
    query->norm = (double)norm * query->quantum * query->quantum;
}
