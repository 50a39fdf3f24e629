/* Publishing under faults: whichever operation or allocation fails, once or from then on, the
 * directory holds the old index or the new one, descriptors and memory come back, and the next run
 * leaves no debris. */
#include "fathom_test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault.h"
#include "folder.h"
#include "mem.h"
#include "tiny_index.h"

struct fixture {
    char root[FOLDER_PATH_MAX], dir[FOLDER_PATH_MAX], path[FOLDER_PATH_MAX];
    struct tiny_index old_index, new_index;
    uint8_t *old_image, *new_image;
    size_t old_bytes, new_bytes;
};

static int make_fixture(void **state)
{
    /* Longer than the writer's buffer, so that it is written in more than one piece. */
    struct tiny_options before = {
        .rows = 200, .dim = 16, .dtype = FATHOM_F32, .metric = FATHOM_METRIC_L2};
    struct tiny_options after = before;
    struct fixture *fixture = calloc(1, sizeof *fixture);
    after.seed = 2;
    after.manifest_bytes = 300 * PAGE_PAYLOAD;
    folder_make_fast(fixture->root);
    folder_name(fixture->root, "index", fixture->dir);
    folder_name(fixture->dir, FORMAT_FILE_NAME, fixture->path);
    tiny_make(&fixture->old_index, &before);
    tiny_make(&fixture->new_index, &after);
    fixture->old_image = tiny_image(&fixture->old_index, &fixture->old_bytes);
    fixture->new_image = tiny_image(&fixture->new_index, &fixture->new_bytes);
    *state = fixture;
    return 0;
}

static int free_fixture(void **state)
{
    struct fixture *fixture = *state;
    folder_remove(fixture->root);
    tiny_free(&fixture->old_index);
    tiny_free(&fixture->new_index);
    free(fixture->old_image);
    free(fixture->new_image);
    free(fixture);
    return 0;
}

/* ---- what is in the directory ---- */

enum content { NOTHING, OLD, NEW };

static void lay_old(const struct fixture *fixture, bool with_old)
{
    if (file_exists(fixture->dir))
        folder_remove(fixture->dir);
    if (!with_old)
        return;
    assert_int_equal(mkdir(fixture->dir, 0755), 0);
    file_store(fixture->path, fixture->old_image, fixture->old_bytes);
}

static enum content content_of(const struct fixture *fixture, const char *plan)
{
    size_t bytes;
    if (!file_exists(fixture->path))
        return NOTHING;
    uint8_t *data = file_load(fixture->path, &bytes);
    bool old = bytes == fixture->old_bytes && memcmp(data, fixture->old_image, bytes) == 0;
    bool new = bytes == fixture->new_bytes &&memcmp(data, fixture->new_image, bytes) == 0;
    free(data);
    if (!old && !new)
        fail_msg("%s: neither the old index nor the new one", plan);
    return old ? OLD : NEW;
}

/* The next run, without faults: it must succeed and leave one file. */
static void expect_clean_run(const struct fixture *fixture, const char *plan)
{
    struct fathom_error err = {0};
    if (tiny_write(&fixture->new_index, env_os(), fixture->dir, 0, &err) != 0)
        fail_msg("%s: the next run fails: %s", plan, err.msg);
    assert_int_equal(content_of(fixture, plan), NEW);
    assert_int_equal(folder_count(fixture->dir, ""), 1);
}

/* ---- one faulty run ---- */

/* Returns false when the fault did not fire: the loop is over. */
static bool run_with(const struct fixture *fixture, const char *plan, bool with_old)
{
    struct fault_env fault;
    struct fathom_error err = {0};
    lay_old(fixture, with_old);
    assert_int_equal(fault_init(&fault, env_os(), plan, &err), 0);
    unsigned fds = fd_count();
    mem_set_fault(fault_alloc, &fault);
    int status = tiny_write(&fixture->new_index, &fault.env, fixture->dir, 0, &err);
    mem_set_fault(NULL, NULL);
    if (fd_count() != fds)
        fail_msg("%s: a descriptor is left open", plan);
    enum content content = content_of(fixture, plan);
    if (status == 0 && content != NEW)
        fail_msg("%s: reported as done, but the index is not there", plan);
    if (status != 0 && (err.code != status || !err.msg[0]))
        fail_msg("%s: %d without a message", plan, status);
    if (status != 0 && content == (with_old ? NOTHING : OLD))
        fail_msg("%s: the old index is gone", plan);
    if (fault_fired(&fault) == 0) {
        assert_int_equal(status, 0);
        return false;
    }
    expect_clean_run(fixture, plan);
    return true;
}

/* Each operation (or allocation) in turn. Returns how many there are. */
static unsigned run_each(const struct fixture *fixture, const char *format, const char *action,
                         bool with_old)
{
    char plan[64];
    for (unsigned n = 1;; n++) {
        snprintf(plan, sizeof plan, format, n, action);
        if (!run_with(fixture, plan, with_old))
            return n - 1;
    }
}

/* ---- */

static void each_operation_that_fails_once_leaves_old_or_new(void **state)
{
    static const char *const errors[] = {"ENOSPC", "EIO", "EDQUOT", "EINTR", "EMFILE"};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        for (int with_old = 0; with_old < 2; with_old++)
            assert_true(run_each(*state, "op=%u:%s", errors[i], with_old) > 15);
}

static void each_operation_that_fails_for_ever_leaves_old_or_new(void **state)
{
    static const char *const errors[] = {"ENOSPC", "EIO", "EROFS", "EINTR"};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        for (int with_old = 0; with_old < 2; with_old++)
            assert_true(run_each(*state, "op=%u+:%s", errors[i], with_old) > 15);
}

static void each_allocation_that_fails_leaves_the_old_index(void **state)
{
    assert_true(run_each(*state, "alloc#%u:%s", "fail", true) > 5);
    assert_true(run_each(*state, "alloc#%u+:%s", "fail", true) > 5);
}

static void a_bad_read_back_is_not_published(void **state)
{
    const struct fixture *fixture = *state;
    char plan[64];
    unsigned n = 1;
    for (;; n++) {
        struct fault_env fault;
        struct fathom_error err = {0};
        lay_old(fixture, true);
        snprintf(plan, sizeof plan, "read#%u:flip=bit%u", n, 4099 * n);
        assert_int_equal(fault_init(&fault, env_os(), plan, &err), 0);
        int status = tiny_write(&fixture->new_index, &fault.env, fixture->dir, 0, &err);
        if (fault_fired(&fault) == 0)
            break;
        /* The superblock's own bits and those of the pages read again for deep checks count alike.
         */
        if (status == 0 || content_of(fixture, plan) != OLD)
            fail_msg("%s: a page that reads back wrong was published (%d)", plan, status);
    }
    assert_true(n > 10);
}

/* Whoever asks for a page gets part of it: everything must arrive all the same. */
static void short_transfers_are_completed(void **state)
{
    const struct fixture *fixture = *state;
    static const char *const plans[] = {"op=1+:short=4096", "op=1+:short=8192",
                                        "read#1+:short=4096"};
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        struct fault_env fault;
        struct fathom_error err = {0};
        lay_old(fixture, true);
        assert_int_equal(fault_init(&fault, env_os(), plans[i], &err), 0);
        if (tiny_write(&fixture->new_index, &fault.env, fixture->dir, 0, &err) != 0)
            fail_msg("%s: %s", plans[i], err.msg);
        assert_int_equal(content_of(fixture, plans[i]), NEW);
    }
}

static void an_interrupted_operation_is_done_again(void **state)
{
    const struct fixture *fixture = *state;
    unsigned done = 0, total = 0;
    for (unsigned n = 1;; n++) {
        struct fault_env fault;
        char plan[64];
        lay_old(fixture, true);
        snprintf(plan, sizeof plan, "op=%u:EINTR", n);
        assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
        done += tiny_write(&fixture->new_index, &fault.env, fixture->dir, 0, NULL) == 0;
        if (fault_fired(&fault) == 0)
            break;
        total++;
    }
    /* Reads and writes are the greater part; what is not retried (mkdir, fdatasync, rename) fails
     * cleanly, see above. */
    assert_true(done > total / 2);
}

/* ---- a process that dies ---- */

static int killed_at(const struct fixture *fixture, unsigned n)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct fault_env fault;
        char plan[64];
        snprintf(plan, sizeof plan, "op=%u:kill", n);
        if (fault_init(&fault, env_os(), plan, NULL) != 0)
            _exit(2);
        _exit(tiny_write(&fixture->new_index, &fault.env, fixture->dir, 0, NULL) == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void a_kill_at_each_operation_leaves_old_or_new(void **state)
{
    const struct fixture *fixture = *state;
    unsigned n = 1;
    for (;; n++) {
        char plan[64];
        snprintf(plan, sizeof plan, "op=%u:kill", n);
        lay_old(fixture, true);
        int status = killed_at(fixture, n);
        enum content content = content_of(fixture, plan);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            assert_int_equal(content, NEW);
            break;
        }
        assert_int_equal(WTERMSIG(status), SIGKILL);
        assert_int_not_equal(content, NOTHING);
        assert_in_range(folder_count(fixture->dir, ".tmp-"), 0, 1);
        expect_clean_run(fixture, plan);
    }
    assert_true(n > 15);
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_fixture, free_fixture)

static const struct CMUnitTest tests[] = {
    WITH_FOLDER(each_operation_that_fails_once_leaves_old_or_new),
    WITH_FOLDER(each_operation_that_fails_for_ever_leaves_old_or_new),
    WITH_FOLDER(each_allocation_that_fails_leaves_the_old_index),
    WITH_FOLDER(a_bad_read_back_is_not_published),
    WITH_FOLDER(short_transfers_are_completed),
    WITH_FOLDER(an_interrupted_operation_is_done_again),
    WITH_FOLDER(a_kill_at_each_operation_leaves_old_or_new),
};

FATHOM_TEST_MAIN(tests)
