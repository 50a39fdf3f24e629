/* Percentiles are exact, and nothing is lost between recorders and chunks. */
#include "fathom_test.h"

#include <errno.h>

#include "latency.h"
#include "mem.h"

static void nothing_recorded_is_all_zero(void **state)
{
    (void)state;
    struct latency empty = {0};
    const struct latency *all[] = {&empty};
    struct latency_summary summary;
    assert_int_equal(latency_summarize(&summary, all, 1, NULL), 0);
    assert_int_equal(summary.count, 0);
    assert_true(summary.p50_us == 0 && summary.max_us == 0);
}

static void percentiles_are_the_nearest_rank(void **state)
{
    (void)state;
    struct latency latency = {0};
    /* 1000, 999, ..., 1 us, recorded backwards */
    for (uint64_t us = 1000; us; us--)
        assert_int_equal(latency_add(&latency, us * 1000, us * 1000), 0);
    const struct latency *all[] = {&latency};
    struct latency_summary summary;
    assert_int_equal(latency_summarize(&summary, all, 1, NULL), 0);
    assert_int_equal(summary.count, 1000);
    assert_true(summary.mean_us == 500.5);
    assert_true(summary.p50_us == 500);
    assert_true(summary.p95_us == 950);
    assert_true(summary.p99_us == 990);
    assert_true(summary.p999_us == 999);
    assert_true(summary.max_us == 1000);
    latency_clear(&latency);
    assert_int_equal(latency.count, 0);
}

static void one_sample_is_every_percentile(void **state)
{
    (void)state;
    struct latency latency = {0};
    assert_int_equal(latency_add(&latency, 7000, 7000), 0);
    const struct latency *all[] = {&latency};
    struct latency_summary summary;
    assert_int_equal(latency_summarize(&summary, all, 1, NULL), 0);
    assert_true(summary.p50_us == 7 && summary.p999_us == 7 && summary.mean_us == 7);
    latency_clear(&latency);
}

static void recorders_and_chunks_are_summed_up_together(void **state)
{
    (void)state;
    struct latency first = {0}, second = {0};
    for (int i = 0; i < 100000; i++) /* more than a chunk */
        assert_int_equal(latency_add(&first, 1000, 1000), 0);
    for (int i = 0; i < 100001; i++)
        assert_int_equal(latency_add(&second, 3000, 3000), 0);
    const struct latency *all[] = {&first, &second};
    struct latency_summary summary;
    assert_int_equal(latency_summarize(&summary, all, 2, NULL), 0);
    assert_int_equal(summary.count, 200001);
    assert_true(summary.p50_us == 3);
    assert_true(summary.mean_us > 2 && summary.mean_us < 2.0001);
    latency_clear(&first);
    latency_clear(&second);
}

/* Away from 10 to 12 ms: what was under way then, and what came while the rest was caught up. */
static void what_a_stop_touched_can_be_left_aside(void **state)
{
    (void)state;
    struct latency latency = {.keeps_ends = true};
    struct latency_summary summary;
    struct stops_summary seen;
    struct stops *stops = stops_make();
    const struct latency *all[] = {&latency};
    assert_non_null(stops);
    stops_add(stops, 1000000, 1000000 + STOPS_LEAST_NS - 1); /* too short to be one */
    stops_add(stops, 10000000, 12000000);
    stops_add(stops, 50000000, 50300000);
    const struct {
        uint64_t end_us, us;
        bool touched;
    } cases[] = {{1500, 700, false},  {10000, 500, false},  {10001, 500, true},
                 {11500, 500, true},  {12500, 3000, true},  {16400, 500, true},
                 {16500, 500, false}, {30000, 9000, false}, {60000, 11000, true}};
    unsigned untouched = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t end_ns = cases[i].end_us * 1000, ns = cases[i].us * 1000;
        assert_int_equal(stops_touch(stops, end_ns - ns, end_ns), cases[i].touched);
        assert_false(stops_touch(NULL, end_ns - ns, end_ns));
        assert_int_equal(latency_add(&latency, end_ns, ns), 0);
        untouched += !cases[i].touched;
    }
    assert_int_equal(latency_summarize(&summary, all, 1, stops), 0);
    assert_int_equal(summary.count, untouched);
    assert_true(summary.max_us == 9000);
    assert_int_equal(latency_summarize(&summary, all, 1, NULL), 0);
    assert_true(summary.max_us == 11000);
    stops_summarize(stops, &seen);
    assert_int_equal(seen.cpus, 1);
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.lost_ns, 2300000);
    assert_int_equal(seen.longest_ns, 2000000);
    latency_clear(&latency);
    stops_destroy(stops);
}

/* Where it is not allowed nothing is said to be known. */
static void watching_begins_and_ends(void **state)
{
    struct stops_summary seen;
    (void)state;
    struct stops *stops = stops_begin(env_os());
    assert_non_null(stops);
    stops_end(stops);
    stops_summarize(stops, &seen);
    assert_true(seen.cpus > 0 || seen.count == 0);
    stops_destroy(stops);
    stops_end(NULL);
    stops_destroy(NULL);
    stops_summarize(NULL, &seen);
    assert_int_equal(seen.cpus, 0);
}

static bool refuse(void *context)
{
    (void)context;
    return true;
}

static void memory_that_is_refused_is_an_error(void **state)
{
    (void)state;
    struct latency latency = {0};
    const struct latency *all[] = {&latency};
    struct latency_summary summary;
    assert_int_equal(latency_add(&latency, 1, 1), 0);
    mem_set_fault(refuse, NULL);
    int status = latency_summarize(&summary, all, 1, NULL);
    struct latency other = {0};
    int other_status = latency_add(&other, 1, 1);
    mem_set_fault(NULL, NULL);
    assert_int_equal(status, -ENOMEM);
    assert_int_equal(other_status, -ENOMEM);
    latency_clear(&latency);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(nothing_recorded_is_all_zero),
    cmocka_unit_test(percentiles_are_the_nearest_rank),
    cmocka_unit_test(one_sample_is_every_percentile),
    cmocka_unit_test(recorders_and_chunks_are_summed_up_together),
    cmocka_unit_test(what_a_stop_touched_can_be_left_aside),
    cmocka_unit_test(watching_begins_and_ends),
    cmocka_unit_test(memory_that_is_refused_is_an_error),
};

FATHOM_TEST_MAIN(tests)
