/* Opening an index, and making an engine, under faults: whatever fails, it fails by name or
 * succeeds rightly, and descriptors and memory come back (memory by the sanitizer). */
#include "harm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"

#define QUERIES 10

struct fixture {
    struct small_index small;
    struct answers right[HARM_RESIDENCIES];
};

static void ask(struct answers *out, const struct fixture *fixture,
                const struct fathom_index *index)
{
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 4);
    harm_ask(out, &fixture->small, engine, index, QUERIES, false);
    fathom_engine_destroy(engine);
}

static int make_fixture(void **state)
{
    struct small_options options = {
        .rows = 800, .dim = 24, .metric = FATHOM_METRIC_IP, .dtype = FATHOM_F16, .in_memory = true};
    struct fixture *fixture = calloc(1, sizeof *fixture);
    small_index_make(&fixture->small, &options);
    for (int r = 0; r < HARM_RESIDENCIES; r++) {
        struct fathom_index *index;
        struct fathom_error err;
        if (harm_open(&index, env_os(), fixture->small.dir, r, &err) != 0)
            fail_msg("%s", err.msg);
        ask(&fixture->right[r], fixture, index);
        fathom_index_close(index);
    }
    *state = fixture;
    return 0;
}

static int free_fixture(void **state)
{
    struct fixture *fixture = *state;
    for (int r = 0; r < HARM_RESIDENCIES; r++)
        answers_free(&fixture->right[r]);
    small_index_remove(&fixture->small);
    free(fixture);
    return 0;
}

/* ---- */

/* Opens under a plan. Returns false when it did not fire. */
static bool open_under(const struct fixture *fixture, enum harm_residency residency,
                       const char *plan, int *status)
{
    struct fault_env fault;
    struct fathom_index *index = NULL;
    struct fathom_error err = {0};
    unsigned fds = fd_count();
    assert_int_equal(fault_init(&fault, env_os(), plan, &err), 0);
    mem_set_fault(fault_alloc, &fault);
    *status = harm_open(&index, &fault.env, fixture->small.dir, residency, &err);
    mem_set_fault(NULL, NULL);
    if (*status == 0) {
        struct answers got;
        fault.rule_count = 0;
        ask(&got, fixture, index);
        assert_int_equal(harm_count(&fixture->right[residency], &got, plan, NULL), 0);
        answers_free(&got);
        fathom_index_close(index);
    } else if (!strstr(err.msg, fixture->small.dir) || err.code != *status) {
        fail_msg("%s: %d does not name the index: '%s'", plan, *status, err.msg);
    }
    if (fd_count() != fds)
        fail_msg("%s: a descriptor is left open", plan);
    return fault_fired(&fault) > 0;
}

/* Each operation, read or allocation of each way to open. must_fail: the status that each gives, 0
 * for any. */
static void open_each(const struct fixture *fixture, const char *format, int must_fail)
{
    for (int r = 0; r < HARM_RESIDENCIES; r++) {
        unsigned n = 1;
        for (;; n++) {
            char plan[64];
            int status;
            snprintf(plan, sizeof plan, format, n);
            if (!open_under(fixture, r, plan, &status))
                break;
            if (must_fail && status != must_fail)
                fail_msg("%s: %d, not %d", plan, status, must_fail);
        }
        /* Where codes stay on SSD, an open reads superblock, model, centroids, cells and maybe ids.
         */
        if (n < (r == HARM_LEAST ? 5 : r == HARM_SCAN ? 6 : 8))
            fail_msg("%s: only %u to fail", format, n);
    }
}

static void each_operation_may_fail(void **state)
{
    open_each(*state, "op=%u:EIO", 0);
    open_each(*state, "op=%u:ENFILE", 0);
    open_each(*state, "op=%u+:EIO", 0);
}

static void each_operation_may_be_interrupted(void **state)
{
    open_each(*state, "op=%u:EINTR", 0);
}

static void each_read_that_fails_is_told(void **state)
{
    open_each(*state, "read#%u:EIO", -EIO);
}

static void each_read_that_lies_is_told(void **state)
{
    const struct fixture *fixture = *state;
    /* Page 0 is judged field by field before its checksum: any of the typed refusals will do there.
     */
    for (int bit = 0; bit < 40000; bit += 7919)
        for (int r = 0; r < HARM_RESIDENCIES; r++)
            for (unsigned n = 1;; n++) {
                char plan[64];
                int status;
                snprintf(plan, sizeof plan, "read#%u:flip=bit%d", n, bit);
                if (!open_under(fixture, r, plan, &status))
                    break;
                if (status != FATHOM_ECHECKSUM && status != FATHOM_ECORRUPT &&
                    status != FATHOM_EVERSION)
                    fail_msg("%s: %d", plan, status);
            }
}

static void each_read_that_falls_short_is_completed_or_told(void **state)
{
    open_each(*state, "read#%u:short=4096", 0);
    open_each(*state, "read#%u:short=100", 0);
    open_each(*state, "read#%u:short=0", FATHOM_ECORRUPT);
}

static void each_allocation_may_fail(void **state)
{
    open_each(*state, "alloc#%u:fail", -ENOMEM);
    open_each(*state, "alloc#%u+:fail", -ENOMEM);
}

/* ---- verify ---- */

static void verify_tells_each_allocation_that_fails(void **state)
{
    const struct fixture *fixture = *state;
    unsigned n = 1;
    for (;; n++) {
        struct fault_env fault;
        struct fathom_error err = {0};
        char plan[64];
        unsigned fds = fd_count();
        snprintf(plan, sizeof plan, "alloc#%u:fail", n);
        assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
        mem_set_fault(fault_alloc, &fault);
        int status = fathom_verify(fixture->small.dir, true, NULL, NULL, NULL, &err);
        mem_set_fault(NULL, NULL);
        assert_int_equal(fd_count(), fds);
        if (fault_fired(&fault) == 0) {
            assert_int_equal(status, 0);
            break;
        }
        if (status != -ENOMEM || !strstr(err.msg, fixture->small.dir))
            fail_msg("%s: %d (%s)", plan, status, err.msg);
    }
    assert_true(n > 8);
}

/* ---- engines ---- */

static void an_engine_without_memory_is_refused_and_leaves_nothing(void **state)
{
    (void)state;
    for (int io = FATHOM_IO_AUTO; io <= FATHOM_IO_PREAD; io++) {
        if (!io_works(io))
            continue;
        for (unsigned n = 1;; n++) {
            struct fathom_engine_options options = {.io = io, .inflight = 8};
            struct fathom_engine *engine;
            struct fault_env fault;
            struct fathom_error err = {0};
            char plan[64];
            unsigned fds = fd_count();
            snprintf(plan, sizeof plan, "alloc#%u:fail", n);
            assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
            mem_set_fault(fault_alloc, &fault);
            int status = engine_create_with(&engine, &fault.env, &options, &err);
            mem_set_fault(NULL, NULL);
            fathom_engine_destroy(engine);
            assert_int_equal(fd_count(), fds);
            if (fault_fired(&fault) == 0) {
                assert_int_equal(status, 0);
                assert_true(n > 3);
                break;
            }
            if (status != 0 && (status != -ENOMEM || !strstr(err.msg, "memory")))
                fail_msg("%s: %d (%s)", plan, status, err.msg);
        }
    }
}

static void where_io_uring_is_refused_answers_are_the_same(void **state)
{
    const struct fixture *fixture = *state;
    static const char *const plans[] = {"ring_init:EPERM", "ring_init:ENOSYS", "ring_init:ENOMEM"};
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        struct fault_env fault;
        struct fathom_index *index;
        struct fathom_error err;
        struct answers got;
        struct fathom_engine *engine = harm_engine(&fault, FATHOM_IO_AUTO, 4, plans[i]);
        assert_int_equal(fathom_engine_io(engine), FATHOM_IO_PREAD);
        assert_non_null(fathom_engine_io_note(engine));
        assert_non_null(strstr(fathom_engine_io_note(engine), strchr(plans[i], ':') + 1));
        assert_int_equal(harm_open(&index, env_os(), fixture->small.dir, HARM_CELLS, &err), 0);
        harm_ask(&got, &fixture->small, engine, index, QUERIES, false);
        assert_int_equal(harm_count(&fixture->right[HARM_CELLS], &got, plans[i], NULL), 0);
        answers_free(&got);
        fathom_index_close(index);
        fathom_engine_destroy(engine);
        struct fathom_engine_options options = {.io = FATHOM_IO_URING, .inflight = 4};
        assert_true(engine_create_with(&engine, &fault.env, &options, &err) < 0);
        assert_null(engine);
        assert_non_null(strstr(err.msg, "io_uring is refused"));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_operation_may_fail),
        cmocka_unit_test(each_operation_may_be_interrupted),
        cmocka_unit_test(each_read_that_fails_is_told),
        cmocka_unit_test(each_read_that_lies_is_told),
        cmocka_unit_test(each_read_that_falls_short_is_completed_or_told),
        cmocka_unit_test(each_allocation_may_fail),
        cmocka_unit_test(verify_tells_each_allocation_that_fails),
        cmocka_unit_test(an_engine_without_memory_is_refused_and_leaves_nothing),
        cmocka_unit_test(where_io_uring_is_refused_answers_are_the_same),
    };
    return cmocka_run_group_tests(tests, make_fixture, free_fixture);
}
