/* Bit-packed arrays at every width. */
#include "fathom_test.h"

#include "bits.h"
#include "mem.h"
#include "prng.h"

static void every_width_comes_back(void **state)
{
    (void)state;
    for (unsigned width = 1; width <= 64; width++) {
        struct prng prng;
        uint8_t *array = mem_alloc(bits_bytes(1000, width) + BITS_SLACK);
        uint64_t mask = width == 64 ? UINT64_MAX : (UINT64_C(1) << width) - 1;
        prng_init(&prng, width, 0);
        for (int i = 999; i >= 0; i--)
            bits_store(array, width, i, UINT64_MAX); /* stores must clear what was there */
        for (int i = 0; i < 1000; i++)
            bits_store(array, width, i, prng_next(&prng) & mask);
        prng_init(&prng, width, 0);
        for (int i = 0; i < 1000; i++)
            assert_int_equal(bits_load(array, width, i), prng_next(&prng) & mask);
        mem_free(array);
    }
}

static void widths_hold_their_values(void **state)
{
    (void)state;
    assert_int_equal(bits_width(0), 1);
    assert_int_equal(bits_width(1), 1);
    assert_int_equal(bits_width(255), 8);
    assert_int_equal(bits_width(256), 9);
    assert_int_equal(bits_width(UINT64_MAX), 64);
    assert_int_equal(bits_bytes(UINT64_MAX, 9), 0);
    assert_int_equal(bits_bytes(3, 3), 2);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_width_comes_back),
    cmocka_unit_test(widths_hold_their_values),
};

FATHOM_TEST_MAIN(tests)
