/* Times in which a CPU was not there: the host of a virtual machine gave it to others, or an
 * interrupt had it. A thread of the highest priority on each CPU wakes every half millisecond; that
 * it wakes late is nobody's doing in this machine. A tail is told with and without what they
 * touched. Takes about a percent of each CPU, and makes the scheduler
 * place threads that do not run in real time badly: only for who asks (docs/adr/0040). */
#ifndef BENCH_STOPS_H
#define BENCH_STOPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "env.h"

struct stops;

struct stops_summary {
    unsigned cpus;  /* that were watched; 0: none, for want of the right to run in real time */
    uint64_t count; /* of more than STOPS_LEAST_NS */
    uint64_t lost_ns, longest_ns;
};

#define STOPS_LEAST_NS 200000u

/* Starts to watch. NULL when that is not allowed, or there is no memory: then nothing is known. */
struct stops *stops_begin(const struct env *env);
/* Stops watching; only then the others may be asked. NULL is taken by all. */
void stops_end(struct stops *stops);
void stops_summarize(const struct stops *stops, struct stops_summary *out);
/* Whether any CPU was away in this time, or had been so shortly before that what had piled up
 * meanwhile may not have been worked off: for twice as long as it was away. */
bool stops_touch(const struct stops *stops, uint64_t from_ns, uint64_t until_ns);
void stops_destroy(struct stops *stops);

/* For tests: as if a CPU had been seen to be away. */
struct stops *stops_make(void);
void stops_add(struct stops *stops, uint64_t from_ns, uint64_t until_ns);

#endif
