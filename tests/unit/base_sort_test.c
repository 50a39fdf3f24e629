/* The sort of a query's path against qsort. */
#include "fathom_test.h"

#include <stdlib.h>
#include <string.h>

#include "prng.h"
#include "sort.h"

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
        sort_in_place(items, count, sizeof *items, is_after);
        assert_memory_equal(items, wanted, sizeof items);
        sort_in_place(items, count, sizeof *items, is_after); /* what is sorted stays so */
        assert_memory_equal(items, wanted, sizeof items);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(items_are_sorted_as_by_qsort),
};

FATHOM_TEST_MAIN(tests)
