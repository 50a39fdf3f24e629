/* Blocks of work over threads. The next block and the first failure are the only shared state. */
#include "crew.h"

#include <errno.h>
#include <stdatomic.h>

struct run {
    const struct crew *crew;
    uint64_t blocks;
    int (*fn)(void *context, uint64_t block, unsigned worker);
    void *context;
    /* Relaxed: blocks are independent, and joining the threads publishes what they wrote. */
    _Atomic uint64_t next;
    _Atomic int status;
};

static void run_worker(void *context, unsigned worker)
{
    struct run *run = context;
    while (atomic_load_explicit(&run->status, memory_order_relaxed) == 0) {
        uint64_t block = atomic_fetch_add_explicit(&run->next, 1, memory_order_relaxed);
        if (block >= run->blocks)
            return;
        int status =
            crew_stopped(run->crew) ? FATHOM_EINTERRUPTED : run->fn(run->context, block, worker);
        int none = 0;
        if (status != 0)
            atomic_compare_exchange_strong_explicit(&run->status, &none, status,
                                                    memory_order_relaxed, memory_order_relaxed);
    }
}

int crew_run(const struct crew *crew, uint64_t blocks,
             int (*fn)(void *context, uint64_t block, unsigned worker), void *context)
{
    struct run run = {.crew = crew, .blocks = blocks, .fn = fn, .context = context};
    unsigned threads = crew->threads < blocks ? crew->threads : (unsigned)blocks;
    if (threads <= 1) {
        run_worker(&run, 0);
        return run.status;
    }
    int status = env_run_parallel(threads, run_worker, &run);
    /* A worker's own failure says more than a thread that could not start. */
    return run.status != 0 ? run.status : status;
}

bool crew_stopped(const struct crew *crew)
{
    return crew->watch.stopped && crew->watch.stopped(crew->watch.context);
}

void crew_phase(const struct crew *crew, const char *phase, uint64_t total, const char *unit)
{
    if (crew->watch.phase)
        crew->watch.phase(crew->watch.context, phase, total, unit);
}

void crew_advance(const struct crew *crew, uint64_t done)
{
    if (crew->watch.advance)
        crew->watch.advance(crew->watch.context, done);
}

void crew_expect(const struct crew *crew, const struct build_phase *phases, unsigned count)
{
    if (crew->watch.expect)
        crew->watch.expect(crew->watch.context, phases, count);
}

void crew_note(const struct crew *crew, const char *text)
{
    if (crew->watch.note)
        crew->watch.note(crew->watch.context, text);
}

/* ---- steps ---- */

static bool step_stopped(void *context)
{
    const struct crew_step *step = context;
    return crew_stopped(step->whole);
}

static void step_advance(void *context, uint64_t done)
{
    const struct crew_step *step = context;
    crew_advance(step->whole, step->from + (uint64_t)(step->scale * (double)done));
}

const struct crew *crew_step(struct crew_step *step, const struct crew *whole, uint64_t from,
                             uint64_t to, uint64_t total)
{
    *step = (struct crew_step){
        .crew = {.threads = whole->threads,
                 .watch = {.stopped = step_stopped, .advance = step_advance, .context = step}},
        .whole = whole,
        .from = from,
        .scale = total ? (double)(to - from) / (double)total : 0};
    return &step->crew;
}
