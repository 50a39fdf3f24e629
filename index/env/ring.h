/* A ring of reads: batched, asynchronous, page-aligned. Two backends with the same answers:
 * io_uring, and pread for where io_uring is refused (containers, small RLIMIT_MEMLOCK) and for
 * tools that must see each read.
 *
 * Use: queue reads with ring_read, hand them over with ring_submit, collect with ring_reap. A
 * buffer belongs to the ring from ring_read until its completion is reaped, whatever happens to the
 * query meanwhile. One thread owns a ring: the one that created it. */
#ifndef ENV_RING_H
#define ENV_RING_H

#include "env.h"

enum ring_engine { RING_AUTO, RING_URING, RING_PREAD };

struct ring;

struct ring_options {
    enum ring_engine engine; /* AUTO: io_uring, or pread with a fallback reason when refused */
    unsigned depth;          /* reads in flight at the most, 1..4096 */
    void *buffers;           /* optional region of all reads; registered when the kernel allows */
    size_t buffers_bytes;
};

struct ring_completion {
    uint64_t tag;   /* as given to ring_read */
    int32_t result; /* the bytes asked for, or -errno; -ENODATA when the file ended before them */
};

struct ring_counters {
    uint64_t reads, bytes, retries, submits;
};

int ring_create(struct ring **out, const struct env *env, const struct ring_options *options,
                struct fathom_error *err) FATHOM_MUST_USE;
/* Waits for reads in flight, then frees. Accepts NULL. */
void ring_destroy(struct ring *ring);

/* Queues one read. Returns 0, or -EAGAIN when depth reads are already queued or in flight. Short
 * reads, EINTR and EAGAIN of the OS are retried inside, with a bound. */
int ring_read(struct ring *ring, int fd, void *buf, uint32_t bytes, uint64_t offset,
              uint64_t tag) FATHOM_MUST_USE;
/* Hands queued reads to the kernel in one call, none in no call. Returns 0 or -errno. */
int ring_submit(struct ring *ring) FATHOM_MUST_USE;
/* Fills up to max completions and returns how many (>= 0), or -errno. wait_min 0 never blocks;
 * otherwise blocks until that many have arrived or timeout_ns has passed (0 = no limit). Submits
 * what is queued. */
int ring_reap(struct ring *ring, struct ring_completion *out, unsigned max, unsigned wait_min,
              uint64_t timeout_ns) FATHOM_MUST_USE;
/* Reads that were queued and not yet reaped. */
unsigned ring_in_flight(const struct ring *ring);
/* An fd that polls readable when completions may be waiting, for an event loop; -1 for pread (whose
 * reads complete inside ring_submit). Owned by the ring. */
int ring_event_fd(const struct ring *ring);
enum ring_engine ring_engine(const struct ring *ring);
/* Why AUTO fell back to pread and what to do about it; NULL when it did not. */
const char *ring_fallback_reason(const struct ring *ring);
struct ring_counters ring_counters(const struct ring *ring);

#endif
