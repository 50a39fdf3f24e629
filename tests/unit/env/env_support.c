/* Shared by the tests of env. Uses the system directly, so that what it checks with is not what it
 * checks. */
#include "env_support.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int make_in(const char *base, void **state)
{
    struct scratch *scratch = calloc(1, sizeof *scratch);
    if (!scratch)
        return -1;
    snprintf(scratch->dir, sizeof scratch->dir, "%s/fathom-env-XXXXXX", base);
    if (!mkdtemp(scratch->dir)) {
        free(scratch);
        return -1;
    }
    scratch_name(scratch, "file", scratch->path);
    *state = scratch;
    return 0;
}

int scratch_make(void **state)
{
    const char *base = getenv("TMPDIR");
    return make_in(base ? base : P_tmpdir, state);
}

int scratch_make_fast(void **state)
{
    return access("/dev/shm", W_OK) == 0 ? make_in("/dev/shm", state) : scratch_make(state);
}

static int remove_one(const char *path, const struct stat *stat_of, int kind, struct FTW *walk)
{
    (void)stat_of;
    (void)kind;
    (void)walk;
    return remove(path);
}

int scratch_remove(void **state)
{
    struct scratch *scratch = *state;
    int rc = nftw(scratch->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(scratch);
    return rc;
}

void scratch_name(const struct scratch *scratch, const char *name, char out[SCRATCH_PATH_MAX])
{
    int length = snprintf(out, SCRATCH_PATH_MAX, "%s/%s", scratch->dir, name);
    assert_true(length > 0 && length < SCRATCH_PATH_MAX);
}

uint8_t pattern_at(uint64_t offset)
{
    uint64_t mixed = (offset + 1) * 0x9e3779b97f4a7c15u;
    return (uint8_t)(mixed >> 56 ^ mixed >> 24);
}

static void write_all(const char *path, const void *data, size_t bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, bytes), bytes);
    assert_int_equal(close(fd), 0);
}

void pattern_write(const char *path, uint64_t bytes)
{
    uint8_t *data = malloc(bytes + 1);
    assert_non_null(data);
    for (uint64_t i = 0; i < bytes; i++)
        data[i] = pattern_at(i);
    write_all(path, data, bytes);
    free(data);
}

void pattern_assert(const uint8_t *data, size_t bytes, uint64_t offset)
{
    for (size_t i = 0; i < bytes; i++)
        if (data[i] != pattern_at(offset + i))
            fail_msg("byte %zu of the read at %llu is %u, not %u", i, (unsigned long long)offset,
                     data[i], pattern_at(offset + i));
}

void text_write(const char *path, const char *text)
{
    write_all(path, text, strlen(text));
}

void text_assert(const char *path, const char *text)
{
    char got[256] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(read(fd, got, sizeof got - 1) >= 0);
    close(fd);
    assert_string_equal(got, text);
}

bool path_exists(const char *path)
{
    struct stat stat_of;
    return lstat(path, &stat_of) == 0;
}

unsigned names_with(const char *dir, const char *mark)
{
    DIR *handle = opendir(dir);
    unsigned count = 0;
    assert_non_null(handle);
    for (struct dirent *entry; (entry = readdir(handle));)
        count += strstr(entry->d_name, mark) != NULL;
    closedir(handle);
    return count;
}

char *path_with(const char *dir, const char *mark)
{
    DIR *handle = opendir(dir);
    char *path = NULL;
    assert_non_null(handle);
    for (struct dirent *entry; !path && (entry = readdir(handle));)
        if (strstr(entry->d_name, mark) && asprintf(&path, "%s/%s", dir, entry->d_name) < 0)
            fail_msg("no memory");
    closedir(handle);
    return path;
}

unsigned open_fds(void)
{
    DIR *handle = opendir("/proc/self/fd");
    unsigned count = 0;
    assert_non_null(handle);
    while (readdir(handle))
        count++;
    closedir(handle);
    return count;
}

bool uring_works(void)
{
    struct ring *ring;
    struct ring_options options = {.engine = RING_URING, .depth = 1};
    if (ring_create(&ring, env_os(), &options, NULL) < 0)
        return false;
    ring_destroy(ring);
    return true;
}

bool message_has(const struct fathom_error *err, const char *part)
{
    return strstr(err->msg, part) != NULL;
}
