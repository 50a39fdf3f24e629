/* External ids: read from tables and from text, and checked. */
#include "builder_support.h"

#include <stdio.h>
#include <string.h>

#include "ids.h"
#include "mem.h"

static int read_text(struct scratch *scratch, const char *text, uint64_t rows, uint64_t **ids,
                     struct fathom_error *err)
{
    char path[SCRATCH_PATH_MAX];
    scratch_name(scratch, "ids.txt", path);
    text_write(path, text);
    return ids_read(ids, env_os(), path, rows, err);
}

static void text_is_one_number_a_line(void **state)
{
    uint64_t *ids;
    assert_int_equal(read_text(*state, "7\n0\r\n18446744073709551614", 3, &ids, NULL), 0);
    assert_int_equal(ids[0], 7);
    assert_int_equal(ids[1], 0);
    assert_true(ids[2] == UINT64_MAX - 1);
    mem_free(ids);
}

static void refuse(struct scratch *scratch, const char *text, uint64_t rows, const char *part)
{
    struct fathom_error err;
    uint64_t *ids;
    assert_int_equal(read_text(scratch, text, rows, &ids, &err), FATHOM_EINPUT);
    assert_null(ids);
    if (!message_has(&err, part))
        fail_msg("'%s' does not say '%s'", err.msg, part);
}

static void bad_text_is_refused_with_its_line(void **state)
{
    refuse(*state, "1\nx\n3\n", 3, "line 2");
    refuse(*state, "1\n\n3\n", 3, "line 2");
    refuse(*state, "1\n-2\n3\n", 3, "line 2");
    refuse(*state, "1\n2 \n3\n", 3, "line 2");
    refuse(*state, "18446744073709551616\n", 1, "line 1");
}

static void the_count_must_be_that_of_the_rows(void **state)
{
    refuse(*state, "1\n2\n", 3, "has 2 ids");
    refuse(*state, "1\n2\n3\n4\n", 3, "more ids");
    refuse(*state, "", 3, "has 0 ids");
}

static void duplicates_and_the_reserved_id_are_refused(void **state)
{
    refuse(*state, "5\n6\n5\n", 3, "id 5 appears more than once");
    refuse(*state, "5\n18446744073709551615\n", 2, "2^64-1");
}

/* A one-dimensional .npy of i8 as NumPy writes it. */
static void write_npy(const char *path, const int64_t *values, uint64_t count)
{
    char header[128];
    memset(header, ' ', sizeof header);
    memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10);
    int length =
        snprintf(header + 10, 118, "{'descr': '<i8', 'fortran_order': False, 'shape': (%llu,), }",
                 (unsigned long long)count);
    header[10 + length] = ' ';
    header[127] = '\n';
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(header, 1, sizeof header, file), sizeof header);
    assert_int_equal(fwrite(values, sizeof *values, count, file), count);
    fclose(file);
}

static void a_table_of_integers_has_one_column_and_none_is_negative(void **state)
{
    char path[SCRATCH_PATH_MAX];
    int64_t values[3] = {100, 5, 7};
    struct fathom_error err;
    uint64_t *ids;
    scratch_name(*state, "ids.npy", path);
    write_npy(path, values, 3);
    assert_int_equal(ids_read(&ids, env_os(), path, 3, NULL), 0);
    assert_int_equal(ids[0], 100);
    assert_int_equal(ids[2], 7);
    mem_free(ids);
    assert_int_equal(ids_read(&ids, env_os(), path, 4, &err), FATHOM_EINPUT);
    values[1] = -5;
    write_npy(path, values, 3);
    assert_int_equal(ids_read(&ids, env_os(), path, 3, &err), FATHOM_EINPUT);
    assert_true(message_has(&err, "row 1") && message_has(&err, "-5"));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(text_is_one_number_a_line, scratch_make, scratch_remove),
    cmocka_unit_test_setup_teardown(bad_text_is_refused_with_its_line, scratch_make,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(the_count_must_be_that_of_the_rows, scratch_make,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(duplicates_and_the_reserved_id_are_refused, scratch_make,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(a_table_of_integers_has_one_column_and_none_is_negative,
                                    scratch_make, scratch_remove),
};

FATHOM_TEST_MAIN(tests)
