/* Private to index/search: codes with a trellis, made when they are loaded. */
#ifndef SEARCH_RECODE_H
#define SEARCH_RECODE_H

#include "index.h"

/* Are codes of a plan's level, of a whole model, made into such as have a trellis? Those that are
 * read from SSD are scored as they are. */
bool recode_wanted(const struct planes_model *full, const struct plan *plan);

#define RECODE_ROWS KERNEL_PATHS /* that are handed on at a time at the most */

/* Takes the codes of rows from `first` on, which is a multiple of RECODE_ROWS: RECODE_ROWS bytes of
 * the unit that is worth most, one of each row, and so on; with packed factors and those of the
 * first look. */
struct recode_target {
    void (*take)(void *context, uint64_t first, uint32_t count, const uint8_t *units,
                 const uint32_t *factors, const uint32_t *coarse_factors);
    void *context;
};

/* All rows at the plan's level, in their order; coarse: the level of a first look, NULL where it is
 * not shorter. Centroids and cells are resident. -errno or FATHOM_E... of reading. */
int recode_rows(struct fathom_index *index, const struct planes_model *full,
                const struct planes_level *coarse, const struct recode_target *target,
                struct fathom_error *err) FATHOM_MUST_USE;

#endif
