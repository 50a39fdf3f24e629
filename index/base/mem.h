/* Aligned memory and checked sizes. Every allocation of the library goes through here, so that a
 * test can fail the Nth one (mem_set_fault) and the ledger can be compared with what was really
 * taken. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEM_ALIGN 64 /* a cache line, and a whole AVX-512 register */
#define MEM_PAGE  4096

/* Zeroed memory aligned to MEM_ALIGN; NULL when there is none (bytes of 0 gives a unique pointer).
 */
void *mem_alloc(size_t bytes);
/* mem_alloc of count * size with the product checked for overflow. */
void *mem_alloc_array(size_t count, size_t size);
/* mem_alloc; prepare is called before anything of the memory is touched. */
void *mem_alloc_prepared(size_t bytes, void (*prepare)(void *memory, size_t bytes));
void mem_free(void *memory);

/* Buffers that pages of files are read to and written from: pages * MEM_PAGE zeroed bytes, aligned
 * to MEM_PAGE for O_DIRECT; NULL when there are none, or pages is 0. A mapping of their own, which
 * is given back whole when it is freed: among smaller blocks they would leave holes that the next
 * buffer of the same size does not fit (glibc before 2.38). */
void *mem_alloc_pages(size_t pages);
/* pages: as many as were asked for. NULL is passed over. */
void mem_free_pages(void *memory, size_t pages);

/* For the tests: fn is asked before each allocation and true makes it fail. NULL takes it away. */
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
