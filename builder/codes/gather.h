/* The rows and lists that training looks at, from the work files of a build whose graph was made in
 * parts: with them it learns, bit for bit, what it would learn with all rows in memory. */
#ifndef BUILDER_GATHER_H
#define BUILDER_GATHER_H

#include "train.h"
#include "work.h"

#define GATHER_THIN 4 /* stride of the lists that training is content with, in the file "thin" */

struct gathered {
    struct train_rows view;
    struct rows8 rows;
    struct graph lists;
    uint32_t *row_numbers, *list_numbers;
};

/* rows: how many there are in all. gathered_fini accepts what is left after a failure. */
int gather_training(struct gathered *out, const struct work *work, uint32_t rows,
                    struct fathom_error *err) FATHOM_MUST_USE;
void gathered_fini(struct gathered *gathered);
/* Bytes of it at the most. */
uint64_t gather_bytes(uint64_t rows, uint32_t dim);

#endif
