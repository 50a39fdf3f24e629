/* RobustPrune: which candidates a row keeps as neighbours. */
#ifndef BUILDER_PRUNE_H
#define BUILDER_PRUNE_H

#include <stdbool.h>

#include "fathom/error.h"
#include "rows8.h"

/* A row and its distance in one number that sorts by distance, then by row. */
static inline uint64_t prune_key(uint32_t distance, uint32_t row)
{
    return (uint64_t)distance << 32 | row;
}

struct prune_block;

struct prune {
    const struct rows8 *rows;
    uint32_t alpha_q10; /* alpha in 1/1024, so that comparisons are between integers */
    int8_t *query, *panel;
    int32_t *dots;
    struct prune_block *block;
};

/* limit_max: of prune_run. */
int prune_init(struct prune *prune, const struct rows8 *rows, double alpha,
               uint32_t limit_max) FATHOM_MUST_USE;
void prune_fini(struct prune *prune);

/* keys: the candidates of a row (prune_key), rising, without duplicates and without the row itself;
 * used up. Fills out with at most limit rows and returns how many. */
uint32_t prune_run(struct prune *prune, uint64_t *keys, uint32_t count, uint32_t limit,
                   uint32_t *out);

/* Keys of ids by their distance from row. */
void prune_keys(struct prune *prune, uint32_t row, const uint32_t *ids, uint32_t count,
                uint64_t *keys);

/* Sorts keys and drops duplicates and the row itself. Returns how many are left. */
uint32_t prune_sort(uint64_t *keys, uint32_t count, uint32_t row);

#endif
