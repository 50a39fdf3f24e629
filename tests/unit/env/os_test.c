/* The real operating system behind env: its table, threads, and what a process asks about itself.
 */
#include "env_support.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine.h"
#include "mem.h"

static void raw_calls_return_minus_errno(void **state)
{
    const struct scratch *scratch = *state;
    const struct env *env = env_os();
    char buf[8] = {0};
    struct env_stat stat;
    assert_int_equal(env->open(NULL, scratch->path, O_RDONLY, 0), -ENOENT);
    assert_int_equal(env->close(NULL, -1), -EBADF);
    assert_int_equal(env->pread(NULL, -1, buf, 8, 0), -EBADF);
    assert_int_equal(env->pwrite(NULL, -1, buf, 8, 0), -EBADF);
    assert_int_equal(env->read(NULL, -1, buf, 8), -EBADF);
    assert_int_equal(env->fdatasync(NULL, -1), -EBADF);
    assert_int_equal(env->fsync(NULL, -1), -EBADF);
    assert_int_equal(env->ftruncate(NULL, -1, 0), -EBADF);
    assert_int_equal(env->fstat(NULL, -1, &stat), -EBADF);
    assert_int_equal(env->rename(NULL, scratch->path, "x"), -ENOENT);
    assert_int_equal(env->unlink(NULL, scratch->path), -ENOENT);
    assert_int_equal(env->rmdir(NULL, scratch->path), -ENOENT);
    assert_int_equal(env->mkdir(NULL, scratch->dir, 0755), -EEXIST);
    assert_int_equal(env->flock(NULL, -1, LOCK_EX), -EBADF);
    assert_int_equal(env->list(NULL, scratch->path, NULL, NULL), -ENOENT);
}

static void raw_calls_do_what_their_names_say(void **state)
{
    const struct scratch *scratch = *state;
    const struct env *env = env_os();
    char buf[8] = {0}, moved[SCRATCH_PATH_MAX];
    struct env_stat stat;
    scratch_name(scratch, "moved", moved);
    int fd = env->open(NULL, scratch->path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(env->pwrite(NULL, fd, "abcdef", 6, 2), 6);
    assert_int_equal(env->fdatasync(NULL, fd), 0);
    assert_int_equal(env->fsync(NULL, fd), 0);
    assert_int_equal(env->fstat(NULL, fd, &stat), 0);
    assert_int_equal(stat.bytes, 8);
    assert_true(stat.is_regular && !stat.is_directory);
    assert_int_equal(env->ftruncate(NULL, fd, 4), 0);
    assert_int_equal(env->pread(NULL, fd, buf, 8, 2), 2);
    assert_memory_equal(buf, "ab", 2);
    assert_int_equal(env->read(NULL, fd, buf, 8), 4);
    assert_memory_equal(buf, "\0\0ab", 4);
    int again = env->open(NULL, scratch->path, O_RDONLY, 0);
    assert_int_equal(env->flock(NULL, fd, LOCK_EX | LOCK_NB), 0);
    assert_int_equal(env->flock(NULL, again, LOCK_EX | LOCK_NB), -EWOULDBLOCK);
    assert_int_equal(env->close(NULL, again), 0);
    assert_int_equal(env->close(NULL, fd), 0);
    assert_int_equal(env->rename(NULL, scratch->path, moved), 0);
    assert_false(path_exists(scratch->path));
    assert_int_equal(env->unlink(NULL, moved), 0);
    assert_int_equal(env->mkdir(NULL, moved, 0755), 0);
    assert_int_equal(env->rmdir(NULL, moved), 0);
}

static void open_closes_on_exec_and_takes_nonblock_off_again(void **state)
{
    const struct scratch *scratch = *state;
    pattern_write(scratch->path, 10);
    int fd = env_os()->open(NULL, scratch->path, O_RDONLY | O_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    close(fd);
}

struct listing {
    unsigned names;
    unsigned stop_after;
};

static int count_name(void *arg, const char *name)
{
    struct listing *listing = arg;
    assert_true(strcmp(name, ".") && strcmp(name, ".."));
    return ++listing->names == listing->stop_after ? 77 : 0;
}

static void list_visits_each_entry_and_stops_when_told(void **state)
{
    const struct scratch *scratch = *state;
    static const char *const names[] = {"a", ".hidden", "b.tmp-1"};
    for (size_t i = 0; i < 3; i++) {
        char path[SCRATCH_PATH_MAX];
        scratch_name(scratch, names[i], path);
        text_write(path, "");
    }
    unsigned before = open_fds();
    struct listing all = {0}, two = {.stop_after = 2};
    assert_int_equal(env_os()->list(NULL, scratch->dir, count_name, &all), 0);
    assert_int_equal(all.names, 3);
    assert_int_equal(env_os()->list(NULL, scratch->dir, count_name, &two), 77);
    assert_int_equal(two.names, 2);
    assert_int_equal(open_fds(), before);
}

static void the_clock_runs_forward_in_nanoseconds(void **state)
{
    (void)state;
    uint64_t start = env_clock_ns(env_os());
    usleep(2000);
    uint64_t passed = env_clock_ns(env_os()) - start;
    assert_true(passed >= 2000000u);
    assert_true(passed < 60000000000u);
}

struct hurried {
    enum env_urgency wanted, got;
    int policy, slack;
};

/* Where there are none, that is said, and nothing is left. */
static void large_pages_are_zeroed_and_aligned_or_refused(void **state)
{
    static const size_t sizes[] = {4096, ENV_LARGE_PAGE_BYTES - 4096, 2 * ENV_LARGE_PAGE_BYTES,
                                   2 * ENV_LARGE_PAGE_BYTES + 8192};
    const struct env *env = env_os();
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        uint8_t *memory = env->map_large(env->context, sizes[s]);
        if (!memory)
            skip();
        assert_int_equal((uintptr_t)memory % ENV_LARGE_PAGE_BYTES, 0);
        for (size_t i = 0; i < sizes[s]; i += 64)
            assert_int_equal(memory[i], 0);
        memset(memory, 1, sizes[s]);
        env->unmap_large(env->context, memory, sizes[s]);
    }
}

/* Which pages of memory a range has, as the kernel tells root alone; 0: it does not. */
static uint64_t frame_of(int fd, const uint8_t *at)
{
    uint64_t entry = 0;
    if (pread(fd, &entry, sizeof entry, (off_t)((uintptr_t)at / 4096 * sizeof entry)) !=
        sizeof entry)
        return 0;
    return entry & (((uint64_t)1 << 55) - 1);
}

/* A part of a large page: it lies together, and the rest is not kept. */
static void a_part_of_a_large_page_lies_together(void **state)
{
    const struct env *env = env_os();
    const size_t bytes = 60 * 4096;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    uint8_t *memory = env->map_large(env->context, bytes);
    uint64_t first = memory && fd >= 0 ? frame_of(fd, memory) : 0;
    (void)state;
    if (first)
        for (size_t at = 4096; at < bytes; at += 4096)
            assert_int_equal(frame_of(fd, memory + at), first + at / 4096);
    if (fd >= 0)
        close(fd);
    if (memory)
        env->unmap_large(env->context, memory, bytes);
    if (!first)
        skip();
}

static void large_pages_fail_on_plan(void **state)
{
    struct fault_env fault;
    (void)state;
    assert_int_equal(fault_init(&fault, env_os(), "op=1:ENOMEM", NULL), 0);
    assert_null(fault.env.map_large(fault.env.context, ENV_LARGE_PAGE_BYTES));
    assert_int_equal(fault_fired(&fault), 1);
}

static void hurry(void *context, unsigned worker)
{
    struct hurried *hurried = context;
    if (worker != 0) /* the last worker is this test's own thread, which stays as it is */
        return;
    hurried->got = env_thread_hurry(hurried->wanted);
    hurried->policy = sched_getscheduler(0) & ~SCHED_RESET_ON_FORK;
    hurried->slack = prctl(PR_GET_TIMERSLACK);
}

static void a_thread_hurries_as_far_as_it_is_allowed_and_says_how_far(void **state)
{
    (void)state;
    int policy = sched_getscheduler(0);
    for (enum env_urgency wanted = ENV_URGENCY_NORMAL; wanted <= ENV_URGENCY_REALTIME; wanted++) {
        struct hurried hurried = {.wanted = wanted};
        assert_int_equal(env_run_parallel(2, hurry, &hurried), 0);
        assert_true(hurried.got <= wanted);
        assert_int_equal(hurried.policy, hurried.got == ENV_URGENCY_REALTIME ? SCHED_FIFO : policy);
        if (policy == SCHED_OTHER)
            assert_in_range(hurried.slack, 0, 1); /* newer kernels give real time none */
    }
    assert_int_equal(sched_getscheduler(0), policy);
    assert_string_equal(env_urgency_name(ENV_URGENCY_NORMAL), "normal");
    assert_string_equal(env_urgency_name(ENV_URGENCY_SLICE), "slice");
    assert_string_equal(env_urgency_name(ENV_URGENCY_REALTIME), "realtime");
}

struct team {
    atomic_uint ran[16];
    pid_t last_thread;
};

static void note_worker(void *context, unsigned worker)
{
    struct team *team = context;
    atomic_fetch_add(&team->ran[worker], 1);
    if (worker == 3)
        team->last_thread = gettid();
}

static void each_worker_runs_once_and_the_last_on_the_caller(void **state)
{
    (void)state;
    struct team team = {.last_thread = 0};
    assert_int_equal(env_run_parallel(4, note_worker, &team), 0);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(atomic_load(&team.ran[i]), i < 4 ? 1 : 0);
    assert_int_equal(team.last_thread, gettid());
}

static void one_worker_needs_no_thread_and_none_is_refused(void **state)
{
    (void)state;
    struct team team = {.last_thread = 0};
    assert_int_equal(env_run_parallel(1, note_worker, &team), 0);
    assert_int_equal(atomic_load(&team.ran[0]), 1);
    assert_int_equal(env_run_parallel(0, note_worker, &team), FATHOM_EARGUMENT);
}

static bool no_memory(void *context)
{
    (void)context;
    return true;
}

static void no_memory_for_threads_is_an_error_and_nothing_runs(void **state)
{
    (void)state;
    struct team team = {.last_thread = 0};
    mem_set_fault(no_memory, NULL);
    int rc = env_run_parallel(4, note_worker, &team);
    mem_set_fault(NULL, NULL);
    assert_int_equal(rc, -ENOMEM);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(atomic_load(&team.ran[i]), 0);
}

static void cpu_time_grows_with_work_and_not_with_sleep(void **state)
{
    (void)state;
    uint64_t process = env_process_cpu_ns(), start = env_thread_cpu_ns();
    usleep(20000);
    uint64_t slept = env_thread_cpu_ns() - start;
    volatile uint64_t sum = 0;
    for (uint64_t i = 0; i < 20000000u; i++)
        sum += i;
    uint64_t worked = env_thread_cpu_ns() - start - slept;
    assert_true(sum > 0);
    assert_true(slept < 20000000u);
    assert_true(worked > 1000000u);
    assert_true(env_process_cpu_ns() - process >= slept + worked);
}

static void the_process_knows_its_cpus_and_memory(void **state)
{
    (void)state;
    assert_in_range(env_cpu_count(), 1, 65536);
    uint64_t before = env_rss_bytes();
    assert_true(before > 100000u);
    assert_true(env_file_rss_bytes() < before);
    size_t bytes = 32u << 20;
    char *memory = mem_alloc(bytes);
    assert_non_null(memory);
    memset(memory, 1, bytes);
    uint64_t during = env_rss_bytes();
    assert_true(env_file_rss_bytes() < during - bytes / 2);
    mem_free(memory);
    assert_true(during > before + bytes / 2);
    assert_true(env_peak_rss_bytes() >= during - bytes / 2);
}

static void the_device_has_a_name_and_a_missing_path_does_not_hurt(void **state)
{
    const struct scratch *scratch = *state;
    char name[256], tiny[4];
    env_device_name(scratch->dir, name, sizeof name);
    assert_true(strlen(name) > 0);
    env_device_name("/proc", name, sizeof name);
    assert_non_null(strstr(name, "proc"));
    env_device_name(scratch->path, name, sizeof name);
    assert_string_equal(name, "unknown device");
    env_device_name(scratch->dir, tiny, sizeof tiny);
    assert_true(strlen(tiny) < sizeof tiny);
}

static void the_machine_is_described(void **state)
{
    (void)state;
    struct env_machine machine;
    env_machine_describe(&machine);
    assert_true(machine.cpu[0] != '\0' && machine.cpu[0] != ' ');
    assert_null(strchr(machine.cpu, '\n'));
    assert_int_equal(strncmp(machine.kernel, "Linux ", 6), 0);
    assert_int_equal(machine.cpus, env_cpu_count());
    assert_true(machine.memory_bytes > 64u << 20);
}

static void the_peak_of_memory_can_begin_anew(void **state)
{
    (void)state;
    size_t bytes = 64u << 20;
    char *memory = mem_alloc(bytes);
    assert_non_null(memory);
    memset(memory, 1, bytes);
    mem_free(memory);
    uint64_t before = env_peak_rss_bytes();
    env_peak_rss_reset();
    if (env_peak_rss_bytes() >= before)
        skip(); /* this kernel or container does not let a process do it */
    assert_true(env_peak_rss_bytes() < before - bytes / 2);
}

static void what_the_page_cache_holds_is_counted_and_forgotten(void **state)
{
    const struct scratch *scratch = *state;
    char folder[SCRATCH_PATH_MAX], hidden[SCRATCH_PATH_MAX];
    uint64_t bytes = 1u << 20;
    assert_int_equal(env_cached_bytes(scratch->dir), 0);
    pattern_write(scratch->path, bytes);
    assert_int_equal(env_cached_bytes(scratch->dir), bytes);
    /* Folders are left out, with what is in them. */
    scratch_name(scratch, "folder", folder);
    assert_int_equal(mkdir(folder, 0700), 0);
    scratch_name(scratch, "folder/hidden", hidden);
    pattern_write(hidden, bytes);
    assert_int_equal(env_cached_bytes(scratch->dir), bytes);
    assert_int_equal(unlink(hidden), 0);

    char device[256];
    env_device_name(scratch->dir, device, sizeof device);
    if (strstr(device, "tmpfs"))
        skip(); /* its pages are the file */
    int fd = open(scratch->path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fsync(fd), 0);
    close(fd);
    assert_int_equal(env_cache_drop(scratch->dir), 0);
    assert_int_equal(env_cached_bytes(scratch->dir), 0);
    assert_int_equal(env_cached_bytes("/nowhere/at/all"), -ENOENT);
    assert_int_equal(env_cache_drop("/nowhere/at/all"), -ENOENT);
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_make, scratch_remove)

/* Bytes of [from, to) that the system has been told to put into large pages. */
static size_t preferred_bytes(uintptr_t from, uintptr_t to)
{
    FILE *maps = fopen("/proc/self/smaps", "re");
    char line[512];
    uintptr_t start = 0, end = 0, one, other;
    size_t bytes = 0;
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &one, &other) == 2) {
            start = one < from ? from : one;
            end = other > to ? to : other;
        } else if (!strncmp(line, "VmFlags:", 8) && strstr(line, " hg") && start < end) {
            bytes += end - start;
        }
    }
    fclose(maps);
    return bytes;
}

/* A large page that is not filled would take memory that nobody has counted. */
static void large_pages_are_preferred_only_where_they_are_filled(void **state)
{
    (void)state;
    const size_t large = ENV_LARGE_PAGE_BYTES, room = 5 * large;
    uint8_t *map = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(map != MAP_FAILED);
    uint8_t *first = map + (-(uintptr_t)map & (large - 1));
    uintptr_t from = (uintptr_t)map, to = from + room;
    env_prefer_large(first + 64, 2 * large - 64); /* one is whole */
    if (preferred_bytes(from, to) == 0 && madvise(first, large, MADV_HUGEPAGE))
        skip(); /* no large pages here at all */
    assert_int_equal(preferred_bytes(from, to), large);
    assert_int_equal(preferred_bytes((uintptr_t)first + large, (uintptr_t)first + 2 * large),
                     large);
    env_prefer_large(first + 2 * large, large - 1); /* none is whole */
    env_prefer_large(first + 3 * large - 1, large);
    env_prefer_large(first, 0);
    assert_int_equal(preferred_bytes(from, to), large);
    munmap(map, room);
}

static const struct CMUnitTest tests[] = {
    IN_SCRATCH(raw_calls_return_minus_errno),
    IN_SCRATCH(raw_calls_do_what_their_names_say),
    IN_SCRATCH(open_closes_on_exec_and_takes_nonblock_off_again),
    IN_SCRATCH(list_visits_each_entry_and_stops_when_told),
    cmocka_unit_test(the_clock_runs_forward_in_nanoseconds),
    cmocka_unit_test(large_pages_are_zeroed_and_aligned_or_refused),
    cmocka_unit_test(a_part_of_a_large_page_lies_together),
    cmocka_unit_test(large_pages_fail_on_plan),
    cmocka_unit_test(large_pages_are_preferred_only_where_they_are_filled),
    cmocka_unit_test(a_thread_hurries_as_far_as_it_is_allowed_and_says_how_far),
    cmocka_unit_test(each_worker_runs_once_and_the_last_on_the_caller),
    cmocka_unit_test(one_worker_needs_no_thread_and_none_is_refused),
    cmocka_unit_test(no_memory_for_threads_is_an_error_and_nothing_runs),
    cmocka_unit_test(cpu_time_grows_with_work_and_not_with_sleep),
    cmocka_unit_test(the_process_knows_its_cpus_and_memory),
    IN_SCRATCH(the_device_has_a_name_and_a_missing_path_does_not_hurt),
    cmocka_unit_test(the_machine_is_described),
    cmocka_unit_test(the_peak_of_memory_can_begin_anew),
    IN_SCRATCH(what_the_page_cache_holds_is_counted_and_forgotten),
};

FATHOM_TEST_MAIN(tests)
