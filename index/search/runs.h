/* Runs: pages that lie near each other in the file are read together, since most of what a read
 * costs the device it costs once. Pages in a gap between two wanted ones come along, unlooked at,
 * where that is cheaper than another read. Whoever chooses pages counts by the price of runs. */
#ifndef SEARCH_RUNS_H
#define SEARCH_RUNS_H

#include <math.h>
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

/* Of wanted places in the order of the file, each of span pages: the run that begins with places[i]
 * ends before places[*next]. Returns its pages. */
static inline uint32_t run_pages(struct run_limits limits, const uint32_t *places, uint32_t i,
                                 uint32_t count, uint32_t span, uint32_t *next)
{
    uint64_t first = (uint64_t)places[i] * span, end = first + span;
    for (i++; i < count && run_takes(limits, first, end, (uint64_t)places[i] * span, span); i++)
        end = (uint64_t)places[i] * span + span;
    *next = i;
    return (uint32_t)(end - first);
}

/* Picks, of pages in the order of the file, those of which gain less price is largest in all:
 * run_weigh for each, whose result is kept, from the first on; then from the last one back, whether
 * it is read, and by what was kept of it whether the one before is. */
struct run_picker {
    float alone, joined; /* price of a read by itself, and of each page further in its run */
    float read, skipped; /* the best up to here, with the last place and without */
    uint32_t span;       /* pages of a place */
    uint32_t place;      /* the last */
};

/* price: of a read of one page. */
static inline struct run_picker run_picker_start(float price, uint32_t span)
{
    return (struct run_picker){.alone = price * (RUN_READ_PRICE + RUN_PAGE_PRICE * (float)span),
                               .joined = price * RUN_PAGE_PRICE,
                               .read = -INFINITY,
                               .span = span};
}

/* How a page is read best: in a run with the one before it, or after one that is read too? */
#define RUN_JOINED 1u
#define RUN_AFTER  2u

static inline uint32_t run_weigh(struct run_picker *picker, uint32_t place, float gain)
{
    float best = picker->read > picker->skipped ? picker->read : picker->skipped;
    float alone = best - picker->alone,
          joined = picker->read -
                   picker->joined * (float)((uint64_t)(place - picker->place) * picker->span);
    uint32_t ways =
        (joined > alone ? RUN_JOINED : 0) | (picker->read > picker->skipped ? RUN_AFTER : 0);
    picker->skipped = best;
    picker->read = gain + (joined > alone ? joined : alone);
    picker->place = place;
    return ways;
}

static inline bool run_read_last(const struct run_picker *picker)
{
    return picker->read > picker->skipped;
}

static inline bool run_read_before(uint32_t ways, bool read)
{
    return (ways & (read && (ways & RUN_JOINED) ? RUN_JOINED : RUN_AFTER)) != 0;
}

#endif
