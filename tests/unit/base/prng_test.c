/* Pseudo-random numbers: builds and synthetic data depend on these sequences, so they are pinned.
 */
#include "fathom_test.h"

#include "prng_unit.h"

static void the_generator_gives_the_published_sequence(void **state)
{
    (void)state;
    /* The authors' reference code from state 1, 2, 3, 4. */
    static const uint64_t expected[] = {
        11520u, 0u, 1509978240u, 1215971899390074240u, 1216172134540287360u, 607988272756665600u,
    };
    struct prng prng = {{1, 2, 3, 4}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_int_equal(prng_next(&prng), expected[i]);
}

static void the_sequences_of_seeds_and_streams_stay_as_they_are(void **state)
{
    (void)state;
    static const struct {
        uint64_t seed, stream, expected[3];
    } pinned[] = {
        {0, 0, {0xfb5405f7bd79c540u, 0x780c98e26cea5883u, 0x2a146e0980febc66u}},
        {1, 0, {0xee127fe613436e33u, 0xd6dad8d34a1874eau, 0x2a52c16cec1116a9u}},
        {42, 0, {0x19e479e2aaa77bfbu, 0x5e3efe753be27527u, 0xc3ed7125b780200au}},
        {42, 1, {0xc2faaa11a6d3ad7du, 0x20df191928673a4au, 0x9f1f3bef7f9a3f54u}},
        {42, 7, {0x62737c38a122f17bu, 0xea6ebb82a9ba9dafu, 0xd441ca1af7a73d34u}},
        {UINT64_MAX, UINT64_MAX, {0xe9fc6d9be884c3eeu, 0x4980a5a6f711ebe8u, 0x5af9709165e7a521u}},
    };
    for (size_t i = 0; i < sizeof pinned / sizeof pinned[0]; i++) {
        struct prng prng;
        prng_init(&prng, pinned[i].seed, pinned[i].stream);
        for (int j = 0; j < 3; j++)
            assert_int_equal(prng_next(&prng), pinned[i].expected[j]);
    }
}

static void streams_of_one_seed_differ(void **state)
{
    (void)state;
    struct prng a, b;
    prng_init(&a, 7, 0);
    prng_init(&b, 7, 1);
    int equal = 0;
    for (int i = 0; i < 1000; i++)
        equal += prng_next(&a) == prng_next(&b);
    assert_int_equal(equal, 0);
}

static void below_stays_below_its_bound_and_reaches_every_value(void **state)
{
    (void)state;
    static const uint32_t bounds[] = {1, 2, 3, 7, 10, 1000};
    struct prng prng;
    prng_init(&prng, 42, 0);
    for (size_t b = 0; b < sizeof bounds / sizeof bounds[0]; b++) {
        uint8_t seen[1000] = {0};
        uint32_t distinct = 0;
        for (int i = 0; i < 20000; i++) {
            uint32_t value = prng_below(&prng, bounds[b]);
            assert_true(value < bounds[b]);
            distinct += !seen[value];
            seen[value] = 1;
        }
        assert_int_equal(distinct, bounds[b]);
    }
}

static void below_a_huge_bound_has_no_bias(void **state)
{
    (void)state;
    /* With a modulo, the lower half would come up twice as often as the upper. */
    const uint32_t bound = 3u << 30;
    struct prng prng;
    prng_init(&prng, 42, 0);
    int low = 0;
    for (int i = 0; i < 100000; i++)
        low += prng_below(&prng, bound) < bound / 2;
    assert_in_range(low, 49000, 51000);
}

static void unit_is_within_zero_and_one_and_has_the_right_mean(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 42, 0);
    double sum = 0;
    for (int i = 0; i < 100000; i++) {
        double u = prng_unit(&prng);
        assert_true(u >= 0 && u < 1);
        sum += u;
    }
    assert_true(sum > 49500 && sum < 50500);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(the_generator_gives_the_published_sequence),
    cmocka_unit_test(the_sequences_of_seeds_and_streams_stay_as_they_are),
    cmocka_unit_test(streams_of_one_seed_differ),
    cmocka_unit_test(below_stays_below_its_bound_and_reaches_every_value),
    cmocka_unit_test(below_a_huge_bound_has_no_bias),
    cmocka_unit_test(unit_is_within_zero_and_one_and_has_the_right_mean),
};

FATHOM_TEST_MAIN(tests)
