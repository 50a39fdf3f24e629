/* io_uring refused: AUTO falls back to pread with a reason and a remedy, the answers stay the same.
 * Both as a fault plan says and as real containers do it: a seccomp filter, and a limit of locked
 * memory. */
#include "env_support.h"

#include <errno.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <liburing.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem.h"

#define PAGE          4096u
#define BUFFERS_BYTES (8u << 20) /* more than a usual limit of locked memory */

static void auto_falls_back_with_a_reason_and_a_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *plan, *name, *remedy;
    } cases[] = {
        {"ring_init:EPERM", "(EPERM)", "seccomp"},
        {"ring_init:EACCES", "(EACCES)", "seccomp"},
        {"ring_init:ENOSYS", "(ENOSYS)", "5.11"},
        {"ring_init:ENOMEM", "(ENOMEM)", "RLIMIT_MEMLOCK"},
        {"ring_init:EMFILE", "(EMFILE)", "ulimit -n"},
        {"ring_init:EBADF", "(EBADF)", "kernel log"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fault_env fault;
        struct ring *ring;
        struct fathom_error err;
        struct ring_options options = {.engine = RING_AUTO, .depth = 4};
        assert_int_equal(fault_init(&fault, env_os(), cases[i].plan, NULL), 0);
        assert_int_equal(ring_create(&ring, &fault.env, &options, &err), 0);
        assert_int_equal(ring_engine(ring), RING_PREAD);
        const char *reason = ring_fallback_reason(ring);
        assert_non_null(reason);
        assert_non_null(strstr(reason, cases[i].name));
        assert_non_null(strstr(reason, "using pread"));
        assert_non_null(strstr(reason, cases[i].remedy));
        assert_null(strchr(reason, '\n'));
        ring_destroy(ring);
        /* Whoever insists on io_uring is told the same, and gets none. */
        options.engine = RING_URING;
        assert_int_equal(fault_init(&fault, env_os(), cases[i].plan, NULL), 0);
        assert_true(ring_create(&ring, &fault.env, &options, &err) < 0);
        assert_null(ring);
        assert_true(message_has(&err, cases[i].name));
        assert_true(message_has(&err, cases[i].remedy));
    }
}

static void nothing_is_said_when_nothing_was_refused(void **state)
{
    (void)state;
    struct ring *ring;
    struct fault_env fault;
    struct ring_options options = {.engine = RING_AUTO, .depth = 4};
    assert_int_equal(ring_create(&ring, env_os(), &options, NULL), 0);
    assert_int_equal(ring_engine(ring), uring_works() ? RING_URING : RING_PREAD);
    assert_int_equal(ring_fallback_reason(ring) == NULL, ring_engine(ring) == RING_URING);
    ring_destroy(ring);
    /* pread on request is no fallback, and does not even ask. */
    options.engine = RING_PREAD;
    assert_int_equal(fault_init(&fault, env_os(), "ring_init:EPERM", NULL), 0);
    assert_int_equal(ring_create(&ring, &fault.env, &options, NULL), 0);
    assert_null(ring_fallback_reason(ring));
    assert_int_equal(fault_fired(&fault), 0);
    ring_destroy(ring);
}

/* Runs in a child: the exit code of test, which returns 0 or the number of its failed step. */
static int in_child(int (*test)(const char *path, uint8_t *buffers), const char *path)
{
    int status;
    uint8_t *buffers = mem_alloc_pages(BUFFERS_BYTES / PAGE);
    assert_non_null(buffers);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int code = test(path, buffers);
        mem_free_pages(buffers, BUFFERS_BYTES / PAGE);
        _exit(code);
    }
    mem_free_pages(buffers, BUFFERS_BYTES / PAGE);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* 0 when 64 pages, read 8 at a time through the ring, are right. */
static int read_file(struct ring *ring, const char *path, uint8_t *buffers)
{
    bool is_direct;
    struct ring_completion done[8];
    int fd = file_open_read(env_os(), path, false, &is_direct, NULL);
    if (fd < 0)
        return 11;
    for (unsigned page = 0; page < 64; page += 8) {
        for (unsigned i = 0; i < 8; i++)
            if (ring_read(ring, fd, buffers + i * PAGE, PAGE, (page + i) * (uint64_t)PAGE, i) < 0)
                return 12;
        if (ring_reap(ring, done, 8, 8, 0) != 8)
            return 13;
        for (unsigned b = 0; b < 8 * PAGE; b++)
            if (buffers[b] != pattern_at((uint64_t)page * PAGE + b))
                return 14;
    }
    file_close(env_os(), fd);
    return 0;
}

static bool forbid_uring(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

#define CANNOT_RUN_HERE 77

static int under_seccomp(const char *path, uint8_t *buffers)
{
    struct ring *ring;
    struct ring_options options = {.engine = RING_AUTO, .depth = 8};
    unsigned before = open_fds();
    if (!forbid_uring())
        return CANNOT_RUN_HERE;
    if (ring_create(&ring, env_os(), &options, NULL) < 0)
        return 1;
    if (ring_engine(ring) != RING_PREAD || !strstr(ring_fallback_reason(ring), "EPERM"))
        return 2;
    int rc = read_file(ring, path, buffers);
    ring_destroy(ring);
    return rc ? rc : open_fds() == before ? 0 : 3;
}

static void a_real_seccomp_filter_makes_auto_fall_back(void **state)
{
    const struct scratch *scratch = *state;
    pattern_write(scratch->path, 64 * PAGE);
    int code = in_child(under_seccomp, scratch->path);
    if (code == CANNOT_RUN_HERE)
        skip();
    assert_int_equal(code, 0);
}

/* Root may lock what it likes, so the child becomes nobody first. A megabyte is enough for a ring
 * but not for the buffers; nothing at all refuses the ring too. */
static int without_locked_memory(const char *path, uint8_t *buffers)
{
    static const rlim_t limits[] = {1u << 20, 0};
    struct ring_options options = {
        .engine = RING_AUTO, .depth = 8, .buffers = buffers, .buffers_bytes = BUFFERS_BYTES};
    bool has_uring = uring_works();
    if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(65534, 65534, 65534) < 0 ||
                           setresuid(65534, 65534, 65534) < 0))
        return CANNOT_RUN_HERE;
    for (int i = 0; i < 2; i++) {
        struct ring *ring;
        struct rlimit limit = {limits[i], limits[i]};
        if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0)
            return CANNOT_RUN_HERE;
        if (ring_create(&ring, env_os(), &options, NULL) < 0)
            return 1;
        if (i == 0 && has_uring && ring_engine(ring) != RING_URING)
            return 2;
        int rc = read_file(ring, path, buffers);
        ring_destroy(ring);
        if (rc)
            return rc;
    }
    return 0;
}

static void no_locked_memory_still_gives_right_answers(void **state)
{
    struct scratch *scratch = *state;
    pattern_write(scratch->path, 64 * PAGE);
    assert_int_equal(chmod(scratch->dir, 0755), 0);
    int code = in_child(without_locked_memory, scratch->path);
    if (code == CANNOT_RUN_HERE)
        skip();
    assert_int_equal(code, 0);
}

/* Lets ring_create have `spare` descriptors. */
static int with_few_descriptors(const char *path, uint8_t *buffers)
{
    struct ring_options options = {.engine = RING_AUTO, .depth = 8};
    for (int spare = 0; spare < 4; spare++) {
        struct ring *ring;
        int probe = dup(0);
        struct rlimit limit = {(rlim_t)(probe + spare), (rlim_t)4096};
        close(probe);
        if (probe < 0 || setrlimit(RLIMIT_NOFILE, &limit) < 0)
            return CANNOT_RUN_HERE;
        int rc = ring_create(&ring, env_os(), &options, NULL);
        limit.rlim_cur = 4096;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            return CANNOT_RUN_HERE;
        if (rc < 0)
            return 1;
        if (ring_engine(ring) == RING_PREAD && spare >= 2 && uring_works())
            return 2;
        if (ring_engine(ring) == RING_PREAD && !strstr(ring_fallback_reason(ring), "EMFILE") &&
            uring_works())
            return 3;
        rc = read_file(ring, path, buffers);
        ring_destroy(ring);
        int after = dup(0);
        close(after);
        if (rc || after != probe)
            return rc ? rc : 4;
    }
    return 0;
}

static void running_out_of_descriptors_makes_auto_fall_back_without_a_leak(void **state)
{
    const struct scratch *scratch = *state;
    pattern_write(scratch->path, 64 * PAGE);
    int code = in_child(with_few_descriptors, scratch->path);
    if (code == CANNOT_RUN_HERE)
        skip();
    assert_int_equal(code, 0);
}

/* Stands in for liburing's function of this name, so that this kernel can play an older one. */
static unsigned kernel_knows = ~0u;
static unsigned kernel_features = ~0u;
static unsigned flags_taken;

int io_uring_queue_init(unsigned entries, struct io_uring *uring, unsigned flags)
{
    if (flags & ~kernel_knows)
        return -EINVAL;
    struct io_uring_params params = {.flags = flags};
    int rc = io_uring_queue_init_params(entries, uring, &params);
    if (rc == 0)
        uring->features &= kernel_features;
    flags_taken = flags;
    return rc;
}

static void older_kernels_get_a_ring_with_fewer_flags(void **state)
{
    const struct scratch *scratch = *state;
    static const unsigned known[] = {
        ~(unsigned)IORING_SETUP_DEFER_TASKRUN,
        ~(unsigned)(IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER),
        IORING_SETUP_SUBMIT_ALL,
        0,
    };
    uint8_t *buffers = mem_alloc_pages(8);
    assert_non_null(buffers);
    if (!uring_works())
        skip();
    pattern_write(scratch->path, 64 * PAGE);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        struct ring *ring;
        struct ring_options options = {.engine = RING_URING, .depth = 8};
        kernel_knows = known[i];
        int rc = ring_create(&ring, env_os(), &options, NULL);
        kernel_knows = ~0u;
        assert_int_equal(rc, 0);
        assert_int_equal(flags_taken & ~known[i], 0);
        assert_int_equal((flags_taken & IORING_SETUP_SUBMIT_ALL) != 0, known[i] != 0);
        assert_true(ring_event_fd(ring) >= 0);
        assert_int_equal(read_file(ring, scratch->path, buffers), 0);
        ring_destroy(ring);
    }
    mem_free_pages(buffers, 8);
}

static void a_kernel_without_timed_waits_counts_as_having_no_uring(void **state)
{
    (void)state;
    struct ring *ring;
    struct ring_options options = {.engine = RING_AUTO, .depth = 8};
    if (!uring_works())
        skip();
    unsigned before = open_fds();
    kernel_features = ~(unsigned)IORING_FEAT_EXT_ARG;
    int rc = ring_create(&ring, env_os(), &options, NULL);
    kernel_features = ~0u;
    assert_int_equal(rc, 0);
    assert_int_equal(ring_engine(ring), RING_PREAD);
    assert_non_null(strstr(ring_fallback_reason(ring), "ENOSYS"));
    assert_int_equal(open_fds(), before);
    ring_destroy(ring);
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_make, scratch_remove)

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(auto_falls_back_with_a_reason_and_a_remedy),
    cmocka_unit_test(nothing_is_said_when_nothing_was_refused),
    IN_SCRATCH(a_real_seccomp_filter_makes_auto_fall_back),
    IN_SCRATCH(no_locked_memory_still_gives_right_answers),
    IN_SCRATCH(running_out_of_descriptors_makes_auto_fall_back_without_a_leak),
    IN_SCRATCH(older_kernels_get_a_ring_with_fewer_flags),
    cmocka_unit_test(a_kernel_without_timed_waits_counts_as_having_no_uring),
};

FATHOM_TEST_MAIN(tests)
