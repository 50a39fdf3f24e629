/* Publishing by one rename, directories and debris: the old file or the new one, whatever fails and
 * whenever it dies. */
#include "env_support.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct publish {
    char tmp[SCRATCH_PATH_MAX];
    const char *path;
};

/* What a program does: create, write, finish. */
static int publish_new(const struct env *env, const struct publish *publish,
                       struct fathom_error *err)
{
    int fd = file_create(env, publish->tmp, err);
    if (fd < 0)
        return fd;
    int rc = file_write_full(env, fd, publish->tmp, "new", 3, 0, err);
    if (rc < 0) {
        file_close(env, fd);
        (void)env->unlink(env->context, publish->tmp);
        return rc;
    }
    return file_finish(env, fd, publish->tmp, publish->path, err);
}

static struct publish publish_over_old(const struct scratch *scratch)
{
    struct publish publish = {.path = scratch->path};
    scratch_name(scratch, "file.tmp-1", publish.tmp);
    text_write(scratch->path, "old");
    return publish;
}

static void finish_publishes_and_leaves_no_temporary_file(void **state)
{
    const struct scratch *scratch = *state;
    struct publish publish = publish_over_old(scratch);
    unsigned before = open_fds();
    assert_int_equal(publish_new(env_os(), &publish, NULL), 0);
    text_assert(scratch->path, "new");
    assert_false(path_exists(publish.tmp));
    assert_int_equal(open_fds(), before);
}

static void finish_works_in_the_current_directory(void **state)
{
    const struct scratch *scratch = *state;
    char old_dir[4096];
    struct publish publish = {.tmp = "x.tmp-1", .path = "x"};
    assert_non_null(getcwd(old_dir, sizeof old_dir));
    assert_int_equal(chdir(scratch->dir), 0);
    int rc = publish_new(env_os(), &publish, NULL);
    bool is_there = path_exists("x");
    assert_int_equal(chdir(old_dir), 0);
    assert_int_equal(rc, 0);
    assert_true(is_there);
}

/* One run with the n-th operation failing; false when there were fewer than n. */
static bool publish_with_fault(const struct scratch *scratch, unsigned n, const char *fault_name,
                               bool onward)
{
    struct publish publish = publish_over_old(scratch);
    struct fault_env fault;
    struct fathom_error err = {0};
    char plan[64];
    unsigned before = open_fds();
    snprintf(plan, sizeof plan, "op=%u%s:%s", n, onward ? "+" : "", fault_name);
    assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
    int rc = publish_new(&fault.env, &publish, &err);
    assert_int_equal(open_fds(), before);
    if (rc == 0) {
        text_assert(scratch->path, "new");
    } else {
        char got[4] = {0};
        FILE *file = fopen(scratch->path, "r");
        assert_non_null(file);
        assert_int_equal(fread(got, 1, 3, file), 3);
        fclose(file);
        assert_true(!strcmp(got, "old") || !strcmp(got, "new"));
        assert_int_equal(err.code, rc);
        assert_true(message_has(&err, scratch->path));
    }
    /* When nothing works any more, removing does not either; the next run does it. */
    if (onward)
        assert_int_equal(dir_remove_debris(env_os(), scratch->dir, "", NULL), 0);
    assert_int_equal(names_with(scratch->dir, ".tmp-"), 0);
    return fault_fired(&fault) > 0;
}

static void a_fault_at_any_operation_leaves_the_old_or_the_new_file(void **state)
{
    const struct scratch *scratch = *state;
    static const char *const faults[] = {"EIO", "ENOSPC", "EDQUOT", "EINTR", "EMFILE", "short=1"};
    for (size_t f = 0; f < sizeof faults / sizeof faults[0]; f++)
        for (int onward = 0; onward < 2; onward++) {
            unsigned n = 1;
            while (publish_with_fault(scratch, n, faults[f], onward))
                n++;
            assert_true(n >= 8); /* open, pwrite, fdatasync, close, open, rename, fsync, close */
        }
}

static void a_failed_sync_is_never_tried_again(void **state)
{
    const struct scratch *scratch = *state;
    struct publish publish = publish_over_old(scratch);
    struct fault_env fault;
    assert_int_equal(fault_init(&fault, env_os(), "op=3:EIO", NULL), 0);
    assert_int_equal(publish_new(&fault.env, &publish, NULL), -EIO);
    text_assert(scratch->path, "old");
    assert_int_equal(fault_ops(&fault), 5); /* open, pwrite, fdatasync, close, unlink */
}

static void a_directory_that_cannot_be_synced_is_reported(void **state)
{
    const struct scratch *scratch = *state;
    struct publish publish = publish_over_old(scratch);
    struct fault_env fault;
    struct fathom_error err;
    assert_int_equal(fault_init(&fault, env_os(), "op=7:EIO", NULL), 0);
    assert_int_equal(publish_new(&fault.env, &publish, &err), -EIO);
    assert_true(message_has(&err, "power failure"));
    text_assert(scratch->path, "new");
    assert_int_equal(fault_init(&fault, env_os(), "op=7:EINVAL", NULL), 0);
    assert_int_equal(publish_new(&fault.env, &publish, &err), 0);
}

/* Runs publish_new in a child that is killed at operation n; false when it lived. */
static bool publish_killed(const struct scratch *scratch, unsigned n)
{
    struct publish publish = publish_over_old(scratch);
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct fault_env fault;
        char plan[32];
        snprintf(plan, sizeof plan, "op=%u:kill", n);
        if (fault_init(&fault, env_os(), plan, NULL) < 0)
            _exit(2);
        _exit(publish_new(&fault.env, &publish, NULL) == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status))
        assert_int_equal(WEXITSTATUS(status), 0);
    else
        assert_int_equal(WTERMSIG(status), SIGKILL);
    return !WIFEXITED(status);
}

static void a_kill_at_any_operation_leaves_debris_that_the_next_run_removes(void **state)
{
    const struct scratch *scratch = *state;
    unsigned n = 1, debris = 0;
    for (; publish_killed(scratch, n); n++) {
        debris += names_with(scratch->dir, ".tmp-");
        assert_int_equal(dir_remove_debris(env_os(), scratch->dir, "", NULL), 0);
        assert_int_equal(names_with(scratch->dir, ".tmp-"), 0);
        text_assert(scratch->path, n <= 6 ? "old" : "new");
    }
    assert_int_equal(n, 9);
    assert_int_equal(debris, 5); /* from the create on, until the rename is done */
    text_assert(scratch->path, "new");
}

static void debris_is_only_regular_files_with_the_mark(void **state)
{
    const struct scratch *scratch = *state;
    static const char *const files[] = {"a.tmp-1", "b.tmp-99", "keep", "tmp-not", "c.tmp"};
    char path[SCRATCH_PATH_MAX], target[SCRATCH_PATH_MAX];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        scratch_name(scratch, files[i], path);
        text_write(path, "x");
    }
    scratch_name(scratch, "dir.tmp-1", path);
    assert_int_equal(mkdir(path, 0755), 0);
    scratch_name(scratch, "fifo.tmp-1", path);
    assert_int_equal(mkfifo(path, 0644), 0);
    scratch_name(scratch, "keep", target);
    scratch_name(scratch, "link.tmp-1", path);
    assert_int_equal(symlink(target, path), 0);
    unsigned before = open_fds();
    alarm(300); /* a FIFO must not hang us */
    assert_int_equal(dir_remove_debris(env_os(), scratch->dir, "", NULL), 0);
    alarm(0);
    assert_int_equal(open_fds(), before);
    assert_int_equal(names_with(scratch->dir, ".tmp-"), 3);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        scratch_name(scratch, files[i], path);
        assert_int_equal(path_exists(path), i >= 2);
    }
}

static void debris_that_cannot_be_removed_is_an_error_with_its_name(void **state)
{
    const struct scratch *scratch = *state;
    struct fault_env fault;
    struct fathom_error err = {0};
    char path[SCRATCH_PATH_MAX];
    scratch_name(scratch, "a.tmp-1", path);
    text_write(path, "x");
    assert_int_equal(fault_init(&fault, env_os(), "op=5:EROFS", NULL), 0); /* the unlink */
    assert_int_equal(dir_remove_debris(&fault.env, scratch->dir, "", &err), -EROFS);
    assert_true(message_has(&err, path));
    assert_int_equal(fault_init(&fault, env_os(), "op=1:EIO", NULL), 0); /* the list */
    assert_int_equal(dir_remove_debris(&fault.env, scratch->dir, "", &err), -EIO);
    assert_true(message_has(&err, scratch->dir));
}

static void a_missing_directory_holds_no_debris(void **state)
{
    const struct scratch *scratch = *state;
    assert_int_equal(dir_remove_debris(env_os(), scratch->path, "", NULL), 0);
}

static void a_directory_is_made_once(void **state)
{
    const struct scratch *scratch = *state;
    char slashed[SCRATCH_PATH_MAX + 2];
    unsigned before = open_fds();
    assert_int_equal(dir_ensure(env_os(), scratch->path, NULL), 0);
    assert_true(path_exists(scratch->path));
    assert_int_equal(dir_ensure(env_os(), scratch->path, NULL), 0);
    assert_int_equal(rmdir(scratch->path), 0);
    snprintf(slashed, sizeof slashed, "%s//", scratch->path);
    assert_int_equal(dir_ensure(env_os(), slashed, NULL), 0);
    assert_true(path_exists(scratch->path));
    assert_int_equal(open_fds(), before);
}

/* An env that makes and syncs nothing and notes which directory was opened for syncing. */
static int note_open(void *context, const char *path, int flags, unsigned mode)
{
    (void)flags;
    (void)mode;
    snprintf(context, SCRATCH_PATH_MAX, "%s", path);
    return -EACCES;
}

static int pretend_mkdir(void *context, const char *path, unsigned mode)
{
    (void)context;
    (void)path;
    (void)mode;
    return 0;
}

static void a_new_directory_is_synced_into_the_one_that_holds_it(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"a", "."},     {"a/", "."},   {"a/b", "a"}, {"a/b//", "a"}, {"/a", "/"},
        {"/a/b", "/a"}, {"a//b", "a"}, {"./a", "."}, {"/", "/"},     {"../a/b/c/", "../a/b"},
    };
    char opened[SCRATCH_PATH_MAX];
    struct env spy = *env_os();
    spy.context = opened;
    spy.open = note_open;
    spy.mkdir = pretend_mkdir;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        /* EACCES: a directory that we may write but not read cannot be synced, and that is no
         * error. */
        assert_int_equal(dir_ensure(&spy, cases[i][0], NULL), 0);
        assert_string_equal(opened, cases[i][1]);
    }
}

static void a_file_in_the_place_of_a_directory_is_refused(void **state)
{
    const struct scratch *scratch = *state;
    struct fathom_error err;
    char below[SCRATCH_PATH_MAX];
    text_write(scratch->path, "x");
    assert_int_equal(dir_ensure(env_os(), scratch->path, &err), -ENOTDIR);
    assert_true(message_has(&err, scratch->path));
    scratch_name(scratch, "missing/below", below);
    assert_int_equal(dir_ensure(env_os(), below, &err), -ENOENT);
    assert_true(message_has(&err, "parent"));
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_make, scratch_remove)

static const struct CMUnitTest tests[] = {
    IN_SCRATCH(finish_publishes_and_leaves_no_temporary_file),
    IN_SCRATCH(finish_works_in_the_current_directory),
    IN_SCRATCH(a_fault_at_any_operation_leaves_the_old_or_the_new_file),
    IN_SCRATCH(a_failed_sync_is_never_tried_again),
    IN_SCRATCH(a_directory_that_cannot_be_synced_is_reported),
    IN_SCRATCH(a_kill_at_any_operation_leaves_debris_that_the_next_run_removes),
    IN_SCRATCH(debris_is_only_regular_files_with_the_mark),
    IN_SCRATCH(debris_that_cannot_be_removed_is_an_error_with_its_name),
    IN_SCRATCH(a_missing_directory_holds_no_debris),
    IN_SCRATCH(a_directory_is_made_once),
    cmocka_unit_test(a_new_directory_is_synced_into_the_one_that_holds_it),
    IN_SCRATCH(a_file_in_the_place_of_a_directory_is_refused),
};

FATHOM_TEST_MAIN(tests)
