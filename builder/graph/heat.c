/* Heat, by searches for a tenth of the rows: on SIFT the hottest quarter of the lists so found
 * serves 49% of the expansions of other searches, the hottest half 74%; by the in-degree alone it
 * would be 32% and 55%. Queries of another kind take other ways, so each that is given counts for
 * more than a row (docs/adr/0056). Counts are sums, so the result does not depend on the threads.
 */
#include "heat.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "error.h"
#include "large.h"
#include "format.h"
#include "scout.h"

#define SAMPLE_SHARE 10
#define QUERY_WEIGHT 2 /* rows that a query counts for */
#define SEARCH_LIST  40
#define BLOCK        64 /* searches */
#define DEGREE_BITS  8  /* of a heat, the lower */
#define DIGIT_MOST   UINT16_MAX
#define STOP_ROWS    65536 /* between two looks at whether to stop */

struct heat_pass {
    const struct crew *crew;
    const struct graph *graph;
    const struct rows8 *rows, *queries;
    uint32_t sample;         /* rows; queries follow behind them */
    atomic_uint *expansions; /* of each row */
    struct scout *scouts;    /* of each worker */
};

static uint64_t searches(const struct heat_pass *pass)
{
    return (uint64_t)pass->sample + pass->queries->count;
}

/* A row of the sample, or a query. */
static int search(struct heat_pass *pass, struct scout *scout, uint64_t i)
{
    bool given = i >= pass->sample;
    const uint8_t *query =
        given ? rows8_at(pass->queries, (uint32_t)(i - pass->sample))
              : rows8_at(pass->rows, (uint32_t)(i * pass->rows->count / pass->sample));
    int status = scout_run(scout, query, pass->graph->entries, pass->graph->entry_count);
    for (uint32_t p = 0; p < scout->path_count && status == 0; p++)
        atomic_fetch_add_explicit(&pass->expansions[(uint32_t)scout->path[p]],
                                  given ? QUERY_WEIGHT : 1, memory_order_relaxed);
    return status;
}

static int search_block(void *context, uint64_t block, unsigned worker)
{
    struct heat_pass *pass = context;
    struct scout *scout = &pass->scouts[worker];
    uint64_t begin = block * BLOCK, end = begin + BLOCK, all = searches(pass);
    if (end > all)
        end = all;
    for (uint64_t i = begin; i < end; i++) {
        int status = search(pass, scout, i);
        if (status != 0)
            return status;
    }
    crew_advance(pass->crew, end);
    return 0;
}

static int count_expansions(struct heat_pass *pass)
{
    unsigned threads = pass->crew->threads;
    int status = 0;
    pass->scouts = mem_alloc_array(threads, sizeof *pass->scouts);
    if (!pass->scouts)
        return -ENOMEM;
    for (unsigned w = 0; w < threads && status == 0; w++)
        status = scout_init(&pass->scouts[w], pass->graph, pass->rows, SEARCH_LIST);
    if (status == 0)
        status = crew_run(pass->crew, crew_blocks(searches(pass), BLOCK), search_block, pass);
    for (unsigned w = 0; w < threads; w++)
        scout_fini(&pass->scouts[w]);
    mem_free(pass->scouts);
    return status;
}

/* In-degrees, where they are below the limit of their bits, under the counts. */
static int join_degrees(const struct crew *crew, const struct graph *graph, uint32_t *heat)
{
    const uint32_t most = (1u << DEGREE_BITS) - 1, count_most = UINT32_MAX >> DEGREE_BITS;
    for (uint32_t row = 0; row < graph->rows; row++)
        heat[row] = (heat[row] < count_most ? heat[row] : count_most) << DEGREE_BITS;
    for (uint32_t row = 0; row < graph->rows; row++) {
        const uint32_t *list = graph_list(graph, row);
        if (row % STOP_ROWS == 0 && crew_stopped(crew))
            return FATHOM_EINTERRUPTED;
        for (uint32_t i = 1; i <= list[0]; i++)
            heat[list[i]] += (heat[list[i]] & most) < most;
    }
    return 0;
}

int heat_measure(uint32_t **out, const struct crew *crew, const struct graph *graph,
                 const struct rows8 *rows, const struct rows8 *queries, struct fathom_error *err)
{
    _Static_assert(sizeof(atomic_uint) == sizeof(uint32_t), "counts become heats in place");
    struct heat_pass pass = {.graph = graph, .rows = rows, .queries = queries};
    pass.sample = rows->count / SAMPLE_SHARE + 1;
    if (pass.sample > HEAT_SAMPLE_MAX)
        pass.sample = HEAT_SAMPLE_MAX;
    struct crew_step step;
    pass.crew = crew_step(&step, crew, 0, rows->count, searches(&pass));
    *out = large_alloc_array(rows->count, sizeof **out);
    pass.expansions = (atomic_uint *)(void *)*out;
    int status = *out ? count_expansions(&pass) : -ENOMEM;
    if (status == 0)
        status = join_degrees(crew, graph, *out);
    if (status == 0)
        return 0;
    mem_free(*out);
    *out = NULL;
    return error_set(err, status, "graph: heat of lists: %s", fathom_strerror(status));
}

/* ---- ranks ---- */

/* Puts rows, in the order `from` (NULL: their own), by 16 bits of their heats, the hottest first;
 * equals keep their order. */
static int sort_pass(const struct crew *crew, const uint32_t *heat, uint32_t rows, unsigned shift,
                     const uint32_t *from, uint32_t *to)
{
    uint32_t *next = mem_alloc_array((size_t)DIGIT_MOST + 1, sizeof *next), before = 0;
    int status = next ? 0 : -ENOMEM;
    for (uint32_t row = 0; row < rows && status == 0; row++)
        next[DIGIT_MOST - (heat[row] >> shift & DIGIT_MOST)]++;
    for (uint32_t digit = 0; digit <= DIGIT_MOST && status == 0; digit++) {
        uint32_t count = next[digit];
        next[digit] = before;
        before += count;
    }
    for (uint32_t i = 0; i < rows && status == 0; i++) {
        uint32_t row = from ? from[i] : i;
        if (i % STOP_ROWS == 0 && crew_stopped(crew))
            status = FATHOM_EINTERRUPTED;
        to[next[DIGIT_MOST - (heat[row] >> shift & DIGIT_MOST)]++] = row;
    }
    mem_free(next);
    return status;
}

int heat_ranks(uint8_t *ranks, const struct crew *crew, const uint32_t *heat,
               const uint16_t *lengths, uint32_t rows, uint64_t bytes)
{
    uint32_t *half = mem_alloc_array(rows, sizeof *half);
    uint32_t *order = mem_alloc_array(rows, sizeof *order);
    uint64_t before = 0;
    int status = half && order ? sort_pass(crew, heat, rows, 0, NULL, half) : -ENOMEM;
    if (status == 0)
        status = sort_pass(crew, heat, rows, 16, half, order);
    for (uint32_t i = 0; i < rows && status == 0; i++) {
        ranks[order[i]] = (uint8_t)(before * FORMAT_HEAT_RANKS / bytes);
        before += lengths[order[i]];
    }
    mem_free(half);
    mem_free(order);
    return status;
}
