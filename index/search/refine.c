/* Refine by interval, in one wave: which pages to read so that the result is right, and no more.
 *
 * With tau half way between the k-th and the next estimate, a candidate belongs to the result with
 * probability about P = Phi((tau - estimate) / sigma). Reading it is worth what an error would
 * cost: min(P, 1 - P), so the certainly-in are skipped like the certainly-out. A page is worth the
 * sum over its candidates, and is read when that is above a threshold. */
#include <math.h>
#include <string.h>

#include "query.h"
#include "select.h"

#define TAIL_STEPS        16 /* entries of navigator->tail a sigma */
#define TAIL_END          80
#define DEFAULT_THRESHOLD 0.06f
#define WIDTH             1.0f /* of the error bounds, in sigmas as calibrated */

static float doubt(const struct navigator *n, const struct candidate *c, float tau)
{
    if (c->sigma <= 0)
        return 0;
    float z = fabsf(c->estimate - tau) / (WIDTH * c->sigma);
    uint32_t step = z < 5 ? (uint32_t)(z * TAIL_STEPS) : TAIL_END;
    return step < TAIL_END ? n->tail[step] : 0;
}

/* The k-th smallest estimate and the one after it, averaged. Reorders the candidates. */
static float boundary(struct query *query)
{
    struct candidate *c = query->candidates;
    uint32_t count = query->candidate_count, k = query->k;
    if (count <= k)
        return INFINITY;
    select_best(c, count, k);
    float inside = -INFINITY, outside = INFINITY;
    for (uint32_t i = 0; i < k; i++)
        inside = c[i].estimate > inside ? c[i].estimate : inside;
    for (uint32_t i = k; i < count; i++)
        outside = c[i].estimate < outside ? c[i].estimate : outside;
    return 0.5f * (inside + outside);
}

static struct page_slot *find_page(struct navigator *n, uint64_t page)
{
    uint32_t slot = (uint32_t)(page * 0x9e3779b97f4a7c15u >> 40) & n->page_mask;
    while (n->page_slots[slot].page && n->page_slots[slot].page != page)
        slot = (slot + 1) & n->page_mask;
    return &n->page_slots[slot];
}

void refine_choose(struct query *query, struct navigator *n)
{
    const struct section *section = query_section(query);
    struct candidate *c = query->candidates;
    float tau = boundary(query);
    float threshold = query->refine_threshold > 0 ? query->refine_threshold : DEFAULT_THRESHOLD;
    bool exact = query->index->rows8 && !query->index->vectors;
    query->page_count = 0;
    if (section)
        memset(n->page_slots, 0, ((size_t)n->page_mask + 1) * sizeof *n->page_slots);
    for (uint32_t i = 0; section && i < query->candidate_count; i++) {
        float worth = isinf(tau) ? 0 : doubt(n, &c[i], tau);
        struct page_slot *slot = find_page(n, section_row_place(section, c[i].row).page);
        slot->page = section_row_place(section, c[i].row).page;
        slot->gain += worth;
        if (slot->gain > threshold && !slot->chosen) {
            slot->chosen = 1;
            query->pages[query->page_count++] = slot->page;
        }
    }
    for (uint32_t i = 0; i < query->candidate_count; i++) {
        if (section && find_page(n, section_row_place(section, c[i].row).page)->chosen)
            continue; /* its page brings the distance */
        hits_push(query, (struct hit){.key = c[i].estimate, .row = c[i].row, .exact = exact});
    }
}
