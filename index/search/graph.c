/* The graph navigator: best-first beam search by estimated distances. The pool is a sorted array of
 * the search_list best rows; the walk ends when all of them are expanded. A list is in memory, or
 * on a page of section lists: then the walk stops until that page has come, and while it is at it
 * asks for those of the next best rows too. It never does I/O itself: the engine reads what is
 * wanted. */
#include <string.h>

#include "navigate.h"
#include "query.h"

/* Scores a batch of rows that were not visited before, and offers them to the pool. */
static void offer(struct navigator *n, struct query *query, uint32_t batch)
{
    navigate_estimate(n, query, n->ids, batch, n->estimates);
    query->stats.code_distances += batch;
    for (uint32_t i = 0; i < batch; i++)
        pool_insert(&n->pool, n->estimates[i], n->ids[i]);
}

void graph_start(struct navigator *n, struct query *query)
{
    memset(n->list_pages, 0, sizeof n->list_pages);
    graph_restart(n, query);
}

void graph_restart(struct navigator *n, struct query *query)
{
    const struct fathom_index *index = query->index;
    uint32_t entries = index->properties.entry_count;
    query->stats.navigator = FATHOM_NAVIGATOR_GRAPH;
    query->stats.stop_reason = "converged";
    pool_clear(&n->pool, query->search_list);
    /* Sized for this query, not for the largest that fits: clearing is a good part of a short
     * search. */
    visited_clear(&n->visited,
                  navigator_visited_slots(query->search_list, index->properties.degree_max));
    if (query->excluded != ROW_NONE)
        visited_add(&n->visited, query->excluded);
    for (uint32_t first = 0; first < entries; first += SCORE_BATCH) {
        uint32_t batch = 0;
        for (uint32_t i = first; i < entries && i < first + SCORE_BATCH; i++)
            if (n->visited.count < n->visited.mask / 2 &&
                visited_add(&n->visited, index->entries[i]))
                n->ids[batch++] = index->entries[i];
        offer(n, query, batch);
    }
}

/* ---- lists that are not resident ---- */

static struct list_page *find_list_page(struct navigator *n, uint32_t number)
{
    for (uint32_t i = 0; i < LIST_PAGES_KEPT; i++)
        if (n->list_pages[i].state != LIST_PAGE_EMPTY && n->list_pages[i].number == number)
            return &n->list_pages[i];
    return NULL;
}

/* A place for one more page: an empty one, or that of the page which has been of no use for
 * longest. NULL when all are on their way. */
static struct list_page *free_list_page(struct navigator *n)
{
    struct list_page *oldest = NULL;
    for (uint32_t i = 0; i < LIST_PAGES_KEPT; i++) {
        struct list_page *page = &n->list_pages[i];
        if (page->state == LIST_PAGE_EMPTY)
            return page;
        if (page->state == LIST_PAGE_HERE && (!oldest || page->used < oldest->used))
            oldest = page;
    }
    return oldest;
}

/* Asks for the pages of the best unexpanded rows, the first of which the walk cannot go on without,
 * until beam of them are on their way. On the approach, when the nearest row known is the one to
 * expand, the next best ones are soon left behind: asking for theirs costs 5 to 15% more reads and
 * saves no waiting. */
static void want_pages(struct navigator *n, const struct query *query, uint32_t beam)
{
    uint32_t coming = 0;
    const struct pool *pool = &n->pool;
    if (pool->cursor == 0)
        beam = 1;
    for (uint32_t i = 0; i < LIST_PAGES_KEPT; i++)
        coming += n->list_pages[i].state == LIST_PAGE_WANTED ||
                  n->list_pages[i].state == LIST_PAGE_READING;
    for (uint32_t i = pool->cursor; i < pool->count && (coming < beam || i == pool->cursor); i++) {
        size_t bytes;
        if (pool->rows[i].expanded || index_list(query->index, pool->rows[i].row, &bytes))
            continue;
        uint32_t number = index_list_page(query->index, pool->rows[i].row);
        struct list_page *page = find_list_page(n, number);
        if (page) { /* here or coming, and soon needed: not the one to give up */
            page->used = query->stats.hops;
            continue;
        }
        page = free_list_page(n);
        if (!page)
            return; /* all are on their way: when one has come there will be a place */
        *page = (struct list_page){
            .number = number, .used = query->stats.hops, .state = LIST_PAGE_WANTED};
        coming++;
    }
}

void graph_page(struct navigator *n, uint32_t i, const uint8_t *payload)
{
    memcpy(n->list_payloads + (size_t)i * LIST_PAYLOAD_BYTES, payload, PAGE_PAYLOAD);
    n->list_pages[i].state = LIST_PAGE_HERE;
}

/* The list of a row from the pages that are here. False when its page is not; *list is NULL when
 * the page is, and was written wrong. */
static bool list_on_page(struct navigator *n, struct query *query, uint32_t row,
                         const uint8_t **list, size_t *bytes)
{
    uint32_t number = index_list_page(query->index, row);
    struct list_page *page = find_list_page(n, number);
    if (!page || page->state != LIST_PAGE_HERE)
        return false;
    page->used = query->stats.hops;
    const uint8_t *payload = n->list_payloads + (page - n->list_pages) * LIST_PAYLOAD_BYTES;
    *list = index_list_in_page(query->index, number, payload, row, bytes);
    return true;
}

/* ---- the walk ---- */

/* The neighbours of a row that are new, into n->ids; -1 when its list is damaged. */
static int expand(struct navigator *n, const struct query *query, uint32_t row, const uint8_t *list,
                  size_t bytes)
{
    const struct fathom_index *index = query->index;
    uint32_t neighbours[LISTS_DEGREE_MAX + 5];
    int degree = list ? list_decode(row, list, bytes, (uint32_t)index->properties.rows,
                                    index->properties.degree_max, neighbours)
                      : -1;
    int batch = 0;
    for (int i = 0; i < degree; i++) {
        n->ids[batch] = neighbours[i];
        batch += visited_add(&n->visited, neighbours[i]);
    }
    for (int i = 0; i < batch && !index->rows8; i++)
        __builtin_prefetch((const uint8_t *)index->factors +
                           (size_t)n->ids[i] * index->level.factor_bytes);
    return degree < 0 ? -1 : batch;
}

static void keep_candidates(struct navigator *n, struct query *query)
{
    const struct pool *pool = &n->pool;
    for (uint32_t i = 0; i < pool->count; i++)
        query->candidates[i] = (struct candidate){
            .estimate = pool->estimates[i],
            .sigma = navigate_sigma(n, query, pool->rows[i].row, pool->estimates[i]),
            .row = pool->rows[i].row};
    query->candidate_count = pool->count;
}

/* From a place in the pool on, the first row that is not expanded. */
static uint32_t next_row(const struct pool *pool, uint32_t from)
{
    while (from < pool->count && pool->rows[from].expanded)
        from++;
    return from;
}

/* What is expanded next unless something better is found: fetched while neighbours are scored. */
static void prefetch_list(const struct navigator *n, const struct query *query, uint32_t at)
{
    if (at < n->pool.count)
        index_list_prefetch(query->index, n->pool.rows[at].row);
}

bool graph_step(struct navigator *n, struct query *query, uint32_t beam)
{
    struct pool *pool = &n->pool;
    while (pool->cursor < pool->count) {
        struct pool_row *best = &pool->rows[pool->cursor];
        size_t bytes;
        if (visited_full(&n->visited)) {
            query->stats.stop_reason = "limit";
            break;
        }
        const uint8_t *list = index_list(query->index, best->row, &bytes);
        if (list) {
            query->stats.resident_lists++;
        } else if (!list_on_page(n, query, best->row, &list, &bytes)) {
            want_pages(n, query, beam);
            return false;
        }
        best->expanded = true;
        prefetch_list(n, query, next_row(pool, pool->cursor + 1));
        int batch = expand(n, query, best->row, list, bytes);
        if (batch < 0) { /* a list that verified but does not decode: the index was written wrong */
            query->status = FATHOM_ECORRUPT;
            break;
        }
        query->stats.hops++;
        pool->cursor++;
        offer(n, query, (uint32_t)batch);
        pool->cursor = next_row(pool, pool->cursor);
        prefetch_list(n, query, pool->cursor);
    }
    keep_candidates(n, query);
    return true;
}
