/* The queue in front of an engine, over the fake library: order, refusals, deadlines that a stuck
 * device must not hold up, cancelling, owners that go away, and memory that comes back. */
#include "fathom_test.h"

#include "dispatch.h"
#include "env.h"
#include "mem.h"
#include "protocol.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROWS_MAX    64
#define PATIENCE_NS 120000000000u /* before what does not happen is a failure */

struct fixture {
    char dir[64];
    struct log *log;
    struct registry *registry;
    struct registry_view view;
    struct stats *stats;
    struct dispatch *dispatch;
    struct buffer_allowance allowance;
    /* What was answered. */
    unsigned answered, failed;
    uint32_t last_msgid;
    char last_code[32];
    uint64_t first_id;
    bool complete;
    uint64_t rows;
};

static void write_fake(const struct fixture *fixture, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/fake", fixture->dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* While it is there, indexes that are "stuck 1" give nothing back. */
static void hold(const struct fixture *fixture)
{
    char path[128];
    snprintf(path, sizeof path, "%s/hold", fixture->dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
}

static void let_go(const struct fixture *fixture)
{
    char path[128];
    snprintf(path, sizeof path, "%s/hold", fixture->dir);
    assert_int_equal(unlink(path), 0);
}

static void done(void *context, struct search *search, uint64_t now_ns)
{
    struct fixture *fixture = context;
    (void)now_ns;
    fixture->answered++;
    fixture->failed += search->err.code != NULL;
    fixture->last_msgid = search->msgid;
    snprintf(fixture->last_code, sizeof fixture->last_code, "%s",
             search->err.code ? search->err.code : "ok");
    if (!search->err.code) {
        fixture->first_id = search->ids[0];
        fixture->complete = search->complete;
        fixture->rows += search->n;
    }
}

static void open_with(void **state, const char *fake, unsigned inflight, unsigned queue_rows)
{
    static struct fixture fixture;
    struct fathom_error err;
    memset(&fixture, 0, sizeof fixture);
    *state = &fixture;
    snprintf(fixture.dir, sizeof fixture.dir, "dispatch-test-XXXXXX");
    assert_non_null(mkdtemp(fixture.dir));
    write_fake(&fixture, fake);
    fixture.allowance.limit = 64 << 20;
    const struct registry_index index = {.name = "a", .dir = fixture.dir};
    const struct registry_options options = {
        .indexes = &index, .index_count = 1, .threads = 1, .inflight = inflight};
    assert_int_equal(log_open(&fixture.log, STDERR_FILENO, LOG_FORMAT_TEXT, LOG_LEVEL_ERROR, &err),
                     0);
    assert_int_equal(registry_open(&fixture.registry, &options, fixture.log, &err), 0);
    assert_int_equal(registry_view_init(&fixture.view, fixture.registry), 0);
    assert_int_equal(stats_create(&fixture.stats, 1, 1, 1), 0);
    const struct dispatch_options with = {.io = FATHOM_IO_AUTO,
                                          .inflight = inflight,
                                          .queue_rows = queue_rows,
                                          .allowance = &fixture.allowance,
                                          .stats = &fixture.stats->threads[0],
                                          .done = done,
                                          .context = &fixture};
    assert_int_equal(dispatch_create(&fixture.dispatch, &with, &err), 0);
}

static int close_all(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    dispatch_destroy(fixture->dispatch);
    /* The registry's reference and the view's; every search has let go of its own. */
    assert_int_equal(atomic_load(&fixture->view.editions[0]->users), 2);
    registry_view_fini(&fixture->view);
    registry_close(fixture->registry);
    stats_destroy(fixture->stats);
    log_close(fixture->log);
    snprintf(path, sizeof path, "%s/fake", fixture->dir);
    unlink(path);
    rmdir(fixture->dir);
    return fixture->allowance.used == 0 ? 0 : -1;
}

static uint64_t now(void)
{
    return env_clock_ns(env_os());
}

static struct search *start(struct fixture *fixture, uint32_t msgid, uint32_t n, uint32_t k,
                            float at, uint64_t deadline_ns)
{
    struct rpc_error err;
    struct search *search = dispatch_take(fixture->dispatch, fixture->view.editions[0], n, k,
                                          n * 4 * sizeof(float), n > 1, &err);
    if (!search) {
        assert_string_equal(err.code, PROTOCOL_ERROR_RESOURCE_EXHAUSTED);
        assert_true(err.retryable && err.retry_after_ms > 0);
        return NULL;
    }
    for (uint32_t i = 0; i < n * 4; i++)
        ((float *)search->vectors)[i] = at + (float)(i / 4);
    search->owner = fixture;
    search->msgid = msgid;
    search->query.dim = 4;
    search->query.dtype = FATHOM_F32;
    search->query.deadline_ns = deadline_ns;
    search->arrived_ns = now();
    dispatch_start(fixture->dispatch, search);
    return search;
}

/* Pumps until so many searches are answered, or that will not come about. */
static void pump_until(struct fixture *fixture, unsigned answered)
{
    uint64_t end = now() + PATIENCE_NS;
    while (fixture->answered < answered && now() < end) {
        dispatch_pump(fixture->dispatch, now(), 0);
        dispatch_expire(fixture->dispatch, now());
        usleep(200);
    }
}

/* Pumps until nothing is live. */
static void pump_empty(struct fixture *fixture)
{
    uint64_t end = now() + PATIENCE_NS;
    while (!dispatch_is_empty(fixture->dispatch) && now() < end) {
        dispatch_pump(fixture->dispatch, now(), 0);
        usleep(200);
    }
    assert_true(dispatch_is_empty(fixture->dispatch));
}

static void a_search_is_answered_with_its_rows(void **state)
{
    open_with(state, "rows 100 dim 4 generation 7", 4, 8);
    struct fixture *fixture = *state;
    start(fixture, 5, 3, 10, 20, 0);
    pump_until(fixture, 1);
    assert_int_equal(fixture->answered, 1);
    assert_string_equal(fixture->last_code, "ok");
    assert_int_equal(fixture->last_msgid, 5);
    assert_int_equal(fixture->first_id, 20);
    assert_true(fixture->complete);
    pump_empty(fixture);
}

static void more_searches_than_slots_are_all_answered(void **state)
{
    open_with(state, "rows 100 dim 4 delay_us 300", 2, 1000);
    struct fixture *fixture = *state;
    for (uint32_t i = 0; i < 200; i++)
        assert_non_null(start(fixture, i, 1 + i % 3, 5, (float)(i % 100), 0));
    pump_until(fixture, 200);
    assert_int_equal(fixture->answered, 200);
    assert_int_equal(fixture->failed, 0);
    pump_empty(fixture);
}

static void single_queries_pass_a_large_batch(void **state)
{
    open_with(state, "rows 100 dim 4 delay_us 1000", 1, 1000);
    struct fixture *fixture = *state;
    start(fixture, 1, 100, 1, 0, 0);
    start(fixture, 2, 1, 1, 0, 0);
    pump_until(fixture, 1);
    assert_int_equal(fixture->last_msgid, 2);
    pump_until(fixture, 2);
    assert_int_equal(fixture->last_msgid, 1);
    pump_empty(fixture);
}

static void a_full_queue_refuses_with_advice_and_takes_again_later(void **state)
{
    open_with(state, "rows 100 dim 4 delay_us 2000", 1, 10);
    struct fixture *fixture = *state;
    unsigned taken = 0;
    while (taken < 1000 && start(fixture, taken, 1, 1, 0, 0))
        taken++;
    assert_int_equal(taken, 10);
    pump_until(fixture, taken);
    assert_int_equal(fixture->failed, 0);
    assert_non_null(start(fixture, 0, 1, 1, 0, 0));
    pump_empty(fixture);
}

static void an_empty_queue_takes_any_one_batch(void **state)
{
    open_with(state, "rows 100 dim 4", 4, 1);
    struct fixture *fixture = *state;
    assert_non_null(start(fixture, 1, ROWS_MAX, 1, 0, 0));
    assert_null(start(fixture, 2, 1, 1, 0, 0));
    pump_empty(fixture);
    assert_int_equal(fixture->rows, ROWS_MAX);
}

static void a_deadline_is_kept_although_the_device_is_stuck(void **state)
{
    open_with(state, "rows 100 dim 4 stuck 1", 2, 100);
    struct fixture *fixture = *state;
    hold(fixture);
    uint64_t deadline = now() + 30000000;
    for (uint32_t i = 0; i < 5; i++) /* two run, three wait */
        start(fixture, i, 1, 1, 0, deadline);
    assert_true(dispatch_has_deadlines(fixture->dispatch));
    pump_until(fixture, 5);
    assert_int_equal(fixture->answered, 5);
    assert_int_equal(fixture->failed, 5);
    assert_string_equal(fixture->last_code, PROTOCOL_ERROR_DEADLINE_EXCEEDED);
    assert_true(now() >= deadline);
    assert_false(dispatch_has_deadlines(fixture->dispatch));
    assert_false(dispatch_is_empty(fixture->dispatch)); /* two slots are still taken */
    let_go(fixture);
    pump_empty(fixture);
    assert_int_equal(fixture->answered, 5); /* and nobody is answered twice */
}

static void one_failed_row_fails_the_batch_once(void **state)
{
    open_with(state, "rows 100 dim 4 status -10003", 4, 100);
    struct fixture *fixture = *state;
    start(fixture, 1, 10, 1, 0, 0);
    pump_until(fixture, 1);
    pump_empty(fixture);
    assert_int_equal(fixture->answered, 1);
    assert_string_equal(fixture->last_code, PROTOCOL_ERROR_DATA_LOSS);
}

static void a_cancelled_search_is_answered_at_once_and_its_slot_comes_back(void **state)
{
    open_with(state, "rows 100 dim 4 stuck 1", 1, 100);
    struct fixture *fixture = *state;
    struct rpc_error err;
    hold(fixture);
    rpc_error_set(&err, PROTOCOL_ERROR_CANCELLED, "cancelled");
    struct search *running = start(fixture, 1, 1, 1, 0, 0);
    struct search *waiting = start(fixture, 2, 3, 1, 0, 0);
    dispatch_pump(fixture->dispatch, now(), 0);
    dispatch_fail(fixture->dispatch, waiting, &err, now());
    dispatch_fail(fixture->dispatch, running, &err, now());
    assert_int_equal(fixture->answered, 2);
    assert_string_equal(fixture->last_code, PROTOCOL_ERROR_CANCELLED);
    start(fixture, 3, 1, 1, 0, 0);
    let_go(fixture);
    pump_until(fixture, 3);
    assert_int_equal(fixture->last_msgid, 3);
    assert_string_equal(fixture->last_code, "ok");
    pump_empty(fixture);
}

static void a_cancelled_search_gives_its_place_in_the_queue_back(void **state)
{
    open_with(state, "rows 100 dim 4 delay_us 50000", 1, 10);
    struct fixture *fixture = *state;
    struct rpc_error err;
    rpc_error_set(&err, PROTOCOL_ERROR_CANCELLED, "cancelled");
    for (uint32_t round = 0; round < 5; round++) {
        struct search *waiting = start(fixture, round, 10, 1, 0, 0);
        assert_non_null(waiting);
        assert_null(start(fixture, 99, 1, 1, 0, 0));
        dispatch_fail(fixture->dispatch, waiting, &err, now());
    }
    assert_non_null(start(fixture, 6, 10, 1, 0, 0));
    pump_empty(fixture);
}

static void a_pump_comes_back_with_an_answer_while_others_wait(void **state)
{
    open_with(state, "rows 100 dim 4", 4, 100);
    struct fixture *fixture = *state;
    for (uint32_t i = 1; i <= 3; i++)
        start(fixture, i, 1, 1, 0, 0);
    for (uint32_t i = 1; i <= 3; i++) {
        assert_true(dispatch_pump(fixture->dispatch, now(), 0));
        assert_int_equal(fixture->answered, i);
        assert_int_equal(fixture->last_msgid, i);
    }
    pump_empty(fixture);
}

static void an_abandoned_search_is_not_answered(void **state)
{
    open_with(state, "rows 100 dim 4 stuck 1", 1, 100);
    struct fixture *fixture = *state;
    hold(fixture);
    struct search *running = start(fixture, 1, 2, 1, 0, 0);
    struct search *waiting = start(fixture, 2, 1, 1, 0, 0);
    dispatch_pump(fixture->dispatch, now(), 0);
    dispatch_abandon(fixture->dispatch, running);
    dispatch_abandon(fixture->dispatch, waiting);
    let_go(fixture);
    pump_empty(fixture);
    assert_int_equal(fixture->answered, 0);
}

static void ending_with_searches_in_flight_gives_everything_back(void **state)
{
    open_with(state, "rows 100 dim 4 delay_us 10000000", 2, 100);
    struct fixture *fixture = *state;
    for (uint32_t i = 0; i < 10; i++)
        start(fixture, i, 3, 5, 0, 0);
    dispatch_pump(fixture->dispatch, now(), 0);
    /* close_all destroys it, and checks the allowance */
}

static void rows_with_too_few_results_are_padded_but_complete(void **state)
{
    open_with(state, "rows 3 dim 4", 2, 100);
    struct fixture *fixture = *state;
    start(fixture, 1, 1, 10, 1, 0);
    pump_until(fixture, 1);
    assert_string_equal(fixture->last_code, "ok");
    assert_true(fixture->complete); /* three results are all there are */
    pump_empty(fixture);
}

static bool fail_all(void *context)
{
    (void)context;
    return true;
}

static void without_memory_a_search_is_refused(void **state)
{
    open_with(state, "rows 100 dim 4", 2, 100);
    struct fixture *fixture = *state;
    mem_set_fault(fail_all, NULL);
    struct search *search = start(fixture, 1, 1, 10, 1, 0);
    mem_set_fault(NULL, NULL);
    assert_null(search);
    fixture->allowance.limit = 10;
    assert_null(start(fixture, 1, 1, 10, 1, 0));
}

static bool count_allocation(void *context)
{
    (*(unsigned *)context)++;
    return false;
}

static void in_the_steady_state_nothing_is_allocated(void **state)
{
    open_with(state, "rows 100 dim 4", 4, 100);
    struct fixture *fixture = *state;
    unsigned allocations = 0;
    for (int round = 0; round < 20; round++) {
        if (round == 3)
            mem_set_fault(count_allocation, &allocations);
        for (uint32_t i = 0; i < 10; i++)
            start(fixture, i, 1, 10, (float)i, 0);
        pump_empty(fixture);
    }
    mem_set_fault(NULL, NULL);
    assert_int_equal(fixture->answered, 200);
    assert_int_equal(allocations, 0);
}

static void what_is_kept_idle_leaves_half_of_the_allowance_free(void **state)
{
    open_with(state, "rows 100 dim 4", 4, 100);
    struct fixture *fixture = *state;
    fixture->allowance.limit = 65536;
    for (uint32_t i = 0; i < 40; i++)
        assert_non_null(start(fixture, i, 1, 80, (float)i, 0));
    assert_true(fixture->allowance.used > fixture->allowance.limit / 2);
    pump_empty(fixture);
    assert_int_equal(fixture->answered, 40);
    assert_in_range(fixture->allowance.used, 1, fixture->allowance.limit / 2);
}

static void a_deadline_shorter_than_the_queue_is_hopeless(void **state)
{
    open_with(state, "rows 100 dim 4 delay_us 5000", 1, 1000);
    struct fixture *fixture = *state;
    struct rpc_error err;
    assert_false(dispatch_is_hopeless(fixture->dispatch, 1, &err));
    for (uint32_t i = 0; i < 200; i++) /* a second's worth */
        start(fixture, i, 1, 1, 0, 0);
    pump_until(fixture, 40);
    assert_true(dispatch_is_hopeless(fixture->dispatch, 50, &err));
    assert_string_equal(err.reason, PROTOCOL_REASON_QUEUE);
    assert_false(dispatch_is_hopeless(fixture->dispatch, 3600000, &err));
    pump_empty(fixture);
    assert_false(dispatch_is_hopeless(fixture->dispatch, 1, &err));
}

#define CASE(test) cmocka_unit_test_teardown(test, close_all)

static const struct CMUnitTest tests[] = {
    CASE(a_search_is_answered_with_its_rows),
    CASE(more_searches_than_slots_are_all_answered),
    CASE(single_queries_pass_a_large_batch),
    CASE(a_full_queue_refuses_with_advice_and_takes_again_later),
    CASE(an_empty_queue_takes_any_one_batch),
    CASE(a_deadline_is_kept_although_the_device_is_stuck),
    CASE(one_failed_row_fails_the_batch_once),
    CASE(a_cancelled_search_is_answered_at_once_and_its_slot_comes_back),
    CASE(a_cancelled_search_gives_its_place_in_the_queue_back),
    CASE(a_pump_comes_back_with_an_answer_while_others_wait),
    CASE(an_abandoned_search_is_not_answered),
    CASE(ending_with_searches_in_flight_gives_everything_back),
    CASE(rows_with_too_few_results_are_padded_but_complete),
    CASE(without_memory_a_search_is_refused),
    CASE(in_the_steady_state_nothing_is_allocated),
    CASE(what_is_kept_idle_leaves_half_of_the_allowance_free),
    CASE(a_deadline_shorter_than_the_queue_is_hopeless),
};

FATHOM_TEST_MAIN(tests)
