/* The one door to the OS: files, directories, large pages, clock, threads. Nothing outside this
 * folder calls the OS for them (a grep gate in the tests keeps it so).
 *
 * struct env is a table of the raw calls. env_os() is the real one; fault.h wraps any env so that a
 * plan ("op=17:ENOSPC") fails the Nth call. Raw calls mirror the system call of the same name and
 * return its result, or -errno. What programs use are the helpers below: they retry EINTR and short
 * transfers with a bound, and put file and offset in the error. */
#ifndef ENV_ENV_H
#define ENV_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "fathom/error.h"

struct env_stat {
    uint64_t bytes;
    bool is_directory, is_regular;
};

struct env {
    void *context;
    /* Always O_CLOEXEC. O_NONBLOCK counts only for the opening itself (a FIFO must not hang) and is
     * then taken off. */
    int (*open)(void *context, const char *path, int flags, unsigned mode);
    int (*close)(void *context, int fd);
    ssize_t (*pread)(void *context, int fd, void *out, size_t bytes, uint64_t offset);
    ssize_t (*pwrite)(void *context, int fd, const void *data, size_t bytes, uint64_t offset);
    ssize_t (*read)(void *context, int fd, void *out, size_t bytes);
    int (*fdatasync)(void *context, int fd);
    int (*fsync)(void *context, int fd);
    int (*ftruncate)(void *context, int fd, uint64_t bytes);
    int (*fstat)(void *context, int fd, struct env_stat *out);
    int (*rename)(void *context, const char *from, const char *to);
    int (*unlink)(void *context, const char *path);
    int (*rmdir)(void *context, const char *path);
    int (*mkdir)(void *context, const char *path, unsigned mode);
    int (*flock)(void *context, int fd, int operation);
    /* Calls visit for each entry but . and ..; stops at its first non-zero and returns it. */
    int (*list)(void *context, const char *path, int (*visit)(void *arg, const char *name),
                void *arg);
    uint64_t (*clock_ns)(void *context); /* monotonic */
    /* Rings go through here too, so that a plan can refuse one or spoil its completions. */
    int (*ring_init)(void *context); /* 0, or -errno to refuse io_uring */
    /* Sees each raw result of a ring (both engines) and of file_read_full, and returns it or
     * another; may change the bytes. -EINPROGRESS: not yet, ask again with the same arguments. */
    int (*ring_result)(void *context, int result, void *buf);
    /* Zeroed memory that lies together in the machine's memory, as large pages do, in pieces of
     * ENV_LARGE_PAGE_BYTES from its start; bytes is a multiple of 4096. NULL where the system has
     * none to give, or cannot say whether it has. It counts whole from the start, and until it is
     * given back; while it is made, the rest of its last large page is taken as well. */
    void *(*map_large)(void *context, size_t bytes);
    void (*unmap_large)(void *context, void *memory, size_t bytes);
};

#define ENV_LARGE_PAGE_BYTES ((size_t)2 << 20)
/* From here on memory that is read at random places is better in large pages: where it begins in
 * the middle of one, at least one is whole (docs/adr/0040, 0059). */
#define ENV_LARGE_LEAST_BYTES (2 * ENV_LARGE_PAGE_BYTES)

/* For memory that is not touched yet: what of it is whole large pages is to lie in such, where the
 * system has some. It takes no more than before. */
void env_prefer_large(void *memory, size_t bytes);

/* The operating system. Never NULL; shared by all threads. */
const struct env *env_os(void);

/* ---- helpers (file.c) ---- */

/* Opens for reading; direct asks for O_DIRECT and falls back to buffered reads + fadvise where the
 * file system refuses it (*is_direct says which). The path must be a regular file. Returns the fd
 * or a negative code. */
int file_open_read(const struct env *env, const char *path, bool direct, bool *is_direct,
                   struct fathom_error *err) FATHOM_MUST_USE;
/* Opens a regular file that is there for reading and writing. */
int file_open_update(const struct env *env, const char *path,
                     struct fathom_error *err) FATHOM_MUST_USE;
/* Creates (fails if it exists) for reading and writing. */
int file_create(const struct env *env, const char *path, struct fathom_error *err) FATHOM_MUST_USE;
int file_bytes(const struct env *env, int fd, const char *path, uint64_t *out,
               struct fathom_error *err) FATHOM_MUST_USE;
/* All bytes or an error; the end of the file before them is FATHOM_ECORRUPT ("truncated"). */
int file_read_full(const struct env *env, int fd, const char *path, void *out, size_t bytes,
                   uint64_t offset, struct fathom_error *err) FATHOM_MUST_USE;
int file_write_full(const struct env *env, int fd, const char *path, const void *data, size_t bytes,
                    uint64_t offset, struct fathom_error *err) FATHOM_MUST_USE;
/* A hint: the device may begin to write what these bytes of the file are now. Nobody waits for it.
 */
void file_begin_writeback(int fd, uint64_t offset, uint64_t bytes);
/* fdatasync, close, rename tmp_path to path, fsync of the directory that holds path. On failure the
 * fd is closed and tmp_path is removed. With file_finish_unsynced the only code in the project
 * that renames. */
int file_finish(const struct env *env, int fd, const char *tmp_path, const char *path,
                struct fathom_error *err) FATHOM_MUST_USE;
/* The same without the syncing, for work files: what a power failure takes of them is noticed when
 * they are read, and made again. */
int file_finish_unsynced(const struct env *env, int fd, const char *tmp_path, const char *path,
                         struct fathom_error *err) FATHOM_MUST_USE;
void file_close(const struct env *env, int fd); /* accepts -1 */
/* Makes the directory if it is missing (parents are not made). */
int dir_ensure(const struct env *env, const char *path, struct fathom_error *err) FATHOM_MUST_USE;
/* Removes the debris of killed runs: regular files in dir whose name begins with prefix ("": with
 * anything) and holds ".tmp-". */
int dir_remove_debris(const struct env *env, const char *dir, const char *prefix,
                      struct fathom_error *err) FATHOM_MUST_USE;

static inline uint64_t env_clock_ns(const struct env *env)
{
    return env->clock_ns(env->context);
}

/* ---- threads (env.c) ---- */

/* Runs fn(context, worker) for worker = 0..threads-1, the last on the calling thread; returns when
 * all have. A thread that cannot be started is an error after the others have ended. */
int env_run_parallel(unsigned threads, void (*fn)(void *context, unsigned worker),
                     void *context) FATHOM_MUST_USE;
unsigned env_cpu_count(void);      /* CPUs this process may run on, at least 1 */
uint64_t env_thread_cpu_ns(void);  /* CPU time of the calling thread */
uint64_t env_process_cpu_ns(void); /* and of all threads of this process */
/* How soon a thread that wakes runs, when others run already. A slice: the fair scheduler lets it
 * interrupt those that ask for longer ones (Linux 6.12), and it gets no more time than they. Real
 * time: before all others, with the right to (CAP_SYS_NICE, RLIMIT_RTPRIO). */
enum env_urgency { ENV_URGENCY_NORMAL, ENV_URGENCY_SLICE, ENV_URGENCY_REALTIME };
const char *env_urgency_name(enum env_urgency urgency); /* "normal", "slice", "realtime" */
/* Asks for it for the calling thread, or for the next less where that is refused; returns what it
 * became. The thread's timers are exact from here on. */
enum env_urgency env_thread_hurry(enum env_urgency wanted);
/* Whether the process may map less than the machine allows (RLIMIT_AS), and whether so many pieces
 * could be mapped now. */
bool env_address_space_is_limited(void);
bool env_address_space_has(uint64_t piece_bytes, unsigned pieces);
/* Begins this program again, with another value of a variable; returns when it has that already, or
 * when the system does not allow it. */
void env_restart_with(const char *name, const char *value, char **argv);
uint64_t env_peak_rss_bytes(void); /* VmHWM of this process; 0 when unknown */
uint64_t env_rss_bytes(void);      /* VmRSS of this process; 0 when unknown */
uint64_t env_file_rss_bytes(void); /* of it, pages of files: programs and libraries */
/* One line that names the block device and file system under path, for reports: "/dev/vda ext4". */
void env_device_name(const char *path, char *out, size_t out_bytes);

#endif
