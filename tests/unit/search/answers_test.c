/* Answers against naive computation: both navigators, every metric and type, dimensions from 1 to
 * more than a page, every k. */
#include "fathom_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "index.h"
#include "small_index.h"

#define L2          FATHOM_METRIC_L2
#define IP          FATHOM_METRIC_IP
#define COS         FATHOM_METRIC_COS
#define QUERIES     100
#define RESIDENCIES 3

/* ---- opening at each residency ---- */

struct residency {
    const char *name;
    enum fathom_navigator navigator;
    bool codes; /* the longest codes, instead of the 8-bit rows */
};

static const struct residency residencies[RESIDENCIES] = {
    {"graph, rows", FATHOM_NAVIGATOR_GRAPH, false},
    {"graph, codes", FATHOM_NAVIGATOR_GRAPH, true},
    {"cells, codes", FATHOM_NAVIGATOR_CELLS, true},
};

static struct fathom_index *open_with(const struct small_index *small,
                                      struct fathom_open_options options)
{
    struct fathom_index *index;
    struct fathom_error err = {0};
    if (fathom_index_open(&index, small->dir, &options, &err) != 0)
        fail_msg("%s", err.msg);
    return index;
}

static struct fathom_index *open_at(const struct small_index *small,
                                    const struct residency *residency)
{
    struct fathom_open_options options = fathom_open_options_default();
    struct fathom_index_info info;
    options.navigator = residency->navigator;
    struct fathom_index *index = open_with(small, options);
    if (residency->codes) {
        options.code_bytes = index->level_bytes[index->level_count - 1];
        fathom_index_close(index);
        index = open_with(small, options);
    }
    fathom_index_get_info(index, &info);
    assert_int_equal(info.navigator, residency->navigator);
    assert_true((index->rows8 == NULL) == residency->codes);
    return index;
}

static void ask(struct answers *answers, const struct small_index *small,
                const struct fathom_index *index, struct fathom_query request)
{
    struct fathom_engine *engine = engine_make(FATHOM_IO_AUTO, 8);
    request.dtype = small->options.dtype;
    request.dim = small->options.dim;
    answers_get(answers, engine, index, &request, small->raw_queries, small->options.dim,
                small->options.queries, 8);
    fathom_engine_destroy(engine);
    for (uint32_t q = 0; q < answers->count; q++)
        answer_assert_formed(answers, q);
}

static double recall(const struct small_index *small, const struct answers *answers, uint32_t k)
{
    uint32_t right = 0;
    for (uint32_t q = 0; q < answers->count; q++)
        right += small_right(small, q, answers->all[q].ids, k);
    return (double)right / answers->count / k;
}

/* ---- exact distances ---- */

static void expect_exact(const struct small_index *small, const struct answers *answers,
                         const char *what)
{
    for (uint32_t q = 0; q < answers->count; q++)
        for (uint32_t i = 0; i < answers->all[q].count; i++) {
            double truth = small_distance(small, q, answers->all[q].ids[i]),
                   got = answers->all[q].distances[i];
            /* Relative to what is subtracted on the way: 1 - cos and the inner product may be near
             * zero. */
            double scale = small->options.metric == L2 ? truth : fmax(fabs(truth), 1);
            if (fabs(got - truth) > 1e-4 * scale + 1e-5)
                fail_msg("%s: query %u, result %u: distance %.8g, but it is %.8g", what, q, i, got,
                         truth);
        }
}

/* ---- every shape at every residency ---- */

static void check_shape(const struct small_options *options)
{
    struct small_index small;
    small_index_make(&small, options);
    for (size_t r = 0; r < RESIDENCIES; r++) {
        struct fathom_index *index = open_at(&small, &residencies[r]);
        struct fathom_query request = fathom_query_default();
        struct answers answers;
        char what[128];
        snprintf(what, sizeof what, "%s %s, %u dimensions, %s", fathom_metric_name(options->metric),
                 fathom_dtype_name(options->dtype), options->dim, residencies[r].name);
        request.k = 10;
        request.search_list = 100;
        ask(&answers, &small, index, request);
        double reached = recall(&small, &answers, 10);
        if (reached < 0.95)
            fail_msg("%s: recall@10 is %.3f", what, reached);
        answers_free(&answers);
        request.exact_distances = true;
        ask(&answers, &small, index, request);
        reached = recall(&small, &answers, 10);
        if (reached < 0.95)
            fail_msg("%s: recall@10 with exact distances is %.3f", what, reached);
        expect_exact(&small, &answers, what);
        answers_free(&answers);
        fathom_index_close(index);
    }
    small_index_remove(&small);
}

static void answers_are_right_for_every_metric_and_type(void **state)
{
    (void)state;
    for (int metric = L2; metric <= COS; metric++)
        for (int dtype = FATHOM_F32; dtype <= FATHOM_U8; dtype++) {
            struct small_options options = {.rows = 1500,
                                            .dim = 24,
                                            .metric = metric,
                                            .dtype = dtype,
                                            .seed = 10 * metric + dtype};
            check_shape(&options);
        }
}

static void answers_are_right_for_every_dimension(void **state)
{
    static const struct small_options shapes[] = {
        {.rows = 900, .dim = 1, .metric = L2, .dtype = FATHOM_F32},
        {.rows = 900, .dim = 1, .metric = IP, .dtype = FATHOM_I8},
        {.rows = 900, .dim = 1, .metric = COS, .dtype = FATHOM_F16},
        {.rows = 1200, .dim = 6, .metric = L2, .dtype = FATHOM_I8},
        {.rows = 1200, .dim = 6, .metric = IP, .dtype = FATHOM_F32},
        {.rows = 1200, .dim = 6, .metric = COS, .dtype = FATHOM_U8},
        {.rows = 1200, .dim = 100, .metric = L2, .dtype = FATHOM_U8},
        {.rows = 1200, .dim = 100, .metric = IP, .dtype = FATHOM_F16},
        {.rows = 1200, .dim = 100, .metric = COS, .dtype = FATHOM_F32},
        {.rows = 300,
         .dim = 1536,
         .metric = L2,
         .dtype = FATHOM_F32}, /* a vector is longer than a page */
    };
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        check_shape(&shapes[i]);
}

static void few_rows_are_all_found(void **state)
{
    static const uint32_t counts[] = {1, 2, 3, 5, 8, 33};
    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        for (size_t r = 0; r < RESIDENCIES; r++) {
            struct small_options options = {
                .rows = counts[i], .dim = 12, .metric = L2, .dtype = FATHOM_F32};
            struct fathom_query request = fathom_query_default();
            struct small_index small;
            struct answers answers;
            small_index_make(&small, &options);
            struct fathom_open_options open = fathom_open_options_default();
            open.navigator = residencies[r].navigator;
            struct fathom_index *index = open_with(&small, open);
            request.k = 40;
            request.exact_distances = true;
            ask(&answers, &small, index, request);
            for (uint32_t q = 0; q < answers.count; q++)
                assert_int_equal(answers.all[q].count, counts[i]);
            expect_exact(&small, &answers, "few rows");
            answers_free(&answers);
            fathom_index_close(index);
            small_index_remove(&small);
        }
}

/* ---- one index, many requests ---- */

struct fixture {
    struct small_index small;
    struct fathom_index *indexes[RESIDENCIES]; /* by residency */
};

static int make_fixture(void **state)
{
    struct small_options options = {
        .rows = 2000, .dim = 40, .metric = L2, .dtype = FATHOM_F32, .queries = QUERIES, .seed = 77};
    struct fixture *fixture = calloc(1, sizeof *fixture);
    small_index_make(&fixture->small, &options);
    for (size_t r = 0; r < RESIDENCIES; r++)
        fixture->indexes[r] = open_at(&fixture->small, &residencies[r]);
    *state = fixture;
    return 0;
}

static int free_fixture(void **state)
{
    struct fixture *fixture = *state;
    for (size_t r = 0; r < RESIDENCIES; r++)
        fathom_index_close(fixture->indexes[r]);
    small_index_remove(&fixture->small);
    free(fixture);
    return 0;
}

static void every_k_gives_its_results(void **state)
{
    const struct fixture *fixture = *state;
    const uint32_t rows = fixture->small.options.rows;
    const uint32_t ks[] = {1, 2, 10, 100, 1000, rows - 1, rows, rows + 5, FATHOM_K_MAX};
    for (size_t r = 0; r < RESIDENCIES; r++)
        for (size_t i = 0; i < sizeof ks / sizeof ks[0]; i++) {
            struct fathom_query request = fathom_query_default();
            struct answers answers;
            request.k = ks[i];
            request.search_list = 100; /* below k: raised to it */
            ask(&answers, &fixture->small, fixture->indexes[r], request);
            uint32_t most = ks[i] < rows ? ks[i] : rows, found = 0;
            for (uint32_t q = 0; q < QUERIES; q++)
                found += answers.all[q].count;
            /* All that there are; the graph may miss a few rows when it is asked for nearly all. */
            if (found < 0.995 * QUERIES * most)
                fail_msg("%s, k %u: %u results of %u queries", residencies[r].name, ks[i], found,
                         QUERIES);
            double reached = recall(&fixture->small, &answers, most),
                   wanted = ks[i] <= 2 ? 0.9 : 0.95;
            if (reached < wanted)
                fail_msg("%s, k %u: recall %.3f", residencies[r].name, ks[i], reached);
            answers_free(&answers);
        }
}

static void a_smaller_k_is_the_beginning_of_a_larger(void **state)
{
    const struct fixture *fixture = *state;
    for (size_t r = 0; r < RESIDENCIES; r++) {
        struct fathom_query request = fathom_query_default();
        struct answers ten, one;
        request.k = 10;
        request.search_list = 200;
        request.exact_distances = true;
        ask(&ten, &fixture->small, fixture->indexes[r], request);
        request.k = 1;
        ask(&one, &fixture->small, fixture->indexes[r], request);
        uint32_t same = 0;
        for (uint32_t q = 0; q < QUERIES; q++)
            same += one.all[q].ids[0] == ten.all[q].ids[0];
        assert_in_range(same, 0.97 * QUERIES, QUERIES);
        answers_free(&ten);
        answers_free(&one);
    }
}

static void a_longer_search_list_is_not_worse(void **state)
{
    const struct fixture *fixture = *state;
    for (size_t r = 0; r < RESIDENCIES; r++) {
        double before = 0;
        for (uint32_t list = 10; list <= 640; list *= 4) {
            struct fathom_query request = fathom_query_default();
            struct answers answers;
            request.search_list = list;
            ask(&answers, &fixture->small, fixture->indexes[r], request);
            double now = recall(&fixture->small, &answers, 10);
            if (now < before - 0.02)
                fail_msg("%s: recall falls from %.3f to %.3f at search list %u",
                         residencies[r].name, before, now, list);
            before = now;
            answers_free(&answers);
        }
        assert_true(before >= 0.98);
    }
}

static void exact_distances_put_results_in_their_order(void **state)
{
    const struct fixture *fixture = *state;
    for (size_t r = 0; r < RESIDENCIES; r++) {
        struct fathom_query request = fathom_query_default();
        struct answers answers;
        request.k = 50;
        request.search_list = 400;
        request.exact_distances = true;
        ask(&answers, &fixture->small, fixture->indexes[r], request);
        expect_exact(&fixture->small, &answers, residencies[r].name);
        assert_true(recall(&fixture->small, &answers, 50) >= 0.98);
        answers_free(&answers);
    }
}

/* Distances without exact_distances come from 8-bit rows or codes: near, and honest in their order
 * of size. */
static void estimated_distances_are_near(void **state)
{
    const struct fixture *fixture = *state;
    for (size_t r = 0; r < RESIDENCIES; r++) {
        struct fathom_query request = fathom_query_default();
        struct answers answers;
        double error = 0;
        request.search_list = 100;
        ask(&answers, &fixture->small, fixture->indexes[r], request);
        for (uint32_t q = 0; q < QUERIES; q++)
            for (uint32_t i = 0; i < 10; i++) {
                double truth = small_distance(&fixture->small, q, answers.all[q].ids[i]);
                error += fabs(answers.all[q].distances[i] - truth) / truth / QUERIES / 10;
            }
        if (error > (residencies[r].codes ? 0.08 : 0.01))
            fail_msg("%s: distances are off by %.4f on average", residencies[r].name, error);
        answers_free(&answers);
    }
}

/* A query may come in any type that holds it. */
static void the_type_of_a_query_does_not_matter(void **state)
{
    struct small_options options = {.rows = 1000, .dim = 20, .metric = L2, .dtype = FATHOM_U8};
    struct small_index small;
    struct answers bytes, floats;
    (void)state;
    small_index_make(&small, &options);
    struct fathom_index *index = open_with(&small, fathom_open_options_default());
    struct fathom_engine *engine = engine_make(FATHOM_IO_AUTO, 4);
    struct fathom_query request = fathom_query_default();
    request.dtype = FATHOM_U8;
    answers_get(&bytes, engine, index, &request, small.raw_queries, 20, small.options.queries, 4);
    request.dtype = FATHOM_F32;
    answers_get(&floats, engine, index, &request, small.queries, 20, small.options.queries, 4);
    answers_assert_same(&bytes, &floats);
    expect_exact(&small, &bytes, "u8 rows are their own 8-bit form");
    answers_free(&bytes);
    answers_free(&floats);
    fathom_engine_destroy(engine);
    fathom_index_close(index);
    small_index_remove(&small);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_right_for_every_metric_and_type),
        cmocka_unit_test(answers_are_right_for_every_dimension),
        cmocka_unit_test(few_rows_are_all_found),
        cmocka_unit_test(every_k_gives_its_results),
        cmocka_unit_test(a_smaller_k_is_the_beginning_of_a_larger),
        cmocka_unit_test(a_longer_search_list_is_not_worse),
        cmocka_unit_test(exact_distances_put_results_in_their_order),
        cmocka_unit_test(estimated_distances_are_near),
        cmocka_unit_test(the_type_of_a_query_does_not_matter),
    };
    return cmocka_run_group_tests(tests, make_fixture, free_fixture);
}
