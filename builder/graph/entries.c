/* Where searches start: the medoid, which the build itself uses, and rows spread over the cells, so
 * that a query begins near its end. Cells are in 2-means order, hence equal stretches of them are
 * compact regions. */
#include <errno.h>

#include "graph.h"

#define CELLS_AN_ENTRY 48 /* about */

/* The row of [begin, end) that is nearest to their mean; the first of equals. */
static int nearest_to_mean(const struct rows8 *rows, uint32_t begin, uint32_t end, uint32_t *out)
{
    int64_t *sums = mem_alloc_array(rows->dim, sizeof *sums);
    uint8_t *mean = mem_alloc(rows->stride);
    if (!sums || !mean) {
        mem_free(sums);
        mem_free(mean);
        return -ENOMEM;
    }
    for (uint32_t row = begin; row < end; row++)
        for (uint32_t d = 0; d < rows->dim; d++)
            sums[d] += rows8_at(rows, row)[d];
    for (uint32_t d = 0; d < rows->dim; d++)
        mean[d] = (uint8_t)((sums[d] + (end - begin) / 2) / (end - begin));
    uint32_t best = UINT32_MAX;
    for (uint32_t row = begin; row < end; row++) {
        uint32_t distance = rows8_distance(mean, rows8_at(rows, row), rows->dim);
        if (distance < best) {
            best = distance;
            *out = row;
        }
    }
    mem_free(sums);
    mem_free(mean);
    return 0;
}

struct entry_pass {
    struct graph *graph;
    const struct rows8 *rows;
    const uint32_t *cell_first;
    uint32_t cell_count, stretches;
    uint32_t found[GRAPH_ENTRIES_MAX];
};

/* Block 0 is all rows, for the medoid; the others are the stretches. */
static int entry_block(void *context, uint64_t block, unsigned worker)
{
    (void)worker;
    struct entry_pass *pass = context;
    uint32_t begin = 0, end = pass->rows->count;
    if (block > 0) {
        begin = pass->cell_first[(block - 1) * pass->cell_count / pass->stretches];
        end = pass->cell_first[block * pass->cell_count / pass->stretches];
    }
    return nearest_to_mean(pass->rows, begin, end, &pass->found[block]);
}

/* The first of the rows equal to row: the others are no part of the graph that is searched. */
static uint32_t run_begin(const struct rows8 *rows, uint32_t row)
{
    while (row > 0 && memcmp(rows8_at(rows, row), rows8_at(rows, row - 1), rows->dim) == 0)
        row--;
    return row;
}

int graph_choose_entries(struct graph *graph, const struct crew *crew, const struct rows8 *rows,
                         const uint32_t *cell_first, uint32_t cell_count)
{
    struct entry_pass pass = {
        .graph = graph, .rows = rows, .cell_first = cell_first, .cell_count = cell_count};
    uint32_t stretches = cell_count / CELLS_AN_ENTRY;
    pass.stretches = stretches < 1                   ? 1
                     : stretches < GRAPH_ENTRIES_MAX ? stretches
                                                     : GRAPH_ENTRIES_MAX - 1;
    int status = crew_run(crew, pass.stretches + 1, entry_block, &pass);
    graph->entry_count = 0;
    for (uint32_t i = 0; i <= pass.stretches && status == 0; i++) {
        uint32_t row = run_begin(rows, pass.found[i]);
        bool known = false;
        for (uint32_t j = 0; j < graph->entry_count; j++)
            known = known || graph->entries[j] == row;
        if (!known)
            graph->entries[graph->entry_count++] = row;
    }
    return status;
}
