/* Builds that are killed, fail or are stopped at any operation, and those that take over from them.
 * The index is the same, byte by byte, as that of a build that nobody disturbed. */
#include "trial.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "format.h"
#include "mem.h"
#include "work.h"

#define KILLED_FROM 330 /* operations: before the index is written, in builds that are measured */
#define MEASURED    100 /* rows: how many they are changes nothing here but the time */

static void a_build_killed_at_any_operation_resumes_to_the_same_index(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    trial_kill_everywhere(&trial, 1);
}

static void a_build_in_parts_killed_at_any_operation_resumes_to_the_same_index(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    trial.parts = 3;
    trial_kill_everywhere(&trial, 11); /* the graph of each part is saved after every batch */
}

static void
a_build_with_rows_in_a_file_killed_at_any_operation_resumes_to_the_same_index(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    trial.parts = 2;
    trial.held = 150;
    trial_kill_everywhere(&trial, 13);
}

static void a_build_with_rows_in_a_file_that_failed_resumes_to_the_same_index(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    trial.parts = 2;
    trial.held = 150;
    trial_fail_everywhere(&trial, 41);
}

/* Whatever of the order was saved is gone on with: cells are not made again. */
static int kill_in_the_order(struct trial *trial, const struct scratch *scratch)
{
    struct bytes expected = trial_undisturbed(trial);
    char ordered[SCRATCH_PATH_MAX], rows[SCRATCH_PATH_MAX];
    scratch_name(scratch, "index/" WORK_PREFIX "ordered", ordered);
    scratch_name(scratch, "index/" WORK_PREFIX "rows", rows);
    const struct work all = {.env = env_os(), .dir = trial->out};
    int killed = 0;
    for (int n = 1;; n++) {
        char plan[64];
        snprintf(plan, sizeof plan, "op=%d:kill", n);
        assert_true(trial_build_killed(trial, plan, false));
        if (path_exists(rows))
            break;
        if (!path_exists(ordered)) {
            assert_int_equal(work_remove_all(&all, NULL), 0); /* or the next one has more to do */
            continue;
        }
        killed++;
        trial_assert_resumes_to(trial, &expected, plan);
        if (strstr(trial->notes, "again") || strstr(trial->phases, "cells"))
            fail_msg("%s: cells were made again: %s (%s)", plan, trial->notes, trial->phases);
    }
    free(expected.data);
    return killed;
}

static void a_build_killed_while_rows_are_put_in_order_goes_on_there(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    assert_true(kill_in_the_order(&trial, *state) >= 5);
    trial.parts = 2;
    trial.held = 90;
    assert_true(kill_in_the_order(&trial, *state) > 20);
}

/* Killed, resumed, killed again further on, and so on to the end. */
static void a_build_killed_again_and_again_gets_there(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    struct bytes expected = trial_undisturbed(&trial);
    for (int step = 60; step <= 150; step += 45) {
        char plan[64];
        int kills = 0;
        snprintf(plan, sizeof plan, "op=%d:kill", step);
        while (trial_build_killed(&trial, plan, kills > 0) && kills < 100)
            kills++;
        assert_true(kills > 1);
        if (!path_exists(trial.index))
            trial_assert_resumes_to(&trial, &expected, plan); /* from where it never gets past */
        unlink(trial.index);
    }
    free(expected.data);
}

static void a_build_that_failed_at_any_operation_resumes_to_the_same_index(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    trial_fail_everywhere(&trial, 17);
}

/* The same while resuming: what is read of the checkpoints may fail, or be cut short or changed. */
static void resuming_may_fail_at_any_operation(void **state)
{
    static const char *const actions[] = {"op=%d:EIO", "op=%d:kill", "read#%d:flip=bit4000",
                                          "read#%d:short=100", "read#%d:EIO"};
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    struct bytes expected = trial_undisturbed(&trial);
    int noted = 0;
    for (size_t a = 0; a < sizeof actions / sizeof *actions; a++) {
        bool fired = true;
        for (int n = 1; fired; n += actions[a][0] == 'o' ? 29 : 3) {
            char plan[64];
            snprintf(plan, sizeof plan, actions[a], n);
            assert_true(trial_build_killed(&trial, "op=120:kill", false));
            if (strstr(plan, "kill")) {
                fired = trial_build_killed(&trial, plan, true);
            } else {
                struct fault_env fault;
                struct fathom_error err = {0};
                assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
                int status = trial_build(&trial, &fault.env, true, &err);
                fired = fault_fired(&fault) > 0;
                noted += strstr(trial.notes, "made again") != NULL;
                if (status != 0 && err.msg[0] == 0)
                    fail_msg("%s: %d without a message", plan, status);
                if (status == 0)
                    trial_assert_index(&trial, &expected, plan);
            }
            trial_assert_resumes_to(&trial, &expected, plan);
        }
    }
    assert_true(noted > 0);
    free(expected.data);
}

/* Descriptors may be short, or a file not to be had, for a while: that says nothing about what a
 * checkpoint holds. */
static void what_passes_costs_no_checkpoint(void **state)
{
    static const char *const errors[] = {"EMFILE", "EACCES"};
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    struct bytes expected = trial_undisturbed(&trial);
    int failed = 0;
    for (size_t e = 0; e < sizeof errors / sizeof *errors; e++) {
        bool fired = true;
        for (int n = 1; fired && n < 90; n += 3) {
            char plan[64];
            struct fault_env fault;
            struct fathom_error err = {0};
            snprintf(plan, sizeof plan, "op=%d:%s", n, errors[e]);
            assert_true(trial_build_killed(&trial, "op=120:kill", false));
            assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
            int status = trial_build(&trial, &fault.env, true, &err);
            fired = fault_fired(&fault) > 0;
            failed += status != 0;
            if (strstr(trial.notes, "made again"))
                fail_msg("%s: %d, %s", plan, status, trial.notes);
            if (status == 0)
                trial_assert_index(&trial, &expected, plan);
            trial_assert_resumes_to(&trial, &expected, plan);
            if (strstr(trial.notes, "made again"))
                fail_msg("%s, behind it: %s", plan, trial.notes);
        }
    }
    assert_true(failed > 20);
    free(expected.data);
}

/* ---- input that changes ---- */

/* Or changes back: a bit of one of the rows. */
static void change_input(const struct trial *trial)
{
    trial_flip_in(trial->input, 8 + 4L * TRIAL_DIM * (TRIAL_ROWS - 20) + 1);
}

static void change_before_writing(void *context, const char *phase, uint64_t total,
                                  const char *unit)
{
    (void)total;
    (void)unit;
    if (strcmp(phase, "write") == 0)
        change_input(context);
}

/* Full vectors are read again as they are written, long after all else was made from them. */
static int build_that_changes(struct trial *trial, uint64_t checkpoint_ns, bool resume,
                              struct fathom_error *err)
{
    struct build_options options = trial_options(trial, env_os(), resume);
    options.checkpoint_ns = checkpoint_ns;
    options.watch = (struct build_watch){.phase = change_before_writing, .context = trial};
    return trial_run(&options, err);
}

static void assert_refused(struct trial *trial, int status, const struct fathom_error *err)
{
    assert_int_equal(status, FATHOM_EINPUT);
    assert_true(message_has(err, trial->input) && message_has(err, "changed"));
    assert_false(path_exists(trial->index));
}

static void input_that_changes_before_it_is_written_is_refused(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    struct bytes expected = trial_undisturbed(&trial);
    struct fathom_error err;
    assert_refused(&trial, build_that_changes(&trial, 3600000000000ull, false, &err), &err);
    assert_int_equal(names_with(trial.out, TRIAL_MARK), 0);
    change_input(&trial);
    assert_refused(&trial, build_that_changes(&trial, 0, false, &err), &err);
    assert_int_equal(trial_build(&trial, env_os(), true, &err), FATHOM_EARGUMENT);
    change_input(&trial);
    trial_assert_resumes_to(&trial, &expected, "a change of the input");
    assert_null(strstr(trial.notes, "nothing to resume"));
    free(expected.data);
}

/* What was right is not read again. */
static void input_that_changes_while_it_is_written_is_refused_or_written_as_it_was(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    int refused = 0, written = 0;
    trial.piece = 90;
    struct bytes expected = trial_undisturbed(&trial);
    for (int times = 1; trial_killed_behind(&trial, "writing", times); times++) {
        struct fathom_error err;
        int status = build_that_changes(&trial, 0, true, &err);
        change_input(&trial);
        written += status == 0;
        if (status == 0) {
            trial_assert_index(&trial, &expected, "a change of what is written");
            continue;
        }
        refused++;
        assert_refused(&trial, status, &err);
        trial_assert_resumes_to(&trial, &expected, "a change of what was written in part");
    }
    assert_true(refused > 10 && written > 0);
    unlink(trial.index);
    free(expected.data);
}

/* ---- what is refused, and what is made again ---- */

static void another_input_or_option_is_refused_by_name(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    struct bytes expected = trial_undisturbed(&trial);
    struct fathom_error err;
    assert_true(trial_build_killed(&trial, "op=120:kill", false));
    struct build_options changed = trial_options(&trial, env_os(), true);
    changed.degree = 12;
    assert_int_equal(trial_run(&changed, &err), FATHOM_EARGUMENT);
    assert_true(message_has(&err, "degree was 8") && message_has(&err, "12"));
    changed = trial_options(&trial, env_os(), true);
    changed.seed = 9;
    assert_int_equal(trial_run(&changed, &err), FATHOM_EARGUMENT);
    assert_true(message_has(&err, "seed"));
    changed = trial_options(&trial, env_os(), true);
    changed.metric = FATHOM_METRIC_IP;
    assert_int_equal(trial_run(&changed, &err), FATHOM_EARGUMENT);
    assert_true(message_has(&err, "metric was \"l2\""));
    floats_file(trial.input, TRIAL_ROWS, TRIAL_DIM, 2); /* as many rows, other values */
    assert_int_equal(trial_build(&trial, env_os(), true, &err), FATHOM_EARGUMENT);
    assert_true(message_has(&err, "input"));
    floats_file(trial.input, TRIAL_ROWS, TRIAL_DIM, 1);
    trial_assert_resumes_to(&trial, &expected, "refusals");
    assert_null(strstr(trial.notes, "nothing to resume"));
    free(expected.data);
}

/* The file from which on a resumed build looks at another: nothing is of use before the build is
 * known. */
static const char *used_from(const char *name)
{
    if (strcmp(name, "raw") == 0) /* it is there before it is known of which input */
        return "state";
    if (strcmp(name, "rows.part") == 0)
        return "ordered";
    return strcmp(name, "input") == 0 ? "state" : name;
}

static void a_damaged_checkpoint_is_said_and_made_again(void **state)
{
    static const char *const names[] = {
        "state",   "input",  "cells", "ordered", "rows", "graph", "heat",   "lists1", "codes1",
        "writing", "grown1", "part1", "joined",  "thin", "lists", "codes0", "raw",    "rows.part"};
    const size_t in_memory = 10, in_file = 16;
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    trial.piece = 190;
    struct bytes expected = trial_undisturbed(&trial);
    int n = 20; /* the names are in the order in which a build makes them */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[SCRATCH_PATH_MAX], last[SCRATCH_PATH_MAX], name[64];
        if (i == in_memory || i == in_file)
            n = 20;
        if (i == in_memory) {
            trial.parts = 3;
            trial.piece = 0;
            free(expected.data);
            expected = trial_undisturbed(&trial);
        }
        trial.held = i >= in_file ? 150 : 0;
        snprintf(name, sizeof name, "index/" WORK_PREFIX "%s", names[i]);
        scratch_name(*state, name, path);
        const char *awaited = used_from(names[i]);
        snprintf(name, sizeof name, "index/" WORK_PREFIX "%s", awaited);
        scratch_name(*state, name, last);
        unlink(last);
        for (;; n += trial.parts ? 30 : 1) {
            char plan[64];
            snprintf(plan, sizeof plan, "op=%d:kill", n);
            if (!trial_build_killed(&trial, plan, false))
                fail_msg("%s is not made behind operation %d", awaited, n);
            if (path_exists(last))
                break;
        }
        trial_flip_in(path, 4096 + 100);
        trial_assert_resumes_to(&trial, &expected, names[i]);
        if (!strstr(trial.notes, names[i]) || !strstr(trial.notes, "made again"))
            fail_msg("%s: damage was not said: %s", names[i], trial.notes);
    }
    free(expected.data);
}

static void what_the_build_chose_itself_is_no_changed_option(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS_MANY);
    trial.measured = MEASURED;
    trial.tuned = true;
    struct bytes expected = trial_undisturbed(&trial);
    (void)trial_kill_before_points(&trial, *state, KILLED_FROM, 10);
    trial_assert_resumes_to(&trial, &expected, "an index that waits for its points");
    free(expected.data);
}

static void a_damaged_index_that_waits_for_its_points_is_written_again(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS_MANY);
    trial.measured = MEASURED;
    struct bytes expected = trial_undisturbed(&trial);
    (void)trial_kill_before_points(&trial, *state, KILLED_FROM, 10);
    char *unfinished = path_with(trial.out, FORMAT_FILE_NAME TRIAL_MARK);
    trial_flip_in(unfinished, 4096 * 5 + 77);
    free(unfinished);
    trial_assert_resumes_to(&trial, &expected, "a flip in the index");
    if (!strstr(trial.notes, "page 5"))
        fail_msg("damage was not said: %s", trial.notes);
    free(expected.data);
}

static void a_build_without_resume_begins_again(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    struct bytes expected = trial_undisturbed(&trial), got;
    assert_true(trial_build_killed(&trial, "op=120:kill", false));
    assert_true(names_with(trial.out, TRIAL_MARK) > 2);
    assert_int_equal(trial_build(&trial, env_os(), false, NULL), 0);
    assert_int_equal(names_with(trial.out, TRIAL_MARK), 0);
    got.data = file_slurp(trial.index, &got.count);
    assert_int_equal(got.count, expected.count);
    assert_memory_equal(got.data, expected.data, got.count);
    free(got.data);
    free(expected.data);
}

/* Counts how often a build asks whether to stop, and says so at one time. */
struct stop {
    int asked, at;      /* at 0: never */
    int asked_at_phase; /* when the last phase began */
};

static bool count_and_stop(void *context)
{
    struct stop *stop = context;
    return ++stop->asked == stop->at;
}

static void note_phase(void *context, const char *phase, uint64_t total, const char *unit)
{
    struct stop *stop = context;
    (void)phase;
    (void)total;
    (void)unit;
    stop->asked_at_phase = stop->asked;
}

static int build_with_stop(struct trial *trial, struct stop *stop)
{
    struct build_options options = trial_options(trial, env_os(), false);
    options.watch =
        (struct build_watch){.stopped = count_and_stop, .phase = note_phase, .context = stop};
    return trial_run(&options, NULL);
}

/* Work files and the index are read back and written piece by piece, and each piece can be the
 * last. */
static void a_build_stopped_whenever_it_asks_resumes_to_the_same_index(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    struct bytes expected = trial_undisturbed(&trial);
    struct stop whole = {0};
    assert_int_equal(build_with_stop(&trial, &whole), 0);
    unlink(trial.index);
    /* The end verifies every section. */
    assert_true(whole.asked - whole.asked_at_phase > 10);
    for (int at = 1; at <= whole.asked; at += at < whole.asked_at_phase ? 9 : 1) {
        struct stop stop = {.at = at};
        char plan[64];
        snprintf(plan, sizeof plan, "a stop at question %d", at);
        if (build_with_stop(&trial, &stop) != FATHOM_EINTERRUPTED)
            fail_msg("%s: not stopped", plan);
        assert_false(path_exists(trial.index));
        trial_assert_resumes_to(&trial, &expected, plan);
    }
    free(expected.data);
}

static void a_short_build_leaves_no_checkpoints_and_says_so(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    struct build_options options = trial_options(&trial, env_os(), true);
    options.checkpoint_ns = 3600000000000ull;
    assert_int_equal(trial_run(&options, NULL), 0);
    assert_non_null(strstr(trial.notes, "nothing to resume"));
    struct fault_env fault;
    assert_int_equal(fault_init(&fault, env_os(), "op=22:EIO", NULL), 0);
    options.env = &fault.env;
    assert_int_equal(trial_run(&options, NULL), -EIO);
    assert_int_equal(names_with(trial.out, TRIAL_MARK), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(
        a_build_with_rows_in_a_file_killed_at_any_operation_resumes_to_the_same_index,
        scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(
        a_build_with_rows_in_a_file_that_failed_resumes_to_the_same_index, scratch_make_fast,
        scratch_remove),
    cmocka_unit_test_setup_teardown(a_build_killed_at_any_operation_resumes_to_the_same_index,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(
        a_build_in_parts_killed_at_any_operation_resumes_to_the_same_index, scratch_make_fast,
        scratch_remove),
    cmocka_unit_test_setup_teardown(a_build_killed_while_rows_are_put_in_order_goes_on_there,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(a_build_killed_again_and_again_gets_there, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(a_build_that_failed_at_any_operation_resumes_to_the_same_index,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(what_passes_costs_no_checkpoint, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(resuming_may_fail_at_any_operation, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(input_that_changes_before_it_is_written_is_refused,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(
        input_that_changes_while_it_is_written_is_refused_or_written_as_it_was, scratch_make_fast,
        scratch_remove),
    cmocka_unit_test_setup_teardown(another_input_or_option_is_refused_by_name, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(a_damaged_checkpoint_is_said_and_made_again, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(what_the_build_chose_itself_is_no_changed_option,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(a_damaged_index_that_waits_for_its_points_is_written_again,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(a_build_stopped_whenever_it_asks_resumes_to_the_same_index,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(a_build_without_resume_begins_again, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(a_short_build_leaves_no_checkpoints_and_says_so,
                                    scratch_make_fast, scratch_remove),
};

FATHOM_TEST_MAIN(tests)
