/* Queries that are unlike those that operating points were measured on: by a target recall they get
 * longer lists, which is all that is done about them, and no other query does. */
#include "fathom_test.h"

#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "index.h"
#include "query.h"
#include "small_index.h"

#define DIM     32
#define ROWS    8000
#define QUERIES 100
#define K       10
#define WIDER   4 /* times as long */

enum { MEMORY, CELLS, LISTS_READ, CODES_READ, WAYS };

struct fixture {
    struct small_index small;
    struct fathom_index *ways[WAYS];
    float *far; /* QUERIES x DIM: the queries, moved to where no row is */
};

static int make_fixture(void **state)
{
    struct small_options options = small_f32(ROWS, DIM, QUERIES, 21);
    struct fathom_open_options open = fathom_open_options_default();
    struct fixture *f = calloc(1, sizeof *f);
    small_index_make(&f->small, &options);
    assert_int_equal(fathom_index_open(&f->ways[MEMORY], f->small.dir, &open, NULL), 0);
    open.navigator = FATHOM_NAVIGATOR_CELLS;
    open.code_bytes = DIM / 4;
    assert_int_equal(fathom_index_open(&f->ways[CELLS], f->small.dir, &open, NULL), 0);
    assert_int_equal(partly_open(&f->ways[LISTS_READ], env_os(), f->small.dir, 0.3f, 16, NULL), 0);
    assert_int_equal(scan_open(&f->ways[CODES_READ], env_os(), f->small.dir, 0.3f, 16, NULL), 0);
    f->far = malloc(QUERIES * DIM * sizeof *f->far);
    for (uint32_t i = 0; i < QUERIES * DIM; i++)
        f->far[i] = f->small.queries[i] + 3;
    *state = f;
    return 0;
}

static int free_fixture(void **state)
{
    struct fixture *f = *state;
    for (int w = 0; w < WAYS; w++)
        fathom_index_close(f->ways[w]);
    small_index_remove(&f->small);
    free(f->far);
    free(f);
    return 0;
}

static struct fathom_query by_target(uint32_t k)
{
    struct fathom_query request = fathom_query_default();
    request.k = k;
    request.target_recall = 0.9f;
    return request;
}

/* How many were widened. */
static uint32_t ask(struct answers *out, const struct fathom_index *index,
                    const struct fathom_query *request, const float *vectors, unsigned inflight)
{
    struct fathom_engine *engine =
        engine_make(inflight > 1 ? FATHOM_IO_AUTO : FATHOM_IO_PREAD, inflight);
    uint32_t widened = 0;
    answers_get(out, engine, index, request, vectors, DIM, QUERIES, inflight);
    for (uint32_t q = 0; q < QUERIES; q++) {
        answer_assert_formed(out, q);
        assert_true(out->all[q].stats.widened <= 1);
        widened += out->all[q].stats.widened;
    }
    fathom_engine_destroy(engine);
    return widened;
}

static void only_unusual_queries_get_longer_lists(void **state)
{
    const struct fixture *f = *state;
    const struct fathom_query request = by_target(K);
    for (int w = 0; w < WAYS; w++) {
        struct answers answers;
        const struct usual *usual = &f->ways[w]->properties.usual;
        assert_true(usual->row > 0 && usual->cell > 0);
        assert_true(ask(&answers, f->ways[w], &request, f->small.queries, 1) <= QUERIES / 20);
        answers_free(&answers);
        assert_int_equal(ask(&answers, f->ways[w], &request, f->far, 1), QUERIES);
        answers_free(&answers);
    }
}

/* The answers, and what cells and pages cost, are those of the longer list asked for by number. */
static void a_widened_query_is_one_with_a_longer_list(void **state)
{
    const struct fixture *f = *state;
    const struct fathom_query request = by_target(K);
    for (int w = 0; w < WAYS; w++) {
        const struct fathom_index *index = f->ways[w];
        struct operating_choice choice =
            index_choose(index, K, request.target_recall, FATHOM_RERANK_AUTO);
        struct fathom_query longer = request;
        struct answers widened, right;
        longer.search_list = WIDER * choice.search_list;
        longer.refine_threshold = choice.refine_threshold;
        longer.rerank = choice.rerank ? FATHOM_RERANK_ON : FATHOM_RERANK_OFF;
        assert_int_equal(ask(&right, index, &longer, f->far, 1), 0);
        for (unsigned inflight = 1; inflight <= 16; inflight *= 16) {
            assert_int_equal(ask(&widened, index, &request, f->far, inflight), QUERIES);
            answers_assert_same(&widened, &right);
            for (uint32_t q = 0; q < QUERIES; q++) {
                const struct fathom_query_stats *a = &widened.all[q].stats,
                                                *b = &right.all[q].stats;
                bool walks = index->plan.navigator == FATHOM_NAVIGATOR_GRAPH;
                assert_true(walks ? a->hops > b->hops : a->hops == b->hops);
                assert_true(w == LISTS_READ || a->bytes == b->bytes);
            }
            answers_free(&widened);
        }
        answers_free(&right);
    }
}

/* What was not measured says nothing, nor do points that no query goes by. */
static void without_a_target_or_a_measure_nothing_is_widened(void **state)
{
    const struct fixture *f = *state;
    for (int w = 0; w < WAYS; w++) {
        struct fathom_query request = by_target(K);
        struct fathom_index *index = f->ways[w];
        const struct usual usual = index->properties.usual;
        struct answers answers;
        index->properties.usual = (struct usual){0};
        assert_int_equal(ask(&answers, index, &request, f->far, 1), 0);
        answers_free(&answers);
        index->properties.usual = usual;
        request.search_list = 12;
        assert_int_equal(ask(&answers, index, &request, f->far, 1), 0);
        answers_free(&answers);
    }
}

/* Their slot was made for the list that was asked for, and holds no longer one than it has room
 * for. */
static void large_queries_are_widened_as_far_as_their_memory_goes(void **state)
{
    const struct fixture *f = *state;
    static const uint32_t ks[] = {1, 100, 130, 200, 500, 1024};
    for (int w = 0; w < WAYS; w++)
        for (size_t i = 0; i < sizeof ks / sizeof ks[0]; i++) {
            const struct fathom_query request = by_target(ks[i]);
            struct answers answers;
            uint32_t widened = ask(&answers, f->ways[w], &request, f->far, 16);
            bool made_to_measure =
                ks[i] > QUERY_RESERVED_K && f->ways[w]->plan.navigator == FATHOM_NAVIGATOR_GRAPH;
            assert_int_equal(widened, made_to_measure ? 0 : QUERIES);
            answers_free(&answers);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_unusual_queries_get_longer_lists),
        cmocka_unit_test(a_widened_query_is_one_with_a_longer_list),
        cmocka_unit_test(without_a_target_or_a_measure_nothing_is_widened),
        cmocka_unit_test(large_queries_are_widened_as_far_as_their_memory_goes),
    };
    return cmocka_run_group_tests(tests, make_fixture, free_fixture);
}
