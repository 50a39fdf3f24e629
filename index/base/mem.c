/* Aligned memory. The fault hook is the one piece of mutable state; tests set it before any thread
 * starts. */
#include "mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "asan.h"

static bool (*fault_hook)(void *context);
static void *fault_context;

void mem_set_fault(bool (*fn)(void *context), void *context)
{
    fault_hook = fn;
    fault_context = context;
}

static bool is_refused(void)
{
    return fault_hook && fault_hook(fault_context);
}

void *mem_alloc_prepared(size_t bytes, void (*prepare)(void *memory, size_t bytes))
{
    size_t rounded = bytes ? size_round_up(bytes, MEM_ALIGN) : MEM_ALIGN;
    if (rounded < bytes || is_refused())
        return NULL;
    void *memory = aligned_alloc(MEM_ALIGN, rounded);
    if (memory && prepare)
        prepare(memory, rounded);
    if (memory)
        memset(memory, 0, rounded);
    return memory;
}

void *mem_alloc(size_t bytes)
{
    return mem_alloc_prepared(bytes, NULL);
}

void *mem_alloc_array(size_t count, size_t size)
{
    size_t bytes;
    return size_mul(count, size, &bytes) ? mem_alloc(bytes) : NULL;
}

void mem_free(void *memory)
{
    free(memory);
}

#if HAS_ASAN
/* Which watches the ends of blocks, and those that nobody frees, and of mappings neither. */
static void *map(size_t bytes)
{
    void *memory = aligned_alloc(MEM_PAGE, bytes);
    return memory ? memset(memory, 0, bytes) : NULL;
}

static void unmap(void *memory, size_t bytes)
{
    (void)bytes;
    free(memory);
}
#else
/* MAP_POPULATE: what is asked for is there from now on, as with every other block. */
static void *map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static void unmap(void *memory, size_t bytes)
{
    munmap(memory, bytes);
}
#endif

void *mem_alloc_pages(size_t pages)
{
    size_t bytes;
    if (pages == 0 || !size_mul(pages, MEM_PAGE, &bytes) || is_refused())
        return NULL;
    return map(bytes);
}

void mem_free_pages(void *memory, size_t pages)
{
    if (memory)
        unmap(memory, pages * MEM_PAGE);
}
