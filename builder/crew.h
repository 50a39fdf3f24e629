/* Running a stage on all threads. Work is cut into numbered blocks; whoever is free takes the next
 * one. What a block computes may depend on its number alone, never on the worker, so that results
 * do not depend on the threads. */
#ifndef BUILDER_CREW_H
#define BUILDER_CREW_H

#include "builder.h"

struct crew {
    unsigned threads; /* at least 1 */
    struct build_watch watch;
};

/* Calls fn for block = 0..blocks-1. Stops early at the first failure, which it returns, or with
 * FATHOM_EINTERRUPTED when the watch says so. */
int crew_run(const struct crew *crew, uint64_t blocks,
             int (*fn)(void *context, uint64_t block, unsigned worker),
             void *context) FATHOM_MUST_USE;

bool crew_stopped(const struct crew *crew);
void crew_phase(const struct crew *crew, const char *phase, uint64_t total, const char *unit);
void crew_advance(const struct crew *crew, uint64_t done);
void crew_expect(const struct crew *crew, const struct build_phase *phases, unsigned count);
void crew_note(const struct crew *crew, const char *text);

/* A step of a phase: a crew whose progress, `done` of `total`, moves the phase from `from` to `to`.
 * It begins no phase. */
struct crew_step {
    struct crew crew;
    const struct crew *whole;
    uint64_t from;
    double scale;
};

/* Returns the step's crew, for as long as *step is and stays where it is. */
const struct crew *crew_step(struct crew_step *step, const struct crew *whole, uint64_t from,
                             uint64_t to, uint64_t total);

static inline uint64_t crew_blocks(uint64_t count, uint64_t per_block)
{
    return (count + per_block - 1) / per_block;
}

#endif
