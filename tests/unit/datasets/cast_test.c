/* Checked casts: what fits passes unchanged, what does not is named, or rounded when asked for. */
#include "datasets_support.h"

#include <math.h>
#include <string.h>

#include "cast.h"
#include "sample.h"
#include "vector_writer.h"

static struct cast make_cast(int type, bool round)
{
    return (struct cast){.type = type, .round = round, .dim = 3, .path = "in.fbin"};
}

static void integers_in_range_pass_unchanged(void **state)
{
    const float in[] = {0, 255, 7, -0.0f, 1, 2};
    uint8_t out[6];
    struct cast cast = make_cast(FATHOM_U8, false);
    (void)state;
    assert_int_equal(cast_f32(&cast, in, 0, 2, out, NULL), 0);
    assert_memory_equal(out, "\x00\xff\x07\x00\x01\x02", 6);
    const float negative[] = {-128, 127, -1};
    cast = make_cast(FATHOM_I8, false);
    assert_int_equal(cast_f32(&cast, negative, 0, 1, out, NULL), 0);
    assert_memory_equal(out, "\x80\x7f\xff", 3);
}

static void what_does_not_fit_is_named_by_row_and_column(void **state)
{
    static const struct {
        int type;
        float value;
        const char *part;
    } cases[] = {
        {FATHOM_U8, 0.5f, "in.fbin: row 11, column 1 is 0.5, which is not an integer"},
        {FATHOM_U8, 256, "row 11, column 1 is 256, which is out of the range of u8"},
        {FATHOM_U8, -1, "out of the range of u8"},
        {FATHOM_I8, 128, "out of the range of i8"},
        {FATHOM_I8, -129, "out of the range of i8"},
        {FATHOM_F16, 65520, "row 11, column 1 is 65520, which overflows f16"},
        {CAST_I32, 3e9f, "out of the range of i32"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float in[6] = {0};
        uint8_t out[24];
        struct fathom_error err = {0};
        struct cast cast = make_cast(cases[i].type, false);
        in[4] = cases[i].value;
        assert_int_equal(cast_f32(&cast, in, 10, 2, out, &err), FATHOM_EINPUT);
        if (!message_has(&err, cases[i].part))
            fail_msg("'%s' is not in: %s", cases[i].part, err.msg);
    }
}

static void rounding_goes_to_the_nearest_and_clamps(void **state)
{
    const float in[] = {0.4f, 0.5f, 254.6f, 300, -7, 9};
    uint8_t out[6];
    struct cast cast = make_cast(FATHOM_U8, true);
    (void)state;
    assert_int_equal(cast_f32(&cast, in, 0, 2, out, NULL), 0);
    assert_memory_equal(out, "\x00\x01\xff\xff\x00\x09", 6);
    assert_int_equal(cast.rounded, 3);
    assert_int_equal(cast.clamped, 2);
}

static void halves_are_the_nearest(void **state)
{
    const float in[] = {1.0f, 65519.0f, 1.0f / 3};
    uint16_t out[3];
    struct cast cast = make_cast(FATHOM_F16, false);
    (void)state;
    assert_int_equal(cast_f32(&cast, in, 0, 1, out, NULL), 0);
    assert_int_equal(out[0], 0x3c00);
    assert_int_equal(out[1], 0x7bff);
    assert_int_equal(out[2], 0x3555);
}

static void ids_are_cast_when_they_have_an_exact_place(void **state)
{
    const int64_t in[] = {0, 1 << 24, -5};
    const int64_t big[] = {0, (1 << 24) + 1, 0};
    float floats[3];
    int32_t ints[3];
    uint8_t bytes[3];
    struct fathom_error err = {0};
    struct cast cast = make_cast(FATHOM_F32, false);
    (void)state;
    assert_int_equal(cast_i64(&cast, in, 0, 1, floats, NULL), 0);
    assert_true(floats[1] == 16777216.0f && floats[2] == -5);
    assert_int_equal(cast_i64(&cast, big, 4, 1, floats, &err), FATHOM_EINPUT);
    assert_true(message_has(&err, "row 4, column 1 is 16777217"));
    cast = make_cast(CAST_I32, false);
    assert_int_equal(cast_i64(&cast, in, 0, 1, ints, NULL), 0);
    assert_true(ints[1] == 1 << 24 && ints[2] == -5);
    cast = make_cast(FATHOM_U8, true);
    assert_int_equal(cast_i64(&cast, in, 0, 1, bytes, NULL), 0);
    assert_true(bytes[1] == 255 && bytes[2] == 0);
    assert_int_equal(cast.clamped, 2);
}

/* ---- statistics of a sample ---- */

static void write_floats(const char *path, const float *data, uint32_t rows, uint32_t dim)
{
    struct vector_writer *writer;
    assert_int_equal(vector_writer_open(&writer, env_os(), path, rows, dim, FATHOM_F32, NULL), 0);
    assert_int_equal(vector_writer_write(writer, data, rows, NULL), 0);
    assert_int_equal(vector_writer_finish(writer, NULL), 0);
    vector_writer_close(writer);
}

static void a_sample_counts_what_is_wrong_with_a_file(void **state)
{
    const float data[] = {3, 4, 0, 0, 3, 4, NAN, 1, 3, 4, -1, 0};
    char path[SCRATCH_PATH_MAX];
    struct sample_stats stats;
    scratch_name(*state, "a.fbin", path);
    write_floats(path, data, 6, 2);
    struct vector_file *file = vectors_open_ok(path);
    assert_int_equal(sample_measure(&stats, file, 1000, NULL), 0);
    vector_file_close(file);
    assert_int_equal(stats.rows, 6);
    assert_int_equal(stats.bad_rows, 1);
    assert_int_equal(stats.first_bad_row, 3);
    assert_int_equal(stats.zero_rows, 1);
    assert_int_equal(stats.duplicates, 2);
    assert_true(stats.min == -1 && stats.max == 4);
    assert_true(stats.norm_min == 0 && stats.norm_max == 5 &&
                fabs(stats.norm_mean - 16.0 / 5) < 1e-12);
}

static void a_sample_of_a_large_file_reaches_from_start_to_end(void **state)
{
    enum { ROWS = 50000 };
    static float data[ROWS];
    char path[SCRATCH_PATH_MAX];
    struct sample_stats stats;
    for (int i = 0; i < ROWS; i++)
        data[i] = (float)i;
    scratch_name(*state, "a.fbin", path);
    write_floats(path, data, ROWS, 1);
    struct vector_file *file = vectors_open_ok(path);
    assert_int_equal(sample_measure(&stats, file, 1000, NULL), 0);
    vector_file_close(file);
    assert_int_equal(stats.rows, 1000);
    assert_int_equal(stats.duplicates, 0);
    assert_true(stats.min == 0 && stats.max > 0.97 * ROWS &&
                fabs(stats.norm_mean / ROWS - 0.5) < 0.02);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_in_range_pass_unchanged),
        cmocka_unit_test(what_does_not_fit_is_named_by_row_and_column),
        cmocka_unit_test(rounding_goes_to_the_nearest_and_clamps),
        cmocka_unit_test(halves_are_the_nearest),
        cmocka_unit_test(ids_are_cast_when_they_have_an_exact_place),
        cmocka_unit_test_setup_teardown(a_sample_counts_what_is_wrong_with_a_file, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(a_sample_of_a_large_file_reaches_from_start_to_end,
                                        scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
