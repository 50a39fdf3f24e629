/* The embedded compander, the allotment of bits, and the factors of estimates. Pure
 * arithmetic; the hot loops are in kernel/. */
#include "planes.h"

#include <math.h>
#include <string.h>

#include "mem.h"
#include "row8.h"

#define SEEN_COSINE   0.05
#define LEAST_SQUARES 0.6 /* how far scale goes from unbiased to least squares */
#define SHARED        0.5 /* of a row's residual is that of a query near it too, about */

/* ---- the compander: cells of equal probability under N(0, 3) ---- */

static double normal_cdf(double x)
{
    return 0.5 * erfc(-x * M_SQRT1_2);
}

static double normal_pdf(double x)
{
    return exp(-0.5 * x * x) / sqrt(2 * M_PI);
}

/* Where the 64 cells of the longest code begin: sqrt(3) times the quantiles of c / 64 under N(0,
 * 1). Those of shorter codes are among them. As constants, since 80 steps of bisection for each
 * were a quarter of the time of opening a small index. */
/* clang-format off */
static const double cell_edges[1u << PLANES_MAX] = {
    -40, -3.7306204032513137, -3.2263462352519543, -2.9028127502665035,
    -2.6571747277538331, -2.4556966778352778, -2.2828618390591706, -2.1301778570967507,
    -1.9924635732666227, -1.8663117080601537, -1.7493542882853657, -1.639874105592706,
    -1.5365829139805949, -1.4384870372903991, -1.3448019384103178, -1.2548957230232185,
    -1.1682505165240538, -1.0844352999526952, -1.0030863293238459, -0.92389271246028759,
    -0.84658557759178088, -0.77092979554726471, -0.69671755048512796, -0.62376326990381614,
    -0.55189956767772941, -0.48097395054711883, -0.41084610501996793, -0.34138562812304996,
    -0.27247009831825925, -0.20398340637200754, -0.13581428279781124, -0.067854970533027761,
    -1.2050381889795147e-16, 0.067854970533027373, 0.1358142827978108, 0.2039834063720071,
    0.27247009831825886, 0.34138562812304957, 0.41084610501996749, 0.48097395054711845,
    0.55189956767772907, 0.6237632699038157, 0.6967175504851274, 0.77092979554726415,
    0.84658557759178044, 0.92389271246028726, 1.0030863293238452, 1.0844352999526949,
    1.1682505165240533, 1.2548957230232181, 1.3448019384103176, 1.4384870372903982,
    1.536582913980594, 1.6398741055927053, 1.7493542882853648, 1.866311708060153,
    1.9924635732666218, 2.1301778570967493, 2.2828618390591702, 2.4556966778352765,
    2.6571747277538318, 2.9028127502665022, 3.2263462352519521, 3.7306204032513106,
};
/* clang-format on */

/* Lower edge of cell c of 2^bits. */
static double cell_edge(unsigned c, unsigned bits)
{
    return c == 1u << bits ? 40 : cell_edges[c << (PLANES_MAX - bits)];
}

/* Probability of cell c under the unit Gaussian, and its mean there. */
static double cell_mean(unsigned c, unsigned bits, double *probability)
{
    double low = cell_edge(c, bits), high = cell_edge(c + 1, bits);
    *probability = normal_cdf(high) - normal_cdf(low);
    return (normal_pdf(low) - normal_pdf(high)) / *probability;
}

void planes_level_table(uint8_t bytes[128], float *quantum)
{
    double probability;
    *quantum = (float)(cell_mean((1u << PLANES_MAX) - 1, PLANES_MAX, &probability) / 127);
    bytes[0] = 128;
    for (unsigned index = 1; index < 128; index++) {
        unsigned shift = __builtin_ctz(index), bits = PLANES_MAX - shift;
        double mean = bits ? cell_mean(index >> (shift + 1), bits, &probability) : 0;
        bytes[index] = (uint8_t)(128 + lrint(mean / *quantum));
    }
}

float planes_cell_probability(unsigned cell, unsigned bits)
{
    double probability;
    cell_mean(cell, bits, &probability);
    return (float)probability;
}

float planes_distortion(unsigned bits)
{
    double kept = 0;
    for (unsigned c = 0; c < 1u << bits && bits; c++) {
        double probability, mean = cell_mean(c, bits, &probability);
        kept += probability * mean * mean;
    }
    return (float)(1 - kept);
}

/* ---- allotment ---- */

static void level_from_order(struct planes_level *level, const uint16_t *order, uint32_t code_bytes)
{
    memset(level, 0, sizeof *level);
    level->code_bytes = code_bytes;
    for (uint32_t i = 0; i < code_bytes; i++)
        level->groups[order[i] >> 12]++;
}

void planes_allot(uint32_t code_dim, const double *weight, uint32_t order_count, uint16_t *order,
                  uint32_t level_count, const uint32_t *code_bytes, struct planes_level *levels)
{
    uint32_t groups = code_dim / PLANES_GROUP;
    double gain[PLANES_MAX], group_weight[PLANES_GROUPS_MAX];
    uint8_t bits[PLANES_GROUPS_MAX] = {0};
    for (unsigned b = 0; b < PLANES_MAX; b++)
        gain[b] = planes_distortion(b) - planes_distortion(b + 1);
    for (uint32_t g = 0; g < groups; g++) {
        group_weight[g] = 0;
        for (int i = 0; i < PLANES_GROUP; i++)
            group_weight[g] += weight[g * PLANES_GROUP + i];
    }
    for (uint32_t i = 0; i < order_count; i++) {
        uint32_t best = groups;
        for (uint32_t g = 0; g < groups; g++) {
            /* bits must fall with g, so that a plane covers the first groups without a gap */
            if (bits[g] == PLANES_MAX || (g > 0 && bits[g] == bits[g - 1]))
                continue;
            if (best == groups ||
                group_weight[g] * gain[bits[g]] > group_weight[best] * gain[bits[best]])
                best = g;
        }
        order[i] = (uint16_t)(bits[best]++ << 12 | best);
    }
    for (uint32_t l = 0; l < level_count; l++)
        level_from_order(&levels[l], order, code_bytes[l]);
}

/* ---- rows ---- */

void planes_rotate(const struct planes_model *model, const float *v, float *y)
{
    kernels_get()->matvec_i8(y, model->rotation, model->rotation_scale, v, model->code_dim,
                             model->dim);
}

void planes_thresholds(float thresholds[64])
{
    for (unsigned c = 1; c < 64; c++)
        thresholds[c] = (float)cell_edge(c, PLANES_MAX);
    thresholds[0] = -INFINITY;
}

void planes_quantise(const struct planes_model *model, const float thresholds[64], const float *y,
                     uint8_t *bits6)
{
    kernels_get()->quantise6(bits6, y, model->sigma, thresholds, model->code_dim);
}

void planes_pack_code(const struct planes_model *model, const uint8_t *bits6, uint8_t *code)
{
    for (uint32_t i = 0; i < model->order_count; i++) {
        unsigned shift = PLANES_MAX - 1 - (model->order[i] >> 12);
        const uint8_t *group = bits6 + (model->order[i] & 0xfff) * PLANES_GROUP;
        unsigned byte = 0;
        for (int b = 0; b < PLANES_GROUP; b++)
            byte |= (group[b] >> shift & 1u) << b;
        code[i] = (uint8_t)byte;
    }
}

unsigned planes_group_bits(const struct planes_level *level, uint32_t group)
{
    unsigned bits = 0;
    while (bits < PLANES_MAX && group < level->groups[bits])
        bits++;
    return bits;
}

void planes_sums_advance(const struct planes_model *model, const struct planes_level *from,
                         const struct planes_level *to, const uint8_t *bits6, const float *y,
                         const float *rotated_centroid, struct planes_sums *sums)
{
    struct kernel_residual residual = {.bits6 = bits6,
                                       .y = y,
                                       .centroid = rotated_centroid,
                                       .sigma = model->sigma,
                                       .level = model->level_bytes};
    uint32_t first = from ? from->code_bytes : 0;
    struct kernel_sums change;
    kernels_get()->unit_sums(&change, &residual, model->order + first, to->code_bytes - first);
    double quantum = model->level_quantum;
    sums->norm += change.norm;
    sums->decoded_norm += quantum * quantum * change.square;
    sums->product += quantum * change.product;
    sums->centroid_product += quantum * change.centroid;
}

/* |y|^2 / <y, yhat> makes estimates unbiased whatever the query shares with the row;
 * <y, yhat> / |yhat|^2 leaves the least of y to chance, but errs by what is shared. Between them
 * lies the smallest error for rows near a query (docs/adr/0021). 0 for a residual that its code
 * does not see at all: trust the centroid alone. A cosine decides, so that the units of sigma do
 * not matter.
 */
static double exact_scale(const struct planes_sums *sums)
{
    bool seen =
        sums->product > 0 &&
        sums->product * sums->product > SEEN_COSINE * SEEN_COSINE * sums->norm * sums->decoded_norm;
    if (!seen)
        return 0;
    double unbiased = sums->norm / sums->product;
    return unbiased + LEAST_SQUARES * (sums->product / sums->decoded_norm - unbiased);
}

/* The offset that goes with a scale: right in the mean for a query whose residual is SHARED * y and
 * something that has nothing to do with y. It also takes back what the rounding of scale does. */
static double exact_offset(const struct planes_sums *sums, double scale, double residual_norm_sq)
{
    double unseen = scale > 0 ? sums->norm - scale * sums->product : 0;
    return residual_norm_sq + 2 * scale * sums->centroid_product - 2 * SHARED * unseen;
}

struct planes_factors planes_factors(const struct planes_sums *sums, double residual_norm_sq)
{
    double scale = exact_scale(sums);
    return (struct planes_factors){.scale = (float)scale,
                                   .offset = (float)exact_offset(sums, scale, residual_norm_sq)};
}

void planes_set_ranges(struct planes_level *level, float scale_max, float offset_min,
                       float offset_max)
{
    struct planes_packing packing = planes_packing(level->factor_bytes);
    /* The largest scale is the last step; a floor keeps the base a normal number even when all
     * scales are zero. */
    float top = fmaxf(scale_max, 1e-20f);
    uint32_t bits, steps = (1u << packing.scale_bits) - 1;
    memcpy(&bits, &top, sizeof bits);
    level->scale_base = bits - (steps << packing.scale_shift);
    level->offset_min = offset_min;
    level->offset_step =
        fmaxf((offset_max - offset_min) / (float)((1u << packing.offset_bits) - 1), 1e-20f);
}

static uint32_t clamp_to(double value, uint32_t most)
{
    return value <= 0 ? 0 : value >= most ? most : (uint32_t)lrint(value);
}

uint32_t planes_pack_factors(const struct planes_level *level, const struct planes_sums *sums,
                             double residual_norm_sq)
{
    struct planes_packing packing = planes_packing(level->factor_bytes);
    uint32_t bits, scale = 0, most = (1u << packing.scale_bits) - 1;
    double exact = exact_scale(sums);
    float rounded = (float)exact;
    memcpy(&bits, &rounded, sizeof bits);
    if (exact > 0 && bits > level->scale_base)
        scale =
            (bits - level->scale_base + (1u << (packing.scale_shift - 1))) >> packing.scale_shift;
    scale = (scale > most ? most : scale) << packing.offset_bits;
    double stored = planes_unpack_factors(level, scale).scale;
    double offset = exact_offset(sums, exact > 0 ? stored : 0, residual_norm_sq);
    return scale | clamp_to((offset - level->offset_min) / level->offset_step,
                            (1u << packing.offset_bits) - 1);
}

uint32_t planes_factor_bytes_below(const struct planes_model *model, uint32_t level)
{
    uint32_t bytes = 0;
    for (uint32_t l = 0; l < level; l++)
        bytes += model->levels[l].factor_bytes;
    return bytes;
}

/* ---- searching ---- */

static void plane_starts(const struct planes_level *level, uint32_t start[PLANES_MAX])
{
    uint32_t at = 0;
    for (unsigned p = 0; p < PLANES_MAX; p++) {
        start[p] = at;
        at += level->groups[p];
    }
}

void planes_repack(const struct planes_model *model, const struct planes_level *level,
                   const uint8_t *in, size_t in_stride, uint8_t *out, size_t count)
{
    uint32_t start[PLANES_MAX];
    plane_starts(level, start);
    for (uint32_t i = 0; i < level->code_bytes; i++) {
        uint8_t *to = out + start[model->order[i] >> 12] + (model->order[i] & 0xfff);
        const uint8_t *from = in + i;
        for (size_t row = 0; row < count; row++)
            to[row * level->code_bytes] = from[row * in_stride];
    }
}

void planes_kernel_codes(const struct planes_model *model, const struct planes_level *level,
                         uint8_t *sentinel, struct kernel_codes *out)
{
    uint32_t dim = planes_coded_dim(level), padded = size_round_up(dim, 64);
    *out = (struct kernel_codes){.dim = dim,
                                 .code_bytes = level->code_bytes,
                                 .sentinel = sentinel,
                                 .level = model->level_bytes};
    plane_starts(level, out->plane_start);
    memcpy(out->groups, level->groups, sizeof out->groups);
    for (uint32_t d = 0; d < padded; d++)
        sentinel[d] =
            d < dim ? (uint8_t)(1u << (6 - planes_group_bits(level, d / PLANES_GROUP))) : 64;
}

void planes_query_init(struct planes_query *query, const struct planes_model *model,
                       const struct planes_level *level, float *units, float *y, int8_t *hi,
                       int8_t *lo)
{
    uint32_t dim = planes_coded_dim(level), padded = size_round_up(dim, 64);
    for (uint32_t d = 0; d < model->dim; d++)
        units[d] -= (float)((int32_t)model->origin[d] - 128);
    kernels_get()->matvec_i8(y, model->rotation, model->rotation_scale, units, dim, model->dim);
    float max = 0;
    for (uint32_t d = 0; d < dim; d++)
        max = fmaxf(max, fabsf(y[d] * model->sigma[d]));
    float quantum = max > 0 ? max / ROW8_WEIGHT_MAX : 1;
    int64_t sum = 0;
    for (uint32_t d = 0; d < dim; d++) {
        int32_t weight = row8_weight(y[d] * model->sigma[d] / quantum);
        int32_t high = (weight + 64) >> 7;
        hi[d] = (int8_t)high;
        lo[d] = (int8_t)(weight - high * 128);
        sum += weight;
    }
    for (uint32_t d = dim; d < padded; d++)
        hi[d] = lo[d] = 0;
    query->weights = (struct kernel_query8){.hi = hi, .lo = lo, .dim = dim};
    query->factor = quantum * model->level_quantum;
    query->bias = -128.0f * query->factor * (float)sum;
}

/* One loop for each width of factors: the constants let it be vectorised. */
#define ESTIMATE_CELL(type, bytes)                                                                 \
    do {                                                                                           \
        struct planes_packing packing = planes_packing(bytes);                                     \
        const type *restrict packed = factors;                                                     \
        for (size_t i = 0; i < count; i++) {                                                       \
            union {                                                                                \
                uint32_t bits;                                                                     \
                float value;                                                                       \
            } scale = {.bits = scale_base + (((uint32_t)packed[i] >> packing.offset_bits)          \
                                             << packing.scale_shift)};                             \
            int32_t offset = (int32_t)(packed[i] & ((1u << packing.offset_bits) - 1));             \
            estimate[i] = start + step * (float)offset + scale.value * (slope * score[i] + bias);  \
        }                                                                                          \
    } while (0)

void planes_estimate_cell(float *restrict estimate, const struct planes_level *level,
                          const struct planes_query *query, float base, const float *restrict score,
                          const void *restrict factors, size_t count)
{
    float start = base + level->offset_min, step = level->offset_step;
    float slope = -2 * query->factor, bias = -2 * query->bias;
    uint32_t scale_base = level->scale_base;
    if (level->factor_bytes == 2)
        ESTIMATE_CELL(uint16_t, 2);
    else
        ESTIMATE_CELL(uint32_t, 4);
}
