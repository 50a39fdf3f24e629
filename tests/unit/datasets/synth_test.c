/* Synthetic data: the arithmetic against known values, the bytes pinned, the model's moments. */
#include "datasets_support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "synth.h"
#include "synth_math.h"

#define ROWS      600 /* more than two blocks */
#define DIM       10
#define INTRINSIC 6

static uint64_t hash_bytes(const void *data, size_t bytes)
{
    const uint8_t *at = data;
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ at[i]) * 0x100000001b3u;
    return hash;
}

static struct synth *make(uint64_t seed, uint32_t dim, uint32_t intrinsic, unsigned threads)
{
    struct synth *synth;
    struct fathom_error err = {0};
    if (synth_create(&synth, seed, dim, intrinsic, threads, &err))
        fail_msg("%s", err.msg);
    return synth;
}

static void draw(unsigned threads, enum synth_part part, enum fathom_dtype dtype, void *out)
{
    struct synth *synth = make(7, DIM, INTRINSIC, threads);
    assert_int_equal(synth_rows(synth, part, 0, ROWS, dtype, out, NULL), 0);
    synth_destroy(synth);
}

/* If one of these changes, data sets of the same seed change under everybody who made one. */
static void the_bytes_of_a_seed_are_pinned_for_one_and_two_threads(void **state)
{
    static const uint64_t base_hashes[] = {[FATHOM_F32] = 0x5eab848ab2283527u,
                                           [FATHOM_F16] = 0x7d7accf55ab2f253u,
                                           [FATHOM_I8] = 0x73844f4b72cfa554u,
                                           [FATHOM_U8] = 0xdeb0a35d6ca1a554u};
    static float out[ROWS * DIM];
    (void)state;
    for (unsigned threads = 1; threads <= 3; threads++) {
        for (int dtype = FATHOM_F32; dtype <= FATHOM_U8; dtype++) {
            size_t bytes = ROWS * DIM * fathom_dtype_bytes((enum fathom_dtype)dtype);
            draw(threads, SYNTH_BASE, (enum fathom_dtype)dtype, out);
            if (hash_bytes(out, bytes) != base_hashes[dtype])
                fail_msg("%s with %u threads: 0x%016llx",
                         fathom_dtype_name((enum fathom_dtype)dtype), threads,
                         (unsigned long long)hash_bytes(out, bytes));
        }
        draw(threads, SYNTH_QUERIES, FATHOM_F32, out);
        if (hash_bytes(out, sizeof out) != 0x96ef6635d2492b15u)
            fail_msg("queries with %u threads: 0x%016llx", threads,
                     (unsigned long long)hash_bytes(out, sizeof out));
    }
}

static void rows_do_not_depend_on_how_many_are_asked_for_at_a_time(void **state)
{
    static float whole[ROWS * DIM], parts[ROWS * DIM];
    struct synth *synth = make(7, DIM, INTRINSIC, 2);
    struct fathom_error err;
    (void)state;
    assert_int_equal(synth_rows(synth, SYNTH_BASE, 0, ROWS, FATHOM_F32, whole, NULL), 0);
    assert_int_equal(
        synth_rows(synth, SYNTH_BASE, 512, ROWS - 512, FATHOM_F32, parts + 512 * DIM, NULL), 0);
    assert_int_equal(synth_rows(synth, SYNTH_BASE, 0, 512, FATHOM_F32, parts, NULL), 0);
    assert_memory_equal(whole, parts, sizeof whole);
    assert_int_equal(synth_rows(synth, SYNTH_BASE, 100, 1, FATHOM_F32, parts, &err),
                     FATHOM_EARGUMENT);
    synth_destroy(synth);
}

static void seeds_and_parts_give_different_rows(void **state)
{
    float a[DIM], b[DIM];
    struct synth *synth = make(7, DIM, INTRINSIC, 1), *other = make(8, DIM, INTRINSIC, 1);
    (void)state;
    assert_int_equal(synth_rows(synth, SYNTH_BASE, 0, 1, FATHOM_F32, a, NULL), 0);
    assert_int_equal(synth_rows(synth, SYNTH_QUERIES, 0, 1, FATHOM_F32, b, NULL), 0);
    assert_memory_not_equal(a, b, sizeof a);
    assert_int_equal(synth_rows(other, SYNTH_BASE, 0, 1, FATHOM_F32, b, NULL), 0);
    assert_memory_not_equal(a, b, sizeof a);
    synth_destroy(other);
    synth_destroy(synth);
}

/* Bytes are x / 2 rounded (u8: plus 128), halves the nearest to x. */
static void the_small_types_are_roundings_of_the_floats(void **state)
{
    static float x[ROWS * DIM];
    static uint8_t u8[ROWS * DIM];
    static int8_t i8[ROWS * DIM];
    static uint16_t f16[ROWS * DIM];
    static float halves[ROWS * DIM];
    (void)state;
    draw(1, SYNTH_BASE, FATHOM_F32, x);
    draw(1, SYNTH_BASE, FATHOM_U8, u8);
    draw(1, SYNTH_BASE, FATHOM_I8, i8);
    draw(1, SYNTH_BASE, FATHOM_F16, f16);
    vectors_to_f32(FATHOM_F16, f16, ROWS * DIM, halves);
    for (size_t i = 0; i < ROWS * DIM; i++) {
        float half = x[i] / 2;
        assert_int_equal(u8[i], i8[i] + 128);
        if (half > -128 && half < 127)
            assert_true(fabsf((float)i8[i] - half) <= 0.501f);
        assert_true(fabsf(halves[i] - x[i]) <= fabsf(x[i]) / 2048 + 1e-6f);
    }
}

static void rows_have_the_moments_of_the_model(void **state)
{
    const uint32_t dim = 32;
    const size_t rows = 8192;
    float *x = malloc(rows * dim * sizeof *x);
    struct synth *synth = make(3, dim, 24, 1);
    double sum = 0, square = 0;
    (void)state;
    assert_int_equal(synth_rows(synth, SYNTH_BASE, 0, rows, FATHOM_F32, x, NULL), 0);
    for (size_t i = 0; i < rows * dim; i++) {
        assert_true(isfinite(x[i]));
        sum += x[i];
        square += (double)x[i] * x[i];
    }
    double mean = sum / (double)(rows * dim), deviation = sqrt(square / (double)(rows * dim));
    assert_true(fabs(mean) < 20);
    assert_true(deviation > 50 && deviation < 100);
    free(x);
    synth_destroy(synth);
}

static void silly_models_are_refused(void **state)
{
    struct synth *synth;
    (void)state;
    assert_int_equal(synth_create(&synth, 1, 0, 4, 1, NULL), FATHOM_EARGUMENT);
    assert_int_equal(synth_create(&synth, 1, 4097, 4, 1, NULL), FATHOM_EARGUMENT);
    assert_int_equal(synth_create(&synth, 1, 4, 0, 1, NULL), FATHOM_EARGUMENT);
    assert_int_equal(synth_create(&synth, 1, 4, SYNTH_INTRINSIC_MAX + 1, 1, NULL),
                     FATHOM_EARGUMENT);
    assert_int_equal(synth_create(&synth, 1, 4, 4, 0, NULL), FATHOM_EARGUMENT);
    assert_null(synth);
}

/* ---- the arithmetic ---- */

static void the_normal_quantile_has_the_tabulated_values(void **state)
{
    static const struct {
        double p, x;
    } table[] = {{0.5, 0},
                 {0.8413447460685429, 1},
                 {0.975, 1.959963984540054},
                 {0.925, 1.4395314709384563},
                 {0.9750000001, 1.9599639862507},
                 {1e-3, -3.090232306167814},
                 {1e-9, -5.9978070150076865},
                 {1e-12, -7.034483825011931},
                 {0x1p-53, -8.209536151601387}};
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        assert_true(fabs(synth_normal_quantile(table[i].p) - table[i].x) <=
                    3e-7 * (1 + fabs(table[i].x)));
}

static void normals_have_the_moments_of_a_normal(void **state)
{
    enum { COUNT = 200000 };
    float *x = malloc(COUNT * sizeof *x);
    struct prng prng;
    double sums[4] = {0};
    unsigned beyond = 0;
    (void)state;
    prng_init(&prng, 1, 1);
    synth_normals(&prng, x, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        double power = 1;
        for (int k = 0; k < 4; k++)
            sums[k] += power *= x[i];
        beyond += fabsf(x[i]) > 2;
    }
    assert_true(fabs(sums[0] / COUNT) < 0.01);
    assert_true(fabs(sums[1] / COUNT - 1) < 0.02);
    assert_true(fabs(sums[2] / COUNT) < 0.03);
    assert_true(fabs(sums[3] / COUNT - 3) < 0.1);
    assert_true(fabs(beyond / (double)COUNT - 0.0455) < 0.002);
    free(x);
}

static void tanh_agrees_with_the_library_to_a_millionth(void **state)
{
    (void)state;
    for (double x = -12; x <= 12; x += 0.00137) {
        float value = (float)x;
        synth_tanh(&value, 1);
        assert_true(fabs(value - tanh((float)x)) < 1e-6);
    }
    float ends[] = {0, -0.0f, 1e30f, -1e30f};
    synth_tanh(ends, 4);
    assert_true(ends[0] == 0 && ends[1] == 0 && ends[2] == 1 && ends[3] == -1);
}

static void the_product_adds_in_the_order_of_its_inputs(void **state)
{
    enum { IN = 8, OUT = 19, R = 3 };
    float in[R * IN], weights[IN * OUT], out[R * OUT], want[R * OUT];
    (void)state;
    for (int i = 0; i < R * IN; i++)
        in[i] = (float)(i * 37 % 11) + 0.1f;
    for (int i = 0; i < IN * OUT; i++)
        weights[i] = (float)(i * 53 % 17) - 7.3f;
    for (int i = 0; i < R * OUT; i++)
        out[i] = want[i] = 1e6f;
    synth_product(out, in, weights, R, IN, OUT);
    for (int r = 0; r < R; r++)
        for (int j = 0; j < OUT; j++)
            for (int i = 0; i < IN; i++) {
                volatile float product = in[r * IN + i] * weights[i * OUT + j];
                want[r * OUT + j] += product;
            }
    assert_memory_equal(out, want, sizeof out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_of_a_seed_are_pinned_for_one_and_two_threads),
        cmocka_unit_test(rows_do_not_depend_on_how_many_are_asked_for_at_a_time),
        cmocka_unit_test(seeds_and_parts_give_different_rows),
        cmocka_unit_test(the_small_types_are_roundings_of_the_floats),
        cmocka_unit_test(rows_have_the_moments_of_the_model),
        cmocka_unit_test(silly_models_are_refused),
        cmocka_unit_test(the_normal_quantile_has_the_tabulated_values),
        cmocka_unit_test(normals_have_the_moments_of_a_normal),
        cmocka_unit_test(tanh_agrees_with_the_library_to_a_millionth),
        cmocka_unit_test(the_product_adds_in_the_order_of_its_inputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
