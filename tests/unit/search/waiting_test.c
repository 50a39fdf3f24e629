/* How the engine waits: until a time, and not for a read that helps nobody. */
#include "fathom_test.h"

#include <limits.h>

#include "answers.h"
#include "engine.h"
#include "opened.h"
#include "slow.h"

#define DIM     128
#define ROWS    8000
#define QUERIES 200

static const enum fathom_io engines[] = {FATHOM_IO_PREAD, FATHOM_IO_URING};

static int make_fixture(void **state)
{
    struct small_options options = small_f32(ROWS, DIM, QUERIES, 5);
    options.spread = 1; /* hardly any clusters: what is near lies on many pages */
    return opened_make_reading(state, &options);
}

static void submit(struct fathom_engine *engine, const struct opened *fixture, uint32_t query,
                   bool exact)
{
    struct fathom_query request = small_request(&fixture->small, query);
    request.user = (void *)(uintptr_t)query;
    request.exact_distances = exact;
    assert_int_equal(fathom_engine_submit(engine, fixture->index, &request, NULL), 0);
}

static uint64_t now_ns(void)
{
    return env_clock_ns(env_os());
}

/* ---- until a time ---- */

/* However short the waits, they change no answer and lose none. */
static void waits_of_any_length_give_the_same_bits(void **state)
{
    const struct opened *fixture = *state;
    struct fathom_query request = small_request(&fixture->small, 0);
    for (size_t e = 0; e < 2; e++) {
        if (!io_works(engines[e]))
            continue;
        struct fathom_engine *engine = engine_make(engines[e], 16);
        struct answers right;
        answers_get(&right, engine, fixture->index, &request, fixture->small.raw_queries, DIM,
                    QUERIES, 16);
        uint32_t asked = 0, answered = 0;
        while (answered < QUERIES) {
            struct fathom_result results[4];
            if (asked < QUERIES && asked - answered < 12)
                submit(engine, fixture, asked++, false);
            uint64_t wait_ns = 1000u << asked % 8;
            int got = fathom_engine_poll_until(engine, results, 4, now_ns() + wait_ns);
            assert_in_range(got, 0, 4);
            for (int i = 0; i < got; i++) {
                const struct answer *answer = &right.all[(uintptr_t)results[i].user];
                assert_int_equal(results[i].status, 0);
                assert_memory_equal(results[i].ids, answer->ids, right.k * sizeof(uint64_t));
                assert_memory_equal(results[i].distances, answer->distances,
                                    right.k * sizeof(float));
            }
            answered += (uint32_t)got;
        }
        answers_free(&right);
        fathom_engine_destroy(engine);
    }
}

/* On a machine so busy that the read was let go before the wait began, it is tried once more. */
static void a_wait_ends_at_its_time_though_a_read_stalls(void **state)
{
    const struct opened *fixture = *state;
    if (!io_works(FATHOM_IO_URING))
        skip(); /* a pread that blocks cannot be left */
    for (int got = 1; got != 0;) {
        struct fault_env fault;
        struct fathom_result result;
        struct fathom_engine *engine = slow_engine(&fault, FATHOM_IO_URING, "read#1:stall=1s");
        submit(engine, fixture, 0, false);
        uint64_t until_ns = now_ns() + 20000000;
        got = fathom_engine_poll_until(engine, &result, 1, until_ns);
        assert_in_range(got, 0, 1);
        if (got == 0)
            assert_true(now_ns() >= until_ns);
        if (got == 0)
            assert_int_equal(fathom_engine_poll_until(engine, &result, 1, UINT64_MAX), 1);
        assert_int_equal(result.status, 0);
        fathom_engine_destroy(engine);
    }
}

static void a_wait_for_nothing_returns_at_once(void **state)
{
    const struct opened *fixture = *state;
    for (size_t e = 0; e < 2; e++) {
        struct fathom_result result;
        if (!io_works(engines[e]))
            continue;
        struct fathom_engine *engine = engine_make(engines[e], 4);
        assert_int_equal(fathom_engine_poll_until(engine, &result, 1, UINT64_MAX), 0);
        submit(engine, fixture, 0, false);
        assert_int_equal(fathom_engine_poll_until(engine, &result, 1, UINT64_MAX), 1);
        assert_int_equal(fathom_engine_poll_until(engine, &result, 1, UINT64_MAX), 0);
        fathom_engine_destroy(engine);
    }
}

/* ---- how many reads ---- */

static void poll_all(struct fathom_engine *engine, int left)
{
    while (left) {
        struct fathom_result results[16];
        int got = fathom_engine_poll(engine, results, 16, true);
        assert_in_range(got, 1, left);
        left -= got;
    }
}

/* The reads of the second wave are queued and not submitted, so that none can have come. */
static void a_query_lacks_all_reads_of_its_wave(void **state)
{
    const struct opened *fixture = *state;
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 128);
    unsigned least = UINT_MAX, most = 0;
    for (unsigned q = 0; q < 4; q++)
        submit(engine, fixture, q, true);
    engine_queue(engine);
    assert_false(engine->is_short);
    while (engine_reap(engine, 0, 0) > 0) /* the first wave, whole: pread is done at once */
        continue;
    engine_queue(engine);
    assert_false(engine->is_short);
    for (unsigned q = 0; q < 4; q++) {
        unsigned reads = engine->slots[q].row_reads_out;
        assert_int_equal(engine->slots[q].phase, QUERY_EXACT);
        least = reads < least ? reads : least;
        most = reads > most ? reads : most;
    }
    assert_true(least > 1 && least < most); /* or it could be any number */
    assert_int_equal(engine_reads_lacking(engine), least);
    poll_all(engine, 4);
    assert_int_equal(engine_reads_lacking(engine), 1); /* nobody lacks any: a late one may come */
    fathom_engine_destroy(engine);
}

/* Who waits for room is helped by any read. */
static void without_room_any_read_is_work(void **state)
{
    const struct opened *fixture = *state;
    struct fathom_engine_options options = {
        .io = FATHOM_IO_PREAD, .inflight = 16, .page_buffers = FATHOM_PAGE_BUFFERS_MIN};
    struct fathom_engine *engine;
    assert_int_equal(fathom_engine_create(&engine, &options, NULL), 0);
    for (unsigned q = 0; q < 16; q++) {
        submit(engine, fixture, q, false);
        engine->held_back = 0; /* nothing leaves before the poll */
    }
    engine_queue(engine);
    assert_true(engine->is_short);
    assert_int_equal(engine_reads_lacking(engine), 1);
    poll_all(engine, 16);
    assert_false(engine->is_short);
    fathom_engine_destroy(engine);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_of_any_length_give_the_same_bits),
        cmocka_unit_test(a_wait_ends_at_its_time_though_a_read_stalls),
        cmocka_unit_test(a_wait_for_nothing_returns_at_once),
        cmocka_unit_test(a_query_lacks_all_reads_of_its_wave),
        cmocka_unit_test(without_room_any_read_is_work),
    };
    return cmocka_run_group_tests(tests, make_fixture, opened_free);
}
