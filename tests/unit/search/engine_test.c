/* The engine as its caller sees it: slots, queries on their way together, cancelling, deadlines,
 * ends while reads are out, and the budget that large queries borrow. */
#include "fathom_test.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "answers.h"
#include "fault.h"
#include "index.h"
#include "mem.h"
#include "opened.h"
#include "query.h"
#include "runs.h"
#include "slow.h"

#define DIM     32
#define ROWS    3000
#define QUERIES 500

static const enum fathom_io engines[] = {FATHOM_IO_PREAD, FATHOM_IO_URING};

static int make_fixture(void **state)
{
    const struct small_options options = small_f32(ROWS, DIM, QUERIES, 5);
    return opened_make_reading(state, &options);
}

static void get(struct answers *answers, const struct opened *fixture, struct fathom_engine *engine,
                uint32_t count, unsigned inflight, bool exact)
{
    struct fathom_query request = small_request(&fixture->small, 0);
    request.exact_distances = exact;
    answers_get(answers, engine, fixture->index, &request, fixture->small.raw_queries, DIM, count,
                inflight);
}

/* ---- many at once ---- */

static void both_engines_give_the_same_bits_however_many_are_in_flight(void **state)
{
    const struct opened *fixture = *state;
    if (!io_works(FATHOM_IO_URING))
        skip();
    for (int exact = 0; exact < 2; exact++) {
        struct answers first = {0};
        for (size_t e = 0; e < 2; e++)
            for (unsigned inflight = 1; inflight <= 16; inflight += 15) {
                struct answers answers;
                struct fathom_engine *engine = engine_make(engines[e], inflight);
                assert_int_equal(fathom_engine_io(engine), engines[e]);
                get(&answers, fixture, engine, QUERIES, inflight, exact);
                fathom_engine_destroy(engine);
                uint64_t reads = 0;
                for (uint32_t q = 0; q < QUERIES; q++) {
                    answer_assert_formed(&answers, q);
                    reads += answers.all[q].stats.reads;
                }
                assert_true(reads > QUERIES); /* or nothing was compared */
                if (!first.all) {
                    first = answers;
                    continue;
                }
                answers_assert_same(&first, &answers);
                answers_free(&answers);
            }
        answers_free(&first);
    }
}

static void an_engine_may_serve_several_indexes(void **state)
{
    const struct opened *fixture = *state;
    struct small_options options = {
        .rows = 400, .dim = 200, .metric = FATHOM_METRIC_COS, .dtype = FATHOM_F16};
    struct small_index other;
    small_index_make(&other, &options);
    struct fathom_index *index = reading_opened(other.dir);
    struct fathom_engine *engine = engine_make(FATHOM_IO_AUTO, 8),
                         *alone = engine_make(FATHOM_IO_AUTO, 8);
    struct fathom_query request = fathom_query_default();
    struct answers a, b, c, d;
    request.dtype = FATHOM_F16;
    get(&a, fixture, engine, 50, 8, false);
    answers_get(&b, engine, index, &request, other.raw_queries, 200, other.options.queries, 8);
    get(&c, fixture, engine, 50, 8, false);
    answers_get(&d, alone, index, &request, other.raw_queries, 200, other.options.queries, 8);
    answers_assert_same(&a, &c);
    answers_assert_same(&b, &d);
    answers_free(&a);
    answers_free(&b);
    answers_free(&c);
    answers_free(&d);
    fathom_engine_destroy(engine);
    fathom_engine_destroy(alone);
    fathom_index_close(index);
    small_index_remove(&other);
}

static void full_slots_are_busy_until_results_are_polled(void **state)
{
    const struct opened *fixture = *state;
    for (size_t e = 0; e < 2; e++) {
        if (!io_works(engines[e]))
            continue;
        struct fathom_engine *engine = engine_make(engines[e], 3);
        struct fathom_query request = small_request(&fixture->small, 0);
        struct fathom_result results[8];
        struct fathom_error err;
        for (int i = 0; i < 3; i++)
            assert_int_equal(fathom_engine_submit(engine, fixture->index, &request, NULL), 0);
        assert_int_equal(fathom_engine_submit(engine, fixture->index, &request, &err),
                         FATHOM_EBUSY);
        assert_non_null(strstr(err.msg, "3 query slots"));
        assert_int_equal(fathom_engine_running(engine), 3);
        int got = 0;
        while (got < 3)
            got += fathom_engine_poll(engine, results, 8, true);
        assert_int_equal(got, 3);
        assert_int_equal(fathom_engine_running(engine), 0);
        assert_int_equal(fathom_engine_poll(engine, results, 8, true), 0); /* nothing to wait for */
        assert_int_equal(fathom_engine_submit(engine, fixture->index, &request, NULL), 0);
        fathom_engine_destroy(engine);
    }
}

static void results_come_in_portions_of_the_size_asked_for(void **state)
{
    const struct opened *fixture = *state;
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 16);
    bool seen[16] = {false};
    for (uintptr_t i = 0; i < 16; i++) {
        struct fathom_query request = small_request(&fixture->small, (uint32_t)i);
        request.user = (void *)i;
        assert_int_equal(fathom_engine_submit(engine, fixture->index, &request, NULL), 0);
    }
    for (int got = 0; got < 16;) {
        struct fathom_result results[5];
        int now = fathom_engine_poll(engine, results, 5, true);
        assert_in_range(now, 1, 5);
        for (int i = 0; i < now; i++) {
            assert_false(seen[(uintptr_t)results[i].user]);
            seen[(uintptr_t)results[i].user] = true;
        }
        got += now;
    }
    fathom_engine_destroy(engine);
}

/* An event loop waits for the descriptor and never inside poll. */
static void the_event_descriptor_announces_results(void **state)
{
    const struct opened *fixture = *state;
    if (!io_works(FATHOM_IO_URING))
        skip();
    struct fathom_engine *engine = engine_make(FATHOM_IO_URING, 4);
    int fd = fathom_engine_event_fd(engine);
    assert_true(fd >= 0);
    for (uint32_t q = 0; q < 50; q++) {
        struct fathom_query request = small_request(&fixture->small, q);
        struct fathom_result result;
        request.exact_distances = true;
        assert_int_equal(fathom_engine_submit(engine, fixture->index, &request, NULL), 0);
        while (fathom_engine_poll(engine, &result, 1, false) == 0) {
            struct pollfd wait = {.fd = fd, .events = POLLIN};
            if (poll(&wait, 1, 60000) != 1)
                fail_msg("query %u: nothing to read for a minute", q);
        }
        assert_int_equal(result.status, 0);
    }
    fathom_engine_destroy(engine);
    engine = engine_make(FATHOM_IO_PREAD, 4);
    assert_int_equal(fathom_engine_event_fd(engine), -1);
    fathom_engine_destroy(engine);
}

static void counters_tell_what_a_query_did(void **state)
{
    const struct opened *fixture = *state;
    struct fathom_engine *engine = engine_make(FATHOM_IO_AUTO, 1);
    struct answers answers;
    get(&answers, fixture, engine, 50, 1, true);
    for (uint32_t q = 0; q < 50; q++) {
        const struct fathom_query_stats *s = &answers.all[q].stats;
        assert_int_equal(s->navigator, FATHOM_NAVIGATOR_CELLS);
        assert_in_range(s->bytes / PAGE_BYTES, s->reads, s->reads * runs_large.pages_max);
        assert_int_equal(s->bytes % PAGE_BYTES, 0);
        assert_in_range(s->rounds, 1, 2);
        assert_true(s->reads >= 1 && s->hops >= 1 && s->code_distances >= 10 &&
                    s->full_distances >= 10);
        assert_true(s->total_ns >= s->compute_ns && s->total_ns > 0);
        assert_non_null(s->stop_reason);
    }
    answers_free(&answers);
    fathom_engine_destroy(engine);
}

/* ---- slow reads ---- */

static void wait_for_result(struct fathom_engine *engine, struct fathom_result *result)
{
    assert_int_equal(fathom_engine_poll(engine, result, 1, true), 1);
}

/* After whatever happened: fresh queries are answered, and rightly. */
static void expect_usable(const struct opened *fixture, struct fathom_engine *engine)
{
    struct fathom_engine *fresh = engine_make(FATHOM_IO_PREAD, 4);
    struct answers now, right;
    get(&now, fixture, engine, 20, 3, false); /* a slot may still wait for its read */
    get(&right, fixture, fresh, 20, 4, false);
    answers_assert_same(&now, &right);
    answers_free(&now);
    answers_free(&right);
    fathom_engine_destroy(fresh);
}

static void a_deadline_is_kept_while_a_read_stalls(void **state)
{
    const struct opened *fixture = *state;
    struct fault_env fault;
    struct fathom_result result;
    if (!io_works(FATHOM_IO_URING))
        skip(); /* a pread that blocks cannot be left */
    struct fathom_engine *engine = slow_engine(&fault, FATHOM_IO_URING, SLOW_STUCK(1));
    struct fathom_query request = small_request(&fixture->small, 0);
    uint64_t deadline = env_clock_ns(env_os()) + 50000000;
    request.deadline_ns = deadline;
    assert_int_equal(fathom_engine_submit(engine, fixture->index, &request, NULL), 0);
    wait_for_result(engine, &result);
    assert_true(env_clock_ns(env_os()) >= deadline);
    assert_int_equal(result.status, FATHOM_EDEADLINE);
    assert_int_equal(result.count, 0);
    expect_usable(fixture, engine); /* the read is still out */
    fault_release(&fault);
    fathom_engine_destroy(engine);
}

static void a_deadline_that_has_passed_answers_at_once(void **state)
{
    const struct opened *fixture = *state;
    for (size_t e = 0; e < 2; e++) {
        struct fault_env fault;
        struct fathom_result result;
        if (!io_works(engines[e]))
            continue;
        struct fathom_engine *engine = slow_engine(&fault, engines[e], "");
        struct fathom_query request = small_request(&fixture->small, 0);
        request.deadline_ns = 1;
        assert_int_equal(fathom_engine_submit(engine, fixture->index, &request, NULL), 0);
        wait_for_result(engine, &result);
        assert_int_equal(result.status, FATHOM_EDEADLINE);
        assert_int_equal(fault_reads(&fault), 0);
        expect_usable(fixture, engine);
        fathom_engine_destroy(engine);
    }
}

static void a_far_deadline_changes_nothing(void **state)
{
    const struct opened *fixture = *state;
    struct fathom_engine *engine = engine_make(FATHOM_IO_AUTO, 1);
    const uint64_t deadlines[] = {env_clock_ns(env_os()) + 3600000000000, UINT64_MAX};
    for (size_t i = 0; i < 2; i++) {
        struct fathom_query request = small_request(&fixture->small, 3);
        struct fathom_result result;
        request.deadline_ns = deadlines[i];
        assert_int_equal(fathom_engine_submit(engine, fixture->index, &request, NULL), 0);
        wait_for_result(engine, &result);
        assert_int_equal(result.status, 0);
    }
    fathom_engine_destroy(engine);
}

static void a_cancelled_query_answers_at_once_and_the_others_go_on(void **state)
{
    const struct opened *fixture = *state;
    struct fault_env fault;
    char user[2];
    if (!io_works(FATHOM_IO_URING))
        skip();
    struct fathom_engine *engine = slow_engine(&fault, FATHOM_IO_URING, SLOW_STUCK(1));
    struct fathom_query request = small_request(&fixture->small, 0);
    struct fathom_result result;
    request.user = &user[0];
    assert_int_equal(fathom_engine_submit(engine, fixture->index, &request, NULL), 0);
    assert_int_equal(fathom_engine_poll(engine, &result, 1, false), 0);
    fathom_engine_cancel(engine, &user[0]);
    wait_for_result(engine, &result);
    assert_int_equal(result.status, FATHOM_ECANCELLED);
    assert_ptr_equal(result.user, &user[0]);
    request.user = &user[1];
    assert_int_equal(fathom_engine_submit(engine, fixture->index, &request, NULL), 0);
    wait_for_result(engine, &result);
    assert_int_equal(result.status, 0);
    assert_ptr_equal(result.user, &user[1]);
    expect_usable(fixture, engine); /* the read is still out */
    fault_release(&fault);
    fathom_engine_destroy(engine);
}

static void cancelling_before_the_first_poll_reads_nothing(void **state)
{
    const struct opened *fixture = *state;
    for (size_t e = 0; e < 2; e++) {
        struct fault_env fault;
        struct fathom_result result;
        if (!io_works(engines[e]))
            continue;
        struct fathom_engine *engine = slow_engine(&fault, engines[e], "");
        struct fathom_query request = small_request(&fixture->small, 0);
        request.user = &fault;
        assert_int_equal(fathom_engine_submit(engine, fixture->index, &request, NULL), 0);
        fathom_engine_cancel(engine, engine); /* nobody's */
        fathom_engine_cancel(engine, &fault);
        wait_for_result(engine, &result);
        assert_int_equal(result.status, FATHOM_ECANCELLED);
        assert_int_equal(fault_reads(&fault), 0);
        expect_usable(fixture, engine);
        fathom_engine_destroy(engine);
    }
}

static void an_engine_may_end_while_reads_are_out(void **state)
{
    const struct opened *fixture = *state;
    struct fathom_query requests[SLOW_INFLIGHT];
    for (uint32_t q = 0; q < SLOW_INFLIGHT; q++) {
        requests[q] = small_request(&fixture->small, q);
        requests[q].exact_distances = true;
    }
    for (size_t e = 0; e < 2; e++)
        for (int polls = 0; polls < 3 && io_works(engines[e]); polls++) {
            unsigned fds = fd_count();
            struct fathom_index *index = reading_opened(fixture->small.dir);
            slow_end_early(engines[e], "read#3+:stall=20ms", index, requests, SLOW_INFLIGHT, polls);
            assert_int_equal(fd_count(), fds);
        }
}

/* ---- the budget of large queries ---- */

static int64_t slack_of(const struct fathom_index *index)
{
    return atomic_load(&index->slack);
}

/* An index whose budget is just what the plan takes, and room more. */
static struct fathom_index *open_with_room(const struct opened *fixture, uint64_t room)
{
    struct fathom_open_options options = reading_options(fixture->small.dir);
    struct fathom_index *index = reading_opened(fixture->small.dir);
    options.dram_budget_bytes = index->plan.index_bytes + index->plan.scratch_bytes + room;
    options.page_buffers = index->arena->slice_pages;
    fathom_index_close(index);
    index = index_opened(env_os(), fixture->small.dir, &options);
    assert_in_range(slack_of(index), room, room + 1024); /* plans round what is small up */
    return index;
}

static int search(struct fathom_engine *engine, const struct fathom_index *index,
                  const struct opened *fixture, uint32_t k, uint32_t search_list,
                  struct fathom_error *err)
{
    static uint64_t ids[FATHOM_K_MAX];
    static float distances[FATHOM_K_MAX];
    struct fathom_query request = small_request(&fixture->small, 7);
    request.k = k;
    request.search_list = search_list;
    *err = (struct fathom_error){0};
    return fathom_search(engine, index, &request, ids, distances, NULL, err);
}

static void a_large_query_borrows_from_the_budget_and_gives_back(void **state)
{
    const struct opened *fixture = *state;
    struct fathom_index *index = open_with_room(fixture, 4 << 20);
    const int64_t room = slack_of(index);
    struct fathom_engine *engine = engine_make(FATHOM_IO_AUTO, 16);
    struct fathom_error err;
    const uint32_t shapes[][2] = {{10, 10},  {1000, 0},         {10, 2000},
                                  {2000, 0}, {FATHOM_K_MAX, 0}, {10, 16384}};
    for (int round = 0; round < 20; round++)
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            int found = search(engine, index, fixture, shapes[i][0], shapes[i][1], &err);
            if (found < 0)
                fail_msg("round %d, k %u, search list %u: %s", round, shapes[i][0], shapes[i][1],
                         err.msg);
            uint32_t wanted = shapes[i][0] < ROWS ? shapes[i][0] : ROWS;
            assert_in_range(found, 0.99 * wanted, wanted);
            assert_true(slack_of(index) >= 0);
        }
    assert_int_equal(search(engine, index, fixture, 10, 10, &err), 10);
    assert_int_equal(slack_of(index), room);
    fathom_engine_destroy(engine);
    assert_int_equal(slack_of(index), room);
    fathom_index_close(index);
}

static void engines_that_come_and_go_do_not_wear_the_budget_out(void **state)
{
    const struct opened *fixture = *state;
    struct fathom_index *index = open_with_room(fixture, 4 << 20);
    const int64_t room = slack_of(index);
    for (int round = 0; round < 30; round++) {
        struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 16);
        struct fathom_error err;
        if (search(engine, index, fixture, 2000, 4000, &err) < 0)
            fail_msg("round %d: %s", round, err.msg);
        fathom_engine_destroy(engine);
        assert_int_equal(slack_of(index), room);
    }
    fathom_index_close(index);
}

static void a_query_too_large_for_the_budget_is_refused_and_costs_nothing(void **state)
{
    const struct opened *fixture = *state;
    const uint64_t rooms[] = {0, 4096, 65536, 262144};
    for (size_t i = 0; i < sizeof rooms / sizeof rooms[0]; i++) {
        struct fathom_index *index = open_with_room(fixture, rooms[i]);
        const int64_t room = slack_of(index);
        struct fathom_engine *engine = engine_make(FATHOM_IO_AUTO, 16);
        for (uint32_t k = 100; k <= FATHOM_K_MAX; k += 222) {
            struct fathom_error err;
            int found = search(engine, index, fixture, k, 0, &err);
            if (found < 0) {
                assert_int_equal(found, FATHOM_EBUDGET);
                assert_non_null(strstr(err.msg, "budget"));
                assert_true(k > QUERY_RESERVED_K);
                assert_int_equal(slack_of(index), room);
            }
        }
        struct fathom_error err;
        assert_int_equal(search(engine, index, fixture, FATHOM_K_MAX, 16384, &err), FATHOM_EBUDGET);
        assert_int_equal(search(engine, index, fixture, 10, 100, &err), 10);
        assert_int_equal(slack_of(index), room);
        fathom_engine_destroy(engine);
        fathom_index_close(index);
    }
}

static void an_allocation_that_fails_costs_no_budget(void **state)
{
    const struct opened *fixture = *state;
    struct fathom_index *index = open_with_room(fixture, 8 << 20);
    const int64_t room = slack_of(index);
    for (unsigned n = 1;; n++) {
        struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 2);
        struct fault_env fault;
        struct fathom_error err;
        char plan[32];
        snprintf(plan, sizeof plan, "alloc#%u:fail", n);
        assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
        mem_set_fault(fault_alloc, &fault);
        int found = search(engine, index, fixture, 1000, 3000, &err);
        mem_set_fault(NULL, NULL);
        bool fired = fault_fired(&fault) > 0;
        if (fired) {
            assert_int_equal(found, -ENOMEM);
            assert_int_equal(slack_of(index), room);
            assert_true(search(engine, index, fixture, 1000, 3000, &err) > 900);
        }
        fathom_engine_destroy(engine);
        assert_int_equal(slack_of(index), room);
        if (!fired) {
            assert_true(n > 2);
            break;
        }
    }
    fathom_index_close(index);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_engines_give_the_same_bits_however_many_are_in_flight),
        cmocka_unit_test(an_engine_may_serve_several_indexes),
        cmocka_unit_test(full_slots_are_busy_until_results_are_polled),
        cmocka_unit_test(results_come_in_portions_of_the_size_asked_for),
        cmocka_unit_test(the_event_descriptor_announces_results),
        cmocka_unit_test(counters_tell_what_a_query_did),
        cmocka_unit_test(a_deadline_is_kept_while_a_read_stalls),
        cmocka_unit_test(a_deadline_that_has_passed_answers_at_once),
        cmocka_unit_test(a_far_deadline_changes_nothing),
        cmocka_unit_test(a_cancelled_query_answers_at_once_and_the_others_go_on),
        cmocka_unit_test(cancelling_before_the_first_poll_reads_nothing),
        cmocka_unit_test(an_engine_may_end_while_reads_are_out),
        cmocka_unit_test(a_large_query_borrows_from_the_budget_and_gives_back),
        cmocka_unit_test(engines_that_come_and_go_do_not_wear_the_budget_out),
        cmocka_unit_test(a_query_too_large_for_the_budget_is_refused_and_costs_nothing),
        cmocka_unit_test(an_allocation_that_fails_costs_no_budget),
    };
    return cmocka_run_group_tests(tests, make_fixture, opened_free);
}
