/* The sample is read whole into memory (it is bounded), measured row by row, then sorted to find
 * equal rows. */
#include "sample.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "exact_scan.h"
#include "mem.h"

#define SAMPLE_BYTES_MAX (64u << 20)
#define SAMPLE_RUNS      100

struct sample {
    struct vector_info info;
    size_t row_bytes, rows;
    uint8_t *raw;          /* [rows][row_bytes], runs one after the other */
    const uint8_t **order; /* of the good rows, for finding equal ones */
    float *values;         /* one row */
};

/* Reads `runs` runs of consecutive rows, evenly spread; numbers[i] becomes the row number of
 * sampled row i. */
static int read_runs(struct sample *sample, struct vector_file *file, uint64_t *numbers,
                     struct fathom_error *err)
{
    size_t runs = sample->rows < SAMPLE_RUNS ? 1 : SAMPLE_RUNS;
    int rc = 0;
    for (size_t run = 0; !rc && run < runs; run++) {
        size_t start = sample->rows * run / runs, end = sample->rows * (run + 1) / runs;
        uint64_t first =
            (uint64_t)((double)(sample->info.rows - sample->rows) * (double)run / (double)runs) +
            start;
        for (size_t i = start; i < end; i++)
            numbers[i] = first + (i - start);
        rc = vector_file_read(file, first, end - start, sample->raw + start * sample->row_bytes,
                              err);
    }
    return rc;
}

static void measure_row(const struct sample *sample, const uint8_t *raw, struct sample_stats *out)
{
    uint32_t dim = sample->info.dim;
    vectors_to_f32(sample->info.dtype, raw, dim, sample->values);
    for (uint32_t i = 0; i < dim; i++) {
        out->min = sample->values[i] < out->min ? sample->values[i] : out->min;
        out->max = sample->values[i] > out->max ? sample->values[i] : out->max;
    }
    double norm = sqrt(exact_dot(sample->values, sample->values, dim));
    out->norm_mean += norm;
    out->norm_min = norm < out->norm_min ? norm : out->norm_min;
    out->norm_max = norm > out->norm_max ? norm : out->norm_max;
    out->zero_rows += norm == 0;
}

static int compare_rows(const void *a, const void *b, void *context)
{
    return memcmp(*(const uint8_t *const *)a, *(const uint8_t *const *)b, *(const size_t *)context);
}

static uint64_t count_duplicates(struct sample *sample, size_t good)
{
    uint64_t duplicates = 0;
    qsort_r(sample->order, good, sizeof *sample->order, compare_rows, &sample->row_bytes);
    for (size_t i = 1; i < good; i++)
        duplicates += !memcmp(sample->order[i - 1], sample->order[i], sample->row_bytes);
    return duplicates;
}

static void measure(struct sample *sample, const uint64_t *numbers, struct sample_stats *out)
{
    size_t good = 0;
    *out = (struct sample_stats){.rows = sample->rows,
                                 .min = INFINITY,
                                 .max = -INFINITY,
                                 .norm_min = INFINITY,
                                 .norm_max = 0};
    for (size_t i = 0; i < sample->rows; i++) {
        const uint8_t *raw = sample->raw + i * sample->row_bytes;
        if (vectors_check_finite(sample->info.dtype, raw, 0, 1, sample->info.dim, "", NULL)) {
            if (out->bad_rows++ == 0)
                out->first_bad_row = numbers[i];
            continue;
        }
        measure_row(sample, raw, out);
        sample->order[good++] = raw;
    }
    if (good)
        out->norm_mean /= (double)good;
    else
        out->min = out->max = out->norm_min = 0;
    out->duplicates = count_duplicates(sample, good);
}

int sample_measure(struct sample_stats *out, struct vector_file *file, uint64_t rows_max,
                   struct fathom_error *err)
{
    struct sample sample = {.info = vector_file_info(file)};
    int rc = 0;
    memset(out, 0, sizeof *out);
    sample.row_bytes = sample.info.dim * fathom_dtype_bytes(sample.info.dtype);
    uint64_t rows = SAMPLE_BYTES_MAX / sample.row_bytes;
    rows = rows < rows_max ? rows : rows_max;
    sample.rows = rows < sample.info.rows ? rows : sample.info.rows;
    sample.raw = mem_alloc_array(sample.rows, sample.row_bytes);
    sample.order = mem_alloc_array(sample.rows, sizeof *sample.order);
    sample.values = mem_alloc_array(sample.info.dim, sizeof *sample.values);
    uint64_t *numbers = mem_alloc_array(sample.rows, sizeof *numbers);
    if (!sample.raw || !sample.order || !sample.values || !numbers)
        rc = error_set(err, -ENOMEM, "%s: no memory for a sample", vector_file_path(file));
    else
        rc = read_runs(&sample, file, numbers, err);
    if (!rc)
        measure(&sample, numbers, out);
    mem_free(numbers);
    mem_free(sample.values);
    mem_free(sample.order);
    mem_free(sample.raw);
    return rc;
}
