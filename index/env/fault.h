/* A fault wrapper round another env, for tests: it counts every operation and fails those that a
 * plan names. The same plan gives the same faults again, so a failing test prints its plan and that
 * is the reproduction.
 *
 *     struct fault_env fault;
 *     fault_init(&fault, env_os(), "op=17:ENOSPC", &err);
 *     ... run with &fault.env ...
 *     if (!fault_fired(&fault)) ...    // fewer than 17 operations: the loop over n is over
 *
 * An empty plan only counts. A plan is rules joined with ';', each TARGET:ACTION; the first rule
 * that matches acts.
 *
 *     op=17        the 17th operation of the table by any thread, from 1: open close pread pwrite
 *                  read fdatasync fsync ftruncate fstat rename unlink rmdir mkdir list flock
 *                  map_large
 *     read#5       the 5th raw result of reading a file: completions of a ring on either engine,
 *                  preads of file_read_full, env->read
 *     alloc#88     the 88th allocation; needs mem_set_fault(fault_alloc, &fault)
 *     op=17+       from the 17th on, for ever (read# and alloc# too)
 *     read~20      one read in 20, picked by a hash of its number
 *     ring_init    each creation of an io_uring
 *
 *     ENOSPC       or any errno by name; the operation does not happen, but a close does close
 *     kill         SIGKILL, before the operation happens
 *     short=512    a transfer of at most so many bytes; short=0 is the end of the file
 *     flip=bit777  (reads) one bit is inverted: the 777th, modulo the bits that were read
 *     stall=50ms   (us, ms, s) later. A read of io_uring is held back while the ring goes on,
 *                  until then or until fault_release(); anything else sleeps
 *     fail         (alloc) there is no memory
 *
 * One pread of a ring or of file_read_full is both: counted as op= when it starts, and as read#
 * when its result passes env->ring_result; never twice as either. Reads of io_uring are no
 * operations, so read# numbers agree between the engines and op= numbers do not.
 *
 * The wrapper takes no lock and does not allocate; it may be shared by threads. */
#ifndef ENV_FAULT_H
#define ENV_FAULT_H

#include <stdatomic.h>

#include "env.h"

#define FAULT_RULES_MAX  16
#define FAULT_STALLS_MAX 256

enum fault_target { FAULT_OP, FAULT_READ, FAULT_READ_RANDOM, FAULT_ALLOC, FAULT_RING_INIT };
enum fault_action { FAULT_ERRNO, FAULT_KILL, FAULT_SHORT, FAULT_FLIP, FAULT_STALL, FAULT_FAIL };

struct fault_rule {
    enum fault_target target;
    enum fault_action action;
    uint64_t at;    /* which one; of FAULT_READ_RANDOM: one in so many */
    bool onward;    /* and all that follow */
    uint64_t value; /* errno (positive), bytes, bit or ns */
};

/* A read that is held back. Its buffer names it: no two reads in flight share one. */
struct fault_stall {
    _Atomic(void *) buf;
    uint64_t due_ns; /* written and read by the thread that owns the ring */
};

struct fault_env {
    struct env env; /* what to hand to the code under test */
    const struct env *inner;
    struct fault_rule rules[FAULT_RULES_MAX];
    unsigned rule_count;
    /* Relaxed throughout: they only count. */
    atomic_uint_fast64_t ops, reads, allocs, fired;
    struct fault_stall stalls[FAULT_STALLS_MAX];
    atomic_bool released; /* relaxed: who waits for it asks again */
};

/* plan NULL is empty. FATHOM_EARGUMENT names what it cannot read. fault must not move while it is
 * in use. */
int fault_init(struct fault_env *fault, const struct env *inner, const char *plan,
               struct fathom_error *err) FATHOM_MUST_USE;
uint64_t fault_ops(const struct fault_env *fault);
uint64_t fault_reads(const struct fault_env *fault);
uint64_t fault_allocs(const struct fault_env *fault);
uint64_t fault_fired(const struct fault_env *fault); /* how often a rule has acted */
/* Holds no read back any more. A test says with it when a device is no longer stuck, rather than
 * guess how long it itself will take. */
void fault_release(struct fault_env *fault);
/* For mem_set_fault: counts an allocation and says whether it fails. */
bool fault_alloc(void *fault);

#endif
