/* What is not a whole index file is refused, and says why: truncation at every page, bytes
 * appended, empty, no file at all. */
#include "fathom_test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folder.h"
#include "tiny_index.h"

struct fixture {
    char dir[FOLDER_PATH_MAX], path[FOLDER_PATH_MAX];
    uint8_t *image;
    size_t bytes;
};

static int make_fixture(void **state)
{
    struct tiny_options options = {
        .rows = 300, .dim = 24, .dtype = FATHOM_F32, .metric = FATHOM_METRIC_COS};
    struct fixture *fixture = calloc(1, sizeof *fixture);
    struct tiny_index tiny;
    folder_make_fast(fixture->dir);
    folder_name(fixture->dir, FORMAT_FILE_NAME, fixture->path);
    tiny_make(&tiny, &options);
    fixture->image = tiny_image(&tiny, &fixture->bytes);
    file_store(fixture->path, fixture->image, fixture->bytes);
    tiny_free(&tiny);
    *state = fixture;
    return 0;
}

static int free_fixture(void **state)
{
    struct fixture *fixture = *state;
    folder_remove(fixture->dir);
    free(fixture->image);
    free(fixture);
    return 0;
}

static int open_dir(const char *dir, struct fathom_error *err)
{
    struct index_file file;
    *err = (struct fathom_error){0};
    int status = index_file_open(&file, env_os(), dir, err);
    if (status == 0)
        index_file_close(&file);
    return status;
}

static void expect_refused(const struct fixture *fixture, int code, const char *part)
{
    struct fathom_error err;
    unsigned before = fd_count();
    int status = open_dir(fixture->dir, &err);
    if (status != code || !strstr(err.msg, part) || !strstr(err.msg, fixture->dir))
        fail_msg("%d (%s), not %d with '%s'", status, err.msg, code, part);
    assert_int_equal(fd_count(), before);
    /* Whoever verifies hears the same. */
    assert_int_equal(fathom_verify(fixture->dir, true, NULL, NULL, NULL, &err), code);
    assert_int_equal(fd_count(), before);
}

/* ---- */

static void the_fixture_itself_opens(void **state)
{
    const struct fixture *fixture = *state;
    struct fathom_error err;
    assert_int_equal(open_dir(fixture->dir, &err), 0);
    assert_int_equal(fathom_verify(fixture->dir, true, NULL, NULL, NULL, &err), 0);
    assert_true(fixture->bytes / PAGE_BYTES > 20);
}

static void truncation_round_every_page_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    for (size_t page = 1; page <= fixture->bytes / PAGE_BYTES; page++)
        for (int off = -1; off <= 1; off++) {
            size_t bytes = page * PAGE_BYTES + (size_t)off;
            if (bytes >= fixture->bytes)
                continue;
            assert_int_equal(truncate(fixture->path, (off_t)bytes), 0);
            expect_refused(fixture, FATHOM_ECORRUPT, "truncated");
            file_store(fixture->path, fixture->image, fixture->bytes);
        }
}

static void truncation_within_the_superblock_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    for (int bytes = PAGE_BYTES - 1; bytes >= 0; bytes -= bytes > 16 ? 117 : 1) {
        assert_int_equal(truncate(fixture->path, bytes), 0);
        expect_refused(fixture, FATHOM_ECORRUPT, "too few");
    }
}

static void an_empty_file_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    file_store(fixture->path, "", 0);
    expect_refused(fixture, FATHOM_ECORRUPT, "empty");
}

static void appended_bytes_are_refused(void **state)
{
    const struct fixture *fixture = *state;
    const size_t more[] = {1, 7, 511, 4095, 4096, 4097, 65536};
    uint8_t *longer = calloc(1, fixture->bytes + 65536);
    memcpy(longer, fixture->image, fixture->bytes);
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) {
        file_store(fixture->path, longer, fixture->bytes + more[i]);
        expect_refused(fixture, FATHOM_ECORRUPT, "appended");
    }
    free(longer);
}

static void a_hole_instead_of_content_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    struct fathom_error err;
    assert_int_equal(truncate(fixture->path, PAGE_BYTES), 0);
    assert_int_equal(truncate(fixture->path, (off_t)fixture->bytes), 0);
    assert_int_equal(fathom_verify(fixture->dir, false, NULL, NULL, NULL, &err), FATHOM_ECHECKSUM);
    assert_non_null(strstr(err.msg, "section manifest: checksum mismatch in page 1 (offset 4096)"));
}

static void other_files_are_told_apart(void **state)
{
    const struct fixture *fixture = *state;
    char text[PAGE_BYTES];
    memset(text, 'a', sizeof text);
    file_store(fixture->path, text, sizeof text);
    expect_refused(fixture, FATHOM_ECORRUPT, "not a fathom index");
}

static void a_directory_in_its_place_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    assert_int_equal(unlink(fixture->path), 0);
    assert_int_equal(mkdir(fixture->path, 0755), 0);
    expect_refused(fixture, -EISDIR, "is a directory");
}

static void a_fifo_in_its_place_is_refused_without_waiting(void **state)
{
    const struct fixture *fixture = *state;
    assert_int_equal(unlink(fixture->path), 0);
    assert_int_equal(mkfifo(fixture->path, 0644), 0);
    expect_refused(fixture, -EINVAL, "FIFO");
}

static void a_missing_file_says_what_to_do(void **state)
{
    const struct fixture *fixture = *state;
    assert_int_equal(unlink(fixture->path), 0);
    expect_refused(fixture, -ENOENT, "build one with fathom-build");
}

static void a_missing_directory_says_what_to_do(void **state)
{
    const struct fixture *fixture = *state;
    struct fathom_error err;
    char missing[FOLDER_PATH_MAX];
    folder_name(fixture->dir, "no-such", missing);
    assert_int_equal(open_dir(missing, &err), -ENOENT);
    assert_non_null(strstr(err.msg, missing));
    assert_non_null(strstr(err.msg, "no such directory"));
    assert_non_null(strstr(err.msg, "fathom-build"));
}

static void a_file_instead_of_the_directory_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    struct fathom_error err;
    assert_int_equal(open_dir(fixture->path, &err), -ENOTDIR);
    assert_non_null(strstr(err.msg, fixture->path));
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_fixture, free_fixture)

static const struct CMUnitTest tests[] = {
    WITH_FOLDER(the_fixture_itself_opens),
    WITH_FOLDER(truncation_round_every_page_is_refused),
    WITH_FOLDER(truncation_within_the_superblock_is_refused),
    WITH_FOLDER(an_empty_file_is_refused),
    WITH_FOLDER(appended_bytes_are_refused),
    WITH_FOLDER(a_hole_instead_of_content_is_refused),
    WITH_FOLDER(other_files_are_told_apart),
    WITH_FOLDER(a_directory_in_its_place_is_refused),
    WITH_FOLDER(a_fifo_in_its_place_is_refused_without_waiting),
    WITH_FOLDER(a_missing_file_says_what_to_do),
    WITH_FOLDER(a_missing_directory_says_what_to_do),
    WITH_FOLDER(a_file_instead_of_the_directory_is_refused),
};

FATHOM_TEST_MAIN(tests)
