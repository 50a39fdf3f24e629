/* The portable backend: queued reads are done one by one inside ring_submit, on the caller's
 * thread. For where io_uring is refused, and for Valgrind and the sanitizers, which can follow a
 * pread but not the kernel's writes.
 *
 * Each read goes through env->pread and then through env->ring_result, like a completion of
 * io_uring. */
#include "ring_backend.h"

#include "mem.h"

#include <errno.h>

struct pread_state {
    struct ring_list queued;
};

static int pread_init(struct ring *ring, const struct ring_options *options)
{
    (void)options;
    ring->state = mem_alloc(sizeof(struct pread_state));
    return ring->state ? 0 : -ENOMEM;
}

/* Nothing is ever in flight between two calls; what is only queued is dropped. */
static void pread_fini(struct ring *ring)
{
    mem_free(ring->state);
    ring->state = NULL;
}

static int pread_queue(struct ring *ring, struct ring_slot *slot)
{
    struct pread_state *state = ring->state;
    ring_list_push(&state->queued, slot);
    return 0;
}

static int pread_submit(struct ring *ring)
{
    struct pread_state *state = ring->state;
    struct ring_slot *slot = ring_list_pop(&state->queued);
    if (!slot)
        return 0;
    ring->counters.submits++;
    for (; slot; slot = ring_list_pop(&state->queued)) {
        ring_slot_unpoison(slot);
        int rc = read_all(ring->env, slot->fd, slot->buf, &slot->read, &ring->counters.retries);
        ring_slot_finish(ring, slot, rc);
    }
    return 0;
}

/* After a submit everything is finished, so there is nothing to wait for. */
static int pread_wait(struct ring *ring, unsigned wait_min, uint64_t deadline_ns)
{
    (void)wait_min;
    (void)deadline_ns;
    return pread_submit(ring);
}

const struct ring_backend ring_pread_backend = {
    .engine = RING_PREAD,
    .init = pread_init,
    .fini = pread_fini,
    .queue = pread_queue,
    .submit = pread_submit,
    .wait = pread_wait,
};
