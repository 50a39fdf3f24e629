/* Runs: pages that lie near each other in the file are read together, since most of what a read
 * costs the device it costs once. Pages in a gap between two wanted ones come along, unlooked at,
 * where that is cheaper than another read. Whoever chooses pages counts by the price of runs. */
#ifndef SEARCH_RUNS_H
#define SEARCH_RUNS_H

#include <stdbool.h>
#include <stdint.h>

struct run_limits {
    uint32_t pages_max; /* of one read; more only for a row that spans more */
    uint32_t gap_max;   /* pages between two wanted ones */
};

#define RUN_PAGES_MAX 16

/* Into page buffers that are scattered in memory, of which each is one piece more to the device,
 * into such as lie together (docs/adr/0044), and into few of those, which long reads would use up
 * (docs/adr/0054). Which pages are wanted does not depend on it. */
static const struct run_limits runs_small = {.pages_max = 8, .gap_max = 1},
                               runs_large = {.pages_max = RUN_PAGES_MAX, .gap_max = 6},
                               runs_few = {.pages_max = 8, .gap_max = 2};
#define RUN_BUFFERS_FEW 64 /* of an engine: less are few */

/* What a read costs, in reads of one page: so much by itself and for each page (docs/adr/0037). Of
 * scattered buffers: those by which pages are picked are the same for all. */
#define RUN_READ_PRICE 0.65f
#define RUN_PAGE_PRICE 0.35f

/* Do span pages at next (>= end) belong to the run of pages from first to before end? */
static inline bool run_takes(struct run_limits limits, uint64_t first, uint64_t end, uint64_t next,
                             uint32_t span)
{
    return next - end <= limits.gap_max && next + span - first <= limits.pages_max;
}

/* Of wanted pages in the order of the file, span pages each: the run that begins with pages[i] ends
 * before pages[*next]. Returns its pages. */
static inline uint32_t run_pages(struct run_limits limits, const uint64_t *pages, uint32_t i,
                                 uint32_t count, uint32_t span, uint32_t *next)
{
    uint64_t first = pages[i], end = first + span;
    for (i++; i < count && run_takes(limits, first, end, pages[i], span); i++)
        end = pages[i] + span;
    *next = i;
    return (uint32_t)(end - first);
}

#endif
