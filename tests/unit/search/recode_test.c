/* Codes that are made with a trellis when they are loaded: which levels have one,
 * and that estimates err less than those of codes without. */
#include "fathom_test.h"

#include <math.h>

#include "answers.h"
#include "bits.h"
#include "index.h"
#include "opened.h"
#include "query.h"
#include "recode.h"

#define DIM     96
#define ROWS    6011 /* the last of them no whole batch */
#define QUERIES 60

static int make_fixture(void **state)
{
    const struct small_options options = small_f32(ROWS, DIM, QUERIES, 21);
    return opened_make(state, &options);
}

/* All that have enough groups, and second bits, do; not those that are read from SSD. */
static void levels_in_memory_have_a_trellis(void **state)
{
    const struct opened *fixture = *state;
    struct fathom_index *any = index_of_codes(fixture->small.dir, 0, FATHOM_NAVIGATOR_CELLS);
    uint32_t with = 0;
    for (uint32_t l = 0; l < any->level_count; l++) {
        struct fathom_index *index =
            index_of_codes(fixture->small.dir, any->level_bytes[l], FATHOM_NAVIGATOR_CELLS);
        bool wanted = index->level.groups[0] >= KERNEL_MEMORY &&
                      2 * index->level.groups[1] >= index->level.groups[0];
        assert_true((index->codes_plan.trellis != NULL) == wanted);
        with += wanted;
        fathom_index_close(index);
    }
    assert_true(with > 10);
    fathom_index_close(any);
    assert_int_equal(scan_open(&any, env_os(), fixture->small.dir, 1, 1, NULL), 0);
    assert_null(any->codes_plan.trellis);
    fathom_index_close(any);
}

/* Of the candidates of a search, which error they have in their own standard errors. */
struct errors {
    const struct opened *fixture;
    const struct fathom_index *index;
    double square;
    uint32_t count, query;
};

static double exact_distance(const struct errors *errors, uint32_t row)
{
    const struct small_index *small = &errors->fixture->small;
    uint64_t id = bits_load(errors->index->ids, errors->index->properties.id_bits, row);
    double step = errors->index->model.row8.step;
    return small_distance(small, errors->query, id) / (step * step);
}

static void take_candidates(void *context, struct query *query, struct navigator *navigator)
{
    struct errors *errors = context;
    (void)navigator;
    for (uint32_t i = 0; i < query->candidate_count; i++) {
        const struct candidate *c = &query->candidates[i];
        double error = (c->estimate - exact_distance(errors, c->row)) / c->sigma;
        errors->square += error * error;
        errors->count++;
    }
}

/* Closes the index. search_list: as many candidates as others have, since the last of more err
 * less; 0: the default. */
static double squared_errors(const struct opened *fixture, struct fathom_index *index,
                             uint32_t search_list)
{
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 1);
    struct errors errors = {.fixture = fixture, .index = index};
    struct query_probe probe = {ROW_NONE, take_candidates, &errors};
    for (errors.query = 0; errors.query < QUERIES; errors.query++) {
        struct fathom_query request = small_request(&fixture->small, errors.query);
        struct fathom_result result;
        request.vector = small_query(&fixture->small, errors.query);
        request.search_list = search_list;
        assert_int_equal(engine_submit_probe(engine, index, &request, &probe, NULL), 0);
        assert_int_equal(fathom_engine_poll(engine, &result, 1, true), 1);
    }
    fathom_engine_destroy(engine);
    fathom_index_close(index);
    return errors.square / errors.count;
}

/* Standard errors are those of codes without a trellis, as they lie on pages; errors are less than
 * theirs, but not by much. */
static void estimates_err_less_than_they_say(void **state)
{
    const struct opened *fixture = *state;
    struct fathom_index *pages;
    assert_int_equal(scan_open(&pages, env_os(), fixture->small.dir, 1, 1, NULL), 0);
    uint32_t bytes = pages->level.code_bytes;
    double without = squared_errors(fixture, pages, 16);
    for (int n = 0; n < 6; n++) {
        enum fathom_navigator navigator = n % 2 ? FATHOM_NAVIGATOR_GRAPH : FATHOM_NAVIGATOR_CELLS;
        struct fathom_index *index =
            index_of_codes(fixture->small.dir, bytes - 1 + (uint32_t)n / 2, navigator);
        double with = squared_errors(fixture, index, 0);
        assert_true(with < 0.95 * without && with > 0.5 * without);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_in_memory_have_a_trellis),
        cmocka_unit_test(estimates_err_less_than_they_say),
    };
    return cmocka_run_group_tests(tests, make_fixture, opened_free);
}
