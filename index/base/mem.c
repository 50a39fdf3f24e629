/* Aligned memory. The fault hook is the one piece of mutable state; tests set it before any thread
 * starts. */
#include "mem.h"

#include <stdlib.h>
#include <string.h>

static bool (*fault_hook)(void *context);
static void *fault_context;

void mem_set_fault(bool (*fn)(void *context), void *context)
{
    fault_hook = fn;
    fault_context = context;
}

static void *allocate(size_t bytes, size_t align, void (*prepare)(void *memory, size_t bytes))
{
    size_t rounded = bytes ? size_round_up(bytes, align) : align;
    if (rounded < bytes || (fault_hook && fault_hook(fault_context)))
        return NULL;
    void *memory = aligned_alloc(align, rounded);
    if (memory && prepare)
        prepare(memory, rounded);
    if (memory)
        memset(memory, 0, rounded);
    return memory;
}

void *mem_alloc_aligned(size_t bytes, size_t align)
{
    return allocate(bytes, align, NULL);
}

void *mem_alloc_prepared(size_t bytes, void (*prepare)(void *memory, size_t bytes))
{
    return allocate(bytes, MEM_ALIGN, prepare);
}

void *mem_alloc(size_t bytes)
{
    return mem_alloc_aligned(bytes, MEM_ALIGN);
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
