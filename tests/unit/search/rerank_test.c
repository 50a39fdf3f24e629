/* Reading full vectors of what 8-bit rows leave in doubt: nearly all that exact distances of all
 * results would put right, for a few of their reads, and by itself where the target needs it. */
#include "fathom_test.h"

#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "index.h"
#include "page.h"
#include "small_index.h"

#define DIM     128
#define ROWS    12000
#define QUERIES 100
#define LIST    200

struct fixture {
    struct small_index small;
    struct fathom_index *rows8, *codes; /* all in memory; cells with short codes */
};

static int make_fixture(void **state)
{
    /* Clusters so narrow that a step of the 8-bit form is large in them. */
    struct small_options options = small_f32(ROWS, DIM, QUERIES, 15);
    struct fathom_open_options open = fathom_open_options_default();
    struct fixture *fixture = calloc(1, sizeof *fixture);
    options.spread = 0.1f;
    small_index_make(&fixture->small, &options);
    assert_int_equal(fathom_index_open(&fixture->rows8, fixture->small.dir, &open, NULL), 0);
    open.navigator = FATHOM_NAVIGATOR_CELLS;
    open.code_bytes = DIM / 4;
    assert_int_equal(fathom_index_open(&fixture->codes, fixture->small.dir, &open, NULL), 0);
    *state = fixture;
    return 0;
}

static int free_fixture(void **state)
{
    struct fixture *fixture = *state;
    fathom_index_close(fixture->rows8);
    fathom_index_close(fixture->codes);
    small_index_remove(&fixture->small);
    free(fixture);
    return 0;
}

struct outcome {
    struct answers answers;
    double recall, pages; /* a query */
};

static void ask(struct outcome *out, const struct fixture *fixture,
                const struct fathom_index *index, const struct fathom_query *request,
                enum fathom_io io, unsigned inflight)
{
    struct fathom_engine *engine = engine_make(io, inflight);
    *out = (struct outcome){0};
    answers_get(&out->answers, engine, index, request, fixture->small.raw_queries, DIM, QUERIES,
                inflight);
    for (uint32_t q = 0; q < QUERIES; q++) {
        const struct answer *answer = &out->answers.all[q];
        answer_assert_formed(&out->answers, q);
        out->recall += small_right(&fixture->small, q, answer->ids, out->answers.k) /
                       (double)out->answers.k / QUERIES;
        out->pages += (double)answer->stats.bytes / PAGE_BYTES / QUERIES;
    }
    fathom_engine_destroy(engine);
}

static struct fathom_query request_of(const struct fixture *fixture, enum fathom_rerank rerank)
{
    struct fathom_query request = small_request(&fixture->small, 0);
    request.search_list = LIST;
    request.rerank = rerank;
    return request;
}

/* ---- */

static void what_is_in_doubt_is_settled_by_a_few_reads(void **state)
{
    const struct fixture *fixture = *state;
    const struct fathom_index *indexes[] = {fixture->rows8, fixture->codes};
    for (int i = 0; i < 2; i++) {
        struct fathom_query off = request_of(fixture, FATHOM_RERANK_OFF),
                            on = request_of(fixture, FATHOM_RERANK_ON), exact = off;
        struct outcome without, with, all;
        exact.exact_distances = true;
        ask(&without, fixture, indexes[i], &off, FATHOM_IO_PREAD, 1);
        ask(&with, fixture, indexes[i], &on, FATHOM_IO_PREAD, 1);
        ask(&all, fixture, indexes[i], &exact, FATHOM_IO_PREAD, 1);
        assert_true(all.recall - without.recall > 0.005); /* or there was nothing to settle */
        assert_true(with.recall - without.recall > 0.5 * (all.recall - without.recall));
        assert_true(with.pages > without.pages);
        assert_true(with.pages - without.pages < 0.5 * (all.pages - without.pages));
        answers_free(&without.answers);
        answers_free(&with.answers);
        answers_free(&all.answers);
    }
}

static void answers_do_not_depend_on_how_pages_come(void **state)
{
    const struct fixture *fixture = *state;
    struct fathom_query on = request_of(fixture, FATHOM_RERANK_ON);
    struct outcome alone, together;
    ask(&alone, fixture, fixture->codes, &on, FATHOM_IO_PREAD, 1);
    for (unsigned inflight = 4; inflight <= 16; inflight *= 4) {
        ask(&together, fixture, fixture->codes, &on, FATHOM_IO_AUTO, inflight);
        answers_assert_same(&alone.answers, &together.answers);
        assert_true(together.pages == alone.pages);
        answers_free(&together.answers);
    }
    answers_free(&alone.answers);
}

/* The operating points say what is reached without. */
static void a_target_beyond_8_bits_asks_for_it(void **state)
{
    const struct fixture *fixture = *state;
    struct fathom_query easy = small_request(&fixture->small, 0), hard, never;
    struct outcome reached, beyond, refused;
    assert_true(fixture->rows8->point_count > 0);
    easy.search_list = 0;
    easy.target_recall = 0.5f;
    hard = never = easy;
    hard.target_recall = never.target_recall = 0.9999f;
    never.rerank = FATHOM_RERANK_OFF;
    ask(&reached, fixture, fixture->rows8, &easy, FATHOM_IO_PREAD, 1);
    ask(&beyond, fixture, fixture->rows8, &hard, FATHOM_IO_PREAD, 1);
    ask(&refused, fixture, fixture->rows8, &never, FATHOM_IO_PREAD, 1);
    assert_true(reached.pages == 0 && refused.pages == 0);
    assert_true(beyond.pages > 0 && beyond.recall > refused.recall + 0.005);
    answers_free(&reached.answers);
    answers_free(&beyond.answers);
    answers_free(&refused.answers);
}

static struct fathom_query_stats stats_of(struct fathom_engine *engine,
                                          const struct fathom_index *index,
                                          const struct fathom_query *request)
{
    struct fathom_query_stats stats;
    uint64_t ids[10];
    float distances[10];
    assert_int_equal(fathom_search(engine, index, request, ids, distances, &stats, NULL),
                     (int)request->k);
    return stats;
}

/* Each case differs in one thing from the one before it. */
static void what_was_asked_before_changes_nothing(void **state)
{
    const struct fixture *fixture = *state;
    const struct fathom_index *rows8 = fixture->rows8, *codes = fixture->codes;
    const struct {
        const struct fathom_index *index;
        float target;
        uint32_t k;
        enum fathom_rerank rerank;
    } cases[] = {{rows8, 0.9999f, 10, FATHOM_RERANK_AUTO}, {codes, 0.9999f, 10, FATHOM_RERANK_AUTO},
                 {codes, 0.5f, 10, FATHOM_RERANK_AUTO},    {rows8, 0.5f, 10, FATHOM_RERANK_AUTO},
                 {rows8, 0.5f, 1, FATHOM_RERANK_AUTO},     {rows8, 0.9999f, 1, FATHOM_RERANK_AUTO},
                 {rows8, 0.9999f, 1, FATHOM_RERANK_OFF},   {rows8, 0.9999f, 10, FATHOM_RERANK_OFF},
                 {rows8, 0.9999f, 10, FATHOM_RERANK_AUTO}};
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 1);
    uint64_t work = 0, changes = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fathom_query request = small_request(&fixture->small, 0);
        struct fathom_engine *fresh = engine_make(FATHOM_IO_PREAD, 1);
        request.search_list = 0;
        request.target_recall = cases[i].target;
        request.k = cases[i].k;
        request.rerank = cases[i].rerank;
        struct fathom_query_stats right = stats_of(fresh, cases[i].index, &request);
        for (int turn = 0; turn < 2; turn++) {
            struct fathom_query_stats got = stats_of(engine, cases[i].index, &request);
            assert_int_equal(got.hops, right.hops);
            assert_int_equal(got.code_distances, right.code_distances);
            assert_int_equal(got.bytes, right.bytes);
            assert_int_equal(got.reranked, right.reranked);
        }
        changes += work != right.code_distances + right.bytes;
        work = right.code_distances + right.bytes;
        fathom_engine_destroy(fresh);
    }
    assert_in_range(changes, 5, sizeof cases / sizeof cases[0]); /* or there was nothing to see */
    fathom_engine_destroy(engine);
}

static void where_8_bits_are_exact_nothing_changes(void **state)
{
    struct small_options options = {.rows = 2000,
                                    .dim = DIM,
                                    .metric = FATHOM_METRIC_L2,
                                    .dtype = FATHOM_U8,
                                    .queries = 10,
                                    .seed = 3};
    struct fathom_open_options open = fathom_open_options_default();
    struct small_index small;
    struct fathom_index *index;
    struct answers off, on;
    (void)state;
    small_index_make(&small, &options);
    assert_int_equal(fathom_index_open(&index, small.dir, &open, NULL), 0);
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 1);
    struct fathom_query request = small_request(&small, 0);
    request.dtype = FATHOM_U8;
    answers_get(&off, engine, index, &request, small.raw_queries, DIM, 10, 1);
    request.rerank = FATHOM_RERANK_ON;
    answers_get(&on, engine, index, &request, small.raw_queries, DIM, 10, 1);
    answers_assert_same(&off, &on);
    for (uint32_t q = 0; q < 10; q++)
        assert_int_equal(on.all[q].stats.reads, 0);
    answers_free(&off);
    answers_free(&on);
    fathom_engine_destroy(engine);
    fathom_index_close(index);
    small_index_remove(&small);
}

static void a_way_to_rank_that_is_unknown_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 1);
    struct fathom_query request = small_request(&fixture->small, 0);
    request.rerank = (enum fathom_rerank)3;
    assert_int_equal(fathom_engine_submit(engine, fixture->rows8, &request, NULL),
                     FATHOM_EARGUMENT);
    fathom_engine_destroy(engine);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_in_doubt_is_settled_by_a_few_reads),
        cmocka_unit_test(answers_do_not_depend_on_how_pages_come),
        cmocka_unit_test(a_target_beyond_8_bits_asks_for_it),
        cmocka_unit_test(what_was_asked_before_changes_nothing),
        cmocka_unit_test(where_8_bits_are_exact_nothing_changes),
        cmocka_unit_test(a_way_to_rank_that_is_unknown_is_refused),
    };
    return cmocka_run_group_tests(tests, make_fixture, free_fixture);
}
