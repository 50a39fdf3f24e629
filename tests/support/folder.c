/* Folders and whole files for tests; see folder.h. */
#include "folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fathom_test.h"

static void make_in(const char *base, char out[FOLDER_PATH_MAX])
{
    int length = snprintf(out, FOLDER_PATH_MAX, "%s/fathom-test-XXXXXX", base);
    assert_in_range(length, 1, FOLDER_PATH_MAX - 1);
    assert_non_null(mkdtemp(out));
}

void folder_make(char out[FOLDER_PATH_MAX])
{
    const char *base = getenv("TMPDIR");
    make_in(base ? base : P_tmpdir, out);
}

void folder_make_fast(char out[FOLDER_PATH_MAX])
{
    if (access("/dev/shm", W_OK) == 0)
        make_in("/dev/shm", out);
    else
        folder_make(out);
}

static int remove_one(const char *path, const struct stat *stat_of, int kind, struct FTW *walk)
{
    (void)stat_of;
    (void)kind;
    (void)walk;
    return remove(path);
}

void folder_remove(const char *path)
{
    assert_int_equal(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

void folder_name(const char *dir, const char *name, char out[FOLDER_PATH_MAX])
{
    int length = snprintf(out, FOLDER_PATH_MAX, "%s/%s", dir, name);
    assert_in_range(length, 1, FOLDER_PATH_MAX - 1);
}

static unsigned count_names(const char *dir, const char *mark)
{
    DIR *handle = opendir(dir);
    unsigned count = 0;
    assert_non_null(handle);
    for (struct dirent *entry; (entry = readdir(handle));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                 strstr(entry->d_name, mark) != NULL;
    closedir(handle);
    return count;
}

unsigned folder_count(const char *dir, const char *mark)
{
    return count_names(dir, mark);
}

unsigned fd_count(void)
{
    return count_names("/proc/self/fd", "");
}

bool file_exists(const char *path)
{
    struct stat stat_of;
    return lstat(path, &stat_of) == 0;
}

uint8_t *file_load(const char *path, size_t *bytes)
{
    struct stat stat_of;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &stat_of), 0);
    *bytes = (size_t)stat_of.st_size;
    uint8_t *data = malloc(*bytes + 1);
    assert_non_null(data);
    for (size_t done = 0; done < *bytes;) {
        ssize_t got = read(fd, data + done, *bytes - done);
        assert_true(got > 0);
        done += (size_t)got;
    }
    close(fd);
    return data;
}

static void write_at(int fd, const uint8_t *data, size_t bytes, uint64_t offset)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t put = pwrite(fd, data + done, bytes - done, (off_t)(offset + done));
        assert_true(put > 0);
        done += (size_t)put;
    }
}

void file_store(const char *path, const void *data, size_t bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    write_at(fd, data, bytes, 0);
    assert_int_equal(close(fd), 0);
}

void file_patch(const char *path, uint64_t offset, const void *data, size_t bytes)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    write_at(fd, data, bytes, offset);
    assert_int_equal(close(fd), 0);
}
