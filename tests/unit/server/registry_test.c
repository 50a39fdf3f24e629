/* The end of a registry, over the fake library: whoever waits for a reload is told. */
#include "fathom_test.h"

#include "registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WAITING 3

static void note_end(void *context, const struct reload_result *result)
{
    unsigned *told = context;
    assert_int_equal(result->err.code, FATHOM_EINTERRUPTED);
    assert_true(result->err.msg[0] != 0);
    ++*told;
}

static void who_waits_for_a_reload_is_told_at_the_end(void **state)
{
    char dir[] = "registry-test-XXXXXX", path[64];
    const struct registry_index index = {.name = "a", .dir = dir};
    const struct registry_options options = {.indexes = &index, .index_count = 1, .threads = 1};
    const struct reload_request request = {.slot = 0};
    struct registry *registry;
    struct log *log;
    struct fathom_error err;
    unsigned told = 0;
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/fake", dir);
    fclose(fopen(path, "w"));
    assert_int_equal(log_open(&log, STDERR_FILENO, LOG_FORMAT_TEXT, LOG_LEVEL_ERROR, &err), 0);
    assert_int_equal(registry_open(&registry, &options, log, &err), 0);
    for (int i = 0; i < WAITING; i++) /* nothing runs them */
        assert_int_equal(registry_reload(registry, &request, note_end, &told), 0);
    assert_int_equal(registry_reload(registry, &request, NULL, NULL), 0); /* who asks for no word */
    assert_true(registry_stop(registry, 0));
    registry_close(registry);
    assert_int_equal(told, WAITING);
    log_close(log);
    unlink(path);
    rmdir(dir);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(who_waits_for_a_reload_is_told_at_the_end),
};

FATHOM_TEST_MAIN(tests)
