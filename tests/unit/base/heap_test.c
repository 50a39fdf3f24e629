/* Heaps against qsort: what is sorted in place, and what is kept of many. */
#include "fathom_test.h"

#include <stdlib.h>
#include <string.h>

#include "heap.h"
#include "prng.h"

#define COUNT_MOST 300

struct item {
    float key;
    uint32_t row;
    uint64_t beside;
};

static bool is_after(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    return x->key != y->key ? x->key > y->key : x->row > y->row;
}

static int compare(const void *a, const void *b)
{
    return is_after(a, b) ? 1 : is_after(b, a) ? -1 : 0;
}

static void items_are_sorted_as_by_qsort(void **state)
{
    (void)state;
    struct item items[COUNT_MOST], wanted[COUNT_MOST];
    struct prng prng;
    prng_init(&prng, 1, 0);
    for (size_t count = 0; count <= COUNT_MOST; count++) {
        memset(items, 0, sizeof items);
        for (size_t i = 0; i < count; i++)
            items[i] = (struct item){.key = (float)prng_below(&prng, count / 4 + 1),
                                     .row = (uint32_t)i,
                                     .beside = i * 7};
        memcpy(wanted, items, sizeof items);
        qsort(wanted, count, sizeof *wanted, compare);
        heap_sort(items, count, sizeof *items, is_after);
        assert_memory_equal(items, wanted, sizeof items);
        heap_sort(items, count, sizeof *items, is_after); /* what is sorted stays so */
        assert_memory_equal(items, wanted, sizeof items);
    }
}

static void the_first_of_many_are_kept(void **state)
{
    (void)state;
    struct item items[COUNT_MOST], kept[COUNT_MOST];
    struct prng prng;
    prng_init(&prng, 2, 0);
    for (uint32_t most = 1; most <= COUNT_MOST + 7; most += 6) {
        uint32_t count = 0, wanted = most < COUNT_MOST ? most : COUNT_MOST;
        memset(items, 0, sizeof items);
        for (uint32_t i = 0; i < COUNT_MOST; i++) {
            items[i] = (struct item){.key = (float)prng_below(&prng, 40), .row = i, .beside = i};
            heap_offer(kept, &count, wanted, &items[i], sizeof *items, is_after);
            assert_int_equal(count, i + 1 < wanted ? i + 1 : wanted);
        }
        qsort(items, COUNT_MOST, sizeof *items, compare);
        assert_memory_equal(&kept[0], &items[wanted - 1], sizeof *items); /* the last on top */
        heap_sort(kept, count, sizeof *kept, is_after);
        assert_memory_equal(kept, items, count * sizeof *items);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(items_are_sorted_as_by_qsort),
    cmocka_unit_test(the_first_of_many_are_kept),
};

FATHOM_TEST_MAIN(tests)
