/* Between ring.c and its two backends: the ring, its slots, and the table that each backend fills.
 *
 * A slot is one read from ring_read until its completion is handed out. It is always in exactly one
 * place: the free list, the backend's hands, or the list `finished`. Slots are never allocated
 * after ring_create. */
#ifndef ENV_RING_BACKEND_H
#define ENV_RING_BACKEND_H

#include "asan.h"
#include "read_rule.h"
#include "ring.h"

#if HAS_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)   ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

struct ring_slot {
    struct ring_slot *next; /* in a list */
    uint8_t *buf;
    uint64_t tag;
    struct read_rule read;
    int fd;
    int32_t result; /* raw while it is held back, final once finished */
};

struct ring_list {
    struct ring_slot *first, *last;
    unsigned count;
};

struct ring_backend {
    enum ring_engine engine;
    int (*init)(struct ring *ring, const struct ring_options *options);
    void (*fini)(
        struct ring *ring); /* waits for reads in flight; accepts what a failed init left */
    int (*queue)(struct ring *ring, struct ring_slot *slot);
    int (*submit)(struct ring *ring);
    /* Moves at least wait_min slots to finished unless deadline_ns (UINT64_MAX: none) is first. */
    int (*wait)(struct ring *ring, unsigned wait_min, uint64_t deadline_ns);
    /* Brackets each ring_reap for the event fd: forget past wake-ups, and wake again for what was
     * left behind. */
    void (*reap_begin)(struct ring *ring);
    void (*reap_end)(struct ring *ring);
    int (*event_fd)(const struct ring *ring);
};

struct ring {
    const struct ring_backend *backend;
    const struct env *env;
    void *state; /* the backend's own */
    struct ring_slot *slots;
    struct ring_list idle, finished;
    unsigned depth;
    struct ring_counters counters;
    char fallback_reason[256];
};

extern const struct ring_backend ring_uring_backend, ring_pread_backend;

static inline void ring_list_push(struct ring_list *list, struct ring_slot *slot)
{
    slot->next = NULL;
    if (list->last)
        list->last->next = slot;
    else
        list->first = slot;
    list->last = slot;
    list->count++;
}

static inline struct ring_slot *ring_list_pop(struct ring_list *list)
{
    struct ring_slot *slot = list->first;
    if (!slot)
        return NULL;
    list->first = slot->next;
    if (!list->first)
        list->last = NULL;
    list->count--;
    return slot;
}

/* While a read is queued or in flight, whoever else touches its buffer is caught by
 * AddressSanitizer. */
static inline void ring_slot_poison(const struct ring_slot *slot)
{
    ASAN_POISON_MEMORY_REGION(slot->buf, slot->read.bytes);
}

static inline void ring_slot_unpoison(const struct ring_slot *slot)
{
    ASAN_UNPOISON_MEMORY_REGION(slot->buf, slot->read.bytes);
}

/* The slot's read is over with 0 or a negative code. */
static inline void ring_slot_finish(struct ring *ring, struct ring_slot *slot, int rc)
{
    slot->result = rc < 0 ? rc : (int32_t)slot->read.bytes;
    if (rc == 0)
        ring->counters.bytes += slot->read.bytes;
    ring_list_push(&ring->finished, slot);
}

#endif
