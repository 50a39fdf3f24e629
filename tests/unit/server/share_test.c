/* A budget that is shared: each index has its least, and all together no byte too many. */
#include "fathom_test.h"

#include "prng.h"
#include "share.h"

#include <string.h>

#define INDEXES_MAX 8

static uint64_t sum_of_least(const struct fathom_outlook *outlooks, unsigned count)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum += outlooks[i].least_bytes;
    return sum;
}

/* What nobody gets of it is less than a byte an index. */
static void expect_kept(const struct fathom_outlook *outlooks, unsigned count, uint64_t budget)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++) {
        assert_true(outlooks[i].budget_bytes >= outlooks[i].least_bytes);
        sum += outlooks[i].budget_bytes;
    }
    if (sum > budget || budget - sum >= count)
        fail_msg("%llu bytes are given of %llu", (unsigned long long)sum,
                 (unsigned long long)budget);
}

static void a_budget_is_split_by_raw_bytes(void **state)
{
    (void)state;
    struct fathom_outlook outlooks[] = {{.raw_bytes = 300, .least_bytes = 1},
                                        {.raw_bytes = 100, .least_bytes = 1}};
    share_out(outlooks, 2, 1000);
    assert_int_equal(outlooks[0].budget_bytes, 750);
    assert_int_equal(outlooks[1].budget_bytes, 250);
}

static void who_gets_the_least_leaves_less_to_others(void **state)
{
    (void)state;
    struct fathom_outlook outlooks[] = {{.raw_bytes = 500, .least_bytes = 480},
                                        {.raw_bytes = 490, .least_bytes = 10},
                                        {.raw_bytes = 10, .least_bytes = 200}};
    share_out(outlooks, 3, 1000); /* the first has enough until the last has got its own */
    assert_int_equal(outlooks[2].budget_bytes, 200);
    assert_int_equal(outlooks[0].budget_bytes, 480);
    assert_int_equal(outlooks[1].budget_bytes, 320);
}

static void no_byte_too_many_is_given(void **state)
{
    struct prng prng;
    (void)state;
    prng_init(&prng, 5, 0);
    for (int turn = 0; turn < 20000; turn++) {
        struct fathom_outlook outlooks[INDEXES_MAX];
        unsigned count = 1 + (unsigned)(prng_next(&prng) % INDEXES_MAX);
        memset(outlooks, 0, sizeof outlooks);
        for (unsigned i = 0; i < count; i++) {
            outlooks[i].raw_bytes = 1 + (prng_next(&prng) >> (8 + prng_next(&prng) % 48));
            outlooks[i].least_bytes = 1 + (prng_next(&prng) >> (8 + prng_next(&prng) % 48));
        }
        uint64_t budget = sum_of_least(outlooks, count);
        budget += turn % 2 ? prng_next(&prng) >> (4 + prng_next(&prng) % 56) : turn % 4;
        share_out(outlooks, count, budget);
        expect_kept(outlooks, count, budget);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_budget_is_split_by_raw_bytes),
    cmocka_unit_test(who_gets_the_least_leaves_less_to_others),
    cmocka_unit_test(no_byte_too_many_is_given),
};

FATHOM_TEST_MAIN(tests)
