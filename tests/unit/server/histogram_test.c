/* Histograms: small values exactly, large ones within 6%, and the sums that Prometheus gets. */
#include "fathom_test.h"

#include "histogram.h"
#include "prng.h"

#include <stdlib.h>
#include <string.h>

static struct histogram histogram;

static struct histogram_sum collect(void)
{
    struct histogram_sum sum;
    memset(&sum, 0, sizeof sum);
    histogram_collect(&histogram, &sum);
    return sum;
}

static int clear(void **state)
{
    (void)state;
    memset(&histogram, 0, sizeof histogram);
    return 0;
}

static void an_empty_histogram_says_nothing(void **state)
{
    (void)state;
    struct histogram_sum sum = collect();
    assert_int_equal(histogram_quantile(&sum, 0.5), 0);
    assert_int_equal(histogram_below(&sum, 20), 0);
}

static void every_value_is_found_again_within_six_percent(void **state)
{
    (void)state;
    for (uint64_t value = 0; value < 1ull << 32; value += 1 + value / 7) {
        clear(state);
        histogram_record(&histogram, value);
        struct histogram_sum sum = collect();
        uint64_t found = histogram_quantile(&sum, 0.5);
        assert_true(found >= value);
        assert_true(found - value <= value / 16);
        assert_int_equal(sum.sum, value);
    }
}

static void values_beyond_the_range_count_as_the_largest(void **state)
{
    (void)state;
    histogram_record(&histogram, UINT64_MAX / 2);
    struct histogram_sum sum = collect();
    assert_int_equal(sum.count, 1);
    assert_int_equal(histogram_quantile(&sum, 0.99), UINT32_MAX);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void quantiles_are_those_of_the_values(void **state)
{
    (void)state;
    static uint64_t values[10000];
    static const double qs[] = {0.01, 0.5, 0.95, 0.99, 0.999};
    struct prng prng;
    prng_init(&prng, 3, 0);
    for (int i = 0; i < 10000; i++) {
        values[i] = prng_next(&prng) >> (34 + prng_below(&prng, 28));
        histogram_record(&histogram, values[i]);
    }
    qsort(values, 10000, sizeof values[0], compare);
    struct histogram_sum sum = collect();
    for (size_t i = 0; i < sizeof qs / sizeof qs[0]; i++) {
        uint64_t exact = values[(size_t)(qs[i] * 10000)];
        uint64_t found = histogram_quantile(&sum, qs[i]);
        assert_true(found >= exact && found <= exact + exact / 16);
    }
}

static void counts_below_powers_of_two_are_exact(void **state)
{
    (void)state;
    struct prng prng;
    uint64_t below[31] = {0};
    prng_init(&prng, 4, 0);
    for (int i = 0; i < 5000; i++) {
        uint64_t value = prng_next(&prng) >> (34 + prng_below(&prng, 28));
        histogram_record(&histogram, value);
        for (unsigned power = 4; power < 31; power++)
            below[power] += value < 1ull << power;
    }
    struct histogram_sum sum = collect();
    for (unsigned power = 4; power < 31; power++)
        assert_int_equal(histogram_below(&sum, power), below[power]);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup(an_empty_histogram_says_nothing, clear),
    cmocka_unit_test_setup(every_value_is_found_again_within_six_percent, clear),
    cmocka_unit_test_setup(values_beyond_the_range_count_as_the_largest, clear),
    cmocka_unit_test_setup(quantiles_are_those_of_the_values, clear),
    cmocka_unit_test_setup(counts_below_powers_of_two_are_exact, clear),
};

FATHOM_TEST_MAIN(tests)
