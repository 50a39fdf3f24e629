/* Memory for what is read at random places, row by row: in large pages as far as it fills them, so
 * that finding a place takes no longer than reading it (docs/adr/0059). All of it is touched when
 * it is taken, so that large pages hold no more than small ones would. */
#ifndef BUILDER_LARGE_H
#define BUILDER_LARGE_H

#include "env.h"
#include "mem.h"

/* Zeroed, aligned to MEM_ALIGN, for mem_free. NULL when there is none, or when the product
 * overflows. */
static inline void *large_alloc_array(size_t count, size_t size)
{
    size_t bytes;
    if (!size_mul(count, size, &bytes))
        return NULL;
    return mem_alloc_prepared(bytes, bytes >= ENV_LARGE_LEAST_BYTES ? env_prefer_large : NULL);
}

#endif
