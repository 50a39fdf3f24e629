/* Navigation codes: variable-bit codes of residuals, in bit planes.
 *
 * A row x of cell c has the residual r = x - centroid(c) in row units. It is rotated by the
 * principal axes of all residuals, y = P r (kept as int8 with a scale a row: small, and its
 * rounding is the same for rows and queries), scaled by its own length, u = y / (s * sigma), s =
 * |y| / |sigma|, and each dimension is quantised by an embedded compander: the k-bit code is the
 * cell of Phi(u / sqrt 3) in 2^k equal parts (the high-rate optimal point density of a Gaussian),
 * so that the first bits of a long code are the short code: one stored code serves every budget, by
 * loading fewer bits.
 *
 * Bits are allotted to groups of 8 dimensions (one byte a group and plane), greedily by the error
 * that they take away from distances, so allotments are nested too: `order` lists the (plane,
 * group) units by worth, and a level is a prefix of it. Per level and row two factors make the
 * estimate unbiased (RaBitQ, arXiv 2405.12497): with yhat the decoded residual, |q - x|^2 ~ |q -
 * c|^2 + offset - 2 * scale * <P q, yhat>, scale = |y|^2 / <y, yhat> over the dimensions that have
 * a bit,   offset = |r|^2 + 2 * scale * <P c, yhat>, with yhat = sigma * decoded value (the length
 * s cancels), stored as u16 each: a piece of the float of scale, and offset linearly. The error's
 * standard deviation is about kappa * scale * |q - c|, kappa measured by the builder per level. */
#ifndef CODEC_PLANES_H
#define CODEC_PLANES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel.h"

#define PLANES_MAX          KERNEL_PLANES_MAX
#define PLANES_LEVELS_MAX   16
#define PLANES_GROUP        8
#define PLANES_GROUPS_MAX   513 /* of 4,097 dimensions: the largest work space */
#define PLANES_FACTOR_BYTES 4
#define PLANES_SCALE_SHIFT  10 /* 8 octaves in 65,536 steps: relative precision 2^-14 */

/* A code size: the first code_bytes units of the order. */
struct planes_level {
    uint32_t code_bytes;
    uint32_t groups[PLANES_MAX]; /* of each plane; falling */
    float kappa;                 /* error factor */
    uint32_t
        scale_base; /* scale = the float whose bits are scale_base + (u16 << PLANES_SCALE_SHIFT) */
    float offset_min, offset_step; /* offset = offset_min + offset_step * u16 */
};

struct planes_model {
    uint32_t dim;         /* of the rows (work space) */
    uint32_t code_dim;    /* rotated dimensions kept, a multiple of 8 */
    uint32_t order_count; /* units = bytes of a full code */
    uint32_t level_count;
    const int8_t *rotation;      /* code_dim x dim */
    const float *rotation_scale; /* code_dim */
    const float *sigma;          /* code_dim: rms of y / s; 0 in padding dimensions */
    const uint16_t *order;       /* order_count units: plane << 12 | group */
    const struct planes_level *levels;
    const uint8_t *level_bytes; /* 128 decoded values, (byte - 128) * level_quantum sigmas
                                   (planes_level_table) */
    float level_quantum;
};

struct planes_factors {
    float scale, offset;
};

/* The decoded values of the compander in sigmas, by index = left-aligned bits | sentinel
 * (kernel.h): the mean of a unit Gaussian in that cell, as (byte - 128) * *quantum. Builder only;
 * readers take the table from the model. */
void planes_level_table(uint8_t bytes[128], float *quantum);

/* How much of a unit Gaussian's variance is left after b bits, b = 0..6. */
float planes_distortion(unsigned bits);

/* Fills model->order and the groups of each level: greedy by weight[d] (per rotated dimension,
 * falling) * (distortion(b) - distortion(b + 1)). code_bytes lists the levels, rising. Builder
 * only. */
void planes_allot(uint32_t code_dim, const double *weight, uint32_t order_count, uint16_t *order,
                  uint32_t level_count, const uint32_t *code_bytes, struct planes_level *levels);

/* y = P v for v given in row units. */
void planes_rotate(const struct planes_model *model, const float *v, float *y);

/* One rotated residual to 6 bits a dimension (bits6: code_dim), and those to a code of order_count
 * bytes in order of worth. */
void planes_thresholds(float thresholds[64]); /* lower edges of the 64 cells, in sigmas */
void planes_quantise(const struct planes_model *model, const float thresholds[64], const float *y,
                     uint8_t *bits6);
void planes_pack_code(const struct planes_model *model, const uint8_t *bits6, uint8_t *code);

/* The factors of one row at one level. rotated_centroid = P (centroid - 128), residual_norm_sq =
 * |r|^2 in row units, y = P r. */
struct planes_factors planes_row_factors(const struct planes_model *model,
                                         const struct planes_level *level, const uint8_t *bits6,
                                         const float *y, double residual_norm_sq,
                                         const float *rotated_centroid);
/* Sets the ranges that factors are stored in; those outside are clamped. Builder only. */
void planes_set_ranges(struct planes_level *level, float scale_max, float offset_min,
                       float offset_max);
uint32_t planes_pack_factors(const struct planes_level *level, struct planes_factors factors);

/* The factors that a packed pair stands for (scale << 16 | offset). */
static inline struct planes_factors planes_unpack_factors(const struct planes_level *level,
                                                          uint32_t packed)
{
    union {
        uint32_t bits;
        float value;
    } scale = {.bits = level->scale_base + ((packed >> 16) << PLANES_SCALE_SHIFT)};
    return (struct planes_factors){.scale = scale.value,
                                   .offset = level->offset_min +
                                             level->offset_step * (float)(packed & 0xffff)};
}

/* From order of worth to the kernel's plane-major layout of a level, for count codes. in_stride >=
 * code_bytes. */
void planes_repack(const struct planes_model *model, const struct planes_level *level,
                   const uint8_t *in, size_t in_stride, uint8_t *out, size_t count);

/* What the kernel needs to score codes of a level. sentinel: caller's array of the coded dimensions
 * rounded up to 64. */
void planes_kernel_codes(const struct planes_model *model, const struct planes_level *level,
                         uint8_t *sentinel, struct kernel_codes *out);

/* Dimensions that have a bit at this level: the query needs rotating for these alone. */
static inline uint32_t planes_coded_dim(const struct planes_level *level)
{
    return level->groups[0] * PLANES_GROUP;
}

/* A query prepared for a level. hi, lo: coded dimensions rounded up to 64, zeroed behind; y:
 * float[code_dim]. */
struct planes_query {
    struct kernel_query8 weights;
    float factor, bias; /* <P q, yhat> = factor * kernel score + bias */
};

/* units: the query in row units minus 128 (row8_query_init). */
/* estimate[i] = base + offset_i - 2 * scale_i * <P q, yhat_i> for count rows with one base, |q -
 * c|^2. */
void planes_estimate_cell(float *estimate, const struct planes_level *level,
                          const struct planes_query *query, float base, const float *score,
                          const uint32_t *factors, size_t count);

void planes_query_init(struct planes_query *query, const struct planes_model *model,
                       const struct planes_level *level, const float *units, float *y, int8_t *hi,
                       int8_t *lo);

#endif
