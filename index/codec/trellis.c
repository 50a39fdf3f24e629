/* Tables of trellis-coded quantisation, and the sums that factors follow from. The search for paths
 * is in kernel/. */
#include "trellis.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "mem.h"

#define GROUPS_LEAST KERNEL_MEMORY /* a circle of 32 steps */
#define BITS_MAX     4             /* with values of their own; with 5 bits the cells of 6 serve */

/* The positive values of R bits and the one that is not stored, in sigmas: the mean of what a unit
 * Gaussian's samples are that the best paths take there, by repeated encoding (Lloyd) of 6,000
 * paths of 100 steps. Negative ones mirror them. */
static const float trained[BITS_MAX][16] = {
    {0.006f, 1.240f},
    {0.116f, 0.649f, 1.027f, 1.872f},
    {0.077f, 0.383f, 0.560f, 0.870f, 1.114f, 1.474f, 1.910f, 2.600f},
    {0.043f, 0.218f, 0.310f, 0.483f, 0.584f, 0.755f, 0.873f, 1.050f, 1.187f, 1.378f, 1.573f, 1.809f,
     2.085f, 2.432f, 2.860f, 3.468f}};

/* What is left of a unit Gaussian's variance after R bits, encoded as below. */
static const float distortion[PLANES_MAX] = {1, 0.3185f, 0.0898f, 0.0258f, 0.0079f, 0.0025f};

static unsigned bits_of(const struct planes_level *level, uint32_t group)
{
    return planes_group_bits(level, group);
}

bool trellis_serves(const struct planes_model *model, const struct planes_level *level)
{
    /* A first look goes by the stored bits, which say little of a dimension that has but one. */
    bool looked_at = 2 * level->groups[1] >= level->groups[0];
    return looked_at && level->groups[0] >= GROUPS_LEAST &&
           level->code_bytes <= KERNEL_TRELLIS_MAX &&
           model->order_count * PLANES_GROUP == model->code_dim * PLANES_MAX;
}

/* Index of a value of `bits` bits. */
static unsigned index_of(unsigned value, unsigned bits)
{
    return (value << 1 | 1) << (PLANES_MAX - bits);
}

void trellis_level_table(uint8_t bytes[128], const struct planes_model *model)
{
    memcpy(bytes, model->level_bytes, 128);
    for (unsigned bits = 1; bits <= BITS_MAX; bits++) {
        unsigned half = 1u << bits;
        for (unsigned i = 0; i < half; i++) {
            long steps = lrintf(trained[bits - 1][i] / model->level_quantum);
            steps = steps < 0 ? 0 : steps > 127 ? 127 : steps;
            bytes[index_of(half + i, bits + 1)] = (uint8_t)(128 + steps);
            bytes[index_of(half - 1 - i, bits + 1)] = (uint8_t)(128 - steps);
        }
    }
}

void trellis_sentinels(uint8_t *sentinel, const struct kernel_codes *plan)
{
    for (uint32_t d = 0; d < plan->dim; d++)
        if (sentinel[d] > 1 && sentinel[d] < 64) /* of 1 to 5 bits */
            sentinel[d] /= 2;
}

/* ---- what a choice costs ---- */

/* Errors in a byte: up to 16 times what is left in the mean they are told apart as they are, in
 * units of a tenth of that; beyond, in the tails, ever less, but still which of two is larger. */
#define ERROR_UNITS  10
#define ERROR_LINEAR 160

static float error_unit(unsigned bits)
{
    return (bits < PLANES_MAX ? distortion[bits] : planes_distortion(bits)) / ERROR_UNITS;
}

static uint8_t error_byte(float units)
{
    float most = UINT8_MAX - ERROR_LINEAR;
    return (uint8_t)lrintf(
        units <= ERROR_LINEAR ? units : ERROR_LINEAR + most * (1 - ERROR_LINEAR / units));
}

/* The best index of a cell with this last bit and the bit that is not stored; returns its error. */
static float best_index(const struct trellis *trellis, unsigned bits, unsigned last, unsigned bonus,
                        unsigned cell, uint8_t *best)
{
    float u = trellis->plain[index_of(cell, PLANES_MAX)], least = INFINITY;
    for (unsigned own = last; own < 1u << bits; own += 2) {
        unsigned index =
            bits < PLANES_MAX ? index_of(own << 1 | bonus, bits + 1) : index_of(own, bits);
        float error = (u - trellis->values[index]) * (u - trellis->values[index]);
        if (error < least) {
            least = error;
            *best = (uint8_t)index;
        }
    }
    return least;
}

/* What all four kinds cost in common is left out: it does not tell paths apart. */
static void fill_cell(struct trellis *trellis, unsigned bits, unsigned cell)
{
    float error[4], least = INFINITY;
    size_t at = (size_t)bits * 4 * 64 + cell;
    for (unsigned kind = 0; kind < 4; kind++) {
        error[kind] = best_index(trellis, bits, kind >> 1, kind & 1, cell,
                                 &trellis->indexes[at + (size_t)kind * 64]);
        least = fminf(least, error[kind]);
    }
    for (unsigned kind = 0; kind < 4; kind++) {
        trellis->errors[at + (size_t)kind * 64] =
            error_byte((error[kind] - least) / error_unit(bits));
    }
}

/* Errors count by the variance of the residual there, once for what a query has of that direction
 * and once for the length of a sigma. */
static double weight_of(const struct trellis *trellis, uint32_t d)
{
    double spread = (double)trellis->model->sigma[d] * trellis->model->sigma[d];
    return spread * spread * error_unit(trellis->bits[trellis->step_of[d]]);
}

static void fill_steps(struct trellis *trellis)
{
    uint32_t groups = trellis->level->groups[0], coded = groups * PLANES_GROUP;
    double most = 0;
    for (uint32_t d = 0; d < trellis->model->code_dim; d++)
        trellis->step_of[d] = d < coded ? d % PLANES_GROUP * groups + d / PLANES_GROUP : d;
    for (uint32_t d = 0; d < coded; d++) {
        trellis->bits[trellis->step_of[d]] = (uint8_t)bits_of(trellis->level, d / PLANES_GROUP);
        most = fmax(most, weight_of(trellis, d));
    }
    for (uint32_t d = 0; d < coded; d++)
        trellis->weights[trellis->step_of[d]] =
            most > 0 ? (uint16_t)lrint(weight_of(trellis, d) / most * KERNEL_PATH_MAX) : 0;
}

static void fill_values(float values[128], const uint8_t bytes[128], float quantum)
{
    for (int i = 0; i < 128; i++)
        values[i] = (float)(bytes[i] - 128) * quantum;
}

int trellis_init(struct trellis *trellis, const struct planes_model *model,
                 const struct planes_level *level)
{
    uint32_t steps = planes_coded_dim(level);
    *trellis =
        (struct trellis){.model = model,
                         .level = level,
                         .step_of = mem_alloc_array(model->code_dim, sizeof *trellis->step_of),
                         .bits = mem_alloc(steps),
                         .weights = mem_alloc_array(steps, sizeof *trellis->weights),
                         .work = mem_alloc_array(steps, (size_t)KERNEL_STATES * KERNEL_PATHS)};
    if (!trellis->step_of || !trellis->bits || !trellis->weights || !trellis->work)
        return -ENOMEM;
    uint8_t bytes[128];
    trellis_level_table(bytes, model);
    fill_values(trellis->values, bytes, model->level_quantum);
    fill_values(trellis->plain, model->level_bytes, model->level_quantum);
    for (unsigned cell = 0; cell < 64; cell++)
        trellis->plain_cells[cell] = trellis->plain[index_of(cell, PLANES_MAX)];
    for (unsigned bits = 1; bits <= PLANES_MAX; bits++)
        for (unsigned cell = 0; cell < 64; cell++)
            fill_cell(trellis, bits, cell);
    fill_steps(trellis);
    return 0;
}

void trellis_fini(struct trellis *trellis)
{
    mem_free(trellis->step_of);
    mem_free(trellis->bits);
    mem_free(trellis->weights);
    mem_free(trellis->work);
}

void trellis_encode(const struct trellis *trellis, const uint8_t *cells, uint8_t *indexes)
{
    struct kernel_path path = {.steps = planes_coded_dim(trellis->level),
                               .bits = trellis->bits,
                               .weights = trellis->weights,
                               .errors = trellis->errors,
                               .indexes = trellis->indexes,
                               .work = trellis->work};
    kernels_get()->trellis_encode(indexes, &path, cells);
}

/* ---- sums ---- */

static void sums_of(const struct kernel_decoding *how, const uint8_t *cells, const uint8_t *indexes,
                    uint32_t first, uint32_t end, const float *s, struct planes_sums *sums)
{
    struct kernel_decoded decoded;
    kernels_get()->decoded_sums(&decoded, how, cells, indexes, first, end);
    for (uint32_t row = first; row < end; row++)
        sums[row] = (struct planes_sums){.norm = (double)s[row] * s[row] * decoded.norm[row],
                                         .decoded_norm = decoded.square[row],
                                         .product = (double)s[row] * decoded.product[row],
                                         .centroid_product = decoded.centroid[row]};
}

static struct kernel_decoding decoding_of(const struct trellis *trellis, const float *centroid)
{
    return (struct kernel_decoding){.dim = planes_coded_dim(trellis->level),
                                    .step_of = trellis->step_of,
                                    .sigma = trellis->model->sigma,
                                    .centroid = centroid,
                                    .cells = trellis->plain_cells,
                                    .values = trellis->values};
}

void trellis_sums(const struct trellis *trellis, const uint8_t *cells, const uint8_t *indexes,
                  uint32_t first, uint32_t end, const float *s, const float *centroid,
                  struct planes_sums *sums)
{
    struct kernel_decoding how = decoding_of(trellis, centroid);
    sums_of(&how, cells, indexes, first, end, s, sums);
}

void trellis_coarse_sums(const struct trellis *trellis, const struct planes_level *coarse,
                         const uint8_t *cells, const uint8_t *indexes, uint32_t first, uint32_t end,
                         const float *s, const float *centroid, struct planes_sums *sums)
{
    struct kernel_decoding how = decoding_of(trellis, centroid);
    uint8_t drop[KERNEL_TRELLIS_MAX * PLANES_GROUP];
    how.dim = planes_coded_dim(coarse);
    for (uint32_t g = 0; g < coarse->groups[0]; g++)
        memset(drop + (size_t)g * PLANES_GROUP, (int)(PLANES_MAX + 1 - bits_of(coarse, g)),
               PLANES_GROUP);
    how.drop = drop;
    how.values = trellis->plain;
    sums_of(&how, cells, indexes, first, end, s, sums);
}

void trellis_centroid_products(const struct trellis *trellis, const uint8_t *cells, uint32_t first,
                               uint32_t end, const float *centroid, float *products)
{
    struct kernel_decoding how = decoding_of(trellis, centroid);
    float sums[TRELLIS_ROWS];
    how.dim = trellis->model->code_dim;
    kernels_get()->decoded_products(sums, &how, cells, first, end);
    memcpy(products + first, sums + first, (end - first) * sizeof *sums);
}
