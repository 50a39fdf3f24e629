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
    assert_int_equal(latency_summarize(&summary, all, 1), 0);
    assert_int_equal(summary.count, 0);
    assert_true(summary.p50_us == 0 && summary.max_us == 0);
}

static void percentiles_are_the_nearest_rank(void **state)
{
    (void)state;
    struct latency latency = {0};
    /* 1000, 999, ..., 1 us, recorded backwards */
    for (uint64_t us = 1000; us; us--)
        assert_int_equal(latency_add(&latency, us * 1000), 0);
    const struct latency *all[] = {&latency};
    struct latency_summary summary;
    assert_int_equal(latency_summarize(&summary, all, 1), 0);
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
    assert_int_equal(latency_add(&latency, 7000), 0);
    const struct latency *all[] = {&latency};
    struct latency_summary summary;
    assert_int_equal(latency_summarize(&summary, all, 1), 0);
    assert_true(summary.p50_us == 7 && summary.p999_us == 7 && summary.mean_us == 7);
    latency_clear(&latency);
}

static void recorders_and_chunks_are_summed_up_together(void **state)
{
    (void)state;
    struct latency first = {0}, second = {0};
    for (int i = 0; i < 100000; i++) /* more than a chunk */
        assert_int_equal(latency_add(&first, 1000), 0);
    for (int i = 0; i < 100001; i++)
        assert_int_equal(latency_add(&second, 3000), 0);
    const struct latency *all[] = {&first, &second};
    struct latency_summary summary;
    assert_int_equal(latency_summarize(&summary, all, 2), 0);
    assert_int_equal(summary.count, 200001);
    assert_true(summary.p50_us == 3);
    assert_true(summary.mean_us > 2 && summary.mean_us < 2.0001);
    latency_clear(&first);
    latency_clear(&second);
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
    assert_int_equal(latency_add(&latency, 1), 0);
    mem_set_fault(refuse, NULL);
    int status = latency_summarize(&summary, all, 1);
    struct latency other = {0};
    int other_status = latency_add(&other, 1);
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
    cmocka_unit_test(memory_that_is_refused_is_an_error),
};

FATHOM_TEST_MAIN(tests)
