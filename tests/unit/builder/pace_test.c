/* How slow the machine is, by a clock that is set by hand. */
#include "builder_support.h"

#include <math.h>

#include "pace.h"

#define NONE 0.0

/* Between each two times that it is asked so much passes, but for the first two: three times as
 * much. */
struct clock {
    struct env env;
    uint64_t step_ns, now_ns;
    unsigned asked;
};

static uint64_t clock_ns(void *context)
{
    struct clock *clock = context;
    return clock->now_ns += clock->step_ns * (clock->asked++ == 1 ? 3 : 1);
}

static struct clock *clock_make(struct clock *clock, double seconds)
{
    *clock = (struct clock){.env = *env_os(), .step_ns = (uint64_t)(1e9 * seconds)};
    clock->env.clock_ns = clock_ns;
    clock->env.context = clock;
    return clock;
}

static double slowness_of(double seconds, unsigned threads)
{
    struct clock clock;
    struct crew crew = crew_of(threads);
    double slowness = NONE;
    assert_int_equal(pace_measure(&crew, &clock_make(&clock, seconds)->env, &slowness, NULL), 0);
    return slowness;
}

static void what_takes_twice_as_long_is_twice_as_slow(void **state)
{
    (void)state;
    double usual = slowness_of(0.008, 2);
    assert_true(usual > 0.5 && usual < 4); /* the first round is no evidence */
    assert_true(fabs(slowness_of(0.016, 2) / usual - 2) < 1e-6);
    /* As long on one thread is half the work of two. */
    assert_true(fabs(slowness_of(0.016, 1) / usual - 1) < 1e-6);
}

static void no_clock_makes_a_machine_infinitely_fast_or_slow(void **state)
{
    (void)state;
    assert_true(slowness_of(0, 2) == 1);
    assert_true(slowness_of(1e-6, 2) == 0.1);
    assert_true(slowness_of(1e6, 2) == 10);
}

static void note_nothing(void *context, const struct build_phase *phases, unsigned count)
{
    (void)context, (void)phases, (void)count;
}

static void only_long_work_that_is_watched_is_worth_a_look(void **state)
{
    (void)state;
    struct clock clock;
    struct crew crew = crew_of(2);
    double slowness = NONE;
    assert_int_equal(pace_of(&crew, &clock_make(&clock, 0.1)->env, 60, &slowness, NULL), 0);
    assert_true(slowness == NONE && clock.asked == 0);
    crew.watch.expect = note_nothing;
    assert_int_equal(pace_of(&crew, &clock.env, 0.9 * PACE_WORTH, &slowness, NULL), 0);
    assert_true(slowness == NONE && clock.asked == 0);
    assert_int_equal(pace_of(&crew, &clock.env, PACE_WORTH, &slowness, NULL), 0);
    assert_true(slowness > 1 && clock.asked > 0);
}

static bool is_over(void *context)
{
    (void)context;
    return true;
}

static void it_ends_when_the_work_is_to_end(void **state)
{
    (void)state;
    struct clock clock;
    struct crew crew = crew_of(2);
    struct fathom_error err = {0};
    double slowness = NONE;
    crew.watch.stopped = is_over;
    assert_int_equal(pace_measure(&crew, &clock_make(&clock, 1)->env, &slowness, &err),
                     FATHOM_EINTERRUPTED);
    assert_true(slowness == NONE && err.msg[0]);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(what_takes_twice_as_long_is_twice_as_slow),
    cmocka_unit_test(no_clock_makes_a_machine_infinitely_fast_or_slow),
    cmocka_unit_test(only_long_work_that_is_watched_is_worth_a_look),
    cmocka_unit_test(it_ends_when_the_work_is_to_end),
};

FATHOM_TEST_MAIN(tests)
