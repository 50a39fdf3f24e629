/* Reading: what is refused and how it is named, and the 8-bit form of what is not. */
#include "builder_support.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "input.h"
#include "range8.h"
#include "vector_writer.h"

static int read_file(struct input *input, const char *path, enum fathom_metric metric,
                     bool skip_zero_rows, struct fathom_error *err)
{
    struct crew crew = crew_of(2);
    int status = input_open(input, env_os(), path, metric, err);
    return status == 0 ? input_read(input, &crew, skip_zero_rows, NULL, err) : status;
}

static void npy_path(const struct scratch *scratch, char path[SCRATCH_PATH_MAX])
{
    scratch_name(scratch, "base.npy", path);
}

static void nan_is_refused_with_its_row_and_column(void **state)
{
    char path[SCRATCH_PATH_MAX];
    struct fathom_error err;
    struct input input;
    float *values = floats_make(3000, 6, 1);
    npy_path(*state, path);
    values[2017 * 6 + 4] = NAN;
    floats_write(path, values, 3000, 6);
    assert_int_equal(read_file(&input, path, FATHOM_METRIC_L2, false, &err), FATHOM_EINPUT);
    assert_true(message_has(&err, "base.npy") && message_has(&err, "2017") &&
                message_has(&err, "4"));
    input_close(&input);
    free(values);
}

static void values_whose_distances_overflow_are_refused(void **state)
{
    char path[SCRATCH_PATH_MAX];
    struct fathom_error err;
    struct input input;
    float *values = floats_make(500, 4, 1);
    npy_path(*state, path);
    values[321 * 4] = 1e19f; /* squared, it is beyond FLT_MAX / 8 */
    floats_write(path, values, 500, 4);
    assert_int_equal(read_file(&input, path, FATHOM_METRIC_L2, false, &err), FATHOM_EINPUT);
    assert_true(message_has(&err, "row 321") && message_has(&err, "overflow"));
    input_close(&input);
    values[321 * 4] = 1e15f;
    floats_write(path, values, 500, 4);
    assert_int_equal(read_file(&input, path, FATHOM_METRIC_L2, false, NULL), 0);
    input_close(&input);
    free(values);
}

static void zero_rows_are_refused_under_cosine_alone(void **state)
{
    char path[SCRATCH_PATH_MAX];
    struct fathom_error err;
    struct input input;
    float *values = floats_make(900, 8, 1);
    npy_path(*state, path);
    memset(values + 77 * 8, 0, 8 * sizeof *values);
    floats_write(path, values, 900, 8);
    assert_int_equal(read_file(&input, path, FATHOM_METRIC_COS, false, &err), FATHOM_EINPUT);
    assert_true(message_has(&err, "row 77") && message_has(&err, "--zero-rows skip"));
    input_close(&input);
    assert_int_equal(read_file(&input, path, FATHOM_METRIC_L2, false, NULL), 0);
    assert_int_equal(input.rows.count, 900);
    input_close(&input);
    free(values);
}

static void skipped_zero_rows_leave_the_other_row_numbers_alone(void **state)
{
    char path[SCRATCH_PATH_MAX];
    const uint32_t zero[] = {0, 300, 301, 899};
    struct input input, whole;
    float *values = floats_make(900, 8, 1);
    npy_path(*state, path);
    floats_write(path, values, 900, 8);
    assert_int_equal(read_file(&whole, path, FATHOM_METRIC_COS, true, NULL), 0);
    assert_int_equal(whole.zero_count, 0);
    assert_null(whole.file_rows);
    for (int i = 0; i < 4; i++)
        memset(values + zero[i] * 8, 0, 8 * sizeof *values);
    floats_write(path, values, 900, 8);
    assert_int_equal(read_file(&input, path, FATHOM_METRIC_COS, true, NULL), 0);
    assert_int_equal(input.rows.count, 896);
    assert_int_equal(input.zero_count, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(input.zero_rows[i], zero[i]);
    assert_int_equal(input_file_row(&input, 0), 1);
    assert_int_equal(input_file_row(&input, 299), 302);
    assert_int_equal(input_file_row(&input, 895), 898);
    input_close(&input);
    input_close(&whole);
    free(values);
}

static void nothing_but_zero_rows_is_refused(void **state)
{
    char path[SCRATCH_PATH_MAX];
    struct fathom_error err;
    struct input input;
    float values[12] = {0};
    npy_path(*state, path);
    floats_write(path, values, 4, 3);
    assert_int_equal(read_file(&input, path, FATHOM_METRIC_COS, true, &err), FATHOM_EINPUT);
    assert_true(message_has(&err, "every row is zero"));
    input_close(&input);
}

static void bytes_under_l2_are_their_own_form(void **state)
{
    char path[SCRATCH_PATH_MAX];
    struct vector_writer *writer;
    struct input input;
    uint8_t values[256 * 5];
    for (int i = 0; i < 256 * 5; i++)
        values[i] = (uint8_t)(i * 31);
    scratch_name(*state, "base.u8bin", path);
    assert_int_equal(vector_writer_open(&writer, env_os(), path, 256, 5, FATHOM_U8, NULL), 0);
    assert_int_equal(vector_writer_write(writer, values, 256, NULL), 0);
    assert_int_equal(vector_writer_finish(writer, NULL), 0);
    vector_writer_close(writer);
    assert_int_equal(read_file(&input, path, FATHOM_METRIC_L2, false, NULL), 0);
    assert_true(input.exact);
    for (uint32_t row = 0; row < 256; row++)
        assert_memory_equal(rows8_at(&input.rows, row), values + row * 5, 5);
    input_close(&input);
    assert_int_equal(read_file(&input, path, FATHOM_METRIC_IP, false, NULL), 0);
    assert_false(input.exact);
    assert_int_equal(input.work_dim, 6);
    assert_true(input.max_norm > 0);
    input_close(&input);
}

static void floats_come_back_from_their_form_within_a_step(void **state)
{
    char path[SCRATCH_PATH_MAX];
    struct input input;
    float *values = floats_make(2000, 12, 9);
    npy_path(*state, path);
    floats_write(path, values, 2000, 12);
    assert_int_equal(read_file(&input, path, FATHOM_METRIC_L2, false, NULL), 0);
    uint32_t clamped = 0;
    for (uint32_t row = 0; row < 2000; row++) {
        const uint8_t *bytes = rows8_at(&input.rows, row);
        for (uint32_t d = 0; d < 12; d++) {
            float decoded = ((int)bytes[d] - 128) * input.model.step + input.model.mean[d];
            clamped += fabsf(decoded - values[row * 12 + d]) > 0.51f * input.model.step;
        }
    }
    assert_in_range(clamped, 0, 2000 * 12 / 1000);
    input_close(&input);
    free(values);
}

static void an_outlier_does_not_widen_the_step_of_all_rows(void **state)
{
    (void)state;
    float *values = floats_make(5000, 10, 4);
    float mean[10], step, with_outlier;
    assert_int_equal(range8_choose(values, 5000, 10, mean, &step), 0);
    values[1234] = 1e4f;
    assert_int_equal(range8_choose(values, 5000, 10, mean, &with_outlier), 0);
    assert_true(step > 0.01f && step < 0.2f);
    assert_true(
        with_outlier >
        5 * step); /* one value in 50,000 that far costs more than a coarser step for all... */
    values[1234] = 60;
    assert_int_equal(range8_choose(values, 5000, 10, mean, &with_outlier), 0);
    assert_true(with_outlier <
                60.0f / 127); /* ...but one at ten times the spread does not set it alone */
    free(values);
}

static void equal_values_have_a_step_too(void **state)
{
    (void)state;
    const float values[6] = {2, 3, 2, 3, 2, 3};
    float mean[2], step = 0;
    assert_int_equal(range8_choose(values, 3, 2, mean, &step), 0);
    assert_true(step > 0);
    assert_true(mean[0] == 2 && mean[1] == 3);
}

/* The range of its values comes from the first pass, the 8-bit form from the second. */
static void a_file_that_is_another_the_second_time_is_refused(void **state)
{
    char path[SCRATCH_PATH_MAX];
    bool fired = true, changed = false;
    scratch_name(*state, "base.fbin", path);
    floats_file(path, 3000, 6, 1);
    for (int n = 1; fired; n++) {
        char plan[64];
        struct fault_env fault;
        struct fathom_error err = {0};
        struct input input;
        struct crew crew = crew_of(2);
        snprintf(plan, sizeof plan, "read#%d:flip=bit3", n);
        assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
        int status = input_open(&input, &fault.env, path, FATHOM_METRIC_L2, &err);
        if (status == 0)
            status = input_read(&input, &crew, false, NULL, &err);
        fired = fault_fired(&fault) > 0;
        if (fired ? status == 0 : status != 0)
            fail_msg("%s: %d, %s", plan, status, err.msg);
        changed |= message_has(&err, "changed while");
        input_close(&input);
    }
    assert_true(changed);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(nan_is_refused_with_its_row_and_column, scratch_make,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(values_whose_distances_overflow_are_refused, scratch_make,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(zero_rows_are_refused_under_cosine_alone, scratch_make,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(skipped_zero_rows_leave_the_other_row_numbers_alone,
                                    scratch_make, scratch_remove),
    cmocka_unit_test_setup_teardown(nothing_but_zero_rows_is_refused, scratch_make, scratch_remove),
    cmocka_unit_test_setup_teardown(bytes_under_l2_are_their_own_form, scratch_make,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(floats_come_back_from_their_form_within_a_step, scratch_make,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(a_file_that_is_another_the_second_time_is_refused,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test(an_outlier_does_not_widen_the_step_of_all_rows),
    cmocka_unit_test(equal_values_have_a_step_too),
};

FATHOM_TEST_MAIN(tests)
