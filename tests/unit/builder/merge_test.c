/* Merging the lists of parts: each of its steps is saved on its way, and gone on with behind what
 * is there. */
#include "trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "work.h"

#define ROWS    900 /* their lists take three pages */
#define PARTS   3
#define KINDS   4
#define LISTING 3

static const char *const kinds[KINDS] = {"merging", "reached", "measured", "listing"};

static struct trial trial_in_parts(const struct scratch *scratch)
{
    struct trial trial = trial_of(scratch, ROWS);
    trial.parts = PARTS;
    trial.piece = 150;
    return trial;
}

static void made_after(struct trial *trial, const char *kind, int times, int made[KINDS],
                       const struct bytes *expected)
{
    if (!trial_killed_behind(trial, kind, times))
        fail_msg("%d %s: not killed", times, kind);
    trial_count_made(trial, kinds, KINDS, made, expected);
}

/* Killed behind each file: of its kind the rest is made, and nothing of the steps before. */
static void what_is_merged_before_a_kill_is_not_merged_again(void **state)
{
    struct trial trial = trial_in_parts(*state);
    struct bytes expected = trial_undisturbed(&trial);
    int all[KINDS], made[KINDS];
    made_after(&trial, "part2", 1, all, &expected);
    for (int k = 0; k < KINDS; k++) {
        assert_true(all[k] >= 5);
        for (int i = 1; i <= all[k]; i++) {
            made_after(&trial, kinds[k], i, made, &expected);
            for (int earlier = 0; earlier < k; earlier++)
                assert_int_equal(made[earlier], 0);
            /* Lists are gone on with at the page that was not full. */
            int left = all[k] - i, more = k == LISTING ? 3 : 0;
            if (made[k] < left || made[k] > left + more)
                fail_msg("%d of %d %s were there, and %d made", i, all[k], kinds[k], made[k]);
            for (int later = k + 1; later < KINDS; later++)
                assert_int_equal(made[later], all[later]);
        }
    }
    free(expected.data);
}

static void merging_killed_at_any_operation_resumes_to_the_same_index(void **state)
{
    struct trial trial = trial_in_parts(*state);
    trial_kill_everywhere(&trial, 19);
}

static void merging_that_failed_resumes_to_the_same_index(void **state)
{
    struct trial trial = trial_in_parts(*state);
    trial_fail_everywhere(&trial, 97);
}

static void damage_is_said_and_merged_again(void **state)
{
    /* A file that is damaged, and behind which it is found there. */
    static const struct {
        const char *damaged, *kind;
        int times;
    } cases[] = {{"merging", "merging", 2},   {"merged.part", "merging", 2},
                 {"merged", "reached", 1},    {"reached", "reached", 3},
                 {"measured", "measured", 2}, {"thin.part", "measured", 2},
                 {"joined", "listing", 1},    {"thin", "listing", 1},
                 {"listing", "listing", 2},   {"lists.part", "listing", 5}};
    struct trial trial = trial_in_parts(*state);
    struct bytes expected = trial_undisturbed(&trial);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[SCRATCH_PATH_MAX], name[64];
        assert_true(trial_killed_behind(&trial, cases[i].kind, cases[i].times));
        snprintf(name, sizeof name, "index/" WORK_PREFIX "%s", cases[i].damaged);
        scratch_name(*state, name, path);
        trial_flip_in(path, 4096 + 100);
        trial_assert_resumes_to(&trial, &expected, cases[i].damaged);
        if (!strstr(trial.notes, cases[i].damaged) || !strstr(trial.notes, "made again"))
            fail_msg("%s: damage was not said: %s", cases[i].damaged, trial.notes);
    }
    free(expected.data);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(what_is_merged_before_a_kill_is_not_merged_again,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(merging_killed_at_any_operation_resumes_to_the_same_index,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(merging_that_failed_resumes_to_the_same_index,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(damage_is_said_and_merged_again, scratch_make_fast,
                                    scratch_remove),
};

FATHOM_TEST_MAIN(tests)
