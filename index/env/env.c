/* The real operating system behind struct env, threads, and what a process can ask about itself.
 *
 * The calls of the table mirror the system calls; they never retry and never interpret, so that the
 * fault wrapper sees exactly what the kernel would say. Retries live in file.c and read_rule.c. */
#include "env.h"

#include "error.h"
#include "mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

static int or_errno(int rc)
{
    return rc < 0 ? -errno : rc;
}

/* O_NONBLOCK keeps open from waiting for the other end of a FIFO. It is taken off again, because
 * io_uring answers EAGAIN instead of waiting for the disk when a file has it. */
static int os_open(void *context, const char *path, int flags, unsigned mode)
{
    (void)context;
    int fd = open(path, flags | O_CLOEXEC, (mode_t)mode);
    if (fd < 0)
        return -errno;
    if (flags & O_NONBLOCK) {
        int set = fcntl(fd, F_GETFL);
        if (set < 0 || fcntl(fd, F_SETFL, set & ~O_NONBLOCK) < 0) {
            int rc = -errno;
            close(fd);
            return rc;
        }
    }
    return fd;
}

static int os_close(void *context, int fd)
{
    (void)context;
    return or_errno(close(fd));
}

static ssize_t os_pread(void *context, int fd, void *out, size_t bytes, uint64_t offset)
{
    (void)context;
    ssize_t got = pread(fd, out, bytes, (off_t)offset);
    return got < 0 ? -errno : got;
}

static ssize_t os_pwrite(void *context, int fd, const void *data, size_t bytes, uint64_t offset)
{
    (void)context;
    ssize_t put = pwrite(fd, data, bytes, (off_t)offset);
    return put < 0 ? -errno : put;
}

static ssize_t os_read(void *context, int fd, void *out, size_t bytes)
{
    (void)context;
    ssize_t got = read(fd, out, bytes);
    return got < 0 ? -errno : got;
}

static int os_fdatasync(void *context, int fd)
{
    (void)context;
    return or_errno(fdatasync(fd));
}

static int os_fsync(void *context, int fd)
{
    (void)context;
    return or_errno(fsync(fd));
}

static int os_ftruncate(void *context, int fd, uint64_t bytes)
{
    (void)context;
    return or_errno(ftruncate(fd, (off_t)bytes));
}

static int os_fstat(void *context, int fd, struct env_stat *out)
{
    (void)context;
    struct stat stat;
    if (fstat(fd, &stat) < 0)
        return -errno;
    out->bytes = (uint64_t)stat.st_size;
    out->is_directory = S_ISDIR(stat.st_mode);
    out->is_regular = S_ISREG(stat.st_mode);
    return 0;
}

static int os_rename(void *context, const char *from, const char *to)
{
    (void)context;
    return or_errno(rename(from, to));
}

static int os_unlink(void *context, const char *path)
{
    (void)context;
    return or_errno(unlink(path));
}

static int os_rmdir(void *context, const char *path)
{
    (void)context;
    return or_errno(rmdir(path));
}

static int os_mkdir(void *context, const char *path, unsigned mode)
{
    (void)context;
    return or_errno(mkdir(path, (mode_t)mode));
}

static int os_flock(void *context, int fd, int operation)
{
    (void)context;
    return or_errno(flock(fd, operation));
}

static int os_list(void *context, const char *path, int (*visit)(void *arg, const char *name),
                   void *arg)
{
    (void)context;
    DIR *dir = opendir(path);
    if (!dir)
        return -errno;
    int rc = 0;
    while (!rc) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (!entry) {
            rc = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            rc = visit(arg, entry->d_name);
    }
    closedir(dir);
    return rc;
}

static uint64_t clock_read(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t os_clock_ns(void *context)
{
    (void)context;
    return clock_read(CLOCK_MONOTONIC);
}

static int os_ring_init(void *context)
{
    (void)context;
    return 0;
}

static int os_ring_result(void *context, int result, void *buf)
{
    (void)context;
    (void)buf;
    return result;
}

/* Since Linux 5.4 and 6.1; the headers of older systems lack them. */
#define ADVICE_COLD      20
#define ADVICE_COLLAPSE  25
#define SMALL_PAGE_BYTES 4096

/* Asks for large pages, and makes them of what has come in small ones. That this succeeds is the
 * one sign that all of it is large. What is zero could be taken back, so none of it is yet. */
static bool make_large(uint8_t *memory, size_t bytes)
{
    if (madvise(memory, bytes, MADV_HUGEPAGE) < 0)
        return false;
    memset(memory, 1, bytes);
    return madvise(memory, bytes, ADVICE_COLLAPSE) == 0;
}

/* Gives back what lies behind bytes. A large page of which a part is gone stays whole for the
 * system until memory is short; advice about a part of it has it split at once, into small pages
 * that lie where they lay (docs/adr/0054). */
static void cut(uint8_t *memory, size_t bytes, size_t whole)
{
    if (bytes == whole)
        return;
    munmap(memory + bytes, whole - bytes);
    (void)madvise(memory + bytes / ENV_LARGE_PAGE_BYTES * ENV_LARGE_PAGE_BYTES, SMALL_PAGE_BYTES,
                  ADVICE_COLD);
}

void env_prefer_large(void *memory, size_t bytes)
{
    size_t before = -(uintptr_t)memory & (ENV_LARGE_PAGE_BYTES - 1);
    size_t whole = bytes > before ? (bytes - before) / ENV_LARGE_PAGE_BYTES : 0;
    if (whole)
        (void)madvise((uint8_t *)memory + before, whole * ENV_LARGE_PAGE_BYTES, MADV_HUGEPAGE);
}

static void os_unmap_large(void *context, void *memory, size_t bytes)
{
    (void)context;
    munmap(memory, bytes);
}

/* A mapping begins anywhere, so it is made a large page longer, and cut. */
static void *os_map_large(void *context, size_t bytes)
{
    size_t whole = size_round_up(bytes, ENV_LARGE_PAGE_BYTES), room = whole + ENV_LARGE_PAGE_BYTES;
    void *map = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    size_t before = -(uintptr_t)map & (ENV_LARGE_PAGE_BYTES - 1);
    uint8_t *memory = (uint8_t *)map + before;
    if (before)
        munmap(map, before);
    munmap(memory + whole, room - before - whole);
    if (!make_large(memory, whole)) {
        os_unmap_large(context, memory, whole);
        return NULL;
    }
    cut(memory, bytes, whole);
    memset(memory, 0, bytes);
    return memory;
}

const struct env *env_os(void)
{
    static const struct env os = {
        .open = os_open,
        .close = os_close,
        .pread = os_pread,
        .pwrite = os_pwrite,
        .read = os_read,
        .fdatasync = os_fdatasync,
        .fsync = os_fsync,
        .ftruncate = os_ftruncate,
        .fstat = os_fstat,
        .rename = os_rename,
        .unlink = os_unlink,
        .rmdir = os_rmdir,
        .mkdir = os_mkdir,
        .flock = os_flock,
        .list = os_list,
        .clock_ns = os_clock_ns,
        .ring_init = os_ring_init,
        .ring_result = os_ring_result,
        .map_large = os_map_large,
        .unmap_large = os_unmap_large,
    };
    return &os;
}

/* ---- threads ---- */

struct worker_start {
    pthread_t thread;
    void (*fn)(void *context, unsigned worker);
    void *context;
    unsigned worker;
};

static void *worker_main(void *arg)
{
    const struct worker_start *start = arg;
    start->fn(start->context, start->worker);
    return NULL;
}

int env_run_parallel(unsigned threads, void (*fn)(void *context, unsigned worker), void *context)
{
    if (threads == 0)
        return FATHOM_EARGUMENT;
    unsigned extra = threads - 1, started = 0;
    struct worker_start *starts = mem_alloc_array(extra, sizeof *starts);
    if (!starts)
        return -ENOMEM;
    int rc = 0;
    for (; started < extra; started++) {
        struct worker_start *start = &starts[started];
        *start = (struct worker_start){.fn = fn, .context = context, .worker = started};
        rc = -pthread_create(&start->thread, NULL, worker_main, start);
        if (rc)
            break;
    }
    if (!rc)
        fn(context, extra);
    for (unsigned i = 0; i < started; i++)
        pthread_join(starts[i].thread, NULL);
    mem_free(starts);
    return rc;
}

unsigned env_cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (unsigned)CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than a cpu_set_t holds */
    return online > 0 ? (unsigned)online : 1;
}

uint64_t env_thread_cpu_ns(void)
{
    return clock_read(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t env_process_cpu_ns(void)
{
    return clock_read(CLOCK_PROCESS_CPUTIME_ID);
}

/* ---- how soon a thread runs ---- */

#define SLICE_NS 100000u /* the shortest that the kernel takes */

/* Version 0 of the kernel's struct; the headers of the C library have none. */
struct sched_attributes {
    uint32_t bytes, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

static bool hurry_by_slice(void)
{
    struct sched_attributes attributes = {.bytes = sizeof attributes};
    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) < 0 ||
        attributes.policy != SCHED_OTHER)
        return false;
    attributes.runtime_ns = SLICE_NS;
    if (syscall(SYS_sched_setattr, 0, &attributes, 0) < 0)
        return false;
    /* Kernels that know no slices accept them too. */
    attributes.runtime_ns = 0;
    return syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) == 0 &&
           attributes.runtime_ns == SLICE_NS;
}

enum env_urgency env_thread_hurry(enum env_urgency wanted)
{
    static const struct sched_param lowest = {.sched_priority = 1};
    prctl(PR_SET_TIMERSLACK, 1);
    if (wanted == ENV_URGENCY_REALTIME &&
        sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &lowest) == 0)
        return ENV_URGENCY_REALTIME;
    return wanted != ENV_URGENCY_NORMAL && hurry_by_slice() ? ENV_URGENCY_SLICE
                                                            : ENV_URGENCY_NORMAL;
}

const char *env_urgency_name(enum env_urgency urgency)
{
    static const char *const names[] = {"normal", "slice", "realtime"};
    return names[urgency];
}

/* ---- the process and the device, for reports ---- */

/* A "Name:   123 kB" line of /proc/self/status, in bytes; 0 when it is not there. */
static uint64_t status_bytes(const char *name)
{
    FILE *status = fopen("/proc/self/status", "re");
    if (!status)
        return 0;
    char line[256];
    size_t length = strlen(name);
    uint64_t kib = 0;
    while (fgets(line, sizeof line, status)) {
        if (!strncmp(line, name, length) && line[length] == ':') {
            kib = strtoull(line + length + 1, NULL, 10);
            break;
        }
    }
    fclose(status);
    return kib * 1024;
}

uint64_t env_peak_rss_bytes(void)
{
    return status_bytes("VmHWM");
}

uint64_t env_rss_bytes(void)
{
    return status_bytes("VmRSS");
}

uint64_t env_file_rss_bytes(void)
{
    return status_bytes("RssFile");
}

/* One line of mountinfo: "36 35 98:0 /root /mount options [optional...] - type source options".
 * True when it is the mount of the device major:minor. */
static bool mount_matches(const char *line, unsigned dev_major, unsigned dev_minor, char type[64],
                          char source[192])
{
    unsigned found_major, found_minor;
    if (sscanf(line, "%*u %*u %u:%u", &found_major, &found_minor) != 2)
        return false;
    if (found_major != dev_major || found_minor != dev_minor)
        return false;
    const char *tail = strstr(line, " - ");
    return tail && sscanf(tail, " - %63s %191s", type, source) == 2;
}

void env_device_name(const char *path, char *out, size_t out_bytes)
{
    snprintf(out, out_bytes, "unknown device");
    struct stat stat_of;
    if (stat(path, &stat_of) < 0)
        return;
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    if (!mounts)
        return;
    char *line = NULL, type[64], source[192];
    size_t room = 0;
    while (getline(&line, &room, mounts) > 0) {
        if (mount_matches(line, major(stat_of.st_dev), minor(stat_of.st_dev), type, source)) {
            snprintf(out, out_bytes, "%s %s", source, type);
            break;
        }
    }
    free(line);
    fclose(mounts);
}

/* ---- address space ---- */

bool env_address_space_is_limited(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
}

bool env_address_space_has(uint64_t piece_bytes, unsigned pieces)
{
    void *piece = mmap(NULL, piece_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (piece == MAP_FAILED)
        return false;
    bool all = pieces <= 1 || env_address_space_has(piece_bytes, pieces - 1);
    munmap(piece, piece_bytes);
    return all;
}

void env_restart_with(const char *name, const char *value, char **argv)
{
    const char *now = getenv(name);
    if ((now && strcmp(now, value) == 0) || setenv(name, value, 1) != 0)
        return;
    (void)execv("/proc/self/exe", argv);
}
