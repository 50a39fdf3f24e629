/* The maximum-likelihood estimator of Levina and Bickel ("Maximum likelihood estimation of
 * intrinsic dimension", 2004): distances to the k nearest grow as the k-th root of the dimension
 * lets them. Inverses are averaged over the rows, as MacKay and Ghahramani correct it. It is never
 * exact search: only what is among the given rows counts. */
#include "lid.h"

#include <errno.h>
#include <math.h>

#include "kernel.h"
#include "mem.h"

#define QUERIES   256
#define NEIGHBORS 20
#define BLOCK     512 /* rows whose products are made at a time */

struct lid_run {
    const struct rows8 *rows;
    uint32_t *numbers; /* of all rows */
    double inverses[QUERIES];
    bool counts[QUERIES];
};

/* A worker's, for one panel of queries. */
struct lid_scratch {
    int32_t dots[BLOCK * KERNEL_PANEL];
    uint32_t nearest[KERNEL_PANEL][NEIGHBORS], found[KERNEL_PANEL]; /* in order */
};

/* Equal rows say nothing of directions. */
static void offer(uint32_t *nearest, uint32_t *found, uint32_t distance)
{
    if (distance == 0 || (*found == NEIGHBORS && distance >= nearest[NEIGHBORS - 1]))
        return;
    uint32_t at = *found < NEIGHBORS ? (*found)++ : NEIGHBORS - 1;
    for (; at > 0 && nearest[at - 1] > distance; at--)
        nearest[at] = nearest[at - 1];
    nearest[at] = distance;
}

static void look_at(const struct lid_run *run, struct lid_scratch *scratch, const int8_t *panel,
                    const uint32_t *queries, uint32_t first)
{
    const struct rows8 *rows = run->rows;
    uint32_t count = rows->count - first < BLOCK ? rows->count - first : BLOCK;
    kernels_get()->dot_u8s8_panel(scratch->dots, panel, rows->bytes, rows->stride,
                                  run->numbers + first, count);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < KERNEL_PANEL; j++)
            offer(scratch->nearest[j], &scratch->found[j],
                  rows8_distance_from_dot(&rows->terms[first + i], rows->terms[queries[j]].bias,
                                          scratch->dots[i * KERNEL_PANEL + j]));
}

/* Of squared distances, whose logarithms are twice those of distances. */
static double inverse_of(const uint32_t *nearest)
{
    double sum = 0;
    for (uint32_t i = 0; i + 1 < NEIGHBORS; i++)
        sum += log((double)nearest[NEIGHBORS - 1] / nearest[i]) / 2;
    return sum / (NEIGHBORS - 1);
}

static int run_panel(void *context, uint64_t block, unsigned worker)
{
    struct lid_run *run = context;
    const struct rows8 *rows = run->rows;
    struct lid_scratch *scratch = mem_alloc(sizeof *scratch);
    int8_t *panel = mem_alloc(KERNEL_PANEL * rows->stride);
    uint32_t queries[KERNEL_PANEL];
    int status = scratch && panel ? 0 : -ENOMEM;
    (void)worker;
    for (uint32_t j = 0; j < KERNEL_PANEL; j++)
        queries[j] = (uint32_t)((block * KERNEL_PANEL + j) * rows->count / QUERIES);
    if (status == 0) {
        memset(scratch->found, 0, sizeof scratch->found);
        rows8_panel(rows, queries, KERNEL_PANEL, panel);
    }
    for (uint32_t first = 0; first < rows->count && status == 0; first += BLOCK)
        look_at(run, scratch, panel, queries, first);
    for (uint32_t j = 0; j < KERNEL_PANEL && status == 0; j++) {
        run->counts[block * KERNEL_PANEL + j] = scratch->found[j] == NEIGHBORS;
        if (scratch->found[j] == NEIGHBORS)
            run->inverses[block * KERNEL_PANEL + j] = inverse_of(scratch->nearest[j]);
    }
    mem_free(panel);
    mem_free(scratch);
    return status;
}

static double lid_of(const struct lid_run *run)
{
    double sum = 0;
    uint32_t counted = 0;
    for (uint32_t i = 0; i < QUERIES; i++) {
        sum += run->counts[i] ? run->inverses[i] : 0;
        counted += run->counts[i];
    }
    if (counted < QUERIES / 4 || !(sum > 0))
        return 0;
    return fmin(fmax(counted / sum, 1), (double)run->rows->dim);
}

int lid_estimate(const struct rows8 *rows, const struct crew *crew, double *lid)
{
    struct lid_run run = {.rows = rows};
    *lid = 0;
    if (rows->count < QUERIES)
        return 0;
    run.numbers = mem_alloc_array(rows->count, sizeof *run.numbers);
    for (uint32_t i = 0; i < rows->count && run.numbers; i++)
        run.numbers[i] = i;
    const struct crew quiet = {
        .threads = crew->threads,
        .watch = {.stopped = crew->watch.stopped, .context = crew->watch.context}};
    int status = run.numbers ? crew_run(&quiet, QUERIES / KERNEL_PANEL, run_panel, &run) : -ENOMEM;
    mem_free(run.numbers);
    if (status == 0)
        *lid = lid_of(&run);
    return status;
}
