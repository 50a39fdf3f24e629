/* Cutting a set of 8-bit rows in two by 2-means: what ordering and the splitting of cells are made
 * of. Exact integers. */
#ifndef BUILDER_BISECT_H
#define BUILDER_BISECT_H

#include "fathom/error.h"
#include "rows8.h"

/* One thread's scratch, for sets of up to count_max rows. */
struct bisect {
    const struct rows8 *rows;
    uint32_t count_max;
    uint8_t *means[2]; /* of the two parts after bisect_rows; stride bytes each */
    int8_t *query;
    int32_t *dots[2];
    uint32_t *ids;
    int64_t *sums;
    uint64_t *keys;
};

int bisect_init(struct bisect *bisect, const struct rows8 *rows,
                uint32_t count_max) FATHOM_MUST_USE;
void bisect_fini(struct bisect *bisect);

/* Splits ids in place and returns the size of the first part; ids keep their order within a part.
 * Parts of less than an eighth are avoided, so that recursion ends soon. 0: all rows are equal,
 * nothing to split. count >= 2. */
uint32_t bisect_rows(struct bisect *bisect, uint32_t *ids, uint32_t count);

#endif
