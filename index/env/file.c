/* What programs do with files: whole transfers, publishing by one rename, and cleaning up.
 *
 * Each helper retries what may be retried (EINTR, EAGAIN, short transfers; 16 times in a row at the
 * most) and names file and offset when it fails. A failed fdatasync or fsync is never tried again:
 * the kernel may have dropped the pages it could not write and would report success. */
#include "env.h"

#include "error.h"
#include "read_rule.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define FILE_RETRIES_MAX READ_RETRIES_MAX
#define DEBRIS_MARK      ".tmp-"

/* What the user can do about a failure, as the end of a sentence; "" when the error says it all. */
static const char *remedy(int code)
{
    switch (code) {
    case -ENOSPC:
        return "; free some space on that file system";
    case -EDQUOT:
        return "; free some space or have the disk quota raised";
    case -EFBIG:
        return "; raise the file size limit (ulimit -f) or use a file system for larger files";
    case -EROFS:
        return "; the file system is mounted read-only";
    case -EACCES:
        return "; check owner and permissions";
    case -EMFILE:
        return "; raise the limit of open files (ulimit -n)";
    case -EIO:
        return "; the device may be failing: see the kernel log";
    default:
        return "";
    }
}

static int fail_path(struct fathom_error *err, int code, const char *path, const char *what)
{
    return error_set(err, code, "%s: cannot %s: %s%s", path, what, fathom_strerror(code),
                     remedy(code));
}

static int open_retrying(const struct env *env, const char *path, int flags, unsigned mode)
{
    for (unsigned tries = 0;; tries++) {
        int fd = env->open(env->context, path, flags, mode);
        if ((fd != -EINTR && fd != -EAGAIN) || tries == FILE_RETRIES_MAX)
            return fd;
    }
}

void file_close(const struct env *env, int fd)
{
    if (fd >= 0)
        (void)env->close(env->context, fd);
}

/* O_NONBLOCK: opening a FIFO must not hang; it is then refused as not regular. */
static int open_for_read(const struct env *env, const char *path, bool direct, bool *is_direct)
{
    int flags = O_RDONLY | O_NONBLOCK;
    *is_direct = direct;
    int fd = open_retrying(env, path, direct ? flags | O_DIRECT : flags, 0);
    if (!direct || fd != -EINVAL)
        return fd;
    *is_direct = false;
    return open_retrying(env, path, flags, 0);
}

int file_open_read(const struct env *env, const char *path, bool direct, bool *is_direct,
                   struct fathom_error *err)
{
    struct env_stat stat;
    bool opened_direct;
    int fd = open_for_read(env, path, direct, &opened_direct);
    if (is_direct)
        *is_direct = opened_direct;
    if (fd < 0)
        return fail_path(err, fd, path, "open for reading");
    int rc = env->fstat(env->context, fd, &stat);
    if (rc < 0) {
        fail_path(err, rc, path, "stat");
        goto fail;
    }
    if (stat.is_directory) {
        rc = error_set(err, -EISDIR, "%s: is a directory; a regular file is needed", path);
        goto fail;
    }
    if (!stat.is_regular) {
        rc = error_set(err, -EINVAL, "%s: is a FIFO, socket or device; a regular file is needed",
                       path);
        goto fail;
    }
    /* Only a hint, and only where reads go through the page cache although they should not. */
    if (direct && !opened_direct)
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    return fd;
fail:
    file_close(env, fd);
    return rc;
}

int file_open_update(const struct env *env, const char *path, struct fathom_error *err)
{
    struct env_stat stat;
    int fd = open_retrying(env, path, O_RDWR | O_NONBLOCK | O_NOFOLLOW, 0);
    if (fd < 0)
        return fail_path(err, fd, path, "open for writing");
    int rc = env->fstat(env->context, fd, &stat);
    if (rc == 0 && stat.is_regular)
        return fd;
    file_close(env, fd);
    return rc < 0 ? fail_path(err, rc, path, "stat")
                  : error_set(err, -EINVAL, "%s: is not a regular file", path);
}

int file_create(const struct env *env, const char *path, struct fathom_error *err)
{
    int fd = open_retrying(env, path, O_RDWR | O_CREAT | O_EXCL, 0644);
    if (fd == -EEXIST)
        return error_set(err, fd, "%s: already exists; remove it or choose another name", path);
    if (fd == -ENOENT)
        return error_set(err, fd, "%s: cannot create: its folder does not exist", path);
    return fd < 0 ? fail_path(err, fd, path, "create") : fd;
}

int file_bytes(const struct env *env, int fd, const char *path, uint64_t *out,
               struct fathom_error *err)
{
    struct env_stat stat;
    int rc = env->fstat(env->context, fd, &stat);
    if (rc < 0)
        return fail_path(err, rc, path, "stat");
    *out = stat.bytes;
    return 0;
}

int file_read_full(const struct env *env, int fd, const char *path, void *out, size_t bytes,
                   uint64_t offset, struct fathom_error *err)
{
    struct read_rule read = {.offset = offset, .bytes = bytes};
    int rc = bytes ? read_all(env, fd, out, &read, NULL) : 0;
    if (rc == -ENODATA)
        return error_set(err, FATHOM_ECORRUPT,
                         "%s: truncated: the file ends within the %zu bytes at offset %llu", path,
                         bytes, (unsigned long long)offset);
    if (rc < 0)
        return error_set(err, rc, "%s: cannot read %zu bytes at offset %llu: %s%s", path, bytes,
                         (unsigned long long)offset, fathom_strerror(rc), remedy(rc));
    return 0;
}

int file_write_full(const struct env *env, int fd, const char *path, const void *data, size_t bytes,
                    uint64_t offset, struct fathom_error *err)
{
    const uint8_t *from = data;
    unsigned retries = 0;
    for (size_t done = 0; done < bytes;) {
        ssize_t put = env->pwrite(env->context, fd, from + done, bytes - done, offset + done);
        if (put > 0 && (size_t)put <= bytes - done) {
            done += (size_t)put;
            retries = 0;
            continue;
        }
        bool again = put == 0 || put == -EINTR || put == -EAGAIN;
        if (again && ++retries <= FILE_RETRIES_MAX)
            continue;
        int code = put < 0 ? (int)put : -EIO;
        return error_set(err, code, "%s: cannot write %zu bytes at offset %llu: %s%s", path,
                         bytes - done, (unsigned long long)(offset + done), fathom_strerror(code),
                         remedy(code));
    }
    return 0;
}

/* ---- publishing ---- */

void file_begin_writeback(int fd, uint64_t offset, uint64_t bytes)
{
    (void)sync_file_range(fd, (off_t)offset, (off_t)bytes, SYNC_FILE_RANGE_WRITE);
}

/* The directory that holds path, "." when path has none. */
static int parent_of(const char *path, char out[PATH_MAX])
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') /* "dir/" is dir */
        length--;
    while (length > 0 && path[length - 1] != '/')
        length--;
    while (length > 1 && path[length - 1] == '/')
        length--;
    const char *from = length ? path : ".";
    length = length ? length : 1;
    if (length >= PATH_MAX)
        return -ENAMETOOLONG;
    memcpy(out, from, length);
    out[length] = 0;
    return 0;
}

/* Opens the parent for syncing. *fd is -1 for a directory that we may write but not read: nobody
 * can sync that. */
static int parent_open(const struct env *env, const char *path, int *fd)
{
    char dir[PATH_MAX];
    *fd = -1;
    int rc = parent_of(path, dir);
    if (rc < 0)
        return rc;
    rc = open_retrying(env, dir, O_RDONLY | O_DIRECTORY, 0);
    if (rc < 0)
        return rc == -EACCES ? 0 : rc;
    *fd = rc;
    return 0;
}

/* Some file systems (FUSE, SMB) refuse to sync a directory with EINVAL: nothing to sync. */
static int parent_sync(const struct env *env, int fd)
{
    int rc = fd < 0 ? 0 : env->fsync(env->context, fd);
    return rc == -EINVAL ? 0 : rc;
}

/* A close that was interrupted has closed all the same, and the data is synced already. */
static int close_synced(const struct env *env, int fd)
{
    int rc = env->close(env->context, fd);
    return rc == -EINTR ? 0 : rc;
}

/* The directory is opened before the rename, so that running out of descriptors leaves the old file
 * in place. */
int file_finish(const struct env *env, int fd, const char *tmp_path, const char *path,
                struct fathom_error *err)
{
    int dir = -1;
    int rc = env->fdatasync(env->context, fd);
    int closed = close_synced(env, fd);
    if (rc < 0 || closed < 0) {
        rc = fail_path(err, rc < 0 ? rc : closed, tmp_path, rc < 0 ? "sync" : "close");
        goto fail;
    }
    rc = parent_open(env, path, &dir);
    if (rc < 0) {
        fail_path(err, rc, path, "open its directory for syncing");
        goto fail;
    }
    rc = env->rename(env->context, tmp_path, path);
    if (rc < 0) {
        error_set(err, rc, "%s: cannot rename to %s: %s%s", tmp_path, path, fathom_strerror(rc),
                  remedy(rc));
        goto fail;
    }
    rc = parent_sync(env, dir);
    file_close(env, dir);
    if (rc < 0)
        return error_set(
            err, rc,
            "%s: is in place but its directory cannot be synced: %s; it may be lost in "
            "a power failure",
            path, fathom_strerror(rc));
    return 0;
fail:
    file_close(env, dir);
    (void)env->unlink(env->context, tmp_path);
    return rc;
}

int file_finish_unsynced(const struct env *env, int fd, const char *tmp_path, const char *path,
                         struct fathom_error *err)
{
    int rc = close_synced(env, fd);
    if (rc < 0)
        fail_path(err, rc, tmp_path, "close");
    else if ((rc = env->rename(env->context, tmp_path, path)) < 0)
        error_set(err, rc, "%s: cannot rename to %s: %s%s", tmp_path, path, fathom_strerror(rc),
                  remedy(rc));
    if (rc < 0)
        (void)env->unlink(env->context, tmp_path);
    return rc;
}

/* ---- directories ---- */

/* path was there before: fine when it is a directory. */
static int dir_check(const struct env *env, const char *path, struct fathom_error *err)
{
    int fd = open_retrying(env, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd == -ENOTDIR)
        return error_set(err, fd, "%s: exists and is not a directory", path);
    if (fd < 0)
        return fail_path(err, fd, path, "open the directory");
    file_close(env, fd);
    return 0;
}

/* A new directory is synced into its parent, or a power failure could take it and all that was
 * published in it. */
int dir_ensure(const struct env *env, const char *path, struct fathom_error *err)
{
    int rc = env->mkdir(env->context, path, 0755), parent;
    if (rc == -EEXIST)
        return dir_check(env, path, err);
    if (rc == -ENOENT)
        return error_set(err, rc, "%s: cannot make the directory: its parent does not exist", path);
    if (rc < 0)
        return fail_path(err, rc, path, "make the directory");
    rc = parent_open(env, path, &parent);
    if (rc == 0)
        rc = parent_sync(env, parent);
    file_close(env, parent);
    return rc < 0 ? fail_path(err, rc, path, "sync its parent directory") : 0;
}

struct debris {
    const struct env *env;
    const char *dir, *prefix;
    struct fathom_error *err;
    bool failed; /* a visit has filled err */
};

/* Symbolic links, FIFOs and directories with such a name are not ours, and neither is what we may
 * not open. */
static bool is_debris(const struct env *env, const char *path)
{
    struct env_stat stat;
    int fd = open_retrying(env, path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0);
    if (fd < 0)
        return false;
    bool regular = env->fstat(env->context, fd, &stat) == 0 && stat.is_regular;
    file_close(env, fd);
    return regular;
}

static int debris_visit(void *arg, const char *name)
{
    struct debris *debris = arg;
    char path[PATH_MAX];
    if (!strstr(name, DEBRIS_MARK) || strncmp(name, debris->prefix, strlen(debris->prefix)) != 0)
        return 0;
    if (snprintf(path, sizeof path, "%s/%s", debris->dir, name) >= (int)sizeof path) {
        debris->failed = true;
        return fail_path(debris->err, -ENAMETOOLONG, debris->dir, "remove debris in it");
    }
    if (!is_debris(debris->env, path))
        return 0;
    int rc = debris->env->unlink(debris->env->context, path);
    if (rc == 0 || rc == -ENOENT)
        return 0;
    debris->failed = true;
    return fail_path(debris->err, rc, path, "remove what a killed run left");
}

/* A directory that is not there holds no debris. */
int dir_remove_debris(const struct env *env, const char *dir, const char *prefix,
                      struct fathom_error *err)
{
    struct debris debris = {.env = env, .dir = dir, .prefix = prefix, .err = err};
    int rc = env->list(env->context, dir, debris_visit, &debris);
    if (debris.failed)
        return rc;
    return rc == 0 || rc == -ENOENT ? 0 : fail_path(err, rc, dir, "list the directory");
}
