/* What may be said of all rows by those of a sample: means, and how far they may be off, also by
 * rows that were skipped (points_sums.c). */
#include "fathom_test.h"

#include <math.h>

#include "points_sample.h"
#include "prng.h"

#define ROWS  800
#define TOLD  150 /* of the rows, those that tell what a longer list changes, */
#define OTHER 450 /* and those that are skipped */

/* -.1, 0 or .1, as often as each other: of variance 1 / 150. */
static float some_change(struct prng *prng)
{
    return 0.1f * ((float)prng_below(prng, 3) - 1);
}

/* Draws what rows tell; returns by how much the mean of all is off, where nothing changes on
 * average. */
static double draw(struct prng *prng, struct points_doubt *doubt)
{
    struct points_change change = {0};
    const struct replay before = {.recall = 0.5f, .reranked_recall = 0.5f};
    double off = 0;
    for (uint32_t i = 0; i < TOLD; i++) {
        struct replay after = before;
        after.recall += some_change(prng);
        points_change_add(&change, &before, &after);
    }
    for (uint32_t i = 0; i < OTHER; i++) {
        struct replay skipped = before;
        points_change_apply(&change, &skipped);
        off += skipped.recall - before.recall;
    }
    points_change_doubt(&change, doubt);
    return off / ROWS;
}

static void what_is_told_of_skipped_rows_is_as_doubtful_as_it_is_wrong(void **state)
{
    enum { DRAWS = 2000 };
    struct prng prng;
    double squares = 0, told = 0;
    (void)state;
    prng_init(&prng, 1, 0);
    for (int i = 0; i < DRAWS; i++) {
        struct points_doubt doubt = {0};
        double off = draw(&prng, &doubt);
        squares += off * off / DRAWS;
        told += doubt.plain / ROWS / ROWS / DRAWS;
        assert_true(doubt.reranked == 0); /* which did not change */
    }
    assert_true(told > 0.9 * squares && told < 1.1 * squares);
}

static struct attained attained_with(bool given, double doubt)
{
    const struct points_sample sample = {.count = ROWS, .offered = 4 * ROWS, .given = given};
    struct points_sums sums = {0};
    for (uint32_t i = 0; i < ROWS; i++)
        points_sums_add(&sums, i % 10 ? 1 : 0.5, 3);
    return points_attained(&sums, &sample, 10, doubt);
}

static void doubt_moves_the_lower_end_and_nothing_else(void **state)
{
    (void)state;
    for (int given = 0; given < 2; given++) {
        struct attained sure = attained_with(given, 0), unsure = attained_with(given, 4);
        assert_true(fabsf(sure.recall - 0.95f) < 1e-6f && sure.reads == 3);
        assert_true(unsure.recall == sure.recall && unsure.reads == sure.reads);
        assert_true(unsure.recall_low < sure.recall_low - 0.0004f);
    }
    /* Errors add up by their squares. */
    double without = 0.95 - (double)attained_with(false, 0).recall_low,
           with = 0.95 - (double)attained_with(false, 4).recall_low, alone = 1.645 * 2 / ROWS;
    assert_true(fabs(with * with - without * without - alone * alone) < 1e-6);
}

static void where_nothing_was_skipped_nothing_is_in_doubt(void **state)
{
    struct points_change change = {0};
    struct points_doubt doubt = {0};
    struct replay before = {.recall = 0.5f}, after = {.recall = 0.9f};
    (void)state;
    points_change_add(&change, &before, &after);
    points_change_add(&change, &before, &before);
    points_change_doubt(&change, &doubt);
    assert_true(doubt.plain == 0);
    points_change_apply(&change, &before);
    assert_true(fabsf(before.recall - 0.7f) < 1e-6f);
    points_change_doubt(&change, &doubt);
    assert_true(fabs(doubt.plain - 0.04) < 1e-6); /* .08 between two, of which one is as good */
    /* Nor is anything known where nobody tells. */
    struct points_change none = {0};
    points_change_apply(&none, &before);
    assert_true(fabsf(before.recall - 0.7f) < 1e-6f);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(what_is_told_of_skipped_rows_is_as_doubtful_as_it_is_wrong),
    cmocka_unit_test(doubt_moves_the_lower_end_and_nothing_else),
    cmocka_unit_test(where_nothing_was_skipped_nothing_is_in_doubt),
};

FATHOM_TEST_MAIN(tests)
