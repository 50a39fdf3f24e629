/* Error codes and texts. */
#include "fathom_test.h"

#include <errno.h>
#include <string.h>

#include "error.h"

static void our_codes_are_pinned(void **state)
{
    (void)state;
    assert_int_equal(FATHOM_ECORRUPT, -10001);
    assert_int_equal(FATHOM_EVERSION, -10002);
    assert_int_equal(FATHOM_ECHECKSUM, -10003);
    assert_int_equal(FATHOM_EDIM, -10004);
    assert_int_equal(FATHOM_ELIMIT, -10005);
    assert_int_equal(FATHOM_EARGUMENT, -10006);
    assert_int_equal(FATHOM_EBUDGET, -10007);
    assert_int_equal(FATHOM_EBUSY, -10008);
    assert_int_equal(FATHOM_EINPUT, -10009);
    assert_int_equal(FATHOM_EINTERRUPTED, -10010);
    assert_int_equal(FATHOM_EDEADLINE, -10011);
    assert_int_equal(FATHOM_ECANCELLED, -10012);
}

static void each_of_our_codes_has_a_text_of_its_own(void **state)
{
    (void)state;
    for (int a = FATHOM_ECANCELLED; a <= FATHOM_ECORRUPT; a++) {
        assert_string_not_equal(fathom_strerror(a), "unknown error");
        for (int b = a + 1; b <= FATHOM_ECORRUPT; b++)
            assert_string_not_equal(fathom_strerror(a), fathom_strerror(b));
    }
}

static void errno_values_have_the_text_of_the_system(void **state)
{
    (void)state;
    assert_string_equal(fathom_strerror(0), "success");
    assert_string_equal(fathom_strerror(-ENOENT), "No such file or directory");
    assert_string_equal(fathom_strerror(-ENOSPC), "No space left on device");
}

static void codes_that_nobody_gives_have_a_text_too(void **state)
{
    (void)state;
    static const int codes[] = {1, -4000, -5000, -10000, -10099, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        assert_non_null(strstr(fathom_strerror(codes[i]), "unknown"));
}

static void error_set_stores_code_and_message_and_returns_the_code(void **state)
{
    (void)state;
    struct fathom_error err = {.code = 1};
    assert_int_equal(error_set(&err, FATHOM_EDIM, "%s: %d of %u", "x.npy", -3, 7u), FATHOM_EDIM);
    assert_int_equal(err.code, FATHOM_EDIM);
    assert_string_equal(err.msg, "x.npy: -3 of 7");
    assert_int_equal(error_set(NULL, -EIO, "nobody reads %s", "this"), -EIO);
}

static void a_message_that_is_too_long_is_cut_and_terminated(void **state)
{
    (void)state;
    char text[2000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    struct {
        struct fathom_error err;
        char guard[16];
    } at = {.guard = "untouched"};
    assert_int_equal(error_set(&at.err, -EIO, "%s", text), -EIO);
    assert_int_equal(strlen(at.err.msg), sizeof at.err.msg - 1);
    assert_string_equal(at.guard, "untouched");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(our_codes_are_pinned),
    cmocka_unit_test(each_of_our_codes_has_a_text_of_its_own),
    cmocka_unit_test(errno_values_have_the_text_of_the_system),
    cmocka_unit_test(codes_that_nobody_gives_have_a_text_too),
    cmocka_unit_test(error_set_stores_code_and_message_and_returns_the_code),
    cmocka_unit_test(a_message_that_is_too_long_is_cut_and_terminated),
};

FATHOM_TEST_MAIN(tests)
