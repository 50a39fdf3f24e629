/* What the cell navigator does before it refines: codes put together again from their slices, the
 * nearest cells by packed centroids, and the share of near rows that a first look lets through. */
#include "fathom_test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "index.h"
#include "query.h"
#include "small_index.h"

#define DIM     72
#define ROWS    9000
#define QUERIES 40
#define WANTED  12

/* Embeddings as wide as they come: even the shortest codes are long. */
#define WIDE_DIM  4096
#define WIDE_ROWS 300

struct fixture {
    struct small_index small, wide;
};

static int make_fixture(void **state)
{
    struct small_options options = small_f32(ROWS, DIM, QUERIES, 12);
    struct fixture *fixture = calloc(1, sizeof *fixture);
    options.no_points = true;
    small_index_make(&fixture->small, &options);
    options.rows = WIDE_ROWS;
    options.dim = WIDE_DIM;
    small_index_make(&fixture->wide, &options);
    *state = fixture;
    return 0;
}

static int free_fixture(void **state)
{
    struct fixture *fixture = *state;
    small_index_remove(&fixture->small);
    small_index_remove(&fixture->wide);
    free(fixture);
    return 0;
}

/* Returns how many levels are looked at twice. */
static uint32_t check_codes(const struct small_index *small)
{
    uint32_t rows = small->options.rows;
    struct fathom_index *any = index_of_codes(small->dir, 0, FATHOM_NAVIGATOR_CELLS);
    uint32_t two_looks = 0;
    for (uint32_t l = 0; l < any->level_count; l++) {
        uint32_t bytes = any->level_bytes[l];
        struct fathom_index *graph = index_of_codes(small->dir, bytes, FATHOM_NAVIGATOR_GRAPH);
        struct fathom_index *cells = index_of_codes(small->dir, bytes, FATHOM_NAVIGATOR_CELLS);
        uint8_t *code = malloc(bytes + CODES_JOIN_SLACK);
        for (uint32_t row = 0; row < rows; row += row < rows - 20 ? 7 : 1) {
            memset(code, 0xcc, bytes + CODES_JOIN_SLACK);
            codes_join(cells, &row, 1, code);
            assert_memory_equal(code, graph->codes + (size_t)row * bytes, bytes);
        }
        two_looks += cells->coarse.rest_bytes > 0;
        free(code);
        fathom_index_close(graph);
        fathom_index_close(cells);
    }
    assert_true(two_looks < any->level_count);
    fathom_index_close(any);
    return two_looks;
}

static void sliced_codes_are_the_codes(void **state)
{
    const struct fixture *fixture = *state;
    assert_true(check_codes(&fixture->small) > 0);
    assert_true(check_codes(&fixture->wide) > 0);
}

/* The distances of all centroids, as rows, which the graph keeps. */
static void measure_rows(const struct fathom_index *graph, const struct query *query,
                         float *distances)
{
    for (uint32_t c = 0; c < graph->properties.cells; c++) {
        struct kernel_score8 score;
        kernels_get()->score8_rows(&score, &query->row8.weights, graph->centroids + (size_t)c * DIM,
                                   DIM, 1);
        distances[c] = row8_distance(&query->row8, &score);
    }
}

static uint32_t nearer_than(const float *distances, uint32_t cells, float limit)
{
    uint32_t nearer = 0;
    for (uint32_t c = 0; c < cells; c++)
        nearer += distances[c] < limit;
    return nearer;
}

/* Packed centroids against the same as rows. */
static void the_nearest_cells_are_found(void **state)
{
    const struct small_index *small = &((const struct fixture *)*state)->small;
    struct fathom_index *index = index_of_codes(small->dir, 0, FATHOM_NAVIGATOR_CELLS),
                        *graph = index_of_codes(small->dir, index->level.code_bytes,
                                                FATHOM_NAVIGATOR_GRAPH);
    uint32_t cells = index->properties.cells, beyond = 0;
    struct navigator n = {0};
    struct navigator_capacity capacity = {.work_dim = index->properties.work_dim,
                                          .cells = cells,
                                          .ranked = WANTED,
                                          .looked_at = 1,
                                          .candidates = 64};
    float *right = calloc(cells, sizeof *right);
    assert_non_null(right);
    assert_int_equal(navigator_reserve(&n, capacity), 0);
    assert_true(cells > 4 * WANTED && cells % CENTROIDS_CLUMP != 0);
    for (uint32_t q = 0; q < QUERIES; q++) {
        int8_t hi[128], lo[128];
        float vector[DIM];
        struct query query = {.index = index, .vector = vector, .hi = hi, .lo = lo};
        memcpy(vector, small_query(small, q), sizeof vector);
        navigator_prepare(&n, &query);
        assert_int_equal(rank_nearest(&n, &query, WANTED), WANTED);
        measure_rows(graph, &query, right);
        /* Each of the weights is rounded by up to 8 quanta, and counts twice with a value of up to
         * 15: what follows is six times the standard deviation of that if all were 15. */
        float most = 6 * 2 * 16 * query.row8.quantum * 15 * sqrtf(DIM / 12.0f);
        for (uint32_t c = 0; c < cells; c++)
            assert_true(fabsf(n.cell_distance[c] - right[c]) <= most + 1e-5f * right[c]);
        for (uint32_t i = 0; i < WANTED; i++)
            beyond += nearer_than(right, cells, right[n.cell_order[i]]) >= WANTED;
    }
    assert_true(beyond * 20 < QUERIES * WANTED); /* they are sorted up to a bucket's width */
    free(right);
    navigator_fini(&n);
    fathom_index_close(graph);
    fathom_index_close(index);
}

/* With every cell scanned, only the first look can lose a row. */
static void check_look(struct small_index *small, uint32_t code_bytes)
{
    struct fathom_index *index = index_of_codes(small->dir, code_bytes, FATHOM_NAVIGATOR_CELLS);
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 1);
    struct fathom_query request = fathom_query_default();
    struct answers answers;
    uint32_t right = 0;
    request.search_list = index->properties.cells;
    request.refine_threshold = 1e-6f;
    answers_get(&answers, engine, index, &request, small->raw_queries, small->options.dim, QUERIES,
                1);
    for (uint32_t q = 0; q < QUERIES; q++) {
        right += small_right(small, q, answers.all[q].ids, 10);
        assert_int_equal(answers.all[q].stats.code_distances, small->options.rows);
    }
    assert_true(right * 100 >= QUERIES * 10 * 99);
    answers_free(&answers);
    fathom_engine_destroy(engine);
    fathom_index_close(index);
}

static void a_first_look_lets_near_rows_through(void **state)
{
    struct fixture *fixture = *state;
    struct fathom_index *wide = index_of_codes(fixture->wide.dir, 0, FATHOM_NAVIGATOR_CELLS);
    uint32_t least = wide->level_bytes[0];
    fathom_index_close(wide);
    assert_in_range(least, 200, WIDE_DIM); /* or it is not wide */
    check_look(&fixture->small, 0);
    check_look(&fixture->wide, 0);
    check_look(&fixture->wide, least);
}

/* About as far as a query may be: the answers are of no use, but they are answers. */
static void queries_far_off_are_answered(void **state)
{
    const struct fixture *fixture = *state;
    const float lengths[] = {1e16f, -1e16f, 1e12f, 1e6f};
    const enum fathom_navigator navigators[] = {FATHOM_NAVIGATOR_CELLS, FATHOM_NAVIGATOR_GRAPH};
    float vectors[4 * DIM];
    for (size_t i = 0; i < 4 * DIM; i++)
        vectors[i] = i % 3 ? lengths[i / DIM] : (float)i;
    for (int n = 0; n < 2; n++) {
        struct fathom_index *index = index_of_codes(fixture->small.dir, 9, navigators[n]);
        struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 1);
        struct fathom_query request = fathom_query_default();
        struct answers answers;
        answers_get(&answers, engine, index, &request, vectors, DIM, 4, 1);
        for (uint32_t q = 0; q < 4; q++) {
            assert_int_equal(answers.all[q].status, 0);
            answer_assert_formed(&answers, q);
        }
        answers_free(&answers);
        fathom_engine_destroy(engine);
        fathom_index_close(index);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sliced_codes_are_the_codes),
        cmocka_unit_test(the_nearest_cells_are_found),
        cmocka_unit_test(a_first_look_lets_near_rows_through),
        cmocka_unit_test(queries_far_off_are_answered),
    };
    return cmocka_run_group_tests(tests, make_fixture, free_fixture);
}
