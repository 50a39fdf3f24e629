/* Refine by interval, in one wave: which pages to read so that the result is right, and no more.
 *
 * tau is the distance below which k candidates are expected: the sum of P = Phi((tau - estimate) /
 * sigma), the probability that a candidate belongs to the result, is k there. Reading it is worth
 * what an error would cost: min(P, 1 - P), so the certainly-in are skipped like the certainly-out.
 * A page is worth the sum over its candidates. Read are those pages of which worth less price is
 * largest in all, the price of a read by itself being the threshold: a page beside another that is
 * read costs a third of that (runs.h). */
#include <float.h>
#include <math.h>
#include <string.h>

#include "query.h"
#include "runs.h"
#include "select.h"

#define TAIL_STEPS       16 /* entries of navigator->tail a sigma */
#define TAIL_END         80
#define BRACKET          4 /* sigmas on either side of the k-th estimate that the boundary may lie */
#define BISECTIONS       11
#define RERANK_THRESHOLD 0.05f /* of reads of full vectors */

/* The probability that a standard normal exceeds z >= 0. */
static float tail(const struct navigator *n, float z)
{
    return z < (float)TAIL_END / TAIL_STEPS ? n->tail[(uint32_t)(z * TAIL_STEPS)] : 0;
}

/* How likely a candidate's distance is below tau. */
static float inside(const struct navigator *n, const struct candidate *c, float tau)
{
    if (c->sigma <= 0)
        return c->estimate < tau;
    float z = (tau - c->estimate) / c->sigma;
    return z < 0 ? tail(n, -z) : 1 - tail(n, z);
}

static float doubt(const struct navigator *n, const struct candidate *c, float tau)
{
    return c->sigma > 0 ? tail(n, fabsf(c->estimate - tau) / c->sigma) : 0;
}

/* Half way between the k-th smallest estimate and the one after it. Reorders the candidates. */
static float middle(struct query *query)
{
    struct candidate *c = query->candidates;
    uint32_t count = query->candidate_count, k = query->k;
    select_best(c, count, k);
    float below = -INFINITY, above = INFINITY;
    for (uint32_t i = 0; i < k; i++)
        below = c[i].estimate > below ? c[i].estimate : below;
    for (uint32_t i = k; i < count; i++)
        above = c[i].estimate < above ? c[i].estimate : above;
    return 0.5f * (below + above);
}

/* The distance below which k candidates are expected. The k-th estimate is not it: there are more
 * candidates beyond it than before it, so of those that chance has moved across, more came in than
 * went out. */
static float boundary(struct query *query, const struct navigator *n)
{
    uint32_t count = query->candidate_count;
    if (count <= query->k)
        return INFINITY;
    float start = middle(query), width = 0;
    for (uint32_t i = 0; i < count; i++)
        width = query->candidates[i].sigma > width ? query->candidates[i].sigma : width;
    float low = start - BRACKET * width, high = start + BRACKET * width;
    for (int step = 0; step < BISECTIONS && low < high; step++) {
        float tau = 0.5f * (low + high), expected = 0;
        for (uint32_t i = 0; i < count; i++)
            expected += inside(n, &query->candidates[i], tau);
        if (expected < (float)query->k)
            low = tau;
        else
            high = tau;
    }
    return 0.5f * (low + high);
}

static struct page_slot *find_page(const struct navigator *n, uint32_t page)
{
    uint32_t slot = page * 0x9e3779b1u >> 8 & n->page_mask;
    while (n->page_slots[slot].page && n->page_slots[slot].page != page + 1)
        slot = (slot + 1) & n->page_mask;
    return &n->page_slots[slot];
}

bool refine_weigh(struct query *query, struct navigator *n)
{
    const struct section *section = query_section(query);
    float tau = section ? boundary(query, n) : INFINITY;
    if (isinf(tau))
        return false;
    /* No more slots than this query needs: clearing those of the largest would take longer than
     * weighing. */
    n->page_mask = navigator_page_slots(query->candidate_count) - 1;
    memset(n->page_slots, 0, ((size_t)n->page_mask + 1) * sizeof *n->page_slots);
    for (uint32_t i = 0; i < query->candidate_count; i++) {
        const struct candidate *c = &query->candidates[i];
        uint32_t page = query_place(section, c->row);
        struct page_slot *slot = find_page(n, page);
        slot->page = page + 1;
        slot->gain += doubt(n, c, tau);
    }
    return true;
}

struct page_slot *refine_page_of(const struct query *query, const struct navigator *n, uint32_t row)
{
    return find_page(n, query_place(query_section(query), row));
}

void refine_list(struct query *query, const struct navigator *n, float threshold)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < query->candidate_count; i++) {
        struct page_slot *slot = refine_page_of(query, n, query->candidates[i].row);
        slot->chosen = 0;
        if (slot->gain > threshold * REFINE_LEAST_GAIN)
            query->pages[count++] = slot->page - 1;
    }
    query_sort_pages(query, count);
}

/* Of the pages that are listed. */
static void pick_listed(struct query *query, const struct navigator *n, float threshold)
{
    struct run_picker picker =
        run_picker_start(threshold, (uint32_t)query_section(query)->pages_per_row);
    for (uint32_t i = 0; i < query->page_count; i++) {
        struct page_slot *slot = find_page(n, query->pages[i]);
        slot->chosen = run_weigh(&picker, query->pages[i], slot->gain);
    }
    bool read = run_read_last(&picker);
    for (uint32_t i = query->page_count; i-- > 0;) {
        struct page_slot *slot = find_page(n, query->pages[i]);
        uint32_t ways = slot->chosen;
        slot->chosen = read;
        read = run_read_before(ways, read);
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < query->page_count; i++)
        if (find_page(n, query->pages[i])->chosen)
            query->pages[count++] = query->pages[i];
    query->page_count = count;
}

void refine_pick(struct query *query, const struct navigator *n, float threshold)
{
    refine_list(query, n, threshold);
    pick_listed(query, n, threshold);
}

void refine_pick_of(struct query *query, const struct navigator *n, float threshold,
                    const uint32_t *pages, uint32_t count)
{
    query->page_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct page_slot *slot = find_page(n, pages[i]);
        slot->chosen = 0;
        if (slot->gain > threshold * REFINE_LEAST_GAIN)
            query->pages[query->page_count++] = pages[i];
    }
    pick_listed(query, n, threshold);
}

void refine_choose(struct query *query, struct navigator *n)
{
    bool reads = refine_weigh(query, n);
    bool exact = query->index->rows8 && !query->index->vectors;
    query->page_count = 0;
    if (reads)
        refine_pick(query, n,
                    query->refine_threshold > 0 ? query->refine_threshold
                                                : REFINE_DEFAULT_THRESHOLD);
    for (uint32_t i = 0; i < query->candidate_count; i++) {
        const struct candidate *c = &query->candidates[i];
        if (!reads || !refine_page_of(query, n, c->row)->chosen)
            hits_push(query, (struct hit){.key = c->estimate,
                                          .row = c->row,
                                          .sigma = exact ? 0 : fmaxf(c->sigma, FLT_MIN)});
    }
}

void refine_choose_vectors(struct query *query, struct navigator *n)
{
    query->candidate_count = query->hit_count;
    for (uint32_t i = 0; i < query->hit_count; i++)
        query->candidates[i] = (struct candidate){.estimate = query->hits[i].key,
                                                  .sigma = query->hits[i].sigma,
                                                  .row = query->hits[i].row};
    query->page_count = 0;
    if (refine_weigh(query, n))
        refine_pick(query, n, RERANK_THRESHOLD);
}

float refine_price(const struct query *query)
{
    uint32_t span = query_section(query)->pages_per_row;
    float price = 0;
    for (uint32_t i = 0, next; i < query->page_count; i = next) {
        uint64_t pages = run_pages(runs_small, query->pages, i, query->page_count, span, &next);
        price += RUN_READ_PRICE + RUN_PAGE_PRICE * (float)pages;
    }
    return price;
}
