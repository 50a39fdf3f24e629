/* K-means cells: every row in one cell, near its centroid, whatever the data and the threads. */
#include "builder_support.h"

#include <stdlib.h>
#include <string.h>

#include "assign.h"
#include "cells_pack.h"
#include "centroids.h"

static void assert_partition(const struct cells *cells, uint32_t rows)
{
    uint8_t *seen = calloc(rows, 1);
    assert_int_equal(cells->first[0], 0);
    assert_int_equal(cells->first[cells->count], rows);
    for (uint32_t c = 0; c < cells->count; c++) {
        uint32_t size = cells->first[c + 1] - cells->first[c];
        assert_in_range(size, 1, CELLS_ROWS_MAX);
    }
    for (uint32_t i = 0; i < rows; i++) {
        assert_in_range(cells->rows[i], 0, rows - 1);
        assert_int_equal(seen[cells->rows[i]]++, 0);
    }
    free(seen);
}

static void assigning_finds_the_nearest_of_all_candidates(void **state)
{
    (void)state;
    struct rows8 rows = rows_clustered(700, 37, 9, 20, 3),
                 centroids = rows_clustered(61, 37, 61, 0, 4);
    struct assign assign;
    (void)crew_of(1);
    uint32_t ids[700], nearest[700];
    for (uint32_t i = 0; i < 700; i++)
        ids[i] = 699 - i;
    assert_int_equal(assign_init(&assign, 37, 61), 0);
    assign_clear(&assign, &centroids);
    assign_add(&assign, 0, 61);
    assign_rows(&assign, &rows, ids, 700, nearest);
    for (uint32_t i = 0; i < 700; i++) {
        uint32_t best = 0;
        for (uint32_t c = 1; c < 61; c++)
            if (rows8_distance(rows8_at(&rows, ids[i]), rows8_at(&centroids, c), 37) <
                rows8_distance(rows8_at(&rows, ids[i]), rows8_at(&centroids, best), 37))
                best = c;
        assert_int_equal(nearest[i], best);
    }
    assign_fini(&assign);
    rows8_fini(&rows);
    rows8_fini(&centroids);
}

static void cells_follow_the_clusters_of_the_data(void **state)
{
    (void)state;
    const uint32_t clusters = 50;
    struct rows8 rows = rows_clustered(6400, 24, clusters, 2, 1);
    struct crew crew = crew_of(2);
    struct cells cells;
    assert_int_equal(cells_build(&cells, &crew, &rows, 1, NULL, NULL), 0);
    assert_partition(&cells, rows.count);
    uint32_t strangers = 0;
    for (uint32_t c = 0; c < cells.count; c++)
        for (uint32_t i = cells.first[c]; i < cells.first[c + 1]; i++)
            strangers += cells.rows[i] % clusters != cells.rows[cells.first[c]] % clusters;
    assert_in_range(strangers, 0, rows.count / 20);
    cells_fini(&cells);
    rows8_fini(&rows);
}

static void rows_lie_in_the_cell_whose_centroid_is_nearest(void **state)
{
    (void)state;
    struct rows8 rows = rows_clustered(10000, 16, 300, 12, 5);
    struct crew crew = crew_of(2);
    struct cells cells;
    assert_int_equal(cells_build(&cells, &crew, &rows, 1, NULL, NULL), 0);
    uint32_t elsewhere = 0;
    for (uint32_t c = 0; c < cells.count; c++) {
        for (uint32_t i = cells.first[c]; i < cells.first[c + 1]; i++) {
            const uint8_t *row = rows8_at(&rows, cells.rows[i]);
            uint32_t own = rows8_distance(row, rows8_at(&cells.centroids, c), 16);
            for (uint32_t other = 0; other < cells.count; other++) {
                if (rows8_distance(row, rows8_at(&cells.centroids, other), 16) < own) {
                    elsewhere++;
                    break;
                }
            }
        }
    }
    /* Far groups are not probed, so a few may miss theirs. */
    assert_in_range(elsewhere, 0, rows.count / 100);
    cells_fini(&cells);
    rows8_fini(&rows);
}

static void equal_rows_are_spread_over_cells_of_bounded_size(void **state)
{
    (void)state;
    struct rows8 rows = rows_equal(5000, 8);
    struct crew crew = crew_of(2);
    struct cells cells;
    assert_int_equal(cells_build(&cells, &crew, &rows, 1, NULL, NULL), 0);
    assert_partition(&cells, rows.count);
    assert_memory_equal(rows8_at(&cells.centroids, 0), rows8_at(&rows, 0), 8);
    cells_fini(&cells);
    rows8_fini(&rows);
}

static void one_row_is_one_cell(void **state)
{
    (void)state;
    struct rows8 rows = rows_clustered(1, 3, 1, 0, 1);
    struct crew crew = crew_of(4);
    struct cells cells;
    assert_int_equal(cells_build(&cells, &crew, &rows, 1, NULL, NULL), 0);
    assert_int_equal(cells.count, 1);
    assert_partition(&cells, 1);
    cells_fini(&cells);
    rows8_fini(&rows);
}

static void any_number_of_threads_gives_the_same_cells(void **state)
{
    (void)state;
    struct rows8 rows = rows_clustered(20000, 20, 97, 25, 8);
    struct cells cells[3];
    for (unsigned i = 0; i < 3; i++) {
        struct crew crew = crew_of(1u << i);
        assert_int_equal(cells_build(&cells[i], &crew, &rows, 7, NULL, NULL), 0);
        assert_int_equal(cells[i].count, cells[0].count);
        assert_memory_equal(cells[i].first, cells[0].first,
                            (cells[0].count + 1) * sizeof(uint32_t));
        assert_memory_equal(cells[i].rows, cells[0].rows, rows.count * sizeof(uint32_t));
        assert_memory_equal(cells[i].centroids.bytes, cells[0].centroids.bytes,
                            cells[0].count * cells[0].centroids.stride);
    }
    for (unsigned i = 0; i < 3; i++)
        cells_fini(&cells[i]);
    rows8_fini(&rows);
}

/* ---- packed ---- */

/* Cells whose centroids are these rows: all that packing looks at. */
static struct cells cells_of(const struct rows8 *rows)
{
    struct cells cells = {.count = rows->count};
    assert_int_equal(rows8_init(&cells.centroids, rows->count, rows->dim), 0);
    for (uint32_t c = 0; c < rows->count; c++)
        rows8_set(&cells.centroids, c, rows8_at(rows, c));
    return cells;
}

/* What a reader sees is what is encoded against; terms follow the rows. */
static void assert_packed(const struct cells *cells, const uint8_t *packed)
{
    uint32_t dim = cells->centroids.dim;
    struct centroids all = centroids_of(packed, cells->count, dim);
    uint8_t row[256];
    for (uint32_t c = 0; c < cells->count; c++) {
        struct row8_terms terms = rows8_terms_of(rows8_at(&cells->centroids, c), dim);
        assert_true(centroids_decode(&all, c, row));
        assert_memory_equal(row, rows8_at(&cells->centroids, c), dim);
        assert_memory_equal(&terms, &cells->centroids.terms[c], sizeof terms);
    }
}

/* Values of few steps of any size are exact; at the ends of a byte too. */
static void centroids_of_few_values_are_packed_exactly(void **state)
{
    (void)state;
    struct crew crew = crew_of(1);
    struct rows8 rows;
    assert_int_equal(rows8_init(&rows, 75, 19), 0);
    for (uint32_t c = 0; c < 75; c++) {
        uint8_t row[19];
        for (uint32_t d = 0; d < 19; d++)
            row[d] = (uint8_t)(d == 0   ? c % 2 * 225
                               : d == 1 ? 255
                               : d == 2 ? 0
                                        : 16 * (c / 32) + d % 12 * (c % 16));
        rows8_set(&rows, c, row);
    }
    struct cells cells = cells_of(&rows);
    uint8_t *packed;
    assert_int_equal(cells_pack(&cells, &crew, &packed, NULL), 0);
    assert_packed(&cells, packed);
    for (uint32_t c = 0; c < 75; c++)
        assert_memory_equal(rows8_at(&cells.centroids, c), rows8_at(&rows, c), 19);
    mem_free(packed);
    cells_fini(&cells);
    rows8_fini(&rows);
}

/* No value is farther off than half of the range of all numbers in 15 steps, and one for what is
 * whole. */
static void packing_is_near_and_the_same_for_any_threads(void **state)
{
    (void)state;
    struct rows8 rows = rows_clustered(1000, 43, 40, 30, 11);
    uint8_t *packed[3];
    for (unsigned i = 0; i < 3; i++) {
        struct crew crew = crew_of(1u << i);
        struct cells cells = cells_of(&rows);
        assert_int_equal(cells_pack(&cells, &crew, &packed[i], NULL), 0);
        assert_packed(&cells, packed[i]);
        assert_memory_equal(packed[i], packed[0], centroids_bytes(1000, 43));
        uint64_t error = 0;
        for (uint32_t c = 0; c < 1000; c++)
            error += rows8_distance(rows8_at(&cells.centroids, c), rows8_at(&rows, c), 43);
        assert_true(error > 0 &&
                    error < (uint64_t)1000 * 43 * 25); /* 255 / 15 / sqrt(12), squared */
        cells_fini(&cells);
    }
    for (unsigned i = 0; i < 3; i++)
        mem_free(packed[i]);
    rows8_fini(&rows);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(assigning_finds_the_nearest_of_all_candidates),
    cmocka_unit_test(cells_follow_the_clusters_of_the_data),
    cmocka_unit_test(rows_lie_in_the_cell_whose_centroid_is_nearest),
    cmocka_unit_test(equal_rows_are_spread_over_cells_of_bounded_size),
    cmocka_unit_test(one_row_is_one_cell),
    cmocka_unit_test(any_number_of_threads_gives_the_same_cells),
    cmocka_unit_test(centroids_of_few_values_are_packed_exactly),
    cmocka_unit_test(packing_is_near_and_the_same_for_any_threads),
};

FATHOM_TEST_MAIN(tests)
