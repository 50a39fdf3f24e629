/* The order of rows: a permutation that keeps cells whole and neighbours near. */
#include "builder_support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bisect.h"
#include "error.h"
#include "mem.h"

static double mean_step(const struct rows8 *rows, const uint32_t *order)
{
    double sum = 0;
    for (uint32_t i = 1; i < rows->count; i++)
        sum += rows8_distance(rows8_at(rows, order[i - 1]), rows8_at(rows, order[i]), rows->dim);
    return sum / (rows->count - 1);
}

static void the_order_is_a_permutation_and_keeps_cells_together(void **state)
{
    (void)state;
    struct rows8 rows = rows_clustered(8000, 16, 40, 10, 2);
    struct crew crew = crew_of(2);
    struct cells cells;
    assert_int_equal(cells_build(&cells, &crew, &rows, 1, NULL, NULL), 0);
    uint32_t *cell_before = malloc(rows.count * sizeof *cell_before);
    uint8_t *seen = calloc(rows.count, 1);
    for (uint32_t c = 0; c < cells.count; c++)
        for (uint32_t i = cells.first[c]; i < cells.first[c + 1]; i++)
            cell_before[cells.rows[i]] = c;
    assert_int_equal(order_build(&cells, &crew, &rows, NULL, NULL), 0);
    for (uint32_t c = 0; c < cells.count; c++)
        for (uint32_t i = cells.first[c]; i < cells.first[c + 1]; i++) {
            assert_int_equal(seen[cells.rows[i]]++, 0);
            assert_int_equal(cell_before[cells.rows[i]], cell_before[cells.rows[cells.first[c]]]);
        }
    assert_int_equal(cells.first[cells.count], rows.count);
    free(cell_before);
    free(seen);
    cells_fini(&cells);
    rows8_fini(&rows);
}

static void rows_that_follow_each_other_are_near_each_other(void **state)
{
    (void)state;
    struct rows8 rows = rows_clustered(8000, 6, 1, 30, 6);
    struct crew crew = crew_of(2);
    struct cells cells;
    uint32_t *as_given = malloc(rows.count * sizeof *as_given);
    for (uint32_t i = 0; i < rows.count; i++)
        as_given[i] = i;
    assert_int_equal(cells_build(&cells, &crew, &rows, 1, NULL, NULL), 0);
    double by_cells = mean_step(&rows, cells.rows);
    assert_int_equal(order_build(&cells, &crew, &rows, NULL, NULL), 0);
    double ordered = mean_step(&rows, cells.rows);
    assert_true(by_cells < 0.6 * mean_step(&rows, as_given));
    assert_true(ordered < 0.7 * by_cells);
    free(as_given);
    cells_fini(&cells);
    rows8_fini(&rows);
}

/* ---- an order that is gone on with ---- */

#define CELLS_MANY 9000 /* more than two ranges of them */
#define CELL_ROWS  3

/* As k-means might leave them, with little work. */
static struct cells cells_of_threes(const struct rows8 *rows)
{
    struct cells cells = {.count = CELLS_MANY};
    assert_int_equal(rows8_init(&cells.centroids, CELLS_MANY, rows->dim), 0);
    cells.first = mem_alloc_array(CELLS_MANY + 1, sizeof *cells.first);
    cells.rows = mem_alloc_array(rows->count, sizeof *cells.rows);
    assert_true(cells.first && cells.rows);
    for (uint32_t c = 0; c < CELLS_MANY; c++) {
        rows8_set(&cells.centroids, c, rows8_at(rows, CELL_ROWS * c));
        cells.first[c + 1] = CELL_ROWS * (c + 1);
    }
    for (uint32_t i = 0; i < rows->count; i++)
        cells.rows[i] = i;
    return cells;
}

/* Ends the order at one of the times when it may be saved. */
struct ending {
    uint32_t asked, at;
    uint32_t done;
};

static int end_there(void *context, uint32_t done, struct fathom_error *err)
{
    struct ending *ending = context;
    ending->done = done;
    return ending->asked++ == ending->at ? error_set(err, -ECANCELED, "ended") : 0;
}

static void an_order_that_ended_on_its_way_goes_on_to_the_same(void **state)
{
    (void)state;
    struct rows8 rows = rows_clustered(CELLS_MANY * CELL_ROWS, 4, 1, 30, 8);
    struct crew crew = crew_of(2);
    struct cells whole = cells_of_threes(&rows);
    assert_int_equal(order_build(&whole, &crew, &rows, NULL, NULL), 0);
    uint32_t before = 0;
    for (uint32_t at = 0; at < 3; at++) {
        struct cells cells = cells_of_threes(&rows);
        struct ending ending = {.at = at};
        struct order_keeper keeper = {.save = end_there, .context = &ending};
        assert_int_equal(order_build(&cells, &crew, &rows, &keeper, NULL), -ECANCELED);
        assert_true(at == 0 ? ending.done == 0 : ending.done > before);
        before = ending.done;
        ending = (struct ending){.at = UINT32_MAX};
        keeper.sorted = true;
        keeper.done = before;
        assert_int_equal(order_build(&cells, &crew, &rows, &keeper, NULL), 0);
        assert_int_equal(ending.asked, 3 - at); /* what was done is not done again */
        assert_memory_equal(cells.rows, whole.rows, rows.count * sizeof *cells.rows);
        assert_memory_equal(cells.first, whole.first, CELLS_MANY * sizeof *cells.first);
        cells_fini(&cells);
    }
    cells_fini(&whole);
    rows8_fini(&rows);
}

static void applying_the_order_moves_each_row_with_its_terms(void **state)
{
    (void)state;
    struct rows8 rows = rows_clustered(1000, 5, 10, 20, 3),
                 moved = rows_clustered(1000, 5, 10, 20, 3);
    uint32_t order[1000];
    for (uint32_t i = 0; i < 1000; i++)
        order[i] = i * 7 % 1000;
    assert_int_equal(order_apply(&moved, order, NULL), 0);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_memory_equal(rows8_at(&moved, i), rows8_at(&rows, order[i]), rows.stride);
        assert_memory_equal(&moved.terms[i], &rows.terms[order[i]], sizeof moved.terms[i]);
    }
    rows8_fini(&rows);
    rows8_fini(&moved);
}

static void a_set_of_two_clusters_is_cut_between_them(void **state)
{
    (void)state;
    struct rows8 rows = rows_clustered(200, 12, 2, 3, 9);
    struct bisect bisect;
    uint32_t ids[200];
    for (uint32_t i = 0; i < 200; i++)
        ids[i] = i;
    assert_int_equal(bisect_init(&bisect, &rows, 200), 0);
    assert_int_equal(bisect_rows(&bisect, ids, 200), 100);
    for (uint32_t i = 1; i < 100; i++) {
        assert_int_equal(ids[i] % 2, ids[0] % 2);
        assert_true(ids[i] > ids[i - 1]);
    }
    bisect_fini(&bisect);
    rows8_fini(&rows);
}

static void an_outlier_does_not_make_a_part_of_its_own(void **state)
{
    (void)state;
    struct rows8 rows = rows_clustered(160, 4, 1, 2, 9);
    struct bisect bisect;
    uint32_t ids[160];
    const uint8_t outlier[4] = {255, 255, 255, 255};
    rows8_set(&rows, 17, outlier);
    for (uint32_t i = 0; i < 160; i++)
        ids[i] = i;
    assert_int_equal(bisect_init(&bisect, &rows, 160), 0);
    assert_in_range(bisect_rows(&bisect, ids, 160), 20, 140);
    bisect_fini(&bisect);
    rows8_fini(&rows);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(the_order_is_a_permutation_and_keeps_cells_together),
    cmocka_unit_test(rows_that_follow_each_other_are_near_each_other),
    cmocka_unit_test(an_order_that_ended_on_its_way_goes_on_to_the_same),
    cmocka_unit_test(applying_the_order_moves_each_row_with_its_terms),
    cmocka_unit_test(a_set_of_two_clusters_is_cut_between_them),
    cmocka_unit_test(an_outlier_does_not_make_a_part_of_its_own),
};

FATHOM_TEST_MAIN(tests)
