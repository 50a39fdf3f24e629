/* The fault wrapper itself: plans, counting, and that each fault is what it says. */
#include "env_support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem.h"

static void a_plan_that_cannot_be_read_is_refused_with_its_piece(void **state)
{
    (void)state;
    static const char *const plans[] = {
        "op",
        "op=:EIO",
        "op=0:EIO",
        "op=1",
        "op=1:",
        "op=1:ENOTHING",
        "op=1:EIO2",
        "op=x:EIO",
        "op=1++:EIO",
        "read#1:flip=777",
        "read#1:stall=5",
        "read#1:stall=5m",
        "read#1:short=",
        "op=1:flip=bit1",
        "op=1:fail",
        "alloc#1:EIO",
        "ring_init:short=1",
        "ring_init",
        "read~0:EIO",
        "op=1:EIO;op=2:bad",
        "read#1:EINPROGRESS",
        ";;",
        "op=1:EIO op=2:EIO",
        "read#1:stall=99999999999999999999s",
    };
    struct fault_env fault;
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        struct fathom_error err = {0};
        if (fault_init(&fault, env_os(), plans[i], &err) != FATHOM_EARGUMENT)
            fail_msg("accepted '%s'", plans[i]);
        assert_true(message_has(&err, "fault plan"));
    }
    struct fathom_error err;
    assert_int_equal(fault_init(&fault, env_os(), "op=1:EIO;op=2:bad", &err), FATHOM_EARGUMENT);
    assert_true(message_has(&err, "'op=2:bad'"));
}

static void a_plan_with_too_many_rules_is_refused(void **state)
{
    (void)state;
    char plan[512] = "op=1:EIO";
    struct fault_env fault;
    for (int i = 1; i < FAULT_RULES_MAX; i++)
        strcat(plan, ";op=1:EIO");
    assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
    strcat(plan, ";op=1:EIO");
    assert_int_equal(fault_init(&fault, env_os(), plan, NULL), FATHOM_EARGUMENT);
}

static void good_plans_are_read(void **state)
{
    (void)state;
    static const char *const plans[] = {
        "",
        "op=17:ENOSPC",
        "op=17+:EIO",
        "op=17:kill",
        "op=3:short=0",
        "op=3:stall=50ms",
        "read#5:short=512",
        "read#5:EAGAIN",
        "read#9:flip=bit777",
        "read#9:stall=5s",
        "read#9+:stall=7us",
        "ring_init:ENOMEM",
        "alloc#88:fail",
        "alloc#88+:fail",
        "read~20:EIO",
        "op=1:EIO;read#2+:EIO;ring_init:EPERM;",
    };
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        struct fault_env fault;
        if (fault_init(&fault, env_os(), plans[i], NULL) != 0)
            fail_msg("refused '%s'", plans[i]);
    }
    struct fault_env fault;
    assert_int_equal(fault_init(&fault, env_os(), NULL, NULL), 0);
}

static int no_visit(void *arg, const char *name)
{
    (void)arg;
    (void)name;
    return 0;
}

#define CALLS 15 /* operations of the table; that of large pages is env_os_test's */

/* Calls each of them once, in the order of fault.h, on a file that exists. */
static void call_each(const struct env *env, const struct scratch *scratch, ssize_t results[CALLS])
{
    void *context = env->context;
    char buf[16], other[SCRATCH_PATH_MAX];
    struct env_stat stat;
    scratch_name(scratch, "other", other);
    int spare = open(scratch->path, O_RDWR | O_CLOEXEC);
    results[0] = env->open(context, scratch->path, O_RDWR, 0);
    int fd = results[0] >= 0 ? (int)results[0] : dup(spare);
    results[2] = env->pread(context, fd, buf, sizeof buf, 0);
    results[3] = env->pwrite(context, fd, "x", 1, 0);
    results[4] = env->read(context, fd, buf, sizeof buf);
    results[5] = env->fdatasync(context, fd);
    results[6] = env->fsync(context, fd);
    results[7] = env->ftruncate(context, fd, 20);
    results[8] = env->fstat(context, fd, &stat);
    results[1] = env->close(context, fd);
    results[12] = env->mkdir(context, other, 0755);
    results[11] = env->rmdir(context, other);
    results[9] = env->rename(context, scratch->path, other);
    results[10] = env->unlink(context, other);
    results[13] = env->list(context, scratch->dir, no_visit, NULL);
    results[14] = env->flock(context, spare, LOCK_EX | LOCK_NB);
    close(spare);
    (void)rmdir(other);
    (void)unlink(other);
}

static void every_operation_of_the_table_is_counted_and_can_fail(void **state)
{
    const struct scratch *scratch = *state;
    unsigned before = open_fds();
    ssize_t results[CALLS];
    struct fault_env fault;
    for (unsigned n = 1; n <= CALLS; n++) {
        char plan[32];
        snprintf(plan, sizeof plan, "op=%u:EDQUOT", n);
        pattern_write(scratch->path, 100);
        assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
        call_each(&fault.env, scratch, results);
        unsigned failed = 0;
        for (unsigned i = 0; i < CALLS; i++)
            failed += results[i] == -EDQUOT;
        assert_int_equal(failed, 1);
        assert_int_equal(fault_ops(&fault), CALLS);
        assert_int_equal(fault_fired(&fault), 1);
        assert_int_equal(open_fds(), before); /* a close that fails has closed */
    }
    pattern_write(scratch->path, 100);
    assert_int_equal(fault_init(&fault, env_os(), "op=16:EDQUOT", NULL), 0);
    call_each(&fault.env, scratch, results);
    for (unsigned i = 0; i < CALLS; i++)
        assert_true(results[i] >= 0);
    assert_int_equal(fault_fired(&fault), 0);
}

static void from_then_on_is_from_then_on(void **state)
{
    const struct scratch *scratch = *state;
    struct fault_env fault;
    ssize_t results[CALLS];
    pattern_write(scratch->path, 100);
    assert_int_equal(fault_init(&fault, env_os(), "op=3+:EIO", NULL), 0);
    call_each(&fault.env, scratch, results);
    unsigned failed = 0;
    for (unsigned i = 0; i < CALLS; i++)
        failed += results[i] == -EIO;
    assert_int_equal(failed, CALLS - 2);
    assert_int_equal(fault_fired(&fault), CALLS - 2);
}

static int read_hundred(const struct scratch *scratch, const char *plan, uint8_t out[100],
                        struct fault_env *fault)
{
    pattern_write(scratch->path, 100);
    assert_int_equal(fault_init(fault, env_os(), plan, NULL), 0);
    int fd = open(scratch->path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    memset(out, 0, 100);
    int rc = file_read_full(&fault->env, fd, "x", out, 100, 0, NULL);
    close(fd);
    return rc;
}

static void a_flip_inverts_one_bit_of_one_read(void **state)
{
    const struct scratch *scratch = *state;
    struct fault_env fault;
    uint8_t out[100];
    assert_int_equal(read_hundred(scratch, "read#1:flip=bit777", out, &fault), 0);
    out[777 / 8] ^= 1u << 777 % 8;
    pattern_assert(out, 100, 0);
    assert_int_equal(read_hundred(scratch, "read#1:flip=bit803", out, &fault), 0);
    out[0] ^= 1u << 3; /* 803 modulo 800 */
    pattern_assert(out, 100, 0);
}

static void a_failed_or_short_read_leaves_nothing_usable(void **state)
{
    const struct scratch *scratch = *state;
    struct fault_env fault;
    uint8_t out[100];
    assert_int_equal(read_hundred(scratch, "read#1:EIO", out, &fault), -EIO);
    for (int i = 0; i < 100; i++)
        assert_int_equal(out[i], 0xa5);
    /* The short read is continued, so that all is right in the end. */
    assert_int_equal(read_hundred(scratch, "read#1:short=10", out, &fault), 0);
    pattern_assert(out, 100, 0);
    assert_int_equal(fault_reads(&fault), 2);
}

static void a_read_is_one_operation_and_one_read(void **state)
{
    const struct scratch *scratch = *state;
    struct fault_env fault;
    uint8_t out[100];
    assert_int_equal(read_hundred(scratch, "", out, &fault), 0);
    assert_int_equal(fault_ops(&fault), 1);
    assert_int_equal(fault_reads(&fault), 1);
    int fd = open(scratch->path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(fault.env.read(fault.env.context, fd, out, 100), 100);
    close(fd);
    assert_int_equal(fault_ops(&fault), 2);
    assert_int_equal(fault_reads(&fault), 2);
    assert_int_equal(fault_fired(&fault), 0);
}

static void a_stall_takes_its_time(void **state)
{
    const struct scratch *scratch = *state;
    static const char *const plans[] = {"read#1:stall=20ms", "op=1:stall=20000us"};
    for (size_t i = 0; i < 2; i++) {
        struct fault_env fault;
        uint8_t out[100];
        uint64_t start = env_clock_ns(env_os());
        assert_int_equal(read_hundred(scratch, plans[i], out, &fault), 0);
        assert_true(env_clock_ns(env_os()) - start >= 20000000u);
        pattern_assert(out, 100, 0);
        assert_int_equal(fault_reads(&fault), 1);
        assert_int_equal(fault_fired(&fault), 1);
    }
}

static void random_faults_have_their_rate_and_come_again(void **state)
{
    (void)state;
    struct fault_env fault, again;
    uint8_t byte = 0;
    assert_int_equal(fault_init(&fault, env_os(), "read~20:EIO", NULL), 0);
    assert_int_equal(fault_init(&again, env_os(), "read~20:EIO", NULL), 0);
    for (int i = 0; i < 20000; i++) {
        int a = fault.env.ring_result(&fault, 1, &byte);
        int b = again.env.ring_result(&again, 1, &byte);
        assert_int_equal(a, b);
    }
    assert_in_range(fault_fired(&fault), 850, 1150);
}

static void allocations_fail_by_number(void **state)
{
    (void)state;
    struct fault_env fault;
    assert_int_equal(fault_init(&fault, env_os(), "alloc#2:fail", NULL), 0);
    mem_set_fault(fault_alloc, &fault);
    void *first = mem_alloc(8), *second = mem_alloc(8), *third = mem_alloc(8);
    mem_set_fault(NULL, NULL);
    assert_non_null(first);
    assert_null(second);
    assert_non_null(third);
    assert_int_equal(fault_allocs(&fault), 3);
    assert_int_equal(fault_fired(&fault), 1);
    mem_free(first);
    mem_free(third);
}

static void a_kill_kills_before_the_operation(void **state)
{
    const struct scratch *scratch = *state;
    int status;
    text_write(scratch->path, "old");
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct fault_env fault;
        if (fault_init(&fault, env_os(), "op=1:kill", NULL) == 0)
            fault.env.unlink(fault.env.context, scratch->path);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
    text_assert(scratch->path, "old");
}

static void hammer(void *context, unsigned worker)
{
    struct fault_env *fault = context;
    (void)worker;
    for (int i = 0; i < 1000; i++)
        (void)fault->env.unlink(fault->env.context, "");
}

static void threads_count_together_and_one_of_them_gets_the_fault(void **state)
{
    (void)state;
    struct fault_env fault;
    assert_int_equal(fault_init(&fault, env_os(), "op=2345:EIO", NULL), 0);
    assert_int_equal(env_run_parallel(4, hammer, &fault), 0);
    assert_int_equal(fault_ops(&fault), 4000);
    assert_int_equal(fault_fired(&fault), 1);
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_make, scratch_remove)

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_plan_that_cannot_be_read_is_refused_with_its_piece),
    cmocka_unit_test(a_plan_with_too_many_rules_is_refused),
    cmocka_unit_test(good_plans_are_read),
    IN_SCRATCH(every_operation_of_the_table_is_counted_and_can_fail),
    IN_SCRATCH(from_then_on_is_from_then_on),
    IN_SCRATCH(a_flip_inverts_one_bit_of_one_read),
    IN_SCRATCH(a_failed_or_short_read_leaves_nothing_usable),
    IN_SCRATCH(a_read_is_one_operation_and_one_read),
    IN_SCRATCH(a_stall_takes_its_time),
    cmocka_unit_test(random_faults_have_their_rate_and_come_again),
    cmocka_unit_test(allocations_fail_by_number),
    IN_SCRATCH(a_kill_kills_before_the_operation),
    cmocka_unit_test(threads_count_together_and_one_of_them_gets_the_fault),
};

FATHOM_TEST_MAIN(tests)
