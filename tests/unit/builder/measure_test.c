/* Operating points are saved as they are measured: the rows that they are measured with, their
 * neighbours, and the points of each residency. Killed or failed anywhere, the next build goes on
 * behind what is there. */
#include "trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "work.h"

#define ROWS        TRIAL_ROWS_MANY
#define KILLED_FROM 330 /* operations: before the index is written */
#define FAILURES    8
#define MEASURED    100  /* rows or queries: how many they are changes nothing here but the time */
#define QUERIES     1000 /* more than are measured */
#define KINDS       3

static const char *const kinds[KINDS] = {"picked", "sample", "points"};

static struct trial few(const struct scratch *scratch)
{
    struct trial trial = trial_of(scratch, ROWS);
    trial.measured = MEASURED;
    return trial;
}

/* Resumed after a kill behind so many files of a kind: how many of each kind are made. */
static void made_after(struct trial *trial, const char *kind, int times, int made[KINDS],
                       const struct bytes *expected)
{
    if (!trial_killed_behind(trial, kind, times))
        fail_msg("%d %s: not killed", times, kind);
    trial_count_made(trial, kinds, KINDS, made, expected);
}

static void what_is_measured_before_a_kill_is_not_measured_again(void **state)
{
    struct trial trial = few(*state);
    struct bytes expected = trial_undisturbed(&trial);
    int made[KINDS];
    made_after(&trial, "written", 1, made, &expected);
    int residencies = made[2];
    assert_true(made[0] == 1 && made[1] == 1 && residencies >= 5);
    made_after(&trial, "picked", 1, made, &expected);
    assert_true(made[0] == 0 && made[1] == 1 && made[2] == residencies);
    made_after(&trial, "sample", 1, made, &expected);
    assert_true(made[0] == 0 && made[1] == 0 && made[2] == residencies);
    for (int i = 1; i <= residencies; i++) {
        made_after(&trial, "points", i, made, &expected);
        if (made[0] || made[1] || made[2] != residencies - i)
            fail_msg("%d residencies were there, and %d of %d made", i, made[2], residencies);
    }
    free(expected.data);
}

static void measuring_on_given_queries_goes_on_likewise(void **state)
{
    struct trial trial = few(*state);
    char query[SCRATCH_PATH_MAX];
    int made[KINDS];
    scratch_name(*state, "query.fbin", query);
    floats_file(query, QUERIES, TRIAL_DIM, 2);
    trial.query = query;
    struct bytes expected = trial_undisturbed(&trial);
    for (int kind = 0; kind < KINDS; kind++) {
        made_after(&trial, kinds[kind], 1, made, &expected);
        for (int before = 0; before <= kind && before < 2; before++)
            if (made[before])
                fail_msg("%s was made again behind %s", kinds[before], kinds[kind]);
    }
    free(expected.data);
}

/* Operations of a whole build. */
static int operations(struct trial *trial)
{
    struct fault_env fault;
    assert_int_equal(fault_init(&fault, env_os(), "", NULL), 0);
    assert_int_equal(trial_build(trial, &fault.env, false, NULL), 0);
    unlink(trial->index);
    return (int)fault_ops(&fault);
}

static void measuring_that_failed_resumes_to_the_same_index(void **state)
{
    static const char *const actions[] = {":ENOSPC", ":EIO", "+:ENOSPC"};
    struct trial trial = few(*state);
    struct bytes expected = trial_undisturbed(&trial);
    int all = operations(&trial), first = trial_kill_before_points(&trial, *state, KILLED_FROM, 10);
    for (int i = 0; i < FAILURES; i++) {
        struct fault_env fault;
        struct fathom_error err = {0};
        char plan[64];
        unsigned fds = open_fds();
        snprintf(plan, sizeof plan, "op=%d%s", first + (all - first) / FAILURES * i,
                 actions[i % 3]);
        assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
        int status = trial_build(&trial, &fault.env, false, &err);
        assert_int_equal(open_fds(), fds);
        assert_true(fault_fired(&fault) > 0);
        if (status != 0 && err.msg[0] == 0)
            fail_msg("%s: %d without a message", plan, status);
        trial_assert_resumes_to(&trial, &expected, plan);
    }
    free(expected.data);
}

static void damaged_measurements_are_said_and_made_again(void **state)
{
    struct trial trial = few(*state);
    struct bytes expected = trial_undisturbed(&trial);
    for (int i = 0; i < KINDS; i++) {
        char path[SCRATCH_PATH_MAX], name[64];
        assert_true(trial_killed_behind(&trial, i == 0 ? "picked" : "points", i == 0 ? 1 : 2));
        snprintf(name, sizeof name, "index/" WORK_PREFIX "%s", kinds[i]);
        scratch_name(*state, name, path);
        trial_flip_in(path, 4096 + 100);
        trial_assert_resumes_to(&trial, &expected, kinds[i]);
        if (!strstr(trial.notes, kinds[i]) || !strstr(trial.notes, "made again"))
            fail_msg("%s: damage was not said: %s", kinds[i], trial.notes);
    }
    free(expected.data);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(what_is_measured_before_a_kill_is_not_measured_again,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(measuring_on_given_queries_goes_on_likewise, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(measuring_that_failed_resumes_to_the_same_index,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(damaged_measurements_are_said_and_made_again, scratch_make_fast,
                                    scratch_remove),
};

FATHOM_TEST_MAIN(tests)
