/* The graph navigator: best-first beam search over the neighbour lists in memory, by estimated
 * distances. The pool is a sorted array of the search_list best rows; the walk ends when all of
 * them are expanded. */
#include <string.h>

#include "navigate.h"
#include "query.h"

/* Sized for this query, not for the largest that fits: clearing is a good part of a short search.
 */
static void visited_clear(struct navigator *n, const struct query *query)
{
    n->visited_mask =
        navigator_visited_slots(query->search_list, query->index->properties.degree_max) - 1;
    memset(n->visited, 0, ((size_t)n->visited_mask + 1) * sizeof *n->visited);
    n->visited_count = 0;
}

/* True when the row was not there before. */
static inline bool visited_add(struct navigator *n, uint32_t row)
{
    uint32_t slot = (row * 0x9e3779b1u) >> 7 & n->visited_mask;
    while (n->visited[slot]) {
        if (n->visited[slot] == row + 1)
            return false;
        slot = (slot + 1) & n->visited_mask;
    }
    n->visited[slot] = row + 1;
    n->visited_count++;
    return true;
}

/* Inserts in order; *cursor is the first entry that may be unexpanded. Returns the new count. */
static inline uint32_t pool_insert(struct navigator *n, uint32_t count, uint32_t limit,
                                   float estimate, uint32_t row, uint32_t *cursor)
{
    struct pool_entry *pool = n->pool;
    if (count == limit && estimate >= pool[count - 1].estimate)
        return count;
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (pool[middle].estimate <= estimate)
            low = middle + 1;
        else
            high = middle;
    }
    uint32_t moved = (count < limit ? count : limit - 1) - low;
    memmove(pool + low + 1, pool + low, moved * sizeof *pool);
    pool[low] = (struct pool_entry){.estimate = estimate, .row = row};
    if (low < *cursor)
        *cursor = low;
    return count < limit ? count + 1 : count;
}

/* Scores a batch of rows that were not visited before, and offers them to the pool. */
static uint32_t offer(struct navigator *n, struct query *query, uint32_t batch, uint32_t count,
                      uint32_t limit, uint32_t *cursor)
{
    navigate_estimate(n, query, n->ids, batch, n->estimates);
    query->stats.code_distances += batch;
    for (uint32_t i = 0; i < batch; i++)
        count = pool_insert(n, count, limit, n->estimates[i], n->ids[i], cursor);
    return count;
}

static uint32_t start(struct navigator *n, struct query *query, uint32_t limit, uint32_t *cursor)
{
    const struct fathom_index *index = query->index;
    uint32_t count = 0;
    for (uint32_t first = 0; first < index->properties.entry_count; first += SCORE_BATCH) {
        uint32_t batch = 0;
        for (uint32_t i = first; i < index->properties.entry_count && i < first + SCORE_BATCH; i++)
            if (n->visited_count < n->visited_mask / 2 && visited_add(n, index->entries[i]))
                n->ids[batch++] = index->entries[i];
        count = offer(n, query, batch, count, limit, cursor);
    }
    return count;
}

/* The neighbours of a row that are new, into n->ids; -1 when its list is damaged. */
static int expand(struct navigator *n, const struct query *query, uint32_t row)
{
    const struct fathom_index *index = query->index;
    uint32_t neighbours[LISTS_DEGREE_MAX + 5];
    size_t bytes;
    const uint8_t *list = index_list(index, row, &bytes);
    int degree = list_decode(row, list, bytes, (uint32_t)index->properties.rows,
                             index->properties.degree_max, neighbours);
    int batch = 0;
    for (int i = 0; i < degree; i++)
        if (visited_add(n, neighbours[i])) {
            __builtin_prefetch(index->rows8
                                   ? (const uint8_t *)index
                                   : (const uint8_t *)index->factors +
                                         (size_t)neighbours[i] * index->level.factor_bytes);
            n->ids[batch++] = neighbours[i];
        }
    return degree < 0 ? -1 : batch;
}

static void keep_candidates(struct navigator *n, struct query *query, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        query->candidates[i] = (struct candidate){
            .estimate = n->pool[i].estimate,
            .sigma = navigate_sigma(n, query, n->pool[i].row, n->pool[i].estimate),
            .row = n->pool[i].row};
    query->candidate_count = count;
}

void graph_navigate(struct navigator *n, struct query *query)
{
    uint32_t limit = query->search_list, cursor = 0;
    query->stats.navigator = FATHOM_NAVIGATOR_GRAPH;
    query->stats.stop_reason = "converged";
    visited_clear(n, query);
    if (query->excluded != ROW_NONE)
        visited_add(n, query->excluded);
    uint32_t count = start(n, query, limit, &cursor);
    while (cursor < count) {
        struct pool_entry *entry = &n->pool[cursor];
        if (n->visited_count > n->visited_mask / 8 * 7) {
            query->stats.stop_reason = "limit";
            break;
        }
        entry->expanded = true;
        int batch = expand(n, query, entry->row);
        if (batch < 0) { /* a list that verified but does not decode: the index was written wrong */
            query->status = FATHOM_ECORRUPT;
            break;
        }
        query->stats.hops++;
        query->stats.resident_lists++;
        cursor++;
        count = offer(n, query, (uint32_t)batch, count, limit, &cursor);
        while (cursor < count && n->pool[cursor].expanded)
            cursor++;
        if (cursor < count)
            index_list_prefetch(query->index, n->pool[cursor].row);
    }
    keep_candidates(n, query, count);
}
