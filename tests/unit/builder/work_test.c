/* Work files that are read side by side: their buffers are a share of what one file has alone, and
 * what they give is the same. And those that are written by one build after the other. */
#include "builder_support.h"

#include <errno.h>
#include <stdio.h>
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

/* ---- written in pieces ---- */

static struct work work_in(const struct scratch *scratch, char dir[SCRATCH_PATH_MAX],
                           const struct crew *crew)
{
    scratch_name(scratch, "", dir);
    return (struct work){.env = env_os(), .dir = dir, .identity = 1, .crew = crew};
}

static void append_numbers(struct work_writer *writer, uint32_t first, uint32_t end)
{
    for (uint32_t i = first; i < end; i++)
        assert_int_equal(work_append(writer, &i, sizeof i, NULL), 0);
}

/* Numbers up to `good` that are noted, and as many more that are not. */
static void leave_numbers(const struct work *work, uint32_t good)
{
    struct work_writer *writer;
    assert_int_equal(work_create(&writer, work, "numbers", NULL), 0);
    append_numbers(writer, 0, good);
    assert_int_equal(work_flush(writer, NULL), 0);
    append_numbers(writer, good, 2 * good);
    work_suspend(writer);
}

static void a_file_is_gone_on_with_where_it_was_noted(void **state)
{
    const struct crew crew = {.threads = 1};
    char dir[SCRATCH_PATH_MAX];
    struct work work = work_in(*state, dir, &crew);
    struct watched watched = {.env = *env_os(), .real = env_os()};
    watched.env.context = &watched;
    watched.env.pread = watched_pread;
    /* A page has room for 1,016 numbers or so, the buffer for 64 pages. */
    static const uint32_t good[] = {0, 1, 500, 1016, 1017, 1020, 65000, 65280, 99999};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct work_writer *writer;
        struct fathom_error err;
        leave_numbers(&work, good[i]);
        if (work_reopen(&writer, &work, "numbers", sizeof(uint32_t) * good[i], &err) != 0)
            fail_msg("%u: %s", good[i], err.msg);
        append_numbers(writer, good[i], good[i] + 7);
        assert_int_equal(work_flush(writer, NULL), 0);
        assert_int_equal(work_flush(writer, NULL), 0); /* of nothing new */
        append_numbers(writer, good[i] + 7, NUMBERS);
        assert_int_equal(work_commit(writer, NULL), 0);
        struct work watching = work;
        watching.env = &watched.env;
        (void)read_numbers(&watching, &watched, 1);
    }
}

static void what_is_damaged_or_short_or_of_another_build_is_not(void **state)
{
    const struct crew crew = {.threads = 1};
    char dir[SCRATCH_PATH_MAX], path[SCRATCH_PATH_MAX];
    struct work work = work_in(*state, dir, &crew), other = work;
    struct work_writer *writer;
    struct fathom_error err;
    other.identity = 2;
    scratch_name(*state, WORK_PREFIX "numbers.part", path);
    assert_int_equal(work_reopen(&writer, &work, "numbers", 0, &err), -ENOENT);
    assert_null(writer);
    leave_numbers(&work, 70000);
    const uint64_t bytes = 70000 * sizeof(uint32_t);
    assert_int_equal(work_reopen(&writer, &other, "numbers", bytes, &err), FATHOM_ECORRUPT);
    assert_true(message_has(&err, "numbers.part: page 1 "));
    assert_int_equal(work_reopen(&writer, &work, "numbers", 4 * bytes, &err), FATHOM_ECORRUPT);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, 66 * PAGE_BYTES + 4000, SEEK_SET);
    fputc(1, file); /* a number of 66,000 or so has another byte there */
    fclose(file);
    assert_int_equal(work_reopen(&writer, &work, "numbers", bytes, &err), FATHOM_ECORRUPT);
    assert_true(message_has(&err, "page 66 "));
    assert_null(writer);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(a_file_is_gone_on_with_where_it_was_noted, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(what_is_damaged_or_short_or_of_another_build_is_not,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(files_side_by_side_share_their_buffers, scratch_make,
                                    scratch_remove),
};

FATHOM_TEST_MAIN(tests)
