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

static void the_least_come_first_wherever_the_cut_is(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 2, 0);
    for (uint32_t count = 0; count <= 160; count++) {
        for (uint32_t turn = 0; turn < 40; turn++) {
            uint64_t keys[161], sorted[161];
            uint32_t least = turn == 0 ? 0 : turn == 1 ? count : prng_below(&prng, count + 1);
            for (uint32_t i = 0; i < count; i++) {
                uint64_t noise = prng_next(&prng); /* few values, one, rising, falling, any */
                keys[i] = turn % 5 == 0   ? noise % 3
                          : turn % 5 == 1 ? 4
                          : turn % 5 == 2 ? i
                          : turn % 5 == 3 ? count - i
                                          : noise;
            }
            keys[count] = 77; /* behind the end */
            memcpy(sorted, keys, sizeof sorted);
            qsort(sorted, count, sizeof *sorted, compare_keys);
            keys_least(keys, count, least);
            assert_int_equal(keys[count], 77);
            qsort(keys, least, sizeof *keys, compare_keys);
            qsort(keys + least, count - least, sizeof *keys, compare_keys);
            assert_memory_equal(keys, sorted, (count + 1) * sizeof *keys);
        }
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(keys_are_sorted_at_every_length),
    cmocka_unit_test(the_largest_keys_are_not_taken_for_padding),
    cmocka_unit_test(the_least_come_first_wherever_the_cut_is),
};

FATHOM_TEST_MAIN(tests)
