/* The lock is on the directory itself: a lock file would outlive a killed build. */
#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>

#include "error.h"
#include "format.h"
#include "work.h"

/* By trying: rights and file systems that are read-only both say so. */
static int check_writable(const struct env *env, const char *dir, struct fathom_error *err)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/" WORK_PREFIX "lock", dir) >= (int)sizeof path)
        return error_set(err, -ENAMETOOLONG, "%s: %s", dir, fathom_strerror(-ENAMETOOLONG));
    int fd = env->open(env->context, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return error_set(err, fd, "%s: nothing can be written here: %s", dir, fathom_strerror(fd));
    file_close(env, fd);
    (void)env->unlink(env->context, path); /* or it is debris, which the next build takes away */
    return 0;
}

static int check_replaceable(const struct env *env, const char *dir, struct fathom_error *err)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/" FORMAT_FILE_NAME, dir) >= (int)sizeof path)
        return error_set(err, -ENAMETOOLONG, "%s: %s", dir, fathom_strerror(-ENAMETOOLONG));
    int fd = env->open(env->context, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    file_close(env, fd);
    if (fd < 0)
        return 0;
    return error_set(err, -EISDIR, "%s: is a directory, where the index would be; move it away",
                     path);
}

static int lock(const struct env *env, const char *dir, struct fathom_error *err)
{
    int fd = env->open(env->context, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd == -ENOENT)
        return error_set(err, fd,
                         "%s: there is no such directory; an index is built by fathom-build", dir);
    if (fd < 0)
        return error_set(err, fd, "%s: cannot be opened: %s", dir, fathom_strerror(fd));
    int status = env->flock(env->context, fd, LOCK_EX | LOCK_NB);
    if (status == 0)
        return fd;
    file_close(env, fd);
    if (status == -EWOULDBLOCK)
        return error_set(err, -EBUSY,
                         "%s: another build is at work here; wait for it or choose another "
                         "directory",
                         dir);
    return error_set(err, status, "%s: cannot be locked: %s", dir, fathom_strerror(status));
}

int lock_present(const struct env *env, const char *dir, struct fathom_error *err)
{
    int fd = lock(env, dir, err), status = fd < 0 ? fd : check_replaceable(env, dir, err);
    if (status == 0)
        status = check_writable(env, dir, err);
    if (status == 0)
        return fd;
    file_close(env, fd);
    return status;
}

int lock_directory(const struct env *env, const char *dir, struct fathom_error *err)
{
    int status = dir_ensure(env, dir, err);
    return status == 0 ? lock_present(env, dir, err) : status;
}
