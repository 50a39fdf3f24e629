/* Requests: what makes no sense is refused by name before anything is read, and what does is
 * answered, however extreme. */
#include "fathom_test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "small_index.h"

#define DIM 70 /* more than one piece of the check for finite numbers */

struct fixture {
    struct small_index small[3]; /* by metric - 1 */
    struct fathom_index *indexes[3];
    struct fathom_engine *engine;
};

static int make_fixture(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    for (int m = 0; m < 3; m++) {
        struct small_options options = {
            .rows = 1500, .dim = DIM, .metric = m + 1, .dtype = FATHOM_F32, .seed = m};
        struct fathom_open_options open = fathom_open_options_default();
        small_index_make(&fixture->small[m], &options);
        open.navigator = FATHOM_NAVIGATOR_CELLS;
        assert_int_equal(
            fathom_index_open(&fixture->indexes[m], fixture->small[m].dir, &open, NULL), 0);
    }
    fixture->engine = engine_make(FATHOM_IO_AUTO, 4);
    *state = fixture;
    return 0;
}

static int free_fixture(void **state)
{
    struct fixture *fixture = *state;
    fathom_engine_destroy(fixture->engine);
    for (int m = 0; m < 3; m++) {
        fathom_index_close(fixture->indexes[m]);
        small_index_remove(&fixture->small[m]);
    }
    free(fixture);
    return 0;
}

static uint64_t ids[FATHOM_K_MAX];
static float distances[FATHOM_K_MAX];

static int search(const struct fixture *fixture, int metric, const struct fathom_query *query,
                  struct fathom_error *err)
{
    *err = (struct fathom_error){0};
    return fathom_search(fixture->engine, fixture->indexes[metric - 1], query, ids, distances, NULL,
                         err);
}

static struct fathom_query good(const struct fixture *fixture)
{
    struct fathom_query query = fathom_query_default();
    query.vector = small_query(&fixture->small[0], 0);
    query.dim = DIM;
    return query;
}

static void expect_refused(const struct fixture *fixture, int metric,
                           const struct fathom_query *query, int code, const char *part)
{
    struct fathom_error err;
    int status = search(fixture, metric, query, &err);
    if (status != code || err.code != code || !strstr(err.msg, part))
        fail_msg("%d (%s), not %d with '%s'", status, err.msg, code, part);
    assert_int_equal(fathom_engine_running(fixture->engine), 0);
}

/* ---- refused ---- */

static void a_component_that_is_no_number_is_refused_with_its_place(void **state)
{
    const struct fixture *fixture = *state;
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (size_t b = 0; b < sizeof bad / sizeof bad[0]; b++)
        for (uint32_t d = 0; d < DIM; d++)
            for (int metric = 1; metric <= 3; metric++) {
                struct fathom_query query = good(fixture);
                float vector[DIM];
                char part[32];
                memcpy(vector, query.vector, sizeof vector);
                vector[d] = bad[b];
                query.vector = vector;
                snprintf(part, sizeof part, "component %u ", d);
                expect_refused(fixture, metric, &query, FATHOM_EARGUMENT, part);
            }
}

static void a_half_that_is_no_number_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    const uint16_t bad[] = {0x7c00, 0xfc00, 0x7e00, 0x7c01};
    for (size_t b = 0; b < sizeof bad / sizeof bad[0]; b++) {
        uint16_t vector[DIM] = {0x3c00};
        struct fathom_query query = good(fixture);
        vector[69] = bad[b];
        query.vector = vector;
        query.dtype = FATHOM_F16;
        expect_refused(fixture, FATHOM_METRIC_L2, &query, FATHOM_EARGUMENT, "component 69 ");
    }
}

static void the_zero_vector_is_refused_under_cosine_alone(void **state)
{
    const struct fixture *fixture = *state;
    float zeros[2][DIM] = {{0}, {-0.0f}};
    for (int i = 0; i < 2; i++) {
        struct fathom_query query = good(fixture);
        struct fathom_error err;
        query.vector = zeros[i];
        expect_refused(fixture, FATHOM_METRIC_COS, &query, FATHOM_EARGUMENT, "cosine");
        assert_int_equal(search(fixture, FATHOM_METRIC_L2, &query, &err), 10);
        assert_int_equal(search(fixture, FATHOM_METRIC_IP, &query, &err), 10);
        for (int k = 0; k < 10; k++)
            assert_true(fabsf(distances[k]) < 1e-3f);
    }
}

static void another_dimension_is_refused_with_both(void **state)
{
    const struct fixture *fixture = *state;
    const uint32_t dims[] = {1, DIM - 1, DIM + 1, 4096, UINT32_MAX};
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        struct fathom_query query = good(fixture);
        char part[64];
        query.dim = dims[i];
        snprintf(part, sizeof part, "%u dimensions, the index %u", dims[i], DIM);
        expect_refused(fixture, FATHOM_METRIC_L2, &query, FATHOM_EDIM, part);
    }
    struct fathom_query query = good(fixture);
    struct fathom_error err;
    query.dim = 0; /* trusts the caller */
    assert_int_equal(search(fixture, FATHOM_METRIC_L2, &query, &err), 10);
}

static void k_has_its_limits(void **state)
{
    const struct fixture *fixture = *state;
    const uint32_t ks[] = {0, FATHOM_K_MAX + 1, INT32_MAX, UINT32_MAX};
    for (size_t i = 0; i < sizeof ks / sizeof ks[0]; i++) {
        struct fathom_query query = good(fixture);
        char part[64];
        query.k = ks[i];
        snprintf(part, sizeof part, "k is %u; it must be 1 to %d", ks[i], FATHOM_K_MAX);
        expect_refused(fixture, FATHOM_METRIC_L2, &query, FATHOM_ELIMIT, part);
    }
}

static void the_search_list_has_its_limits(void **state)
{
    const struct fixture *fixture = *state;
    struct fathom_query query = good(fixture);
    struct fathom_error err;
    query.search_list = FATHOM_SEARCH_LIST_MAX + 1;
    expect_refused(fixture, FATHOM_METRIC_L2, &query, FATHOM_ELIMIT, "search_list");
    query.search_list = UINT32_MAX;
    expect_refused(fixture, FATHOM_METRIC_L2, &query, FATHOM_ELIMIT, "search_list");
    query.search_list = FATHOM_SEARCH_LIST_MAX;
    assert_int_equal(search(fixture, FATHOM_METRIC_L2, &query, &err), 10);
    query.search_list = 0; /* the default */
    assert_int_equal(search(fixture, FATHOM_METRIC_L2, &query, &err), 10);
}

static void the_target_recall_is_between_0_and_1(void **state)
{
    const struct fixture *fixture = *state;
    const float bad[] = {-0.1f, 1, 1.5f, INFINITY, NAN};
    struct fathom_error err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct fathom_query query = good(fixture);
        query.target_recall = bad[i];
        expect_refused(fixture, FATHOM_METRIC_L2, &query, FATHOM_EARGUMENT, "target_recall");
    }
    struct fathom_query query = good(fixture);
    query.target_recall = 0.9f;
    assert_int_equal(search(fixture, FATHOM_METRIC_L2, &query, &err), 10);
}

static void a_vector_or_type_that_is_missing_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    struct fathom_query query = good(fixture);
    query.vector = NULL;
    expect_refused(fixture, FATHOM_METRIC_L2, &query, FATHOM_EARGUMENT, "vector");
    for (int dtype = -1; dtype <= 6; dtype++) {
        query = good(fixture);
        query.dtype = dtype;
        if (dtype < FATHOM_F32 || dtype > FATHOM_U8)
            expect_refused(fixture, FATHOM_METRIC_L2, &query, FATHOM_EARGUMENT, "dtype");
    }
}

static void slots_of_an_engine_are_1_to_256(void **state)
{
    const unsigned bad[] = {257, UINT32_MAX};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct fathom_engine_options options = {.inflight = bad[i]};
        struct fathom_engine *engine = (void *)state;
        assert_int_equal(fathom_engine_create(&engine, &options, NULL), FATHOM_ELIMIT);
        assert_null(engine);
    }
    fathom_engine_destroy(engine_make(FATHOM_IO_PREAD, 256));
    fathom_engine_destroy(engine_make(FATHOM_IO_PREAD, 0)); /* as many as usual */
    fathom_engine_destroy(NULL);
}

/* ---- extreme, but answered ---- */

/* A query's length does not change who is nearest under cosine and inner product. */
static void the_length_of_a_query_does_not_matter_but_to_l2(void **state)
{
    const struct fixture *fixture = *state;
    const float factors[] = {1e-30f, 1e-6f, 1e-3f, 1, 1e3f, 1e6f, 1e30f};
    for (int metric = FATHOM_METRIC_IP; metric <= FATHOM_METRIC_COS; metric++)
        for (size_t f = 0; f < sizeof factors / sizeof factors[0]; f++) {
            const struct small_index *small = &fixture->small[metric - 1];
            uint32_t right = 0;
            for (uint32_t q = 0; q < 20; q++) {
                float vector[DIM];
                struct fathom_error err;
                struct fathom_query query = fathom_query_default();
                for (uint32_t d = 0; d < DIM; d++)
                    vector[d] = small->queries[q * DIM + d] * factors[f];
                query.vector = vector;
                query.search_list = 100;
                assert_int_equal(search(fixture, metric, &query, &err), 10);
                right += small_right(small, q, ids, 10);
                for (int i = 0; i < 10; i++) {
                    double wanted = small_distance(small, q, ids[i]) *
                                    (metric == FATHOM_METRIC_IP ? factors[f] : 1);
                    double scale = fmax(fabs(wanted), metric == FATHOM_METRIC_IP ? factors[f] : 1);
                    if (!(fabs(distances[i] - wanted) <= 0.05 * scale))
                        fail_msg("%s, %g times: distance %g, but it is %g",
                                 fathom_metric_name(metric), (double)factors[f],
                                 (double)distances[i], wanted);
                }
            }
            if (right < 190)
                fail_msg("%s, queries %g times as long: %u of 200 right",
                         fathom_metric_name(metric), (double)factors[f], right);
        }
}

static void values_that_overflow_do_no_harm(void **state)
{
    const struct fixture *fixture = *state;
    const float huge[] = {1e15f, 1e20f, 3e38f, -3e38f};
    for (int metric = 1; metric <= 3; metric++)
        for (size_t i = 0; i < sizeof huge / sizeof huge[0]; i++)
            for (int exact = 0; exact < 2; exact++) {
                float vector[DIM];
                struct fathom_error err;
                struct fathom_query query = good(fixture);
                for (uint32_t d = 0; d < DIM; d++)
                    vector[d] = d % 3 ? huge[i] : -huge[i];
                query.vector = vector;
                query.exact_distances = exact;
                int found = search(fixture, metric, &query, &err);
                if (metric == FATHOM_METRIC_L2 && i > 0) { /* the squares do not fit a float */
                    assert_int_equal(found, FATHOM_EARGUMENT);
                    assert_non_null(strstr(err.msg, "too long"));
                    continue;
                }
                assert_in_range(found, 1, 10);
                for (int k = 0; k < found; k++) {
                    assert_true(ids[k] < 1500);
                    assert_false(isnan(distances[k]));
                    assert_true(k == 0 || distances[k] >= distances[k - 1]);
                }
            }
}

/* What is nearest is the row itself, at no distance. */
static void a_row_finds_itself(void **state)
{
    const struct fixture *fixture = *state;
    for (int metric = FATHOM_METRIC_L2; metric <= FATHOM_METRIC_COS; metric += 2)
        for (uint32_t row = 0; row < 1500; row += 37) {
            struct fathom_query query = good(fixture);
            struct fathom_error err;
            query.vector = fixture->small[metric - 1].rows + row * DIM;
            query.exact_distances = true;
            query.search_list = 100;
            assert_int_equal(search(fixture, metric, &query, &err), 10);
            assert_int_equal(ids[0], row);
            assert_true(fabsf(distances[0]) < 1e-5f);
        }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_component_that_is_no_number_is_refused_with_its_place),
        cmocka_unit_test(a_half_that_is_no_number_is_refused),
        cmocka_unit_test(the_zero_vector_is_refused_under_cosine_alone),
        cmocka_unit_test(another_dimension_is_refused_with_both),
        cmocka_unit_test(k_has_its_limits),
        cmocka_unit_test(the_search_list_has_its_limits),
        cmocka_unit_test(the_target_recall_is_between_0_and_1),
        cmocka_unit_test(a_vector_or_type_that_is_missing_is_refused),
        cmocka_unit_test(slots_of_an_engine_are_1_to_256),
        cmocka_unit_test(the_length_of_a_query_does_not_matter_but_to_l2),
        cmocka_unit_test(values_that_overflow_do_no_harm),
        cmocka_unit_test(a_row_finds_itself),
    };
    return cmocka_run_group_tests(tests, make_fixture, free_fixture);
}
