/* Buffers grow by doubling, so that appending is linear, and shrink only when they are cleared. */
#include "buffer.h"

#include "mem.h"

#include <errno.h>
#include <string.h>

#define BUFFER_BYTES_MIN 1024

bool allowance_take(struct buffer_allowance *allowance, size_t bytes)
{
    size_t used = atomic_load_explicit(&allowance->used, memory_order_relaxed);
    do {
        if (used > allowance->limit || bytes > allowance->limit - used)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&allowance->used, &used, used + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

void allowance_give(struct buffer_allowance *allowance, size_t bytes)
{
    atomic_fetch_sub_explicit(&allowance->used, bytes, memory_order_relaxed);
}

void buffer_init(struct buffer *buffer, struct buffer_allowance *allowance)
{
    memset(buffer, 0, sizeof *buffer);
    buffer->allowance = allowance;
}

void buffer_fini(struct buffer *buffer)
{
    allowance_give(buffer->allowance, buffer->capacity);
    mem_free(buffer->bytes);
    buffer->bytes = NULL;
    buffer->size = buffer->capacity = 0;
}

int buffer_reserve(struct buffer *buffer, size_t count)
{
    size_t need;
    if (!size_add(buffer->size, count, &need) || need > SIZE_MAX / 4)
        return -ENOMEM;
    if (need <= buffer->capacity)
        return 0;
    size_t capacity = buffer->capacity ? buffer->capacity : BUFFER_BYTES_MIN;
    while (capacity < need)
        capacity *= 2;
    size_t more = capacity - buffer->capacity;
    if (!allowance_take(buffer->allowance, more))
        return -ENOMEM;
    uint8_t *bytes = mem_alloc(capacity);
    if (!bytes) {
        allowance_give(buffer->allowance, more);
        return -ENOMEM;
    }
    if (buffer->size > 0)
        memcpy(bytes, buffer->bytes, buffer->size);
    mem_free(buffer->bytes);
    buffer->bytes = bytes;
    buffer->capacity = capacity;
    return 0;
}

int buffer_append(struct buffer *buffer, const void *bytes, size_t count)
{
    int rc = buffer_reserve(buffer, count);
    if (rc < 0)
        return rc;
    if (count > 0)
        memcpy(buffer->bytes + buffer->size, bytes, count);
    buffer->size += count;
    return 0;
}

void buffer_consume(struct buffer *buffer, size_t count)
{
    buffer->size -= count;
    if (buffer->size > 0)
        memmove(buffer->bytes, buffer->bytes + count, buffer->size);
}

void buffer_clear(struct buffer *buffer, size_t keep)
{
    buffer->size = 0;
    if (buffer->capacity > keep)
        buffer_fini(buffer);
}
