/* What an interrupted build has left, damaged anywhere: the next one takes over to the same index,
 * whatever of it is wrong. */
#include "trial.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "format.h"
#include "page.h"
#include "prng.h"

#define FILES_MAX 40

/* Sanitizers look for what is the same whichever byte it is. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HARMS_EACH 1
#else
#define HARMS_EACH 2
#endif

/* The files of a directory, in memory. */
struct left {
    struct {
        char path[SCRATCH_PATH_MAX];
        struct bytes content;
    } files[FILES_MAX];
    unsigned count;
};

static void take(struct left *left, const char *dir)
{
    DIR *folder = opendir(dir);
    assert_non_null(folder);
    left->count = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (!strstr(entry->d_name, TRIAL_MARK))
            continue;
        assert_true(left->count < FILES_MAX);
        char *path = left->files[left->count].path;
        struct bytes *content = &left->files[left->count++].content;
        assert_true(snprintf(path, SCRATCH_PATH_MAX, "%s/%s", dir, entry->d_name) <
                    SCRATCH_PATH_MAX);
        content->data = file_slurp(path, &content->count);
    }
    closedir(folder);
}

static void put_back(const struct left *left)
{
    for (unsigned i = 0; i < left->count; i++) {
        FILE *file = fopen(left->files[i].path, "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(left->files[i].content.data, 1, left->files[i].content.count, file),
                         left->files[i].content.count);
        assert_int_equal(fclose(file), 0);
    }
}

static void let_go(struct left *left)
{
    for (unsigned i = 0; i < left->count; i++)
        free(left->files[i].content.data);
}

enum harm { HARM_FLIP, HARM_CUT, HARM_ZEROS, HARM_KINDS };

/* Harms the file somewhere and says how. */
static void harm_file(const char *path, size_t bytes, enum harm harm, struct prng *prng,
                      char how[SCRATCH_PATH_MAX + 64])
{
    static const char *const names[] = {"flip", "cut", "zeros"};
    static const uint8_t zeros[PAGE_BYTES];
    size_t at = prng_below(prng, (uint32_t)bytes);
    if (prng_below(prng, 4) == 0) /* what says how much there is, and of what */
        at %= PAGE_HEADER + 64;
    snprintf(how, SCRATCH_PATH_MAX + 64, "%s at %zu of %s", names[harm], at, path);
    if (harm == HARM_FLIP) {
        trial_flip_in(path, (long)at);
    } else if (harm == HARM_CUT) {
        assert_int_equal(truncate(path, (off_t)at), 0);
    } else {
        FILE *file = fopen(path, "r+b");
        assert_non_null(file);
        at = at / PAGE_BYTES * PAGE_BYTES;
        fseek(file, (long)at, SEEK_SET);
        fwrite(zeros, 1, bytes - at < PAGE_BYTES ? bytes - at : PAGE_BYTES, file);
        fclose(file);
    }
}

static void harm_each(struct trial *trial, const struct bytes *expected, const struct left *left,
                      struct prng *prng)
{
    for (unsigned i = 0; i < left->count; i++) {
        if (left->files[i].content.count == 0)
            continue;
        for (int n = 0; n < HARMS_EACH; n++) {
            char how[SCRATCH_PATH_MAX + 64];
            put_back(left);
            harm_file(left->files[i].path, left->files[i].content.count,
                      (enum harm)((i + (unsigned)n) % HARM_KINDS), prng, how);
            trial_assert_resumes_to(trial, expected, how);
        }
    }
}

/* Killed at many moments, which leave files of every kind. */
static void harm_what_is_left(struct trial *trial, int from, int step)
{
    struct prng prng;
    struct bytes expected = trial_undisturbed(trial);
    int kills = 0;
    prng_init(&prng, 3, 0);
    for (int n = from;; n += step, kills++) {
        struct left left;
        char plan[64];
        snprintf(plan, sizeof plan, "op=%d:kill", n);
        if (!trial_build_killed(trial, plan, false))
            break;
        take(&left, trial->out);
        harm_each(trial, &expected, &left, &prng);
        let_go(&left);
    }
    assert_true(kills > 3);
    unlink(trial->index);
    free(expected.data);
}

static void work_files_of_a_build_in_memory(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    trial.piece = 190;
    harm_what_is_left(&trial, 25, 45);
}

static void work_files_of_a_build_in_parts(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    trial.parts = 3;
    harm_what_is_left(&trial, 60, 240);
}

static void work_files_of_a_build_with_rows_in_a_file(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    trial.parts = 2;
    trial.held = 150;
    harm_what_is_left(&trial, 60, 240);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(work_files_of_a_build_in_memory, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(work_files_of_a_build_in_parts, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(work_files_of_a_build_with_rows_in_a_file, scratch_make_fast,
                                    scratch_remove),
};

FATHOM_TEST_MAIN(tests)
