/* Page buffers of an engine: a region of pages handed out in runs, for reads of one page or of a
 * row that spans several. */
#ifndef SEARCH_PAGES_H
#define SEARCH_PAGES_H

#include <stdint.h>

#include "fathom/error.h"
#include "page.h"

struct page_pool {
    uint8_t *region; /* pages x PAGE_BYTES, page-aligned */
    uint8_t *used;   /* one byte a page */
    uint32_t pages, free, hint;
};

#define PAGES_NONE UINT32_MAX

int page_pool_init(struct page_pool *pool, uint32_t pages) FATHOM_MUST_USE;
void page_pool_fini(struct page_pool *pool);
/* The first page of a free run, or PAGES_NONE. */
uint32_t page_pool_take(struct page_pool *pool, uint32_t count);
void page_pool_give(struct page_pool *pool, uint32_t first, uint32_t count);

static inline uint8_t *page_pool_at(const struct page_pool *pool, uint32_t page)
{
    return pool->region + (uint64_t)page * PAGE_BYTES;
}

#endif
