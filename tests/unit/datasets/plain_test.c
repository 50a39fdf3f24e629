/* .fvecs and its kin, .fbin and its kin: good files are read at any range, everything else is
 * refused with its place. */
#include "datasets_support.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fault.h"

#define ROWS 5
#define DIM  3

/* The value of a cell in every test file: small, exact in all types, different everywhere. */
static int cell(size_t row, size_t column)
{
    return (int)(row * 16 + column);
}

static void add_cell(struct bytes *bytes, enum fathom_dtype dtype, size_t row, size_t column)
{
    float value = (float)cell(row, column);
    uint8_t byte = (uint8_t)cell(row, column);
    if (dtype == FATHOM_F32)
        bytes_add(bytes, &value, sizeof value);
    else
        bytes_add(bytes, &byte, 1);
}

static struct bytes xvecs_bytes(enum fathom_dtype dtype)
{
    struct bytes bytes = {0};
    for (size_t r = 0; r < ROWS; r++) {
        bytes_add_u32(&bytes, DIM);
        for (size_t c = 0; c < DIM; c++)
            add_cell(&bytes, dtype, r, c);
    }
    return bytes;
}

static struct bytes bin_bytes(enum fathom_dtype dtype, uint32_t rows, uint32_t dim)
{
    struct bytes bytes = {0};
    bytes_add_u32(&bytes, rows);
    bytes_add_u32(&bytes, dim);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t c = 0; c < DIM; c++)
            add_cell(&bytes, dtype, r, c);
    return bytes;
}

/* Every range of rows, as float. */
static void assert_cells(const char *path, enum fathom_dtype dtype)
{
    struct vector_file *file = vectors_open_ok(path);
    struct vector_info info = vector_file_info(file);
    assert_int_equal(info.rows, ROWS);
    assert_int_equal(info.dim, DIM);
    assert_int_equal(info.dtype, dtype);
    for (size_t first = 0; first < ROWS; first++) {
        for (size_t count = 1; first + count <= ROWS; count++) {
            float out[ROWS * DIM];
            assert_int_equal(vector_file_read_f32(file, first, count, out, NULL), 0);
            for (size_t i = 0; i < count * DIM; i++)
                assert_true(out[i] == (float)cell(first + i / DIM, i % DIM));
        }
    }
    vector_file_close(file);
}

static void plain_files_are_read_at_every_range(void **state)
{
    struct bytes bytes = xvecs_bytes(FATHOM_F32);
    assert_cells(bytes_write(&bytes, *state, "a.fvecs"), FATHOM_F32);
    bytes = xvecs_bytes(FATHOM_U8);
    assert_cells(bytes_write(&bytes, *state, "a.bvecs"), FATHOM_U8);
    bytes = bin_bytes(FATHOM_F32, ROWS, DIM);
    assert_cells(bytes_write(&bytes, *state, "a.fbin"), FATHOM_F32);
    bytes = bin_bytes(FATHOM_U8, ROWS, DIM);
    assert_cells(bytes_write(&bytes, *state, "a.u8bin"), FATHOM_U8);
    bytes = bin_bytes(FATHOM_I8, ROWS, DIM);
    assert_cells(bytes_write(&bytes, *state, "a.i8bin"), FATHOM_I8);
}

static void signed_bytes_and_halves_keep_their_values(void **state)
{
    struct bytes bytes = {0};
    float out[2];
    bytes_add_u32(&bytes, 1);
    bytes_add_u32(&bytes, 2);
    bytes_add(&bytes, "\x80\x7f", 2);
    struct vector_file *file = vectors_open_ok(bytes_write(&bytes, *state, "a.i8bin"));
    assert_int_equal(vector_file_read_f32(file, 0, 1, out, NULL), 0);
    vector_file_close(file);
    assert_true(out[0] == -128 && out[1] == 127);

    bytes_add_u32(&bytes, 1);
    bytes_add_u32(&bytes, 2);
    bytes_add_u16(&bytes, 0x3e00);
    bytes_add_u16(&bytes, 0xfbff);
    file = vectors_open_ok(bytes_write(&bytes, *state, "a.f16bin"));
    assert_int_equal(vector_file_read_f32(file, 0, 1, out, NULL), 0);
    vector_file_close(file);
    assert_true(out[0] == 1.5f && out[1] == -65504.0f);
}

static void many_rows_pass_through_the_scratch_buffer_in_pieces(void **state)
{
    const uint32_t rows = 20000, dim = 7; /* 640 KB in the file: several pieces */
    struct bytes bytes = {0};
    for (uint32_t r = 0; r < rows; r++) {
        bytes_add_u32(&bytes, dim);
        for (uint32_t c = 0; c < dim; c++)
            bytes_add_u32(&bytes, r * dim + c);
    }
    struct vector_file *file = vectors_open_ok(bytes_write(&bytes, *state, "big.fvecs"));
    uint32_t *out = malloc((size_t)rows * dim * sizeof *out);
    assert_int_equal(vector_file_read(file, 0, rows, out, NULL), 0);
    for (uint32_t i = 0; i < rows * dim; i++)
        assert_int_equal(out[i], i);
    free(out);
    vector_file_close(file);
}

static void a_range_beyond_the_end_is_refused(void **state)
{
    struct bytes bytes = bin_bytes(FATHOM_U8, ROWS, DIM);
    struct vector_file *file = vectors_open_ok(bytes_write(&bytes, *state, "a.u8bin"));
    uint8_t out[64];
    struct fathom_error err;
    assert_int_equal(vector_file_read(file, ROWS - 1, 2, out, &err), FATHOM_EARGUMENT);
    assert_int_equal(vector_file_read(file, ROWS + 1, 0, out, &err), FATHOM_EARGUMENT);
    assert_int_equal(vector_file_read(file, UINT64_MAX, 1, out, &err), FATHOM_EARGUMENT);
    assert_int_equal(vector_file_read(file, ROWS, 0, out, &err), 0);
    vector_file_close(file);
}

static void every_truncation_is_refused(void **state)
{
    static const char *const names[] = {"a.fvecs", "a.fbin"};
    for (int i = 0; i < 2; i++) {
        struct bytes bytes = i ? bin_bytes(FATHOM_F32, ROWS, DIM) : xvecs_bytes(FATHOM_F32);
        size_t row_bytes = 4 + DIM * sizeof(float);
        for (size_t length = 0; length < bytes.count; length++) {
            if (i == 0 && length > 0 && length % row_bytes == 0)
                continue; /* whole rows: nothing in the file says that there were more */
            const char *path = bytes_write_part(&bytes, length, *state, names[i]);
            assert_refused(path, FATHOM_EINPUT, names[i],
                           length == 0              ? "is empty"
                           : length < (i ? 8u : 4u) ? "too few for the header"
                                                    : "truncated");
        }
        free(bytes.data);
    }
}

static void a_trailing_byte_is_refused(void **state)
{
    struct bytes bytes = xvecs_bytes(FATHOM_F32);
    bytes_add(&bytes, "x", 1);
    assert_refused(bytes_write(&bytes, *state, "a.fvecs"), FATHOM_EINPUT, "a.fvecs",
                   "1 bytes more");
    bytes = bin_bytes(FATHOM_U8, ROWS, DIM);
    bytes_add(&bytes, "x", 1);
    assert_refused(bytes_write(&bytes, *state, "a.u8bin"), FATHOM_EINPUT,
                   "need 23 bytes, the file has 24", "follow the last row");
}

static void a_ragged_row_is_named_when_it_is_read(void **state)
{
    struct bytes bytes = xvecs_bytes(FATHOM_F32);
    bytes.data[3 * (4 + DIM * sizeof(float))] = DIM + 1;
    struct vector_file *file = vectors_open_ok(bytes_write(&bytes, *state, "a.fvecs"));
    float out[ROWS * DIM];
    struct fathom_error err = {0};
    assert_int_equal(vector_file_read_f32(file, 0, 3, out, &err), 0);
    assert_int_equal(vector_file_read_f32(file, 0, ROWS, out, &err), FATHOM_EINPUT);
    assert_true(message_has(&err, "row 3 (offset 48) says dimension 4, row 0 has 3"));
    assert_int_equal(vector_file_read_f32(file, 4, 1, out, &err), 0);
    vector_file_close(file);
}

static void absurd_headers_are_refused(void **state)
{
    static const struct {
        uint32_t rows, dim;
        const char *part;
    } cases[] = {
        {0, DIM, "has no rows"},
        {ROWS, 0, "dimension 0 is outside 1..4096"},
        {ROWS, 4097, "dimension 4097 is outside 1..4096"},
        {ROWS, UINT32_MAX, "dimension 4294967295 is outside"},
        {UINT32_MAX, 4096, "the file has 68"},
        {UINT32_MAX, DIM, "truncated"},
        {ROWS - 1, DIM, "follow the last row"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes bytes = bin_bytes(FATHOM_F32, cases[i].rows, cases[i].dim);
        assert_refused(bytes_write(&bytes, *state, "a.fbin"), FATHOM_EINPUT, "a.fbin",
                       cases[i].part);
    }
    static const uint32_t dims[] = {0, 4097, 0x80000000u, UINT32_MAX};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        struct bytes bytes = {0};
        bytes_add_u32(&bytes, dims[i]);
        bytes_add_u32(&bytes, 0);
        assert_refused(bytes_write(&bytes, *state, "a.fvecs"), FATHOM_EINPUT,
                       "row 0 says dimension", "outside 1..4096");
    }
}

static void names_that_say_no_format_are_refused(void **state)
{
    struct bytes bytes = bin_bytes(FATHOM_F32, ROWS, DIM);
    assert_refused(bytes_write(&bytes, *state, "a.bin"), FATHOM_EARGUMENT, "a.bin", ".fvecs");
    assert_refused(".fbin", FATHOM_EARGUMENT, ".fbin", "no vector format");
}

static void a_missing_file_a_directory_and_a_fifo_are_refused(void **state)
{
    char path[SCRATCH_PATH_MAX];
    scratch_name(*state, "none.fbin", path);
    assert_refused(path, -ENOENT, "none.fbin", "");
    scratch_name(*state, "dir.fbin", path);
    assert_int_equal(mkdir(path, 0755), 0);
    struct vector_file *file;
    struct fathom_error err = {0};
    assert_true(vector_file_open(&file, env_os(), path, NULL, &err) < 0);
    assert_true(message_has(&err, "dir.fbin"));
    scratch_name(*state, "pipe.fbin", path);
    assert_int_equal(mkfifo(path, 0644), 0);
    assert_true(vector_file_open(&file, env_os(), path, NULL, &err) < 0);
    assert_true(message_has(&err, "pipe.fbin"));
}

static void ids_are_not_vectors_and_vectors_are_not_ids(void **state)
{
    struct bytes bytes = {0};
    for (int r = 0; r < 2; r++) {
        bytes_add_u32(&bytes, 2);
        bytes_add_u32(&bytes, 7);
        bytes_add_u32(&bytes, (uint32_t)-1);
    }
    const char *path = bytes_write(&bytes, *state, "a.ivecs");
    assert_refused(path, FATHOM_EINPUT, "a.ivecs", "ids and not vectors");
    struct vector_file *file;
    assert_int_equal(vector_file_open_integers(&file, env_os(), path, NULL, NULL), 0);
    int64_t ids[4];
    float floats[4];
    assert_int_equal(vector_file_info(file).dtype, 0);
    assert_int_equal(vector_file_read_i64(file, 0, 2, ids, NULL), 0);
    assert_true(ids[0] == 7 && ids[1] == -1 && ids[2] == 7 && ids[3] == -1);
    assert_int_equal(vector_file_read_f32(file, 0, 2, floats, NULL), FATHOM_EARGUMENT);
    vector_file_close(file);

    bytes = bin_bytes(FATHOM_U8, ROWS, DIM);
    struct fathom_error err = {0};
    assert_int_equal(vector_file_open_integers(&file, env_os(),
                                               bytes_write(&bytes, *state, "a.u8bin"), NULL, &err),
                     FATHOM_EINPUT);
    assert_true(message_has(&err, "holds u8"));
}

/* Each operation of open, read and close fails once: an error and nothing left open, or no harm. */
static void a_fault_at_any_operation_is_an_error_and_leaks_nothing(void **state)
{
    struct bytes bytes = xvecs_bytes(FATHOM_F32);
    const char *path = bytes_write(&bytes, *state, "a.fvecs");
    unsigned fds = open_fds();
    for (int n = 1;; n++) {
        char plan[32];
        struct fault_env fault;
        struct vector_file *file;
        struct fathom_error err = {0};
        float out[ROWS * DIM];
        snprintf(plan, sizeof plan, "op=%d:EIO", n);
        assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
        int rc = vector_file_open(&file, &fault.env, path, NULL, &err);
        if (!rc)
            rc = vector_file_read_f32(file, 0, ROWS, out, &err);
        vector_file_close(file);
        assert_int_equal(open_fds(), fds);
        if (!fault_fired(&fault)) {
            assert_int_equal(rc, 0);
            assert_true(n > 3);
            break;
        }
        assert_true(rc == 0 || (rc == -EIO && message_has(&err, "a.fvecs")));
    }
}

/* ---- what the scalars say ---- */

static void nan_and_infinity_are_named_by_row_and_column(void **state)
{
    float values[3 * 4] = {0};
    struct fathom_error err = {0};
    (void)state;
    assert_int_equal(vectors_check_finite(FATHOM_F32, values, 0, 3, 4, "f", &err), 0);
    values[9] = NAN;
    assert_int_equal(vectors_check_finite(FATHOM_F32, values, 100, 3, 4, "some.fbin", &err),
                     FATHOM_EINPUT);
    assert_true(message_has(&err, "some.fbin: row 102, column 1 is NaN"));
    values[3] = -INFINITY;
    assert_int_equal(vectors_check_finite(FATHOM_F32, values, 0, 3, 4, "some.fbin", &err),
                     FATHOM_EINPUT);
    assert_true(message_has(&err, "row 0, column 3 is infinite"));
    uint16_t halves[2] = {0x7bff, 0x7c01};
    assert_int_equal(vectors_check_finite(FATHOM_F16, halves, 5, 2, 1, "f", &err), FATHOM_EINPUT);
    assert_true(message_has(&err, "row 6, column 0 is NaN"));
    assert_int_equal(vectors_check_finite(FATHOM_F16, halves, 5, 1, 1, "f", &err), 0);
    halves[0] = 0xfc00;
    assert_int_equal(vectors_check_finite(FATHOM_F16, halves, 5, 1, 1, "f", &err), FATHOM_EINPUT);
    assert_true(message_has(&err, "infinite"));
    memset(values, 0xff, sizeof values);
    assert_int_equal(vectors_check_finite(FATHOM_U8, values, 0, 3, 4, "f", &err), 0);
}

static void the_largest_and_smallest_finite_floats_pass(void **state)
{
    float values[] = {0x1.fffffep+127f, -0x1.fffffep+127f, 0x1p-149f, -0.0f};
    (void)state;
    assert_int_equal(vectors_check_finite(FATHOM_F32, values, 0, 1, 4, "f", NULL), 0);
}

static void zero_rows_are_found_in_every_type(void **state)
{
    float floats[] = {0, -0.0f, 0x1p-149f, 0, 0, 0};
    uint16_t halves[] = {0x8000, 0, 0, 1};
    uint8_t bytes[] = {0, 0, 0, 255, 0, 0};
    uint8_t zero[3];
    (void)state;
    assert_int_equal(vectors_find_zero_rows(FATHOM_F32, floats, 3, 2, zero), 2);
    assert_true(zero[0] && !zero[1] && zero[2]);
    assert_int_equal(vectors_find_zero_rows(FATHOM_F16, halves, 2, 2, zero), 1);
    assert_true(zero[0] && !zero[1]);
    assert_int_equal(vectors_find_zero_rows(FATHOM_I8, bytes, 3, 2, zero), 2);
    assert_true(zero[0] && !zero[1] && zero[2]);
    assert_int_equal(vectors_find_zero_rows(FATHOM_U8, bytes, 3, 2, zero), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(plain_files_are_read_at_every_range, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(signed_bytes_and_halves_keep_their_values, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(many_rows_pass_through_the_scratch_buffer_in_pieces,
                                        scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(a_range_beyond_the_end_is_refused, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(every_truncation_is_refused, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(a_trailing_byte_is_refused, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(a_ragged_row_is_named_when_it_is_read, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(absurd_headers_are_refused, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(names_that_say_no_format_are_refused, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(a_missing_file_a_directory_and_a_fifo_are_refused,
                                        scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(ids_are_not_vectors_and_vectors_are_not_ids, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(a_fault_at_any_operation_is_an_error_and_leaks_nothing,
                                        scratch_make, scratch_remove),
        cmocka_unit_test(nan_and_infinity_are_named_by_row_and_column),
        cmocka_unit_test(the_largest_and_smallest_finite_floats_pass),
        cmocka_unit_test(zero_rows_are_found_in_every_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
