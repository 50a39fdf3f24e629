/* What is foreseen of work in several phases: right from the start when expectations are, corrected
 * by machines that are slower and by phases that are more work than was thought. */
#include "outlook.h"

#include <math.h>

#include "fathom_test.h"

static const char *const names[] = {"read", "graph", "write"};

static struct outlook expecting(double read, double graph, double write)
{
    struct outlook outlook = {.count = 0};
    outlook_expect(&outlook, names, (const double[]){read, graph, write}, NULL, 3);
    return outlook;
}

static void assert_near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("%g, not %g", got, want);
}

static void what_was_expected_rightly_is_foreseen(void **state)
{
    struct outlook outlook = expecting(10, 60, 30);
    (void)state;
    assert_near(outlook_view(&outlook, "read", 0, 0).eta_seconds, 100, 1e-9);
    assert_near(outlook_view(&outlook, "read", 5, 0.5).eta_seconds, 95, 1e-9);
    outlook_end(&outlook, "read", 10);
    struct outlook_view view = outlook_view(&outlook, "graph", 30, 0.5);
    assert_near(view.eta_seconds, 60, 1e-9);
    assert_near(view.share, 0.4, 1e-9);
    outlook_end(&outlook, "graph", 60);
    view = outlook_view(&outlook, "write", 30, 1);
    assert_near(view.eta_seconds, 0, 1e-9);
    assert_near(view.share, 1, 1e-9);
}

/* The tenth of the build that the first phase is shows how slow the machine is. */
static void a_slower_machine_is_noticed_after_a_tenth(void **state)
{
    (void)state;
    for (double slower = 0.5; slower < 8; slower *= 2) {
        struct outlook outlook = expecting(10, 60, 30);
        double whole = 100 * slower, spent = 20 * slower;
        outlook_end(&outlook, "read", 10 * slower);
        struct outlook_view view = outlook_view(&outlook, "graph", 10 * slower, 1.0 / 6);
        assert_near(spent + view.eta_seconds, whole, 0.2 * whole);
    }
}

/* Half-way through, a phase that takes three times as long has told most of it by itself. */
static void a_phase_that_is_more_work_is_believed_as_it_goes_on(void **state)
{
    struct outlook outlook = expecting(10, 60, 2);
    (void)state;
    outlook_end(&outlook, "read", 10);
    double early = outlook_view(&outlook, "graph", 18, 0.1).eta_seconds;
    double late = outlook_view(&outlook, "graph", 162, 0.9).eta_seconds;
    assert_true(early > 54 + 2 && early < 162 + 6);
    assert_near(late, 18 + 2, 6);
}

/* What it does before it has anything to tell may be long, and says nothing about the rest. */
static void a_phase_that_has_not_told_anything_yet_takes_what_was_expected(void **state)
{
    struct outlook outlook = expecting(10, 60, 30);
    (void)state;
    outlook_end(&outlook, "read", 10);
    assert_near(outlook_view(&outlook, "graph", 30, 0).eta_seconds, 90, 1e-9);
}

/* The others went as expected, so the machine is not slower. */
static void a_phase_that_was_more_work_says_little_about_the_next(void **state)
{
    struct outlook outlook = expecting(10, 60, 30);
    (void)state;
    outlook_end(&outlook, "read", 10);
    outlook_end(&outlook, "graph", 90);
    double left = outlook_view(&outlook, "write", 0, 0).eta_seconds;
    assert_true(left > 30 && left < 40);
}

/* A tenth of a second goes to opening files, say, and to what is done once. */
static void what_a_phase_begins_with_does_not_stretch_what_is_left(void **state)
{
    struct outlook outlook = expecting(0.2, 1.8, 0);
    (void)state;
    outlook_end(&outlook, "read", 0.2);
    double left = outlook_view(&outlook, "graph", 0.1, 0.02).eta_seconds;
    assert_true(left > 1.7 && left < 1.2 * 1.8);
}

static void a_phase_that_is_hardly_a_part_of_the_whole_hardly_counts(void **state)
{
    struct outlook outlook = expecting(0.05, 60, 30);
    (void)state;
    outlook_end(&outlook, "read", 0.5); /* a file was not there yet, say */
    double left = outlook_view(&outlook, "graph", 0, 0).eta_seconds;
    assert_true(left > 90 && left < 120);
}

/* A file that is not in the page cache takes six times as long to read: nothing else does. */
static void what_waits_for_a_device_says_nothing_about_the_pace(void **state)
{
    static const bool waits[] = {true, false, false};
    struct outlook outlook = {.count = 0};
    (void)state;
    outlook_expect(&outlook, names, (const double[]){0.2, 6, 3}, waits, 3);
    double left = outlook_view(&outlook, "read", 1.08, 0.9).eta_seconds;
    assert_near(left, 9.1, 0.05);
    outlook_end(&outlook, "read", 1.2);
    assert_near(outlook_view(&outlook, "graph", 0, 0).eta_seconds, 9, 1e-9);
    /* While others do. */
    assert_true(outlook_view(&outlook, "graph", 12, 1).eta_seconds > 5);
}

/* An index that is measured anew: copying waits for a disk and says nothing about what follows, so
 * what is known of the machine before it began has to. The clock is simulated: a copy that takes
 * what was thought or ten times as long, and a machine as slow as was seen, or a quarter off. */
static void after_a_copy_what_follows_is_foreseen_by_the_pace_of_the_machine(void **state)
{
    static const char *const copied[] = {"write", "measure"};
    static const bool waits[] = {true, false};
    (void)state;
    for (double slower = 0.5; slower <= 8; slower *= 2)
        for (double copy = 0.25; copy <= 2.5; copy *= 10)
            for (double off = 0.8; off < 1.3; off += 0.2) {
                struct outlook outlook = {.count = 0};
                double measure = 7 * slower, whole = copy + measure, at = 0.1 * whole;
                outlook_expect(&outlook, copied, (const double[]){0.25, off * measure}, waits, 2);
                struct outlook_view view;
                if (at < copy) {
                    view = outlook_view(&outlook, "write", at, at / copy);
                } else {
                    outlook_end(&outlook, "write", copy);
                    view = outlook_view(&outlook, "measure", at - copy, (at - copy) / measure);
                }
                assert_near(view.eta_seconds, whole - at, 0.2 * whole + 1e-9);
            }
}

static void a_phase_without_a_share_moves_on_by_its_time(void **state)
{
    struct outlook outlook = expecting(10, 60, 30);
    (void)state;
    outlook_end(&outlook, "read", 10);
    double before = outlook_view(&outlook, "graph", 10, -1).eta_seconds;
    double after = outlook_view(&outlook, "graph", 40, -1).eta_seconds;
    assert_near(before, 80, 1e-9);
    assert_near(after, 50, 1e-9);
    /* Beyond what was expected there is always something left. */
    assert_true(outlook_view(&outlook, "graph", 500, -1).eta_seconds > 30);
}

static void phases_that_were_left_out_say_nothing_about_the_pace(void **state)
{
    struct outlook outlook = expecting(0, 60, 30);
    (void)state;
    outlook_end(&outlook, "graph", 60); /* read never began */
    assert_near(outlook_view(&outlook, "write", 0, 0).eta_seconds, 30, 1e-9);
}

static void new_expectations_keep_what_phases_took(void **state)
{
    struct outlook outlook = expecting(10, 60, 30);
    (void)state;
    outlook_end(&outlook, "read", 20);
    outlook_expect(&outlook, names, (const double[]){20, 120, 60}, NULL, 3);
    struct outlook_view view = outlook_view(&outlook, "graph", 0, 0);
    assert_near(view.eta_seconds, 180, 1e-9);
    assert_near(view.share, 0.1, 1e-9);
}

static void nothing_is_foreseen_when_nothing_is_expected(void **state)
{
    struct outlook outlook = {.count = 0};
    (void)state;
    assert_true(outlook_view(&outlook, "read", 5, 0.5).eta_seconds < 0);
    outlook_end(&outlook, "read", 5);
    assert_true(outlook_view(&outlook, "graph", 5, 0.5).eta_seconds < 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(what_was_expected_rightly_is_foreseen),
    cmocka_unit_test(a_slower_machine_is_noticed_after_a_tenth),
    cmocka_unit_test(a_phase_that_is_more_work_is_believed_as_it_goes_on),
    cmocka_unit_test(a_phase_that_has_not_told_anything_yet_takes_what_was_expected),
    cmocka_unit_test(a_phase_that_was_more_work_says_little_about_the_next),
    cmocka_unit_test(what_a_phase_begins_with_does_not_stretch_what_is_left),
    cmocka_unit_test(a_phase_that_is_hardly_a_part_of_the_whole_hardly_counts),
    cmocka_unit_test(what_waits_for_a_device_says_nothing_about_the_pace),
    cmocka_unit_test(after_a_copy_what_follows_is_foreseen_by_the_pace_of_the_machine),
    cmocka_unit_test(a_phase_without_a_share_moves_on_by_its_time),
    cmocka_unit_test(phases_that_were_left_out_say_nothing_about_the_pace),
    cmocka_unit_test(new_expectations_keep_what_phases_took),
    cmocka_unit_test(nothing_is_foreseen_when_nothing_is_expected),
};
FATHOM_TEST_MAIN(tests)
