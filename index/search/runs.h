/* Runs: pages that lie near each other in the file are read together, since most of what a read
 * costs the device it costs once. Pages in a gap between two wanted ones come along, unlooked at,
 * where that is cheaper than another read. Whoever chooses pages counts by the price of runs. */
#ifndef SEARCH_RUNS_H
#define SEARCH_RUNS_H

#include <stdbool.h>
#include <stdint.h>

#define RUN_PAGES_MAX 8 /* of one read; more only for a row that spans more */
#define RUN_GAP_MAX   1 /* pages between two wanted ones */

/* What a read costs, in reads of one page: so much by itself and for each page (docs/adr/0037). */
#define RUN_READ_PRICE 0.65f
#define RUN_PAGE_PRICE 0.35f

/* Do span pages at next (>= end) belong to the run of pages from first to before end? */
static inline bool run_takes(uint64_t first, uint64_t end, uint64_t next, uint32_t span)
{
    return next - end <= RUN_GAP_MAX && next + span - first <= RUN_PAGES_MAX;
}

/* Of wanted pages in the order of the file, span pages each: the run that begins with pages[i] ends
 * before pages[*next]. Returns its pages. */
static inline uint32_t run_pages(const uint64_t *pages, uint32_t i, uint32_t count, uint32_t span,
                                 uint32_t *next)
{
    uint64_t first = pages[i], end = first + span;
    for (i++; i < count && run_takes(first, end, pages[i], span); i++)
        end = pages[i] + span;
    *next = i;
    return (uint32_t)(end - first);
}

#endif
