/* A sort that needs no memory beside what it sorts, for the path of a query: glibc's qsort takes a
 * block for more than 1 KiB of items, which no ledger knows of. Heapsort (Williams 1964, built as
 * by Floyd 1964): not stable. Inlined with the comparison, so that it costs no call for each. */
#ifndef BASE_SORT_H
#define BASE_SORT_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define SORT_ITEM_MOST 32 /* bytes */

/* Whether a comes behind b: a total order, or equal items come in any order. */
typedef bool sort_after_fn(const void *a, const void *b);

/* Moves the item at `at` down to its place in the heap of count items, the last of the order on
 * top. */
static inline __attribute__((always_inline)) void sort_sift(char *heap, size_t count, size_t bytes,
                                                            size_t at, sort_after_fn *is_after)
{
    char moved[SORT_ITEM_MOST];
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

/* count items of bytes (a constant, at most SORT_ITEM_MOST) each, into ascending order. */
static inline __attribute__((always_inline)) void
sort_in_place(void *items, size_t count, size_t bytes, sort_after_fn *is_after)
{
    char *heap = items, last[SORT_ITEM_MOST];
    for (size_t at = count / 2; at-- > 0;)
        sort_sift(heap, count, bytes, at, is_after);
    for (size_t left = count; left-- > 1;) {
        memcpy(last, heap + left * bytes, bytes);
        memcpy(heap + left * bytes, heap, bytes);
        memcpy(heap, last, bytes);
        sort_sift(heap, left, bytes, 0, is_after);
    }
}

#endif
