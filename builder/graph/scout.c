/* A beam of the L nearest so far; the nearest unexpanded one is expanded next; the end is when all
 * are. A bitmap of visited rows keeps each distance to one computation. Rows are in an order in
 * which neighbours are near, so a search touches few lines of it; a hash would scatter what it
 * touches. What was set is found again in the lists of the expanded rows. */
#include "scout.h"

#include <errno.h>

#define PATH_START 512

int scout_init(struct scout *scout, const struct graph *graph, const struct rows8 *rows,
               uint32_t list)
{
    *scout = (struct scout){.graph = graph, .rows = rows, .list = list, .path_room = PATH_START};
    size_t batch = graph->stride > GRAPH_ENTRIES_MAX ? graph->stride : GRAPH_ENTRIES_MAX;
    scout->beam = mem_alloc_array((size_t)list + 1, sizeof *scout->beam);
    scout->expanded = mem_alloc((size_t)list + 1);
    scout->path = mem_alloc_array(PATH_START, sizeof *scout->path);
    scout->visited = mem_alloc_array(rows->count / 64 + 1, sizeof *scout->visited);
    scout->query = mem_alloc(rows->stride);
    scout->ids = mem_alloc_array(batch, sizeof *scout->ids);
    scout->dots = mem_alloc_array(batch, sizeof *scout->dots);
    if (scout->beam && scout->expanded && scout->path && scout->visited && scout->query &&
        scout->ids && scout->dots)
        return 0;
    scout_fini(scout);
    return -ENOMEM;
}

void scout_fini(struct scout *scout)
{
    mem_free(scout->beam);
    mem_free(scout->expanded);
    mem_free(scout->path);
    mem_free(scout->visited);
    mem_free(scout->query);
    mem_free(scout->ids);
    mem_free(scout->dots);
    *scout = (struct scout){0};
}

/* ---- the visited set ---- */

/* True when row was not in the set; it is afterwards. */
static bool visited_add(struct scout *scout, uint32_t row)
{
    uint64_t *word = &scout->visited[row / 64], bit = UINT64_C(1) << row % 64;
    bool added = !(*word & bit);
    *word |= bit;
    return added;
}

static void visited_forget(struct scout *scout, uint32_t row)
{
    scout->visited[row / 64] = 0;
}

/* ---- the beam ---- */

/* Inserts when near enough; returns the place, or list when it was not. */
static uint32_t beam_insert(struct scout *scout, uint64_t key)
{
    uint32_t count = scout->beam_count, at = count;
    if (count == scout->list && key >= scout->beam[count - 1])
        return scout->list;
    while (at > 0 && scout->beam[at - 1] > key)
        at--;
    if (count == scout->list)
        count--;
    memmove(scout->beam + at + 1, scout->beam + at, (count - at) * sizeof *scout->beam);
    memmove(scout->expanded + at + 1, scout->expanded + at, count - at);
    scout->beam[at] = key;
    scout->expanded[at] = 0;
    scout->beam_count = count + 1;
    return at;
}

static void prefetch_list(const struct scout *scout, uint32_t place)
{
    if (place >= scout->beam_count)
        return;
    const char *list = (const char *)graph_list(scout->graph, (uint32_t)scout->beam[place]);
    for (size_t byte = 0; byte < scout->graph->stride * sizeof(uint32_t); byte += 64)
        __builtin_prefetch(list + byte);
}

/* Scores scout->ids and offers them to the beam. Returns the lowest place that changed, or list.
 * next: the place that will be expanded if nothing nearer is found; what lands before it will be,
 * so its list is fetched. */
static uint32_t offer(struct scout *scout, int32_t query_bias, uint32_t count, uint32_t next)
{
    const struct rows8 *rows = scout->rows;
    uint32_t lowest = scout->list;
    kernels_get()->dot_u8s8_gather(scout->dots, scout->query, rows->bytes, rows->stride, scout->ids,
                                   count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = scout->ids[i];
        uint32_t distance = rows8_distance_from_dot(&rows->terms[row], query_bias, scout->dots[i]);
        uint32_t at = beam_insert(scout, prune_key(distance, row));
        lowest = at < lowest ? at : lowest;
        if (at <= next)
            prefetch_list(scout, at);
    }
    scout->distances += count;
    return lowest;
}

static uint32_t next_unexpanded(const struct scout *scout, uint32_t from)
{
    while (from < scout->beam_count && scout->expanded[from])
        from++;
    return from;
}

static int path_append(struct scout *scout, uint64_t key)
{
    if (scout->path_count == scout->path_room) {
        uint64_t *grown = mem_alloc_array(2 * (size_t)scout->path_room, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        memcpy(grown, scout->path, scout->path_count * sizeof *grown);
        mem_free(scout->path);
        scout->path = grown;
        scout->path_room *= 2;
    }
    scout->path[scout->path_count++] = key;
    return 0;
}

/* The unvisited neighbours of row, into scout->ids. */
static uint32_t gather_neighbours(struct scout *scout, uint32_t row)
{
    const uint32_t *list = graph_list(scout->graph, row);
    uint32_t count = 0;
    for (uint32_t i = 1; i <= list[0]; i++) {
        if (visited_add(scout, list[i])) {
            __builtin_prefetch(&scout->rows->terms[list[i]]);
            scout->ids[count++] = list[i];
        }
    }
    return count;
}

static void start(struct scout *scout, int32_t query_bias, const uint32_t *entries,
                  uint32_t entry_count)
{
    uint32_t count = 0;
    scout->beam_count = scout->path_count = 0;
    for (uint32_t i = 0; i < entry_count; i++)
        if (visited_add(scout, entries[i]))
            scout->ids[count++] = entries[i];
    (void)offer(scout, query_bias, count, scout->list);
}

/* Every visited row is an entry or in the list of a row on the path. */
static void forget_all(struct scout *scout, const uint32_t *entries, uint32_t entry_count)
{
    for (uint32_t i = 0; i < entry_count; i++)
        visited_forget(scout, entries[i]);
    for (uint32_t i = 0; i < scout->path_count; i++) {
        const uint32_t *list = graph_list(scout->graph, (uint32_t)scout->path[i]);
        for (uint32_t j = 1; j <= list[0]; j++)
            visited_forget(scout, list[j]);
    }
}

int scout_run(struct scout *scout, const uint8_t *query, const uint32_t *entries,
              uint32_t entry_count)
{
    rows8_centre(query, scout->rows->stride, scout->query);
    int32_t query_bias = rows8_terms_of(query, scout->rows->dim).bias;
    start(scout, query_bias, entries, entry_count);
    for (uint32_t place = 0; place < scout->beam_count;) {
        int status = path_append(scout, scout->beam[place]);
        if (status != 0)
            return status; /* the scout is of no further use */
        scout->expanded[place] = 1;
        uint32_t next = next_unexpanded(scout, place);
        prefetch_list(scout, next);
        uint32_t count = gather_neighbours(scout, (uint32_t)scout->beam[place]);
        uint32_t lowest = offer(scout, query_bias, count, next);
        place = next_unexpanded(scout, lowest < place ? lowest : place);
    }
    forget_all(scout, entries, entry_count);
    return 0;
}
