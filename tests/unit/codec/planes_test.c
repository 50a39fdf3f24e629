/* Bit-plane codes: the compander's distortion, nested allotments, unbiased estimates that get
 * better with bits. */
#include "fathom_test.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "mem.h"
#include "planes.h"
#include "prng_unit.h"

#define DIM   32
#define UNITS (PLANES_MAX * DIM / 8)

/* A model with an identity rotation and falling variances. */
struct fixture {
    int8_t rotation[DIM * DIM];
    float scale[DIM], sigma[DIM];
    uint16_t order[UNITS];
    struct planes_level levels[3];
    uint8_t level_bytes[128], origin[DIM];
    struct planes_model model;
};

static double gaussian(struct prng *prng)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += prng_unit(prng);
    return sum;
}

static void make(struct fixture *f)
{
    static const uint32_t sizes[3] = {4, 10, UNITS};
    double weight[DIM];
    memset(f, 0, sizeof *f);
    for (int d = 0; d < DIM; d++) {
        f->rotation[d * DIM + d] = 127;
        f->scale[d] = 1.0f / 127;
        f->sigma[d] = 10 * powf(0.93f, (float)d);
        weight[d] = pow(f->sigma[d], 2);
    }
    planes_allot(DIM, weight, UNITS, f->order, 3, sizes, f->levels);
    f->model = (struct planes_model){.dim = DIM,
                                     .code_dim = DIM,
                                     .order_count = UNITS,
                                     .level_count = 3,
                                     .rotation = f->rotation,
                                     .rotation_scale = f->scale,
                                     .sigma = f->sigma,
                                     .order = f->order,
                                     .levels = f->levels,
                                     .level_bytes = f->level_bytes,
                                     .origin = f->origin};
    planes_level_table(f->level_bytes, &f->model.level_quantum);
    for (int d = 0; d < DIM; d++)
        f->origin[d] = (uint8_t)(128 + d % 5);
    for (int l = 0; l < 3; l++) {
        f->levels[l].factor_bytes = 4;
        planes_set_ranges(&f->levels[l], 4, 0, 20000);
    }
}

static void the_compander_is_near_the_optimum_at_every_bit(void **state)
{
    /* Lloyd and Max: distortion of the best scalar quantiser of a unit Gaussian. */
    static const float best[] = {1, 0.3634f, 0.1175f, 0.03454f, 0.009497f, 0.002499f};
    (void)state;
    for (unsigned bits = 0; bits < 6; bits++) {
        assert_true(planes_distortion(bits) >= best[bits] * 0.999f);
        assert_true(planes_distortion(bits) <= best[bits] * 1.12f);
    }
}

/* Where N(0, 3) has a share p below, by bisection: the edges of cells are constants, which would
 * not be seen to be wrong. */
static double edge_of(double p)
{
    double low = -40, high = 40;
    for (int i = 0; i < 90; i++) {
        double middle = 0.5 * (low + high);
        if (0.5 * erfc(-middle / sqrt(6)) < p)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static void cells_are_of_equal_probability_at_three_times_the_variance(void **state)
{
    (void)state;
    for (unsigned bits = 1; bits <= PLANES_MAX; bits++)
        for (unsigned cell = 0; cell < 1u << bits; cell++) {
            double from = edge_of(ldexp(cell, -(int)bits)),
                   to = edge_of(ldexp(cell + 1.0, -(int)bits));
            double expected = 0.5 * erfc(-to * M_SQRT1_2) - 0.5 * erfc(-from * M_SQRT1_2);
            double got = (double)planes_cell_probability(cell, bits);
            assert_true(fabs(got - expected) < 1e-6 * expected);
        }
}

static void allotments_are_nested_and_planes_have_no_gaps(void **state)
{
    struct fixture f;
    (void)state;
    make(&f);
    for (int l = 0; l < 3; l++) {
        uint32_t sum = 0;
        for (int p = 0; p < PLANES_MAX; p++) {
            sum += f.levels[l].groups[p];
            assert_true(p == 0 || f.levels[l].groups[p] <= f.levels[l].groups[p - 1]);
            assert_true(l == 0 || f.levels[l].groups[p] >= f.levels[l - 1].groups[p]);
        }
        assert_int_equal(sum, f.levels[l].code_bytes);
    }
}

/* Mean and spread of estimate - truth over random rows, relative to the mean distance. */
static void measure(struct fixture *f, unsigned l, double *bias, double *spread)
{
    struct prng prng;
    float thresholds[64], centroid[DIM], rotated_centroid[DIM], row[DIM], q[DIM], y[DIM],
        units[DIM], rotated[DIM];
    int8_t hi[64], lo[64];
    uint8_t sentinel[64], bits6[DIM], code[UNITS], packed[UNITS + KERNEL_CODE_SLACK] = {0};
    double sum = 0, squares = 0, distances = 0;
    struct kernel_codes plan;
    planes_thresholds(thresholds);
    planes_kernel_codes(&f->model, &f->levels[l], sentinel, &plan);
    prng_init(&prng, 7, l);
    for (int d = 0; d < DIM; d++) {
        centroid[d] = (float)(20 * gaussian(&prng));
        units[d] = centroid[d] - (float)(f->origin[d] - 128);
    }
    planes_rotate(&f->model, units, rotated_centroid);
    for (int trial = 0; trial < 4000; trial++) {
        double norm = 0, truth = 0, base = 0;
        for (int d = 0; d < DIM; d++) {
            float residual = (float)(f->sigma[d] * gaussian(&prng));
            /* A query near the row: half of what the code sees of the row is its own too. */
            float shared = d < (int)planes_coded_dim(&f->levels[l]) ? residual / 2 : 0;
            q[d] = centroid[d] + shared + (float)(f->sigma[d] * gaussian(&prng));
            row[d] = residual;
            norm += residual * residual;
            truth += pow(q[d] - centroid[d] - residual, 2);
            base += pow(q[d] - centroid[d], 2);
            units[d] = q[d];
        }
        struct planes_query query;
        float score, estimate;
        planes_rotate(&f->model, row, y);
        planes_quantise(&f->model, thresholds, y, bits6);
        planes_pack_code(&f->model, bits6, code);
        planes_repack(&f->model, &f->levels[l], code, UNITS, packed, 1);
        struct planes_sums sums = {0};
        planes_sums_advance(&f->model, NULL, &f->levels[l], bits6, y, rotated_centroid, &sums);
        uint32_t factors = planes_pack_factors(&f->levels[l], &sums, norm);
        uint16_t short_factors = (uint16_t)factors;
        const void *stored =
            f->levels[l].factor_bytes == 2 ? (const void *)&short_factors : (const void *)&factors;
        planes_query_init(&query, &f->model, &f->levels[l], units, rotated, hi, lo);
        kernels_get()->codes_rows(&score, &plan, &query.weights, packed, 1);
        planes_estimate_cell(&estimate, &f->levels[l], &query, (float)base, &score, stored, 1);
        sum += estimate - truth;
        squares += pow(estimate - truth, 2);
        distances += truth;
    }
    *bias = sum / distances;
    *spread = sqrt(squares / 4000) / (distances / 4000);
}

static void estimates_are_unbiased_and_sharpen_with_bits(void **state)
{
    struct fixture f;
    double bias[3], spread[3];
    (void)state;
    make(&f);
    for (unsigned l = 0; l < 3; l++) {
        planes_set_ranges(&f.levels[l], 40, -20000, 20000);
        measure(&f, l, &bias[l], &spread[l]);
        assert_true(fabs(bias[l]) < 0.02);
    }
    assert_true(spread[1] < 0.6 * spread[0]);
    assert_true(spread[2] < 0.25 * spread[1]);
    assert_true(spread[2] < 0.03);
}

static void short_factors_cost_short_codes_next_to_nothing(void **state)
{
    struct fixture f;
    double bias, spread[2];
    (void)state;
    make(&f);
    for (unsigned l = 0; l < 2; l++) {
        for (uint32_t wide = 0; wide < 2; wide++) {
            f.levels[l].factor_bytes = wide ? 4 : 2;
            planes_set_ranges(&f.levels[l], 4, -6000, 6000);
            measure(&f, l, &bias, &spread[wide]);
            assert_true(fabs(bias) < 0.02);
        }
        print_message("%g %g\n", spread[0], spread[1]);
        assert_true(spread[0] < 1.05 * spread[1]);
    }
}

/* Sums that have gone from level to level are those of the level alone. */
static void sums_advance_from_level_to_level(void **state)
{
    struct fixture f;
    struct prng prng;
    float thresholds[64], centroid[DIM], y[DIM];
    uint8_t bits6[DIM];
    (void)state;
    make(&f);
    planes_thresholds(thresholds);
    prng_init(&prng, 9, 0);
    for (int d = 0; d < DIM; d++) {
        centroid[d] = (float)(20 * gaussian(&prng));
        y[d] = (float)(f.sigma[d] * gaussian(&prng));
    }
    planes_quantise(&f.model, thresholds, y, bits6);
    struct planes_sums walked = {0};
    for (int l = 0; l < 3; l++) {
        struct planes_sums alone = {0};
        planes_sums_advance(&f.model, l ? &f.levels[l - 1] : NULL, &f.levels[l], bits6, y, centroid,
                            &walked);
        planes_sums_advance(&f.model, NULL, &f.levels[l], bits6, y, centroid, &alone);
        assert_true(fabs(walked.norm - alone.norm) < 1e-6 * alone.norm);
        assert_true(fabs(walked.decoded_norm - alone.decoded_norm) < 1e-6 * alone.norm);
        assert_true(fabs(walked.product - alone.product) < 1e-6 * alone.norm);
        assert_true(fabs(walked.centroid_product - alone.centroid_product) < 1e-4 * alone.norm);
    }
}

/* Found on bible1024: long residuals under a sigma of length one lost their scale. */
static void the_units_of_sigma_do_not_matter(void **state)
{
    struct fixture f;
    struct prng prng;
    float thresholds[64], centroid[DIM] = {0}, y[DIM];
    uint8_t bits6[DIM];
    (void)state;
    make(&f);
    planes_thresholds(thresholds);
    prng_init(&prng, 8, 0);
    for (float unit = 1e-4f; unit < 1e4f; unit *= 10) {
        struct fixture scaled = f;
        scaled.model.sigma = scaled.sigma;
        for (int d = 0; d < DIM; d++) {
            scaled.sigma[d] = f.sigma[d] * unit;
            y[d] = (float)(100 * f.sigma[d] * gaussian(&prng));
        }
        planes_quantise(&f.model, thresholds, y, bits6);
        struct planes_sums plain = {0}, in_units = {0};
        planes_sums_advance(&f.model, NULL, &f.levels[2], bits6, y, centroid, &plain);
        planes_sums_advance(&scaled.model, NULL, &f.levels[2], bits6, y, centroid, &in_units);
        float expected = planes_factors(&plain, 1).scale,
              scale = planes_factors(&in_units, 1).scale;
        assert_true(expected > 0);
        assert_true(fabsf(scale * unit / expected - 1) < 1e-3f);
    }
}

/* Of a row of length 1 whose code is itself times 1 / scale. */
static void factors_survive_packing(void **state)
{
    static const double precision[2] = {1.0 / 60, 1.0 / 8000};
    (void)state;
    for (unsigned wide = 0; wide < 2; wide++) {
        struct planes_level level = {.factor_bytes = wide ? 4 : 2};
        planes_set_ranges(&level, 3.5f, -100, 400);
        for (double scale = 0.3; scale < 3.5; scale *= 1.1) {
            struct planes_sums sums = {.norm = 1,
                                       .decoded_norm = 1 / (scale * scale),
                                       .product = 1 / scale,
                                       .centroid_product = 50};
            struct planes_factors out =
                planes_unpack_factors(&level, planes_pack_factors(&level, &sums, 7));
            assert_true(fabs(out.scale / scale - 1) < precision[wide]);
            /* The estimate of a query half way to the row, with |q - c|^2 = 7: the rounding of
             * scale does not show, that of offset does. */
            double estimate = 7 + out.offset - 2 * out.scale * (50 + 0.5 / scale);
            double exact = 7 + 7 - 2 * 0.5;
            assert_true(fabs(estimate - exact) < level.offset_step);
        }
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(the_compander_is_near_the_optimum_at_every_bit),
    cmocka_unit_test(cells_are_of_equal_probability_at_three_times_the_variance),
    cmocka_unit_test(allotments_are_nested_and_planes_have_no_gaps),
    cmocka_unit_test(estimates_are_unbiased_and_sharpen_with_bits),
    cmocka_unit_test(short_factors_cost_short_codes_next_to_nothing),
    cmocka_unit_test(sums_advance_from_level_to_level),
    cmocka_unit_test(the_units_of_sigma_do_not_matter),
    cmocka_unit_test(factors_survive_packing),
};

FATHOM_TEST_MAIN(tests)
