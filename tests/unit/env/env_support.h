/* What the tests of env share: a directory of their own, files with known bytes, and the count of
 * open descriptors. */
#ifndef UNIT_ENV_SUPPORT_H
#define UNIT_ENV_SUPPORT_H

#include "fathom_test.h"

#include "env.h"
#include "fault.h"
#include "ring.h"

#define SCRATCH_PATH_MAX 512

/* An empty directory, with *state pointing to its struct scratch; scratch_remove takes it away with
 * all that is in it. Setup and teardown of cmocka. */
struct scratch {
    char dir[SCRATCH_PATH_MAX];
    char path[SCRATCH_PATH_MAX]; /* a name in dir for the file under test */
};

int scratch_make(void **state);
/* In memory, for tests that write a great deal and do not need a device. */
int scratch_make_fast(void **state);
int scratch_remove(void **state);
/* dir/name into out. */
void scratch_name(const struct scratch *scratch, const char *name, char out[SCRATCH_PATH_MAX]);

/* The byte at an offset of every test file: no page repeats, no byte tells where it is by itself.
 */
uint8_t pattern_at(uint64_t offset);
/* Writes a file of so many pattern bytes. */
void pattern_write(const char *path, uint64_t bytes);
/* Fails unless data holds the pattern bytes from offset on. */
void pattern_assert(const uint8_t *data, size_t bytes, uint64_t offset);

void text_write(const char *path, const char *text);
/* Fails unless the file is exactly this text. */
void text_assert(const char *path, const char *text);
bool path_exists(const char *path);
/* Entries in dir whose name holds mark. */
unsigned names_with(const char *dir, const char *mark);
/* The path of one of them, from malloc; NULL when there is none. */
char *path_with(const char *dir, const char *mark);

unsigned open_fds(void);
bool uring_works(void);
bool message_has(const struct fathom_error *err, const char *part);

#endif
