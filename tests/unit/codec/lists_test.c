/* Neighbour lists: what is encoded comes back, and hostile bytes are refused. */
#include "fathom_test.h"

#include <stdbool.h>
#include <string.h>

#include "lists.h"
#include "prng.h"

static void round_trip(uint32_t node, uint32_t rows, uint32_t degree, struct prng *prng)
{
    uint32_t list[LISTS_DEGREE_MAX], expected[LISTS_DEGREE_MAX], out[LISTS_DEGREE_MAX + 4];
    uint8_t bytes[2048];
    for (uint32_t i = 0; i < degree; i++) { /* distinct and not the node */
        uint32_t value;
        bool taken;
        do {
            value = prng_below(prng, rows);
            taken = value == node;
            for (uint32_t j = 0; j < i; j++)
                taken = taken || list[j] == value;
        } while (taken);
        list[i] = value;
    }
    size_t used = list_encode(node, list, degree, rows, bytes);
    memcpy(expected, list, sizeof list); /* sorted by the encoder */
    assert_true(used <= list_bytes_max(degree));
    assert_int_equal(list_decode(node, bytes, used, rows, LISTS_DEGREE_MAX, out), degree);
    assert_memory_equal(out, expected, degree * sizeof *out);
    for (uint32_t i = 1; i < degree; i++)
        assert_true(out[i - 1] < out[i]);
}

static void lists_of_every_degree_come_back(void **state)
{
    struct prng prng;
    (void)state;
    prng_init(&prng, 1, 0);
    for (uint32_t degree = 0; degree <= LISTS_DEGREE_MAX; degree++) {
        round_trip(prng_below(&prng, 4000), 4000, degree, &prng);
        round_trip(prng_below(&prng, UINT32_MAX - 1), UINT32_MAX - 1, degree, &prng);
    }
    round_trip(0, 2, 1, &prng);
    round_trip(1, 2, 1, &prng);
}

static void a_neighbour_beyond_the_rows_is_refused(void **state)
{
    uint32_t list[3] = {1, 5, 9}, out[8];
    uint8_t bytes[64] = {0};
    (void)state;
    size_t used = list_encode(4, list, 3, 10, bytes);
    assert_int_equal(list_decode(4, bytes, used, 10, 8, out), 3);
    assert_int_equal(list_decode(4, bytes, used, 9, 8, out), FATHOM_ECORRUPT);
    assert_int_equal(list_decode(4, bytes, used, 10, 2, out), FATHOM_ECORRUPT);
    assert_int_equal(list_decode(4, bytes, used - 1, 10, 8, out), FATHOM_ECORRUPT);
    assert_int_equal(list_decode(4, bytes, used + 1, 10, 8, out), FATHOM_ECORRUPT);
    assert_int_equal(list_decode(4, bytes, 0, 10, 8, out), FATHOM_ECORRUPT);
}

static void random_bytes_never_give_an_id_out_of_range(void **state)
{
    struct prng prng;
    uint8_t bytes[128];
    uint32_t out[36];
    unsigned accepted = 0;
    (void)state;
    prng_init(&prng, 2, 0);
    for (int trial = 0; trial < 200000; trial++) {
        size_t count = prng_below(&prng, 40);
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)prng_next(&prng) & (trial % 2 ? 0xff : 0x07);
        int degree = list_decode(prng_below(&prng, 100), bytes, count, 100, 32, out);
        assert_true(degree == FATHOM_ECORRUPT || (degree >= 0 && degree <= 32));
        for (int i = 0; i < degree; i++)
            assert_true(out[i] < 100);
        accepted += degree > 0;
    }
    assert_true(accepted > 0); /* or the test would prove nothing */
}

/* Pages of both widths, filled to the brim: each list is found, and nothing beyond the page. */
static void lists_are_found_on_their_page(void **state)
{
    struct prng prng;
    (void)state;
    prng_init(&prng, 3, 0);
    for (uint32_t width = 1; width <= 2; width++)
        for (int trial = 0; trial < 200; trial++) {
            uint8_t page[600] = {0};
            uint16_t lengths[64];
            uint32_t most = width == 1 ? 255 : 400, sum = 0;
            for (int i = 0; i < 64; i++)
                lengths[i] = (uint16_t)(1 + prng_below(&prng, trial % 2 ? most : 20));
            uint32_t count = list_page_fit(lengths, 64, width, sizeof page);
            assert_true(count >= 1 && count <= 64);
            for (uint32_t i = 0; i < count; i++)
                sum += width + lengths[i];
            assert_true(sum <= sizeof page);
            assert_true(count == 64 || sum + width + lengths[count] > sizeof page);
            const uint8_t *at = list_page_begin(page, lengths, count, width);
            for (uint32_t i = 0; i < count; i++, at += lengths[i - 1]) {
                size_t bytes;
                assert_ptr_equal(list_page_find(page, sizeof page, count, width, i, &bytes), at);
                assert_int_equal(bytes, lengths[i]);
            }
            assert_ptr_equal(at, page + sum);
        }
}

static void a_page_of_other_lists_gives_none(void **state)
{
    uint16_t lengths[3] = {10, 20, 30};
    uint8_t page[63];
    size_t bytes;
    (void)state;
    list_page_begin(page, lengths, 3, 1);
    assert_non_null(list_page_find(page, 63, 3, 1, 2, &bytes));
    assert_null(list_page_find(page, 62, 3, 1, 2, &bytes));  /* one byte beyond the page */
    assert_null(list_page_find(page, 63, 64, 1, 0, &bytes)); /* more lists than bytes */
    page[1] = 0;
    assert_null(list_page_find(page, 63, 3, 1, 1, &bytes)); /* no list has no bytes */
    assert_int_equal(list_page_fit(lengths, 0, 1, 63), 0);
    assert_int_equal(list_page_fit(lengths, 3, 1, 63), 3);
    assert_int_equal(list_page_fit(lengths, 3, 1, 62), 2);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(lists_of_every_degree_come_back),
    cmocka_unit_test(a_neighbour_beyond_the_rows_is_refused),
    cmocka_unit_test(random_bytes_never_give_an_id_out_of_range),
    cmocka_unit_test(lists_are_found_on_their_page),
    cmocka_unit_test(a_page_of_other_lists_gives_none),
};

FATHOM_TEST_MAIN(tests)
