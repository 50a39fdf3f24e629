/* External ids: read from tables and from text, and checked. */
#include "datasets_support.h"

#include <stdio.h>
#include <string.h>

#include "ids.h"
#include "mem.h"

/* A one-dimensional .npy of three values of 8 bytes. */
static const char *write_npy(struct scratch *scratch, char sign, const void *values)
{
    char dictionary[] = "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }";
    struct bytes bytes = {0};
    *strchr(dictionary + 10, 'i') = sign;
    bytes_add_npy(&bytes, 1, dictionary);
    bytes_add(&bytes, values, 3 * sizeof(uint64_t));
    return bytes_write(&bytes, scratch, "ids.npy");
}

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

static void however_many_there_are_are_read(void **state)
{
    char path[SCRATCH_PATH_MAX], text[3 * 5000] = "";
    struct fathom_error err;
    uint64_t *ids, rows;
    scratch_name(*state, "ids.txt", path);
    for (int i = 0, at = 0; i < 2500; i++) /* more than there is room for at first */
        at += snprintf(text + at, sizeof text - (size_t)at, "%d\n", 2 * i);
    text_write(path, text);
    assert_int_equal(ids_read_all(&ids, &rows, env_os(), path, NULL), 0);
    assert_int_equal(rows, 2500);
    for (uint64_t i = 0; i < rows; i++)
        assert_int_equal(ids[i], 2 * i);
    mem_free(ids);
    text_write(path, "");
    assert_int_equal(ids_read_all(&ids, &rows, env_os(), path, &err), FATHOM_EINPUT);
    assert_true(message_has(&err, "no ids"));
    const uint64_t values[3] = {3, 1, 2};
    assert_int_equal(ids_read_all(&ids, &rows, env_os(), write_npy(*state, 'u', values), NULL), 0);
    assert_int_equal(rows, 3);
    assert_memory_equal(ids, values, sizeof values);
    mem_free(ids);
}

static void duplicates_and_the_reserved_id_are_refused(void **state)
{
    refuse(*state, "5\n6\n5\n", 3, "id 5 appears more than once: in rows 0 and 2 (counted from 0)");
    refuse(*state, "5\n18446744073709551615\n", 2, "2^64-1");
}

static void a_table_of_integers_has_one_column_and_none_is_negative(void **state)
{
    int64_t values[3] = {100, 5, 7};
    const char *path = write_npy(*state, 'i', values);
    struct fathom_error err;
    uint64_t *ids;
    assert_int_equal(ids_read(&ids, env_os(), path, 3, NULL), 0);
    assert_int_equal(ids[0], 100);
    assert_int_equal(ids[2], 7);
    mem_free(ids);
    assert_int_equal(ids_read(&ids, env_os(), path, 4, &err), FATHOM_EINPUT);
    values[1] = -5;
    path = write_npy(*state, 'i', values);
    assert_int_equal(ids_read(&ids, env_os(), path, 3, &err), FATHOM_EINPUT);
    assert_true(message_has(&err, "row 1") && message_has(&err, "-5"));
}

static void a_table_without_signs_holds_as_large_ids_as_text(void **state)
{
    uint64_t values[3] = {1ull << 63, UINT64_MAX - 1, 0};
    struct fathom_error err;
    uint64_t *ids;
    assert_int_equal(ids_read(&ids, env_os(), write_npy(*state, 'u', values), 3, NULL), 0);
    assert_memory_equal(ids, values, sizeof values);
    mem_free(ids);
    values[2] = UINT64_MAX;
    assert_int_equal(ids_read(&ids, env_os(), write_npy(*state, 'u', values), 3, &err),
                     FATHOM_EINPUT);
    assert_true(message_has(&err, "2^64-1"));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(text_is_one_number_a_line, scratch_make, scratch_remove),
    cmocka_unit_test_setup_teardown(bad_text_is_refused_with_its_line, scratch_make,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(the_count_must_be_that_of_the_rows, scratch_make,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(however_many_there_are_are_read, scratch_make, scratch_remove),
    cmocka_unit_test_setup_teardown(duplicates_and_the_reserved_id_are_refused, scratch_make,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(a_table_of_integers_has_one_column_and_none_is_negative,
                                    scratch_make, scratch_remove),
    cmocka_unit_test_setup_teardown(a_table_without_signs_holds_as_large_ids_as_text, scratch_make,
                                    scratch_remove),
};

FATHOM_TEST_MAIN(tests)
