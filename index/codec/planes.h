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
 * group) units by worth, and a level is a prefix of it. Per level and row there are two factors:
 * with yhat the decoded residual and o the origin, |q - x|^2 ~ |q - c|^2 + offset - 2 * scale * <P
 * (q - o), yhat>, where yhat = sigma * decoded value (the length s cancels). scale lies between
 * |y|^2 / <y, yhat>, which is unbiased (RaBitQ, arXiv 2405.12497), and least squares, both over the
 * dimensions that have a bit; offset = |r|^2 + 2 * scale * <P (c - o), yhat> and what makes the
 * estimate right in the mean for queries near x, whatever scale was rounded to. The origin is near
 * the mean of the centroids, so that both products are small against their rounding. Factors are
 * packed in 2 or 4 bytes: a piece of the float of scale, and offset linearly; offset takes back
 * what rounding does, so a few bits of scale do. The error's standard deviation is about
 * kappa * scale * |q - c|, kappa measured by the builder per level. */
#ifndef CODEC_PLANES_H
#define CODEC_PLANES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel.h"

#define PLANES_MAX        KERNEL_PLANES_MAX
#define PLANES_LEVELS_MAX 32
#define PLANES_GROUP      8
#define PLANES_GROUPS_MAX 513 /* of 4,097 dimensions: the largest work space */

/* A code size: the first code_bytes units of the order. */
struct planes_level {
    uint32_t code_bytes;
    uint32_t groups[PLANES_MAX]; /* of each plane; falling */
    float kappa;                 /* error factor */
    uint32_t factor_bytes;       /* of a row's packed factors: 2 or 4 */
    uint32_t scale_base;         /* see planes_unpack_factors */
    float offset_min, offset_step;
};

/* How factors are packed: scale above offset. 2 bytes: 7 bits of scale, 32 steps an octave, and 9
 * of offset; 4 bytes: 16 of each, 8,192 steps an octave. */
struct planes_packing {
    unsigned offset_bits, scale_bits, scale_shift;
};

static inline struct planes_packing planes_packing(uint32_t factor_bytes)
{
    return factor_bytes == 2 ? (struct planes_packing){9, 7, 18}
                             : (struct planes_packing){16, 16, 10};
}

struct planes_model {
    uint32_t dim;         /* of the rows (work space) */
    uint32_t code_dim;    /* rotated dimensions kept, a multiple of 8 */
    uint32_t order_count; /* units = bytes of a full code */
    uint32_t level_count;
    const int8_t *rotation;      /* code_dim x dim */
    const float *rotation_scale; /* code_dim */
    const float *sigma;          /* code_dim: rms of y / s; 0 in padding dimensions */
    const uint8_t *origin; /* dim: 8-bit form of what queries and centroids are rotated from */
    const uint16_t *order; /* order_count units: plane << 12 | group */
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

/* How likely a unit Gaussian lies in a cell of 2^bits. */
float planes_cell_probability(unsigned cell, unsigned bits);

/* Bits of the dimensions of a group at a level. */
unsigned planes_group_bits(const struct planes_level *level, uint32_t group);

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

/* What the factors of a row at a level follow from: sums over the dimensions that have a bit. */
struct planes_sums {
    double norm, decoded_norm;        /* |y|^2, |yhat|^2 */
    double product, centroid_product; /* <y, yhat>, <P (c - o), yhat> */
};

/* Goes from the sums at level `from` (NULL: none yet, and *sums zero) to those at `to`, which is
 * above it, for a row with the rotated residual y. */
void planes_sums_advance(const struct planes_model *model, const struct planes_level *from,
                         const struct planes_level *to, const uint8_t *bits6, const float *y,
                         const float *rotated_centroid, struct planes_sums *sums);
/* The factors as they are before packing; residual_norm_sq = |r|^2 in row units. */
struct planes_factors planes_factors(const struct planes_sums *sums, double residual_norm_sq);
/* Sets the ranges that factors are stored in; those outside are clamped. Builder only. */
void planes_set_ranges(struct planes_level *level, float scale_max, float offset_min,
                       float offset_max);
uint32_t planes_pack_factors(const struct planes_level *level, const struct planes_sums *sums,
                             double residual_norm_sq);

/* The factors that a packed pair stands for. */
static inline struct planes_factors planes_unpack_factors(const struct planes_level *level,
                                                          uint32_t packed)
{
    struct planes_packing packing = planes_packing(level->factor_bytes);
    union {
        uint32_t bits;
        float value;
    } scale = {.bits =
                   level->scale_base + ((packed >> packing.offset_bits) << packing.scale_shift)};
    uint32_t offset = packed & ((1u << packing.offset_bits) - 1);
    return (struct planes_factors){
        .scale = scale.value, .offset = level->offset_min + level->offset_step * (float)offset};
}

/* The packed factors of a row among those of its level. */
static inline uint32_t planes_factors_at(const struct planes_level *level, const void *factors,
                                         size_t row)
{
    return level->factor_bytes == 2 ? ((const uint16_t *)factors)[row]
                                    : ((const uint32_t *)factors)[row];
}

/* Bytes of a row's factors at all levels below `level`; level_count gives those of all. In the file
 * and in builders' memory the levels follow each other, each with the factors of all rows. */
uint32_t planes_factor_bytes_below(const struct planes_model *model, uint32_t level);

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
    float factor, bias; /* <P (q - o), yhat> = factor * kernel score + bias */
};

/* estimate[i] = base + offset_i - 2 * scale_i * <P (q - o), yhat_i> for count rows with one base,
 * |q - c|^2; factors: those of the first row and on. */
void planes_estimate_cell(float *estimate, const struct planes_level *level,
                          const struct planes_query *query, float base, const float *score,
                          const void *factors, size_t count);

/* units: the query in row units, that is minus 128 (row8_query_init); changed to q - o. */
void planes_query_init(struct planes_query *query, const struct planes_model *model,
                       const struct planes_level *level, float *units, float *y, int8_t *hi,
                       int8_t *lo);

#endif
