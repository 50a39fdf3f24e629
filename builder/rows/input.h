/* The input as the build sees it: checked rows of a vector file and their 8-bit form. */
#ifndef BUILDER_INPUT_H
#define BUILDER_INPUT_H

#include <float.h>

#include "crew.h"
#include "row8.h"
#include "rows8.h"
#include "vectors.h"
#include "work.h"

/* Of a vector's squared norm: squared distances up to 4 times this must be finite floats. */
#define INPUT_NORM_SQ_MAX (FLT_MAX / 8.0)

struct input {
    struct vector_file *file;
    struct vector_info info;
    enum fathom_metric metric;
    uint32_t work_dim;
    uint64_t hash[2];    /* XXH3-128 of all scalars as they lie in the file: low, high */
    uint64_t sum;        /* of input_row_sum of the rows that are not left out */
    uint64_t zero_count; /* rows left out because cosine is undefined there */
    uint64_t *zero_rows; /* their numbers */
    uint32_t *file_rows; /* row of the file by row of the build; NULL: the same */
    double max_norm;     /* M of metric.h; 0 unless ip */
    bool exact;          /* the 8-bit form is the vector itself */
    struct row8_model model;
    float *mean; /* of model */
    struct rows8 rows;
};

/* Opens the file and checks that it can be built from. */
int input_open(struct input *input, const struct env *env, const char *path,
               enum fathom_metric metric, struct fathom_error *err) FATHOM_MUST_USE;
/* Streams it once or twice: checks every scalar, hashes, chooses the 8-bit form and fills rows; or
 * with spill, a work file of the name INPUT_RAW (stored.h), and of rows but how many there are. */
#define INPUT_RAW "raw"
int input_read(struct input *input, const struct crew *crew, bool skip_zero_rows,
               const struct work *spill, struct fathom_error *err) FATHOM_MUST_USE;
/* Rows at the most whose range is looked at for the 8-bit form, as f32 in memory. */
static inline uint64_t input_sample_most(uint32_t work_dim)
{
    uint64_t room = (64u << 20) / (work_dim * sizeof(float));
    return room < 65536 ? room : 65536;
}

/* Streams it once for nothing but the hash and the sum, when all else is known from an earlier run.
 */
int input_rehash(struct input *input, const struct crew *crew,
                 struct fathom_error *err) FATHOM_MUST_USE;
/* Of a row as it lies in the file; mod 2^64, the sum over rows does not depend on the order in
 * which they are read. */
uint64_t input_row_sum(const struct input *input, const void *row, uint64_t file_row);
/* Drops what input_read found out. */
void input_forget(struct input *input);
void input_close(struct input *input);

static inline uint64_t input_file_row(const struct input *input, uint32_t row)
{
    return input->file_rows ? input->file_rows[row] : row;
}

#endif
