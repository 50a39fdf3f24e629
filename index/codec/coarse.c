/* Tables for the first look at codes (see coarse.h). Pure arithmetic; the scan is in kernel/. */
#include "coarse.h"

#include <math.h>
#include <string.h>

#define BYTES_LEAST 16  /* of a first look */
#define SHORT_CODES 1.5 /* times that: longer than a first look, but not worth two */
#define SWEEPS      24  /* of the fit: it is done in less */

uint32_t coarse_level(const struct planes_model *model, uint32_t level)
{
    double most = COARSE_BITS_PER_DIM / 8 * model->dim;
    most = fmin(fmax(most, BYTES_LEAST), KERNEL_COLUMNS_MAX);
    uint32_t coarse = level;
    if (model->levels[level].code_bytes <= fmin(SHORT_CODES * most, KERNEL_COLUMNS_MAX))
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
    for (int sweep = 0; sweep < SWEEPS; sweep++)
        for (unsigned p = 0; p < bits; p++) {
            float sum = 0;
            for (unsigned cell = 0; cell < 1u << bits; cell++) {
                float rest = level[cell];
                for (unsigned other = 0; other < bits; other++)
                    rest -= other == p ? 0 : worth[other] * sign_of(cell, bits, other);
                sum += probability[cell] * rest * sign_of(cell, bits, p);
            }
            worth[p] = sum;
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

/* The sums of four signed weights, of those whose bit is set or not, above the least of them. */
static void fill_table(uint8_t *table, const float *weight, float inverse)
{
    for (unsigned entry = 0; entry < 16; entry++) {
        float sum = 0;
        for (unsigned i = 0; i < 4; i++) {
            bool set = entry >> i & 1;
            sum += set == (weight[i] > 0) ? 2 * fabsf(weight[i]) : 0;
        }
        table[entry] = (uint8_t)(sum * inverse + 0.5f);
    }
}

void coarse_query_init(struct planes_query *out, uint8_t *tables, const struct planes_model *model,
                       const struct planes_level *level, const uint16_t *units,
                       const struct coarse_weights *weights, const float *y)
{
    float weight[KERNEL_COLUMNS_MAX * PLANES_GROUP], widest = 0, total = 0;
    uint32_t columns = level->code_bytes;
    for (uint32_t c = 0; c < columns; c++) {
        uint32_t plane = units[c] >> 12, group = units[c] & 0xfff;
        unsigned bits = planes_group_bits(level, group);
        float *w = weight + c * PLANES_GROUP, half[2] = {0};
        for (uint32_t i = 0; i < PLANES_GROUP; i++) {
            float length = y[group * PLANES_GROUP + i] * model->sigma[group * PLANES_GROUP + i];
            w[i] = length * weights->worth[bits][plane];
            half[i / 4] += fabsf(w[i]);
        }
        widest = fmaxf(widest, fmaxf(half[0], half[1]));
        total += half[0] + half[1];
    }
    float step = widest > 0 ? 2 * widest / KERNEL_TABLE_MAX : 1;
    uint8_t *high = tables + coarse_table_bytes(columns) / 2;
    memset(tables, 0, coarse_table_bytes(columns));
    for (uint32_t c = 0; c < columns; c++) {
        fill_table(tables + (size_t)c * 16, weight + c * PLANES_GROUP, 1 / step);
        fill_table(high + (size_t)c * 16, weight + c * PLANES_GROUP + 4, 1 / step);
    }
    *out = (struct planes_query){.factor = step, .bias = -total};
}
