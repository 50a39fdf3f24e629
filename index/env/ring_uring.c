/* The io_uring backend.
 *
 * A read is an SQE from ring_read on, so that ring_submit is one system call for the whole batch.
 * user_data is the slot's number; a slot has one SQE or CQE at a time, hence neither queue can
 * overflow and no completion can be late. Every CQE goes through env->ring_result and read_judge;
 * what must be read again goes back to the submission queue inside.
 *
 * Buffers are registered when the kernel allows. Files are not: a registered file outlives its
 * descriptor, so that after a reload the same number would still read the old generation; the
 * saving is some 30 ns a read.
 *
 * The event fd is registered from the start, but the kernel signals it only once somebody has asked
 * for it. */
#include "ring_backend.h"

#include "mem.h"

#include <errno.h>
#include <liburing.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define SUBMIT_RETRIES_MAX 16
#define REGISTER_BYTES_MAX ((size_t)1 << 30) /* of one registered buffer, by the kernel */
#define HELD_SLEEP_NS      1000000u

struct uring_state {
    struct io_uring uring;
    bool is_open;
    bool event_wanted;
    int event_fd;
    uint8_t *buffers; /* the registered region, or NULL */
    size_t buffers_bytes;
    struct ring_list held; /* completed, but a fault plan holds them back */
};

/* From the best set-up to what any kernel takes. DEFER_TASKRUN came with 6.1, SINGLE_ISSUER
 * with 6.0, COOP_TASKRUN with 5.19 and SUBMIT_ALL with 5.18; older kernels answer EINVAL.
 * TASKRUN_FLAG tells us, without a call, that work waits. */
static const unsigned setup_flags[] = {
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
        IORING_SETUP_SINGLE_ISSUER,
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_SUBMIT_ALL,
    0,
};

static int setup(struct uring_state *state, unsigned depth)
{
    int rc = -EINVAL;
    for (unsigned i = 0; rc == -EINVAL && i < sizeof setup_flags / sizeof setup_flags[0]; i++)
        rc = io_uring_queue_init(depth, &state->uring, setup_flags[i]);
    if (rc < 0)
        return rc;
    state->is_open = true;
    (void)io_uring_register_ring_fd(&state->uring); /* since 5.18; spares each call a look-up */
    /* Without EXT_ARG (5.11) a wait with a time limit needs a submission entry of its own. */
    return state->uring.features & IORING_FEAT_EXT_ARG ? 0 : -ENOSYS;
}

static int register_event_fd(struct uring_state *state)
{
    state->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (state->event_fd < 0)
        return -errno;
    int rc = io_uring_register_eventfd(&state->uring, state->event_fd);
    return rc < 0 ? rc : io_uring_cq_eventfd_toggle(&state->uring, false);
}

/* Pinned memory counts against RLIMIT_MEMLOCK; plain reads answer the same, a little slower. */
static void register_buffers(struct uring_state *state, const struct ring_options *options)
{
    if (!options->buffers || options->buffers_bytes == 0 ||
        options->buffers_bytes > REGISTER_BYTES_MAX)
        return;
    struct iovec region = {.iov_base = options->buffers, .iov_len = options->buffers_bytes};
    if (io_uring_register_buffers(&state->uring, &region, 1) < 0)
        return;
    state->buffers = options->buffers;
    state->buffers_bytes = options->buffers_bytes;
}

static int uring_init(struct ring *ring, const struct ring_options *options)
{
    struct uring_state *state = mem_alloc(sizeof *state);
    if (!state)
        return -ENOMEM;
    state->event_fd = -1;
    ring->state = state;
    int rc = setup(state, options->depth);
    if (rc == 0)
        rc = register_event_fd(state);
    if (rc == 0)
        register_buffers(state, options);
    return rc;
}

/* ---- submitting ---- */

static bool is_registered(const struct uring_state *state, const uint8_t *at, size_t bytes)
{
    if (!state->buffers || at < state->buffers)
        return false;
    size_t start = (size_t)(at - state->buffers);
    return start <= state->buffers_bytes && bytes <= state->buffers_bytes - start;
}

static int uring_queue(struct ring *ring, struct ring_slot *slot)
{
    struct uring_state *state = ring->state;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&state->uring);
    if (!sqe)
        return -EAGAIN;
    uint8_t *at = slot->buf + slot->read.done;
    unsigned bytes = (unsigned)(slot->read.bytes - slot->read.done);
    uint64_t offset = slot->read.offset + slot->read.done;
    if (is_registered(state, at, bytes))
        io_uring_prep_read_fixed(sqe, slot->fd, at, bytes, offset, 0);
    else
        io_uring_prep_read(sqe, slot->fd, at, bytes, offset);
    io_uring_sqe_set_data64(sqe, (uint64_t)(slot - ring->slots));
    return 0;
}

static unsigned unsubmitted(const struct uring_state *state)
{
    return io_uring_sq_ready(&state->uring);
}

static bool may_pass(int rc)
{
    return rc == -EINTR || rc == -EAGAIN || rc == -EBUSY;
}

/* One call, as a rule; more only when the kernel has taken a part or was short of something. */
static int uring_submit(struct ring *ring)
{
    struct uring_state *state = ring->state;
    int rc = 0;
    for (unsigned tries = 0; unsubmitted(state) && tries <= SUBMIT_RETRIES_MAX; tries++) {
        ring->counters.submits++;
        rc = io_uring_submit(&state->uring);
        if (rc < 0 && !may_pass(rc))
            return rc;
    }
    return unsubmitted(state) ? (rc < 0 ? rc : -EAGAIN) : 0;
}

/* ---- collecting ---- */

/* Reads that the kernel has, or whose CQE we have not seen. */
static unsigned in_kernel(const struct ring *ring)
{
    const struct uring_state *state = ring->state;
    return ring_in_flight(ring) - ring->finished.count - state->held.count - unsubmitted(state);
}

/* The raw result of a slot is known. The buffer is ours while the env and the rule look at it. */
static void settle(struct ring *ring, struct ring_slot *slot, int result)
{
    struct uring_state *state = ring->state;
    const struct env *env = ring->env;
    ring_slot_unpoison(slot);
    int settled = env->ring_result(env->context, result, slot->buf + slot->read.done);
    if (settled == -EINPROGRESS) {
        slot->result = result;
        ring_slot_poison(slot);
        ring_list_push(&state->held, slot);
        return;
    }
    size_t asked = slot->read.bytes - slot->read.done;
    int rc = read_judge(env, slot->fd, &slot->read, asked, settled);
    if (rc == READ_AGAIN) {
        ring->counters.retries++;
        rc = uring_queue(ring, slot);
        if (rc == 0) {
            ring_slot_poison(slot);
            return;
        }
    }
    ring_slot_finish(ring, slot, rc);
}

/* Asks again about each read that was held back; those that still are go to the end of the list. */
static void settle_held(struct ring *ring)
{
    struct uring_state *state = ring->state;
    for (unsigned left = state->held.count; left; left--) {
        struct ring_slot *slot = ring_list_pop(&state->held);
        settle(ring, slot, slot->result);
    }
}

/* Takes every CQE that is there; enters the kernel only when it has told us that work waits for
 * that. */
static void collect(struct ring *ring)
{
    struct uring_state *state = ring->state;
    struct io_uring_cqe *cqe;
    settle_held(ring);
    while (in_kernel(ring) && io_uring_peek_cqe(&state->uring, &cqe) == 0) {
        uint64_t number = io_uring_cqe_get_data64(cqe);
        int result = cqe->res;
        io_uring_cqe_seen(&state->uring, cqe);
        if (number < ring->depth)
            settle(ring, &ring->slots[number], result);
    }
}

/* Submits and sleeps until `count` CQEs have come or the deadline has. What the call returns is not
 * trusted: the caller looks at the queue. */
static int sleep_for(struct ring *ring, unsigned count, uint64_t deadline_ns)
{
    struct uring_state *state = ring->state;
    uint64_t now = env_clock_ns(ring->env);
    if (now >= deadline_ns)
        return -ETIME;
    uint64_t left = deadline_ns - now;
    bool is_holding = state->held.count > 0, is_limited = deadline_ns != UINT64_MAX || is_holding;
    if (is_holding && left > HELD_SLEEP_NS)
        left = HELD_SLEEP_NS;
    unsigned in_reach = in_kernel(ring) + unsubmitted(state);
    if (in_reach == 0) {
        nanosleep(&(struct timespec){.tv_nsec = HELD_SLEEP_NS}, NULL);
        return 0;
    }
    struct __kernel_timespec limit = {.tv_sec = (int64_t)(left / 1000000000u),
                                      .tv_nsec = (long long)(left % 1000000000u)};
    struct io_uring_cqe *cqe;
    ring->counters.submits += unsubmitted(state) > 0;
    int rc = io_uring_submit_and_wait_timeout(
        &state->uring, &cqe, count < in_reach ? count : in_reach, is_limited ? &limit : NULL, NULL);
    return rc == -ETIME || rc >= 0 ? 0 : rc;
}

/* A signal (EINTR) does not end the wait: the reads do, or the deadline. Being short of something
 * may last, so that is bounded. */
static int uring_wait(struct ring *ring, unsigned wait_min, uint64_t deadline_ns)
{
    int rc = wait_min ? 0 : uring_submit(ring);
    unsigned tries = 0;
    collect(ring);
    while (ring->finished.count < wait_min) {
        rc = sleep_for(ring, wait_min - ring->finished.count, deadline_ns);
        collect(ring);
        if (rc == -ETIME)
            return uring_submit(ring);
        if (rc < 0 && rc != -EINTR && (!may_pass(rc) || ++tries > SUBMIT_RETRIES_MAX))
            return rc;
    }
    return rc < 0 && !may_pass(rc) ? rc : uring_submit(ring);
}

/* ---- the event fd ---- */

static void wake(const struct uring_state *state)
{
    ssize_t put = write(state->event_fd, &(uint64_t){1}, sizeof(uint64_t));
    (void)put; /* EAGAIN: the counter is full, hence readable already */
}

static bool kernel_has_news(const struct uring_state *state)
{
    unsigned flags = __atomic_load_n(state->uring.sq.kflags, __ATOMIC_ACQUIRE);
    return io_uring_cq_ready(&state->uring) ||
           (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

static void uring_reap_begin(struct ring *ring)
{
    struct uring_state *state = ring->state;
    uint64_t count;
    if (state->event_wanted) {
        ssize_t got = read(state->event_fd, &count, sizeof count);
        (void)got; /* EAGAIN: nobody has signalled */
    }
}

/* The kernel signals only what is new, so what this reap has left behind needs a signal of ours. A
 * read that a fault plan holds back keeps the loop turning until it is let go. */
static void uring_reap_end(struct ring *ring)
{
    const struct uring_state *state = ring->state;
    if (state->event_wanted &&
        (ring->finished.count || state->held.count || unsubmitted(state) || kernel_has_news(state)))
        wake(state);
}

static int uring_event_fd(const struct ring *ring)
{
    struct uring_state *state = ring->state;
    if (!state->event_wanted && io_uring_cq_eventfd_toggle(&state->uring, true) == 0) {
        state->event_wanted = true;
        wake(state); /* for what came before anybody listened */
    }
    return state->event_fd;
}

/* ---- the end ---- */

/* The kernel may still write to the buffers of submitted reads, so their completions are awaited;
 * and a read that is held back stands for one that the kernel still has. */
static void wait_for_kernel(struct ring *ring)
{
    struct uring_state *state = ring->state;
    struct io_uring_cqe *cqe;
    for (unsigned left = in_kernel(ring); left;) {
        int rc = io_uring_wait_cqe(&state->uring, &cqe);
        if (rc == 0) {
            io_uring_cqe_seen(&state->uring, cqe);
            left--;
        } else if (!may_pass(rc)) {
            break;
        }
    }
    while (state->held.count) {
        settle_held(ring);
        nanosleep(&(struct timespec){.tv_nsec = state->held.count ? HELD_SLEEP_NS : 0}, NULL);
    }
}

static void uring_fini(struct ring *ring)
{
    struct uring_state *state = ring->state;
    if (!state)
        return;
    if (state->is_open) {
        wait_for_kernel(ring);
        io_uring_queue_exit(&state->uring);
    }
    if (state->event_fd >= 0)
        close(state->event_fd);
    mem_free(state);
    ring->state = NULL;
}

const struct ring_backend ring_uring_backend = {
    .engine = RING_URING,
    .init = uring_init,
    .fini = uring_fini,
    .queue = uring_queue,
    .submit = uring_submit,
    .wait = uring_wait,
    .reap_begin = uring_reap_begin,
    .reap_end = uring_reap_end,
    .event_fd = uring_event_fd,
};
