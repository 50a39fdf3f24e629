/* Watching CPUs (see stops.h). Each thread writes what it saw to its own part; it is read when all
 * have ended. Never prints. */
#include "stops.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "mem.h"

#define PERIOD_NS 500000u
#define SEEN_MAX  4096 /* of a CPU; those after it are lost */
#define CPUS_MAX  64
#define PRIORITY  98 /* above whatever is measured */
#define CATCH_UP  2  /* times as long as it was away */

struct stop {
    uint64_t from_ns, until_ns;
};

struct watcher {
    struct stops *stops;
    pthread_t thread;
    unsigned cpu;
    bool runs;
    size_t count;
    struct stop seen[SEEN_MAX];
};

struct stops {
    const struct env *env;
    atomic_bool ends;
    unsigned count;
    struct watcher *watchers[CPUS_MAX];
};

static bool is_ready(unsigned cpu)
{
    static const struct sched_param highest = {.sched_priority = PRIORITY};
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
    return sched_setaffinity(0, sizeof cpus, &cpus) == 0 &&
           sched_setscheduler(0, SCHED_FIFO, &highest) == 0;
}

static void note(struct watcher *watcher, uint64_t from_ns, uint64_t until_ns)
{
    if (until_ns - from_ns < STOPS_LEAST_NS || watcher->count == SEEN_MAX)
        return;
    watcher->seen[watcher->count++] = (struct stop){from_ns, until_ns};
}

/* A tick that was missed while away is not waited for again. */
static void *watch(void *context)
{
    struct watcher *watcher = context;
    struct stops *stops = watcher->stops;
    watcher->runs = is_ready(watcher->cpu);
    uint64_t due_ns = env_clock_ns(stops->env) + PERIOD_NS;
    while (watcher->runs && !atomic_load_explicit(&stops->ends, memory_order_relaxed)) {
        const struct timespec due = {.tv_sec = (time_t)(due_ns / 1000000000u),
                                     .tv_nsec = (long)(due_ns % 1000000000u)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        uint64_t now_ns = env_clock_ns(stops->env);
        if (now_ns > due_ns)
            note(watcher, due_ns, now_ns);
        due_ns += PERIOD_NS;
        if (due_ns < now_ns)
            due_ns = now_ns + PERIOD_NS;
    }
    return NULL;
}

static bool add_watcher(struct stops *stops, unsigned cpu)
{
    struct watcher *watcher = mem_alloc(sizeof *watcher);
    if (!watcher)
        return false;
    *watcher = (struct watcher){.stops = stops, .cpu = cpu};
    if (pthread_create(&watcher->thread, NULL, watch, watcher)) {
        mem_free(watcher);
        return false;
    }
    stops->watchers[stops->count++] = watcher;
    return true;
}

struct stops *stops_begin(const struct env *env)
{
    cpu_set_t cpus;
    struct stops *stops = mem_alloc(sizeof *stops);
    if (!stops)
        return NULL;
    stops->env = env;
    if (sched_getaffinity(0, sizeof cpus, &cpus))
        CPU_ZERO(&cpus);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE && stops->count < CPUS_MAX; cpu++)
        if (CPU_ISSET(cpu, &cpus) && !add_watcher(stops, cpu))
            break;
    return stops;
}

void stops_end(struct stops *stops)
{
    if (!stops)
        return;
    atomic_store_explicit(&stops->ends, true, memory_order_relaxed);
    for (unsigned i = 0; i < stops->count; i++)
        pthread_join(stops->watchers[i]->thread, NULL);
}

void stops_summarize(const struct stops *stops, struct stops_summary *out)
{
    *out = (struct stops_summary){0};
    for (unsigned i = 0; stops && i < stops->count; i++) {
        const struct watcher *watcher = stops->watchers[i];
        out->cpus += watcher->runs;
        out->count += watcher->count;
        for (size_t s = 0; s < watcher->count; s++) {
            uint64_t away_ns = watcher->seen[s].until_ns - watcher->seen[s].from_ns;
            out->lost_ns += away_ns;
            if (away_ns > out->longest_ns)
                out->longest_ns = away_ns;
        }
    }
}

static bool is_touched(const struct watcher *watcher, uint64_t from_ns, uint64_t until_ns)
{
    size_t low = 0, high = watcher->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (watcher->seen[middle].from_ns < until_ns)
            low = middle + 1;
        else
            high = middle;
    }
    /* One that ended long before may have been the longer. */
    for (size_t back = 0; back < 8 && back < low; back++) {
        const struct stop *stop = &watcher->seen[low - 1 - back];
        if (stop->until_ns + CATCH_UP * (stop->until_ns - stop->from_ns) > from_ns)
            return true;
    }
    return false;
}

bool stops_touch(const struct stops *stops, uint64_t from_ns, uint64_t until_ns)
{
    for (unsigned i = 0; stops && i < stops->count; i++)
        if (is_touched(stops->watchers[i], from_ns, until_ns))
            return true;
    return false;
}

void stops_destroy(struct stops *stops)
{
    if (!stops)
        return;
    for (unsigned i = 0; i < stops->count; i++)
        mem_free(stops->watchers[i]);
    mem_free(stops);
}

/* ---- for tests ---- */

struct stops *stops_make(void)
{
    struct stops *stops = mem_alloc(sizeof *stops);
    struct watcher *watcher = mem_alloc(sizeof *watcher);
    if (!stops || !watcher) {
        mem_free(stops);
        mem_free(watcher);
        return NULL;
    }
    watcher->runs = true;
    stops->watchers[stops->count++] = watcher;
    return stops;
}

void stops_add(struct stops *stops, uint64_t from_ns, uint64_t until_ns)
{
    note(stops->watchers[0], from_ns, until_ns);
}
