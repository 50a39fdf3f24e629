/* The ring on both engines when reads go wrong: retried with a bound, reported for the read they
 * touch, never believed. */
#include "env_support.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem.h"

#define PAGE       4096u
#define FILE_PAGES 64u
#define READS      8u
#define MS         1000000u

static enum ring_engine uring = RING_URING, pread_engine = RING_PREAD;

struct bench {
    struct scratch *scratch;
    struct fault_env fault;
    struct ring *ring;
    uint8_t *buffers;
    int fd;
};

static void bench_open(struct bench *bench, enum ring_engine engine, bool direct, const char *plan)
{
    void *scratch;
    bool is_direct;
    if (engine == RING_URING && !uring_works())
        skip();
    assert_int_equal(scratch_make(&scratch), 0);
    *bench = (struct bench){.scratch = scratch};
    pattern_write(bench->scratch->path, FILE_PAGES * PAGE);
    bench->fd = file_open_read(env_os(), bench->scratch->path, direct, &is_direct, NULL);
    assert_true(bench->fd >= 0);
    bench->buffers = mem_alloc_pages(READS);
    assert_non_null(bench->buffers);
    assert_int_equal(fault_init(&bench->fault, env_os(), plan, NULL), 0);
    struct ring_options options = {.engine = engine, .depth = READS};
    assert_int_equal(ring_create(&bench->ring, &bench->fault.env, &options, NULL), 0);
}

static void bench_close(struct bench *bench)
{
    void *scratch = bench->scratch;
    ring_destroy(bench->ring);
    mem_free_pages(bench->buffers, READS);
    close(bench->fd);
    assert_int_equal(scratch_remove(&scratch), 0);
}

static uint8_t *buffer(const struct bench *bench, uint64_t slot)
{
    return bench->buffers + slot * PAGE;
}

static void read_slot(const struct bench *bench, unsigned slot)
{
    assert_int_equal(
        ring_read(bench->ring, bench->fd, buffer(bench, slot), PAGE, (uint64_t)slot * PAGE, slot),
        0);
}

/* One read, start to end, of the first page. */
static int32_t read_one(const struct bench *bench)
{
    struct ring_completion done;
    read_slot(bench, 0);
    assert_int_equal(ring_reap(bench->ring, &done, 1, 1, 0), 1);
    return done.result;
}

static void interrupted_and_short_reads_are_continued(void **state)
{
    static const char *const plans[] = {
        "read#1:EINTR",
        "read#1:EAGAIN;read#2:EINTR;read#3:EAGAIN",
        "read#1:short=512",
        "read#1:short=1;read#2:short=4095",
        "read#1:EAGAIN;read#2:short=2048;read#3:EINTR",
    };
    static const unsigned retries[] = {1, 3, 1, 2, 3};
    for (int direct = 0; direct < 2; direct++)
        for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
            struct bench bench;
            bench_open(&bench, *(enum ring_engine *)*state, direct, plans[i]);
            assert_int_equal(read_one(&bench), PAGE);
            pattern_assert(buffer(&bench, 0), PAGE, 0);
            assert_int_equal(ring_counters(bench.ring).retries, retries[i]);
            assert_int_equal(ring_counters(bench.ring).reads, 1);
            bench_close(&bench);
        }
}

static void a_large_short_read_goes_on_where_it_stopped(void **state)
{
    struct bench bench;
    struct ring_completion done;
    bench_open(&bench, *(enum ring_engine *)*state, true, "read#1:short=9000;read#2:short=5000");
    assert_int_equal(ring_read(bench.ring, bench.fd, bench.buffers, 8 * PAGE, 3 * PAGE, 9), 0);
    assert_int_equal(ring_reap(bench.ring, &done, 1, 1, 0), 1);
    assert_int_equal(done.result, 8 * PAGE);
    pattern_assert(bench.buffers, 8 * PAGE, 3 * PAGE);
    assert_int_equal(ring_counters(bench.ring).bytes, 8 * PAGE);
    bench_close(&bench);
}

static void retries_have_a_bound(void **state)
{
    static const struct {
        const char *plan;
        int32_t result;
    } cases[] = {
        {"read#1+:EINTR", -EINTR}, {"read#1+:EAGAIN", -EAGAIN}, {"read#1+:short=512", -EIO}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bench bench;
        bench_open(&bench, *(enum ring_engine *)*state, false, cases[i].plan);
        assert_int_equal(read_one(&bench), cases[i].result);
        assert_int_equal(fault_reads(&bench.fault), 17);
        assert_int_equal(ring_counters(bench.ring).retries, 16);
        assert_int_equal(ring_counters(bench.ring).bytes, 0);
        bench_close(&bench);
    }
}

static void an_empty_result_is_the_end_of_the_file(void **state)
{
    struct bench bench;
    bench_open(&bench, *(enum ring_engine *)*state, false, "read#1:short=0");
    assert_int_equal(read_one(&bench), -ENODATA);
    assert_int_equal(read_one(&bench), PAGE);
    bench_close(&bench);
}

/* Eight reads with one plan; how many completed with this result, the others being whole and right.
 */
static unsigned read_eight(enum ring_engine engine, const char *plan, int32_t wanted)
{
    struct bench bench;
    struct ring_completion done[READS];
    unsigned hit = 0;
    bench_open(&bench, engine, false, plan);
    for (unsigned i = 0; i < READS; i++)
        read_slot(&bench, i);
    assert_int_equal(ring_reap(bench.ring, done, READS, READS, 0), READS);
    for (unsigned i = 0; i < READS; i++) {
        if (done[i].result == wanted) {
            hit++;
            continue;
        }
        assert_int_equal(done[i].result, PAGE);
        pattern_assert(buffer(&bench, done[i].tag), PAGE, done[i].tag * PAGE);
    }
    assert_int_equal(fault_fired(&bench.fault), 1);
    bench_close(&bench);
    return hit;
}

static void a_fault_at_each_read_touches_that_read_alone(void **state)
{
    static const struct {
        const char *name;
        int32_t result;
        unsigned hits;
    } faults[] = {{"EIO", -EIO, 1},         {"ESTALE", -ESTALE, 1}, {"short=0", -ENODATA, 1},
                  {"EAGAIN", -EAGAIN, 0},   {"EINTR", -EINTR, 0},   {"short=100", 100, 0},
                  {"stall=3ms", -ETIME, 0}, {"ENOMEM", -ENOMEM, 1}};
    for (size_t f = 0; f < sizeof faults / sizeof faults[0]; f++)
        for (unsigned n = 1; n <= READS; n++) {
            char plan[64];
            snprintf(plan, sizeof plan, "read#%u:%s", n, faults[f].name);
            assert_int_equal(read_eight(*(enum ring_engine *)*state, plan, faults[f].result),
                             faults[f].hits);
        }
}

static void a_flipped_bit_is_seen(void **state)
{
    struct bench bench;
    bench_open(&bench, *(enum ring_engine *)*state, false, "read#1:flip=bit777");
    assert_int_equal(read_one(&bench), PAGE);
    assert_int_equal(buffer(&bench, 0)[777 / 8], pattern_at(777 / 8) ^ 1 << 777 % 8);
    buffer(&bench, 0)[777 / 8] ^= 1 << 777 % 8;
    pattern_assert(buffer(&bench, 0), PAGE, 0);
    bench_close(&bench);
}

static void both_engines_count_the_same_reads(void **state)
{
    (void)state;
    uint64_t reads[2];
    for (int engine = 0; engine < 2; engine++) {
        struct bench bench;
        bench_open(&bench, engine ? RING_PREAD : RING_URING, false,
                   "read#2:EINTR;read#5:short=512;read#7:EAGAIN");
        for (int i = 0; i < 6; i++)
            assert_int_equal(read_one(&bench), PAGE);
        reads[engine] = fault_reads(&bench.fault);
        assert_int_equal(ring_counters(bench.ring).retries, 3);
        bench_close(&bench);
    }
    assert_int_equal(reads[0], 9);
    assert_int_equal(reads[1], 9);
}

/* ---- time: a read is held back until the test lets it go ---- */

#define HELD "3600s"

static void a_wait_ends_at_its_time_limit_and_the_read_comes_later(void **state)
{
    struct bench bench;
    struct ring_completion done[READS];
    const struct env *env = env_os();
    bench_open(&bench, *(enum ring_engine *)*state, false, "read#1:stall=" HELD);
    uint64_t start = env_clock_ns(env);
    read_slot(&bench, 0);
    assert_int_equal(ring_reap(bench.ring, done, READS, 1, 20 * MS), 0);
    assert_true(env_clock_ns(env) - start >= 20 * MS);
    /* The ring goes on meanwhile. */
    read_slot(&bench, 1);
    assert_int_equal(ring_reap(bench.ring, done, READS, 1, 0), 1);
    assert_int_equal(done[0].tag, 1);
    assert_int_equal(ring_in_flight(bench.ring), 1);
    fault_release(&bench.fault);
    assert_int_equal(ring_reap(bench.ring, done, READS, 1, 0), 1);
    assert_int_equal(done[0].tag, 0);
    assert_int_equal(done[0].result, PAGE);
    pattern_assert(buffer(&bench, 0), PAGE, 0);
    bench_close(&bench);
}

static void a_stalled_read_keeps_the_event_fd_readable(void **state)
{
    struct bench bench;
    struct ring_completion done;
    bench_open(&bench, *(enum ring_engine *)*state, false, "read#1:stall=20ms");
    struct pollfd poll_fd = {.fd = ring_event_fd(bench.ring), .events = POLLIN};
    read_slot(&bench, 0);
    assert_int_equal(ring_submit(bench.ring), 0);
    int count = 0;
    while (count == 0) {
        assert_int_equal(poll(&poll_fd, 1, 60000), 1);
        count = ring_reap(bench.ring, &done, 1, 0, 0);
    }
    assert_int_equal(count, 1);
    assert_int_equal(done.result, PAGE);
    bench_close(&bench);
}

static void destroying_waits_for_a_stalled_read(void **state)
{
    struct bench bench;
    struct ring_completion done;
    bench_open(&bench, *(enum ring_engine *)*state, false, "read#1:stall=50ms");
    uint64_t start = env_clock_ns(env_os());
    read_slot(&bench, 0);
    int early = ring_reap(bench.ring, &done, 1, 1, 1 * MS);
    assert_in_range(early, 0, 1); /* pread has slept it off already */
    ring_destroy(bench.ring);
    bench.ring = NULL;
    assert_true(env_clock_ns(env_os()) - start >= 50 * MS);
    bench_close(&bench);
}

static void a_stalled_read_is_forgotten_once_it_has_come(void **state)
{
    struct bench bench;
    bench_open(&bench, *(enum ring_engine *)*state, false, "read#1:stall=5ms;read#2:EIO");
    assert_int_equal(read_one(&bench), PAGE);
    assert_int_equal(read_one(&bench), -EIO); /* the same buffer: counted again */
    assert_int_equal(fault_reads(&bench.fault), 2);
    bench_close(&bench);
}

/* ---- reads that are really in flight: of a pipe that is empty until it is written to (io_uring
 * only) ---- */

struct slow_pipe {
    int ends[2];
    pid_t child; /* who writes when the test itself waits; 0: the test does */
};

static void slow_pipe_write(const struct slow_pipe *slow)
{
    assert_int_equal(write(slow->ends[1], "x", 1), 1);
}

/* delay_ms: after which a child writes; 0: nobody but the test. */
static struct slow_pipe slow_pipe_open(unsigned delay_ms)
{
    struct slow_pipe slow = {.child = 0};
    assert_int_equal(pipe(slow.ends), 0);
    if (delay_ms == 0)
        return slow;
    slow.child = fork();
    assert_true(slow.child >= 0);
    if (slow.child == 0) {
        usleep(delay_ms * 1000);
        _exit(write(slow.ends[1], "x", 1) == 1 ? 0 : 1);
    }
    return slow;
}

static void slow_pipe_close(struct slow_pipe *slow)
{
    if (slow->child)
        assert_int_equal(waitpid(slow->child, NULL, 0), slow->child);
    close(slow->ends[0]);
    close(slow->ends[1]);
}

static void read_pipe(const struct bench *bench, const struct slow_pipe *slow)
{
    assert_int_equal(ring_read(bench->ring, slow->ends[0], buffer(bench, 1), 1, 0, 1), 0);
}

static void destroying_waits_for_what_the_kernel_has(void **state)
{
    struct bench bench;
    bench_open(&bench, *(enum ring_engine *)*state, false, "");
    uint64_t start = env_clock_ns(env_os());
    struct slow_pipe slow = slow_pipe_open(50);
    read_pipe(&bench, &slow);
    assert_int_equal(ring_submit(bench.ring), 0);
    ring_destroy(bench.ring);
    bench.ring = NULL;
    assert_true(env_clock_ns(env_os()) - start >= 50 * MS);
    assert_int_equal(*buffer(&bench, 1), 'x');
    slow_pipe_close(&slow);
    bench_close(&bench);
}

static void a_slow_read_ends_no_wait_before_its_time_limit(void **state)
{
    struct bench bench;
    struct ring_completion done[2];
    bench_open(&bench, *(enum ring_engine *)*state, false, "");
    uint64_t start = env_clock_ns(env_os());
    struct slow_pipe slow = slow_pipe_open(0);
    read_pipe(&bench, &slow);
    read_slot(&bench, 0);
    /* One of the two is there at once; the time limit ends the wait for the other. */
    assert_int_equal(ring_reap(bench.ring, done, 2, 2, 20 * MS), 1);
    assert_int_equal(done[0].tag, 0);
    assert_true(env_clock_ns(env_os()) - start >= 20 * MS);
    slow_pipe_write(&slow);
    assert_int_equal(ring_reap(bench.ring, done, 2, 2, 0), 1);
    assert_int_equal(done[0].tag, 1);
    assert_int_equal(done[0].result, 1);
    slow_pipe_close(&slow);
    bench_close(&bench);
}

static void a_stalled_read_comes_while_the_kernel_still_has_another(void **state)
{
    struct bench bench;
    struct ring_completion done;
    bench_open(&bench, *(enum ring_engine *)*state, false, "read#1:stall=20ms");
    struct slow_pipe slow = slow_pipe_open(0);
    read_pipe(&bench, &slow);
    read_slot(&bench, 0);
    assert_int_equal(ring_reap(bench.ring, &done, 1, 1, 0), 1);
    assert_int_equal(done.tag, 0);
    slow_pipe_write(&slow);
    assert_int_equal(ring_reap(bench.ring, &done, 1, 1, 0), 1);
    slow_pipe_close(&slow);
    bench_close(&bench);
}

static void no_action(int signal_number)
{
    (void)signal_number;
}

static void a_storm_of_signals_does_not_end_a_wait(void **state)
{
    struct bench bench;
    struct ring_completion done;
    struct sigaction action = {.sa_handler = no_action}, old; /* no SA_RESTART: calls give EINTR */
    struct itimerval storm = {.it_interval = {.tv_usec = 500}, .it_value = {.tv_usec = 500}};
    struct itimerval quiet = {.it_value = {0}};
    bool has_pipe = *(enum ring_engine *)*state == RING_URING;
    bench_open(&bench, *(enum ring_engine *)*state, true, "read#50:stall=30ms");
    struct slow_pipe slow = slow_pipe_open(150);
    assert_int_equal(sigaction(SIGALRM, &action, &old), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &storm, NULL), 0);
    int bad = 0, slow_count = 1;
    for (int i = 0; i < 200; i++) {
        int rc = ring_read(bench.ring, bench.fd, buffer(&bench, 0), PAGE, 0, 0);
        bad += rc != 0 || ring_reap(bench.ring, &done, 1, 1, 0) != 1 || done.result != (int)PAGE;
    }
    if (has_pipe) {
        bad += ring_read(bench.ring, slow.ends[0], buffer(&bench, 1), 1, 0, 1) != 0;
        slow_count = ring_reap(bench.ring, &done, 1, 1, 0);
    }
    assert_int_equal(setitimer(ITIMER_REAL, &quiet, NULL), 0);
    signal(SIGALRM, SIG_IGN); /* drops one that is pending, which would kill us */
    assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
    assert_int_equal(bad, 0);
    assert_int_equal(slow_count, 1);
    slow_pipe_close(&slow);
    bench_close(&bench);
}

#define ON_URING(test)                                                                             \
    {                                                                                              \
#test " (uring)", test, NULL, NULL, &uring                                                 \
    }
#define ON_PREAD(test)                                                                             \
    {                                                                                              \
#test " (pread)", test, NULL, NULL, &pread_engine                                          \
    }
#define ON_BOTH(test) ON_URING(test), ON_PREAD(test)

static const struct CMUnitTest tests[] = {
    ON_BOTH(interrupted_and_short_reads_are_continued),
    ON_BOTH(a_large_short_read_goes_on_where_it_stopped),
    ON_BOTH(retries_have_a_bound),
    ON_BOTH(an_empty_result_is_the_end_of_the_file),
    ON_BOTH(a_fault_at_each_read_touches_that_read_alone),
    ON_BOTH(a_flipped_bit_is_seen),
    ON_URING(both_engines_count_the_same_reads),
    ON_URING(a_wait_ends_at_its_time_limit_and_the_read_comes_later),
    ON_URING(a_stalled_read_keeps_the_event_fd_readable),
    ON_BOTH(destroying_waits_for_a_stalled_read),
    ON_BOTH(a_stalled_read_is_forgotten_once_it_has_come),
    ON_URING(destroying_waits_for_what_the_kernel_has),
    ON_URING(a_slow_read_ends_no_wait_before_its_time_limit),
    ON_URING(a_stalled_read_comes_while_the_kernel_still_has_another),
    ON_BOTH(a_storm_of_signals_does_not_end_a_wait),
};

FATHOM_TEST_MAIN(tests)
