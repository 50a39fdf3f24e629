/* Page buffers of an engine: a region of pages handed out in runs, for reads of one page or of
 * several. The region is the engine's own, or a slice of an arena, which is set aside for the
 * engines of an index. Where it can be had an arena is of memory that lies together, since a read
 * of several pages is one piece to the device there, and is several where pages of memory are
 * scattered (docs/adr/0044, 0054). */
#ifndef SEARCH_PAGES_H
#define SEARCH_PAGES_H

#include <stdatomic.h>
#include <stdint.h>

#include "env.h"
#include "fathom/error.h"
#include "page.h"

/* Shared by threads. Goes with the last reference: its index's, or that of a pool. */
struct page_arena {
    atomic_uint references;
    const struct env *env;
    uint8_t *region;
    uint32_t slice_pages;
    unsigned slices;
    bool together;       /* in memory; else it is of pages that may be anywhere */
    atomic_bool taken[]; /* slices */
};

/* What the pages of an arena take, and the arena itself. */
uint64_t page_arena_bytes(unsigned slices, uint32_t slice_pages);
uint64_t page_arena_own_bytes(unsigned slices);
/* may_cut: is there room, for a moment, for the large pages that memory which lies together is cut
 * from? 0 or -ENOMEM. */
int page_arena_create(struct page_arena **out, const struct env *env, unsigned slices,
                      uint32_t slice_pages, bool may_cut) FATHOM_MUST_USE;
struct page_arena *page_arena_retain(struct page_arena *arena); /* accepts NULL */
void page_arena_release(struct page_arena *arena);              /* accepts NULL */

struct page_pool {
    uint8_t *region; /* pages x PAGE_BYTES, page-aligned */
    uint8_t *used;   /* one byte a page */
    uint32_t pages, free, hint;
    struct page_arena *arena; /* whose slice the region is; NULL: it is the pool's own */
    unsigned slice;
};

#define PAGES_NONE UINT32_MAX

/* arena: where to take the region from, as long as it has a slice of so many pages; NULL: nowhere.
 */
int page_pool_init(struct page_pool *pool, uint32_t pages,
                   struct page_arena *arena) FATHOM_MUST_USE;
void page_pool_fini(struct page_pool *pool);
/* The first page of a free run, or PAGES_NONE. */
uint32_t page_pool_take(struct page_pool *pool, uint32_t count);
void page_pool_give(struct page_pool *pool, uint32_t first, uint32_t count);

static inline uint8_t *page_pool_at(const struct page_pool *pool, uint32_t page)
{
    return pool->region + (uint64_t)page * PAGE_BYTES;
}

#endif
