/* The rule for raw reads; see read_rule.h. Keeps no state and never allocates. */
#include "read_rule.h"

#include <errno.h>
#include <time.h>

/* pread stops just below 2 GiB anyhow; a round number below it keeps results in an int and offsets
 * aligned. */
#define READ_CHUNK_MAX ((size_t)1 << 30)
#define READ_BOUNDARY  ((uint64_t)4096)

/* A stall that a fault plan asked for: where the read itself would block, we wait. */
#define STALL_SLEEP_NS 1000000

static int try_again(struct read_rule *read, int code)
{
    return ++read->retries > READ_RETRIES_MAX ? code : READ_AGAIN;
}

/* Where a read that stopped after `total` bytes can go on under O_DIRECT. */
static size_t resume_at(const struct read_rule *read, size_t total)
{
    return read->offset % READ_BOUNDARY ? total : total - total % READ_BOUNDARY;
}

int read_judge(const struct env *env, int fd, struct read_rule *read, size_t asked, int result)
{
    if (result == -EINTR || result == -EAGAIN)
        return try_again(read, result);
    if (result < 0)
        return result;
    if (result == 0)
        return -ENODATA;
    if ((size_t)result > asked)
        return -EIO; /* more than asked for: whoever wrote there, the count cannot be believed */
    size_t total = read->done + (size_t)result;
    if (total == read->bytes)
        return 0;
    if ((size_t)result < asked) {
        struct env_stat stat;
        if (env->fstat(env->context, fd, &stat) == 0 && read->offset + total >= stat.bytes)
            return -ENODATA;
    }
    size_t resume = resume_at(read, total);
    if (resume <= read->done)
        return try_again(read, -EIO);
    read->done = resume;
    read->retries = 0;
    return READ_AGAIN;
}

/* Passes a result through the env, waiting out a stall. */
static int settle(const struct env *env, int result, void *buf)
{
    for (;;) {
        int settled = env->ring_result(env->context, result, buf);
        if (settled != -EINPROGRESS)
            return settled;
        nanosleep(&(struct timespec){.tv_nsec = STALL_SLEEP_NS}, NULL);
    }
}

int read_all(const struct env *env, int fd, void *out, struct read_rule *read, uint64_t *retries)
{
    for (;;) {
        uint8_t *at = (uint8_t *)out + read->done;
        size_t asked = read->bytes - read->done;
        if (asked > READ_CHUNK_MAX)
            asked = READ_CHUNK_MAX;
        ssize_t raw = env->pread(env->context, fd, at, asked, read->offset + read->done);
        int rc = read_judge(env, fd, read, asked, settle(env, (int)raw, at));
        if (rc != READ_AGAIN)
            return rc;
        if (retries)
            ++*retries;
    }
}
