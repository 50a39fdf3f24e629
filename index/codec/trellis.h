/* Trellis-coded quantisation of bit-plane codes (planes.h): the same bits, a sharper estimate.
 *
 * A dimension with R bits takes its value from a quantiser of R + 1 bits. The last of these is not
 * stored: it is the exclusive or of the last stored bits of the dimensions one, three and four
 * steps before (kernel.h, struct kernel_trellis). A row's bits are then chosen together, by the
 * Viterbi algorithm, so that the values that they lead to are nearest to the row: which bit is
 * written is also which half of the next quantisers may be used (Marcellin and Fischer, IEEE
 * Trans. Communications 38(1), 1990; the shift register instead of tables of states, and the circle
 * instead of loose ends, as in QTIP, arXiv 2406.11235, and tail-biting codes).
 *
 * The bits of all dimensions depend on each other, so that a prefix of a code is no code: codes are
 * stored without a trellis, for all budgets, and made into one of the size that is to be resident
 * when they are loaded (search/recode.c), from cells of six bits a dimension. */
#ifndef CODEC_TRELLIS_H
#define CODEC_TRELLIS_H

#include "error.h"
#include "planes.h"

#define TRELLIS_ROWS KERNEL_PATHS /* that are encoded at a time */

/* Do codes of a level gain by a trellis, can they be made, and can kernels score them? */
bool trellis_serves(const struct planes_model *model, const struct planes_level *level);

/* The decoded values of a level with a trellis, like planes_level_table's. */
void trellis_level_table(uint8_t bytes[128], const struct planes_model *model);

/* Sentinels of a plan without a trellis become those with one. */
void trellis_sentinels(uint8_t *sentinel, const struct kernel_codes *plan);

/* Encodes rows for a level. */
#define TRELLIS_TABLES (7 * 2 * 2 * 64)
struct trellis {
    const struct planes_model *model; /* whole; it and the level outlive this */
    const struct planes_level *level;
    uint32_t *step_of; /* of a dimension; those without a bit follow the last step */
    uint8_t *bits;     /* of steps */
    uint16_t *weights;
    uint8_t *work;
    uint8_t errors[TRELLIS_TABLES], indexes[TRELLIS_TABLES];
    float values[128];     /* in sigmas, by index, with the trellis */
    float plain[128];      /* without, */
    float plain_cells[64]; /* and by cell */
};

/* -ENOMEM when there is no memory; trellis_fini either way. */
int trellis_init(struct trellis *trellis, const struct planes_model *model,
                 const struct planes_level *level) FATHOM_MUST_USE;
void trellis_fini(struct trellis *trellis);

/* Where a dimension of one of TRELLIS_ROWS rows is among their cells or indexes. */
static inline size_t trellis_at(const struct trellis *trellis, uint32_t d, uint32_t row)
{
    return (size_t)trellis->step_of[d] * TRELLIS_ROWS + row;
}

/* TRELLIS_ROWS rows lie step after step (step_of), in each row after row: cells of six bits become
 * indexes with sentinels, of which the first bits are those to store. */
void trellis_encode(const struct trellis *trellis, const uint8_t *cells, uint8_t *indexes);

/* The sums that factors follow from (planes.h), of rows [first, end) of TRELLIS_ROWS that have one
 * centroid. Their residuals are known by cells and scales s alone: y = s sigma u. centroid: P (c -
 * o); sums[row], s[row]. */
void trellis_sums(const struct trellis *trellis, const uint8_t *cells, const uint8_t *indexes,
                  uint32_t first, uint32_t end, const float *s, const float *centroid,
                  struct planes_sums *sums);
/* The same at a shorter level without a trellis, whose bits are the first of the same indexes. */
void trellis_coarse_sums(const struct trellis *trellis, const struct planes_level *coarse,
                         const uint8_t *cells, const uint8_t *indexes, uint32_t first, uint32_t end,
                         const float *s, const float *centroid, struct planes_sums *sums);
/* <P (c - o), sigma u> over all dimensions, from which |r|^2 is taken back (search/recode.c). */
void trellis_centroid_products(const struct trellis *trellis, const uint8_t *cells, uint32_t first,
                               uint32_t end, const float *centroid, float *products);

#endif
