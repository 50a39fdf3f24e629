/* A page is bound to its bytes and to its place: nothing of either may change unnoticed. */
#include "fathom_test.h"

#include <string.h>

#include "page.h"
#include "prng.h"

static const struct page_place home = {
    .generation = 0x0123456789abcdef, .section = 11, .number = 4711};

static void sealed_page(uint8_t page[PAGE_BYTES])
{
    struct prng prng;
    prng_init(&prng, 1, 0);
    for (int i = 0; i < PAGE_BYTES; i++)
        page[i] = (uint8_t)prng_next(&prng);
    page_seal(page, &home);
}

static void a_sealed_page_checks_at_its_place(void **state)
{
    uint8_t page[PAGE_BYTES];
    (void)state;
    sealed_page(page);
    assert_true(page_check(page, &home));
}

static void sealing_changes_the_header_alone(void **state)
{
    uint8_t before[PAGE_BYTES], after[PAGE_BYTES];
    (void)state;
    sealed_page(before);
    memcpy(after, before, sizeof after);
    memset(after, 0, PAGE_HEADER);
    page_seal(after, &home);
    assert_memory_equal(before, after, sizeof after);
}

static void every_bit_of_a_page_matters(void **state)
{
    uint8_t page[PAGE_BYTES];
    (void)state;
    sealed_page(page);
    for (unsigned bit = 0; bit < 8 * PAGE_BYTES; bit++) {
        page[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (page_check(page, &home))
            fail_msg("bit %u may change unnoticed", bit);
        page[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(page_check(page, &home));
}

static void every_bit_of_the_place_matters(void **state)
{
    uint8_t page[PAGE_BYTES];
    (void)state;
    sealed_page(page);
    for (unsigned bit = 0; bit < 64; bit++) {
        struct page_place stale = home, moved = home, other = home;
        stale.generation ^= UINT64_C(1) << bit;
        moved.number ^= UINT64_C(1) << bit;
        other.section ^= 1u << bit % 32;
        assert_false(page_check(page, &stale));
        assert_false(page_check(page, &moved));
        assert_false(page_check(page, &other));
    }
}

static void places_that_swap_their_parts_differ(void **state)
{
    uint8_t page[PAGE_BYTES];
    struct page_place a = {.generation = 3, .section = 5, .number = 7},
                      b = {.generation = 7, .section = 5, .number = 3};
    struct page_place c = {.generation = 3, .section = 7, .number = 5},
                      d = {.generation = 5, .section = 3, .number = 7};
    (void)state;
    sealed_page(page);
    page_seal(page, &a);
    assert_true(page_check(page, &a));
    assert_false(page_check(page, &b));
    assert_false(page_check(page, &c));
    assert_false(page_check(page, &d));
}

static void a_page_of_zeros_is_refused(void **state)
{
    static const uint8_t zeros[PAGE_BYTES];
    (void)state;
    assert_false(page_check(zeros, &home));
    assert_false(page_check(zeros, &(struct page_place){0}));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_sealed_page_checks_at_its_place),
    cmocka_unit_test(sealing_changes_the_header_alone),
    cmocka_unit_test(every_bit_of_a_page_matters),
    cmocka_unit_test(every_bit_of_the_place_matters),
    cmocka_unit_test(places_that_swap_their_parts_differ),
    cmocka_unit_test(a_page_of_zeros_is_refused),
};

FATHOM_TEST_MAIN(tests)
