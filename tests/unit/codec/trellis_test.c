/* Codes with a trellis: values nearer than those of as many bits without, bits that are not stored
 * but follow, kernels that score what was meant, and the sums that factors follow from. */
#include "fathom_test.h"

#include <math.h>
#include <string.h>

#include "mem.h"
#include "prng_unit.h"
#include "trellis.h"

#define DIM    128
#define GROUPS (DIM / PLANES_GROUP)
#define UNITS  (PLANES_MAX * GROUPS)

struct fixture {
    float sigma[DIM];
    uint16_t order[UNITS];
    struct planes_level level;
    uint8_t level_bytes[128];
    struct planes_model model;
    struct trellis trellis;
    double u[DIM][TRELLIS_ROWS]; /* what the cells stand for */
    uint8_t cells[DIM * TRELLIS_ROWS], indexes[DIM * TRELLIS_ROWS];
};

static double gaussian(struct prng *prng)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += prng_unit(prng);
    return sum;
}

/* Levels with the given planes, of dimensions that all weigh the same or ever less. */
static void make(struct fixture *f, const uint32_t groups[PLANES_MAX], float fall)
{
    memset(f, 0, sizeof *f);
    for (int d = 0; d < DIM; d++)
        f->sigma[d] = powf(fall, (float)d);
    for (int p = 0; p < PLANES_MAX; p++) {
        f->level.groups[p] = groups[p];
        f->level.code_bytes += groups[p];
    }
    f->model = (struct planes_model){.dim = DIM,
                                     .code_dim = DIM,
                                     .order_count = UNITS,
                                     .sigma = f->sigma,
                                     .level_bytes = f->level_bytes};
    planes_level_table(f->level_bytes, &f->model.level_quantum);
    assert_int_equal(trellis_init(&f->trellis, &f->model, &f->level), 0);
}

static void draw(struct fixture *f, struct prng *prng)
{
    float edges[64];
    planes_thresholds(edges);
    for (uint32_t d = 0; d < DIM; d++)
        for (uint32_t row = 0; row < TRELLIS_ROWS; row++) {
            uint8_t cell = 0;
            f->u[d][row] = gaussian(prng);
            while (cell < 63 && f->u[d][row] >= (double)edges[cell + 1])
                cell++;
            f->cells[trellis_at(&f->trellis, d, row)] = cell;
        }
    trellis_encode(&f->trellis, f->cells, f->indexes);
}

static unsigned bits_of(const struct fixture *f, uint32_t d)
{
    return planes_group_bits(&f->level, d / PLANES_GROUP);
}

/* The error that is left, in parts of that of as many bits without a trellis. */
static double error_left(struct fixture *f)
{
    struct prng prng;
    double with = 0, without = 0;
    prng_init(&prng, 3, 0);
    for (int turn = 0; turn < 20; turn++) {
        draw(f, &prng);
        for (uint32_t d = 0; d < DIM; d++)
            for (uint32_t row = 0; row < TRELLIS_ROWS; row++) {
                size_t at = trellis_at(&f->trellis, d, row);
                bool coded = bits_of(f, d) > 0;
                unsigned drop = PLANES_MAX - bits_of(f, d);
                unsigned plain = (f->cells[at] >> drop << 1 | 1u) << drop;
                double is = (coded ? f->trellis.values[f->indexes[at]] : 0) - f->u[d][row];
                double was = (coded ? f->trellis.plain[plain] : 0) - f->u[d][row];
                double spread = (double)f->sigma[d] * f->sigma[d];
                with += spread * spread * is * is;
                without += spread * spread * was * was;
            }
    }
    return with / without;
}

static void values_are_nearer_than_without(void **state)
{
    static const double most[] = {1, 0.92, 0.76, 0.75, 0.85};
    (void)state;
    for (uint32_t bits = 1; bits <= 4; bits++) {
        uint32_t groups[PLANES_MAX] = {0};
        struct fixture f;
        for (uint32_t p = 0; p < bits; p++)
            groups[p] = GROUPS;
        make(&f, groups, 1);
        double left = error_left(&f);
        if (!(left < most[bits]))
            fail_msg("%u bits: %.3f of the error without", bits, left);
        trellis_fini(&f.trellis);
    }
}

/* Bits that fall with the variance, as they are allotted: dimensions that weigh more come out
 * better. */
static void what_weighs_more_comes_out_better(void **state)
{
    static const uint32_t groups[PLANES_MAX] = {12, 9, 5, 2, 0, 0};
    struct fixture f;
    (void)state;
    make(&f, groups, 0.98f);
    assert_true(error_left(&f) < 0.7);
    trellis_fini(&f.trellis);
}

/* The last stored bit of a step, back round the circle. */
static unsigned last_bit(const struct fixture *f, uint32_t step, uint32_t back, uint32_t row)
{
    uint32_t steps = planes_coded_dim(&f->level), at = (step + steps - back) % steps;
    uint8_t index = f->indexes[(size_t)at * TRELLIS_ROWS + row];
    return index >> (PLANES_MAX + 1 - f->trellis.bits[at]) & 1u;
}

static void bits_that_are_not_stored_follow(void **state)
{
    static const uint32_t groups[PLANES_MAX] = {14, 11, 7, 4, 2, 1};
    struct fixture f;
    struct prng prng;
    (void)state;
    prng_init(&prng, 4, 0);
    make(&f, groups, 0.97f);
    draw(&f, &prng);
    for (uint32_t t = 0; t < planes_coded_dim(&f.level); t++)
        for (uint32_t row = 0; row < TRELLIS_ROWS; row++) {
            unsigned bits = f.trellis.bits[t], index = f.indexes[t * TRELLIS_ROWS + row];
            unsigned sentinel = bits < PLANES_MAX ? 1u << (PLANES_MAX - 1 - bits) : 1;
            assert_int_equal(index & (2 * sentinel - 1), sentinel);
            if (bits < PLANES_MAX)
                assert_int_equal(index >> (PLANES_MAX - bits) & 1u, last_bit(&f, t, 1, row) ^
                                                                        last_bit(&f, t, 3, row) ^
                                                                        last_bit(&f, t, 4, row));
        }
    trellis_fini(&f.trellis);
}

/* A row's first bits as a code, plane after plane. */
static void pack(const struct fixture *f, const struct kernel_codes *plan, uint32_t row,
                 uint8_t *code)
{
    memset(code, 0, plan->code_bytes);
    for (uint32_t d = 0; d < planes_coded_dim(&f->level); d++)
        for (uint32_t p = 0; p < bits_of(f, d); p++)
            code[plan->plane_start[p] + d / 8] |=
                (uint8_t)((f->indexes[trellis_at(&f->trellis, d, row)] >> (6 - p) & 1) << d % 8);
}

static void kernels_score_the_values(void **state)
{
    static const uint32_t groups[PLANES_MAX] = {14, 11, 7, 4, 2, 1};
    struct fixture f;
    struct prng prng;
    uint8_t code[UNITS + KERNEL_CODE_SLACK], sentinel[DIM], level[128];
    int8_t hi[DIM] = {0}, lo[DIM] = {0};
    struct kernel_codes plan;
    struct kernel_trellis trellis;
    struct kernel_query8 query = {.hi = hi, .lo = lo, .dim = DIM};
    (void)state;
    prng_init(&prng, 5, 0);
    make(&f, groups, 0.97f);
    draw(&f, &prng);
    planes_kernel_codes(&f.model, &f.level, sentinel, &plan);
    trellis_level_table(level, &f.model);
    trellis_sentinels(sentinel, &plan);
    kernel_trellis_prepare(&trellis, &plan);
    plan.trellis = &trellis;
    plan.level = level;
    for (uint32_t d = 0; d < planes_coded_dim(&f.level); d++)
        hi[d] = (int8_t)((int)prng_below(&prng, 255) - 127);
    for (uint32_t row = 0; row < TRELLIS_ROWS; row++) {
        int64_t sum = 0;
        float score;
        pack(&f, &plan, row, code);
        kernels_get()->codes_rows(&score, &plan, &query, code, 1);
        for (uint32_t d = 0; d < planes_coded_dim(&f.level); d++)
            sum += (int64_t)level[f.indexes[trellis_at(&f.trellis, d, row)]] * hi[d] * 128;
        assert_true(score == (float)sum);
    }
    trellis_fini(&f.trellis);
}

static void near(double is, double should)
{
    if (!(fabs(is - should) <= 1e-4 * (1 + fabs(should))))
        fail_msg("%.9g, not %.9g", is, should);
}

static void sums_are_those_of_the_values(void **state)
{
    static const uint32_t groups[PLANES_MAX] = {12, 9, 5, 2, 0, 0};
    const struct planes_level coarse = {.code_bytes = 12, .groups = {9, 3}};
    struct fixture f;
    struct prng prng;
    float centroid[DIM];
    (void)state;
    prng_init(&prng, 6, 0);
    make(&f, groups, 0.97f);
    draw(&f, &prng);
    for (int d = 0; d < DIM; d++)
        centroid[d] = (float)gaussian(&prng) * 3;
    struct planes_sums all_got[2][TRELLIS_ROWS];
    float s[TRELLIS_ROWS], products[TRELLIS_ROWS];
    for (uint32_t row = 0; row < TRELLIS_ROWS; row++)
        s[row] = 2.5f;
    for (uint32_t first = 0, end = 11; first < TRELLIS_ROWS; first = end, end = TRELLIS_ROWS) {
        trellis_sums(&f.trellis, f.cells, f.indexes, first, end, s, centroid, all_got[0]);
        trellis_coarse_sums(&f.trellis, &coarse, f.cells, f.indexes, first, end, s, centroid,
                            all_got[1]);
        trellis_centroid_products(&f.trellis, f.cells, first, end, centroid, products);
    }
    for (uint32_t row = 0; row < TRELLIS_ROWS; row += 9) {
        struct planes_sums got[2] = {all_got[0][row], all_got[1][row]}, want[2] = {{0}};
        double all = 0;
        for (uint32_t d = 0; d < DIM; d++) {
            size_t at = trellis_at(&f.trellis, d, row);
            unsigned bits[2] = {bits_of(&f, d), planes_group_bits(&coarse, d / PLANES_GROUP)};
            double u = f.trellis.plain[f.cells[at] << 1 | 1] * f.sigma[d];
            all += centroid[d] * u;
            for (int i = 0; i < 2 && bits[i]; i++) {
                unsigned drop = 7 - bits[1];
                double v =
                    i == 0 ? f.trellis.values[f.indexes[at]]
                           : f.trellis
                                 .plain[(unsigned)f.indexes[at] >> drop << drop | 1u << (drop - 1)];
                v *= f.sigma[d];
                want[i].norm += 2.5 * 2.5 * u * u;
                want[i].decoded_norm += v * v;
                want[i].product += 2.5 * u * v;
                want[i].centroid_product += centroid[d] * v;
            }
        }
        near(products[row], all);
        for (int i = 0; i < 2; i++) {
            near(got[i].norm, want[i].norm);
            near(got[i].decoded_norm, want[i].decoded_norm);
            near(got[i].product, want[i].product);
            near(got[i].centroid_product, want[i].centroid_product);
        }
    }
    trellis_fini(&f.trellis);
}

/* Mirrored about zero, rising with the bits, and the table's own where there are none trained. */
static void values_rise_and_are_mirrored(void **state)
{
    uint8_t plain[128], level[128];
    struct planes_model model = {.level_bytes = plain};
    (void)state;
    planes_level_table(plain, &model.level_quantum);
    trellis_level_table(level, &model);
    for (unsigned length = 2; length <= 5; length++)
        for (unsigned v = 0; v < 1u << length; v++) {
            unsigned index = (v << 1 | 1) << (6 - length), mirrored = 128 - index;
            assert_int_equal(level[index] + level[mirrored], 256);
            if (v)
                assert_true(level[index] >= level[index - (2u << (6 - length))]);
        }
    for (unsigned index = 1; index < 128; index += 2)
        assert_int_equal(level[index], plain[index]);
    assert_int_equal(level[64], plain[64]);
}

static void serves_what_kernels_can_score(void **state)
{
    struct planes_model model = {.code_dim = DIM, .order_count = UNITS};
    struct planes_level level = {.code_bytes = 24, .groups = {12, 8, 4}};
    (void)state;
    assert_true(trellis_serves(&model, &level));
    level.groups[1] = 5; /* most have one bit */
    assert_false(trellis_serves(&model, &level));
    level.groups[1] = 8;
    level.groups[0] = 3; /* too short a circle */
    assert_false(trellis_serves(&model, &level));
    level = (struct planes_level){.code_bytes = KERNEL_TRELLIS_MAX + 1, .groups = {129}};
    assert_false(trellis_serves(&model, &level));
    level = (struct planes_level){.code_bytes = 24, .groups = {12, 8, 4}};
    model.order_count = UNITS / 2; /* cells of six bits are not there */
    assert_false(trellis_serves(&model, &level));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_nearer_than_without),
        cmocka_unit_test(what_weighs_more_comes_out_better),
        cmocka_unit_test(bits_that_are_not_stored_follow),
        cmocka_unit_test(kernels_score_the_values),
        cmocka_unit_test(sums_are_those_of_the_values),
        cmocka_unit_test(values_rise_and_are_mirrored),
        cmocka_unit_test(serves_what_kernels_can_score),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
