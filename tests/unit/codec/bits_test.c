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

/* Wherever an array is cut, its pieces together hold what it held, and nothing of other entries. */
static void an_entry_comes_back_from_pieces(void **state)
{
    (void)state;
    for (unsigned width = 1; width <= 64; width++) {
        struct prng prng;
        size_t bytes = bits_bytes(100, width);
        uint8_t *array = mem_alloc(bytes + BITS_SLACK);
        prng_init(&prng, width, 1);
        for (int i = 0; i < 100; i++)
            bits_store(array, width, i, prng_next(&prng));
        for (size_t piece = 1; piece <= bytes; piece += 1 + piece / 3)
            for (int i = 0; i < 100; i++) {
                uint64_t value = 0;
                for (size_t at = 0; at < bytes; at += piece) {
                    size_t count = bytes - at < piece ? bytes - at : piece;
                    uint64_t part = bits_load_piece(array + at, at, count, width, i);
                    bool holds =
                        bits_first_byte(width, i) < at + count && bits_last_byte(width, i) >= at;
                    assert_true(holds || part == 0);
                    value |= part;
                }
                assert_int_equal(value, bits_load(array, width, i));
            }
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
    cmocka_unit_test(an_entry_comes_back_from_pieces),
    cmocka_unit_test(widths_hold_their_values),
};

FATHOM_TEST_MAIN(tests)
