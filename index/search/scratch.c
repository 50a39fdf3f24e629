/* Navigators for queries (see scratch.h). */
#include "scratch.h"

#define RESERVED_SEARCH_LIST 512
#define STALE_RUNS           1024

static uint32_t looked_at(uint32_t candidates)
{
    return LOOKED_AT * candidates;
}

/* Where codes are read nobody walks, and codes are scored at once. */
static struct navigator_capacity standard(const struct properties *p, bool scan_reads)
{
    struct navigator_capacity capacity = {.work_dim = p->work_dim,
                                          .cells = p->cells,
                                          .candidates = query_reserved_candidates(scan_reads)};
    if (scan_reads) {
        capacity.ranked = scan_cells_ranked(QUERY_RESERVED_SCAN, p->cells);
        capacity.weighed = scan_pages_weighed(QUERY_RESERVED_SCAN, p);
        return capacity;
    }
    capacity.ranked = p->cells;
    capacity.degree = p->degree_max;
    capacity.search_list = RESERVED_SEARCH_LIST;
    capacity.looked_at = looked_at(capacity.candidates);
    return capacity;
}

/* Of a slot whose queries walk: no cells, and no more candidates than the pool has. */
static struct navigator_capacity walk_standard(const struct properties *p)
{
    return (struct navigator_capacity){.work_dim = p->work_dim,
                                       .degree = p->degree_max,
                                       .search_list = RESERVED_SEARCH_LIST,
                                       .candidates = RESERVED_SEARCH_LIST,
                                       .list_pages = LIST_PAGES_KEPT};
}

uint64_t scratch_bytes(const struct properties *p, unsigned inflight, enum query_waits waits)
{
    uint64_t bytes = navigator_memory_bytes(standard(p, waits == WAITS_FOR_CODES));
    return waits == WAITS_FOR_LISTS ? bytes + inflight * navigator_memory_bytes(walk_standard(p))
                                    : bytes;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static struct navigator_capacity join(const struct navigator_capacity *a,
                                      const struct navigator_capacity *b)
{
    return (struct navigator_capacity){.work_dim = larger(a->work_dim, b->work_dim),
                                       .cells = larger(a->cells, b->cells),
                                       .degree = larger(a->degree, b->degree),
                                       .ranked = larger(a->ranked, b->ranked),
                                       .search_list = larger(a->search_list, b->search_list),
                                       .looked_at = larger(a->looked_at, b->looked_at),
                                       .candidates = larger(a->candidates, b->candidates),
                                       .list_pages = larger(a->list_pages, b->list_pages),
                                       .weighed = larger(a->weighed, b->weighed)};
}

static bool covers(const struct navigator_capacity *have, const struct navigator_capacity *want)
{
    return have->work_dim >= want->work_dim && have->cells >= want->cells &&
           have->degree >= want->degree && have->ranked >= want->ranked &&
           have->search_list >= want->search_list && have->looked_at >= want->looked_at &&
           have->candidates >= want->candidates && have->list_pages >= want->list_pages &&
           have->weighed >= want->weighed;
}

/* A navigator of this capacity at the expense of the index's budget; *borrowed is what it took. */
static int reserve_borrowed(struct navigator *navigator, const struct fathom_index *index,
                            struct navigator_capacity want, int64_t bytes, int64_t *borrowed)
{
    if (!index_take_budget(index, bytes))
        return FATHOM_EBUDGET;
    int status = navigator_reserve(navigator, want);
    if (status)
        index_take_budget(index, -bytes);
    else
        *borrowed = bytes;
    return status;
}

/* Grown to the standard of each index that it meets, and, where no budget counts, to the largest
 * query. */
static int reserve_grown(struct navigator *navigator, struct navigator_capacity want)
{
    if (covers(&navigator->capacity, &want))
        return 0;
    return navigator_reserve(navigator, join(&navigator->capacity, &want));
}

static int reserve_walk(struct query *query, const struct fathom_index *index,
                        struct navigator_capacity want)
{
    struct navigator_capacity usual = walk_standard(&index->properties);
    /* What it has borrowed to walk it has still when it re-ranks. */
    bool borrows = index->options.dram_budget_bytes && !covers(&usual, &want);
    if (!borrows || query->own_borrowed > 0)
        return reserve_grown(&query->own, want);
    int64_t bytes = (int64_t)navigator_memory_bytes(want) - (int64_t)navigator_memory_bytes(usual);
    return reserve_borrowed(&query->own, index, want, bytes, &query->own_borrowed);
}

int scratch_reserve(struct scratch *scratch, struct query *query, const struct fathom_index *index,
                    uint32_t search_list, uint32_t candidates, struct navigator **out)
{
    struct navigator_capacity want = {.search_list = search_list, .candidates = candidates};
    if (index->lists.page_first) {
        struct navigator_capacity usual = walk_standard(&index->properties);
        *out = &query->own;
        scratch->resident_runs = 0;
        return reserve_walk(query, index, join(&usual, &want));
    }
    struct navigator_capacity usual = standard(&index->properties, index->plan.scan_reads);
    if (index->plan.scan_reads)
        want = (struct navigator_capacity){
            .ranked = scan_cells_ranked(search_list, index->properties.cells),
            .candidates = candidates,
            .weighed = scan_pages_weighed(search_list, &index->properties)};
    else
        want.looked_at = looked_at(candidates);
    bool large = !covers(&usual, &want);
    scratch->resident_runs++;
    want = join(&usual, &want);
    *out = &scratch->navigator;
    if (!large || !index->options.dram_budget_bytes || covers(&scratch->navigator.capacity, &want))
        return reserve_grown(&scratch->navigator, want);
    /* For this query only, so that an engine never keeps what no plan has counted. */
    *out = &scratch->large;
    return reserve_borrowed(&scratch->large, index, want, (int64_t)navigator_memory_bytes(want),
                            &scratch->large_bytes);
}

void scratch_release_large(struct scratch *scratch, const struct fathom_index *index)
{
    if (scratch->large_bytes == 0)
        return;
    navigator_fini(&scratch->large);
    index_take_budget(index, -scratch->large_bytes);
    scratch->large_bytes = 0;
}

void scratch_release_walk(struct query *query)
{
    if (query->own_borrowed == 0)
        return;
    navigator_fini(&query->own);
    index_take_budget(query->index, -query->own_borrowed);
    query->own_borrowed = 0;
}

bool scratch_is_stale(struct scratch *scratch)
{
    return scratch->resident_runs > STALE_RUNS;
}

void scratch_fini(struct scratch *scratch)
{
    navigator_fini(&scratch->navigator);
}
