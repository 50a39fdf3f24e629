/* The one header round the test runner (cmocka), so that a test file starts with one include. */
#ifndef SUPPORT_FATHOM_TEST_H
#define SUPPORT_FATHOM_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* main() for a file's tests: FATHOM_TEST_MAIN(tests) after `static const struct CMUnitTest tests[]
 * = {...}`. */
#define FATHOM_TEST_MAIN(tests)                                                                    \
    int main(void)                                                                                 \
    {                                                                                              \
        return cmocka_run_group_tests(tests, NULL, NULL);                                          \
    }

#endif
