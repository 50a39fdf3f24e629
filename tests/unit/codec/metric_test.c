/* Work space: squared distance there orders rows as the metric does, and converts back to what
 * users see. */
#include "fathom_test.h"

#include <math.h>

#include "metric.h"
#include "prng_unit.h"
#include "row8.h"

#define DIM 24

static void fill(struct prng *prng, float *v)
{
    for (int d = 0; d < DIM; d++)
        v[d] = (float)(prng_unit(prng) * 2 - 0.7);
}

static double naive(enum fathom_metric metric, const float *q, const float *x)
{
    double dot = 0, qq = 0, xx = 0, l2 = 0;
    for (int d = 0; d < DIM; d++) {
        dot += (double)q[d] * x[d];
        qq += (double)q[d] * q[d];
        xx += (double)x[d] * x[d];
        l2 += ((double)q[d] - x[d]) * ((double)q[d] - x[d]);
    }
    return metric == FATHOM_METRIC_L2   ? l2
           : metric == FATHOM_METRIC_IP ? -dot
                                        : 1 - dot / sqrt(qq * xx);
}

static void work_distance_is_user_distance(void **state)
{
    static const enum fathom_metric metrics[] = {FATHOM_METRIC_L2, FATHOM_METRIC_IP,
                                                 FATHOM_METRIC_COS};
    struct prng prng;
    (void)state;
    prng_init(&prng, 3, 0);
    for (int trial = 0; trial < 300; trial++) {
        enum fathom_metric metric = metrics[trial % 3];
        float q[DIM], x[DIM], work_q[DIM + 1], work_x[DIM + 1], scratch[DIM];
        fill(&prng, q);
        fill(&prng, x);
        double max_norm = 9;
        double norm = metric_work_query(metric, DIM, q, work_q), squared = 0;
        metric_work_row(metric, DIM, max_norm, x, work_x);
        for (uint32_t d = 0; d < metric_work_dim(metric, DIM); d++)
            squared += ((double)work_q[d] - work_x[d]) * ((double)work_q[d] - work_x[d]);
        double expected = naive(metric, q, x);
        assert_true(fabs(metric_user_distance(metric, squared, norm, max_norm) - expected) < 1e-4);
        assert_true(fabs(metric_exact_distance(metric, DIM, q, norm, FATHOM_F32, x, scratch) -
                         expected) < 1e-5);
    }
}

static void bytes_are_their_own_8_bit_form(void **state)
{
    float mean[DIM], q[DIM], x[DIM], units[64];
    int8_t hi[64], lo[64];
    struct row8_model model = {.dim = DIM, .step = 1, .mean = mean};
    struct prng prng;
    (void)state;
    prng_init(&prng, 4, 0);
    for (int trial = 0; trial < 200; trial++) {
        uint8_t row[DIM];
        struct row8_query query;
        struct kernel_score8 score;
        double expected = 0;
        for (int d = 0; d < DIM; d++) {
            mean[d] = 128;
            q[d] = (float)prng_below(&prng, 256);
            x[d] = (float)prng_below(&prng, 256);
            expected += ((double)q[d] - x[d]) * ((double)q[d] - x[d]);
        }
        row8_encode(&model, x, row);
        for (int d = 0; d < DIM; d++)
            assert_int_equal(row[d], (int)x[d]);
        row8_query_init(&query, &model, q, units, hi, lo);
        kernels_get()->score8_rows(&score, &query.weights, row, DIM, 1);
        assert_true(row8_distance(&query, &score) == (float)expected);
    }
}

/* A query may hold any finite values; over a small step some differences are then infinite. */
static void a_query_too_far_off_for_a_float_has_weights_that_are_cut(void **state)
{
    enum { FEW = 4 };
    static const float mean[FEW];
    const float query_values[FEW] = {3e38f, -3e38f, 1e-20f, 0};
    float units[FEW];
    int8_t hi[64], lo[64];
    struct row8_model model = {.dim = FEW, .step = 1e-10f, .mean = mean};
    struct row8_query query;
    (void)state;
    row8_query_init(&query, &model, query_values, units, hi, lo);
    assert_int_equal(hi[0] * 128 + lo[0], ROW8_WEIGHT_MAX);
    assert_int_equal(hi[1] * 128 + lo[1], -ROW8_WEIGHT_MAX);
    assert_int_equal(hi[2] * 128 + lo[2], 0);
    assert_int_equal(row8_weight(NAN), -ROW8_WEIGHT_MAX);
    assert_int_equal(row8_weight(2.5f), 2);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(work_distance_is_user_distance),
    cmocka_unit_test(bytes_are_their_own_8_bit_form),
    cmocka_unit_test(a_query_too_far_off_for_a_float_has_weights_that_are_cut),
};

FATHOM_TEST_MAIN(tests)
