/* The one rule for what a raw read may come back with, shared by file_read_full and both ring
 * backends so that all give the same answers.
 *
 * EINTR, EAGAIN and short reads are tried again, at most READ_RETRIES_MAX times in a row without
 * progress. A zero is the end of the file (-ENODATA). A short read is either the end of the file or
 * an interruption; fstat tells them apart. It is then continued from the last 4 KiB boundary,
 * because O_DIRECT refuses any other place. */
#ifndef ENV_READ_RULE_H
#define ENV_READ_RULE_H

#include "env.h"

#define READ_RETRIES_MAX 16
#define READ_AGAIN       1 /* of read_judge: ask for what is left, from done */

struct read_rule {
    uint64_t offset;
    size_t bytes;     /* asked for */
    size_t done;      /* of them, already in the buffer */
    unsigned retries; /* in a row that brought nothing */
};

/* Judges the result of a raw read of `asked` bytes at offset + done. 0: all bytes are there;
 * READ_AGAIN; or what failed: -ENODATA at the end of the file, -EIO when all stay short, -errno. */
int read_judge(const struct env *env, int fd, struct read_rule *read, size_t asked, int result);

/* Reads all of it on this thread, through env->pread and env->ring_result. 0 or a failure of
 * read_judge. Adds the raw reads beyond the first to *retries (may be NULL). */
int read_all(const struct env *env, int fd, void *out, struct read_rule *read, uint64_t *retries);

#endif
