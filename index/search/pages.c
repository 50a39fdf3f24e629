/* Page buffers (see pages.h): slices by a flag each, runs by first fit from where the last was
 * found. */
#include "pages.h"

#include <errno.h>
#include <string.h>

#include "mem.h"

/* ---- arenas ---- */

uint64_t page_arena_bytes(unsigned slices, uint32_t slice_pages)
{
    return (uint64_t)slices * slice_pages * PAGE_BYTES;
}

uint64_t page_arena_own_bytes(unsigned slices)
{
    const struct page_arena *arena;
    return size_round_up(sizeof *arena + slices * sizeof *arena->taken, MEM_ALIGN);
}

int page_arena_create(struct page_arena **out, const struct env *env, unsigned slices,
                      uint32_t slice_pages, bool may_cut)
{
    struct page_arena *arena = mem_alloc(page_arena_own_bytes(slices));
    uint64_t bytes = page_arena_bytes(slices, slice_pages);
    *out = NULL;
    if (!arena)
        return -ENOMEM;
    atomic_init(&arena->references, 1);
    arena->env = env;
    arena->slices = slices;
    arena->slice_pages = slice_pages;
    arena->region = may_cut ? env->map_large(env->context, bytes) : NULL;
    arena->together = arena->region != NULL;
    if (!arena->together)
        arena->region = mem_alloc_pages((size_t)slices * slice_pages);
    if (arena->region)
        *out = arena;
    else
        mem_free(arena);
    return *out ? 0 : -ENOMEM;
}

struct page_arena *page_arena_retain(struct page_arena *arena)
{
    if (arena)
        atomic_fetch_add_explicit(&arena->references, 1, memory_order_relaxed);
    return arena;
}

void page_arena_release(struct page_arena *arena)
{
    /* acq_rel: nobody touches the region once it is given back. */
    if (!arena || atomic_fetch_sub_explicit(&arena->references, 1, memory_order_acq_rel) != 1)
        return;
    if (arena->together)
        arena->env->unmap_large(arena->env->context, arena->region,
                                page_arena_bytes(arena->slices, arena->slice_pages));
    else
        mem_free_pages(arena->region, (size_t)arena->slices * arena->slice_pages);
    mem_free(arena);
}

/* Takes a slice for the pool; false when none is free or large enough. */
static bool take_slice(struct page_pool *pool, struct page_arena *arena)
{
    for (unsigned i = 0; arena && pool->pages <= arena->slice_pages && i < arena->slices; i++)
        if (!atomic_exchange_explicit(&arena->taken[i], true, memory_order_acquire)) {
            pool->arena = page_arena_retain(arena);
            pool->slice = i;
            pool->region = arena->region + (size_t)i * arena->slice_pages * PAGE_BYTES;
            return true;
        }
    return false;
}

/* Release: whoever takes the slice next sees that the pool is done with it. */
static void give_slice(struct page_pool *pool)
{
    atomic_store_explicit(&pool->arena->taken[pool->slice], false, memory_order_release);
    page_arena_release(pool->arena);
}

/* ---- pools ---- */

int page_pool_init(struct page_pool *pool, uint32_t pages, struct page_arena *arena)
{
    *pool = (struct page_pool){.pages = pages, .free = pages};
    if (!take_slice(pool, arena))
        pool->region = mem_alloc_pages(pages);
    pool->used = mem_alloc(pages);
    if (pool->region && pool->used)
        return 0;
    page_pool_fini(pool);
    return -ENOMEM;
}

void page_pool_fini(struct page_pool *pool)
{
    if (pool->arena)
        give_slice(pool);
    else
        mem_free_pages(pool->region, pool->pages);
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
