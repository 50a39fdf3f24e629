/* Exact ground truth against a plain double loop, for every metric and type, with ties, zero rows
 * and awkward numbers. */
#include "datasets_support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "exact_scan.h"
#include "exact_truth.h"
#include "prng_unit.h"
#include "vector_writer.h"

struct set {
    char base_path[SCRATCH_PATH_MAX], query_path[SCRATCH_PATH_MAX];
    struct vector_file *base, *queries;
    float *base_values, *query_values;
    uint32_t base_rows, query_rows, dim;
};

static void write_values(const char *path, enum fathom_dtype dtype, uint32_t rows, uint32_t dim,
                         const void *data)
{
    struct vector_writer *writer;
    assert_int_equal(vector_writer_open(&writer, env_os(), path, rows, dim, dtype, NULL), 0);
    assert_int_equal(vector_writer_write(writer, data, rows, NULL), 0);
    assert_int_equal(vector_writer_finish(writer, NULL), 0);
    vector_writer_close(writer);
}

static float *read_back(struct vector_file *file)
{
    struct vector_info info = vector_file_info(file);
    float *values = malloc(info.rows * info.dim * sizeof *values);
    assert_non_null(values);
    assert_int_equal(vector_file_read_f32(file, 0, info.rows, values, NULL), 0);
    return values;
}

/* Small integers, so that ties are many; times scale for floats, plus offset. */
static void fill(enum fathom_dtype dtype, struct prng *prng, size_t count, void *out, float scale,
                 float offset)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t level = prng_below(prng, 4);
        switch (dtype) {
        case FATHOM_F32:
            ((float *)out)[i] = (float)level * scale + offset;
            break;
        case FATHOM_F16:
            ((uint16_t *)out)[i] = (uint16_t)(0x3c00 + 0x123 * level);
            break;
        case FATHOM_I8:
            ((int8_t *)out)[i] = (int8_t)(level * 60) - 100;
            break;
        case FATHOM_U8:
            ((uint8_t *)out)[i] = (uint8_t)(level * 80);
            break;
        }
    }
}

static struct set make_set(void *state, enum fathom_dtype dtype, uint32_t base_rows,
                           uint32_t query_rows, uint32_t dim, float scale, float offset)
{
    struct set set = {.base_rows = base_rows, .query_rows = query_rows, .dim = dim};
    struct prng prng;
    prng_init(&prng, dim, base_rows);
    void *data = malloc((size_t)base_rows * dim * sizeof(float));
    scratch_name(state, "base.npy", set.base_path);
    scratch_name(state, "query.npy", set.query_path);
    fill(dtype, &prng, (size_t)base_rows * dim, data, scale, offset);
    write_values(set.base_path, dtype, base_rows, dim, data);
    fill(dtype, &prng, (size_t)query_rows * dim, data, scale, offset);
    write_values(set.query_path, dtype, query_rows, dim, data);
    free(data);
    set.base = vectors_open_ok(set.base_path);
    set.queries = vectors_open_ok(set.query_path);
    set.base_values = read_back(set.base);
    set.query_values = read_back(set.queries);
    return set;
}

static void drop_set(struct set *set)
{
    vector_file_close(set->base);
    vector_file_close(set->queries);
    free(set->base_values);
    free(set->query_values);
}

static double naive_distance(const struct set *set, enum fathom_metric metric, uint32_t query,
                             uint32_t row)
{
    const float *q = set->query_values + (size_t)query * set->dim;
    const float *b = set->base_values + (size_t)row * set->dim;
    long double l2 = 0, dot = 0, qq = 0, bb = 0;
    for (uint32_t i = 0; i < set->dim; i++) {
        long double difference = (long double)q[i] - b[i];
        l2 += difference * difference;
        dot += (long double)q[i] * b[i];
        qq += (long double)q[i] * q[i];
        bb += (long double)b[i] * b[i];
    }
    return (double)(metric == FATHOM_METRIC_L2   ? l2
                    : metric == FATHOM_METRIC_IP ? -dot
                                                 : 1 - dot / sqrtl(qq * bb));
}

/* Each answer is as near as the naive one at its place, in order, without repeats; equal distances
 * by rising id. slack is what float64 may differ by. */
static void assert_exact(const struct set *set, const struct truth *truth,
                         enum fathom_metric metric, double slack)
{
    double *all = malloc(set->base_rows * sizeof *all),
           *sorted = malloc(set->base_rows * sizeof *all);
    for (uint32_t q = 0; q < set->query_rows; q++) {
        for (uint32_t r = 0; r < set->base_rows; r++)
            sorted[r] = all[r] = naive_distance(set, metric, q, r);
        for (uint32_t i = 0; i < truth->k; i++) { /* selection sort of the first k */
            for (uint32_t r = i + 1; r < set->base_rows; r++) {
                if (sorted[r] < sorted[i]) {
                    double swap = sorted[i];
                    sorted[i] = sorted[r];
                    sorted[r] = swap;
                }
            }
            uint64_t id = truth->ids[(size_t)q * truth->k + i];
            assert_true(id < set->base_rows);
            assert_true(fabs(all[id] - sorted[i]) <= slack);
            assert_true(truth->distances[(size_t)q * truth->k + i] == (float)all[id] ||
                        fabs(truth->distances[(size_t)q * truth->k + i] - all[id]) <=
                            1e-6 * fabs(all[id]) + slack);
            if (i > 0 && all[id] == sorted[i - 1] &&
                all[truth->ids[(size_t)q * truth->k + i - 1]] == all[id])
                assert_true(slack > 0 || id > truth->ids[(size_t)q * truth->k + i - 1]);
        }
    }
    free(all);
    free(sorted);
}

static struct truth *compute(const struct set *set, struct exact_options options)
{
    struct truth *truth;
    struct fathom_error err = {0};
    if (exact_truth(&truth, set->base, set->queries, &options, NULL, &err))
        fail_msg("%s", err.msg);
    return truth;
}

static void every_metric_and_type_agrees_with_a_plain_loop(void **state)
{
    for (int dtype = FATHOM_F32; dtype <= FATHOM_U8; dtype++) {
        struct set set = make_set(*state, (enum fathom_dtype)dtype, 700, 70, 11, 0.37f, 0.1f);
        for (int metric = FATHOM_METRIC_L2; metric <= FATHOM_METRIC_COS; metric++) {
            struct exact_options options = exact_options_default();
            options.metric = (enum fathom_metric)metric;
            options.k = 20;
            options.threads = 2;
            struct truth *truth = compute(&set, options);
            bool integers = dtype == FATHOM_I8 || dtype == FATHOM_U8;
            assert_exact(&set, truth, (enum fathom_metric)metric,
                         integers && metric != FATHOM_METRIC_COS ? 0 : 1e-11);
            truth_destroy(truth);
        }
        drop_set(&set);
    }
}

/* Far from the origin the products of single precision say nothing; the answers are right all the
 * same. */
static void an_offset_that_drowns_single_precision_changes_no_answer(void **state)
{
    static const double slack[] = {
        [FATHOM_METRIC_L2] = 1e-15, [FATHOM_METRIC_IP] = 1e-6, [FATHOM_METRIC_COS] = 5e-15};
    struct set set = make_set(*state, FATHOM_F32, 500, 20, 200, 0.001f, 1000.0f);
    for (int metric = FATHOM_METRIC_L2; metric <= FATHOM_METRIC_COS; metric++) {
        struct exact_options options = exact_options_default();
        options.metric = (enum fathom_metric)metric;
        options.k = 10;
        struct truth *truth = compute(&set, options);
        assert_exact(&set, truth, (enum fathom_metric)metric, slack[metric]);
        truth_destroy(truth);
    }
    drop_set(&set);
}

/* Products of 1e-44 have one digit left in single precision, and none at 1e-48. */
static void numbers_that_underflow_in_single_precision_are_still_told_apart(void **state)
{
    enum { ROWS = 400, DIM = 8, QUERIES = 50 };
    static const float scales[] = {1e-22f, 1e-24f};
    static float values[ROWS * DIM];
    struct prng prng;
    prng_init(&prng, 1, 2);
    for (int i = 0; i < 2; i++) {
        struct set set = {.base_rows = ROWS, .query_rows = QUERIES, .dim = DIM};
        struct exact_options options = exact_options_default();
        scratch_name(*state, "base.npy", set.base_path);
        scratch_name(*state, "query.npy", set.query_path);
        for (size_t j = 0; j < ROWS * DIM; j++)
            values[j] = (float)prng_unit(&prng) * scales[i];
        write_values(set.base_path, FATHOM_F32, ROWS, DIM, values);
        for (size_t j = 0; j < QUERIES * DIM; j++)
            values[j] = (float)prng_unit(&prng) * scales[i];
        write_values(set.query_path, FATHOM_F32, QUERIES, DIM, values);
        set.base = vectors_open_ok(set.base_path);
        set.queries = vectors_open_ok(set.query_path);
        set.base_values = read_back(set.base);
        set.query_values = read_back(set.queries);
        options.k = 5;
        struct truth *truth = compute(&set, options);
        assert_exact(&set, truth, FATHOM_METRIC_L2, 1e-12 * scales[i] * scales[i]);
        truth_destroy(truth);
        drop_set(&set);
    }
}

static void the_scan_keeps_all_that_is_within_the_limit(void **state)
{
    enum { COUNT = 77 };
    float dots[COUNT], offsets[COUNT];
    uint32_t hits[COUNT];
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        dots[i] = 0.5f;
        offsets[i] = i == 3 || i == 40 || i == 76 ? 3 : 4;
    }
    assert_int_equal(exact_scan(dots, offsets, 2, 2.0f, COUNT, hits), 3);
    assert_true(hits[0] == 3 && hits[1] == 40 && hits[2] == 76);
    assert_int_equal(exact_scan(dots, offsets, 2, 1.9f, COUNT, hits), 0);
    assert_int_equal(exact_scan(dots, offsets, 2, INFINITY, COUNT, hits), COUNT);
}

static void threads_groups_and_blocks_change_no_byte(void **state)
{
    struct set set =
        make_set(*state, FATHOM_F32, 5000, 90, 600, 0.37f, 0); /* several blocks of the base */
    struct exact_options options = exact_options_default();
    options.k = 15;
    struct truth *one = compute(&set, options);
    options.threads = 3;
    options.memory_bytes = 100000; /* several groups of queries */
    struct truth *other = compute(&set, options);
    assert_memory_equal(one->ids, other->ids, 90 * 15 * sizeof *one->ids);
    assert_memory_equal(one->distances, other->distances, 90 * 15 * sizeof *one->distances);
    truth_destroy(one);
    truth_destroy(other);
    drop_set(&set);
}

static void equal_rows_are_ranked_by_number(void **state)
{
    struct set set = {.base_rows = 50, .query_rows = 1, .dim = 4};
    float same[50 * 4];
    for (int i = 0; i < 200; i++)
        same[i] = (float)(i % 4) + 0.3f;
    scratch_name(*state, "base.npy", set.base_path);
    write_values(set.base_path, FATHOM_F32, 50, 4, same);
    for (int metric = FATHOM_METRIC_L2; metric <= FATHOM_METRIC_COS; metric++) {
        struct exact_options options = exact_options_default();
        options.metric = (enum fathom_metric)metric;
        options.k = 50;
        set.base = vectors_open_ok(set.base_path);
        set.queries = vectors_open_ok(set.base_path);
        struct truth *truth = compute(&set, options);
        for (uint64_t i = 0; i < 50 * 50; i++)
            assert_int_equal(truth->ids[i], i % 50);
        truth_destroy(truth);
        vector_file_close(set.base);
        vector_file_close(set.queries);
    }
}

static void zero_rows_under_cos_are_refused_or_left_out(void **state)
{
    struct set set = {0};
    float base[6 * 2] = {1, 0, 0, 0, 0, 1, 1, 1, -0.0f, 0, -1, 0};
    float queries[2 * 2] = {0, 0, 2, 1};
    struct truth *truth;
    struct fathom_error err = {0};
    struct exact_report report = {0};
    struct exact_options options = exact_options_default();
    options.metric = FATHOM_METRIC_COS;
    options.k = 6;
    scratch_name(*state, "base.npy", set.base_path);
    scratch_name(*state, "query.npy", set.query_path);
    write_values(set.base_path, FATHOM_F32, 6, 2, base);
    write_values(set.query_path, FATHOM_F32, 2, 2, queries);
    set.base = vectors_open_ok(set.base_path);
    set.queries = vectors_open_ok(set.query_path);
    assert_int_equal(exact_truth(&truth, set.base, set.queries, &options, &report, &err),
                     FATHOM_EINPUT);
    assert_true(message_has(&err, "query.npy: row 0 is all zeros") &&
                message_has(&err, "--zero-rows skip"));
    assert_null(truth);
    options.skip_zero_rows = true;
    assert_int_equal(exact_truth(&truth, set.base, set.queries, &options, &report, &err), 0);
    assert_int_equal(report.zero_base.count, 2);
    assert_true(report.zero_base.rows[0] == 1 && report.zero_base.rows[1] == 4);
    assert_int_equal(report.zero_queries.count, 1);
    for (int i = 0; i < 6; i++)
        assert_true(truth->ids[i] == FATHOM_ID_NONE && isinf(truth->distances[i]));
    static const uint64_t want[6] = {3, 0, 2, 5, FATHOM_ID_NONE, FATHOM_ID_NONE};
    assert_memory_equal(truth->ids + 6, want, sizeof want);
    truth_destroy(truth);
    exact_report_fini(&report);
    options.metric = FATHOM_METRIC_L2;
    options.skip_zero_rows = false;
    assert_int_equal(exact_truth(&truth, set.base, set.queries, &options, NULL, &err), 0);
    assert_int_equal(truth->ids[0], 1);
    truth_destroy(truth);
    vector_file_close(set.base);
    vector_file_close(set.queries);
}

static int run_on(void *state, const float *base, const float *queries, enum fathom_metric metric,
                  uint32_t k, struct fathom_error *err)
{
    struct set set;
    struct truth *truth;
    struct exact_options options = exact_options_default();
    options.metric = metric;
    options.k = k;
    scratch_name(state, "base.npy", set.base_path);
    scratch_name(state, "query.npy", set.query_path);
    write_values(set.base_path, FATHOM_F32, 2, 2, base);
    write_values(set.query_path, FATHOM_F32, 1, 2, queries);
    set.base = vectors_open_ok(set.base_path);
    set.queries = vectors_open_ok(set.query_path);
    int rc = exact_truth(&truth, set.base, set.queries, &options, NULL, err);
    truth_destroy(truth);
    vector_file_close(set.base);
    vector_file_close(set.queries);
    return rc;
}

static void bad_numbers_are_refused_with_their_place(void **state)
{
    const float good[] = {1, 2, 3, 4}, nan_row[] = {1, 2, 3, NAN}, huge[] = {1, 2, 3e19f, 4};
    struct fathom_error err = {0};
    assert_int_equal(run_on(*state, good, good, FATHOM_METRIC_L2, 2, &err), 0);
    assert_int_equal(run_on(*state, nan_row, good, FATHOM_METRIC_L2, 2, &err), FATHOM_EINPUT);
    assert_true(message_has(&err, "base.npy: row 1, column 1 is NaN"));
    assert_int_equal(run_on(*state, huge, good, FATHOM_METRIC_L2, 2, &err), FATHOM_EINPUT);
    assert_true(message_has(&err, "base.npy: row 1 has norm") && message_has(&err, "overflow"));
    assert_int_equal(run_on(*state, huge, good, FATHOM_METRIC_COS, 2, &err), 0);
    assert_int_equal(run_on(*state, good, good, FATHOM_METRIC_L2, 3, &err), FATHOM_ELIMIT);
    assert_true(message_has(&err, "at most the 2 rows"));
    assert_int_equal(run_on(*state, good, good, FATHOM_METRIC_L2, 0, &err), FATHOM_ELIMIT);
}

static void unequal_dimensions_are_refused(void **state)
{
    struct set set = make_set(*state, FATHOM_U8, 5, 5, 4, 1, 0);
    struct set other = make_set(*state, FATHOM_U8, 5, 5, 6, 1, 0);
    struct truth *truth;
    struct fathom_error err = {0};
    struct exact_options options = exact_options_default();
    options.k = 1;
    assert_int_equal(exact_truth(&truth, set.base, other.queries, &options, NULL, &err),
                     FATHOM_EDIM);
    assert_true(message_has(&err, "has dimension 4, but"));
    drop_set(&set);
    drop_set(&other);
}

static bool stop_at_once(void *context, uint64_t done)
{
    *(uint64_t *)context = done;
    return false;
}

static void it_stops_when_asked_to(void **state)
{
    struct set set = make_set(*state, FATHOM_U8, 5000, 5, 600, 1, 0);
    struct truth *truth;
    uint64_t done = 0;
    struct exact_options options = exact_options_default();
    options.progress = stop_at_once;
    options.context = &done;
    assert_int_equal(exact_truth(&truth, set.base, set.queries, &options, NULL, NULL),
                     FATHOM_EINTERRUPTED);
    assert_null(truth);
    assert_true(done > 0 && done < 25000);
    drop_set(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_metric_and_type_agrees_with_a_plain_loop,
                                        scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(an_offset_that_drowns_single_precision_changes_no_answer,
                                        scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(
            numbers_that_underflow_in_single_precision_are_still_told_apart, scratch_make,
            scratch_remove),
        cmocka_unit_test(the_scan_keeps_all_that_is_within_the_limit),
        cmocka_unit_test_setup_teardown(threads_groups_and_blocks_change_no_byte, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(equal_rows_are_ranked_by_number, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(zero_rows_under_cos_are_refused_or_left_out, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(bad_numbers_are_refused_with_their_place, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(unequal_dimensions_are_refused, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(it_stops_when_asked_to, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
