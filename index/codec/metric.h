/* Work space: the Euclidean space in which every metric becomes squared distance, so that graph,
 * cells and codes know one metric only.
 *
 *     l2   the vector itself
 *     cos  the vector at unit length; 1 - cosine = squared distance / 2
 *     ip   a row x gets one more dimension, sqrt(M^2 - |x|^2) with M the largest norm of the rows,
 *          and a query a zero there (Bachrach et al., RecSys 2014):
 *          squared distance = |q|^2 + M^2 - 2 <q, x> */
#ifndef CODEC_METRIC_H
#define CODEC_METRIC_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/fathom.h"

/* Dimension of work space. */
static inline uint32_t metric_work_dim(enum fathom_metric metric, uint32_t dim)
{
    return metric == FATHOM_METRIC_IP ? dim + 1 : dim;
}

/* count scalars of dtype to float. */
void metric_to_f32(enum fathom_dtype dtype, const void *in, size_t count, float *out);

/* A row, or a query, as float[dim] to float[work_dim]. max_norm is M (ip only). Returns the squared
 * norm of the input. A zero vector under cos stays zero. in and out may be the same array. */
double metric_work_row(enum fathom_metric metric, uint32_t dim, double max_norm, const float *in,
                       float *out);
double metric_work_query(enum fathom_metric metric, uint32_t dim, const float *in, float *out);

/* A squared distance in work space as the distance that users see. query_norm_sq is what
 * metric_work_query returned. */
float metric_user_distance(enum fathom_metric metric, double work_distance_sq, double query_norm_sq,
                           double max_norm);

/* The exact distance between a query (float) and a full vector of dtype. scratch: float[dim]. */
float metric_exact_distance(enum fathom_metric metric, uint32_t dim, const float *query,
                            double query_norm_sq, enum fathom_dtype dtype, const void *vector,
                            float *scratch);

#endif
