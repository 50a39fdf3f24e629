/* The temporary file, its name, and the debris of earlier runs. A file PATH.tmp-<pid> whose process
 * is gone is debris: nobody will ever rename it. One whose process still lives is another run at
 * work and is left alone. */
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "mem.h"

#define TMP_SUFFIX ".tmp-"
#define DEBRIS_MAX 16 /* pids remembered in one pass over the directory */

struct debris {
    const char *name; /* of the output, without its directory */
    unsigned pids[DEBRIS_MAX];
    unsigned count;
};

/* "base.fbin.tmp-123" for the output "base.fbin": its pid is kept. */
static int note_debris(void *arg, const char *entry)
{
    struct debris *debris = arg;
    size_t length = strlen(debris->name);
    unsigned pid;
    if (strncmp(entry, debris->name, length) ||
        strncmp(entry + length, TMP_SUFFIX, strlen(TMP_SUFFIX)))
        return 0;
    const char *digits = entry + length + strlen(TMP_SUFFIX);
    if (sscanf(digits, "%u", &pid) == 1 && debris->count < DEBRIS_MAX)
        debris->pids[debris->count++] = pid;
    return 0;
}

static bool is_missing(const struct env *env, const char *path)
{
    int fd = env->open(env->context, path, O_RDONLY | O_CLOEXEC, 0);
    file_close(env, fd);
    return fd == -ENOENT;
}

/* Where /proc itself cannot be seen, nobody can be told to be dead. */
static bool process_is_dead(const struct env *env, unsigned pid)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    return is_missing(env, path) && !is_missing(env, "/proc/self/stat");
}

/* Best effort: a directory that cannot be listed says so when the file is created. */
static void remove_debris(const struct output *output, const char *name, size_t path_bytes)
{
    const struct env *env = output->env;
    struct debris debris = {.name = name};
    char *victim = mem_alloc(path_bytes), *directory = mem_alloc(path_bytes);
    if (victim && directory) {
        memcpy(directory, output->path, (size_t)(name - output->path));
        env->list(env->context, *directory ? directory : ".", note_debris, &debris);
        for (unsigned i = 0; i < debris.count; i++) {
            if (debris.pids[i] != (unsigned)getpid() && !process_is_dead(env, debris.pids[i]))
                continue;
            snprintf(victim, path_bytes, "%s" TMP_SUFFIX "%u", output->path, debris.pids[i]);
            env->unlink(env->context, victim);
        }
    }
    mem_free(directory);
    mem_free(victim);
}

/* Renaming puts a file in the place of whatever has its name: of another file is what is meant; of
 * /dev/stdout, or of a link to a larger disk, it is not. */
static int check_place(const struct env *env, const char *path, struct fathom_error *err)
{
    struct env_stat stat;
    int fd = env->open(env->context, path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC, 0);
    if (fd == -ELOOP)
        return error_set(err, -EEXIST,
                         "%s: is a symbolic link; name the file itself, which is to be replaced",
                         path);
    if (fd == -ENXIO) /* a socket */
        stat = (struct env_stat){0};
    else if (fd < 0 || env->fstat(env->context, fd, &stat) != 0)
        stat.is_regular = true; /* there is none, or who creates it will say what is wrong */
    file_close(env, fd);
    return stat.is_regular ? 0
                           : error_set(err, -EEXIST,
                                       "%s: is a directory, a device or the like; an output is a "
                                       "file of its own",
                                       path);
}

int output_open(struct output *output, const struct env *env, const char *path,
                struct fathom_error *err)
{
    size_t bytes = strlen(path) + strlen(TMP_SUFFIX) + 16;
    memset(output, 0, sizeof *output);
    output->env = env;
    output->fd = -1;
    output->path = mem_alloc(bytes);
    output->tmp_path = mem_alloc(bytes);
    if (!output->path || !output->tmp_path)
        return error_set(err, -ENOMEM, "%s: no memory to create it", path);
    snprintf(output->path, bytes, "%s", path);
    snprintf(output->tmp_path, bytes, "%s" TMP_SUFFIX "%u", path, (unsigned)getpid());
    int rc = check_place(env, path, err);
    if (rc)
        return rc;
    const char *slash = strrchr(output->path, '/');
    remove_debris(output, slash ? slash + 1 : output->path, bytes);
    output->fd = file_create(env, output->tmp_path, err);
    return output->fd < 0 ? output->fd : 0;
}

int output_append(struct output *output, const void *data, size_t bytes, struct fathom_error *err)
{
    int rc =
        file_write_full(output->env, output->fd, output->tmp_path, data, bytes, output->bytes, err);
    if (!rc)
        output->bytes += bytes;
    return rc;
}

int output_publish(struct output *output, struct fathom_error *err)
{
    int fd = output->fd;
    output->fd = -1; /* file_finish closes it, and on failure removes the file */
    return file_finish(output->env, fd, output->tmp_path, output->path, err);
}

void output_fini(struct output *output)
{
    if (output->env && output->fd >= 0) {
        file_close(output->env, output->fd);
        output->env->unlink(output->env->context, output->tmp_path);
    }
    mem_free(output->tmp_path);
    mem_free(output->path);
    memset(output, 0, sizeof *output);
}
