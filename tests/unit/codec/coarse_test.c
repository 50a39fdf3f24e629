/* The first look at codes: what bits are worth, which level is looked at, and sums of tables that
 * are near the products that whole codes give. */
#include "fathom_test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coarse.h"
#include "mem.h"
#include "prng_unit.h"

#define DIM   64
#define UNITS (PLANES_MAX * DIM / 8)
#define SIZES 5

static const uint32_t sizes[SIZES] = {4, 8, 16, 24, UNITS};

struct fixture {
    float sigma[DIM];
    uint16_t order[UNITS];
    struct planes_level levels[SIZES];
    uint8_t level_bytes[128];
    struct planes_model model;
    struct coarse_weights weights;
};

static int make_fixture(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    double weight[DIM];
    for (int d = 0; d < DIM; d++) {
        f->sigma[d] = 10 * powf(0.95f, (float)d);
        weight[d] = pow(f->sigma[d], 2);
    }
    planes_allot(DIM, weight, UNITS, f->order, SIZES, sizes, f->levels);
    f->model = (struct planes_model){.dim = DIM,
                                     .code_dim = DIM,
                                     .order_count = UNITS,
                                     .level_count = SIZES,
                                     .sigma = f->sigma,
                                     .order = f->order,
                                     .levels = f->levels,
                                     .level_bytes = f->level_bytes};
    planes_level_table(f->level_bytes, &f->model.level_quantum);
    coarse_weights_fit(&f->weights, &f->model);
    *state = f;
    return 0;
}

static int free_fixture(void **state)
{
    free(*state);
    return 0;
}

/* The decoded value of a cell of 2^bits, in sigmas. */
static float level_of(const struct fixture *f, unsigned cell, unsigned bits)
{
    unsigned index = cell << (7 - bits) | 1u << (6 - bits);
    return (float)(f->level_bytes[index] - 128) * f->model.level_quantum;
}

static float sum_of_bits(const struct fixture *f, unsigned cell, unsigned bits)
{
    float sum = 0;
    for (unsigned p = 0; p < bits; p++)
        sum += (cell >> (bits - 1 - p) & 1 ? 1 : -1) * f->weights.worth[bits][p];
    return sum;
}

static void bits_add_up_to_levels(void **state)
{
    const struct fixture *f = *state;
    for (unsigned bits = 1; bits <= PLANES_MAX; bits++) {
        float error = 0, all = 0;
        for (unsigned cell = 0; cell < 1u << bits; cell++) {
            float off = sum_of_bits(f, cell, bits) - level_of(f, cell, bits);
            all += planes_cell_probability(cell, bits);
            error += planes_cell_probability(cell, bits) * off * off;
            if (bits <= 2) /* symmetric levels are sums, but for their rounding to bytes */
                assert_true(fabsf(off) <= f->model.level_quantum);
        }
        assert_true(fabsf(all - 1) < 1e-5f);
        assert_true(error < 0.03f); /* of a variance of 1; 3 bits leave .035 anyhow */
    }
}

static void the_first_look_is_at_a_short_level(void **state)
{
    struct fixture *f = *state;
    /* 64 dimensions: 1.25 bits each are 10 bytes, 16 are always allowed, and half as much again
     * is not worth two looks. */
    assert_int_equal(coarse_level(&f->model, 0), 0);
    assert_int_equal(coarse_level(&f->model, 1), 1);
    assert_int_equal(coarse_level(&f->model, 2), 2);
    assert_int_equal(coarse_level(&f->model, 3), 3);
    assert_int_equal(coarse_level(&f->model, 4), 2);
    struct planes_model wide = f->model;
    struct planes_level levels[2] = {f->levels[0], f->levels[0]};
    wide.dim = 16; /* the least 16 bytes are more than the model's first level has */
    levels[0].code_bytes = 17;
    levels[1].code_bytes = 25;
    wide.levels = levels;
    assert_int_equal(coarse_level(&wide, 1), 0); /* there is no shorter one */
}

/* <y, yhat> of a code in order of worth. */
static double product_of(const struct fixture *f, const struct planes_level *level,
                         const uint8_t *code, const float *y, double *tolerance)
{
    unsigned cell[DIM] = {0}, bits[DIM] = {0};
    double product = 0;
    for (uint32_t i = 0; i < level->code_bytes; i++)
        for (unsigned b = 0; b < 8; b++) {
            uint32_t d = (f->order[i] & 0xfff) * 8 + b;
            cell[d] = cell[d] << 1 | (code[i] >> b & 1);
            bits[d]++;
        }
    for (uint32_t d = 0; d < DIM; d++) {
        float length = y[d] * f->sigma[d];
        product += bits[d] ? length * level_of(f, cell[d], bits[d]) : 0;
        *tolerance +=
            bits[d]
                ? fabsf(length * (sum_of_bits(f, cell[d], bits[d]) - level_of(f, cell[d], bits[d])))
                : 0;
    }
    return product;
}

static void sums_of_tables_are_products(void **state)
{
    const struct fixture *f = *state;
    struct prng prng;
    prng_init(&prng, 31, 0);
    for (int trial = 0; trial < 200; trial++) {
        const struct planes_level *level = &f->levels[trial % SIZES];
        uint32_t columns = level->code_bytes;
        uint8_t tables[2 * 16 * UNITS], blocks[UNITS * KERNEL_LANES], code[UNITS];
        float y[DIM], sums[KERNEL_LANES];
        struct planes_query query;
        for (int d = 0; d < DIM; d++)
            y[d] = trial ? (float)(prng_unit(&prng) - 0.5) * 40 : 0;
        for (uint32_t i = 0; i < columns * KERNEL_LANES; i++)
            blocks[i] = (uint8_t)prng_next(&prng);
        coarse_query_init(&query, tables, &f->model, level, f->order, &f->weights, y);
        kernels_get()->sliced_sums(sums, tables, blocks, columns, 1);
        for (uint32_t r = 0; r < KERNEL_LANES; r++) {
            /* Each of two tables a byte is off by half a step at the most. */
            double tolerance = query.factor * (columns + 0.01);
            for (uint32_t c = 0; c < columns; c++)
                code[c] = blocks[c * KERNEL_LANES + r];
            double product = product_of(f, level, code, y, &tolerance);
            assert_true(fabs(query.factor * sums[r] + query.bias - product) <= tolerance);
        }
    }
}

/* Entries are cut, and what is made of them is finite. */
static void a_query_that_overflows_has_tables(void **state)
{
    const struct fixture *f = *state;
    const float values[] = {INFINITY, -INFINITY, NAN, 3e38f};
    for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
        uint8_t tables[2 * 16 * UNITS];
        float y[DIM] = {0};
        struct planes_query query;
        y[3] = values[v];
        y[4] = 1;
        coarse_query_init(&query, tables, &f->model, &f->levels[2], f->order, &f->weights, y);
        assert_true(isfinite(query.factor) && query.factor > 0 && isfinite(query.bias));
        for (size_t i = 0; i < coarse_table_bytes(sizes[2]); i++)
            assert_in_range(tables[i], 0, KERNEL_TABLE_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_add_up_to_levels),
        cmocka_unit_test(the_first_look_is_at_a_short_level),
        cmocka_unit_test(sums_of_tables_are_products),
        cmocka_unit_test(a_query_that_overflows_has_tables),
    };
    return cmocka_run_group_tests(tests, make_fixture, free_fixture);
}
