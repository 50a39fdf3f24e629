/* Stages that are saved piece by piece: lists, codes, and the index as it is written. Killed or
 * failed anywhere, the next build goes on behind the last piece that is there. */
#include "trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "work.h"

static void a_build_in_pieces_killed_at_any_operation_resumes_to_the_same_index(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    trial.piece = 190; /* three */
    trial_kill_everywhere(&trial, 7);
}

static void a_build_in_pieces_that_failed_resumes_to_the_same_index(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    trial.piece = 190;
    trial_fail_everywhere(&trial, 61);
}

static int pieces_there(const struct scratch *scratch, const char *kind, int most)
{
    int count = 0;
    for (int i = 0; i < most; i++) {
        char name[64], path[SCRATCH_PATH_MAX];
        snprintf(name, sizeof name, "index/" WORK_PREFIX "%s%d", kind, i);
        scratch_name(scratch, name, path);
        count += path_exists(path);
    }
    return count;
}

/* Wherever it was killed: what was there of lists and codes is not made again. */
static void pieces_that_are_there_are_not_made_again(void **state)
{
    static const char *const kinds[] = {"lists", "codes"};
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    trial.piece = 90;
    const int pieces = 6;
    struct bytes expected = trial_undisturbed(&trial);
    for (size_t k = 0; k < 2; k++) {
        int seen = 0; /* a bit for each number of pieces that a kill left */
        for (int n = 60;; n += 2) {
            char plan[64];
            snprintf(plan, sizeof plan, "op=%d:kill", n);
            if (!trial_build_killed(&trial, plan, false))
                break;
            int there = pieces_there(*state, kinds[k], pieces);
            if (seen >> there & 1)
                continue;
            seen |= 1 << there;
            int made;
            trial_count_made(&trial, &kinds[k], 1, &made, &expected);
            if (made != pieces - there)
                fail_msg("%s: %d %s were there, and %d made", plan, there, kinds[k], made);
        }
        assert_int_equal(seen, (1 << (pieces + 1)) - 1);
        unlink(trial.index);
    }
    free(expected.data);
}

/* A file that is being written is gone on with: what is in it is not written again. */
static void a_build_killed_while_it_writes_goes_on_there(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    char writing[SCRATCH_PATH_MAX], written[SCRATCH_PATH_MAX];
    scratch_name(*state, "index/" WORK_PREFIX "writing", writing);
    scratch_name(*state, "index/" WORK_PREFIX "written", written);
    trial.piece = 169; /* vectors of one page; records fill another two and a part */
    struct bytes expected = trial_undisturbed(&trial);
    static const char *const kind = "writing";
    int most = 0, times = 0;
    for (int n = 60;; n++) {
        char plan[64];
        snprintf(plan, sizeof plan, "op=%d:kill", n);
        assert_true(trial_build_killed(&trial, plan, false));
        if (path_exists(written))
            break;
        if (!path_exists(writing))
            continue;
        int saved;
        trial_count_made(&trial, &kind, 1, &saved, &expected);
        if (most == 0)
            most = saved;
        assert_true(saved <= most);
        most = saved;
        times++;
    }
    assert_true(times > 15);
    assert_true(most <= 1);
    free(expected.data);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(
        a_build_in_pieces_killed_at_any_operation_resumes_to_the_same_index, scratch_make_fast,
        scratch_remove),
    cmocka_unit_test_setup_teardown(a_build_in_pieces_that_failed_resumes_to_the_same_index,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(pieces_that_are_there_are_not_made_again, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(a_build_killed_while_it_writes_goes_on_there, scratch_make_fast,
                                    scratch_remove),
};

FATHOM_TEST_MAIN(tests)
