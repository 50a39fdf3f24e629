/* A machine of half the speed, or one that other work shares, is not known as such before some of
 * the work is done, and what comes first says least: reading and copying wait for a disk. So a few
 * hundredths of a second go to products of rows, which most of a build is, on all threads: blocks
 * that do not wait for each other, so that what runs beside them takes its share and no more. */
#include "pace.h"

#include <errno.h>

#include "error.h"
#include "kernel.h"
#include "mem.h"

#define ROWS      2048 /* within reach of a processor's own caches */
#define ROW_BYTES 128
#define BLOCKS    64
#define PASSES    10 /* of a block over all rows */

/* Threads that have just begun share a CPU for some milliseconds though another is idle: the
 * shortest of so many rounds is what counts. Work that runs beside them is there in all. */
#define ROUNDS 5

/* CPU time of all blocks of a round on the usual machine (docs/adr/0069). */
#define USUAL_SECONDS 0.0133

struct pace {
    int8_t *panel;
    uint8_t *rows;
    uint32_t *ids;
    int32_t *dots; /* of each worker */
};

static int run_block(void *context, uint64_t block, unsigned worker)
{
    const struct pace *pace = context;
    int32_t *dots = pace->dots + (size_t)worker * ROWS * KERNEL_PANEL;
    (void)block;
    for (int pass = 0; pass < PASSES; pass++)
        kernels_get()->dot_u8s8_panel(dots, pace->panel, pace->rows, ROW_BYTES, pace->ids, ROWS);
    return 0;
}

static void pace_fini(struct pace *pace)
{
    mem_free(pace->panel);
    mem_free(pace->rows);
    mem_free(pace->ids);
    mem_free(pace->dots);
}

/* What is in the rows does not matter. */
static int pace_init(struct pace *pace, unsigned threads)
{
    pace->panel = mem_alloc_array(KERNEL_PANEL, ROW_BYTES);
    pace->rows = mem_alloc_array(ROWS, ROW_BYTES);
    pace->ids = mem_alloc_array(ROWS, sizeof *pace->ids);
    pace->dots = mem_alloc_array((size_t)threads * ROWS, KERNEL_PANEL * sizeof *pace->dots);
    for (uint32_t i = 0; i < ROWS && pace->ids; i++)
        pace->ids[i] = i;
    return pace->panel && pace->rows && pace->ids && pace->dots ? 0 : -ENOMEM;
}

static int run_rounds(struct pace *pace, const struct crew *crew, const struct env *env,
                      uint64_t *shortest_ns)
{
    int status = 0;
    *shortest_ns = UINT64_MAX;
    for (int round = 0; round < ROUNDS && status == 0; round++) {
        uint64_t start = env_clock_ns(env);
        status = crew_run(crew, BLOCKS, run_block, pace);
        uint64_t took = env_clock_ns(env) - start;
        *shortest_ns = took < *shortest_ns ? took : *shortest_ns;
    }
    return status;
}

int pace_measure(const struct crew *crew, const struct env *env, double *slowness,
                 struct fathom_error *err)
{
    struct pace pace = {0};
    unsigned threads = crew->threads < BLOCKS ? crew->threads : BLOCKS;
    uint64_t took_ns = 0;
    int status = pace_init(&pace, threads);
    const struct crew quiet = {
        .threads = threads,
        .watch = {.stopped = crew->watch.stopped, .context = crew->watch.context}};
    if (status == 0)
        status = run_rounds(&pace, &quiet, env, &took_ns);
    pace_fini(&pace);
    if (status != 0)
        return error_set(err, status, "the pace of this machine: %s", fathom_strerror(status));
    double times = 1e-9 * (double)took_ns * threads / USUAL_SECONDS;
    *slowness = took_ns == 0 ? 1 : times < 0.1 ? 0.1 : times > 10 ? 10 : times;
    return 0;
}

int pace_of(const struct crew *crew, const struct env *env, double seconds, double *slowness,
            struct fathom_error *err)
{
    return crew->watch.expect && seconds >= PACE_WORTH ? pace_measure(crew, env, slowness, err) : 0;
}
