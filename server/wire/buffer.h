/* A growing run of bytes that is charged to a shared allowance, so that all connections together
 * stay within it, whichever worker has them. Used for bytes that wait: the start of an unfinished
 * message, and replies not yet sent. */
#ifndef SERVER_BUFFER_H
#define SERVER_BUFFER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/error.h"

/* What buffers may take together, of any threads. */
struct buffer_allowance {
    atomic_size_t used;
    size_t limit;
};

/* False, and nothing is taken, when so many bytes are not left. */
bool allowance_take(struct buffer_allowance *allowance, size_t bytes) FATHOM_MUST_USE;
void allowance_give(struct buffer_allowance *allowance, size_t bytes);

struct buffer {
    uint8_t *bytes;
    size_t size;     /* bytes that are filled */
    size_t capacity; /* bytes that are allocated, all charged */
    struct buffer_allowance *allowance;
};

void buffer_init(struct buffer *buffer, struct buffer_allowance *allowance);
void buffer_fini(struct buffer *buffer);
/* Makes room for count more bytes. 0, or -ENOMEM when the allowance or the memory is used up; the
 * content stays. */
int buffer_reserve(struct buffer *buffer, size_t count) FATHOM_MUST_USE;
int buffer_append(struct buffer *buffer, const void *bytes, size_t count) FATHOM_MUST_USE;
/* Drops the first count bytes. */
void buffer_consume(struct buffer *buffer, size_t count);
/* Empties it, and gives back the memory when it has grown beyond keep bytes. */
void buffer_clear(struct buffer *buffer, size_t keep);

#endif
