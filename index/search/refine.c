/* Refine by interval, in one wave: which pages to read so that the result is right, and no more.
 *
 * tau is the distance below which k candidates are expected: the sum of P = Phi((tau - estimate) /
 * sigma), the probability that a candidate belongs to the result, is k there. Reading it is worth
 * what an error would cost: min(P, 1 - P), so the certainly-in are skipped like the certainly-out.
 * A page is worth the sum over its candidates, and is read when that is above a threshold. */
#include <math.h>
#include <string.h>

#include "query.h"
#include "select.h"

#define TAIL_STEPS 16 /* entries of navigator->tail a sigma */
#define TAIL_END   80
#define BRACKET    4 /* sigmas on either side of the k-th estimate that the boundary may lie */
#define BISECTIONS 11

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

static struct page_slot *find_page(const struct navigator *n, uint64_t page)
{
    uint32_t slot = (uint32_t)(page * 0x9e3779b97f4a7c15u >> 40) & n->page_mask;
    while (n->page_slots[slot].page && n->page_slots[slot].page != page)
        slot = (slot + 1) & n->page_mask;
    return &n->page_slots[slot];
}

bool refine_weigh(struct query *query, struct navigator *n)
{
    const struct section *section = query_section(query);
    float tau = section ? boundary(query, n) : INFINITY;
    if (isinf(tau))
        return false;
    memset(n->page_slots, 0, ((size_t)n->page_mask + 1) * sizeof *n->page_slots);
    for (uint32_t i = 0; i < query->candidate_count; i++) {
        const struct candidate *c = &query->candidates[i];
        uint64_t page = section_row_place(section, c->row).page;
        struct page_slot *slot = find_page(n, page);
        slot->page = page;
        slot->gain += doubt(n, c, tau);
    }
    return true;
}

struct page_slot *refine_page_of(const struct query *query, const struct navigator *n, uint32_t row)
{
    return find_page(n, section_row_place(query_section(query), row).page);
}

void refine_choose(struct query *query, struct navigator *n)
{
    bool reads = refine_weigh(query, n);
    float threshold =
        query->refine_threshold > 0 ? query->refine_threshold : REFINE_DEFAULT_THRESHOLD;
    bool exact = query->index->rows8 && !query->index->vectors;
    query->page_count = 0;
    for (uint32_t i = 0; i < query->candidate_count; i++) {
        const struct candidate *c = &query->candidates[i];
        struct page_slot *slot = reads ? refine_page_of(query, n, c->row) : NULL;
        if (!slot || slot->gain <= threshold)
            hits_push(query, (struct hit){.key = c->estimate, .row = c->row, .exact = exact});
        else if (!slot->chosen) { /* the page brings the distance */
            slot->chosen = 1;
            query->pages[query->page_count++] = slot->page;
        }
    }
}
