/* Aligned memory and checked sizes. Every allocation of the library goes through here, so that a
 * test can fail the Nth one (mem_set_fault) and the ledger can be compared with what was really
 * taken. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEM_ALIGN 64 /* a cache line, and a whole AVX-512 register */

/* Zeroed memory aligned to MEM_ALIGN; NULL when there is none (bytes of 0 gives a unique pointer).
 */
void *mem_alloc(size_t bytes);
/* mem_alloc of count * size with the product checked for overflow. */
void *mem_alloc_array(size_t count, size_t size);
/* Zeroed memory aligned to align (a power of two >= MEM_ALIGN), for O_DIRECT buffers. */
void *mem_alloc_aligned(size_t bytes, size_t align);
/* mem_alloc; prepare is called before anything of the memory is touched. */
void *mem_alloc_prepared(size_t bytes, void (*prepare)(void *memory, size_t bytes));
void mem_free(void *memory);

/* Tests only: fn is asked before each allocation and true makes it fail. NULL takes it away. */
void mem_set_fault(bool (*fn)(void *context), void *context);

static inline bool size_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool size_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline size_t size_round_up(size_t value, size_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

#endif
