/* Folders and whole files for tests. Uses the system directly, so that what a test checks with is
 * not what it checks. Each function fails the test that calls it when the system refuses. */
#ifndef SUPPORT_FOLDER_H
#define SUPPORT_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FOLDER_PATH_MAX 512

/* An empty folder under TMPDIR. */
void folder_make(char out[FOLDER_PATH_MAX]);
/* The same in memory where there is a /dev/shm: for tests that write thousands of times. */
void folder_make_fast(char out[FOLDER_PATH_MAX]);
/* Removes it with all that is in it. */
void folder_remove(const char *path);
/* dir/name into out. */
void folder_name(const char *dir, const char *name, char out[FOLDER_PATH_MAX]);
/* Entries of dir whose name holds mark; "" counts all. */
unsigned folder_count(const char *dir, const char *mark);

bool file_exists(const char *path);
/* The whole file; free() it. */
uint8_t *file_load(const char *path, size_t *bytes);
void file_store(const char *path, const void *data, size_t bytes);
/* Writes over bytes that are there. */
void file_patch(const char *path, uint64_t offset, const void *data, size_t bytes);

/* Descriptors that this process has open. */
unsigned fd_count(void);

#endif
