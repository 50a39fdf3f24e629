/* The ring on both engines: right bytes, depth, the end of the file, waiting, the event fd, and no
 * leaks. */
#include "env_support.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mem.h"
#include "prng.h"

#define PAGE       4096u
#define FILE_PAGES 256u
#define DEPTH      32u

static enum ring_engine uring = RING_URING, pread_engine = RING_PREAD;

/* A ring over a pattern file, with a page of buffer for each read in flight. */
struct bench {
    struct scratch *scratch;
    struct ring *ring;
    uint8_t *buffers;
    int fd;
    enum ring_engine engine;
};

static void bench_open(struct bench *bench, enum ring_engine engine, bool direct, bool registered)
{
    void *scratch;
    bool is_direct;
    if (engine == RING_URING && !uring_works())
        skip();
    assert_int_equal(scratch_make(&scratch), 0);
    *bench = (struct bench){.scratch = scratch, .engine = engine};
    pattern_write(bench->scratch->path, FILE_PAGES * PAGE);
    bench->fd = file_open_read(env_os(), bench->scratch->path, direct, &is_direct, NULL);
    assert_true(bench->fd >= 0);
    bench->buffers = mem_alloc_pages(DEPTH);
    assert_non_null(bench->buffers);
    struct ring_options options = {.engine = engine,
                                   .depth = DEPTH,
                                   .buffers = registered ? bench->buffers : NULL,
                                   .buffers_bytes = registered ? (size_t)DEPTH * PAGE : 0};
    struct fathom_error err;
    assert_int_equal(ring_create(&bench->ring, env_os(), &options, &err), 0);
    assert_int_equal(ring_engine(bench->ring), engine);
}

static void bench_close(struct bench *bench)
{
    void *scratch = bench->scratch;
    ring_destroy(bench->ring);
    mem_free_pages(bench->buffers, DEPTH);
    close(bench->fd);
    assert_int_equal(scratch_remove(&scratch), 0);
}

static uint8_t *buffer(const struct bench *bench, unsigned slot)
{
    return bench->buffers + (size_t)slot * PAGE;
}

static int read_page(const struct bench *bench, unsigned slot, uint64_t offset)
{
    return ring_read(bench->ring, bench->fd, buffer(bench, slot), PAGE, offset, slot);
}

/* Reads 1,000 random pages, up to DEPTH at a time, and checks each byte. */
static void read_thousand(const struct bench *bench)
{
    struct ring_completion done[DEPTH];
    uint64_t offsets[DEPTH];
    unsigned free_slots[DEPTH], free_count = DEPTH, finished = 0, started = 0;
    struct prng prng;
    prng_init(&prng, 5, 0);
    for (unsigned i = 0; i < DEPTH; i++)
        free_slots[i] = i;
    while (finished < 1000) {
        unsigned batch = 1 + prng_below(&prng, 8);
        for (; batch && free_count && started < 1000; batch--, started++) {
            unsigned slot = free_slots[--free_count];
            offsets[slot] = (uint64_t)prng_below(&prng, FILE_PAGES) * PAGE;
            assert_int_equal(read_page(bench, slot, offsets[slot]), 0);
        }
        assert_int_equal(ring_in_flight(bench->ring), DEPTH - free_count);
        int count = ring_reap(bench->ring, done, 1 + prng_below(&prng, DEPTH), 1, 0);
        assert_true(count >= 1);
        for (int i = 0; i < count; i++) {
            assert_int_equal(done[i].result, PAGE);
            pattern_assert(buffer(bench, (unsigned)done[i].tag), PAGE, offsets[done[i].tag]);
            free_slots[free_count++] = (unsigned)done[i].tag;
        }
        finished += (unsigned)count;
    }
    assert_int_equal(ring_in_flight(bench->ring), 0);
    struct ring_counters counters = ring_counters(bench->ring);
    assert_int_equal(counters.reads, 1000);
    assert_int_equal(counters.bytes, 1000 * PAGE);
    assert_true(counters.submits >= 1 && counters.submits <= 1000);
}

static void a_thousand_random_reads_match_the_file(void **state)
{
    for (int variant = 0; variant < 4; variant++) {
        struct bench bench;
        bench_open(&bench, *(enum ring_engine *)*state, variant & 1, variant & 2);
        read_thousand(&bench);
        bench_close(&bench);
    }
}

static void buffers_outside_the_registered_region_work_too(void **state)
{
    struct bench bench;
    struct ring_completion done;
    uint8_t elsewhere[100] = {0}; /* Valgrind does not see the kernel write */
    bench_open(&bench, *(enum ring_engine *)*state, false, true);
    assert_int_equal(ring_read(bench.ring, bench.fd, elsewhere, sizeof elsewhere, 777, 1), 0);
    assert_int_equal(ring_reap(bench.ring, &done, 1, 1, 0), 1);
    assert_int_equal(done.result, sizeof elsewhere);
    pattern_assert(elsewhere, sizeof elsewhere, 777);
    bench_close(&bench);
}

static int32_t read_one(const struct bench *bench, uint64_t offset)
{
    struct ring_completion done;
    assert_int_equal(read_page(bench, 0, offset), 0);
    assert_int_equal(ring_reap(bench->ring, &done, 1, 1, 0), 1);
    assert_int_equal(done.tag, 0);
    return done.result;
}

static void reading_past_the_end_is_no_data(void **state)
{
    for (int direct = 0; direct < 2; direct++) {
        struct bench bench;
        bench_open(&bench, *(enum ring_engine *)*state, direct, true);
        assert_int_equal(read_one(&bench, FILE_PAGES * PAGE), -ENODATA);
        assert_int_equal(read_one(&bench, (uint64_t)1 << 40), -ENODATA);
        assert_int_equal(read_one(&bench, (FILE_PAGES - 1) * PAGE), PAGE);
        /* A file cut within the page. */
        assert_int_equal(truncate(bench.scratch->path, 10 * PAGE + 100), 0);
        assert_int_equal(read_one(&bench, 10 * PAGE), -ENODATA);
        assert_int_equal(read_one(&bench, 9 * PAGE), PAGE);
        assert_int_equal(truncate(bench.scratch->path, 0), 0);
        assert_int_equal(read_one(&bench, 0), -ENODATA);
        bench_close(&bench);
    }
}

static void a_bad_descriptor_is_the_result_of_its_read_alone(void **state)
{
    struct bench bench;
    struct ring_completion done[3];
    bench_open(&bench, *(enum ring_engine *)*state, false, false);
    assert_int_equal(read_page(&bench, 0, 0), 0);
    assert_int_equal(ring_read(bench.ring, -1, buffer(&bench, 1), PAGE, 0, 1), 0);
    assert_int_equal(read_page(&bench, 2, PAGE), 0);
    assert_int_equal(ring_reap(bench.ring, done, 3, 3, 0), 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(done[i].result, done[i].tag == 1 ? -EBADF : (int32_t)PAGE);
    bench_close(&bench);
}

static void more_reads_than_the_depth_are_told_to_wait(void **state)
{
    struct bench bench;
    struct ring_completion done[DEPTH];
    bench_open(&bench, *(enum ring_engine *)*state, false, true);
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < DEPTH; i++)
            assert_int_equal(read_page(&bench, i, i * PAGE), 0);
        assert_int_equal(read_page(&bench, 0, 0), -EAGAIN);
        assert_int_equal(ring_submit(bench.ring), 0);
        assert_int_equal(read_page(&bench, 0, 0), -EAGAIN); /* in flight or unreaped counts too */
        assert_int_equal(ring_in_flight(bench.ring), DEPTH);
        assert_int_equal(ring_reap(bench.ring, done, 1, 1, 0), 1);
        assert_int_equal(read_page(&bench, (unsigned)done[0].tag, 0), 0);
        assert_int_equal(ring_reap(bench.ring, done, DEPTH, DEPTH, 0), DEPTH);
        assert_int_equal(ring_in_flight(bench.ring), 0);
    }
    bench_close(&bench);
}

static void a_batch_is_one_submit(void **state)
{
    struct bench bench;
    struct ring_completion done[DEPTH];
    bench_open(&bench, *(enum ring_engine *)*state, false, true);
    assert_int_equal(ring_submit(bench.ring), 0); /* nothing queued: not counted */
    for (unsigned i = 0; i < DEPTH; i++)
        assert_int_equal(read_page(&bench, i, i * PAGE), 0);
    assert_int_equal(ring_submit(bench.ring), 0);
    assert_int_equal(ring_reap(bench.ring, done, DEPTH, DEPTH, 0), DEPTH);
    assert_int_equal(ring_counters(bench.ring).submits, 1);
    bench_close(&bench);
}

static void reaping_nothing_returns_at_once(void **state)
{
    struct bench bench;
    struct ring_completion done[4];
    bench_open(&bench, *(enum ring_engine *)*state, false, false);
    alarm(300);
    assert_int_equal(ring_reap(bench.ring, done, 4, 0, 0), 0);
    assert_int_equal(ring_reap(bench.ring, done, 4, 4, 0), 0); /* nothing could ever arrive */
    assert_int_equal(ring_reap(bench.ring, done, 0, 1, 0), 0);
    assert_int_equal(read_page(&bench, 0, 0), 0);
    assert_int_equal(ring_reap(bench.ring, done, 4, 4, 0), 1); /* only one is outstanding */
    alarm(0);
    bench_close(&bench);
}

static void polling_without_waiting_gets_there(void **state)
{
    struct bench bench;
    struct ring_completion done[DEPTH];
    unsigned finished = 0;
    bench_open(&bench, *(enum ring_engine *)*state, true, true);
    for (unsigned i = 0; i < DEPTH; i++)
        assert_int_equal(read_page(&bench, i, i * PAGE), 0);
    alarm(300);
    while (finished < DEPTH) {
        int count = ring_reap(bench.ring, done, DEPTH, 0, 0);
        assert_true(count >= 0);
        finished += (unsigned)count;
    }
    alarm(0);
    bench_close(&bench);
}

static void silly_requests_are_refused(void **state)
{
    struct bench bench;
    struct ring *ring;
    struct fathom_error err;
    enum ring_engine engine = *(enum ring_engine *)*state;
    bench_open(&bench, engine, false, false);
    assert_int_equal(ring_read(bench.ring, bench.fd, bench.buffers, 0, 0, 0), FATHOM_EARGUMENT);
    assert_int_equal(ring_read(bench.ring, bench.fd, NULL, 1, 0, 0), FATHOM_EARGUMENT);
    assert_int_equal(ring_read(bench.ring, bench.fd, bench.buffers, 1u << 31, 0, 0),
                     FATHOM_EARGUMENT);
    assert_int_equal(ring_in_flight(bench.ring), 0);
    struct ring_options none = {.engine = engine, .depth = 0};
    assert_int_equal(ring_create(&ring, env_os(), &none, &err), FATHOM_EARGUMENT);
    assert_null(ring);
    struct ring_options deep = {.engine = engine, .depth = 4097};
    assert_int_equal(ring_create(&ring, env_os(), &deep, &err), FATHOM_EARGUMENT);
    assert_true(message_has(&err, "4096"));
    struct ring_options deepest = {.engine = engine, .depth = 4096};
    assert_int_equal(ring_create(&ring, env_os(), &deepest, &err), 0);
    ring_destroy(ring);
    ring_destroy(NULL);
    bench_close(&bench);
}

static void destroying_waits_for_reads_in_flight(void **state)
{
    for (int submitted = 0; submitted < 2; submitted++) {
        struct bench bench;
        bench_open(&bench, *(enum ring_engine *)*state, true, true);
        for (unsigned i = 0; i < DEPTH; i++)
            assert_int_equal(read_page(&bench, i, i * PAGE), 0);
        if (submitted)
            assert_int_equal(ring_submit(bench.ring), 0);
        ring_destroy(bench.ring);
        bench.ring = NULL;
        memset(bench.buffers, 0xee, (size_t)DEPTH * PAGE); /* ours again */
        usleep(20000);
        for (size_t i = 0; i < (size_t)DEPTH * PAGE; i++)
            assert_int_equal(bench.buffers[i], 0xee);
        bench_close(&bench);
    }
}

static void many_rings_leak_no_descriptor(void **state)
{
    enum ring_engine engine = *(enum ring_engine *)*state;
    struct bench bench;
    bench_open(&bench, engine, false, true);
    unsigned before = open_fds();
    for (int i = 0; i < 300; i++) {
        struct ring *ring;
        struct ring_completion done;
        struct ring_options options = {.engine = engine,
                                       .depth = 8,
                                       .buffers = bench.buffers,
                                       .buffers_bytes = (size_t)DEPTH * PAGE};
        assert_int_equal(ring_create(&ring, env_os(), &options, NULL), 0);
        assert_int_equal(ring_read(ring, bench.fd, bench.buffers, PAGE, 0, 0), 0);
        if (i % 3 == 0)
            assert_int_equal(ring_reap(ring, &done, 1, 1, 0), 1);
        if (i % 3 == 1)
            assert_int_equal(ring_submit(ring), 0);
        ring_destroy(ring);
    }
    assert_int_equal(open_fds(), before);
    bench_close(&bench);
}

static void no_memory_at_any_allocation_is_clean(void **state)
{
    enum ring_engine engine = *(enum ring_engine *)*state;
    if (engine == RING_URING && !uring_works())
        skip();
    unsigned before = open_fds();
    for (unsigned n = 1;; n++) {
        struct fault_env fault;
        struct fathom_error err = {0};
        struct ring *ring;
        struct ring_options options = {.engine = engine, .depth = 8};
        char plan[32];
        snprintf(plan, sizeof plan, "alloc#%u:fail", n);
        assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
        mem_set_fault(fault_alloc, &fault);
        int rc = ring_create(&ring, &fault.env, &options, &err);
        mem_set_fault(NULL, NULL);
        ring_destroy(ring);
        assert_int_equal(open_fds(), before);
        if (!fault_fired(&fault)) {
            assert_int_equal(rc, 0);
            assert_true(n > 2);
            return;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_int_equal(err.code, -ENOMEM);
    }
}

struct shared_file {
    int fd;
    enum ring_engine engine;
    int bad[4];
};

static void read_on_a_ring_of_my_own(void *context, unsigned worker)
{
    struct shared_file *shared = context;
    struct ring *ring;
    struct ring_completion done;
    uint8_t page[PAGE] = {0};
    struct ring_options options = {.engine = shared->engine, .depth = 4};
    if (ring_create(&ring, env_os(), &options, NULL) < 0) {
        shared->bad[worker] = 1;
        return;
    }
    for (unsigned i = 0; i < 200; i++) {
        uint64_t offset = (uint64_t)((i * 7 + worker * 31) % FILE_PAGES) * PAGE;
        int rc = ring_read(ring, shared->fd, page, PAGE, offset, i);
        if (rc || ring_reap(ring, &done, 1, 1, 0) != 1 || done.result != (int)PAGE || done.tag != i)
            shared->bad[worker]++;
        for (unsigned b = 0; b < PAGE; b++)
            shared->bad[worker] += page[b] != pattern_at(offset + b);
    }
    ring_destroy(ring);
}

static void each_thread_may_have_a_ring(void **state)
{
    struct bench bench;
    bench_open(&bench, *(enum ring_engine *)*state, false, false);
    struct shared_file shared = {.fd = bench.fd, .engine = bench.engine};
    assert_int_equal(env_run_parallel(4, read_on_a_ring_of_my_own, &shared), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(shared.bad[i], 0);
    bench_close(&bench);
}

/* ---- the event fd ---- */

static bool is_readable(int fd, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, timeout_ms) == 1;
}

static void pread_completes_inside_submit_and_has_no_event_fd(void **state)
{
    struct bench bench;
    struct ring_completion done;
    bench_open(&bench, *(enum ring_engine *)*state, false, false);
    assert_int_equal(ring_event_fd(bench.ring), -1);
    assert_int_equal(read_page(&bench, 0, 0), 0);
    assert_int_equal(ring_submit(bench.ring), 0);
    pattern_assert(buffer(&bench, 0), PAGE, 0);
    assert_int_equal(ring_reap(bench.ring, &done, 1, 0, 0), 1);
    bench_close(&bench);
}

static void the_event_fd_becomes_readable_and_quiet_again(void **state)
{
    struct bench bench;
    struct ring_completion done[DEPTH];
    bench_open(&bench, *(enum ring_engine *)*state, true, true);
    int fd = ring_event_fd(bench.ring);
    assert_true(fd >= 0);
    assert_int_equal(ring_event_fd(bench.ring), fd);
    assert_int_equal(ring_reap(bench.ring, done, DEPTH, 0, 0), 0); /* takes the first wake-up */
    assert_false(is_readable(fd, 0));
    for (int round = 0; round < 50; round++) {
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(read_page(&bench, i, ((unsigned)round * 4 + i) * PAGE), 0);
        assert_int_equal(ring_submit(bench.ring), 0);
        for (int finished = 0; finished < 4;) {
            assert_true(is_readable(fd, 60000));
            int count = ring_reap(bench.ring, done, DEPTH, 0, 0);
            assert_true(count >= 0);
            finished += count;
        }
        assert_int_equal(ring_reap(bench.ring, done, DEPTH, 0, 0), 0);
        assert_false(is_readable(fd, 0));
    }
    bench_close(&bench);
}

static void what_a_reap_leaves_behind_keeps_the_event_fd_readable(void **state)
{
    struct bench bench;
    struct ring_completion done;
    bench_open(&bench, *(enum ring_engine *)*state, true, true);
    int fd = ring_event_fd(bench.ring);
    for (unsigned i = 0; i < DEPTH; i++)
        assert_int_equal(read_page(&bench, i, i * PAGE), 0);
    assert_int_equal(ring_submit(bench.ring), 0);
    for (unsigned finished = 0; finished < DEPTH;) {
        assert_true(is_readable(fd, 60000)); /* a lost wake-up fails here */
        int count = ring_reap(bench.ring, &done, 1, 0, 0);
        assert_in_range(count, 0, 1);
        finished += (unsigned)count;
    }
    bench_close(&bench);
}

static void an_event_fd_asked_for_late_tells_of_what_came_before(void **state)
{
    struct bench bench;
    struct ring_completion done;
    bench_open(&bench, *(enum ring_engine *)*state, false, true);
    assert_int_equal(read_page(&bench, 0, 0), 0);
    assert_int_equal(ring_submit(bench.ring), 0);
    usleep(20000);
    assert_true(is_readable(ring_event_fd(bench.ring), 60000));
    assert_int_equal(ring_reap(bench.ring, &done, 1, 1, 0), 1);
    bench_close(&bench);
}

#if HAS_ASAN
#include <sanitizer/asan_interface.h>
static void a_buffer_is_poisoned_while_the_ring_has_it(void **state)
{
    struct bench bench;
    struct ring_completion done;
    bench_open(&bench, *(enum ring_engine *)*state, false, false);
    assert_int_equal(read_page(&bench, 0, 0), 0);
    assert_true(__asan_address_is_poisoned(buffer(&bench, 0)));
    assert_true(__asan_address_is_poisoned(buffer(&bench, 0) + PAGE - 1));
    assert_int_equal(ring_reap(bench.ring, &done, 1, 1, 0), 1);
    assert_null(__asan_region_is_poisoned(buffer(&bench, 0), PAGE));
    assert_int_equal(read_page(&bench, 0, 0), 0);
    ring_destroy(bench.ring);
    bench.ring = NULL;
    assert_null(__asan_region_is_poisoned(buffer(&bench, 0), PAGE));
    bench_close(&bench);
}
#else
static void a_buffer_is_poisoned_while_the_ring_has_it(void **state)
{
    (void)state;
    skip(); /* needs AddressSanitizer */
}
#endif

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
    ON_BOTH(a_thousand_random_reads_match_the_file),
    ON_BOTH(buffers_outside_the_registered_region_work_too),
    ON_BOTH(reading_past_the_end_is_no_data),
    ON_BOTH(a_bad_descriptor_is_the_result_of_its_read_alone),
    ON_BOTH(more_reads_than_the_depth_are_told_to_wait),
    ON_BOTH(a_batch_is_one_submit),
    ON_BOTH(reaping_nothing_returns_at_once),
    ON_BOTH(polling_without_waiting_gets_there),
    ON_BOTH(silly_requests_are_refused),
    ON_BOTH(destroying_waits_for_reads_in_flight),
    ON_BOTH(many_rings_leak_no_descriptor),
    ON_BOTH(no_memory_at_any_allocation_is_clean),
    ON_BOTH(each_thread_may_have_a_ring),
    ON_PREAD(pread_completes_inside_submit_and_has_no_event_fd),
    ON_URING(the_event_fd_becomes_readable_and_quiet_again),
    ON_URING(what_a_reap_leaves_behind_keeps_the_event_fd_readable),
    ON_URING(an_event_fd_asked_for_late_tells_of_what_came_before),
    ON_BOTH(a_buffer_is_poisoned_while_the_ring_has_it),
};

FATHOM_TEST_MAIN(tests)
