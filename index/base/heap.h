/* Heaps in arrays, the last of an order on top: to keep the best of many, and to sort in place.
 * They need no memory beside the items; glibc's qsort takes a block for more than 1 KiB of them,
 * which no ledger knows of, in the middle of a query. Heapsort (Williams 1964, built as by Floyd
 * 1964): not stable. Inlined with the comparison, so that it costs no call for each. */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HEAP_ITEM_MOST 32 /* bytes */
#define HEAP_INLINE    static inline __attribute__((always_inline))

/* Whether a comes behind b: a total order, or equal items come in any order. Items are of so many
 * bytes, a constant, HEAP_ITEM_MOST at the most. */
typedef bool heap_after_fn(const void *a, const void *b);

/* Moves the item at `at` down to its place in the heap of count items. */
HEAP_INLINE void heap_sink(char *heap, size_t count, size_t bytes, size_t at,
                           heap_after_fn *is_after)
{
    char moved[HEAP_ITEM_MOST];
    memcpy(moved, heap + at * bytes, bytes);
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && is_after(heap + (child + 1) * bytes, heap + child * bytes))
            child++;
        if (!is_after(heap + child * bytes, moved))
            break;
        memcpy(heap + at * bytes, heap + child * bytes, bytes);
    }
    memcpy(heap + at * bytes, moved, bytes);
}

/* Puts an item, of which the place at `at` is free, where it belongs on the way up. */
HEAP_INLINE void heap_raise(char *heap, size_t bytes, size_t at, const void *item,
                            heap_after_fn *is_after)
{
    for (; at > 0 && is_after(item, heap + (at - 1) / 2 * bytes); at = (at - 1) / 2)
        memcpy(heap + at * bytes, heap + (at - 1) / 2 * bytes, bytes);
    memcpy(heap + at * bytes, item, bytes);
}

/* Keeps the item if it is among the first `most` (>= 1) of the order; *count of them are there. */
HEAP_INLINE void heap_offer(void *items, uint32_t *count, uint32_t most, const void *item,
                            size_t bytes, heap_after_fn *is_after)
{
    char *heap = items;
    if (*count < most) {
        heap_raise(heap, bytes, (*count)++, item, is_after);
    } else if (is_after(heap, item)) {
        memcpy(heap, item, bytes);
        heap_sink(heap, *count, bytes, 0, is_after);
    }
}

/* count items in whatever order, into ascending order: no heap any more. */
HEAP_INLINE void heap_sort(void *items, size_t count, size_t bytes, heap_after_fn *is_after)
{
    char *heap = items, last[HEAP_ITEM_MOST];
    for (size_t at = count / 2; at-- > 0;)
        heap_sink(heap, count, bytes, at, is_after);
    for (size_t left = count; left-- > 1;) {
        memcpy(last, heap + left * bytes, bytes);
        memcpy(heap + left * bytes, heap, bytes);
        memcpy(heap, last, bytes);
        heap_sink(heap, left, bytes, 0, is_after);
    }
}

#endif
