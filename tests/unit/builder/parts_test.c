/* Builds whose graph is made in parts: sound, connected, the same for any number of threads, and
 * never above their budget. */
#include "builder_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "fathom/fathom.h"
#include "format.h"

#define DIM 12

/* degree 0: by the data. */
static void build_holding(const struct place *place, uint32_t held, uint32_t parts,
                          unsigned threads, uint32_t degree)
{
    struct build_options options = build_options_default();
    struct build_report report;
    struct fathom_error err;
    options.input = place->input;
    options.out = place->out;
    options.threads = threads;
    options.parts = parts;
    options.held_rows = held;
    options.degree = degree;
    options.no_points = true; /* they would take most of the time, and say nothing of parts */
    if (build_run(&options, &report, &err) != 0)
        fail_msg("%u parts: %s", parts, err.msg);
    build_report_fini(&report);
    assert_int_equal(names_with(place->out, ".tmp-"), 0);
}

static void build(const struct place *place, uint32_t parts, unsigned threads, uint32_t degree)
{
    build_holding(place, 0, parts, threads, degree);
}

/* Verification follows every list: rows that the entries do not reach are found too. */
static void assert_sound(const struct place *place)
{
    struct fathom_verify_report report;
    struct fathom_error err;
    if (fathom_verify(place->out, true, &report, NULL, NULL, &err) != 0)
        fail_msg("%s", err.msg);
}

static void every_row_is_reached_whatever_the_parts(void **state)
{
    static const uint32_t parts[] = {2, 3, 7, 40};
    struct place place = place_of(*state, "index");
    floats_file(place.input, 3000, DIM, 1);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        build(&place, parts[i], 2, 0);
        assert_sound(&place);
        build(&place, parts[i], 2, BUILD_DEGREE_MIN); /* rows fall off lists that are so short */
        assert_sound(&place);
    }
}

/* Islands that no neighbour list leaves, and many equal rows. */
static void islands_and_equal_rows_are_reached_too(void **state)
{
    struct place place = place_of(*state, "index");
    float *values = floats_make(2400, DIM, 2);
    for (uint32_t row = 0; row < 2400; row++) {
        for (uint32_t d = 0; d < DIM; d++)
            values[row * DIM + d] += 1000.0f * (float)(row % 5) * (d == 0);
        if (row % 4 == 0)
            memcpy(values + row * DIM, values, DIM * sizeof *values);
    }
    floats_write(place.input, values, 2400, DIM);
    free(values);
    build(&place, 4, 2, 0);
    assert_sound(&place);
}

/* Groups of rows with lists so short that what one of them sees is not reached either, and no row
 * that is reached sees it. */
static void rows_that_see_only_each_other_are_reached(void **state)
{
    static const struct {
        uint32_t rows, group;
        float spread; /* of the groups */
        uint32_t parts;
    } cases[] = {{1000, 45, 9, 3}, {1500, 34, 5, 2}, {1500, 89, 9, 2}, {2000, 12, 7, 4}};
    struct place place = place_of(*state, "index");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t rows = cases[i].rows;
        float *values = floats_make(rows, DIM, 7), *centres = floats_make(rows, DIM, 8);
        for (uint32_t at = 0; at < rows * DIM; at++)
            values[at] += cases[i].spread * centres[at / DIM / cases[i].group * DIM + at % DIM];
        floats_write(place.input, values, rows, DIM);
        free(values);
        free(centres);
        build(&place, cases[i].parts, 2, BUILD_DEGREE_MIN);
        assert_sound(&place);
    }
}

static void few_rows_in_many_parts_build(void **state)
{
    struct place place = place_of(*state, "index");
    for (uint64_t rows = 1; rows <= 101; rows += 50) {
        floats_file(place.input, rows, DIM, 3);
        build(&place, 5, 2, 0);
        assert_sound(&place);
    }
}

static void parts_and_threads_give_the_same_bytes(void **state)
{
    static const char *const names[] = {"one", "two", "three"};
    uint8_t *data[3];
    size_t bytes[3];
    for (unsigned i = 0; i < 3; i++) {
        struct place place = place_of(*state, names[i]);
        floats_file(place.input, 2500, DIM, 4);
        build(&place, 3, i + 1, 0);
        data[i] = file_slurp(place.index, &bytes[i]);
        assert_int_equal(bytes[i], bytes[0]);
        assert_memory_equal(data[i], data[0], bytes[0]);
    }
    for (unsigned i = 0; i < 3; i++)
        free(data[i]);
}

static void assert_same_index(const struct place *one, const struct place *other)
{
    size_t bytes, other_bytes;
    uint8_t *data = file_slurp(one->index, &bytes),
            *others = file_slurp(other->index, &other_bytes);
    assert_int_equal(bytes, other_bytes);
    assert_memory_equal(data, others, bytes);
    free(data);
    free(others);
}

/* K-means adds up exact sums and looks at one row at a time: where the rows are does not matter. */
static void rows_that_stay_in_a_file_make_the_same_index(void **state)
{
    static const uint32_t held[] = {1, 97, 1000, 100000};
    struct place memory = place_of(*state, "memory"), file = place_of(*state, "file");
    floats_file(memory.input, 3000, DIM, 5);
    build(&memory, 3, 2, 0);
    for (size_t i = 0; i < sizeof held / sizeof *held; i++) {
        build_holding(&file, held[i], 3, 1 + (unsigned)i % 3, 0);
        assert_same_index(&file, &memory);
    }
}

/* Cells that are cut, and those without rows, which take one of another. */
static void so_do_many_equal_rows(void **state)
{
    struct place memory = place_of(*state, "memory"), file = place_of(*state, "file");
    float *values = floats_make(4000, DIM, 6);
    for (uint32_t row = 0; row < 4000; row++)
        if (row % 3)
            memcpy(values + row * DIM, values + row % 2 * DIM, DIM * sizeof *values);
    floats_write(memory.input, values, 4000, DIM);
    free(values);
    build(&memory, 2, 2, 0);
    build_holding(&file, 2000, 2, 2, 0);
    assert_same_index(&file, &memory);
    /* A cell that may not be held whole is cut by the numbers of its rows first. */
    build_holding(&file, 700, 2, 2, 0);
    assert_sound(&file);
}

static void few_rows_may_stay_in_a_file_too(void **state)
{
    struct place memory = place_of(*state, "memory"), file = place_of(*state, "file");
    for (uint64_t rows = 1; rows <= 101; rows += 50) {
        floats_file(memory.input, rows, DIM, 3);
        build(&memory, 2, 2, 0);
        build_holding(&file, 10, 1, 2, 0); /* the graph has two parts at the least */
        assert_same_index(&file, &memory);
    }
}

/* ---- what searches find ---- */

#define ROWS    6000
#define QUERIES 300
#define NEAREST 10

/* How many of the rows that were found are among the query's nearest: those to which fewer rows
 * than that are nearer. */
static uint32_t found_of(const float *values, const float *query, const struct answer *answer)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < answer->count; i++) {
        uint32_t nearer = 0;
        float limit = 0;
        for (uint32_t d = 0; d < DIM; d++) {
            float off = values[answer->ids[i] * DIM + d] - query[d];
            limit += off * off;
        }
        for (uint32_t row = 0; row < ROWS && nearer < NEAREST; row++) {
            float distance = 0;
            for (uint32_t d = 0; d < DIM && distance < limit; d++) {
                float off = values[row * DIM + d] - query[d];
                distance += off * off;
            }
            nearer += distance < limit;
        }
        found += nearer < NEAREST;
    }
    return found;
}

/* Of the nearest rows to all queries, those that a short walk of the graph finds. */
static uint32_t found_by_graph(const struct place *place, const float *values)
{
    struct fathom_open_options options = fathom_open_options_default();
    struct fathom_index *index;
    struct fathom_error err;
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 1);
    struct fathom_query request = fathom_query_default();
    struct answers answers;
    uint32_t found = 0;
    options.navigator = FATHOM_NAVIGATOR_GRAPH;
    if (fathom_index_open(&index, place->out, &options, &err) != 0)
        fail_msg("%s", err.msg);
    request.k = NEAREST;
    request.search_list = 16;
    const float *queries = values + ROWS * DIM;
    answers_get(&answers, engine, index, &request, queries, DIM, QUERIES, 1);
    for (uint32_t i = 0; i < QUERIES; i++)
        found += found_of(values, queries + i * DIM, &answers.all[i]);
    answers_free(&answers);
    fathom_engine_destroy(engine);
    fathom_index_close(index);
    return found;
}

/* Recall within .01 of a build without a budget, which is what issue 4 asks of parts; both are the
 * same on any machine (ADR 43). */
static void small_parts_are_searched_like_one(void **state)
{
    static const uint32_t parts[] = {3, 8, 16};
    struct place place = place_of(*state, "index");
    float *values = floats_make(ROWS + QUERIES, DIM, 7);
    floats_write(place.input, values, ROWS, DIM);
    build(&place, 1, 2, 0);
    uint32_t most = found_by_graph(&place, values);
    assert_true(most > QUERIES * NEAREST * 9 / 10);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        build(&place, parts[i], 2, 0);
        uint32_t found = found_by_graph(&place, values);
        if (found + QUERIES * NEAREST / 100 < most)
            fail_msg("%u parts: %u of %d found, %u by one", parts[i], found, QUERIES * NEAREST,
                     most);
    }
    free(values);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(small_parts_are_searched_like_one, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(rows_that_stay_in_a_file_make_the_same_index, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(so_do_many_equal_rows, scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(few_rows_may_stay_in_a_file_too, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(every_row_is_reached_whatever_the_parts, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(islands_and_equal_rows_are_reached_too, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(rows_that_see_only_each_other_are_reached, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(few_rows_in_many_parts_build, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(parts_and_threads_give_the_same_bytes, scratch_make_fast,
                                    scratch_remove),
};

FATHOM_TEST_MAIN(tests)
