/* OpenBLAS under a limit of address space. */
#include "fathom_test.h"

#include "blas.h"
#include "fathom/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((rlim_t)1 << 20)

/* What the process has mapped, in bytes. */
static rlim_t mapped(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file) {
        if (fscanf(file, "%lu", &pages) != 1)
            pages = 0;
        fclose(file);
    }
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

static int begin_within(unsigned threads, rlim_t room)
{
    struct rlimit limit;
    struct fathom_error err;
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = mapped() + room;
    return setrlimit(RLIMIT_AS, &limit) == 0 ? blas_begin(threads, &err) : -1;
}

/* In a process of its own: neither the limit nor the buffers go away. Returns the step that failed.
 */
static int begin_in_steps(void)
{
    if (begin_within(2, 200 * MIB) != -ENOMEM)
        return 1;
    if (begin_within(2, 400 * MIB) != 0)
        return 2;
    if (begin_within(2, 10 * MIB) != 0) /* there are two already */
        return 3;
    if (begin_within(3, 10 * MIB) != -ENOMEM)
        return 4;
    return begin_within(3, 200 * MIB) == 0 ? 0 : 5;
}

static void what_was_taken_is_not_asked_for_again(void **state)
{
    int how;
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* they want terabytes of address space */
#endif
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(begin_in_steps());
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(what_was_taken_is_not_asked_for_again),
};

FATHOM_TEST_MAIN(tests)
