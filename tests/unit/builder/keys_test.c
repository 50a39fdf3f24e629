/* Sorting keys: the same as qsort for every length around the powers of two, whatever the keys. */
#include "builder_support.h"

#include <stdlib.h>
#include <string.h>

#include "keys.h"
#include "prng.h"

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void keys_are_sorted_at_every_length(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 1, 0);
    for (uint32_t count = 0; count <= 600; count++) {
        for (int kind = 0; kind < 4; kind++) {
            uint64_t *keys = malloc((count + 1) * sizeof *keys);
            uint64_t *sorted = malloc((count + 1) * sizeof *sorted);
            for (uint32_t i = 0; i < count; i++) {
                uint64_t noise = prng_next(&prng); /* few values, rising, falling, any */
                keys[i] = kind == 0 ? noise % 3 : kind == 1 ? i : kind == 2 ? count - i : noise;
            }
            keys[count] = 77; /* behind the end */
            memcpy(sorted, keys, (count + 1) * sizeof *keys);
            qsort(sorted, count, sizeof *sorted, compare_keys);
            keys_sort(keys, count);
            assert_memory_equal(keys, sorted, (count + 1) * sizeof *keys);
            free(keys);
            free(sorted);
        }
    }
}

static void the_largest_keys_are_not_taken_for_padding(void **state)
{
    (void)state;
    uint64_t keys[5] = {UINT64_MAX, 3, UINT64_MAX, 1, 2};
    const uint64_t sorted[5] = {1, 2, 3, UINT64_MAX, UINT64_MAX};
    keys_sort(keys, 5);
    assert_memory_equal(keys, sorted, sizeof sorted);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(keys_are_sorted_at_every_length),
    cmocka_unit_test(the_largest_keys_are_not_taken_for_padding),
};

FATHOM_TEST_MAIN(tests)
