/* .npy: the three versions, the types, and every header that is not one of an array of vectors. */
#include "datasets_support.h"

#include <stdlib.h>
#include <string.h>

#define GOOD "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }"

static const char *npy(void *state, unsigned version, const char *dictionary, size_t data_bytes)
{
    struct bytes bytes = {0};
    bytes_add_npy(&bytes, version, dictionary);
    for (size_t i = 0; i < data_bytes; i++) {
        uint8_t byte = (uint8_t)(i + 1);
        bytes_add(&bytes, &byte, 1);
    }
    return bytes_write(&bytes, state, "a.npy");
}

static void all_three_versions_are_read(void **state)
{
    for (unsigned version = 1; version <= 3; version++) {
        struct vector_file *file = vectors_open_ok(npy(*state, version, GOOD, 6));
        uint8_t out[3];
        assert_int_equal(vector_file_info(file).rows, 2);
        assert_int_equal(vector_file_info(file).dim, 3);
        assert_int_equal(vector_file_info(file).dtype, FATHOM_U8);
        assert_int_equal(vector_file_read(file, 1, 1, out, NULL), 0);
        assert_memory_equal(out, "\x04\x05\x06", 3);
        vector_file_close(file);
    }
}

static void the_four_types_are_known_by_their_descr(void **state)
{
    static const struct {
        const char *dictionary;
        enum fathom_dtype dtype;
        size_t bytes;
    } cases[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", FATHOM_F32, 24},
        {"{'descr': '<f2', 'fortran_order': False, 'shape': (2, 3), }", FATHOM_F16, 12},
        {"{'descr': '|i1', 'fortran_order': False, 'shape': (2, 3), }", FATHOM_I8, 6},
        {"{\"shape\":(2,3),\"fortran_order\":False,\"descr\":\"|u1\"}   ", FATHOM_U8, 6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct vector_file *file =
            vectors_open_ok(npy(*state, 1, cases[i].dictionary, cases[i].bytes));
        assert_int_equal(vector_file_info(file).dtype, cases[i].dtype);
        vector_file_close(file);
    }
}

static void a_column_of_numbers_is_a_table_of_integers(void **state)
{
    const char *path =
        npy(*state, 1, "{'descr': '<u8', 'fortran_order': False, 'shape': (2,), }", 16);
    struct vector_file *file;
    struct fathom_error err = {0};
    int64_t out[2];
    assert_int_equal(vector_file_open_integers(&file, env_os(), path, NULL, NULL), 0);
    assert_int_equal(vector_file_info(file).rows, 2);
    assert_int_equal(vector_file_info(file).dim, 1);
    assert_int_equal(vector_file_read_i64(file, 0, 2, out, NULL), 0);
    assert_true(out[0] == 0x0807060504030201 && out[1] == 0x100f0e0d0c0b0a09);
    vector_file_close(file);

    struct bytes bytes = {0};
    bytes_add_npy(&bytes, 1, "{'descr': '<u8', 'fortran_order': False, 'shape': (1, 2), }");
    bytes_add(&bytes, "\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x80", 16);
    assert_int_equal(vector_file_open_integers(&file, env_os(),
                                               bytes_write(&bytes, *state, "b.npy"), NULL, NULL),
                     0);
    assert_int_equal(vector_file_read_i64(file, 0, 1, out, &err), FATHOM_EINPUT);
    assert_true(message_has(&err, "row 0, column 1"));
    vector_file_close(file);
}

static void wrong_headers_are_refused(void **state)
{
    static const struct {
        const char *dictionary, *part;
    } cases[] = {
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }",
         "big-endian; save it as a.astype('<f4')"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }",
         "elements '<f8' are none of <f4"},
        {"{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }", "ids and not vectors"},
        {"{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }",
         "Fortran order; save it as np.asc"},
        {"{'descr': '|u1', 'fortran_order': Maybe, 'shape': (2, 3), }", "neither True nor False"},
        {"{'descr': [('x', '|u1')], 'fortran_order': False, 'shape': (2, 3), }", "structured"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (6,), }", "has 1 axis where two"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (), }", "has 0 axes where two"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2, 3), }", "has 3 axes where two"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (6), }", "not a tuple"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (-2, 3), }", "not a tuple"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 18446744073709551616), }",
         "below 2^64"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (18446744073709551615, 4096), }",
         "no file can hold"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4503599627370495, 4096), }",
         "no file can hold"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (0, 3), }", "has no rows"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 0), }", "dimension 0 is outside"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 5000), }",
         "dimension 5000 is outside"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }", "follow the last row"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (3, 3), }", "truncated"},
        {"{'descr': '|u1', 'fortran_order': False, }", "a key is missing"},
        {"{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }", "twice"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), 'colour': 3}",
         "a key is not one of"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), ", "a key is not one of"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3)", "does not end"},
        {GOOD " x", "text follows"},
        {"(2, 3)", "not a dictionary"},
        {"", "not a dictionary"},
        {"{'descr': '|u1\\'', 'fortran_order': False, 'shape': (2, 3), }", "structured"},
        {"{'descr': '0123456789012345678901234567890', 'fortran_order': False, 'shape': (2, 3), }",
         "structured"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(npy(*state, 1, cases[i].dictionary, 6), FATHOM_EINPUT, "a.npy",
                       cases[i].part);
}

static void wrong_starts_are_refused(void **state)
{
    struct bytes bytes = {0};
    bytes_add_npy(&bytes, 4, GOOD);
    assert_refused(bytes_write(&bytes, *state, "a.npy"), FATHOM_EINPUT, "version 4.0 is not known",
                   "");
    bytes_add_npy(&bytes, 1, GOOD);
    bytes.data[7] = 1;
    assert_refused(bytes_write(&bytes, *state, "a.npy"), FATHOM_EINPUT, "version 1.1 is not known",
                   "");
    bytes_add_text(&bytes, "PK\x03\x04 this is a zip file, as np.savez makes them");
    assert_refused(bytes_write(&bytes, *state, "a.npy"), FATHOM_EINPUT, "does not start as", "");
    bytes_add(&bytes, "\x93NUMPY\x02\0\xff\xff\xff\xff", 12);
    assert_refused(bytes_write(&bytes, *state, "a.npy"), FATHOM_EINPUT,
                   "header of 4294967295 bytes", "");
}

static void every_truncation_is_refused(void **state)
{
    struct bytes bytes = {0};
    bytes_add_npy(&bytes, 2, GOOD);
    bytes_add(&bytes, "123456", 6);
    for (size_t length = 0; length < bytes.count; length++)
        assert_refused(bytes_write_part(&bytes, length, *state, "a.npy"), FATHOM_EINPUT, "a.npy",
                       "");
    vector_file_close(vectors_open_ok(bytes_write_part(&bytes, bytes.count, *state, "a.npy")));
    free(bytes.data);
}

/* Any single byte of the header changed: refused, or read as another array of the same size; never
 * a crash. */
static void any_changed_byte_of_the_header_is_survived(void **state)
{
    struct bytes bytes = {0};
    bytes_add_npy(&bytes, 1, GOOD);
    size_t header = bytes.count;
    bytes_add(&bytes, "123456", 6);
    for (size_t i = 0; i < header; i++) {
        uint8_t right = bytes.data[i];
        for (unsigned value = 0; value < 256; value += 5) {
            struct vector_file *file;
            bytes.data[i] = (uint8_t)value;
            const char *path = bytes_write_part(&bytes, bytes.count, *state, "a.npy");
            if (!vector_file_open(&file, env_os(), path, NULL, NULL))
                assert_int_equal(vector_file_info(file).rows * vector_file_info(file).dim *
                                     fathom_dtype_bytes(vector_file_info(file).dtype),
                                 6);
            vector_file_close(file);
        }
        bytes.data[i] = right;
    }
    free(bytes.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_three_versions_are_read, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(the_four_types_are_known_by_their_descr, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(a_column_of_numbers_is_a_table_of_integers, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(wrong_headers_are_refused, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(wrong_starts_are_refused, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(every_truncation_is_refused, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(any_changed_byte_of_the_header_is_survived, scratch_make,
                                        scratch_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
