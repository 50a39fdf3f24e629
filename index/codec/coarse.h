/* A first look at codes: sums of table entries, many rows at once, that cost a tenth of a score.
 *
 * The bytes of a code's shortest useful level are kept sliced: blocks of 16 rows, byte after byte.
 * Half a byte is one plane of four dimensions, so <P (q - o), yhat> is a sum of tables of 16
 * entries, rounded to 7 bits, which a byte shuffle looks up for 16 rows or more (fast scan: Andre,
 * Kermarrec, Le Scouarnec, PVLDB 9(4), 2015). It takes each bit of a dimension to be worth the same
 * whatever the others are: true of up to two bits, nearly true of more. The sums only decide which
 * rows are worth scoring exactly. */
#ifndef CODEC_COARSE_H
#define CODEC_COARSE_H

#include <math.h>

#include "mem.h"
#include "planes.h"

#define COARSE_BITS_PER_DIM 1.25 /* of a first look, at the most */

/* What a bit is worth, in sigmas: plus when set, else minus; [bits of the dimension][plane]. */
struct coarse_weights {
    float worth[PLANES_MAX + 1][PLANES_MAX];
};

void coarse_weights_fit(struct coarse_weights *weights, const struct planes_model *model);

/* The level to look at first when codes are of `level`; itself when they are short. */
uint32_t coarse_level(const struct planes_model *model, uint32_t level);

/* Tables of that many bytes of code: 16 entries for the lower half of each, then as many for the
 * upper. */
static inline size_t coarse_table_bytes(uint32_t columns)
{
    return (size_t)size_round_up(columns, 4) * 32;
}

/* The step of tables whose widest one covers so much. A query so far off that it overflows gets
 * some step, and entries that are cut: finite, and near nothing anyhow. */
static inline float coarse_step(float widest)
{
    return widest > 0 && isfinite(widest) ? widest / KERNEL_TABLE_MAX : 1;
}

/* An entry from its value in steps, NaN included. */
static inline uint8_t coarse_entry(float steps)
{
    float cut = steps > 0 ? steps < KERNEL_TABLE_MAX ? steps : KERNEL_TABLE_MAX : 0;
    return (uint8_t)(cut + 0.5f);
}

/* A query against sliced codes: <P (q - o), yhat> is about out->factor * sum + out->bias; it has no
 * weights. units: level->code_bytes of the model's order; y = P (q - o) (planes_query_init);
 * tables: coarse_table_bytes. */
void coarse_query_init(struct planes_query *out, uint8_t *tables, const struct planes_model *model,
                       const struct planes_level *level, const uint16_t *units,
                       const struct coarse_weights *weights, const float *y);

#endif
