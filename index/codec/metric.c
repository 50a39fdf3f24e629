/* Metrics as transforms into work space, and exact distances for the last step. Pure arithmetic. */
#include "metric.h"

#include <math.h>
#include <string.h>

#include "kernel.h"

void metric_to_f32(enum fathom_dtype dtype, const void *in, size_t count, float *out)
{
    switch (dtype) {
    case FATHOM_F32:
        memmove(out, in, count * sizeof *out);
        break;
    case FATHOM_F16:
        kernels_get()->f16_to_f32(out, in, count);
        break;
    case FATHOM_I8:
        for (size_t i = 0; i < count; i++)
            out[i] = ((const int8_t *)in)[i];
        break;
    case FATHOM_U8:
        for (size_t i = 0; i < count; i++)
            out[i] = ((const uint8_t *)in)[i];
        break;
    }
}

/* Sums in double over eight lanes: exact enough for any f32 input, and the order is fixed. */
static double norm_sq(const float *v, size_t dim)
{
    double lane[8] = {0};
    size_t i = 0;
    for (; i + 8 <= dim; i += 8)
        for (int j = 0; j < 8; j++)
            lane[j] += (double)v[i + j] * v[i + j];
    for (; i < dim; i++)
        lane[0] += (double)v[i] * v[i];
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) +
           ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

static void normalise(uint32_t dim, double norm, const float *in, float *out)
{
    double scale = norm > 0 ? 1 / sqrt(norm) : 0;
    for (uint32_t d = 0; d < dim; d++)
        out[d] = (float)(in[d] * scale);
}

double metric_work_row(enum fathom_metric metric, uint32_t dim, double max_norm, const float *in,
                       float *out)
{
    double norm = norm_sq(in, dim);
    if (metric == FATHOM_METRIC_COS) {
        normalise(dim, norm, in, out);
        return norm;
    }
    memmove(out, in, dim * sizeof *out);
    if (metric == FATHOM_METRIC_IP) {
        double rest = max_norm * max_norm - norm;
        out[dim] = rest > 0 ? (float)sqrt(rest) : 0;
    }
    return norm;
}

double metric_work_query(enum fathom_metric metric, uint32_t dim, const float *in, float *out)
{
    double norm = norm_sq(in, dim);
    if (metric == FATHOM_METRIC_COS) {
        normalise(dim, norm, in, out);
        return norm;
    }
    memmove(out, in, dim * sizeof *out);
    if (metric == FATHOM_METRIC_IP)
        out[dim] = 0;
    return norm;
}

float metric_user_distance(enum fathom_metric metric, double work_distance_sq, double query_norm_sq,
                           double max_norm)
{
    switch (metric) {
    case FATHOM_METRIC_COS:
        return (float)(work_distance_sq / 2);
    case FATHOM_METRIC_IP:
        return (float)((work_distance_sq - query_norm_sq - max_norm * max_norm) / 2);
    default:
        return (float)work_distance_sq;
    }
}

/* Sum of a * b, or of (a - b)^2, in eight double lanes. */
static double dot(const float *a, const float *b, size_t dim)
{
    double lane[8] = {0};
    size_t i = 0;
    for (; i + 8 <= dim; i += 8)
        for (int j = 0; j < 8; j++)
            lane[j] += (double)a[i + j] * b[i + j];
    for (; i < dim; i++)
        lane[0] += (double)a[i] * b[i];
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) +
           ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

static double distance_sq(const float *a, const float *b, size_t dim)
{
    double lane[8] = {0};
    size_t i = 0;
    for (; i + 8 <= dim; i += 8)
        for (int j = 0; j < 8; j++) {
            double difference = (double)a[i + j] - b[i + j];
            lane[j] += difference * difference;
        }
    for (; i < dim; i++) {
        double difference = (double)a[i] - b[i];
        lane[0] += difference * difference;
    }
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) +
           ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

float metric_exact_distance(enum fathom_metric metric, uint32_t dim, const float *query,
                            double query_norm_sq, enum fathom_dtype dtype, const void *vector,
                            float *scratch)
{
    metric_to_f32(dtype, vector, dim, scratch);
    if (metric == FATHOM_METRIC_L2)
        return (float)distance_sq(query, scratch, dim);
    double product = dot(query, scratch, dim);
    if (metric == FATHOM_METRIC_IP)
        return (float)-product;
    double norms = sqrt(query_norm_sq * norm_sq(scratch, dim));
    return norms > 0 ? (float)(1 - product / norms) : 1;
}
