/* Tables for the first look at codes (see coarse.h). Pure arithmetic; the scan is in kernel/. */
#include "coarse.h"

#include <math.h>
#include <string.h>

#define BYTES_LEAST 16  /* of a first look */
#define SHORT_CODES 1.5 /* times that: longer than a first look, but not worth two */
#define SWEEPS      24  /* of the fit: it is done in less */

uint32_t coarse_level(const struct planes_model *model, uint32_t level)
{
    double most = fmax(COARSE_BITS_PER_DIM / 8 * model->dim, BYTES_LEAST);
    uint32_t coarse = level;
    if (model->levels[level].code_bytes <= SHORT_CODES * most)
        return level;
    while (coarse > 0 && model->levels[coarse].code_bytes > most)
        coarse--;
    return coarse;
}

/* ---- what a bit is worth ---- */

static float sign_of(unsigned cell, unsigned bits, unsigned plane)
{
    return cell >> (bits - 1 - plane) & 1 ? 1 : -1;
}

/* Least squares under the probabilities of the cells, a bit at a time. */
static void fit_bits(float *worth, const float *level, const float *probability, unsigned bits)
{
    bool changes = true;
    for (int sweep = 0; sweep < SWEEPS && changes; sweep++) {
        changes = false;
        for (unsigned p = 0; p < bits; p++) {
            float sum = 0;
            for (unsigned cell = 0; cell < 1u << bits; cell++) {
                float rest = level[cell];
                for (unsigned other = 0; other < bits; other++)
                    rest -= other == p ? 0 : worth[other] * sign_of(cell, bits, other);
                sum += probability[cell] * rest * sign_of(cell, bits, p);
            }
            changes = changes || worth[p] != sum;
            worth[p] = sum;
        }
    }
}

void coarse_weights_fit(struct coarse_weights *weights, const struct planes_model *model)
{
    memset(weights, 0, sizeof *weights);
    for (unsigned bits = 1; bits <= PLANES_MAX; bits++) {
        float level[1 << PLANES_MAX], probability[1 << PLANES_MAX];
        for (unsigned cell = 0; cell < 1u << bits; cell++) {
            unsigned index = (cell << 1 | 1) << (PLANES_MAX - bits);
            level[cell] = (float)(model->level_bytes[index] - 128) * model->level_quantum;
            probability[cell] = planes_cell_probability(cell, bits);
        }
        fit_bits(weights->worth[bits], level, probability, bits);
    }
}

/* ---- a query's tables ---- */

/* What the bits of a byte of the code are worth for a query. */
static void weigh_unit(float weight[PLANES_GROUP], const struct planes_model *model,
                       const struct planes_level *level, const struct coarse_weights *weights,
                       uint16_t unit, const float *y)
{
    uint32_t plane = unit >> 12, first = (unit & 0xfffu) * PLANES_GROUP;
    float worth = weights->worth[planes_group_bits(level, unit & 0xfff)][plane];
    for (uint32_t i = 0; i < PLANES_GROUP; i++)
        weight[i] = y[first + i] * model->sigma[first + i] * worth;
}

static float sum_of_lengths(const float weight[4])
{
    return fabsf(weight[0]) + fabsf(weight[1]) + fabsf(weight[2]) + fabsf(weight[3]);
}

/* The sums of four signed weights, of those whose bit is set or not, above the least of them: each
 * bit that agrees with its sign adds twice the weight's length. Sums of two weights make those of
 * three, and these those of four. */
static void fill_table(uint8_t *table, const float *weight, float inverse)
{
    float sum[16] = {0};
    uint8_t entry[16];
    unsigned against = 0;
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned e = 0; e < 1u << i; e++)
            sum[e + (1u << i)] = sum[e] + 2 * fabsf(weight[i]);
        against |= (weight[i] > 0 ? 0 : 1u) << i;
    }
    for (unsigned e = 0; e < 16; e++)
        entry[e] = coarse_entry(sum[e] * inverse);
    for (unsigned e = 0; e < 16; e++)
        table[e] = entry[e ^ against];
}

void coarse_query_init(struct planes_query *out, uint8_t *tables, const struct planes_model *model,
                       const struct planes_level *level, const uint16_t *units,
                       const struct coarse_weights *weights, const float *y)
{
    float weight[PLANES_GROUP], widest = 0, total = 0;
    uint32_t columns = level->code_bytes;
    for (uint32_t c = 0; c < columns; c++) {
        weigh_unit(weight, model, level, weights, units[c], y);
        float low = sum_of_lengths(weight), high = sum_of_lengths(weight + 4);
        widest = fmaxf(widest, fmaxf(low, high));
        total += low + high;
    }
    float step = coarse_step(2 * widest);
    uint8_t *high = tables + coarse_table_bytes(columns) / 2;
    memset(tables, 0, coarse_table_bytes(columns));
    for (uint32_t c = 0; c < columns; c++) {
        weigh_unit(weight, model, level, weights, units[c], y);
        fill_table(tables + (size_t)c * 16, weight, 1 / step);
        fill_table(high + (size_t)c * 16, weight + 4, 1 / step);
    }
    *out = (struct planes_query){.factor = step, .bias = isfinite(total) ? -total : 0};
}
