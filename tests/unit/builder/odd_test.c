/* Files as they come: equal rows, constant columns, hardly any rows. Every build verifies, every
 * row is reachable, and a query is given as many results as there are, at the distances that naive
 * computation finds: among equal rows it does not matter which. */
#include "builder_support.h"

#include <stdlib.h>
#include <string.h>

#define DIM  24
#define K    10
#define ASKS 60

struct case_dirs {
    char input[SCRATCH_PATH_MAX], out[SCRATCH_PATH_MAX];
};

static void build(const struct case_dirs *dirs, const float *values, uint32_t rows)
{
    struct build_options options = build_options_default();
    struct build_report report;
    struct fathom_verify_report verified;
    struct fathom_error err = {0};
    floats_write(dirs->input, values, rows, DIM);
    options.input = dirs->input;
    options.out = dirs->out;
    options.threads = 2;
    if (build_run(&options, &report, &err) != 0)
        fail_msg("%s", err.msg);
    build_report_fini(&report);
    if (fathom_verify(dirs->out, true, &verified, NULL, NULL, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(verified.unreachable_rows, 0);
}

static struct fathom_index *open_index(const struct case_dirs *dirs,
                                       enum fathom_navigator navigator)
{
    struct fathom_open_options options = fathom_open_options_default();
    struct fathom_error err = {0};
    struct fathom_index *index;
    options.navigator = navigator;
    if (fathom_index_open(&index, dirs->out, &options, &err) != 0)
        fail_msg("%s", err.msg);
    return index;
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void naive_distances(const float *values, uint32_t rows, const float *query, float *out)
{
    for (uint32_t row = 0; row < rows; row++) {
        double sum = 0;
        for (uint32_t d = 0; d < DIM; d++) {
            double gap = (double)values[row * DIM + d] - query[d];
            sum += gap * gap;
        }
        out[row] = (float)sum;
    }
    qsort(out, rows, sizeof *out, compare_floats);
}

/* Results at a distance that belongs to the nearest ones, give or take a slack; ids are distinct.
 */
static uint32_t good_results(struct fathom_engine *engine, const struct fathom_index *index,
                             const float *values, uint32_t rows, uint32_t asked, float slack,
                             float *scratch)
{
    uint64_t ids[K];
    float distances[K];
    struct fathom_error err = {0};
    struct fathom_query query = fathom_query_default();
    uint32_t expected = rows < K ? rows : K, good = 0;
    query.vector = values + (size_t)asked * DIM;
    query.dtype = FATHOM_F32;
    query.k = K;
    query.search_list = 64;
    query.exact_distances = true;
    int count = fathom_search(engine, index, &query, ids, distances, NULL, &err);
    if (count < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(count, expected);
    naive_distances(values, rows, query.vector, scratch);
    for (uint32_t i = 0; i < expected; i++) {
        good += distances[i] <= scratch[expected - 1] * 1.0001f + slack;
        for (uint32_t j = 0; j < i; j++)
            assert_true(ids[i] != ids[j]);
    }
    return good;
}

/* Asks for rows that are spread over the file, and is to find nearly all. */
static void check(const struct scratch *scratch, const float *values, uint32_t rows, float slack)
{
    static const enum fathom_navigator navigators[] = {FATHOM_NAVIGATOR_GRAPH,
                                                       FATHOM_NAVIGATOR_CELLS};
    struct case_dirs dirs;
    scratch_name(scratch, "odd.fbin", dirs.input);
    scratch_name(scratch, "odd", dirs.out);
    float *distances = malloc(rows * sizeof *distances);
    build(&dirs, values, rows);
    for (int n = 0; n < 2; n++) {
        struct fathom_index *index = open_index(&dirs, navigators[n]);
        struct fathom_engine_options engine_options = fathom_engine_options_default();
        struct fathom_engine *engine;
        uint32_t good = 0, most = ASKS * (rows < K ? rows : K);
        assert_int_equal(fathom_engine_create(&engine, &engine_options, NULL), 0);
        for (uint32_t i = 0; i < ASKS; i++)
            good += good_results(engine, index, values, rows, i * 37 % rows, slack, distances);
        assert_in_range(good, most * 97 / 100, most);
        fathom_engine_destroy(engine);
        fathom_index_close(index);
    }
    free(distances);
}

static void a_tenth_of_the_rows_is_one_and_the_same(void **state)
{
    float *values = floats_make(4000, DIM, 1);
    for (uint32_t row = 0; row < 4000; row += 10)
        memcpy(values + (size_t)row * DIM, values + 7 * DIM, DIM * sizeof *values);
    check(*state, values, 4000, 1e-6f);
    free(values);
}

static void every_row_is_there_three_times(void **state)
{
    float *values = floats_make(3000, DIM, 2);
    for (uint32_t row = 1000; row < 3000; row++)
        memcpy(values + (size_t)row * DIM, values + (size_t)(row % 1000) * DIM,
               DIM * sizeof *values);
    check(*state, values, 3000, 1e-6f);
    free(values);
}

static void all_rows_are_the_same(void **state)
{
    float *values = floats_make(2500, DIM, 3);
    for (uint32_t row = 1; row < 2500; row++)
        memcpy(values + (size_t)row * DIM, values, DIM * sizeof *values);
    check(*state, values, 2500, 1e-6f);
    free(values);
}

static void all_rows_are_one_of_two(void **state)
{
    float *values = floats_make(2500, DIM, 4);
    for (uint32_t row = 2; row < 2500; row++)
        memcpy(values + (size_t)row * DIM, values + (size_t)(row % 2) * DIM, DIM * sizeof *values);
    check(*state, values, 2500, 1e-6f);
    free(values);
}

static void most_columns_are_constant(void **state)
{
    float *values = floats_make(3000, DIM, 5);
    for (uint32_t row = 0; row < 3000; row++)
        for (uint32_t d = 0; d < DIM; d++)
            if (d % 4 != 1)
                values[row * DIM + d] = d == 0 ? 0 : 5.5f;
    check(*state, values, 3000, 1e-6f);
    free(values);
}

/* Rows that differ by less than a step of their 8-bit form are equal to whatever navigates: which
 * of them are found is chance, within the distance between them. */
static void rows_differ_by_less_than_a_step(void **state)
{
    float *values = floats_make(3000, DIM, 6);
    for (uint32_t row = 0; row < 400; row++)
        for (uint32_t d = 0; d < DIM; d++)
            values[row * DIM + d] = values[d] + 1e-4f * (float)(row % 20);
    check(*state, values, 3000, DIM * 2e-3f * 2e-3f);
    free(values);
}

static void there_are_fewer_rows_than_neighbours_in_a_list(void **state)
{
    for (uint32_t rows = 1; rows <= 25; rows += rows < 3 ? 1 : 11) {
        float *values = floats_make(rows, DIM, rows);
        check(*state, values, rows, 1e-6f);
        free(values);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(a_tenth_of_the_rows_is_one_and_the_same, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(every_row_is_there_three_times, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(all_rows_are_the_same, scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(all_rows_are_one_of_two, scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(most_columns_are_constant, scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(rows_differ_by_less_than_a_step, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(there_are_fewer_rows_than_neighbours_in_a_list,
                                    scratch_make_fast, scratch_remove),
};

FATHOM_TEST_MAIN(tests)
