/* How many directions the data has near a row: its local intrinsic dimension. */
#ifndef BUILDER_LID_H
#define BUILDER_LID_H

#include "crew.h"
#include "rows8.h"

/* By the 20 nearest of these rows of each of 256 of them, whichever are on average; 1 or more, 0
 * where too few rows differ to tell. It goes by the rows that there are: of clumps, which a sparse
 * sample does not show, it finds the dimension of the whole. -ENOMEM, FATHOM_EINTERRUPTED. */
int lid_estimate(const struct rows8 *rows, const struct crew *crew, double *lid) FATHOM_MUST_USE;

#endif
