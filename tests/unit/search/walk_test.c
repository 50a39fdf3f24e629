/* The graph with lists on SSD: the same answers as with all of them in memory, whatever part that
 * is, however pages come, and whatever happens on the way. */
#include "fathom_test.h"

#include "answers.h"
#include "index.h"
#include "opened.h"
#include "query.h"
#include "slow.h"
#include "tiny_index.h"

#define DIM     32
#define ROWS    6000
#define QUERIES 200

static const enum fathom_io engines[] = {FATHOM_IO_PREAD, FATHOM_IO_URING};
static const struct shares_how how = {.shares = {0.001f, 0.1f, 0.3f, 0.8f}, /* the first: none */
                                      .open = partly_open,
                                      .navigator = FATHOM_NAVIGATOR_GRAPH,
                                      .whole_is_right = true};

static int make_fixture(void **state)
{
    const struct small_options options = small_f32(ROWS, DIM, QUERIES, 8);
    return shares_make(state, &options, &how);
}

/* ---- */

static void the_hottest_lists_are_in_memory_and_no_more_than_the_share(void **state)
{
    const struct shares *fixture = *state;
    uint64_t before = 0;
    for (int s = 0; s < SHARES; s++) {
        const struct fathom_index *index = fixture->partly[s];
        struct fathom_index_info info;
        uint64_t bytes = 0, lists = 0;
        fathom_index_get_info(index, &info);
        for (uint32_t row = 0; row < ROWS; row++) {
            size_t list_bytes;
            lists += index_list(index, row, &list_bytes) != NULL;
            bytes += list_bytes;
        }
        assert_int_equal(info.resident_lists, lists);
        assert_true(s == 0 ? lists == 0 : lists > before);
        double share = (double)bytes / (double)index->properties.list_bytes;
        if (share > how.shares[s] + 0.001 || share < how.shares[s] - 0.005)
            fail_msg("a share of %.3f: %.3f of the lists are in memory", how.shares[s], share);
        before = lists;
    }
}

/* Each list, in memory or on its page, is the one that was written. */
static void check_places(const struct fathom_index *index, const struct tiny_index *tiny)
{
    const uint8_t *content = tiny->sections[SECTION_LISTS].data;
    for (uint32_t row = 0; row < index->properties.rows; row++) {
        size_t bytes, wanted_bytes;
        const uint8_t *wanted = content + tiny_list_at(tiny, row, &wanted_bytes),
                      *list = index_list(index, row, &bytes);
        if (!list) {
            uint32_t page = index_list_page(index, row);
            list =
                index_list_in_page(index, page, content + (size_t)page * PAGE_PAYLOAD, row, &bytes);
        }
        assert_non_null(list);
        assert_int_equal(bytes, wanted_bytes);
        assert_memory_equal(list, wanted, bytes);
    }
}

static void lists_of_short_and_long_lengths_are_where_they_are_said_to_be(void **state)
{
    const struct tiny_options shapes[] = {
        {.rows = 1, .dim = 8, .dtype = FATHOM_U8, .metric = FATHOM_METRIC_L2},
        {.rows = 1000, .dim = 8, .dtype = FATHOM_U8, .metric = FATHOM_METRIC_L2, .degree = 12},
        {.rows = 700, .dim = 8, .dtype = FATHOM_U8, .metric = FATHOM_METRIC_L2, .degree = 255}};
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct tiny_index tiny;
        char dir[FOLDER_PATH_MAX];
        folder_make_fast(dir);
        tiny_make(&tiny, &shapes[i]);
        assert_int_equal(tiny.properties.list_length_bytes, shapes[i].degree == 255 ? 2 : 1);
        tiny_write_raw(&tiny, dir);
        for (float share = 0.001f; share <= 1; share += 0.27f) {
            struct fathom_open_options options = {.threads = 1, .inflight = 1, .list_share = share};
            struct fathom_index *index;
            assert_int_equal(fathom_index_open(&index, dir, &options, NULL), 0);
            check_places(index, &tiny);
            fathom_index_close(index);
        }
        tiny_free(&tiny);
        folder_remove(dir);
    }
}

static void answers_do_not_depend_on_where_lists_are(void **state)
{
    const struct shares *fixture = *state;
    for (int s = 0; s < SHARES; s++)
        shares_expect_right(fixture, fixture->partly[s]);
}

static void counters_tell_where_lists_came_from(void **state)
{
    const struct shares *fixture = *state;
    uint64_t reads[SHARES] = {0};
    for (int s = 0; s < SHARES; s++) {
        struct answers answers;
        struct fathom_engine *engine = engine_make(FATHOM_IO_AUTO, 16);
        shares_ask(&answers, fixture, engine, fixture->partly[s], 16);
        for (uint32_t q = 0; q < QUERIES; q++) {
            const struct fathom_query_stats *got = &answers.all[q].stats,
                                            *right = &fixture->right.all[q].stats;
            assert_int_equal(got->hops, right->hops);
            assert_int_equal(got->code_distances, right->code_distances);
            assert_int_equal(got->reads, got->list_reads + right->reads);
            assert_int_equal(got->bytes - right->bytes,
                             PAGE_BYTES * ((uint64_t)got->list_reads - right->list_reads));
            assert_true(got->resident_lists + got->list_reads <= got->hops + BEAM_MAX);
            assert_true(s > 0 || got->resident_lists == 0);
            assert_true(got->rounds <= got->reads && got->total_ns >= got->compute_ns);
            assert_string_equal(got->stop_reason, "converged");
            reads[s] += got->list_reads;
        }
        assert_true(s == 0 || reads[s] < reads[s - 1]);
        answers_free(&answers);
        fathom_engine_destroy(engine);
    }
    assert_true(reads[0] > 4 * QUERIES); /* of the 50 pages that there are */
    assert_true(reads[SHARES - 1] > 0);
    assert_int_equal(fixture->right.all[0].stats.list_reads, 0);
    assert_int_equal(fixture->right.all[0].stats.resident_lists, fixture->right.all[0].stats.hops);
}

/* Alone a walk asks ahead: fewer rounds, and hardly more reads. By preads, which come back in the
 * order in which they were asked for: counts are then the same on every machine. */
static void a_query_alone_waits_fewer_times(void **state)
{
    const struct shares *fixture = *state;
    uint64_t rounds[2] = {0}, reads[2] = {0};
    for (int crowd = 0; crowd < 2; crowd++) {
        struct answers answers;
        struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 16);
        struct fathom_query request = small_request(&fixture->small, 0);
        request.search_list = 400;
        answers_get(&answers, engine, fixture->partly[0], &request, fixture->small.raw_queries, DIM,
                    QUERIES, crowd ? 16 : 1);
        for (uint32_t q = 0; q < QUERIES - 16; q++) {
            rounds[crowd] += answers.all[q].stats.rounds;
            reads[crowd] += answers.all[q].stats.list_reads;
        }
        answers_free(&answers);
        fathom_engine_destroy(engine);
    }
    assert_true(rounds[0] * 10 < rounds[1] * 8);
    assert_true(reads[0] * 10 < reads[1] * 16); /* of so few rows, many are near */
}

/* ---- ends before the end ---- */

/* Stopped at each of its reads in turn: in the middle of the walk, and behind it. */
static void a_walk_that_is_cancelled_answers_at_once(void **state)
{
    const struct shares *fixture = *state;
    unsigned cancelled = 0;
    for (size_t e = 0; e < 2 && io_works(engines[e]); e++) {
        struct fault_env fault;
        struct fathom_engine *engine = slow_engine(&fault, engines[e], "");
        for (unsigned polls = 0; polls < 30; polls++) {
            struct fathom_query request = small_request(&fixture->small, polls);
            struct fathom_result result;
            int got = 0;
            request.user = &fault;
            /* A slot may still wait for the reads of a query before. */
            while (fathom_engine_submit(engine, fixture->partly[0], &request, NULL) != 0)
                assert_int_equal(fathom_engine_poll(engine, &result, 1, false), 0);
            for (unsigned i = 0; i < polls && got == 0; i++)
                got = fathom_engine_poll(engine, &result, 1, false);
            fathom_engine_cancel(engine, &fault);
            if (got == 0)
                assert_int_equal(fathom_engine_poll(engine, &result, 1, true), 1);
            assert_ptr_equal(result.user, &fault);
            assert_true(result.status == 0 || result.status == FATHOM_ECANCELLED);
            cancelled += result.status != 0;
        }
        shares_expect_usable(fixture, engine);
        fathom_engine_destroy(engine);
    }
    assert_true(cancelled > 10);
}

static uint32_t list_reads(const struct fathom_query_stats *stats)
{
    return stats->list_reads;
}

static void a_deadline_is_kept_while_a_list_stalls(void **state)
{
    shares_expect_deadline(*state, list_reads);
}

static void an_engine_may_end_while_lists_are_on_their_way(void **state)
{
    shares_expect_end(*state);
}

/* ---- memory ---- */

static int64_t slack_of(const struct fathom_index *index)
{
    return atomic_load(&index->slack);
}

/* More than a slot reserves: it borrows and gives back, or is refused. */
static void a_large_walk_borrows_from_the_budget_and_gives_back(void **state)
{
    const struct shares *fixture = *state;
    struct fathom_open_options options = fixture->partly[2]->options;
    static uint64_t ids[10];
    static float distances[10];
    struct fathom_engine *engine = engine_make(FATHOM_IO_AUTO, 4);
    for (int64_t room = 0; room <= 1 << 20; room += 1 << 20) {
        struct fathom_index *index;
        options.dram_budget_bytes = fixture->partly[2]->plan.index_bytes +
                                    fixture->partly[2]->plan.scratch_bytes + (uint64_t)room;
        assert_int_equal(fathom_index_open(&index, fixture->small.dir, &options, NULL), 0);
        const int64_t slack = slack_of(index);
        for (uint32_t turn = 0; turn < 8; turn++) {
            struct fathom_query request = small_request(&fixture->small, 3);
            request.search_list = 256u << turn % 4;
            request.rerank = turn < 4 ? FATHOM_RERANK_OFF : FATHOM_RERANK_ON;
            int found = fathom_search(engine, index, &request, ids, distances, NULL, NULL);
            assert_int_equal(found, request.search_list <= 512 || room > 0 ? 10 : FATHOM_EBUDGET);
            assert_true(slack_of(index) >= 0);
        }
        struct fathom_query small = small_request(&fixture->small, 4);
        assert_int_equal(fathom_search(engine, index, &small, ids, distances, NULL, NULL), 10);
        assert_int_equal(slack_of(index), slack);
        fathom_index_close(index);
    }
    fathom_engine_destroy(engine);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hottest_lists_are_in_memory_and_no_more_than_the_share),
        cmocka_unit_test(lists_of_short_and_long_lengths_are_where_they_are_said_to_be),
        cmocka_unit_test(answers_do_not_depend_on_where_lists_are),
        cmocka_unit_test(counters_tell_where_lists_came_from),
        cmocka_unit_test(a_query_alone_waits_fewer_times),
        cmocka_unit_test(a_walk_that_is_cancelled_answers_at_once),
        cmocka_unit_test(a_deadline_is_kept_while_a_list_stalls),
        cmocka_unit_test(an_engine_may_end_while_lists_are_on_their_way),
        cmocka_unit_test(a_large_walk_borrows_from_the_budget_and_gives_back),
    };
    return cmocka_run_group_tests(tests, make_fixture, shares_free);
}
