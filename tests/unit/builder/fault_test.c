/* Every operation of a build fails once, or from then on, or is the last before a SIGKILL. What is
 * left is the old index or the new one, sound, and nothing beside it that the next build does not
 * take away. */
#include "builder_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "format.h"
#include "mem.h"

#define ROWS 150
#define DIM  6

static struct place place_with_input(const struct scratch *scratch)
{
    struct place place = place_of(scratch, "index");
    floats_file(place.input, ROWS, DIM, 1);
    return place;
}

static int build(const struct place *place, const struct env *env, uint64_t seed,
                 uint64_t *generation, struct fathom_error *err)
{
    struct build_options options = build_options_default();
    options.checkpoint_ns = 3600000000000ull; /* none, however slow the machine is */
    struct build_report report;
    options.input = place->input;
    options.out = place->out;
    options.seed = seed;
    options.threads = 1; /* so that operations have the same numbers every time */
    options.env = env;
    int status = build_run(&options, &report, err);
    if (status == 0 && generation)
        *generation = report.generation;
    if (status == 0)
        build_report_fini(&report);
    return status;
}

/* Fails unless the index is sound and one of the two. */
static void assert_old_or_new(const struct place *place, uint64_t old, uint64_t new,
                              const char *plan)
{
    struct index_file file;
    struct fathom_error err;
    struct fathom_verify_report report;
    if (index_file_open(&file, env_os(), place->out, &err) != 0)
        fail_msg("after %s: %s", plan, err.msg);
    uint64_t generation = file.super.properties.generation;
    index_file_close(&file);
    assert_true(generation == old || generation == new);
    if (fathom_verify(place->out, true, &report, NULL, NULL, &err) != 0)
        fail_msg("after %s: %s", plan, err.msg);
}

/* One build under a plan; true when the plan had an effect. */
static bool try_plan(const struct place *place, const char *plan, uint64_t old, uint64_t new,
                     bool debris_allowed)
{
    struct fault_env fault;
    struct fathom_error err = {0};
    unsigned fds = open_fds();
    assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
    int status = build(place, &fault.env, 2, NULL, &err);
    if (status != 0 && err.msg[0] == 0)
        fail_msg("%s: %d without a message", plan, status);
    if (status != 0 && fault_fired(&fault) == 0)
        fail_msg("%s: failed by itself: %s", plan, err.msg);
    assert_old_or_new(place, old, new, plan);
    if (!debris_allowed && names_with(place->out, ".tmp-") != 0)
        fail_msg("%s: a temporary file is left", plan);
    assert_int_equal(open_fds(), fds);
    return fault_fired(&fault) > 0;
}

static void any_operation_may_fail(void **state)
{
    static const char *const actions[] = {":EIO",       ":ENOSPC", ":EINTR",
                                          ":short=100", "+:EIO",   "+:ENOSPC"};
    struct place place = place_with_input(*state);
    uint64_t old = 0, new = 0;
    assert_int_equal(build(&place, env_os(), 2, &new, NULL), 0);
    for (size_t a = 0; a < sizeof actions / sizeof *actions; a++) {
        int fired = 0;
        assert_int_equal(build(&place, env_os(), 1, &old, NULL), 0);
        for (int n = 1;; n++, fired++) {
            char plan[64];
            snprintf(plan, sizeof plan, "op=%d%s", n, actions[a]);
            /* When everything fails from there on, so does taking the file away; an unlink that
             * fails once does too. */
            if (!try_plan(&place, plan, old, new, true))
                break;
        }
        assert_true(fired > 20);
        assert_int_equal(build(&place, env_os(), 1, NULL, NULL), 0);
        assert_int_equal(names_with(place.out, ".tmp-"), 0);
    }
}

static void a_failed_write_leaves_no_temporary_file(void **state)
{
    struct place place = place_with_input(*state);
    uint64_t old = 0, new = 0;
    assert_int_equal(build(&place, env_os(), 2, &new, NULL), 0);
    assert_int_equal(build(&place, env_os(), 1, &old, NULL), 0);
    int left = 0;
    for (int n = 1;; n++) {
        char plan[64];
        snprintf(plan, sizeof plan, "op=%d:ENOSPC", n);
        bool fired = try_plan(&place, plan, old, new, true);
        left += names_with(place.out, ".tmp-") != 0;
        assert_int_equal(build(&place, env_os(), 1, NULL, NULL), 0); /* takes debris away */
        if (!fired)
            break;
    }
    assert_int_equal(left, 0);
}

static void a_killed_build_leaves_the_old_index_or_the_new(void **state)
{
    struct place place = place_with_input(*state);
    uint64_t old = 0, new = 0;
    assert_int_equal(build(&place, env_os(), 2, &new, NULL), 0);
    int killed = 0;
    for (int n = 1;; n++, killed++) {
        char plan[64];
        int how;
        snprintf(plan, sizeof plan, "op=%d:kill", n);
        assert_int_equal(build(&place, env_os(), 1, &old, NULL), 0);
        assert_int_equal(names_with(place.out, ".tmp-"), 0); /* of the one killed before */
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct fault_env fault;
            if (fault_init(&fault, env_os(), plan, NULL) == 0)
                (void)!build(&place, &fault.env, 2, NULL, NULL);
            _exit(0);
        }
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_old_or_new(&place, old, new, plan);
        if (!WIFSIGNALED(how))
            break;
    }
    assert_true(killed > 20);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(any_operation_may_fail, scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(a_failed_write_leaves_no_temporary_file, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(a_killed_build_leaves_the_old_index_or_the_new,
                                    scratch_make_fast, scratch_remove),
};

FATHOM_TEST_MAIN(tests)
