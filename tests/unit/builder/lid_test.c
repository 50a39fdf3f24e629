/* In how many directions rows have neighbours: of sets that were made with so many. */
#include "builder_support.h"

#include <math.h>

#include "lid.h"
#include "prng.h"

#define ROWS 8000
#define DIM  64

/* Uniform in so many of the dimensions, and nothing in the others; each row so many times. */
static struct rows8 rows_flat(uint32_t count, uint32_t dimensions, uint32_t times)
{
    struct rows8 rows;
    struct prng prng;
    uint8_t row[DIM] = {0};
    assert_int_equal(rows8_init(&rows, count, DIM), 0);
    prng_init(&prng, 7, dimensions);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t d = 0; d < dimensions && i % times == 0; d++)
            row[d] = (uint8_t)prng_below(&prng, 256);
        rows8_set(&rows, i, row);
    }
    return rows;
}

static double lid_of(struct rows8 rows, unsigned threads)
{
    struct crew crew = crew_of(threads);
    double lid = -1;
    assert_int_equal(lid_estimate(&rows, &crew, &lid), 0);
    rows8_fini(&rows);
    return lid;
}

/* At the edges of the cube there is less than in its middle, the more so the more dimensions. */
static void it_is_the_dimension_that_rows_were_made_with(void **state)
{
    static const struct {
        uint32_t made;
        double least, most;
    } sets[] = {{2, 1.7, 2.3}, {4, 3.2, 4.4}, {8, 5.5, 8.5}, {16, 8.5, 16}};
    (void)state;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        double lid = lid_of(rows_flat(ROWS, sets[i].made, 1), 2);
        if (lid < sets[i].least || lid > sets[i].most)
            fail_msg("%u dimensions: %.2f", sets[i].made, lid);
    }
}

static void threads_do_not_change_it(void **state)
{
    (void)state;
    double one = lid_of(rows_flat(ROWS, 6, 1), 1);
    assert_true(lid_of(rows_flat(ROWS, 6, 1), 2) == one);
    assert_true(lid_of(rows_flat(ROWS, 6, 1), 5) == one);
}

/* A row that is there four times has its first neighbour beyond the other three. */
static void equal_rows_are_no_neighbours(void **state)
{
    (void)state;
    double lid = lid_of(rows_flat(ROWS, 4, 4), 2);
    assert_true(lid > 1 && lid < 5);
}

static void what_cannot_be_told_is_none(void **state)
{
    (void)state;
    assert_true(lid_of(rows_flat(ROWS, 4, ROWS), 2) == 0);
    assert_true(lid_of(rows_flat(20, 4, 1), 2) == 0);
    assert_true(lid_of(rows_flat(0, 4, 1), 2) == 0);
}

static bool is_over(void *context)
{
    (void)context;
    return true;
}

static void it_ends_when_the_work_is_to_end(void **state)
{
    struct rows8 rows = rows_flat(ROWS, 4, 1);
    struct crew crew = crew_of(2);
    double lid = -1;
    (void)state;
    crew.watch.stopped = is_over;
    assert_int_equal(lid_estimate(&rows, &crew, &lid), FATHOM_EINTERRUPTED);
    rows8_fini(&rows);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(it_is_the_dimension_that_rows_were_made_with),
    cmocka_unit_test(threads_do_not_change_it),
    cmocka_unit_test(equal_rows_are_no_neighbours),
    cmocka_unit_test(what_cannot_be_told_is_none),
    cmocka_unit_test(it_ends_when_the_work_is_to_end),
};

FATHOM_TEST_MAIN(tests)
