/* Page buffers (see pages.h): first fit from where the last run was found. */
#include "pages.h"

#include <errno.h>
#include <string.h>

#include "mem.h"

int page_pool_init(struct page_pool *pool, uint32_t pages)
{
    *pool = (struct page_pool){.pages = pages, .free = pages};
    pool->region = mem_alloc_aligned((size_t)pages * PAGE_BYTES, PAGE_BYTES);
    pool->used = mem_alloc(pages);
    if (pool->region && pool->used)
        return 0;
    page_pool_fini(pool);
    return -ENOMEM;
}

void page_pool_fini(struct page_pool *pool)
{
    mem_free(pool->region);
    mem_free(pool->used);
    memset(pool, 0, sizeof *pool);
}

/* The length of the free run at first, up to count. */
static uint32_t free_run(const struct page_pool *pool, uint32_t first, uint32_t count)
{
    uint32_t length = 0;
    while (length < count && first + length < pool->pages && !pool->used[first + length])
        length++;
    return length;
}

uint32_t page_pool_take(struct page_pool *pool, uint32_t count)
{
    if (pool->free < count)
        return PAGES_NONE;
    uint32_t first = pool->hint;
    /* Once round and a little more: a run may lie across the hint. */
    for (uint32_t tried = 0; tried < pool->pages + count;) {
        uint32_t run = free_run(pool, first, count);
        if (run == count) {
            memset(pool->used + first, 1, count);
            pool->free -= count;
            pool->hint = first + count < pool->pages ? first + count : 0;
            return first;
        }
        tried += run + 1;
        first = first + run + 1 < pool->pages ? first + run + 1 : 0;
    }
    return PAGES_NONE;
}

void page_pool_give(struct page_pool *pool, uint32_t first, uint32_t count)
{
    memset(pool->used + first, 0, count);
    pool->free += count;
}
