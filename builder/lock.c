/* The lock is on the directory itself: a lock file would outlive a killed build. */
#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "error.h"

int lock_present(const struct env *env, const char *dir, struct fathom_error *err)
{
    int fd = env->open(env->context, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), status;
    if (fd < 0)
        return error_set(err, fd, "%s: cannot be opened: %s", dir, fathom_strerror(fd));
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    status = errno == EWOULDBLOCK ? -EBUSY : -errno;
    file_close(env, fd);
    if (status == -EBUSY)
        return error_set(err, status,
                         "%s: another build is at work here; wait for it or choose another "
                         "directory",
                         dir);
    return error_set(err, status, "%s: cannot be locked: %s", dir, fathom_strerror(status));
}

int lock_directory(const struct env *env, const char *dir, struct fathom_error *err)
{
    int status = dir_ensure(env, dir, err);
    return status == 0 ? lock_present(env, dir, err) : status;
}
