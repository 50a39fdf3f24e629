/* The file helpers: whole transfers, what they refuse, and what their errors say. */
#include "env_support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES 20000u

/* A pattern file opened through a fault plan. */
struct opened {
    struct fault_env fault;
    struct fathom_error err;
    int fd;
};

static void open_with_plan(struct opened *opened, const struct scratch *scratch, const char *plan)
{
    *opened = (struct opened){.fd = -1};
    pattern_write(scratch->path, FILE_BYTES);
    assert_int_equal(fault_init(&opened->fault, env_os(), plan, &opened->err), 0);
    opened->fd = open(scratch->path, O_RDWR | O_CLOEXEC);
    assert_true(opened->fd >= 0);
}

static int read_with_plan(const struct scratch *scratch, const char *plan, uint8_t *out,
                          size_t bytes, uint64_t offset, struct fathom_error *err)
{
    struct opened opened;
    open_with_plan(&opened, scratch, plan);
    int rc = file_read_full(&opened.fault.env, opened.fd, scratch->path, out, bytes, offset, err);
    close(opened.fd);
    return rc;
}

static void reads_survive_interruptions_and_short_counts(void **state)
{
    const struct scratch *scratch = *state;
    static const char *const plans[] = {
        "",
        "op=1:EINTR",
        "op=1:EINTR;op=2:EAGAIN;op=3:short=1",
        "op=1:short=4096",
        "op=1:short=5000;op=3:EINTR;op=4:short=100",
        "read#1:EINTR;read#2:short=4097;read#3:EAGAIN",
        "op=1+:short=4096",
    };
    static const uint64_t offsets[] = {0, 4096, 333};
    uint8_t out[12288];
    struct fathom_error err;
    for (size_t p = 0; p < sizeof plans / sizeof plans[0]; p++)
        for (size_t o = 0; o < 3; o++) {
            memset(out, 0, sizeof out);
            assert_int_equal(read_with_plan(scratch, plans[p], out, sizeof out, offsets[o], &err),
                             0);
            pattern_assert(out, sizeof out, offsets[o]);
        }
}

static void retries_of_a_read_have_a_bound(void **state)
{
    const struct scratch *scratch = *state;
    uint8_t out[4096];
    struct fathom_error err;
    struct opened opened;
    open_with_plan(&opened, scratch, "op=1+:EINTR");
    assert_int_equal(file_read_full(&opened.fault.env, opened.fd, "x", out, sizeof out, 0, &err),
                     -EINTR);
    assert_int_equal(fault_ops(&opened.fault), 17); /* the first and 16 more */
    close(opened.fd);
    assert_int_equal(read_with_plan(scratch, "op=1+:EAGAIN", out, sizeof out, 0, &err), -EAGAIN);
    assert_int_equal(read_with_plan(scratch, "read#1+:short=512", out, sizeof out, 0, &err), -EIO);
}

static void progress_between_interruptions_starts_the_bound_anew(void **state)
{
    const struct scratch *scratch = *state;
    enum { pages = 64 };
    static uint8_t out[pages * 4096];
    struct fault_env fault;
    /* A page at a time, half of the reads interrupted: more than 16 in all, never 16 in a row. */
    assert_int_equal(fault_init(&fault, env_os(), "op=1+:short=4096;read~2:EINTR", NULL), 0);
    pattern_write(scratch->path, sizeof out);
    int fd = open(scratch->path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(file_read_full(&fault.env, fd, "x", out, sizeof out, 0, NULL), 0);
    close(fd);
    pattern_assert(out, sizeof out, 0);
    assert_true(fault_reads(&fault) > pages + 32);
}

static void a_read_past_the_end_says_truncated_where(void **state)
{
    const struct scratch *scratch = *state;
    static const uint64_t offsets[] = {16384, 19999, 20000, 4000000000u};
    uint8_t out[4096];
    struct fathom_error err;
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        char at[64];
        snprintf(at, sizeof at, "offset %llu", (unsigned long long)offsets[i]);
        assert_int_equal(read_with_plan(scratch, "", out, sizeof out, offsets[i], &err),
                         FATHOM_ECORRUPT);
        assert_int_equal(err.code, FATHOM_ECORRUPT);
        assert_true(message_has(&err, "truncated"));
        assert_true(message_has(&err, scratch->path));
        assert_true(message_has(&err, at));
    }
    assert_int_equal(read_with_plan(scratch, "read#1:short=0", out, sizeof out, 0, &err),
                     FATHOM_ECORRUPT);
}

static void a_read_up_to_the_end_and_of_nothing_succeeds(void **state)
{
    const struct scratch *scratch = *state;
    uint8_t out[FILE_BYTES];
    assert_int_equal(read_with_plan(scratch, "", out, FILE_BYTES, 0, NULL), 0);
    pattern_assert(out, FILE_BYTES, 0);
    assert_int_equal(read_with_plan(scratch, "", out, 1, FILE_BYTES - 1, NULL), 0);
    assert_int_equal(read_with_plan(scratch, "op=1:EIO", out, 0, 0, NULL), 0);
}

static void a_failed_read_names_file_and_offset(void **state)
{
    const struct scratch *scratch = *state;
    uint8_t out[100];
    struct fathom_error err;
    assert_int_equal(read_with_plan(scratch, "op=1:EIO", out, sizeof out, 1234, &err), -EIO);
    assert_int_equal(err.code, -EIO);
    assert_true(message_has(&err, scratch->path));
    assert_true(message_has(&err, "offset 1234"));
    assert_true(message_has(&err, "Input/output error"));
}

static void direct_reads_are_continued_where_the_device_allows(void **state)
{
    const struct scratch *scratch = *state;
    struct fault_env fault;
    bool is_direct;
    uint8_t *out = aligned_alloc(4096, 16384);
    assert_non_null(out);
    pattern_write(scratch->path, FILE_BYTES);
    assert_int_equal(fault_init(&fault, env_os(), "read#1:short=512;read#2:short=4608", NULL), 0);
    int fd = file_open_read(&fault.env, scratch->path, true, &is_direct, NULL);
    assert_true(fd >= 0);
    assert_int_equal(file_read_full(&fault.env, fd, "x", out, 16384, 0, NULL), 0);
    pattern_assert(out, 16384, 0);
    assert_int_equal(file_read_full(&fault.env, fd, "x", out, 8192, 16384, NULL), FATHOM_ECORRUPT);
    file_close(&fault.env, fd);
    free(out);
}

static void writes_survive_interruptions_and_short_counts(void **state)
{
    const struct scratch *scratch = *state;
    static const char *const plans[] = {
        "", "op=1:EINTR", "op=1:short=1;op=2:EAGAIN;op=3:short=0;op=4:EINTR;op=5:short=777",
        "op=1+:short=1000"};
    uint8_t data[8000], out[8000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(pattern_at(i) + 1);
    for (size_t p = 0; p < sizeof plans / sizeof plans[0]; p++) {
        struct opened opened;
        open_with_plan(&opened, scratch, plans[p]);
        assert_int_equal(
            file_write_full(&opened.fault.env, opened.fd, "x", data, sizeof data, 500, NULL), 0);
        assert_int_equal(pread(opened.fd, out, sizeof out, 500), sizeof out);
        assert_memory_equal(out, data, sizeof data);
        close(opened.fd);
    }
}

static void retries_of_a_write_have_a_bound(void **state)
{
    const struct scratch *scratch = *state;
    struct opened opened;
    open_with_plan(&opened, scratch, "op=1+:short=0");
    assert_int_equal(file_write_full(&opened.fault.env, opened.fd, "x", "data", 4, 0, NULL), -EIO);
    assert_int_equal(fault_ops(&opened.fault), 17);
    close(opened.fd);
}

static void no_space_names_file_and_offset_and_what_to_do(void **state)
{
    const struct scratch *scratch = *state;
    struct opened opened;
    uint8_t data[1000] = {0};
    open_with_plan(&opened, scratch, "op=1:short=300;op=2:ENOSPC");
    assert_int_equal(file_write_full(&opened.fault.env, opened.fd, scratch->path, data, sizeof data,
                                     50000, &opened.err),
                     -ENOSPC);
    assert_int_equal(opened.err.code, -ENOSPC);
    assert_true(message_has(&opened.err, scratch->path));
    assert_true(message_has(&opened.err, "offset 50300"));
    assert_true(message_has(&opened.err, "No space left"));
    assert_true(message_has(&opened.err, "free some space"));
    close(opened.fd);
}

static void a_real_size_limit_stops_a_write(void **state)
{
    const struct scratch *scratch = *state;
    struct rlimit old, small;
    struct fathom_error err;
    uint8_t data[4096] = {0};
    int fd = file_create(env_os(), scratch->path, NULL);
    assert_true(fd >= 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 6000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int first = file_write_full(env_os(), fd, scratch->path, data, sizeof data, 0, &err);
    int second = file_write_full(env_os(), fd, scratch->path, data, sizeof data, 4096, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(first, 0);
    assert_int_equal(second, -EFBIG);
    assert_true(message_has(&err, "offset 6000")); /* the kernel took what fitted */
    file_close(env_os(), fd);
}

static void open_read_refuses_a_directory_and_a_missing_file(void **state)
{
    const struct scratch *scratch = *state;
    struct fathom_error err;
    bool is_direct;
    unsigned before = open_fds();
    assert_int_equal(file_open_read(env_os(), scratch->dir, false, &is_direct, &err), -EISDIR);
    assert_true(message_has(&err, scratch->dir));
    assert_int_equal(file_open_read(env_os(), scratch->dir, true, &is_direct, &err), -EISDIR);
    assert_int_equal(file_open_read(env_os(), scratch->path, false, &is_direct, &err), -ENOENT);
    assert_true(message_has(&err, scratch->path));
    assert_int_equal(open_fds(), before);
}

static void open_read_refuses_a_fifo_without_hanging(void **state)
{
    const struct scratch *scratch = *state;
    struct fathom_error err;
    bool is_direct;
    unsigned before = open_fds();
    assert_int_equal(mkfifo(scratch->path, 0644), 0);
    alarm(300); /* a hang kills the test */
    assert_int_equal(file_open_read(env_os(), scratch->path, false, &is_direct, &err), -EINVAL);
    assert_true(message_has(&err, "regular file"));
    assert_int_equal(file_open_read(env_os(), scratch->path, true, &is_direct, &err), -EINVAL);
    assert_int_equal(file_open_read(env_os(), "/dev/null", false, &is_direct, &err), -EINVAL);
    alarm(0);
    assert_int_equal(open_fds(), before);
}

static void open_read_falls_back_where_direct_reads_are_refused(void **state)
{
    const struct scratch *scratch = *state;
    struct fault_env fault;
    bool is_direct = true;
    uint8_t out[100];
    pattern_write(scratch->path, FILE_BYTES);
    assert_int_equal(fault_init(&fault, env_os(), "op=1:EINVAL", NULL), 0);
    int fd = file_open_read(&fault.env, scratch->path, true, &is_direct, NULL);
    assert_true(fd >= 0);
    assert_false(is_direct);
    assert_int_equal(fcntl(fd, F_GETFL) & O_DIRECT, 0);
    assert_int_equal(file_read_full(&fault.env, fd, "x", out, sizeof out, 7, NULL), 0);
    pattern_assert(out, sizeof out, 7);
    file_close(&fault.env, fd);
    fd = file_open_read(env_os(), scratch->path, true, &is_direct, NULL);
    assert_true(fd >= 0);
    assert_int_equal((fcntl(fd, F_GETFL) & O_DIRECT) != 0, is_direct);
    file_close(env_os(), fd);
}

static void open_read_leaks_nothing_whichever_call_fails(void **state)
{
    const struct scratch *scratch = *state;
    pattern_write(scratch->path, 10);
    unsigned before = open_fds();
    for (unsigned n = 1;; n++) {
        struct fault_env fault;
        char plan[32];
        bool is_direct;
        snprintf(plan, sizeof plan, "op=%u:EIO", n);
        assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
        int fd = file_open_read(&fault.env, scratch->path, false, &is_direct, NULL);
        if (fd >= 0)
            close(fd);
        assert_int_equal(open_fds(), before);
        if (!fault_fired(&fault)) {
            assert_true(fd >= 0);
            break;
        }
        assert_int_equal(fd, -EIO);
    }
}

static void create_does_not_touch_what_exists(void **state)
{
    const struct scratch *scratch = *state;
    struct fathom_error err;
    text_write(scratch->path, "old");
    assert_int_equal(file_create(env_os(), scratch->path, &err), -EEXIST);
    assert_true(message_has(&err, scratch->path));
    text_assert(scratch->path, "old");
}

static void bytes_are_those_of_the_file(void **state)
{
    const struct scratch *scratch = *state;
    struct opened opened;
    uint64_t bytes = 0;
    open_with_plan(&opened, scratch, "op=2:EIO");
    assert_int_equal(file_bytes(&opened.fault.env, opened.fd, "x", &bytes, NULL), 0);
    assert_int_equal(bytes, FILE_BYTES);
    assert_int_equal(file_bytes(&opened.fault.env, opened.fd, "x", &bytes, &opened.err), -EIO);
    close(opened.fd);
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_make, scratch_remove)

static const struct CMUnitTest tests[] = {
    IN_SCRATCH(reads_survive_interruptions_and_short_counts),
    IN_SCRATCH(retries_of_a_read_have_a_bound),
    IN_SCRATCH(progress_between_interruptions_starts_the_bound_anew),
    IN_SCRATCH(a_read_past_the_end_says_truncated_where),
    IN_SCRATCH(a_read_up_to_the_end_and_of_nothing_succeeds),
    IN_SCRATCH(a_failed_read_names_file_and_offset),
    IN_SCRATCH(direct_reads_are_continued_where_the_device_allows),
    IN_SCRATCH(writes_survive_interruptions_and_short_counts),
    IN_SCRATCH(retries_of_a_write_have_a_bound),
    IN_SCRATCH(no_space_names_file_and_offset_and_what_to_do),
    IN_SCRATCH(a_real_size_limit_stops_a_write),
    IN_SCRATCH(open_read_refuses_a_directory_and_a_missing_file),
    IN_SCRATCH(open_read_refuses_a_fifo_without_hanging),
    IN_SCRATCH(open_read_falls_back_where_direct_reads_are_refused),
    IN_SCRATCH(open_read_leaks_nothing_whichever_call_fails),
    IN_SCRATCH(create_does_not_touch_what_exists),
    IN_SCRATCH(bytes_are_those_of_the_file),
};

FATHOM_TEST_MAIN(tests)
