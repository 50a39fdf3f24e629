/* The model of the navigation codes, learnt from a sample of residuals: rotation, allotment of
 * bits, levels, ranges of the factors, and how wrong estimates are. */
#ifndef BUILDER_TRAIN_H
#define BUILDER_TRAIN_H

#include "cells.h"
#include "crew.h"
#include "graph.h"
#include "planes.h"
#include "rows8.h"

struct trained {
    struct planes_model planes; /* its arrays are owned here */
    int8_t *rotation;
    float *rotation_scale, *sigma;
    double *weight; /* of each rotated dimension, falling */
    uint16_t *order;
    struct planes_level *levels;
    uint8_t *level_bytes, *origin;
    float thresholds[64];
};

/* Rows that training looks at, evenly spread: for the axes, for variances along them, for ranges of
 * factors, and as queries. */
#define TRAIN_AXES_ROWS  100000
#define TRAIN_STATS_ROWS 16384
#define TRAIN_RANGE_ROWS 16384
#define TRAIN_QUERY_ROWS 640
#define TRAIN_PAIRS      16 /* rows near a query that its estimates are compared with */

/* All rows in their final order and their lists; or, where they do not fit, of both those that
 * training looks at (gather.h). */
struct train_rows {
    uint32_t count; /* of all rows */
    const struct rows8 *rows;
    const uint32_t *row_numbers; /* which each of rows is, rising; NULL: all are there */
    const struct graph *graph;
    const uint32_t *list_numbers; /* the same of lists */
};

/* Number i of a sample of count evenly spread rows. */
static inline uint32_t train_sample_row(uint32_t rows, uint32_t i, uint32_t count)
{
    return (uint32_t)((uint64_t)i * rows / count);
}

const uint8_t *train_row(const struct train_rows *rows, uint32_t number);
/* Some rows near a row, without itself; out: TRAIN_PAIRS. Looks at the row's list and those of its
 * neighbours. */
uint32_t train_near_rows(const struct train_rows *rows, uint32_t number, uint32_t *out);

/* cells are in their final order; code_bits is 1..PLANES_MAX. */
int train_build(struct trained *out, const struct crew *crew, const struct train_rows *rows,
                const struct cells *cells, uint32_t code_bits,
                struct fathom_error *err) FATHOM_MUST_USE;
void train_fini(struct trained *trained);
/* Bytes of a row's factors at all levels that codes of order_count bytes have. */
uint32_t train_factor_bytes(uint32_t code_dim, uint32_t order_count);
/* Threads that can find the axes together, and bytes of the matrices that it takes. */
#define TRAIN_LANES_MAX 8
uint64_t train_axes_bytes(uint32_t dim);

/* ---- parts, each in its own file ---- */

/* One row against its cell, as encoding and training need it; arrays of code_dim. */
struct residual {
    float *units;            /* row - centroid; rows8.dim */
    float *y;                /* rotated residual */
    float *rotated_centroid; /* of the centroid minus the origin */
    uint8_t *bits6;
    double norm_sq; /* of the residual */
};

int residual_init(struct residual *residual, uint32_t dim, uint32_t code_dim) FATHOM_MUST_USE;
void residual_fini(struct residual *residual);
void residual_set_cell(struct residual *residual, const struct planes_model *planes,
                       const uint8_t *centroid, uint32_t dim);
/* Fills all but the centroid. */
void residual_set_row(struct residual *residual, const struct trained *trained, const uint8_t *row,
                      const uint8_t *centroid, uint32_t dim);

/* The cell that holds a row. */
uint32_t cell_of_row(const struct cells *cells, uint32_t row);

/* rotation.c: principal axes of the residuals, sigma, weight. */
int train_rotation(struct trained *out, const struct crew *crew, const struct train_rows *rows,
                   const struct cells *cells) FATHOM_MUST_USE;
/* calibrate.c: ranges of the factors, kappa of each level. */
int train_ranges(struct trained *out, const struct crew *crew, const struct train_rows *rows,
                 const struct cells *cells) FATHOM_MUST_USE;
int train_kappa(struct trained *out, const struct crew *crew, const struct train_rows *rows,
                const struct cells *cells) FATHOM_MUST_USE;

#endif
