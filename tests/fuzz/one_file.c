/* See one_file.h. */
#include "one_file.h"

#include <errno.h>
#include <string.h>

#define ONLY_FD 1000 /* far from any that the process has */

static int one_open(void *context, const char *path, int flags, unsigned mode)
{
    struct one_file *file = context;
    (void)path;
    (void)flags;
    (void)mode;
    file->open++;
    return ONLY_FD;
}

static int one_close(void *context, int fd)
{
    struct one_file *file = context;
    (void)fd;
    file->open--;
    return 0;
}

static ssize_t one_pread(void *context, int fd, void *out, size_t bytes, uint64_t offset)
{
    const struct one_file *file = context;
    (void)fd;
    if (offset >= file->count)
        return 0;
    size_t left = file->count - offset, got = bytes < left ? bytes : left;
    memcpy(out, file->bytes + offset, got);
    return (ssize_t)got;
}

static int one_fstat(void *context, int fd, struct env_stat *out)
{
    const struct one_file *file = context;
    (void)fd;
    *out = (struct env_stat){.bytes = file->count, .is_regular = true};
    return 0;
}

/* Two megabytes to clear for each engine would be most of what a run takes. */
static void *one_map_large(void *context, size_t bytes)
{
    (void)context;
    (void)bytes;
    return NULL;
}

void one_file_init(struct one_file *file, const uint8_t *bytes, size_t count)
{
    *file = (struct one_file){.env = *env_os(), .bytes = bytes, .count = count};
    file->env.context = file;
    file->env.open = one_open;
    file->env.close = one_close;
    file->env.pread = one_pread;
    file->env.fstat = one_fstat;
    file->env.map_large = one_map_large;
}
