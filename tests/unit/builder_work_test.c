/* Work files that are read side by side: their buffers are a share of what one file has alone, and
 * what they give is the same. */
#include "builder_support.h"

#include <stdlib.h>

#include "page.h"
#include "work.h"

#define NUMBERS 200000 /* some 200 pages */

/* An env that remembers the largest read. */
struct watched {
    struct env env;
    const struct env *real;
    size_t largest;
};

static ssize_t watched_pread(void *context, int fd, void *out, size_t bytes, uint64_t offset)
{
    struct watched *watched = context;
    watched->largest = bytes > watched->largest ? bytes : watched->largest;
    return watched->real->pread(watched->real->context, fd, out, bytes, offset);
}

static void write_numbers(const struct work *work)
{
    struct work_writer *writer;
    struct fathom_error err;
    assert_int_equal(work_create(&writer, work, "numbers", &err), 0);
    for (uint32_t i = 0; i < NUMBERS; i++)
        assert_int_equal(work_append(writer, &i, sizeof i, &err), 0);
    assert_int_equal(work_commit(writer, &err), 0);
}

/* Reads all, in stretches that now fit a page and now are more than the least buffer. Returns the
 * pages of the largest read. */
static size_t read_numbers(const struct work *work, struct watched *watched, uint32_t together)
{
    static const uint32_t stretches[] = {1, 3, 97, 1500, 4000};
    uint32_t *numbers = malloc(4000 * sizeof *numbers);
    struct work_file *file;
    struct fathom_error err;
    assert_non_null(numbers);
    watched->largest = 0;
    assert_int_equal(work_open_beside(&file, work, "numbers", together, &err), 0);
    for (uint32_t at = 0, take, turn = 0; at < NUMBERS; at += take, turn++) {
        take = stretches[turn % 5] < NUMBERS - at ? stretches[turn % 5] : NUMBERS - at;
        assert_int_equal(work_next(file, numbers, take * sizeof *numbers, &err), 0);
        for (uint32_t i = 0; i < take; i++)
            assert_int_equal(numbers[i], at + i);
    }
    work_close(file);
    free(numbers);
    return watched->largest / PAGE_BYTES;
}

static void files_side_by_side_share_their_buffers(void **state)
{
    const struct scratch *scratch = *state;
    const struct crew crew = {.threads = 1};
    struct watched watched = {.real = env_os()};
    char dir[SCRATCH_PATH_MAX];
    scratch_name(scratch, "", dir);
    watched.env = *watched.real;
    struct work work = {.env = &watched.env, .dir = dir, .identity = 1, .crew = &crew};
    write_numbers(&work);
    watched.env.context = &watched;
    watched.env.pread = watched_pread;
    assert_int_equal(read_numbers(&work, &watched, 1), 64);
    assert_int_equal(read_numbers(&work, &watched, 16), 64);
    assert_int_equal(read_numbers(&work, &watched, 100), 10);
    assert_int_equal(read_numbers(&work, &watched, 512), 2);
    assert_int_equal(read_numbers(&work, &watched, 100000), 2);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(files_side_by_side_share_their_buffers, scratch_make,
                                    scratch_remove),
};

FATHOM_TEST_MAIN(tests)
