/* 8-bit rows that stay in a work file, for builds that may not hold all of them: some are brought
 * into memory at a time. */
#ifndef BUILDER_STORED_H
#define BUILDER_STORED_H

#include "rows8.h"
#include "work.h"

/* A file of rows begins with this; the rows follow, dim bytes each. Behind those in their final
 * order are their cells: cells + 1 first rows, centroids, and where each row was in the input. */
struct stored_header {
    uint32_t rows, dim, cells, reserved;
};

struct stored_rows {
    struct work_file *file;
    uint32_t count, dim;
};

/* Where in the file's stream a row is. */
static inline uint64_t stored_rows_offset(const struct stored_rows *stored, uint32_t row)
{
    return sizeof(struct stored_header) + (uint64_t)row * stored->dim;
}

int stored_rows_open(struct stored_rows *out, const struct work *work, const char *name,
                     struct fathom_error *err) FATHOM_MUST_USE;
/* count rows from first on into those of out from at on. */
int stored_rows_read(struct stored_rows *stored, uint32_t first, uint32_t count, struct rows8 *out,
                     uint32_t at, struct fathom_error *err) FATHOM_MUST_USE;
/* Row numbers[i] becomes row i of out. Numbers may be in any order; takes 8 bytes for each. */
int stored_rows_gather(struct stored_rows *stored, const uint32_t *numbers, uint32_t count,
                       struct rows8 *out, struct fathom_error *err) FATHOM_MUST_USE;
void stored_rows_close(struct stored_rows *stored);

#endif
