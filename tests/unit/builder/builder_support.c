/* Shared by the tests of builder. */
#include "builder_support.h"

#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"
#include "prng_unit.h"
#include "vector_writer.h"

/* Near enough to a unit Gaussian. */
static double noise(struct prng *prng)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += prng_unit(prng);
    return sum;
}

static uint8_t to_byte(double value)
{
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : lround(value));
}

struct rows8 rows_clustered(uint32_t count, uint32_t dim, uint32_t clusters, double spread,
                            uint64_t seed)
{
    struct rows8 rows;
    struct prng prng;
    double *centres = calloc((size_t)clusters * dim, sizeof *centres);
    uint8_t *row = calloc(dim, 1);
    assert_int_equal(rows8_init(&rows, count, dim), 0);
    prng_init(&prng, seed, 0);
    for (size_t i = 0; i < (size_t)clusters * dim; i++)
        centres[i] = 40 + prng_below(&prng, 176);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t d = 0; d < dim; d++)
            row[d] = to_byte(centres[(size_t)(i % clusters) * dim + d] + spread * noise(&prng));
        rows8_set(&rows, i, row);
    }
    free(centres);
    free(row);
    return rows;
}

struct rows8 rows_equal(uint32_t count, uint32_t dim)
{
    struct rows8 rows;
    uint8_t *row = malloc(dim);
    assert_int_equal(rows8_init(&rows, count, dim), 0);
    memset(row, 77, dim);
    for (uint32_t i = 0; i < count; i++)
        rows8_set(&rows, i, row);
    free(row);
    return rows;
}

struct crew crew_of(unsigned threads)
{
    openblas_set_num_threads(1); /* as build_run does: the crew's threads are all there are */
    return (struct crew){.threads = threads};
}

struct ordered ordered_make(struct rows8 rows, unsigned threads)
{
    struct ordered ordered = {.rows = rows};
    struct crew crew = crew_of(threads);
    assert_int_equal(cells_build(&ordered.cells, &crew, &rows, 1, NULL, NULL), 0);
    assert_int_equal(order_build(&ordered.cells, &crew, &rows, NULL, NULL), 0);
    assert_int_equal(order_apply(&ordered.rows, ordered.cells.rows, NULL), 0);
    return ordered;
}

void ordered_fini(struct ordered *ordered)
{
    cells_fini(&ordered->cells);
    rows8_fini(&ordered->rows);
}

float *floats_make(uint64_t rows, uint32_t dim, uint64_t seed)
{
    struct prng prng;
    float *values = malloc(rows * dim * sizeof *values);
    prng_init(&prng, seed, 1);
    for (uint64_t i = 0; i < rows; i++)
        for (uint32_t d = 0; d < dim; d++)
            values[i * dim + d] = (float)(noise(&prng) + 3 * (d % 4 == i % 4));
    return values;
}

void floats_write(const char *path, const float *values, uint64_t rows, uint32_t dim)
{
    struct vector_writer *writer;
    assert_int_equal(vector_writer_open(&writer, env_os(), path, rows, dim, FATHOM_F32, NULL), 0);
    assert_int_equal(vector_writer_write(writer, values, rows, NULL), 0);
    assert_int_equal(vector_writer_finish(writer, NULL), 0);
    vector_writer_close(writer);
}

void floats_file(const char *path, uint64_t rows, uint32_t dim, uint64_t seed)
{
    float *values = floats_make(rows, dim, seed);
    floats_write(path, values, rows, dim);
    free(values);
}

struct place place_of(const struct scratch *scratch, const char *out)
{
    struct place place;
    char name[64];
    scratch_name(scratch, "base.fbin", place.input);
    scratch_name(scratch, out, place.out);
    snprintf(name, sizeof name, "%s/" FORMAT_FILE_NAME, out);
    scratch_name(scratch, name, place.index);
    return place;
}

uint8_t *file_slurp(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *bytes = (size_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(*bytes + 1);
    assert_int_equal(fread(data, 1, *bytes, file), *bytes);
    fclose(file);
    return data;
}
