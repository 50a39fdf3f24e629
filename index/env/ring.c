/* The ring that programs see: slots, depth, the choice of a backend and the reason for a fallback.
 * Knows nothing of how a read is done (ring_uring.c, ring_pread.c) and nothing of what is read. */
#include "ring.h"

#include "error.h"
#include "mem.h"
#include "ring_backend.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define RING_DEPTH_MAX 4096

static const char *uring_remedy(int code)
{
    switch (code) {
    case -EPERM:
    case -EACCES:
        return "allow io_uring in the container's seccomp profile and set the sysctl "
               "kernel.io_uring_disabled to 0";
    case -ENOSYS:
        return "use Linux 5.11 or newer, or allow io_uring in the container's seccomp profile";
    case -ENOMEM:
        return "raise RLIMIT_MEMLOCK (ulimit -l) or the container's memory limit";
    case -EMFILE:
    case -ENFILE:
        return "raise the limit of open files (ulimit -n)";
    default:
        return "see the kernel log";
    }
}

/* The errno's name: "EPERM" is what people search for. */
static const char *code_name(int code)
{
    const char *name = strerrorname_np(-code);
    return name ? name : "unknown error";
}

static int slots_init(struct ring *ring)
{
    ring->slots = mem_alloc_array(ring->depth, sizeof *ring->slots);
    if (!ring->slots)
        return -ENOMEM;
    for (unsigned i = 0; i < ring->depth; i++)
        ring_list_push(&ring->idle, &ring->slots[i]);
    return 0;
}

static int try_uring(struct ring *ring, const struct ring_options *options)
{
    int rc = ring->env->ring_init(ring->env->context);
    if (rc < 0)
        return rc;
    ring->backend = &ring_uring_backend;
    rc = ring->backend->init(ring, options);
    if (rc < 0) {
        ring->backend->fini(ring);
        ring->backend = NULL;
    }
    return rc;
}

static int choose_backend(struct ring *ring, const struct ring_options *options,
                          struct fathom_error *err)
{
    if (options->engine != RING_PREAD) {
        int rc = try_uring(ring, options);
        if (rc == 0)
            return 0;
        if (options->engine == RING_URING)
            return error_set(err, rc, "io_uring is refused (%s); %s, or use pread", code_name(rc),
                             uring_remedy(rc));
        snprintf(ring->fallback_reason, sizeof ring->fallback_reason,
                 "io_uring is refused (%s); using pread; %s", code_name(rc), uring_remedy(rc));
    }
    ring->backend = &ring_pread_backend;
    int rc = ring->backend->init(ring, options);
    return rc < 0 ? error_set(err, rc, "no memory for a ring of %u reads", ring->depth) : 0;
}

int ring_create(struct ring **out, const struct env *env, const struct ring_options *options,
                struct fathom_error *err)
{
    *out = NULL;
    if (options->depth == 0 || options->depth > RING_DEPTH_MAX)
        return error_set(err, FATHOM_EARGUMENT, "ring depth %u is not within 1..%d", options->depth,
                         RING_DEPTH_MAX);
    if (options->engine > RING_PREAD)
        return error_set(err, FATHOM_EARGUMENT, "unknown ring engine %d", (int)options->engine);
    struct ring *ring = mem_alloc(sizeof *ring);
    if (!ring)
        return error_set(err, -ENOMEM, "no memory for a ring of %u reads", options->depth);
    ring->env = env;
    ring->depth = options->depth;
    int rc = slots_init(ring);
    if (rc < 0)
        error_set(err, rc, "no memory for a ring of %u reads", options->depth);
    else
        rc = choose_backend(ring, options, err);
    if (rc < 0) {
        ring_destroy(ring);
        return rc;
    }
    *out = ring;
    return 0;
}

void ring_destroy(struct ring *ring)
{
    if (!ring)
        return;
    if (ring->backend)
        ring->backend->fini(ring);
    for (unsigned i = 0; ring->slots && i < ring->depth; i++)
        if (ring->slots[i].buf)
            ring_slot_unpoison(&ring->slots[i]);
    mem_free(ring->slots);
    mem_free(ring);
}

int ring_read(struct ring *ring, int fd, void *buf, uint32_t bytes, uint64_t offset, uint64_t tag)
{
    if (bytes == 0 || bytes > INT32_MAX || !buf)
        return FATHOM_EARGUMENT;
    struct ring_slot *slot = ring_list_pop(&ring->idle);
    if (!slot)
        return -EAGAIN;
    *slot = (struct ring_slot){
        .buf = buf, .tag = tag, .fd = fd, .read = {.offset = offset, .bytes = bytes}};
    ring_slot_poison(slot);
    int rc = ring->backend->queue(ring, slot);
    if (rc < 0) {
        ring_slot_unpoison(slot);
        slot->buf = NULL;
        ring_list_push(&ring->idle, slot);
        return rc;
    }
    ring->counters.reads++;
    return 0;
}

int ring_submit(struct ring *ring)
{
    return ring->backend->submit(ring);
}

static unsigned hand_out(struct ring *ring, struct ring_completion *out, unsigned max)
{
    unsigned count = 0;
    while (count < max && ring->finished.count) {
        struct ring_slot *slot = ring_list_pop(&ring->finished);
        out[count++] = (struct ring_completion){.tag = slot->tag, .result = slot->result};
        slot->buf = NULL;
        ring_list_push(&ring->idle, slot);
    }
    return count;
}

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Waiting for more than is outstanding would be for ever, so wait_min is cut down to it. A failure
 * is reported only when nothing has completed; otherwise it shows up again in the next call. */
int ring_reap(struct ring *ring, struct ring_completion *out, unsigned max, unsigned wait_min,
              uint64_t timeout_ns)
{
    const struct env *env = ring->env;
    uint64_t deadline_ns = UINT64_MAX;
    wait_min = smaller(wait_min, smaller(max, ring_in_flight(ring)));
    if (wait_min && timeout_ns &&
        __builtin_add_overflow(env_clock_ns(env), timeout_ns, &deadline_ns))
        deadline_ns = UINT64_MAX;
    if (ring->backend->reap_begin)
        ring->backend->reap_begin(ring);
    int rc = ring->backend->wait(ring, wait_min, deadline_ns);
    unsigned count = hand_out(ring, out, smaller(max, INT_MAX));
    if (ring->backend->reap_end)
        ring->backend->reap_end(ring);
    return count == 0 && rc < 0 ? rc : (int)count;
}

unsigned ring_in_flight(const struct ring *ring)
{
    return ring->depth - ring->idle.count;
}

int ring_event_fd(const struct ring *ring)
{
    return ring->backend->event_fd ? ring->backend->event_fd(ring) : -1;
}

enum ring_engine ring_engine(const struct ring *ring)
{
    return ring->backend->engine;
}

const char *ring_fallback_reason(const struct ring *ring)
{
    return ring->fallback_reason[0] ? ring->fallback_reason : NULL;
}

struct ring_counters ring_counters(const struct ring *ring)
{
    return ring->counters;
}
